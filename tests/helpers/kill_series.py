"""A series of runs that are killed and resumed, and what was seen of it."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forks
from kill_phases import PHASES
from processes import environment

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.runs import PARTIAL
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.report.json_report import render_json
from automix_eval.safety.errors import AutoMixError

REPORTS = ("report.txt", "report.csv", "report.json")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How a run ended: ``status`` 0 whole, 9 killed; see kill_runner.py."""

    status: int
    phase: str
    entries: dict[str, int]
    seconds: dict[str, float]


class Runner:
    """The process that forks runs, see kill_runner.py."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        asked, ask = os.pipe()
        answers, answer = os.pipe()
        command = [str(HERE / "kill_runner.py"), str(file)]
        self._process = forks.start(command, environment(), folder, (asked, answer, 2))
        os.close(asked)
        os.close(answer)
        self._asks, self._answers = os.fdopen(ask, "w"), os.fdopen(answers)

    def run(self, output: Path, store: Path, aim: list[Any] | None = None) -> Ended:
        """One run, killed at the moment that is aimed at."""
        command = {"output": str(output), "store": str(store), "aim": aim}
        print(json.dumps(command), file=self._asks, flush=True)
        ended = Ended(**json.loads(self._answers.readline()))
        assert ended.status in ((0,) if aim is None else (0, 9)), log_of(output)[-3000:]
        return ended

    def close(self) -> None:
        """End the process."""
        self._asks.close()
        self._process.wait()
        self._answers.close()


@dataclass
class Seen:
    """What a series has shown.

    Attributes:
        kills: By the phase in which they hit.
        partial: Kills that left a run that says it is partial, likewise.
        resumes: Runs that were killed and then ended, by the phase of their last kill.
        identical: Of them, those that passed every comparison with the undisturbed run.
        repeats: Calls that a resumed run repeated, one a resume, by the phase of its last kill;
            of models that do not count, nothing.
        beside: Runs of killed processes that a report on a whole folder showed apart.
    """

    kills: Counter[str] = field(default_factory=Counter)
    partial: Counter[str] = field(default_factory=Counter)
    resumes: Counter[str] = field(default_factory=Counter)
    identical: Counter[str] = field(default_factory=Counter)
    repeats: dict[str, list[int]] = field(default_factory=dict)
    beside: int = 0

    def table(self) -> str:
        """One line a phase, and their sum."""
        head = ("killed in", "kills", "partial", "resumed", "identical", "repeats", "at most")
        rows = [head]
        for phase in PHASES:
            rows.append(self._row(phase, [phase]))
        rows.append(self._row("total", list(PHASES)))
        lines = ["  ".join(c.ljust(13) if i == 0 else c.rjust(9) for i, c in enumerate(r))
                 for r in rows]  # fmt: skip
        return "\n".join([*lines, f"runs of killed processes shown apart: {self.beside}"])

    def _row(self, name: str, phases: list[str]) -> tuple[str, ...]:
        repeats = [n for p in phases for n in self.repeats.get(p, [])]
        counters = (self.kills, self.partial, self.resumes, self.identical)
        counts = [str(sum(c[p] for p in phases)) for c in counters]
        shown = [str(sum(repeats)), str(max(repeats))] if repeats else ["-", "-"]
        return (name, *counts, *shown)


class Series:
    """Kills runs in every phase in turn, at random moments of it, and resumes them.

    Args:
        runner: Runs.
        folder: For the files of all runs.
        asked: The counter of a server's requests; None where the models do not count.
        in_flight: Calls that may be under way at once.
    """

    def __init__(
        self, runner: Runner, folder: Path, asked: Counter[str] | None, in_flight: int
    ) -> None:
        self._runner, self._folder = runner, folder
        self._asked, self._in_flight = asked, in_flight
        self._draw = random.Random(7)
        self.seen = Seen()
        runner.run(folder / "warm", folder / "warm.sqlite")
        self._forget()
        self._whole = runner.run(folder / "whole", folder / "whole.sqlite")
        self.reports = reports_of(folder / "whole")
        self._once = set(asked or ())
        self._calls = rows_of(folder / "whole.sqlite")
        assert asked is None or set(asked.values()) == {1}
        assert asked is None or len(asked) == self._calls

    def go(self, kills: int, phases: tuple[str, ...] = PHASES) -> None:
        """Kill until there are enough kills and each phase was hit; a miss is tried again."""
        for number in range(3 * kills + 20):
            if self.seen.kills.total() >= kills and all(self.seen.kills[p] for p in phases):
                return
            self._one(number, phases[number % len(phases)])
            if number % 25 == 24:  # a long series may be stopped
                print(f"\n{self.seen.table()}", flush=True)
        raise AssertionError(f"kills miss:\n{self.seen.table()}")

    def _aim(self, phase: str) -> list[Any]:
        """A moment of a phase, by what the undisturbed run showed."""
        entries = self._whole.entries[phase]
        length = self._whole.seconds[phase] / entries
        return [phase, self._draw.randint(1, entries), self._draw.uniform(0, length)]

    def _one(self, number: int, phase: str) -> None:
        """One run that is killed once or twice, and resumed to its end."""
        output, store = self._folder / f"out{number}", self._folder / f"{number}.sqlite"
        self._forget()
        hit = []
        for _ in range(self._draw.choice((1, 1, 1, 2))):
            ended = self._runner.run(output, store, self._aim(phase))
            if ended.status == 9:
                hit.append(ended.phase)
                self.seen.partial[ended.phase] += check_partial(output)
                check_report(output, self.reports)
        finished = rows_of(store)
        self._runner.run(output, store)
        self.seen.kills.update(hit)
        self.seen.resumes.update(hit[-1:])
        self._check_calls(output, finished, hit)
        assert "Traceback" not in log_of(output)
        assert reports_of(output) == self.reports
        label = str(self._runner.settings["model_args"]["model"])
        self.seen.beside += check_folder(output / label, output / "report", self._runner.settings)
        self.seen.identical.update(hit[-1:])

    def _check_calls(self, output: Path, finished: int, hit: list[str]) -> None:
        """No finished call is made again, and no more are repeated than were in flight."""
        assert calls_made(output / "last") == self._calls - finished
        if self._asked is None:
            return
        assert set(self._asked) == self._once
        repeated = sum(n - 1 for n in self._asked.values())
        assert repeated <= self._in_flight * len(hit)
        if hit:
            self.seen.repeats.setdefault(hit[-1], []).append(repeated)

    def _forget(self) -> None:
        if self._asked is not None:
            self._asked.clear()


def log_of(output: Path) -> str:
    """What the runs into a folder said."""
    return (output / "log.txt").read_text(encoding="utf-8")


def rows_of(store: Path) -> int:
    """Finished calls in a store."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(store)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():
            return 0
        return int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])


