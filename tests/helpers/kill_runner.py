"""Runs of the cascade that are killed: python kill_runner.py SETTINGS.json, commands on stdin.

One process imports everything and starts no thread; every run is a fork of it, so that a run costs
no imports. A command is a JSON line: ``output`` and ``store`` of the run, and ``aim``: null, so
that it may end, or ``[phase, entry, delay]``, to be killed ``delay`` seconds after it entered a
phase for the ``entry``-th time. The answer is a JSON line: ``status`` as of waitpid, ``phase`` in
which it ended, and for each phase its ``entries`` and ``seconds``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import frozen
import lm_eval  # noqa: F401
import statsmodels.stats.power  # noqa: F401  takes a second, and every fork would
import torch
from kill_phases import Marks, mark

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.backends.hf import backend as hf  # noqa: F401
from automix_eval.config.compose import build
from automix_eval.harness import model  # noqa: F401
from automix_eval.harness.evaluate import evaluate, task_manager
from automix_eval.report.output import write_folder

FORMATS = ("text", "csv", "json")


def copied(folder: Path, since: int, to: Path) -> Path:
    """The files a run wrote since a moment, alone: a killed run before it may have left its own."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file() and file.stat().st_mtime_ns >= since:
            shutil.copy(file, to)
    return to


def run(settings: dict[str, Any], output: Path, store: str, marks: Marks) -> None:
    """One evaluation and its report."""
    start = time.time_ns() - 10_000_000  # a file system's clock may lag by a tick
    evaluate(
        {**settings["model_args"], "store.path": store},
        settings["tasks"],
        output,
        limit=settings["limit"],
        bootstrap_iters=0,
        **settings.get("options", {}),
    )
    marks.enter("report")
    alone = copied(output / settings["model_args"]["model"], start, output / "last")
    found = assemble([alone], Settings(resamples=settings["resamples"]))
    write_folder(found, output / "report", FORMATS)


def child(settings: dict[str, Any], command: dict[str, Any], marks: Marks) -> None:
    """The forked process: its output goes to a file, and it ends without the parent's exits."""
    output = Path(command["output"])
    output.mkdir(parents=True, exist_ok=True)
    log = os.open(output / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        run(settings, output, command["store"], marks)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def watch(pid: int, marks: Marks, aim: list[Any] | None) -> tuple[int, Counter[str]]:
    """Status of a run, killed when its moment has come, and the seconds of its phases."""
    seconds: Counter[str] = Counter()
    last, moment = time.monotonic(), None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        now = time.monotonic()
        seconds[marks.phase] += now - last
        last = now
        if ended:
            return status, seconds
        if moment is None and aim and marks.entries()[aim[0]] >= aim[1]:
            moment = now + aim[2]
        if moment is not None and now >= moment:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], seconds
        time.sleep(0.002)


def main() -> None:
    """Serve commands until stdin ends."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    task_manager(tasks=settings["tasks"])
    build(settings["model_args"])  # which is kept
    marks = Marks()
    mark(marks)
    frozen.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        marks.reset()
        pid = os.fork()
        if pid == 0:
            child(settings, command, marks)
        status, seconds = watch(pid, marks, command["aim"])
        answer = {"phase": marks.phase, "entries": marks.entries(), "seconds": seconds}
        print(json.dumps({"status": status, **answer}), flush=True)


if __name__ == "__main__":
    main()
