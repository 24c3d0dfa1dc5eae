"""How long questions wait: for the SLM, the verification, the LLM, and on their whole path.

A call has a latency where it was a request of its own, or of several samples of one prompt; calls
of a batch have none, since each ended with the last of them. The calls of one answer or of one
verification are taken as sent at once, so that the longest counts; those of a path follow each
other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.figures import Figure
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.quantiles import quantile, quantile_intervals
from automix_eval.records.record_columns import BoolArray, FloatArray, IntArray, RecordColumns

#: Parts of a path, and the shares of the questions that are answered within each figure.
SHARES = (0.5, 0.95, 0.99)
BATCHED = Undefined(
    "batched: calls shared a batch, or were not timed one by one, so that no question has a "
    "latency of its own"
)


def latencies(rows: RecordColumns, resamples: int, seed: int) -> dict[str, Mapping[str, Figure]]:
    """Part -> ``p50``, ``p95``, ``p99`` -> seconds, on the routed paths of the run.

    Args:
        rows: The evaluated questions.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    found: dict[str, Mapping[str, Figure]] = {}
    for part, (seconds, used) in _parts(rows).items():
        found[part] = _quantiles(seconds[used], rows.documents[used], resamples, seed)
    return found


def waits_for_two(rows: RecordColumns, table: BootstrapTable) -> int:
    """The column of a table that holds whether the path of a question has more than one model.

    Args:
        rows: The evaluated questions.
        table: Of these questions, not yet drawn.
    """
    several = (_path(rows).sum(axis=1) > 1).astype(float)
    return table.add(lambda some: several[some])


def _path(rows: RecordColumns) -> BoolArray:
    return np.asarray(rows.on_path | (np.arange(rows.num_tiers) == rows.final[:, None]))


def _parts(rows: RecordColumns) -> dict[str, tuple[FloatArray, BoolArray]]:
    """Part -> seconds of each question, and which questions had that part."""
    path = _path(rows)
    judged = np.asarray(path & rows.judged)
    answers = np.where(path, rows.answers.latency, 0.0)
    verifications = np.where(judged, rows.verifications.latency, 0.0)
    return {
        "slm": (answers[:, 0], path[:, 0]),
        "verification": (verifications.sum(axis=1), np.asarray(judged.any(axis=1))),
        "llm": (answers[:, -1], path[:, -1]),
        "path": ((answers + verifications).sum(axis=1), np.ones(len(rows), dtype=np.bool_)),
    }


def _quantiles(
    seconds: FloatArray, documents: IntArray, resamples: int, seed: int
) -> dict[str, Figure]:
    names = [f"p{share * 100:g}" for share in SHARES]
    if not len(seconds):
        return dict.fromkeys(names, Figure(Undefined("no question had this part")))
    if np.isnan(seconds).any():
        return dict.fromkeys(names, Figure(BATCHED))
    ends = quantile_intervals(seconds, documents, SHARES, resamples, seed)
    return {
        name: Figure(quantile(seconds, share), interval, error)
        for name, share, (interval, error) in zip(names, SHARES, ends, strict=True)
    }
