"""The files of a run: records, policies and manifest, written as soon as there is something."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from automix_eval import __version__
from automix_eval.cascade import budget as budgets
from automix_eval.cascade import failures as failed
from automix_eval.cascade.budget import Budget
from automix_eval.cascade.failures import Failure, Failures, TooManyFailedError
from automix_eval.cascade.tier import Tier
from automix_eval.harness.corpus import sentence as corpus_sentence
from automix_eval.harness.ranks import Ranks
from automix_eval.harness.run_warnings import PromptLosses
from automix_eval.records import policies as policy
from automix_eval.records import schema as records
from automix_eval.records.append import CHUNK, RecordFile, explained
from automix_eval.safety import files
from automix_eval.safety.files import safe_name
from automix_eval.types import Phase, Record

log = logging.getLogger(__name__)

PHASES: tuple[Phase, ...] = ("calibration", "evaluation")


@dataclass(frozen=True)
class Found:
    """What one process of a run found, but for its records."""

    lines: int
    tasks: dict[str, dict[str, Any]]
    losses: dict[tuple[str, Phase], PromptLosses]
    warnings: list[dict[str, str]]
    calls: list[dict[str, Any]]
    budget: Mapping[str, Any]
    failed: list[Failure]
    unscored: list[Failure]


class RunLog:
    """Keeps what a run found and writes it next to the harness's own output.

    Records are written and forgotten. The first process writes into the run's folder, the others
    into temporary files, which :meth:`merge` brings together.

    Args:
        run_id: Names the run's files.
        tiers: The chain, for its labels and call counts.
        about: What the manifest says of the run's configuration.
        ranks: The processes of the run; the first one writes.
        budget: What this process may spend.
        failures: The questions of this process that failed.
    """

    def __init__(
        self,
        run_id: str,
        tiers: Sequence[Tier],
        about: Mapping[str, Any],
        ranks: Ranks,
        budget: Budget,
        failures: Failures,
    ) -> None:
        self.run_id = run_id
        self.folder = Path()
        self.warnings: list[dict[str, str]] = []
        self._tiers = tiers
        self._about = about
        self._ranks = ranks
        self._alone = ranks.number == 1
        self._writes = ranks.index == 0
        self._file = RecordFile(keyed=not self._alone)
        self._tasks: dict[str, dict[str, Any]] = {}
        self._losses: dict[tuple[str, Phase], PromptLosses] = {}
        self._unfinished: dict[str, dict[str, int]] = {}
        self._now: Sequence[str] = ()
        self._policies: dict[str, str] = {}
        self._elsewhere: list[dict[str, Any]] = []
        self._budget = budget
        self._failures = failures
        self._everywhere: list[Failure] | None = None
        self._unscored: list[Failure] = []
        self._spent: Mapping[str, Any] = {}

    def write_into(self, folder: Path) -> None:
        """Have the run's files in a folder, which is tried before the first call is paid.

        Raises:
            AutoMixError: Nothing can be written there.
        """
        self.folder = folder
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()

    def file(self, stem: str, suffix: str) -> Path:
        """Path of one of the run's files."""
        return self.folder / f"automix_{stem}_{self.run_id}.{suffix}"

    def where_records_are(self) -> str:
        """The file of the records in words, or that no question was finished."""
        path = self.file("records", "jsonl")
        return f"records: {path}" if path.is_file() else "no question was finished yet"

    # ----------------------------------------------------------------- records

    def expect(self, planned: Mapping[str, int], now: Sequence[str]) -> None:
        """Say what is to come, so that a run that is killed is not taken for a whole one.

        Args:
            planned: Questions of each task of the evaluation, all processes together.
            now: The tasks about to be answered; one that was answered before begins anew.
        """
        self._now = now
        self._everywhere = None
        for task, number in planned.items():
            if task in now and task in self._tasks:
                self._tasks[task]["num_questions"] = 0
            if task in now or task not in self._tasks:
                self._unfinished[task] = {"questions": 0, "of": number}

    def add(self, task: str, said: Mapping[str, Any], rows: Sequence[Record]) -> None:
        """Write records of one phase of a task; more may follow.

        Args:
            task: The task's name.
            said: What the manifest says of it: main metric, filter, direction, whether it is a
                sample.
            rows: Records of one phase, at least one.
        """
        phase = rows[0].phase
        about = self._tasks.setdefault(task, {"num_questions": 0})
        about.update(said)
        if phase == "evaluation":
            about["num_questions"] += len(rows)
            if task in self._unfinished:
                self._unfinished[task]["questions"] = about["num_questions"]
        if not self._writes and phase == "calibration":
            return  # every process has the same, and the first one writes it
        losses = self._losses.setdefault((task, phase), PromptLosses(len(self._tiers)))
        losses.take(rows)
        losses.take_events(task, phase, self._tiers)
        if self._writes:
            self._file.place(self.file("records", "jsonl"))
        self._file.append(rows)
        self._write()

    def note(self, task: str, phase: Phase) -> None:
        """Say what the questions of a phase lost; several processes say it when they meet."""
        if self._alone and (losses := self._losses.pop((task, phase), None)):
            self._say(task, phase, losses, self._failures.found, self._failures.unscored)
            self._write()

    def finish(self, task: str) -> None:
        """A task is answered to its last question; several processes wait for :meth:`merge`."""
        if self._alone:
            self._unfinished.pop(task, None)
            self.note(task, "evaluation")
            self._write()

    def found(self) -> Found:
        """What this process found, for the one that writes."""
        mine = None if self._writes else self._file.keys
        return Found(
            len(mine or ()), self._tasks, self._losses, self.warnings, self._calls(),
            self._budget.summary(), self._failures.found, self._failures.unscored,
        )  # fmt: skip

    def save(self) -> None:
        """Write what is known, be it that no question was finished."""
        if self._writes:
            self._file.place(self.file("records", "jsonl"))
            self._write()

    def merge(self) -> None:
        """Bring together what several processes found; each of them takes part.

        Raises:
            TooManyFailedError: Together they lost more questions than the run tolerates.
        """
        if self._alone:
            return
        parts = self._ranks.gather(self.found())
        chunks = iter(()) if self._writes else self._file.chunks()
        if self._writes:
            self._file.place(self.file("records", "jsonl"))
        for _ in range(0, max(p.lines for p in parts), CHUNK):
            for lines in self._ranks.gather(next(chunks, None)):
                if self._writes and lines is not None:
                    self._file.take(lines)
        problem = None
        try:
            self._failures.check(f for p in parts for f in p.failed)
        except TooManyFailedError as err:
            problem = err
        for task in self._now if problem is None else ():
            self._unfinished.pop(task, None)
        if self._writes:
            self._take(parts)
        else:
            self._file.clear()
        if problem is not None:
            raise problem

    def _take(self, parts: Sequence[Found]) -> None:
        """Sums over the processes, and their records in one order."""
        losses: dict[tuple[str, Phase], PromptLosses] = {}
        for part in parts:
            for task, about in part.tasks.items():
                self._tasks.setdefault(task, about)
            for key, found in part.losses.items():
                losses.setdefault(key, PromptLosses(len(self._tiers))).absorb(found)
            self.warnings += [w for w in part.warnings if w not in self.warnings]
        self._everywhere = sorted({f for part in parts for f in part.failed})
        self._unscored = sorted({f for part in parts for f in part.unscored})
        counts = self._file.reorder()
        for task, about in self._tasks.items():
            about["num_questions"] = counts.get(task, 0)
        for task in self._tasks:
            for phase in PHASES:
                if (task, phase) in losses:
                    found = losses[task, phase]
                    self._say(task, phase, found, self._everywhere, self._unscored)
        self._elsewhere = _total([p.calls for p in parts])
        self._spent = budgets.total([p.budget for p in parts])
        self._write()

    def _say(
        self,
        task: str,
        phase: Phase,
        losses: PromptLosses,
        lost: Sequence[Failure],
        unscored: Sequence[Failure],
    ) -> None:
        """Warn of what a phase of a task lost; other phases and tasks are passed over."""
        all_wanted = self._about.get("record") == "full" and self._budget.is_limited
        said = list(losses.notes(task, phase, self._tiers, all_wanted))
        here = [
            [f for f in some if (f.task, f.phase) == (task, phase)] for some in (lost, unscored)
        ]
        said += [failed.note(here[0], losses.questions)] if here[0] else []
        for text in filter(None, [*said, failed.note_unscored(here[1])]):
            self.warn(task, text)

    def _write(self) -> None:
        if self._writes:
            path = self.file("run", "json")
            with explained(path):
                files.write_json(path, self.manifest())

    # ----------------------------------------------------------------- the rest

    def add_policy(self, task: str, fitted: Mapping[str, Any]) -> None:
        """Write a policy fitted in this run."""
        path = self.file(f"policy_{safe_name(task)}", "json")
        if self._writes:
            with explained(path):
                policy.save(path, fitted)
        log.info("%s: policy written to %s", task, path)
        self._policies[task] = path.name

    def corpus(self, task: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
        """Note the metrics of all questions together, each by tier and for the routed answers."""
        if figures and task in self._tasks:
            self._tasks[task]["corpus"] = dict(figures)
            for metric, found in figures.items():
                self.warn(task, corpus_sentence(metric, found))
            self._write()

    def use_policy(self, task: str, path: str) -> None:
        """Note that a task was routed by a policy fitted elsewhere."""
        self._policies[task] = path

    def warn(self, task: str, text: str, said: bool = False) -> None:
        """Say something in the manifest, once, and in the log unless an error is to say it."""
        entry = {"task": task, "text": text}
        if entry not in self.warnings:
            if not said:
                log.warning("%s: %s", task, text)
            self.warnings.append(entry)

    def summary(self) -> dict[str, Any]:
        """What goes into the harness's own results."""
        return {
            "run_id": self.run_id,
            "automix_eval_version": __version__,
            "records": self.file("records", "jsonl").name,
            "calls": self._elsewhere or self._calls(),
            "budget": dict(self._spent or self._budget.summary()),
            "warnings": self.warnings,
        }

    def manifest(self) -> dict[str, Any]:
        """What the report reads first."""
        return {
            "format": records.FORMAT,
            "version": records.VERSION,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **self._about,
            **self.summary(),
            "tiers": [
                {
                    "index": t.tier,
                    "name": t.name,
                    "label": t.backend.label,
                    "varies": t.backend.varies,
                    "unshared": getattr(t.backend, "unshared", ""),
                }
                for t in self._tiers
            ],
            "tasks": self._tasks,
            "policies": self._policies,
            **self._failed(),
            **self._partial(),
        }

    def _failed(self) -> dict[str, Any]:
        """Questions without a record: a call failed for good, or the task gave no score."""
        found = self._failures.found if self._everywhere is None else self._everywhere
        unscored = self._unscored or self._failures.unscored
        named = {f.question: f for f in sorted([*unscored, *found])}  # one entry a question
        return {"failed": list(map(asdict, named.values()))} if named else {}

    def _partial(self) -> dict[str, Any]:
        """What a manifest says while the run goes on, and for good if it is killed."""
        if not self._unfinished:
            return {}
        return {"unfinished": self._unfinished, "records_bytes": self._file.size}

    def _calls(self) -> list[dict[str, Any]]:
        """Counts of calls, and of their events: retries, cut answers, filters, missing usage."""
        return [
            {
                "task": task,
                "phase": phase,
                "tier": tier.tier,
                "role": role,
                "made": tier.counts.made[phase, task, role],
                "stored": tier.counts.stored[phase, task, role],
                "events": tier.counts.events_of(phase, task, role),
            }
            for tier in self._tiers
            for phase, task, role in sorted({*tier.counts.made, *tier.counts.stored})
        ]


def _total(parts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Counts of calls, summed over processes."""
    counts: dict[tuple[Any, ...], dict[str, Any]] = {}
    names = ("tier", "phase", "task", "role")
    for row in (row for part in parts for row in part):
        key = tuple(row[n] for n in names)
        total = counts.setdefault(key, {**row, "made": 0, "stored": 0, "events": {}})
        total["made"] += row["made"]
        total["stored"] += row["stored"]
        for kind, number in row["events"].items():
            total["events"][kind] = total["events"].get(kind, 0) + number
    return [counts[key] for key in sorted(counts)]
