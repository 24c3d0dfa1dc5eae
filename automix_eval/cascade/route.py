"""The cascade, in a straight line.

questions -> answers -> verifications -> decisions -> answers of the next tier, only for those
escalated -> one list of tier records per question. A stage that nobody needs is skipped. Source:
AutoMix, arXiv 2310.12963.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from automix_eval.cascade.budget import Budget, BudgetSpentError
from automix_eval.cascade.failures import Failures, without_failed
from automix_eval.cascade.tier import Picker, Splitter, Tier
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import ABSTAIN
from automix_eval.types import (
    Answer,
    Decision,
    Observation,
    Question,
    TierRecord,
    Verification,
    Verifier,
)


@dataclass(frozen=True, slots=True)
class Chain:
    """The parts of a cascade.

    Attributes:
        tiers: Models, cheapest first.
        verifier: Judges the answers of all tiers but the last.
        split: The parts of a completion prompt, for prompts that do not fit a window.
        announce: Receives one line a stage, for the log.
        budget: Consulted before a tier is asked.
        price: Cost of an answer, for routers that read it; None leaves it unknown to them.
        failures: Takes the questions of which a call failed for good, as far as it tolerates them.
        pick: Which choice or repeat of a question is the answer that is scored.
    """

    tiers: Sequence[Tier]
    verifier: Verifier
    split: Splitter
    announce: Callable[[str], None] = field(default=logging.getLogger(__name__).info)
    budget: Budget = field(default_factory=Budget)
    price: Callable[[Answer], float] | None = None
    failures: Failures = field(default_factory=Failures)
    pick: Picker | None = None


_Asked = tuple[Answer, Verification | None]
_Choose = Callable[[int, Answer, float], int]


def route(
    questions: Sequence[Question], chain: Chain, meta_verifier: MetaVerifier, full: bool = False
) -> list[list[TierRecord]]:
    """Answer questions with as few calls of large models as the meta-verifier allows.

    Args:
        questions: Questions of one task.
        chain: Tiers and verifier.
        meta_verifier: The fitted router.
        full: Ask every tier every question as well (``record=full``); the routing is the same,
            and the tier records that it would not have made are marked ``on_path=False``.

    Returns:
        For each question the records of the tiers asked, in ascending order; none for a question
        that failed for good.

    Raises:
        TooManyFailedError: More questions failed than the run tolerates.
        BudgetSpentError: The budget is spent and says to stop; carries the finished questions.
    """
    progress = _Progress(questions, chain)
    progress.start(meta_verifier)
    for tier in range(len(chain.tiers)):
        here = progress.at(tier)
        if not here:
            continue
        stage = progress.announce(here, tier, full) if tier else ""
        verify = tier < progress.last and meta_verifier.needs_verification
        found = progress.ask(here, tier, verify, stage, meta_verifier)
        answered = progress.record(here, tier, found)
        if answered and tier < progress.last:
            progress.decide(answered, tier, meta_verifier)
        progress.keep(here[len(found) :], tier)
    if full:
        progress.fill(meta_verifier.needs_verification)
    return progress.rows()


def ask_all(
    questions: Sequence[Question], chain: Chain, verify: bool = True
) -> list[list[TierRecord]]:
    """Ask every tier every question and verify all but the last: what a router is fitted on.

    Returns:
        For each question the records of all tiers; none for a question that failed for good.
    """
    chain.budget.need(questions)
    progress = _Progress(questions, chain)
    progress.fill(verify)
    if progress.lacks_answers():
        raise BudgetSpentError(
            f"{chain.budget.reason()} before the calibration was done, which asks every tier every "
            "question: raise it, lower calibration.num_docs, or give a policy "
            "(meta_verifier.policy=FILE.json). Finished calls are kept"
        )
    return progress.rows()


class _Progress:
    """Where each question of a task is, and what every tier asked has done on it.

    Methods take questions by their positions in the task.
    """

    def __init__(self, questions: Sequence[Question], chain: Chain) -> None:
        self.last = len(chain.tiers) - 1
        self._questions = questions
        self._chain = chain
        self._records: list[dict[int, TierRecord]] = [{} for _ in questions]
        # the tier that answers next; None for a question that failed for good
        self._at: list[int | None] = [0] * len(questions)

    def start(self, meta_verifier: MetaVerifier) -> None:
        """Send every question to its first tier."""
        before = [Observation(-1, self.last + 1, (), q) for q in self._questions]
        self._at = [decision.to for decision in meta_verifier.decide(before)]

    def at(self, tier: int) -> list[int]:
        """The questions that a tier is to answer."""
        return [i for i, reached in enumerate(self._at) if reached == tier]

    def announce(self, here: Sequence[int], tier: int, full: bool) -> str:
        """Say how many questions go on to a tier; the name of the stage."""
        first = sum(not self._records[i] for i in here)
        stage = f"escalating {len(here) - first} of {len(self._questions)}"
        stage += f" (and {first} directly)" if first else ""
        saved = len(self._questions) - len(here) - self._at.count(None)
        task, name = self._questions[0].task, self._chain.tiers[tier].name
        others = f"{saved} more for the record alone" if full else f"{saved} calls saved"
        self._chain.announce(f"{task}: {stage} to {name}; {others}")
        return stage

    def ask(
        self,
        here: Sequence[int],
        tier: int,
        verify: bool,
        stage: str = "",
        meta_verifier: MetaVerifier | None = None,
    ) -> list[_Asked | None]:
        """Ask a tier questions; see :func:`_ask`.

        Args:
            here: The questions.
            tier: Whom to ask.
            verify: Whether the answers are verified.
            stage: What the log calls this.
            meta_verifier: Who decides, so that a verification may end once it is settled.
        """

        def choose(position: int, answer: Answer, confidence: float) -> int:
            assert meta_verifier is not None
            supposed = TierRecord(tier, answer, verification=Verification(tier, confidence))
            i = here[position]
            decision = meta_verifier.decide([self._observe(i, tier, supposed)])[0]
            return ABSTAIN if decision.abstains else decision.to

        asked = [self._questions[i] for i in here]
        places = {id(question): i for question, i in zip(asked, here, strict=True)}

        def earlier(question: Question, other: int) -> Answer | None:
            record = self._records[places[id(question)]].get(other)
            return record.answer if record else None

        self._chain.tiers[tier].earlier = earlier
        return _ask(asked, self._chain, tier, verify, stage, choose if meta_verifier else None)

    def record(
        self, here: Sequence[int], tier: int, found: Sequence[_Asked | None], on_path: bool = True
    ) -> list[int]:
        """Note what a tier did on the first of some questions; those that did not fail."""
        done = []
        for i, asked in zip(here, found, strict=False):
            if asked is None:
                # a question is recorded whole or not at all
                self._records[i].clear()
                self._at[i] = None
                continue
            answer, verification = asked
            self._records[i][tier] = TierRecord(
                tier, answer, verification=verification, on_path=on_path
            )
            done.append(i)
        return done

    def decide(self, here: Sequence[int], tier: int, meta_verifier: MetaVerifier) -> None:
        """Send questions that a tier has answered on, or leave them with its answer."""
        seen = [self._observe(i, tier, self._records[i][tier]) for i in here]
        for i, decision in zip(here, meta_verifier.decide(seen), strict=True):
            self._settle(i, tier, decision)

    def keep(self, refused: Sequence[int], tier: int) -> None:
        """Leave questions the budget refused a tier with what they have, or the cheapest's answer.

        Raises:
            BudgetSpentError: The budget says to stop; carries the finished questions.
        """
        if not refused:
            return
        try:
            reason = self._chain.budget.refuse(len(refused))
        except BudgetSpentError as spent:
            waiting = {*refused, *(i for i, to in enumerate(self._at) if to and to > tier)}
            rows = self.rows()
            # of those behind the first that waits none but what the router kept are finished
            spent.finished = [(i, rows[i]) for i in range(min(waiting)) if rows[i]]
            raise
        direct = [i for i in refused if not self._records[i]]
        self.record(direct, 0, self.ask(direct, 0, False, reason))
        for i in refused:
            if self._at[i] is not None:
                reached = max(self._records[i])
                self._settle(i, reached, Decision(reached, reached, reason))

    def fill(self, verify: bool) -> None:
        """Ask every tier the questions that it was not asked on their path."""
        for tier in range(self.last + 1):
            missing = [
                i
                for i, by_tier in enumerate(self._records)
                if self._at[i] is not None and tier not in by_tier
            ]
            if missing:
                stage = "answering for the record" if len(missing) < len(self._questions) else ""
                found = self.ask(missing, tier, verify and tier < self.last, stage)
                self.record(missing, tier, found, on_path=False)

    def lacks_answers(self) -> bool:
        """Whether some tier was not asked a question that has not failed."""
        return any(
            len(by_tier) <= self.last
            for by_tier, reached in zip(self._records, self._at, strict=True)
            if reached is not None
        )

    def rows(self) -> list[list[TierRecord]]:
        """Each question's records in ascending order of the tiers."""
        return [[by_tier[t] for t in sorted(by_tier)] for by_tier in self._records]

    def _settle(self, i: int, tier: int, decision: Decision) -> None:
        self._records[i][tier] = replace(self._records[i][tier], decision=decision)
        self._at[i] = decision.to

    def _observe(self, i: int, tier: int, reached: TierRecord) -> Observation:
        """What a meta-verifier sees of a question with the record of the tier it has reached."""
        path = [self._records[i].get(t) for t in range(tier)] + [reached]
        judged = [record.verification if record else None for record in path]
        price = self._chain.price
        return Observation(
            tier,
            self.last + 1,
            tuple(v.confidence if v else None for v in judged),
            self._questions[i],
            reached.answer,
            tuple(v.signals if v else {} for v in judged),
            _costs(path, price) if price else (),
        )


