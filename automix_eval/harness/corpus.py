"""Metrics of many questions together (bleu, chrf, mcc): by the task's own aggregation.

For every tier that answered all questions, and for the answers that the cascade returned, with the
expanded percentile interval of a bootstrap over documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.harness.task_metrics import TaskMetrics
from automix_eval.metrics.bootstrap import percentile_interval
from automix_eval.metrics.ibc import Undefined

_RESAMPLES = 100  # as the harness takes for these metrics, whose sums are slow
ROUTED = "routed"


class CorpusMetrics:
    """Collects what such metrics are computed from, question by question."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, dict[str, dict[int, Any]]]] = {}

    def begin(self, task: str) -> None:
        """Forget a task's questions: it begins anew."""
        self._items.pop(task, None)

    def add(self, task: str, who: str, doc_id: int, items: Mapping[str, Any]) -> None:
        """Keep the items of one question.

        Args:
            task: The task's name.
            who: A tier's name, or :data:`ROUTED`.
            doc_id: The document.
            items: By metric.
        """
        for metric, item in items.items():
            by_who = self._items.setdefault(task, {}).setdefault(metric, {})
            by_who.setdefault(who, {})[doc_id] = item

    def found(self) -> dict[str, dict[str, dict[str, dict[int, Any]]]]:
        """Everything collected in this process, for the one that writes."""
        return self._items

    def take(self, parts: Sequence[dict[str, dict[str, dict[str, dict[int, Any]]]]]) -> None:
        """Take over what several processes collected."""
        whole = CorpusMetrics()
        for part in parts:
            for task, metrics in part.items():
                for metric, by_who in metrics.items():
                    for who, items in by_who.items():
                        for doc_id, item in items.items():
                            whole.add(task, who, doc_id, {metric: item})
        self._items = whole._items

    def summary(self, task: TaskMetrics, seed: int) -> dict[str, dict[str, Any]]:
        """Each metric of a task: who -> value, low and high (95 %), number of documents."""
        return {
            metric: {
                who: _figure(task, metric, list(items.values()), seed)
                for who, items in by_who.items()
                if len(items) == len(by_who[ROUTED])
            }
            for metric, by_who in self._items.get(task.name, {}).items()
            if ROUTED in by_who
        }


def _figure(task: TaskMetrics, metric: str, items: Sequence[Any], seed: int) -> dict[str, Any]:
    value = task.aggregate(metric, items)
    rng = np.random.default_rng(seed)
    drawn = [
        task.aggregate(metric, [items[i] for i in rng.integers(len(items), size=len(items))])
        for _ in range(_RESAMPLES if len(items) > 1 and value is not None else 0)
    ]
    known = [v for v in drawn if v is not None]
    ends = percentile_interval(np.asarray(known, dtype=float), len(items))
    low, high = (None, None) if isinstance(ends, Undefined) else ends
    return {"value": value, "low": low, "high": high, "documents": len(items)}


def sentence(metric: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures of one metric in words."""
    parts = [
        f"{who} {f['value']:.4g}"
        + ("" if f["low"] is None else f" [{f['low']:.4g}, {f['high']:.4g}]")
        for who, f in figures.items()
        if f["value"] is not None
    ]
    return f"{metric}, a metric of all questions together: {', '.join(parts) or 'no number'}"
