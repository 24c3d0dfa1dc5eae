"""Ctrl-C at a real lm_eval process: a clean stop, partial results, and a run that resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import forks
import pytest
from kill_series import same_text
from loopback import CONCURRENT, Server, cascade_of, serving
from processes import python_path
from scripted import gold_answers, knows

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.harness.evaluate import evaluate
from automix_eval.records.schema import MANIFEST_GLOB, read_manifest
from automix_eval.report import output
from automix_eval.safety.errors import SAID

TASK = "coqa_demo"
PATIENCE = 120


def ended(
    args: dict[str, Any], folder: Path, server: Server, after: int = 0, gaps: Sequence[float] = (),
    start: Callable[..., Any] = forks.start,
) -> tuple[int, str]:  # fmt: skip
    """Exit status and stderr of lm_eval.

    Args:
        args: Of the cascade.
        folder: Its output.
        server: Its models.
        after: Requests of this process after which it is interrupted.
        gaps: Seconds before each interrupt.
        start: Starts the process.
    """
    command = ["lm_eval", "--model", "automix", "--tasks", TASK]
    command += ["--limit", "16", "--output_path", str(folder), "--log_samples"]
    command += ["--model_args", ",".join(f"{k}={v}" for k, v in args.items())]
    env = {**os.environ, "PYTHONPATH": python_path()}
    before = server.asked.total()
    server.more.clear()
    server.most = before + after if gaps else float("inf")  # it does not end before its interrupt
    with TemporaryFile("w+") as said:
        with Path(os.devnull).open("r+b") as null:
            process = start(command, env, folder.parent, (null, null, said))
        deadline = time.monotonic() + PATIENCE
        while gaps and server.asked.total() < before + after and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for gap in gaps:
            time.sleep(gap)
            process.send_signal(signal.SIGINT)
        server.more.set()
        status = process.wait(PATIENCE)
        said.seek(0)
        return status, said.read()


def as_a_user(
    command: list[str], env: dict[str, str], cwd: Path, streams: Sequence[Any]
) -> subprocess.Popen[bytes]:
    """The command in an interpreter of its own."""
    read, out, err = streams
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=env, cwd=cwd, stdin=read, stdout=out, stderr=err,
        preexec_fn=_heeds_interrupts,
    )  # fmt: skip


def _heeds_interrupts() -> None:
    """A shell's background jobs ignore SIGINT, and so does what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def report(paths: Sequence[Path]) -> str:
    """The report in words, without what differs by nature and the names of other attempts."""
    found = assemble(paths, Settings(resamples=200))
    kept = same_text(output.render(found, "text"))
    return kept.partition("\nWarnings\n")[0]


@pytest.mark.slow
def test_an_interrupted_command_stops_cleanly_and_resumes(tmp_path: Path) -> None:
    """Once, then twice in a row during the clean-up; the third start ends the run."""
    answers = gold_answers(TASK)
    folder = tmp_path / "out"
    with serving(knows(answers, 0.4), knows(answers, 0.9)) as server:
        args = {**cascade_of(server), "model": "stopped", "store.path": str(tmp_path / "s.sqlite")}
        # 32 calls of the calibration, 64 of the evaluation, in two blocks
        status, said = ended(args, folder, server, after=75, gaps=[0], start=as_a_user)
        assert status == -signal.SIGINT
        assert "Traceback" not in said
        assert said.rstrip().endswith(SAID)
        (manifest,) = folder.rglob(MANIFEST_GLOB)
        assert f"resumes; records: {manifest.parent}" in said.replace("\n", "")
        finished = read_manifest(manifest)["unfinished"][TASK]["questions"]
        assert 0 < finished < 16
        assert f"PARTIAL: the run answered {finished} of 16" in report([folder])

        status, _ = ended(args, folder, server, after=3, gaps=[0, 0.02])
        assert status == -signal.SIGINT
        status, said = ended(args, folder, server)
        assert status == 0, said[-2000:]
        repeats = sum(n - 1 for n in server.asked.values())
        assert repeats <= 2 * CONCURRENT
        whole = args | {"store.path": str(tmp_path / "whole.sqlite")}
        undisturbed = evaluate(whole, [TASK], tmp_path / "whole", limit=16, bootstrap_iters=0)
        assert report([folder]) == report([undisturbed])
