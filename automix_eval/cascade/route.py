"""The cascade, in a straight line.

questions -> answers -> verifications -> decisions -> answers of the next tier, only for those
escalated -> one list of tier records per question. Each stage maps a list to a list of the same
length; a stage that nobody needs is skipped. Source: AutoMix, arXiv 2310.12963.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from automix_eval.cascade.budget import Budget, BudgetSpentError
from automix_eval.cascade.failures import Failures, surviving
from automix_eval.cascade.tier import Splitter, Tier
from automix_eval.meta_verifiers.contract import MetaVerifier
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
        failures: Takes the questions of which a call failed for good, as far as it bears them.
    """

    tiers: Sequence[Tier]
    verifier: Verifier
    split: Splitter
    announce: Callable[[str], None] = field(default=logging.getLogger(__name__).info)
    budget: Budget = field(default_factory=Budget)
    price: Callable[[Answer], float] | None = None
    failures: Failures = field(default_factory=Failures)


Asked = tuple[Answer, Verification | None]
_FAILED = -1  # where a question is that failed for good


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
        TooManyFailedError: More questions failed than the run bears.
        BudgetSpentError: The budget is spent and says to stop; carries the finished questions.
    """
    last = len(chain.tiers) - 1
    before = [Observation(-1, len(chain.tiers), (), q) for q in questions]
    at = [decision.to for decision in meta_verifier.decide(before)]
    records: list[dict[int, TierRecord]] = [{} for _ in questions]
    for tier in range(len(chain.tiers)):
        here = [i for i, reached in enumerate(at) if reached == tier]
        if not here:
            continue
        stage = ""
        if tier > 0:
            first = sum(not records[i] for i in here)
            stage = f"escalating {len(here) - first} of {len(questions)}"
            stage += f" (and {first} directly)" if first else ""
            chain.announce(
                f"{questions[0].task}: {stage} to {chain.tiers[tier].name}; "
                f"{len(questions) - len(here) - at.count(_FAILED)} calls saved"
            )
        verify = tier < last and meta_verifier.needs_verification
        choose = partial(_choose, meta_verifier, chain, here, questions, records)
        asked = [questions[i] for i in here]
        found = _ask(asked, chain, tier, verify, stage, choose)
        refused = here[len(found) :]
        here = _take(here, tier, found, records, at)
        if here and tier < last:
            seen = _observe(here, tier, questions, chain, records)
            for i, decision in zip(here, meta_verifier.decide(seen), strict=True):
                records[i][tier] = replace(records[i][tier], decision=decision)
                at[i] = decision.to
        if refused:
            _keep(refused, tier, questions, chain, records, at)
    if full:
        _fill(questions, chain, records, meta_verifier.needs_verification, at)
    return _in_order(records)


def ask_all(
    questions: Sequence[Question], chain: Chain, verify: bool = True
) -> list[list[TierRecord]]:
    """Ask every tier every question and verify all but the last: what a router is fitted on.

    Returns:
        For each question the records of all tiers; none for a question that failed for good.
    """
    chain.budget.need(questions)
    records: list[dict[int, TierRecord]] = [{} for _ in questions]
    at = [0] * len(questions)
    _fill(questions, chain, records, verify, at)
    if any(
        len(by_tier) < len(chain.tiers)
        for by_tier, reached in zip(records, at, strict=True)
        if reached != _FAILED
    ):
        raise BudgetSpentError(
            f"{chain.budget.reason()} before the calibration was done, which asks every tier every "
            "question: raise it, lower calibration.num_docs, or give a policy "
            "(meta_verifier.policy=FILE.json). Finished calls are kept"
        )
    return _in_order(records)


def _fill(
    questions: Sequence[Question],
    chain: Chain,
    records: list[dict[int, TierRecord]],
    verify: bool,
    at: list[int],
) -> None:
    last = len(chain.tiers) - 1
    for tier in range(len(chain.tiers)):
        missing = [i for i, rows in enumerate(records) if at[i] != _FAILED and tier not in rows]
        if not missing:
            continue
        stage = "answering for the record" if len(missing) < len(questions) else ""
        found = _ask([questions[i] for i in missing], chain, tier, verify and tier < last, stage)
        _take(missing, tier, found, records, at, on_path=False)


def _take(
    here: Sequence[int],
    tier: int,
    found: Sequence[Asked | None],
    records: list[dict[int, TierRecord]],
    at: list[int],
    on_path: bool = True,
) -> list[int]:
    """Note what a tier did on the first of some questions; those that did not fail."""
    done = []
    for i, asked in zip(here, found, strict=False):
        if asked is None:
            # a question is recorded whole or not at all
            records[i].clear()
            at[i] = _FAILED
            continue
        records[i][tier] = TierRecord(tier, asked[0], verification=asked[1], on_path=on_path)
        done.append(i)
    return done


def _observe(
    here: Sequence[int],
    tier: int,
    questions: Sequence[Question],
    chain: Chain,
    records: Sequence[dict[int, TierRecord]],
) -> list[Observation]:
    """What the meta-verifier sees of the questions that reached a tier."""
    return [
        Observation(
            tier,
            len(chain.tiers),
            tuple(v.confidence if v else None for v in seen),
            questions[i],
            records[i][tier].answer,
            tuple(v.signals if v else {} for v in seen),
            _costs(records[i], tier, chain.price),
        )
        for i in here
        for seen in [_verifications(records[i], tier)]
    ]


def _keep(
    refused: Sequence[int],
    tier: int,
    questions: Sequence[Question],
    chain: Chain,
    records: list[dict[int, TierRecord]],
    at: list[int],
) -> None:
    """Leave refused questions with the answer they have; those without get the cheapest tier's."""
    try:
        reason = chain.budget.refuse(len(refused))
    except BudgetSpentError as spent:
        waiting = set(refused) | {i for i, to in enumerate(at) if to > tier}
        done = [i for i, by_tier in enumerate(records) if by_tier and i not in waiting]
        spent.finished = [(i, rows) for i in done for rows in _in_order([records[i]])]
        raise
    direct = [i for i in refused if not records[i]]
    _take(direct, 0, _ask([questions[i] for i in direct], chain, 0, False, reason), records, at)
    for i in refused:
        if at[i] == _FAILED:
            continue
        at[i] = max(records[i])
        kept = Decision(at[i], at[i], reason)
        records[i][at[i]] = replace(records[i][at[i]], decision=kept)


