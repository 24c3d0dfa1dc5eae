"""A router has one number: in a report, in a replay and in a cell of an experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builder import PAPER, Row, build_run, record

from automix_eval.analysis.experiments.preset import Part, Preset
from automix_eval.analysis.experiments.sources import open_all
from automix_eval.analysis.experiments.study import study
from automix_eval.analysis.figures import MethodFigures
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.analysis.method import MethodScore
from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.metrics.ibc import Undefined

RESAMPLES = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with record=full: eight votes, some unusable, four questions a document."""
    rng = np.random.default_rng(4)
    made = []
    for i in range(80):
        votes = int(rng.integers(0, 9)) / 8
        slm, llm = float(rng.random() < 0.1 + 0.7 * votes), float(rng.random() < 0.85)
        row: Row = (slm, llm, None if i % 17 == 3 else votes, votes <= 0.5)
        phase: Any = "calibration" if i % 2 else "evaluation"
        one = record(i, row, full=True, document=f"d{i // 8}")
        made.append(replace(one, phase=phase, question=f"question {i}?"))
    folder = tmp_path_factory.mktemp("run")
    build_run(folder, records=made, config={"cost": PAPER})
    return folder


def spec_of(name: str, values: dict[str, Any]) -> str:
    """A router with hyper-parameters, as ``--baseline`` takes it."""
    return ":".join([name, ",".join(f"{k}={v}" for k, v in values.items())]).removesuffix(":")


@lru_cache(maxsize=1)
def reported(run: Path, specs: tuple[str, ...]) -> dict[str, MethodFigures]:
    """The rows of ``automix-eval report`` with these routers as ``--baseline``, by name."""
    (board,) = assemble([run], Settings(baselines=specs, resamples=RESAMPLES)).report.boards
    return {m.name: m for m in board.methods}


def replayed(run: Path, name: str, values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What ``automix-eval replay records=...`` writes."""
    given = [f"meta_verifier.{key}={value}" for key, value in values.items()]
    output = folder / "out.json"
    args = ["replay", f"records={run}", f"meta_verifier={name}", *given]
    assert main([*args, f"resamples={RESAMPLES}", f"output={output}"]) == 0
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def studied(
    run: Path, name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], MethodFigures]:
    """A cell of an experiment: what its table shows, and all figures of its router."""
    scores: list[MethodScore] = []
    engine = MethodScore.of_routers

    def whole(
        routers: Any, test: Any, seed: int, resamples: int, label: str, _: bool, fitting: Any
    ) -> Any:
        one = engine(routers, test, seed, resamples, label, whole_range=True, fitting=fitting)
        scores.append(one)
        return scores[-1]

    monkeypatch.setattr(MethodScore, "of_routers", whole)
    # the default of the other two; an experiment's is that of the papers
    axes: Any = {"router": ({"option": name, **values},), "objective": ("gain",)}
    part = Part("one", "one cell", axes, x="router")
    preset = Preset("one", "", (part,), records=(str(run),), resamples=RESAMPLES)
    sources, failures = open_all(preset, {})
    made = study(preset, part, sources, lambda _: None)
    assert not [*failures, *made.failures, *made.left_out]
    (cell,) = made.rows
    return {**{k: f.value for k, f in cell.figures.items()}, **cell.facts}, scores[0].figures()


def number(value: float | Undefined | None) -> float | None:
    """A figure as JSON has it."""
    return None if isinstance(value, Undefined) else value


@pytest.mark.parametrize("name", config.options("meta_verifier"))
def test_a_router_has_one_number(
    run: Path,
    name: str,
    fast_routers: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Quality, cost, delta IBC, cost at 95/99/100 %, area and oracle agree everywhere."""
    values = fast_routers.get(name, {})
    every = config.options("meta_verifier")
    rows = reported(run, tuple(spec_of(n, fast_routers.get(n, {})) for n in every))
    report, oracle = rows[f"replay:{spec_of(name, values)}"], rows["replay:oracle"]
    played = replayed(run, name, values, tmp_path)
    cell, figures = studied(run, name, values, monkeypatch)

    one = {
        "quality": number(report.quality.value),
        "cost": number(report.cost.value),
        "delta_ibc": number(report.delta_ibc.value),
        **{str(share): number(cost.value) for share, cost in report.cost_at},
        "apgr": number(report.apgr.value),
        **{f"cpt {share}": number(calls.value) for share, calls in report.cpt},
        "oracle": number(oracle.quality.value),
        "oracle cost": number(oracle.cost.value),
        "interval": report.quality.interval,
    }
    two = {
        "quality": played["performance"],
        "cost": played["cost"],
        "delta_ibc": played["delta_ibc"],
        **played["cost_at"],
        "apgr": played["apgr"],
        **{f"cpt {share}": calls for share, calls in played["cpt"].items()},
        "oracle": played["references"]["oracle"]["performance"],
        "oracle cost": played["references"]["oracle"]["cost"],
        "interval": tuple(played["intervals"]["performance"]),
    }
    three = {
        "quality": cell["quality"],
        "cost": cell["cost"],
        "delta_ibc": cell["delta_ibc"],
        **{str(share): number(cost.value) for share, cost in figures.cost_at},
        "apgr": number(figures.apgr.value),
        **{f"cpt {share}": number(calls.value) for share, calls in figures.cpt},
        "oracle": cell["oracle_quality"],
        "oracle cost": one["oracle cost"],
        "interval": figures.quality.interval,
    }
    assert one["quality"] is not None, report.quality
    assert number(figures.area.value) == pytest.approx(number(report.area.value))
    for key, value in one.items():
        for other in (two, three):
            assert other[key] == (value if value is None else pytest.approx(value, abs=1e-9)), key
