"""Methods computed from records in which every tier was asked; no model is called.

The constant policies, the random one and the oracle have closed forms. A meta-verifier is fitted
on the run's calibration records and played on its evaluation records, exactly as a live run would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.replayed import Replayed, replayed
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.record_columns import FloatArray, RecordColumns
from automix_eval.records.repricing import Priced, Prices, price
from automix_eval.records.runs import Run
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable
from automix_eval.safety.untrusted import parse_yaml

# Texts are read for routers that look at them; more would not fit into memory beside the columns.
_MOST_TEXTS = 100_000


@dataclass(slots=True, eq=False)
class ReplayData:
    """A question set, and its records as the columns that routers are fitted and played on."""

    questions: QuestionSet
    _questions: Outcomes | None = None
    _fitting: Outcomes | Undefined | None = None

    def test(self, router: MetaVerifier) -> Outcomes:
        """The evaluation questions, with texts for routers that read them."""
        if self._questions is None:
            self._questions = _outcomes(self.questions.rows, self.questions.priced)
        return _with_texts(self._questions, self.questions.rows, router)

    def fitting(self, router: MetaVerifier) -> Outcomes | Undefined:
        """The calibration questions, or why the router cannot be fitted on them."""
        rows = self.questions.run.calibration.get(self.questions.task)
        if self._fitting is None:
            self._fitting = _calibration(self.questions, rows)
        if rows is None or isinstance(self._fitting, Undefined):
            return self._fitting
        return _with_texts(self._fitting, rows, router)


def play(data: ReplayData, spec: str) -> Replayed | Undefined:
    """Fit and play a meta-verifier.

    Args:
        data: Questions that every tier was asked.
        spec: ``NAME`` or ``NAME:key=value,...``, an option of ``hydra_conf/meta_verifier``.

    Returns:
        What it does, or why it cannot be played on this question set.

    Raises:
        AutoMixError: There is no such meta-verifier or parameter.
    """
    from automix_eval.config import parts  # imported late: Hydra takes a second

    name, _, rest = spec.partition(":")
    parameters = dict(_parameter(spec, part) for part in rest.split(",") if part)
    router = parts.make_meta_verifier(configured(name, parameters, data.questions.run))
    return _play(data, router)


def play_own(data: ReplayData) -> Replayed | Undefined:
    """Play the meta-verifier of the run itself, for the whole range of its policies."""
    if (
        reason := data.questions.tiers.why_not_full()
    ) or data.questions.task not in data.questions.run.calibration:
        return reason or Undefined("the run has no calibration records to fit its range on")
    from automix_eval.config import parts  # imported late: Hydra takes a second

    name, values = own_router(data.questions.run)
    try:
        router = parts.make_meta_verifier(configured(name, values, data.questions.run))
    except AutoMixError as err:
        return Undefined(printable(err))
    if router.needs_texts:
        # such routers may train a model; only --baseline asks for that
        return Undefined(f"{name} reads texts, so its curve is not computed unasked")
    return _play(data, router)


def _play(data: ReplayData, router: MetaVerifier) -> Replayed | Undefined:
    tiers = data.questions.tiers
    if reason := tiers.why_not_full():
        return reason
    fitting = data.fitting(router) if router.needs_fit else None
    if isinstance(fitting, Undefined):
        return fitting
    try:
        test = data.test(router)
        router = router if fitting is None else router.fit(fitting)
        return replayed(router, test, tiers, fitting)
    except AutoMixError as err:
        return Undefined(printable(err, 600))


def _calibration(questions: QuestionSet, rows: RecordColumns | None) -> Outcomes | Undefined:
    if rows is None:
        return Undefined(
            "it must be fitted, and the run has no calibration records: run it once with "
            "meta_verifier=threshold or another that learns"
        )
    if not rows.full:
        return Undefined("it must be fitted, and the calibration records lack answers of a tier")
    priced = price(rows, questions.run.cost)
    reason = next((p for p in _costs(priced) if isinstance(p, Undefined)), None)
    return reason or _outcomes(rows, priced)


def _outcomes(rows: RecordColumns, priced: Priced) -> Outcomes:
    ids = zip(rows.doc_ids.tolist(), rows.repeats.tolist(), strict=True)
    return Outcomes(
        scores=rows.scores,
        answer_costs=_stacked(priced.answers),
        confidences=rows.confidences,
        verification_costs=_stacked(priced.verifications),
        names=tuple(f"tier {t}" for t in range(rows.num_tiers)),
        ids=tuple(f"{rows.task}/{doc_id}/{repeat}" for doc_id, repeat in ids),
        signals=rows.signals,
        documents=tuple(map(str, rows.documents.tolist())),
    )


def _stacked(columns: Sequence[Prices]) -> FloatArray:
    return np.column_stack([c for c in columns if not isinstance(c, Undefined)])


def _with_texts(outcomes: Outcomes, rows: RecordColumns, router: MetaVerifier) -> Outcomes:
    if not router.needs_texts:
        return outcomes
    if len(rows) > _MOST_TEXTS:
        raise AutoMixError(
            f"it reads texts, and those of {len(rows)} questions do not fit into memory: report on "
            f"runs of at most {_MOST_TEXTS} questions"
        )
    questions, answers = _texts(rows)
    return replace(outcomes, questions=questions, answers=answers)


def _texts(rows: RecordColumns) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    questions = []
    answers: list[list[str]] = [[] for _ in range(rows.num_tiers)]
    for record in rows.read(range(len(rows))):
        questions.append(record.question)
        for tier in record.tiers:
            answers[tier.tier].append(tier.answer.text)
    return tuple(questions), tuple(map(tuple, answers))


def _costs(priced: Priced) -> tuple[Any, ...]:
    return (*priced.answers, *priced.verifications)


def own_router(run: Run) -> tuple[str, dict[str, Any]]:
    """The router of a run and its settings, but for the policy that it took."""
    given = run.config.get("meta_verifier")
    held = dict(given) if isinstance(given, Mapping) else {}
    unread = ("_target_", "policy", "transfer", "option", "name")
    return str(held.get("name", "")), {k: v for k, v in held.items() if k not in unread}


def configured(name: str, parameters: Mapping[str, Any], run: Run) -> Any:
    """The configuration of a router behind the calibrator of a run."""
    from automix_eval.config import compose as config

    given = {"meta_verifier": name, **{f"meta_verifier.{k}": v for k, v in parameters.items()}}
    held = run.config.get("calibrator")
    if isinstance(held, Mapping) and held.get("name"):
        unread = ("name", "_target_")
        given["calibrator"] = held["name"]
        given |= {f"calibrator.{k}": v for k, v in held.items() if k not in unread}
    return config.build(given)


def _parameter(spec: str, text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise AutoMixError(f"--baseline {spec}: write NAME or NAME:key=value,key=value")
    try:
        return key, parse_yaml(value.encode("utf-8", "replace"))
    except ValueError as err:
        raise AutoMixError(f"--baseline {spec}: {key} cannot be read: {err}") from err