def _in_order(records: Sequence[dict[int, TierRecord]]) -> list[list[TierRecord]]:
    return [[by_tier[t] for t in sorted(by_tier)] for by_tier in records]


def _ask(
    questions: Sequence[Question],
    chain: Chain,
    tier: int,
    verify: bool,
    stage: str = "",
    choose: Callable[[int, Answer, float], int] | None = None,
) -> list[Asked | None]:
    """What the questions got that the budget admits, from the first on; None for the failed."""
    done: list[Asked | None] = []
    while left := questions[len(done) :]:
        admitted = chain.budget.admit(tier, left)
        if not admitted:
            break
        found = _ask_model(left[:admitted], chain, tier, verify, stage, choose, len(done))
        asked = [pair for pair in found if pair is not None]
        chain.budget.charge(tier, [a for a, _ in asked], [v for _, v in asked])
        failed = [q for q, pair in zip(left, found, strict=False) if pair is None]
        chain.budget.charge_failed(tier, failed)
        done += found
    return done


def _ask_model(
    questions: Sequence[Question],
    chain: Chain,
    tier: int,
    verify: bool,
    stage: str,
    choose: Callable[[int, Answer, float], int] | None,
    first: int,
) -> list[Asked | None]:
    model = chain.tiers[tier]
    phase, task = questions[0].phase, questions[0].task
    model.working_on(phase, task, "answer", stage)

    def answer(at: list[int]) -> list[Answer]:
        return model.answer(
            [questions[i] for i in at],
            chain.split,
            token_probs=verify and chain.verifier.needs_token_probs,
        )

    answers = surviving(model, questions, "answer", answer, chain.failures)
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

    judged = surviving(model, [questions[i] for i in answered], "verify", judge, chain.failures)
    found: list[Asked | None] = [None] * len(questions)
    for i, verification in judged.items():
        found[answered[i]] = (answers[answered[i]], verification)
    return found


def _costs(
    by_tier: dict[int, TierRecord], reached: int, price: Callable[[Answer], float] | None
) -> tuple[float | None, ...]:
    """One a tier up to the one reached; None for tiers skipped. Empty without prices."""
    if price is None:
        return ()
    asked = [by_tier.get(tier) for tier in range(reached + 1)]
    return tuple(price(record.answer) if record else None for record in asked)


def _verifications(by_tier: dict[int, TierRecord], reached: int) -> list[Verification | None]:
    """One a tier up to the one reached; None for tiers skipped or not verified."""
    asked = [by_tier.get(tier) for tier in range(reached + 1)]
    return [record.verification if record else None for record in asked]


def _choose(
    meta_verifier: MetaVerifier,
    chain: Chain,
    here: Sequence[int],
    questions: Sequence[Question],
    records: Sequence[dict[int, TierRecord]],
    position: int,
    answer: Answer,
    confidence: float,
) -> int:
    """Where the router would send the question at a position of ``here`` at a confidence."""
    i, tier = here[position], answer.tier
    supposed = TierRecord(tier, answer, verification=Verification(tier, confidence))
    seen = _observe([0], tier, [questions[i]], chain, [{**records[i], tier: supposed}])
    return meta_verifier.decide(seen)[0].to
