"""Every cell of an experiment: its axes applied, a router fitted for each seed, and scored."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.analysis.experiments import axes, routers
from automix_eval.analysis.experiments.cell_figures import (
    CellFigure,
    cell_figures,
    difference,
    verdict,
)
from automix_eval.analysis.experiments.preset import AXES, Part, Preset
from automix_eval.analysis.experiments.sources import Failure, StudySource, shown
from automix_eval.analysis.method import MethodScore
from automix_eval.meta_verifiers.baselines.frugal_gpt import FrugalGPT
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery
from automix_eval.meta_verifiers.baselines.texts import TextRouter
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.benefit import benefit_auroc, benefit_correlation
from automix_eval.metrics.calibration import are_right, auroc, scale_of
from automix_eval.metrics.curves import quality_at
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import FloatArray, Outcomes
from automix_eval.safety.errors import AutoMixError

# Router that others are compared with in pairs, where a part has it.
REFERENCE = "pomdp"


@dataclass(frozen=True, slots=True, eq=False)
class CellScore:
    """One cell.

    Attributes:
        labels: Column -> what tells the cell apart: ``source``, ``test``, ``tiers`` and axes.
        figures: Name -> figure.
        facts: Ends, AUROC, numbers of rows, seeds, verdict.
    """

    labels: Mapping[str, Any]
    figures: Mapping[str, CellFigure]
    facts: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Study:
    """One part's cells, and what could not be done.

    Attributes:
        part: Its declaration.
        rows: Its cells.
        failures: Cells that failed, with the reason.
        left_out: What does not apply to the outcomes at hand, with the reason.
    """

    part: Part
    rows: list[CellScore] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    fit_on: StudySource
    test_on: StudySource
    chain: axes.Chain
    test_chain: axes.Chain
    values: Mapping[str, Any]

    def labels(self) -> dict[str, Any]:
        """Where on the axes the cell lies, by axis."""
        names = self.test_on.test.names
        return {
            "source": self.fit_on.name,
            "test": self.test_on.name,
            "tiers": axes.label(names, self.test_chain),
            **{a: v for a, v in self.values.items() if a not in ("test", "tiers", "router")},
            "router": routers.label_of(self.values["router"]),
        }


def study(
    preset: Preset, part: Part, sources: Sequence[StudySource], progress: Callable[[str], None]
) -> Study:
    """Fit and score every cell of a part; one that fails is noted and stops nothing."""
    made = Study(part)
    used = [s for s in sources if not part.needs_runs or s.kind == "run"]
    if not used:
        made.left_out.append(
            {"what": part.name, "reason": "it compares verifiers of real runs: give records=DIR "
             "of runs with record=full, or data=runs to make them"}
        )  # fmt: skip
        return made
    if part.one_source:
        used = used[:1]
    cells = list(_cells(part, used, made))
    for number, cell in enumerate(cells, start=1):
        try:
            reason = _unfit(cell)
            if reason:
                made.left_out.append({"what": _words(cell), "reason": reason})
            else:
                made.rows.append(_row(preset, cell))
        except AutoMixError as err:
            made.failures.append({"what": _words(cell), "reason": str(err)})
        progress(f"{part.name}: {number} of {len(cells)} cells")
    made.rows = _compared(made.rows)
    return made


def _cells(part: Part, sources: Sequence[StudySource], made: Study) -> Iterator[_Cell]:
    values = {axis: part.axes.get(axis, (default,)) for axis, default in AXES.items()}
    for source in sources:
        for combination in itertools.product(*values.values()):
            held = dict(zip(values, combination, strict=True))
            others = sources if held["test"] == "every" else [source]
            try:
                mine = axes.chains(held["tiers"], source.test.num_tiers)
            except AutoMixError as err:
                made.failures.append({"what": source.name, "reason": str(err)})
                continue
            if not mine:
                reason = f"it has {source.test.num_tiers} tiers, too few for tiers={held['tiers']}"
                note = {"what": source.name, "reason": reason}
                if note not in made.left_out:
                    made.left_out.append(note)
            for other in others:
                theirs = axes.chains(held["tiers"], other.test.num_tiers)
                for chain, test_chain in zip(mine, theirs, strict=False):
                    yield _Cell(source, other, chain, test_chain, held)


def _unfit(cell: _Cell) -> str | None:
    """Why a router cannot be asked about these outcomes at all; None where it can."""
    router = _router(cell, 0)
    test = cell.test_on.test
    if isinstance(router, (TextRouter, KnnQuery)) and test.questions is None:
        return "it reads texts, and these outcomes are numbers"
    first = test.confidences[:, cell.test_chain[0]]
    blind = np.isnan(first).all() and not test.signals
    if router.needs_verification and not router.needs_hindsight and blind:
        return "it reads confidences, and there are none"
    return None


def _row(preset: Preset, cell: _Cell) -> CellScore:
    held = cell.values
    train = _applied(cell.fit_on.train.select_tiers(cell.chain), held, 2 * preset.seed)
    test = _applied(cell.test_on.test.select_tiers(cell.test_chain), held, 2 * preset.seed + 1)
    seeds = preset.seeds
    whole = len(axes.sampled(train, held["train"], seeds[0])) == len(train)
    if whole and not routers.is_seeded(held["router"]):
        seeds = seeds[:1]  # the same rows, and nothing is drawn: every seed would repeat the first
    samples = [axes.sampled(train, held["train"], seed) for seed in seeds]
    fitted = [_fitted(_router(cell, seed), rows) for seed, rows in zip(seeds, samples, strict=True)]
    score = MethodScore.of_routers(
        fitted,
        test,
        preset.seed,
        preset.resamples,
        routers.label_of(held["router"]),
        False,
        samples,
    )
    found = cell_figures(score)
    facts = _facts(score, test, len(samples[-1]), seeds, cell)
    facts |= {"verdict": verdict(found["delta_ibc"])}
    if isinstance(fitted[-1], (Calibrated, FrugalGPT)):  # their confidence is their own
        facts |= _verifier_facts(fitted[-1].judge_first(test), test)
    return CellScore(cell.labels(), found, facts)


def _applied(outcomes: Outcomes, held: Mapping[str, Any], seed: int) -> Outcomes:
    made = axes.shuffled(outcomes, held["shuffled"], seed)
    made = axes.voted(made, held["votes"], seed)
    return axes.priced(made, held["ratio"], held["verify_cost"])


def _fitted(router: MetaVerifier, train: Outcomes) -> MetaVerifier:
    return router.fit(train) if router.needs_fit else router


def _router(cell: _Cell, seed: int) -> MetaVerifier:
    held = cell.values
    return routers.make(held["router"], held["objective"], held["calibrator"], seed)


def _facts(
    score: MethodScore, test: Outcomes, train_rows: int, seeds: Sequence[int], cell: _Cell
) -> dict[str, Any]:
    slm_quality, slm_cost, llm_quality, llm_cost = (float(np.asarray(v)[0]) for v in score.ends())
    corners, spent = score.oracle(), float(np.asarray(score.mean("cost"))[0])
    assert not isinstance(corners, Undefined)  # every tier was asked
    quality, costs = test.scores.mean(axis=0), test.answer_costs.mean(axis=0)
    best = int(np.lexsort((costs, -quality))[0])
    mixed = quality_at(list(zip(costs.tolist(), quality.tolist(), strict=True)), spent)
    return {
        "slm_quality": slm_quality,
        "llm_quality": llm_quality,
        "slm_cost": slm_cost,
        "llm_cost": llm_cost,
        "cost_ratio": llm_cost / slm_cost if slm_cost > 0 else None,
        "oracle_quality": float(corners[0][0][0]),
        **_verifier_facts(test.confidences[:, 0], test),
        "best_single": test.names[best],
        "best_single_quality": float(quality[best]),
        # of the zero router: single models mixed at the cost of this router
        "zero_quality": None if isinstance(mixed, Undefined) else mixed,
        "family": "same" if len({_family(n) for n in test.names}) == 1 else "different",
        "num_tiers": test.num_tiers,
        "train_rows": train_rows,
        "test_rows": len(test),
        "seeds": len(seeds),
        "first_seed": seeds[0],
        "simulated": cell.test_on.kind == "simulated",
        "task": cell.test_on.task,
    }


def _verifier_facts(confidences: FloatArray, test: Outcomes) -> dict[str, float | None]:
    """Of confidences in the first tier, undefined ones left out; None where they do not exist."""
    known = ~np.isnan(confidences)
    held, scores = confidences[known], test.scores[known]
    benefit = (scores[:, -1] - scores[:, 0]) / scale_of(test.scores)[1]
    found: dict[str, float | Undefined] = {
        "judged": float(known.mean()),
        "auroc": auroc(held.tolist(), are_right(test.scores)[known, 0].tolist()),
        "benefit_auroc": benefit_auroc(held, benefit),
        "benefit_correlation": benefit_correlation(held, benefit),
    }
    return {name: None if isinstance(v, Undefined) else v for name, v in found.items()}


def _family(name: str) -> str:
    """The letters a model's name begins with: llama of llama3.1-8b."""
    match = re.match(r"[a-zA-Z]+", name)
    return match.group().lower() if match else name


def _compared(rows: Sequence[CellScore]) -> list[CellScore]:
    """Each cell beside that of the reference router with the same labels, where there is one."""
    keys = [tuple((k, shown(v)) for k, v in r.labels.items() if k != "router") for r in rows]
    known = {k: r for k, r in zip(keys, rows, strict=True) if r.labels["router"] == REFERENCE}
    made = []
    for key, row in zip(keys, rows, strict=True):
        other = known.get(key)
        found = dict(row.figures)
        if other is not None and other is not row:
            found["over_pomdp"] = difference(row.figures["delta_ibc"], other.figures["delta_ibc"])
        made.append(CellScore(row.labels, found, row.facts))
    return made


def _words(cell: _Cell) -> str:
    given = cell.labels()
    defaults = {k: v for k, v in AXES.items() if k not in ("router", "tiers", "test")}
    rest = [f"{k}={shown(v)}" for k, v in given.items() if k in defaults and v != defaults[k]]
    same = given["test"] == given["source"]
    place = given["source"] if same else f"{given['source']} on {given['test']}"
    return ", ".join([place, given["tiers"], given["router"], *rest])
