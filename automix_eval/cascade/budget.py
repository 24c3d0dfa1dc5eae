"""What a run may spend: asked before each call, told of its price after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number
from automix_eval.types import Answer, Call, CostModel, Question, TierRecord, Verification

SPENT = "budget spent"
WHEN_SPENT = ("keep", "stop")


class BudgetSpentError(AutoMixError):
    """The run stops because its budget is spent.

    Attributes:
        finished: (position of the question, its tier records) of the questions that were finished
            before; set by the cascade.
    """

    finished: Sequence[tuple[int, list[TierRecord]]] = ()


class Budget:
    """Limits of one run, and what it has spent.

    Calls taken from the call store count like calls made: the same command gives the same result,
    however often it was interrupted, and a run never spends more than its budget.

    Args:
        max_cost: Most that answers and verifications may cost, in the units of ``cost``; None is
            no limit. Before a call its price is taken to be that of the tier's dearest answer so
            far: exact for ``cost=paper``, else the limit is passed only where answers are much
            dearer than all before them.
        max_llm_calls: Most calls of the last tier; None is no limit.
        when_spent: ``keep``: no further escalation, the cheapest tier goes on answering;
            ``stop``: the run ends with what it has.
        cost: Prices what was spent; needed for ``max_cost``.
        num_tiers: Length of the chain.

    Raises:
        AutoMixError: A limit is not a number of 0 or more, or ``when_spent`` is unknown.
    """

    def __init__(
        self,
        max_cost: float | None = None,
        max_llm_calls: int | None = None,
        when_spent: str = "keep",
        *,
        cost: CostModel | None = None,
        num_tiers: int = 2,
    ) -> None:
        _check_limit("max_cost", max_cost, float)
        _check_limit("max_llm_calls", max_llm_calls, int)
        if when_spent not in WHEN_SPENT:
            raise AutoMixError(
                f"budget.when_spent={when_spent!r} is unknown: choose one of "
                f"{', '.join(WHEN_SPENT)}"
            )
        self.max_cost = max_cost
        self.max_llm_calls = max_llm_calls
        self.when_spent = when_spent
        self._cost = cost
        self._last = num_tiers - 1
        self.cost_spent = 0.0
        self.llm_calls = 0
        self.questions_refused = 0
        self._dearest: dict[int, float] = {}

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.max_cost is not None or self.max_llm_calls is not None

    def admit(self, tier: int, questions: Sequence[Question]) -> int:
        """How many of the questions, from the first on, the tier may be asked now.

        Fewer than all does not mean that the rest is refused: ask again after charging those. 0
        does.
        """
        if not self.is_limited or (tier == 0 and self.when_spent == "keep"):
            return len(questions)
        return min(self._admit_calls(tier, questions), self._admit_cost(tier, len(questions)))

    def charge(
        self, tier: int, answers: Sequence[Answer], verifications: Sequence[Verification | None]
    ) -> None:
        """Note what answers and verifications cost."""
        if tier == self._last:
            self.llm_calls += sum(len(a.calls) for a in answers)
        if self._cost is None:
            return  # else even without a limit: what has no price is found with the first answers
        for answer, verification in zip(answers, verifications, strict=True):
            price = self._cost.answer_cost(answer)
            price += self._cost.verification_cost(verification) if verification else 0.0
            self.cost_spent += price
            self._dearest[tier] = max(price, self._dearest.get(tier, 0.0))

    def charge_failed(self, tier: int, questions: Sequence[Question]) -> None:
        """Note questions that failed: what they cost is not known, and taken for the dearest."""
        if tier == self._last:
            self.llm_calls += sum(_calls(q) for q in questions)
        if self.max_cost is not None:
            price = max(self._dearest.get(tier, 0.0), self._least(tier))
            self.cost_spent += price * len(questions)

    def refuse(self, number: int) -> str:
        """Note questions that were not passed on; the reason, for their decisions.

        Raises:
            BudgetSpentError: The run is to stop when its budget is spent.
        """
        self.questions_refused += number
        if self.when_spent == "stop":
            raise BudgetSpentError(
                f"{self.reason()}: the run stops, as budget.when_spent=stop says. Records of the "
                "questions before the first that waits are written and all calls are kept: raise "
                "the budget and run the same command to go on"
            )
        return self.reason()

    def need(self, questions: Sequence[Question]) -> None:
        """Raise AutoMixError unless every tier may still be asked all calibration questions."""
        calls = sum(_calls(q) for q in questions)
        least = len(questions) * sum(map(self._least, range(self._last + 1)))
        if self.max_cost is not None and self.cost_spent + least > self.max_cost:
            raise AutoMixError(
                f"budget.max_cost={self.max_cost:g} does not cover the calibration, whose answers "
                f"cost at least {least:g}: raise it, lower calibration.num_docs, or give a policy "
                "(meta_verifier.policy=FILE.json)"
            )
        if self.max_llm_calls is not None and self.llm_calls + calls > self.max_llm_calls:
            raise AutoMixError(
                f"budget.max_llm_calls={self.max_llm_calls} does not cover the calibration, which "
                f"asks the last tier {calls} times: raise it, lower calibration.num_docs, or give "
                "a policy (meta_verifier.policy=FILE.json)"
            )

    def reason(self) -> str:
        """Why nothing more is asked."""
        limits = []
        if self.max_llm_calls is not None:
            limits.append(f"{self.llm_calls} of {self.max_llm_calls} LLM calls")
        if self.max_cost is not None:
            limits.append(f"cost {self.cost_spent:.6g} of {self.max_cost:.6g}")
        return f"{SPENT} ({', '.join(limits)})"

    def summary(self) -> Mapping[str, Any]:
        """For the results; empty without a limit."""
        if not self.is_limited:
            return {}
        return {
            "max_cost": self.max_cost,
            "max_llm_calls": self.max_llm_calls,
            "when_spent": self.when_spent,
            "cost_spent": None if self.max_cost is None else self.cost_spent,
            "llm_calls": self.llm_calls,
            "questions_refused": self.questions_refused,
        }

    def share(self, index: int, number: int) -> Budget:
        """The part of this budget that one of several processes may spend."""
        calls = self.max_llm_calls
        return Budget(
            None if self.max_cost is None else self.max_cost / number,
            None if calls is None else calls // number + (index < calls % number),
            self.when_spent,
            cost=self._cost,
            num_tiers=self._last + 1,
        )

    def _admit_calls(self, tier: int, questions: Sequence[Question]) -> int:
        if self.max_llm_calls is None or tier != self._last:
            return len(questions)
        left = self.max_llm_calls - self.llm_calls
        for number, question in enumerate(questions):
            left -= _calls(question)
            if left < 0:
                return number
        return len(questions)

    def _admit_cost(self, tier: int, number: int) -> int:
        if self.max_cost is None:
            return number
        left = self.max_cost - self.cost_spent
        price = max(self._dearest.get(tier, 0.0), self._least(tier))
        if left <= 0 or price > left:
            return 0
        if tier not in self._dearest:
            return min(number, 1)  # its price is not known before the first
        # half of what is left at a time, so that dearer answers show before the limit is reached
        return number if price == 0 else min(number, max(1, math.floor(left / price / 2)))

    def _least(self, tier: int) -> float:
        """The least price of an answer: that of a call without a token."""
        if self._cost is None:
            return 0.0
        return self._cost.price(Call(tier, "answer", 0, 0, 0.0, 0))


def total(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The summary of a run from those of its processes' shares."""
    if not parts or not all(parts):
        return {}
    sums = {}
    for key in ("max_cost", "max_llm_calls", "cost_spent", "llm_calls", "questions_refused"):
        values = [part[key] for part in parts]
        sums[key] = None if None in values else sum(values)
    return {**parts[0], **sums}


def _calls(question: Question) -> int:
    """Calls that one answer takes, at most: one a choice, or one a repeat."""
    return max(1, len(question.choices), question.repeats)


def _check_limit(name: str, value: Any, kind: Callable[[Any], Any]) -> None:
    if value is None:
        return
    if not is_number(value, 0.0) or kind(value) != value:
        what = "an integer" if kind is int else "a finite number"
        raise AutoMixError(f"budget.{name}={value!r} must be {what} of 0 or more, or null")