def _costs(
    path: Iterable[TierRecord | None], price: Callable[[Answer], float]
) -> tuple[float | None, ...]:
    """Price of each answer; None for tiers skipped."""
    return tuple(price(record.answer) if record else None for record in path)


def _ask(
    questions: Sequence[Question],
    chain: Chain,
    tier: int,
    verify: bool,
    stage: str,
    choose: _Choose | None,
) -> list[_Asked | None]:
    """What the questions got that the budget admits, from the first on; None for the failed."""
    done: list[_Asked | None] = []
    while left := questions[len(done) :]:
        admitted = chain.budget.admit(tier, left)
        if not admitted:
            break
        found = _answer_and_verify(left[:admitted], chain, tier, verify, stage, choose, len(done))
        asked = [pair for pair in found if pair is not None]
        chain.budget.charge(tier, [a for a, _ in asked], [v for _, v in asked])
        failed = [q for q, pair in zip(left, found, strict=False) if pair is None]
        chain.budget.charge_failed(tier, failed)
        done += found
    return done


def _answer_and_verify(
    questions: Sequence[Question],
    chain: Chain,
    tier: int,
    verify: bool,
    stage: str,
    choose: _Choose | None,
    first: int,
) -> list[_Asked | None]:
    model = chain.tiers[tier]
    phase, task = questions[0].phase, questions[0].task
    model.working_on(phase, task, "answer", stage)

    def answer(at: list[int]) -> list[Answer]:
        return model.answer(
            [questions[i] for i in at],
            chain.split,
            token_probs=verify and chain.verifier.needs_token_probs,
            pick=chain.pick,
        )

    answers = without_failed(model, questions, "answer", answer, chain.failures)
    if not verify:
        return [(answers[i], None) if i in answers else None for i in range(len(questions))]
    model.working_on(phase, task, "verify")
    answered = sorted(answers)

    def judge(at: list[int]) -> list[Verification]:
        places = [answered[i] for i in at]
        model.decide = (
            None
            if choose is None
            else lambda i, v: choose(first + places[i], answers[places[i]], v)
        )
        asked = [questions[i] for i in places], [answers[i] for i in places]
        return chain.verifier.verify(*asked, model)

    to_judge = [questions[i] for i in answered]
    judged = without_failed(model, to_judge, "verify", judge, chain.failures)
    found: list[_Asked | None] = [None] * len(questions)
    for i, verification in judged.items():
        found[answered[i]] = (answers[answered[i]], verification)
    return found
