"""The jobs of ``automix-eval run -m``: each once, noted in its folder, and one table of all."""

from __future__ import annotations

import hashlib
import secrets
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.analysis.job_figures import call_totals, figures_of, mean_figure
from automix_eval.commands.job import SWEEPS, as_folder, checked, shown_on_console
from automix_eval.commands.sweep import locks as sweeplocks
from automix_eval.commands.sweep import notes as jobs
from automix_eval.commands.sweep.notes import Identity, JobNote
from automix_eval.config import command_line as hydra_app
from automix_eval.config.compose import ConfigError, build, shown
from automix_eval.config.run_settings import output_settings
from automix_eval.harness import model_pool as pool
from automix_eval.report import output
from automix_eval.report.job_table import jobs_table, write_csv
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_text
from automix_eval.safety.redaction import blank_text, scrub
from automix_eval.safety.text import printable, show

if TYPE_CHECKING:
    from automix_eval.config.command_line import Application, CommandLine, HydraJob

TABLE = "jobs.csv"
REPORT = "report"
_CUT_OFF = "it did not end: its process was stopped, or a launcher lost it"
# What a job's figures do not depend on.
_NO_IDENTITY = ("model", "progress", "records_dir", "store")


def sweep(app: Application, line: CommandLine) -> int:
    """Run every job that is not finished, then write one table and one report of all.

    Returns:
        0, or 2 where Hydra refused the configuration.

    Raises:
        AutoMixError: Another sweep uses the folder, or jobs failed.
    """
    line = _whole_records(app, line)
    root = _root(line)
    jobs.forget()
    with sweeplocks.alone(root), pool.keep_models():
        do = SweepJob(root, secrets.token_hex(8))
        print(f"sweep in {root}")
        code = hydra_app.run(app, line, do, {"hydra.sweep.dir": root})
        sweeplocks.forget(root)
        return _conclude(root, do.sweep) or code