def calls_made(folder: Path) -> int:
    """Calls that the only run in a folder made itself."""
    (manifest,) = folder.glob(MANIFEST_GLOB)
    return sum(int(row["made"]) for row in json.loads(manifest.read_text())["calls"])


# --------------------------------------------------------------------------- reports

# Differ by nature, and are blanked by name: the run's name, when it began, how long its calls took,
# and which of them it found in the store; of these the sum with those it made is compared.
_RUN_ID = re.compile(r"\d{8}T\d{9}-[0-9a-f]{6}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}")
_JSON_CALLS = re.compile(r'made": (\d+),\s+"(?:calibration_)?stored": (\d+)')
_JSON_LATENCY = re.compile(r'^( +)"latency": \{.*?^\1\}', re.MULTILINE | re.DOTALL)
_TEXT_LATENCY = re.compile(r"^Latency, seconds.*?\n\n", re.MULTILINE | re.DOTALL)
_TEXT_CALLS = re.compile(r"^([SL]LM, \w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


def _text_calls(row: re.Match[str]) -> str:
    on_path, made, stored, fit_made, fit_stored = (int(n) for n in row.groups()[1:])
    return f"{row[1]} {on_path} {made + stored} {fit_made + fit_stored}"


def same_text(text: str) -> str:
    """A report's text without what differs by nature."""
    text = _CREATED.sub("CREATED", _RUN_ID.sub("RUN", text))
    text = _JSON_CALLS.sub(lambda m: f"calls {int(m[1]) + int(m[2])}", text)
    text = _TEXT_LATENCY.sub("LATENCY\n\n", _JSON_LATENCY.sub("LATENCY", text))
    return _TEXT_CALLS.sub(_text_calls, text)


def reports_of(output: Path) -> dict[str, str]:
    """The report's files without what differs by nature."""
    return {n: same_text((output / "report" / n).read_text(encoding="utf-8")) for n in REPORTS}


def check_report(output: Path, wanted: dict[str, str]) -> None:
    """What a killed run left of a report is whole, file by file."""
    for name in REPORTS:
        if (output / "report" / name).exists():
            assert same_text((output / "report" / name).read_text(encoding="utf-8")) == wanted[name]


def check_partial(output: Path) -> bool:
    """Whether what a killed run left is a run that says it is partial; it must be readable."""
    manifests = list(output.rglob(MANIFEST_GLOB))
    if not manifests:
        return False
    newest = max(manifests, key=lambda p: p.stat().st_mtime_ns)
    try:
        found = assemble([newest], Settings(resamples=20))
    except AutoMixError:
        # killed before the first answered block: there is no figure to show
        return False
    unfinished = "unfinished" in json.loads(newest.read_text())
    said = any(PARTIAL in w for task in found.report.tasks for w in task.warnings)
    assert said == unfinished
    return said


def check_folder(folder: Path, alone: Path, settings: dict[str, Any]) -> int:
    """A report on all that lies in a folder is the last run's, the others are named apart.

    Args:
        folder: With the files of the killed runs and of the one that resumed them.
        alone: The report on the last run alone.
        settings: Of the runs.

    Returns:
        How many runs it names apart.
    """
    found = assemble([folder], Settings(resamples=settings["resamples"])).report
    wanted = json.loads((alone / "report.json").read_text(encoding="utf-8"))
    whole = json.loads(render_json(found))
    for part in ("tasks", "boards"):
        assert whole[part] == wanted[part]
    notes = [n for n in found.warnings if n not in wanted["warnings"]]
    assert all("left out" in n for n in notes)
    (last,) = {task.run_id for task in found.tasks}
    names = {json.loads(p.read_text())["run_id"] for p in folder.glob(MANIFEST_GLOB)}
    assert {n.split()[1] for n in notes} == names - {last}
    return len(notes)
