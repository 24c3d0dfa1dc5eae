"""Of jobs that share calls the first goes ahead; a failed one hands over, and strangers run on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from automix_eval.commands.sweep.locks import FOLDER, first_alone, forget

PAIR = {"slm": {"name": "hf"}, "llm": {"name": "hf"}, "seed": 0}


def settings(task: str = "t", **cascade: Any) -> dict[str, Any]:
    """A job's configuration."""
    return {"cascade": {**PAIR, **cascade}, "harness": {"tasks": [task]}}


class Job(threading.Thread):
    """A job that says when it has begun and ends when it is told to."""

    def __init__(self, root: Path, given: dict[str, Any], fails: bool = False) -> None:
        super().__init__(daemon=True)
        self.root, self.given, self.fails = root, given, fails
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        """Take the turn, and leave it as a job does."""
        try:
            with first_alone(self.root, "sweep", self.given):
                self.begun.set()
                assert self.may_end.wait(30)
                if self.fails:
                    raise OSError("the job failed")
        except OSError:
            pass

    def end(self) -> None:
        """Let it end."""
        self.may_end.set()
        self.join(30)


def waits(job: Job) -> bool:
    """Whether a job has not begun a while after it could have."""
    return not job.begun.wait(0.4)


def test_the_others_wait_for_the_first_and_then_run_together(tmp_path: Path) -> None:
    """Routers and verifiers differ, the models and questions do not."""
    first = Job(tmp_path, settings(meta_verifier={"name": "pomdp"}))
    assert first.begun.wait(30)
    others = [Job(tmp_path, settings(verifier={"num_samples": k})) for k in (2, 4)]
    assert all(waits(job) for job in others)
    first.end()
    assert all(job.begun.wait(30) for job in others)
    for job in others:
        job.end()


@pytest.mark.parametrize("other", [settings("another task"), settings(seed=1)])
def test_jobs_that_share_nothing_do_not_wait(other: dict[str, Any], tmp_path: Path) -> None:
    """Another task or seed has calls of its own."""
    first = Job(tmp_path, settings())
    assert first.begun.wait(30)
    second = Job(tmp_path, other)
    assert second.begun.wait(30)
    for job in (first, second):
        job.end()


def test_a_first_job_that_fails_hands_over(tmp_path: Path) -> None:
    """The next one goes ahead, and the third still waits for it."""
    first = Job(tmp_path, settings(), fails=True)
    assert first.begun.wait(30)
    rest = [Job(tmp_path, settings()) for _ in range(2)]
    assert all(waits(job) for job in rest)
    first.end()
    for _ in range(100):
        going = [job for job in rest if job.begun.wait(0.1)]
        if going:
            break
    assert len(going) == 1
    (second,) = going
    (third,) = [job for job in rest if job is not second]
    assert waits(third)
    second.end()
    assert third.begun.wait(30)
    third.end()
    forget(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_without_locks_jobs_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file system that cannot lock costs repeated calls, no sweep."""
    refuses: Callable[..., None] = lambda *_, **__: (_ for _ in ()).throw(  # noqa: E731
        NotImplementedError("no flock here")
    )
    monkeypatch.setattr(FileLock, "acquire", refuses)
    with first_alone(tmp_path, "sweep", settings()):
        pass
    assert "may ask them twice" in caplog.text
