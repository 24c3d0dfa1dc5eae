"""What the release before the rooms left on disk still loads, reports and resumes.

``tests/data/before_rooms`` was written by commit 27c4fcc: six questions of the embedded sample of
CoQA, two scripted models, ``record=full``, a threshold. In ``whole`` the run came to its end; in
``stopped`` the LLM went away, and ``calls.sqlite`` is the call store that it left.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import timeless
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.commands.main import main
from automix_eval.config import parts
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records import policies
from automix_eval.types import Record

BEFORE = Path(__file__).parents[1] / "data" / "before_rooms"
STORED = 39  # finished calls in the store of the stopped run


def arguments(store: Path, **more: Any) -> dict[str, Any]:
    """The command of that run."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    given = {"calibration.num_docs": 6, "calibration.min_docs": 4, "record": "full",
             "meta_verifier": "threshold", "objective": "ibc",
             "block_size": 2, "store.path": str(store)}  # fmt: skip
    return scripted_args(**{**given, **more})


def unscored(rows: list[Record]) -> str:
    """Records without seconds and scores: CoQA has been scored by its own script since."""
    bare = [[replace(t, score=None, metrics={}) for t in row.tiers] for row in rows]
    return timeless([replace(r, tiers=tuple(t)) for r, t in zip(rows, bare, strict=True)])


def test_its_report_has_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Quality, cost, delta IBC and costs of shares, as that release computed them."""
    assert main(["report", str(BEFORE / "whole"), "--format", "json", "--resamples", "50"]) == 0
    report = json.loads(capsys.readouterr().out)
    methods = {m["name"]: m for m in report["boards"][0]["methods"]}
    found = {
        name: [methods[name][f]["value"] for f in ("quality", "cost", "delta_ibc")]
        for name in ("threshold", "replay:always_slm", "replay:always_llm", "replay:oracle")
    }
    assert found["threshold"] == pytest.approx([1.0, 27.0, 0.8846153846153848])
    assert found["replay:always_slm"] == [0.5, 1.0, None]
    assert found["replay:always_llm"] == [1.0, 50.0, 0.0]
    assert found["replay:oracle"] == pytest.approx([1.0, 25.5, 1.0])
    shares = [figure["value"] for _, figure in methods["threshold"]["cost_at"]]
    assert shares == pytest.approx([24.4, 26.48, 27.0])


def test_its_policy_loads(tmp_path: Path) -> None:
    """As data and as a router, and a run with it fits nothing and decides alike."""
    (file,) = (BEFORE / "whole").rglob("automix_policy_*.json")
    router = parts.restore(policies.load(file))
    assert isinstance(router, Threshold)
    given = arguments(tmp_path / "calls.sqlite", **{"meta_verifier.policy": str(file)})
    run_harness(["coqa_demo"], given, tmp_path / "out", limit=6)
    _, rows = read_run(tmp_path / "out")
    _, before = read_run(BEFORE / "whole")
    assert unscored(rows) == unscored([r for r in before if r.phase == "evaluation"])


def test_a_run_that_it_began_is_resumed(tmp_path: Path) -> None:
    """No stored call is made again, and the records are those of its whole run."""
    store = tmp_path / "calls.sqlite"
    shutil.copyfile(BEFORE / "stopped" / "calls.sqlite", store)
    run_harness(["coqa_demo"], arguments(store), tmp_path / "resumed", limit=6)
    resumed = len(CALLS)
    CALLS.clear()
    run_harness(["coqa_demo"], arguments(tmp_path / "new.sqlite"), tmp_path / "new", limit=6)
    assert resumed == len(CALLS) - STORED > 0
    _, before = read_run(BEFORE / "whole")
    for name in ("resumed", "new"):
        assert unscored(read_run(tmp_path / name)[1]) == unscored(before)


def test_a_stopped_run_is_left_out_for_the_whole_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Both together are one run, as that release counted them."""
    assert main(["report", str(BEFORE), "--format", "json", "--resamples", "50"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["tasks"]) == 1
    assert any("left out" in text for text in report["warnings"])
