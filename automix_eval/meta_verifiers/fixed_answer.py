"""The fixed-answer rule: some answers always go on, whatever the router says."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.answers import normalize_answer
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation

DESTINATIONS = ("next", "last")
RULE_KEYS = {"answers", "to", "note", "router"}


class FixedAnswer(Router):
    """Escalate an answer that is one of a list; leave every other to a meta-verifier.

    Source: AutoMix, arXiv 2310.12963, for Qasper's "unanswerable". Answers are compared whole, in
    the normal form of SQuAD (case, punctuation, articles and white space do not count), so that
    neither "" nor "a" is "unanswerable". Where the meta-verifier would go further than the rule,
    the question goes further.

    *Fitting.* The meta-verifier learns from the questions whose first answer the rule leaves to it:
    those are the questions it will decide on, and the others would teach it about confidences it
    is never asked about. What the objective promises, it promises for all questions, so a
    ``budget`` or ``target`` is restated for the rest: the rule's own questions are taken to end
    where the rule leads them, and what they cost and score is set against the whole. Where fewer
    than two questions are left, it learns from all.

    Args:
        router: The meta-verifier; it is left as it is, and what is fitted is a copy.
        answers: The answers that always escalate.
        to: ``next``, the next tier, or ``last``, the last tier.

    Attributes:
        router_: The meta-verifier in use.

    Raises:
        AutoMixError: ``to`` is unknown, or an answer is empty once normalised.
    """

    needs_texts = True

    def __init__(
        self,
        router: MetaVerifier,
        answers: Sequence[str] = ("unanswerable",),
        to: str = "next",
    ) -> None:
        if to not in DESTINATIONS:
            raise AutoMixError(f"fixed_answer.to={to!r} must be next or last")
        if isinstance(answers, str) or not answers:
            raise AutoMixError(f"fixed_answer.answers={answers!r} must be a list of answers")
        self.router = router
        self.answers = answers
        self.to = to
        self._fixed = frozenset(_normal(answer) for answer in answers)
        self.needs_verification = router.needs_verification
        self.needs_fit = router.needs_fit
        self.needs_hindsight = router.needs_hindsight
        # a router that starts at the last tier meets no rule; any other may be led on
        self.only_tier = -1 if router.only_tier == -1 else None
        self.router_: MetaVerifier = copy(router)

    def check_chain(self, num_tiers: int) -> None:
        """What the meta-verifier says of it."""
        self.router.check_chain(num_tiers)

    @property
    def reads(self) -> Sequence[str]:
        """Signals that the meta-verifier reads."""
        return self.router_.reads

    def check_signals(self, given: Collection[str]) -> None:
        """What the meta-verifier says of them."""
        self.router_.check_signals(given)

    def fit(self, outcomes: Outcomes) -> FixedAnswer:
        """Fit the meta-verifier on what the rule leaves it."""
        router = copy(self.router)
        ends = self._ends(outcomes)
        left = np.flatnonzero(ends == 0)
        self.note_ = ""
        if len(left) < min(2, len(outcomes)):
            self.note_ = (
                f"the fixed answers leave {len(left)} of {len(outcomes)} fitting questions to the "
                "meta-verifier, so it was fitted on all"
            )
            left = np.arange(len(outcomes))
        elif len(left) < len(outcomes):
            self._restate(router, outcomes, ends)
        self.router_ = router.fit(outcomes.take(left))
        self.needs_verification = self.router_.needs_verification
        return self

    def choose(self, seen: Seen) -> IntArray:
        """Where the meta-verifier sends a question, or where the rule does, if that is further."""
        chosen = self.router_.choose(seen)
        if seen.tier < 0 or seen.tier == seen.num_tiers - 1:
            return chosen
        if seen.answers is None:
            raise AutoMixError(
                "the fixed-answer rule reads answers, and these rows have none: give the file a "
                "column of each tier's answers, or leave fixed_answer.answers empty"
            )
        return np.where(
            self._match(seen.answers), np.maximum(chosen, self._destination(seen)), chosen
        )

    def sweep(self) -> list[tuple[float | None, Any]]:
        """The meta-verifier's family, each under the rule."""
        return [(parameter, self._around(policy)) for parameter, policy in self.router_.sweep()]

    def only_last(self) -> Any:
        """The meta-verifier's, under the rule."""
        policy = self.router_.only_last()
        return None if policy is None else self._around(policy)

    def _around(self, policy: MetaVerifier) -> FixedAnswer:
        other = copy(self)
        other.router_ = policy
        other.needs_verification = policy.needs_verification
        return other

    def notes(self) -> list[str]:
        """The rule's, and the meta-verifier's."""
        return [*super().notes(), *self.router_.notes()]

    def describe(self) -> str:
        """The rule, and the meta-verifier."""
        answers = ", ".join(repr(answer) for answer in sorted(self._fixed))
        rule = f"Answers equal to {answers} always go to the {self.to} tier. All others:"
        return "\n".join(filter(None, [rule, self.router_.describe(), self.note_]))

    def get_learned(self) -> dict[str, Any]:
        """The rule, and what the meta-verifier learned."""
        return {
            "answers": sorted(self._fixed),
            "to": self.to,
            "note": self.note_,
            "router": self.router_.get_learned(),
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the meta-verifier.

        Raises:
            AutoMixError: The policy was fitted without the rule, or under another.
        """
        if set(learned) != RULE_KEYS or not isinstance(learned["router"], Mapping):
            raise AutoMixError(
                "this policy was fitted without the fixed-answer rule: leave fixed_answer.answers "
                "empty, or fit it again"
            )
        if learned["answers"] != sorted(self._fixed) or learned["to"] != self.to:
            raise AutoMixError(
                f"this policy was fitted with the fixed answers {learned['answers']!r:.200} going "
                f"to {learned['to']!r:.20}, and those configured are {sorted(self._fixed)} going "
                f"to {self.to}: give the same, or fit it again"
            )
        self.router_.set_learned(learned["router"])
        self.needs_verification = self.router_.needs_verification
        self.note_ = str(learned["note"])

    def _reason(self, observation: Observation, to: int) -> str:
        answer = observation.answer
        before_last = 0 <= observation.tier < observation.num_tiers - 1
        if before_last and answer is not None and self._match([answer.text])[0]:
            return "fixed answer"
        if isinstance(self.router_, Router):
            return self.router_._reason(observation, to)
        return super()._reason(observation, to)

    def _match(self, answers: Sequence[str]) -> BoolArray:
        return np.array([normalize_answer(a) in self._fixed for a in answers], dtype=np.bool_)

    def _destination(self, seen: Seen) -> int:
        return seen.num_tiers - 1 if self.to == "last" else seen.tier + 1

    def _ends(self, outcomes: Outcomes) -> IntArray:
        """(n,) where the rule alone leads each question: the first tier if it does not apply."""
        if outcomes.answers is None:
            raise AutoMixError(
                "the fixed-answer rule reads answers, and the fitting data are numbers only: give "
                "each tier's answers, or leave fixed_answer.answers empty"
            )
        last = outcomes.num_tiers - 1
        at = np.zeros(len(outcomes), dtype=np.intp)
        for tier in range(last):
            led = (at == tier) & self._match(outcomes.answers[tier])
            at[led] = last if self.to == "last" else tier + 1
        return at

    def _restate(self, router: Any, outcomes: Outcomes, ends: IntArray) -> None:
        """Change the router's budget or target to what it must be on the questions left to it."""
        name = getattr(router, "objective", None)
        if name not in ("budget", "target") or getattr(router, name, None) is None:
            return
        ruled, n = ends > 0, len(outcomes)
        rest = n - int(ruled.sum())
        if name == "budget":
            spent = math.fsum(self._cost(outcomes, ends)[ruled])
            router.budget = max((router.budget * n - spent) / rest, 0.0)
            return
        wanted = router.target * math.fsum(outcomes.scores[:, -1])
        reached = math.fsum(outcomes.scores[np.arange(n), ends][ruled])
        best = math.fsum(outcomes.scores[~ruled, -1])
        # with nothing to reach, or nothing to reach it with, the least or the whole is asked for
        share = (wanted - reached) / best if best > 0 else float(wanted > reached)
        router.target = max(share, 0.0)

    def _cost(self, outcomes: Outcomes, ends: IntArray) -> FloatArray:
        """(n,) cost of going from the first tier to where the rule leads, verified on the way."""
        last = outcomes.num_tiers - 1
        judged = self.router.needs_verification
        step = outcomes.asking_costs if judged else outcomes.answer_costs
        tiers = np.arange(last + 1)
        passed = (tiers <= ends[:, None]) if self.to == "next" else (tiers == ends[:, None])
        passed[:, 0] = True
        return np.asarray(np.where(passed, step, 0.0).sum(axis=1))


def _normal(answer: Any) -> str:
    made = normalize_answer(answer) if isinstance(answer, str) else ""
    if not made:
        raise AutoMixError(
            f"fixed_answer.answers has the entry {answer!r}, which is empty once case, punctuation "
            "and articles are taken away: it would match every empty answer"
        )
    return made
