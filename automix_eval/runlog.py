"""The files of a run: records, policies and manifest, rewritten whenever something is finished."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix_eval import __version__, policy, records
from automix_eval import budget as budgets
from automix_eval.budget import Budget
from automix_eval.calls import Tier
from automix_eval.ranks import Ranks
from automix_eval.types import Answer, Record, Verification

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What one process of a run found."""

    records: list[Record]
    tasks: dict[str, dict[str, Any]]
    warnings: list[dict[str, str]]
    calls: list[dict[str, Any]]
    budget: Mapping[str, Any]


class RunLog:
    """Keeps what a run found and writes it next to the harness's own output.

    Args:
        run_id: Names the run's files.
        tiers: The chain, for its labels and call counts.
        about: What the manifest says of the run's configuration.
        ranks: The processes of the run; the first one writes.
        budget: What this process may spend.
    """

    def __init__(
        self,
        run_id: str,
        tiers: Sequence[Tier],
        about: Mapping[str, Any],
        ranks: Ranks,
        budget: Budget,
    ) -> None:
        self.run_id = run_id
        self.folder = Path()
        self.warnings: list[dict[str, str]] = []
        self._tiers = tiers
        self._about = about
        self._records: list[Record] = []
        self._tasks: dict[str, dict[str, Any]] = {}
        self._policies: dict[str, str] = {}
        self._alone = ranks.number == 1
        self._writes = ranks.index == 0
        self._elsewhere: list[dict[str, Any]] = []
        self._budget = budget
        self._spent: Mapping[str, Any] = {}

    def file(self, stem: str, suffix: str) -> Path:
        """Path of one of the run's files."""
        return self.folder / f"automix_{stem}_{self.run_id}.{suffix}"

    def add(self, task: str, metric: str, sample: bool, rows: Sequence[Record]) -> None:
        """Keep and write the records of one phase of a task.

        Args:
            task: The task's name.
            metric: Its main metric.
            sample: Whether it is an embedded sample.
            rows: Records of one phase, at least one.
        """
        self._records += rows
        self._tasks[task] = {
            "metric": metric,
            "sample": sample,
            "num_questions": sum(r.phase == "evaluation" for r in rows),
        }
        if self._alone:
            self._note_losses(task, rows)
        self._write()

    def found(self) -> Found:
        """What this process found since the last merge, for the process that writes."""
        return Found(
            self._records, self._tasks, self.warnings, self._calls(), self._budget.summary()
        )

    def merge(self, parts: Sequence[Found]) -> None:
        """Take what all processes found, this one's included, and write it.

        Calibration records are the same in every process; evaluation records are each process's
        own share.
        """
        known: dict[tuple[Any, ...], Record] = {}
        for part in parts:
            for record in part.records:
                known.setdefault((record.phase, record.task, record.doc_id, record.repeat), record)
            self._tasks |= part.tasks
            for warning in part.warnings:
                if warning not in self.warnings:
                    self.warnings.append(warning)
        tasks = list(dict.fromkeys(r.task for r in known.values()))
        self._records = sorted(
            known.values(),
            key=lambda r: (tasks.index(r.task), r.phase != "calibration", r.doc_id, r.repeat),
        )
        for task, about in self._tasks.items():
            about["num_questions"] = sum(
                r.task == task and r.phase == "evaluation" for r in self._records
            )
        for task in self._tasks:
            for phase in ("calibration", "evaluation"):
                rows = [r for r in self._records if (r.task, r.phase) == (task, phase)]
                if rows:
                    self._note_losses(task, rows)
        self._elsewhere = _total([p.calls for p in parts])
        self._spent = budgets.total([p.budget for p in parts])
        self._write()

    def _write(self) -> None:
        if self._writes:
            records.write_records(self.file("records", "jsonl"), self._records)
            records.write_json(self.file("run", "json"), self.manifest())

    def add_policy(self, task: str, fitted: Mapping[str, Any]) -> None:
        """Write a policy fitted in this run."""
        path = self.file(f"policy_{safe_name(task)}", "json")
        if self._writes:
            policy.save(path, fitted)
        log.info("%s: policy written to %s", task, path)
        self._policies[task] = path.name

    def use_policy(self, task: str, path: str) -> None:
        """Note that a task was routed by a policy fitted elsewhere."""
        self._policies[task] = path

    def warn(self, task: str, text: str) -> None:
        """Say something in the log and in the manifest, once."""
        entry = {"task": task, "text": text}
        if entry not in self.warnings:
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
                {"index": t.tier, "name": t.name, "label": t.backend.label} for t in self._tiers
            ],
            "tasks": self._tasks,
            "policies": self._policies,
        }

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

    def _note_limits(self, task: str, rows: Sequence[Record]) -> None:
        """Say where the budget, not the router, kept an answer."""
        reasons = [t.decision.reason for r in rows for t in r.tiers if t.decision]
        if spent := [r for r in reasons if r.startswith(budgets.SPENT)]:
            self.warn(
                task,
                f"{spent[0]}: {len(spent)} of {len(rows)} questions were not escalated as the "
                "router wished and keep the answer they had",
            )
        short = sum(len(r.tiers) < len(self._tiers) for r in rows)
        if short and self._about.get("record") == "full" and self._budget.is_limited:
            self.warn(
                task,
                f"record=full: {short} of {len(rows)} questions lack the answers of larger tiers, "
                "because the budget was spent",
            )

    def _note_losses(self, task: str, rows: Sequence[Record]) -> None:
        phase = rows[0].phase
        if phase == "evaluation":
            self._note_limits(task, rows)
        for tier in self._tiers:
            mine = [t for r in rows for t in r.tiers if t.tier == tier.tier]
            verified = [t.verification for t in mine if t.verification]
            prompts: list[Answer | Verification] = [t.answer for t in mine]
            prompts += [v for v in verified if v.calls]
            cut = sum(1 for p in prompts if p.cut_context_tokens)
            dropped = sum(1 for p in prompts if p.dropped_demonstrations)
            if cut or dropped:
                self.warn(
                    task,
                    f"{phase}, {tier.name}: of {len(prompts)} prompts {dropped} lost "
                    f"demonstrations and {cut} the middle of their context, to fit the window of "
                    f"{tier.max_length} tokens",
                )
            undefined = {v.outcome for v in verified if v.confidence is None}
            if verified and all(v.confidence is None for v in verified):
                remedy = (
                    "the tier answers nothing: try --num_fewshot 2 or --apply_chat_template"
                    if undefined == {"empty_answer"}
                    else "try verifier=p_true or verifier=margin"
                )
                self.warn(
                    task,
                    f"{phase}, {tier.name}: no verification gave a confidence "
                    f"({', '.join(sorted(undefined))}): the routing rests on "
                    f"meta_verifier.undefined alone; {remedy}",
                )


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


def safe_name(name: str) -> str:
    """A task's or model's name as part of a file name, never a path."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".").lstrip("-.")[:100] or "task"
