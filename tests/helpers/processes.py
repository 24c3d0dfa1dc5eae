"""Scripted runs in processes of their own, and what two runs must have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forks
from scripted import read_run

from automix_eval.records import schema as records
from automix_eval.types import Record

HERE = Path(__file__).parent


def launch(
    output: Path, processes: int, torchrun: bool = False, nodes: int = 1, **more: str
) -> subprocess.CompletedProcess[str]:
    """One run of run_scripted.py in some processes: forks, or as torchrun starts them."""
    output.mkdir()
    command = [sys.executable, str(HERE / "run_scripted.py"), str(output)]
    if not torchrun:
        command += [str(processes), str(nodes)] if processes > 1 else []
        return forks.run(command[1:], environment() | more, HERE, timeout=300)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command[1:1] = start
    return subprocess.run(
        command, cwd=HERE, env=environment() | more, capture_output=True, text=True, timeout=300
    )


def environment() -> dict[str, str]:
    """Of a process on the CPU that finds the helpers and this checkout."""
    own = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path()}
    return dict(os.environ) | own


def python_path() -> str:
    """Helpers and checkout before what was asked for."""
    return os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])


def bare(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What two runs must have in common: scores, and records without their times."""
    manifest, rows = read_run(folder)
    (results,) = folder.rglob("results_*.json")
    scores = json.loads(results.read_text())["results"]
    plain = [records.to_json(r) for r in rows]
    text = json.dumps(plain)
    assert '"seconds"' in text
    for row in plain:
        for tier in row["tiers"]:
            calls = tier["answer"]["calls"] + (tier["verification"] or {"calls": ()})["calls"]
            for call in calls:
                call["seconds"] = None
                call.pop("latency", None)
    counts = {
        (c["tier"], c["phase"], c["task"], c["role"]): c["made"] + c["stored"]
        for c in manifest["calls"]
    }
    # of a phase of its own a process hears when the others have answered too
    warnings = sorted(manifest["warnings"], key=lambda w: (w["task"], w["text"]))
    return {"scores": scores, "counts": counts, "warnings": warnings}, plain


def timeless(rows: list[Record]) -> str:
    """Records as JSON, without what their calls took."""
    plain = json.loads(json.dumps([records.to_json(r) for r in rows]))
    for row in plain:
        for tier in row["tiers"]:
            for part in (tier["answer"], tier["verification"]):
                for call in part["calls"] if part else ():
                    call["seconds"] = None
                    call.pop("latency", None)
    return json.dumps(plain)
