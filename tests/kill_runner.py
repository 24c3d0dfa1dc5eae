"""Runs of the cascade that are killed: python kill_runner.py SETTINGS.json, commands on stdin.

One process imports everything and starts no thread; every run is a fork of it, so that a run costs
no imports. A command is a JSON line: ``output`` and ``store`` of the run, and ``kill_after``
seconds (null: it may end). The answer is a JSON line: ``status`` as of waitpid, and ``seconds``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import lm_eval  # noqa: F401
import torch

from automix_eval import model  # noqa: F401
from automix_eval.backends import api, hf  # noqa: F401
from automix_eval.evaluation import evaluate, task_manager
from automix_eval.report.assemble import Settings, assemble
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


def run(settings: dict[str, Any], output: Path, store: str) -> None:
    """One evaluation and its report."""
    start = time.time_ns() - 10_000_000  # a file system's clock may lag by a tick
    evaluate(
        {**settings["model_args"], "store.path": store},
        settings["tasks"],
        output,
        limit=settings["limit"],
        bootstrap_iters=0,
    )
    alone = copied(output / settings["model_args"]["model"], start, output / "last")
    found = assemble([alone], Settings(resamples=settings["resamples"]))
    write_folder(found, output / "report", FORMATS)


def child(settings: dict[str, Any], command: dict[str, Any]) -> None:
    """The forked process: its output goes to a file, and it ends without the parent's exits."""
    output = Path(command["output"])
    output.mkdir(parents=True, exist_ok=True)
    log = os.open(output / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        run(settings, output, command["store"])
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def watch(pid: int, kill_after: float | None) -> tuple[int, float]:
    """Status and seconds of a run, killed when its time has come."""
    start = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - start
        if ended:
            return status, seconds
        if kill_after is not None and seconds >= kill_after:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], seconds
        time.sleep(0.001)


def main() -> None:
    """Serve commands until stdin ends."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    task_manager()
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(settings, command)
        status, seconds = watch(pid, command["kill_after"])
        print(json.dumps({"status": status, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
