"""A calibrator in front of any meta-verifier: signals become one calibrated confidence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import Router, require_chain, require_fitted, see
from automix_eval.meta_verifiers.calibrators.heads import Calibrator, Heads
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.bootstrap import sorted_codes
from automix_eval.metrics.calibration import are_right, auroc, scale_of
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Decision, Observation

FOLDS = 5
# An AUROC this far below one half on the fitting data is called the wrong way round.
REVERSED = 0.45


class Calibrated(Router):
    """Fits calibrators for each tier, and the meta-verifier on the calibrated confidences.

    The meta-verifier is fitted on rows ranked out of fold (five folds, rows of one document in one
    fold), since a calibrator is too sure of the rows it has seen, on the scale of the calibrator
    fitted on all rows, which decisions use. An answer without any signal stays undefined.

    Args:
        meta_verifier: The router that decides.
        make: Makes one unfitted calibrator.

    Attributes:
        calibrators_: The heads of each tier but the last; None before fitting.
        names_: The signals each of them reads.
        auroc_: AUROC of the verifier's own confidence on the fitting data, None where undefined.
    """

    needs_verification = True
    needs_fit = True

    def __init__(self, meta_verifier: MetaVerifier, make: Callable[[], Calibrator]) -> None:
        if not meta_verifier.needs_verification:
            raise AutoMixError(
                f"{type(meta_verifier).__name__} looks at no confidence, so there is nothing to "
                "calibrate: leave the calibrator out"
            )
        self.meta_verifier = meta_verifier
        self.make = make
        self.needs_texts = meta_verifier.needs_texts
        self.needs_hindsight = meta_verifier.needs_hindsight
        self.calibrators_: list[Heads] | None = None
        self.names_: list[list[str]] = []
        self.auroc_: list[float | None] = []

    def check_chain(self, num_tiers: int) -> None:
        """What the meta-verifier says of it."""
        self.meta_verifier.check_chain(num_tiers)

    def check_signals(self, given: Collection[str]) -> None:
        """What the meta-verifier says of them."""
        self.meta_verifier.check_signals(given)

    def fit(self, outcomes: Outcomes) -> Calibrated:
        """Fit the calibrators, then the meta-verifier on what they say."""
        rows = outcomes.canonical()
        low, width = scale_of(rows.scores)
        target = (rows.scores - low) / width
        folds = _folds(rows)
        held = rows.confidences.copy()
        self.calibrators_, self.names_, self.auroc_ = [], [], []
        for tier in range(rows.num_tiers - 1):
            names = _names(rows, tier, self.make().reads_confidence)
            signals = _signals(rows.signals, rows.confidences, names, tier)
            known = ~np.isnan(signals).all(axis=1)
            held[:, tier] = np.nan
            out = np.full(len(rows), np.nan)
            scores = target[known][:, [tier, -1]]
            make = partial(self._told, names)
            heads = Heads(make).fit(signals[known], *scores.T)
            out[known] = _out_of_fold(make, heads, signals[known], scores, folds[known])
            held[:, tier] = out
            self.calibrators_.append(heads)
            self.names_.append(names)
            self.auroc_.append(_auroc(rows.confidences[:, tier], target[:, tier]))
        self.meta_verifier.fit(replace(rows, confidences=held))
        self.needs_texts = self.meta_verifier.needs_texts
        self.needs_verification = self.meta_verifier.needs_verification
        return self

    def _told(self, names: Sequence[str]) -> Calibrator:
        return self.make().knowing(names)

    def choose(self, seen: Seen) -> IntArray:
        """What the meta-verifier does with the calibrated confidences."""
        return self.meta_verifier.choose(self._calibrated(seen))

    def decide(self, observations: Sequence[Observation]) -> list[Decision]:
        """Decisions with the meta-verifier's reasons, on calibrated confidences."""
        if not observations or observations[0].tier < 0:
            return self.meta_verifier.decide(observations)
        table = self._calibrated(see(observations)).confidences
        return self.meta_verifier.decide(
            [
                replace(o, confidences=tuple(None if math.isnan(v) else v for v in row))
                for o, row in zip(observations, table.tolist(), strict=True)
            ]
        )

    def judge_first(self, outcomes: Outcomes) -> FloatArray:
        """(n,) calibrated confidences in the first tier, NaN where there is no signal."""
        seen = Seen(0, outcomes.num_tiers, outcomes.confidences[:, :1], signals=outcomes.signals)
        return self._calibrated(seen).confidences[:, 0]

    def sweep(self) -> list[tuple[float | None, Any]]:
        """The meta-verifier's range, each behind the same calibrators."""
        return [(p, self._with(inner)) for p, inner in self.meta_verifier.sweep()]

    def only_last(self) -> Any:
        """The meta-verifier's."""
        inner = self.meta_verifier.only_last()
        return None if inner is None else self._with(inner)

    def notes(self) -> list[str]:
        """Which tiers' verifiers the calibration turned round, and the meta-verifier's notes."""
        turned = [
            f"tier {tier}: the verifier is the wrong way round on the fitting data (AUROC "
            f"{area:.2f}); the calibrator turned it"
            for tier, area in enumerate(self.auroc_)
            if area is not None and area < REVERSED
        ]
        return [*turned, *self.meta_verifier.notes()]

    def describe(self) -> str:
        """The calibrators, then the policy on the calibrated confidences."""
        lines = []
        calibrators = require_fitted(self.calibrators_, "calibrated")
        for tier, (heads, names) in enumerate(zip(calibrators, self.names_, strict=True)):
            learned = heads.own_.get_learned()
            kind = learned.get("kind") or type(heads.own_).__name__.lower()
            learned = learned.get("chosen") or learned
            combined = learned.get("combination") or learned
            text = f"tier {tier}: {kind} calibration of " + ", ".join(names)
            if heads.last_ is not None:
                text += " to the benefit of the last tier"
            if "weights" in combined and len(combined["weights"]) == len(names):
                weights = zip(names, combined["weights"], strict=True)
                text += "; weights " + ", ".join(f"{n} {w:+.3f}" for n, w in weights)
            lines.append(text)
        return "\n".join([*lines, *self.notes(), "", self.meta_verifier.describe()])

    def get_learned(self) -> dict[str, Any]:
        """Calibrators and policy."""
        calibrators = require_fitted(self.calibrators_, "calibrated")
        return {
            "calibrators": [
                {"signals": names, "auroc": area, **calibrator.get_learned()}
                for calibrator, names, area in zip(
                    calibrators, self.names_, self.auroc_, strict=True
                )
            ],
            "meta_verifier": self.meta_verifier.get_learned(),
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore both."""
        try:
            if set(learned) != {"calibrators", "meta_verifier"}:
                raise ValueError(f"expected calibrators and meta_verifier, got {sorted(learned)}")
            entries = [self._parse(entry) for entry in learned["calibrators"]]
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise AutoMixError(
                f"this is no policy with a calibrator ({err!r}): fit it again, or leave the "
                "calibrator out"
            ) from err
        self.meta_verifier.set_learned(learned["meta_verifier"])
        self.needs_texts = self.meta_verifier.needs_texts
        self.needs_verification = self.meta_verifier.needs_verification
        self.calibrators_ = [calibrator for calibrator, _, _ in entries]
        self.names_ = [names for _, names, _ in entries]
        self.auroc_ = [area for _, _, area in entries]

    def _parse(self, entry: Mapping[str, Any]) -> tuple[Heads, list[str], float | None]:
        names, area = entry["signals"], entry["auroc"]
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"signals is {names!r}, expected names")
        if area is not None and not 0 <= float(area) <= 1:
            raise ValueError(f"auroc is {area!r}")
        heads = Heads(self.make)
        heads.set_learned(entry)
        return heads, names, area

    def _with(self, inner: MetaVerifier) -> Calibrated:
        other = copy.copy(self)
        other.meta_verifier = inner
        other.needs_texts = inner.needs_texts
        other.needs_verification = inner.needs_verification
        return other

    def _calibrated(self, seen: Seen) -> Seen:
        calibrators = require_fitted(self.calibrators_, "calibrated")
        if seen.tier < 0:
            return seen
        require_chain("the calibrator", len(calibrators) + 1, seen.num_tiers)
        table = seen.confidences.copy()
        for tier in range(min(seen.tier + 1, len(calibrators))):
            signals = _signals(seen.signals, seen.confidences, self.names_[tier], tier)
            known = ~np.isnan(signals).all(axis=1)
            table[:, tier] = np.nan
            if known.any():
                table[known, tier] = calibrators[tier].predict(signals[known])
        return replace(seen, confidences=table)


def _names(rows: Outcomes, tier: int, reads_confidence: bool) -> list[str]:
    """The signals of a tier, after the confidence if that is read too, or has no others."""
    found = [n for n, table in sorted(rows.signals.items()) if not np.isnan(table[:, tier]).all()]
    return ["confidence", *found] if reads_confidence or not found else found


def _signals(
    signals: Mapping[str, FloatArray], confidences: FloatArray, names: Sequence[str], tier: int
) -> FloatArray:
    """(n, s) the named signals at a tier; those that are not there are missing."""
    missing = np.full(len(confidences), np.nan)
    columns = [
        confidences[:, tier]
        if name == "confidence"
        else signals[name][:, tier]
        if name in signals
        else missing
        for name in names
    ]
    return np.stack(columns, axis=1)


def _auroc(confidence: FloatArray, target: FloatArray) -> float | None:
    known = ~np.isnan(confidence)
    area = auroc(confidence[known].tolist(), are_right(target)[known].tolist())
    return None if isinstance(area, Undefined) else area


def _folds(rows: Outcomes) -> IntArray:
    return np.asarray(sorted_codes(rows.documents or rows.ids) % FOLDS)


def _out_of_fold(
    make: Callable[[], Calibrator],
    whole: Heads,
    signals: FloatArray,
    scores: FloatArray,
    folds: IntArray,
) -> FloatArray:
    """Each row's place by heads that have not seen its fold, as a confidence of the whole's scale.

    Heads fitted without a fold lie the higher the worse that fold is: put together over the folds,
    signals that tell nothing would rank the rows the wrong way round, and unlike slopes would
    shuffle good ones. So a held-out row counts for the share of rows that its heads put below it,
    and gets the confidence at that share of the heads fitted on all.

    Args:
        make: Makes one unfitted calibrator.
        whole: Heads fitted on all rows.
        signals: (n, s).
        scores: (n, 2) of the tier and of the last, in [0, 1].
        folds: (n,).
    """
    if not len(scores):
        return np.empty(0)
    level = np.sort(whole.predict(signals))
    out = np.empty(len(scores))
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~inside
        # a single fold (one document) cannot be left out
        used = others if others.any() else inside
        found = Heads(make).fit(signals[used], *scores[used].T).predict(signals)
        ordered, own = np.sort(found), found[inside]
        below = np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")
        out[inside] = np.interp(below / 2 - 0.5, np.arange(len(level)), level)
    return out