@dataclass(frozen=True, slots=True)
class SweepJob:
    """One job of a sweep, in this process or, by a launcher, in another.

    Attributes:
        root: The sweep's folder.
        sweep: Marks the notes of the jobs that belong to it.
    """

    root: Path
    sweep: str

    def __call__(self, job: HydraJob) -> float | None:
        """Run the job unless it is finished; a failure is noted and ends this job alone.

        Returns:
            The figure that a search looks at; None where the job failed or it has no value.
        """
        pool.keep_on()
        note = self._note(job)
        started = time.perf_counter()
        try:
            settings, args = checked(job)
            optimize = output_settings(job.composed).optimize if job.composed else "delta_ibc"
            # runs that differ in their seed alone are one method, whose seeds are pooled
            if name := _words(job, but="seed"):
                args.setdefault("model", name)
            plain_settings = _settings(args, settings)
            note = msgspec.structs.replace(
                note,
                settings=plain_settings,
                identity=jobs.identity(plain_settings, settings.tasks, settings.include_path),
            )
            old = jobs.read(job.folder)
            if old is not None and self._is_finished(job, old, note.identity):
                note = msgspec.structs.replace(
                    old, sweep=self.sweep, number=job.number, swept=note.swept, made=0,
                    stored=old.made + old.stored,
                )  # fmt: skip
                said = "finished before, nothing to do"
            else:
                jobs.write(job.folder, note)
                with sweeplocks.first_alone(self.root, self.sweep, plain_settings):
                    note = self._evaluated(job, note, settings, args)
                note = msgspec.structs.replace(note, seconds=time.perf_counter() - started)
                said = f"{note.made} calls made, {note.stored} from the store"
            jobs.write(job.folder, note)
        except Exception as err:  # noqa: BLE001  whatever ends one job must not end the others
            self._failed(job, note, err, time.perf_counter() - started)
            return None
        _say(job, said, note)
        self._write_table()
        return mean_figure(note.figures, note.made, optimize)

    def _note(self, job: HydraJob) -> JobNote:
        return JobNote(
            status="running",
            identity=Identity("", "", ""),
            sweep=self.sweep,
            number=job.number,
            swept=_plain(job.swept),
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    def _is_finished(self, job: HydraJob, old: JobNote, now: Identity) -> bool:
        if old.status != "finished" or old.identity.config != now.config:
            return False
        if not (job.folder / old.run).is_dir() or not old.run:
            return False
        if changed := jobs.changes(old.identity, now):
            print(f"job {job.number}  {_words(job)}: {' and '.join(changed)} since it ran: again")
            return False
        return True

    def _evaluated(
        self, job: HydraJob, note: JobNote, settings: Any, args: dict[str, Any]
    ) -> JobNote:
        from automix_eval.harness.evaluate import evaluate

        inside = _attempt(job.folder)
        with shown_on_console(inside):
            evaluate(args, settings.tasks, inside / "results.json", **settings.arguments())
        assembled = assemble([inside], Settings())
        made, stored = call_totals(assembled)
        return msgspec.structs.replace(
            note,
            status="finished",
            run=inside.name,
            made=made,
            stored=stored,
            figures=figures_of(assembled.report),
        )

    def _failed(self, job: HydraJob, note: JobNote, err: Exception, seconds: float) -> None:
        known = isinstance(err, AutoMixError)
        reason = scrub(str(err) if known else f"{type(err).__name__}: {err}")
        reason = printable(blank_text(reason), 1000)
        print(f"job {job.number}  {_words(job)}: failed: {reason}", file=sys.stderr)
        try:
            if not known:
                trace = "".join(traceback.format_exception(err))
                write_text(job.folder / "traceback.txt", scrub(trace))
            jobs.write(
                job.folder,
                msgspec.structs.replace(note, status="failed", reason=reason, seconds=seconds),
            )
            self._write_table()
        except (AutoMixError, OSError) as unwritten:
            print(f"job {job.number}: {printable(unwritten, 500)}", file=sys.stderr)

    def _write_table(self) -> None:
        write_csv(self.root / TABLE, _rows(self.root, self.sweep))


def _conclude(root: Path, sweep_id: str) -> int:
    """Table, report and the list of what failed."""
    rows = _rows(root, sweep_id)
    if not rows:
        return 0  # Hydra refused the configuration, and said why
    write_csv(root / TABLE, rows)
    show("\n" + jobs_table(rows, hidden=("status", "undefined")))
    notes = jobs.of_sweep(root, sweep_id)
    done = [folder / note.run for folder, note in notes if note.status == "finished"]
    if done:
        written = output.write_folder(
            assemble(done, Settings(as_named=True)), root / REPORT, [*output.NAMES]
        )
        print(f"\ntable: {root / TABLE}\npage: {root / REPORT / output.NAMES['html']}"
              f" ({len(written)} files in {root / REPORT})")  # fmt: skip
    print(_calls_line(notes))
    failed = [(n.number, n.reason or _CUT_OFF) for _, n in notes if n.status != "finished"]
    for number, reason in failed:
        print(f"job {number} failed: {reason}", file=sys.stderr)
    if failed:
        raise AutoMixError(
            f"{len(failed)} of {len(notes)} jobs failed, the first by: {failed[0][1]}. The same "
            "command runs those again, and no other"
        )
    return 0


def _calls_line(notes: Sequence[tuple[Path, JobNote]]) -> str:
    callers = [str(n.number) for _, n in notes if n.made]
    made, stored = sum(n.made for _, n in notes), sum(n.stored for _, n in notes)
    return f"model calls: {made} made, {stored} from the store; " + (
        f"made by job {', '.join(callers)}" if callers else "no job made any"
    )


def _rows(root: Path, sweep_id: str) -> list[dict[str, Any]]:
    """One row a job and task."""
    rows = []
    for folder, note in jobs.of_sweep(root, sweep_id):
        head = {"job": note.number, **note.swept}
        tail = {
            "calls_made": note.made,
            "calls_stored": note.stored,
            "seconds": None if note.seconds is None else round(note.seconds, 2),
            "status": note.status,
            "output": str(folder / note.run),
        }
        if note.reason:
            tail["error"] = note.reason
        rows += [{**head, **found, **tail} for found in note.figures or [{}]]
    return rows


def _whole_records(app: Application, line: CommandLine) -> CommandLine:
    """Ask every tier every question, unless the user says otherwise.

    A router that sends on other questions than the one before would need new calls of the larger
    model in each job; so the first job makes all of them.
    """
    if line.keys & {"record", "config", "experiment"}:
        return line
    print("record=full: every tier is asked every question once, in the first job that needs it")
    return hydra_app.read(app, [*line.given, *line.flags, "record=full"])


def _root(line: CommandLine) -> Path:
    """The sweep's folder: the same for the same command, so that it resumes."""
    if taken := line.keys & {"hydra.sweep.dir", "hydra.sweep.subdir", "hydra.run.dir"}:
        raise ConfigError(f"{', '.join(sorted(taken))}: name the sweep's folder as output=FOLDER")
    if "output" in line.swept:
        raise ConfigError("output is the folder of the whole sweep: give it one value")
    given = line.value("output")
    if given is not None:
        return as_folder(given)
    digest = hashlib.sha256("\n".join(sorted(line.given)).encode()).hexdigest()[:10]
    return SWEEPS / digest


def _attempt(folder: Path) -> Path:
    """A new folder for the files of a run; those of a run that was killed stay beside it."""
    number = 1 + sum(1 for path in folder.glob("run_*") if path.is_dir())
    inside = folder / f"run_{number}"
    inside.mkdir(parents=True)
    return inside


def _settings(args: dict[str, Any], settings: Any) -> dict[str, Any]:
    """The whole configuration of a job as plain data, secrets blanked."""
    cascade = {k: v for k, v in shown(build(args)).items() if k not in _NO_IDENTITY}
    return {"cascade": cascade, "harness": msgspec.to_builtins(settings)}


def _words(job: HydraJob, but: str = "") -> str:
    return printable(" ".join(f"{k}={v}" for k, v in job.swept.items() if k != but), 200)


def _plain(values: Any) -> dict[str, Any]:
    """Values as JSON and tables hold them."""
    simple = (str, int, float, bool)
    return {k: v if v is None or isinstance(v, simple) else str(v) for k, v in values.items()}


def _say(job: HydraJob, said: str, note: JobNote) -> None:
    parts = []
    for found in note.figures:
        lift = found["delta_ibc"]
        shown_lift = "undefined" if lift is None else f"{100 * lift:+.1f} %"
        parts.append(
            f"{found['task']}: quality {found['quality']:.4g}, cost {found['cost']:.4g}, "
            f"delta IBC {shown_lift}"
        )
    print(f"job {job.number}  {_words(job)}: {said}; {'; '.join(parts)}")
