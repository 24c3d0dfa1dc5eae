"""The report as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from automix_eval.metrics.ibc import Undefined
from automix_eval.report.parts import Block, Heading, Report, Table, TaskReport
from automix_eval.report.summary import Figure
from automix_eval.report.text import plain

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")


def render_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown; markup in labels and file names is shown, not obeyed."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_escape(block.text)}")
        elif isinstance(block, Table):
            rule = [":--", *["--:"] * (len(block.header) - 1)]
            rows = [[_escape(c) for c in row] for row in (block.header, *block.rows)]
            parts.append("\n".join(f"| {' | '.join(r)} |" for r in [rows[0], rule, *rows[1:]]))
        else:
            parts.append(_escape(block.hang + block.text))
    return "\n\n".join(parts) + "\n"


def render_json(report: Report) -> str:
    """Everything in the report as one object.

    An undefined figure is null with its reason beside it: each figure is
    ``{"value", "low", "high", "undefined"}``; rates and delta IBC are ratios, not percent.
    """
    value = {
        "format": "automix-eval report",
        "version": 1,
        "seed": report.seed,
        "tasks": [{**asdict(t), "method": t.method, "figures": _figures(t)} for t in report.tasks],
        "warnings": list(report.warnings),
    }
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def render_csv(report: Report) -> str:
    """One row a run, task and system; undefined figures are empty, their reasons in one cell."""
    out = io.StringIO()
    rows = [row for task in report.tasks for row in _csv_rows(task)]
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["run_id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def _escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", plain(text, limit=2000))


def _csv_rows(task: TaskReport) -> list[dict[str, object]]:
    rows = []
    for name, model, system in task.systems:
        delta = task.figures.delta_ibc if name == task.method else Figure(Undefined(""))
        parts = {
            "quality": system.quality,
            "cost": system.cost,
            "escalation_rate": system.escalation_rate,
            "ibc": Figure(Undefined("") if system.ibc is None else system.ibc),
            "delta_ibc": delta,
        }
        row: dict[str, object] = {
            "run_id": task.run_id,
            "created": task.created,
            "task": task.task,
            "embedded_sample": task.sample,
            "metric": task.metric,
            "questions": task.figures.num_questions,
            "documents": task.figures.num_documents,
            "system": name,
            "model": model,
        }
        reasons: dict[str, list[str]] = {}
        for key, figure in parts.items():
            shown = _figure(figure)
            row[key] = shown["value"]
            if key != "ibc":
                row[f"{key}_low"], row[f"{key}_high"] = shown["low"], shown["high"]
            if shown["undefined"]:
                reasons.setdefault(str(shown["undefined"]), []).append(key)
        texts = [f"{', '.join(keys)}: {reason}" for reason, keys in reasons.items()]
        rows.append({**row, "undefined": "; ".join(texts)})
    return rows


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return "" if value is None else value


def _figures(task: TaskReport) -> dict[str, Any]:
    f = task.figures
    systems = {
        key: {
            "quality": _figure(s.quality),
            "cost": _figure(s.cost),
            "escalation_rate": _figure(s.escalation_rate),
            **({} if s.ibc is None else {"ibc": _figure(Figure(s.ibc))}),
        }
        for key, s in (("slm", f.slm), ("llm", f.llm), ("method", f.method))
    }
    verifiers = [{**asdict(v), "auroc": _figure(Figure(v.auroc))} for v in f.verifiers]
    return {**asdict(f), **systems, "delta_ibc": _figure(f.delta_ibc), "verifiers": verifiers}


def _figure(figure: Figure) -> dict[str, float | str | None]:
    value, ends = figure.value, figure.interval
    if isinstance(value, Undefined):
        return {"value": None, "low": None, "high": None, "undefined": value.reason or None}
    if isinstance(ends, Undefined):
        return {"value": value, "low": None, "high": None, "undefined": ends.reason}
    low, high = ends if ends is not None else (None, None)
    return {"value": value, "low": low, "high": high, "undefined": None}
