"""Attempts of one run: what a killed run left beside the run that resumed it counts once.

Each start of a command leaves files of its own. A run that was killed answered some of the
questions of the one that resumed it, by the same calls; to count both would pool one seed twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.analysis.llm_point import find_rows, same_prompts
from automix_eval.records.columns import RecordColumns
from automix_eval.records.runs import PARTIAL, Run
from automix_eval.safety.text import printable

# What may differ where a command is run again, at any depth.
_NOT_THE_ANSWERS = frozenset(
    [
        "base_url",
        "batch_size",
        "block_size",
        "device",
        "fail_on_error",
        "max_retries",
        "num_concurrent",
        "progress",
        "records_dir",
        "store",
        "timeout",
    ]
)


def last_attempts(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs without those that another attempt of the same run stands for.

    A partial run is left out where another run with the same settings answered all its questions;
    a whole one where another repeated it from the call store, without a call of its own.

    Args:
        runs: Oldest first.

    Returns:
        The runs that count, in their order, and what was left out, in words.
    """
    left: dict[str, str] = {}
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(_settings(run), []).append(run)
    for group in alike.values():
        for place, run in enumerate(group):
            for other in reversed(range(len(group))):
                candidate = group[other]
                if other == place or candidate.run_id in left:
                    continue
                if _stands_for(candidate, run, later=other > place):
                    left[run.run_id] = _said(run, candidate)
                    break
    return [r for r in runs if r.run_id not in left], list(left.values())


def is_partial(run: Run) -> bool:
    """Whether a run goes on or was killed."""
    return any(text.startswith(PARTIAL) for _, text in run.warnings)


def settings_of(config: Any) -> Any:
    """A run's configuration without what may differ where its command is run again."""
    if isinstance(config, Mapping):
        return {k: settings_of(v) for k, v in config.items() if k not in _NOT_THE_ANSWERS}
    return [settings_of(v) for v in config] if isinstance(config, list) else config


def _settings(run: Run) -> str:
    held = settings_of(run.config)
    return json.dumps([held, run.label, [t.label for t in run.tiers]], sort_keys=True, default=str)


def _stands_for(other: Run, run: Run, later: bool) -> bool:
    """Whether the other run makes this one superfluous."""
    if not set(run.tasks) <= set(other.tasks) or not set(run.records) <= set(other.records):
        return False
    if not is_partial(run):
        # by its calls, and only then by its time: clocks jump
        resumed = not is_partial(other) and not _made(other) and (later or _made(run))
        same = (_equal(run.records[t], other.records[t]) for t in run.records)
        return resumed and set(run.records) == set(other.records) and all(same)
    if not other.records or not all(_within(run.records[t], other.records[t]) for t in run.records):
        return False
    sizes = [sum(map(len, r.records.values())) for r in (run, other)]
    return not is_partial(other) or sizes[0] < sizes[1] or (sizes[0] == sizes[1] and later)


def _made(run: Run) -> bool:
    return any(c.made for c in run.calls)


def _within(rows: RecordColumns, among: RecordColumns) -> bool:
    """Whether the other rows hold all these questions, asked with the same prompts."""
    place = find_rows(rows, among)
    return bool((place >= 0).all() and same_prompts(rows, among, place).all())


def _equal(rows: RecordColumns, others: RecordColumns) -> bool:
    """Whether the same questions were answered by the very same calls."""
    if len(rows) != len(others) or not _within(rows, others):
        return False
    spent = ("number", "prompt_tokens", "generated_tokens", "seconds")
    pairs = [(getattr(rows.answers, n), getattr(others.answers, n)) for n in spent]
    pairs += [(getattr(rows.verifications, n), getattr(others.verifications, n)) for n in spent]
    routed = ("final", "asked", "on_path", "scores", "confidences")
    pairs += [(getattr(rows, n), getattr(others, n)) for n in routed]
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def _said(run: Run, other: Run) -> str:
    names = f"run {printable(run.run_id)}", f"run {printable(other.run_id)}"
    if not is_partial(run):
        return f"{names[0]} is left out: {names[1]} repeated it from the call store, call by call"
    held = ", ".join(f"{len(rows)} questions of {printable(t)}" for t, rows in run.records.items())
    return (
        f"{names[0]} is {PARTIAL} ({held or 'no question answered'}) and left out: {names[1]}, "
        "with the same settings, answered these questions as well"
    )
