"""An experiment's result as CSV, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from automix_eval import __version__
from automix_eval.analysis.experiments.cell_figures import CellFigure
from automix_eval.analysis.experiments.preset import AXES, Preset
from automix_eval.analysis.experiments.sources import Failure, StudySource, shown
from automix_eval.analysis.experiments.study import CellScore, Study
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.report.fixed_width import markdown_table
from automix_eval.safety.text import csv_text, printable

FORMAT = "automix-eval experiment"
VERSION = 1
_PLACES = ("source", "test", "tiers")
_LISTED = 20
# Facts of the verifier in a table.
_AREAS = {"auroc": "AUROC", "benefit_auroc": "AUROC (benefit)"}


def as_json(
    preset: Preset,
    studies: Sequence[Study],
    sources: Sequence[StudySource],
    failures: Sequence[Failure],
) -> dict[str, Any]:
    """Everything, with the value of every seed."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "automix_eval_version": __version__,
        "experiment": preset.name,
        "about": preset.about,
        "size": preset.size,
        "seed": preset.seed,
        "seeds": list(preset.seeds),
        "resamples": preset.resamples,
        "interval_level": LEVEL,
        "sources": [
            {"name": s.name, "kind": s.kind, "train": len(s.train), "test": len(s.test),
             "tiers": list(s.test.names), "about": dict(s.about)}
            for s in sources
        ],
        "failed_sources": list(failures),
        "published": preset.published,
        "parts": {
            s.part.name: {
                "title": s.part.title,
                "rows": [
                    {**r.labels, **r.facts,
                     "figures": {k: f.as_json() for k, f in r.figures.items()}}
                    for r in s.rows
                ],
                "failures": s.failures,
                "left_out": s.left_out,
            }
            for s in studies
        },
    }  # fmt: skip


def as_csv(study: Study) -> str:
    """A part's cells, a line each; nothing in it is a formula to a spreadsheet."""
    lines = [_line(r) for r in study.rows]
    return csv_text(list(dict.fromkeys(k for line in lines for k in line)) or _PLACES, lines)


def _line(row: CellScore) -> dict[str, Any]:
    line: dict[str, Any] = {k: v if _is_plain(v) else shown(v) for k, v in row.labels.items()}
    for name, figure in row.figures.items():
        low, high = figure.interval or (None, None)
        line |= {name: figure.value, f"{name}_low": low, f"{name}_high": high}
        line |= {f"{name}_std": figure.std, f"{name}_min": figure.low, f"{name}_max": figure.high}
    reasons = {f.reason for f in row.figures.values() if f.reason}
    return line | dict(row.facts) | {"note": "; ".join(sorted(reasons))}


def as_markdown(
    preset: Preset,
    studies: Sequence[Study],
    sources: Sequence[StudySource],
    failures: Sequence[Failure],
) -> str:
    """The page of an experiment: what it is, on which outcomes, its tables and pictures."""
    lines = [f"# {preset.name}", "", preset.about, ""]
    if any(s.kind == "simulated" for s in sources):
        lines += ["**These outcomes are simulated: no model answered a question. They show how the "
                  "experiment works, not how models behave.**", ""]  # fmt: skip
    if preset.size == "smoke":
        lines += [
            "**A smoke run: the ends of every axis and few rows. Its figures mean nothing.**",
            "",
        ]
    lines += [f"Outcomes: {printable('; '.join(_source(s) for s in sources), 2000)}.", ""]
    lines += [
        f"Intervals hold {100 * LEVEL:g} %: {preset.resamples} resamples of test questions and "
        f"of seeds, seed {preset.seed}. The CSV files have every figure, those of SLM and LLM and "
        "numbers of rows too; `std` is over the seeds (ddof 0), of which a router that draws "
        "nothing and is fitted on all rows has one.", "",
    ]  # fmt: skip
    for study in studies:
        lines += _part(preset, study)
    lines += _list("Sources that could not be read", failures)
    return "\n".join(lines).rstrip() + "\n"


def _part(preset: Preset, study: Study) -> list[str]:
    part = study.part
    lines = [f"## {part.title}", ""]
    if study.rows:
        lines += [f"![{part.name}]({part.name}.png)", "", *_table(study.rows), ""]
    if part.boundary and study.rows:
        lines += [*_boundary(study, part.boundary), ""]
    lines += _published(preset, study)
    lines += _list("Left out", study.left_out) + _list("Failed", study.failures)
    return lines


def _table(rows: Sequence[CellScore]) -> list[str]:
    """A table a source, of what one reads; the CSV file has every other figure."""
    by: dict[str, list[CellScore]] = {}
    for row in rows:
        by.setdefault(str(row.labels["source"]), []).append(row)
    extra = ["over_pomdp"] if any("over_pomdp" in r.figures for r in rows) else []
    areas = [n for n in _AREAS if any(r.facts[n] is not None for r in rows)]
    lines: list[str] = []
    for source, some in by.items():
        several = {k for k in varied(rows) if len({_cell(r.labels[k]) for r in some}) > 1}
        labels = [k for k in varied(rows) if k in several or k == "router"]
        header = [*labels, "quality", "cost", "escalated", "delta IBC", "verdict",
                  *("over pomdp" for _ in extra), *(_AREAS[n] for n in areas)]  # fmt: skip
        cells = [
            [
                *(_cell(row.labels[k]) for k in labels),
                _value(row.figures["quality"], ".4f"), _value(row.figures["cost"], ".4g"),
                _value(row.figures["escalated"], ".1%"), _over(row, "delta_ibc"),
                row.facts["verdict"], *(_over(row, name) for name in extra),
                *("-" if (v := row.facts[n]) is None else f"{v:.3f}" for n in areas),
            ]
            for row in some
        ]  # fmt: skip
        held = ["" if "tiers" in labels else f", {some[0].labels['tiers']}"]
        titled = [f"### {printable(source + held[0], 160)}", ""] if len(by) > 1 else []
        lines += [*titled, *_markdown(header, cells), ""]
    return lines[:-1]


def varied(rows: Sequence[CellScore]) -> list[str]:
    """The labels that tell these rows apart; the source always."""
    keys = [*_PLACES, *(a for a in AXES if a not in _PLACES)]
    several = [k for k in keys if len({shown(r.labels[k]) for r in rows}) > 1]
    crossed = any(r.labels["test"] != r.labels["source"] for r in rows)
    return list(
        dict.fromkeys(["source", *(k for k in several if k != "test" or crossed), "router"])
    )


def _boundary(study: Study, axis: str) -> list[str]:
    """For every line the values of an axis at which routing pays, is open, loses."""
    keys = [k for k in varied(study.rows) if k != axis]
    groups: dict[tuple[str, ...], list[CellScore]] = {}
    for row in study.rows:
        groups.setdefault(tuple(_cell(row.labels[k]) for k in keys), []).append(row)
    cells = []
    for key, rows in groups.items():
        by = {w: [r.labels[axis] for r in rows if r.facts["verdict"] == w]
              for w in ("pays", "open", "loses", "undefined")}  # fmt: skip
        cells.append([*key, *(", ".join(map(_cell, values)) or "none" for values in by.values())])
    header = [*keys, *(f"{axis}: {w}" for w in ("pays", "open", "loses", "undefined"))]
    return [f"Where routing pays, by {axis}:", "", *_markdown(header, cells)]


def _published(preset: Preset, study: Study) -> list[str]:
    """The figures of a paper for the tasks at hand; other models, the same protocol."""
    tasks = {r.facts["task"] or r.labels["source"] for r in study.rows}
    met = {t: v for t, v in preset.published.get("tasks", {}).items() if t in tasks}
    if not preset.published:
        return []
    source = preset.published["source"]
    if not met:
        return [f"Published figures ({source}) are of the tasks "
                f"{', '.join(preset.published['tasks'])}: none of them is here.", ""]  # fmt: skip
    rows = [[t, k, str(v)] for t, figures in met.items() for k, v in figures.items()]
    return [f"Published ({source}):", "", *_markdown(["task", "what", "figures"], rows), ""]


def _list(title: str, entries: Sequence[Failure]) -> list[str]:
    if not entries:
        return []
    by: dict[str, list[str]] = {}
    for entry in entries:
        by.setdefault(entry["reason"], []).append(entry["what"])
    lines = [f"{title}:", ""]
    for reason, what in by.items():
        more = f" and {len(what) - 3} more" if len(what) > 3 else ""
        lines.append(f"- {printable('; '.join(what[:3]), 400)}{more}: {printable(reason, 600)}")
    return [*lines[: _LISTED + 2], ""]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    safe = [[printable(c, 120).replace("|", "\\|") for c in row] for row in [header, *rows]]
    return markdown_table(safe)


def _source(source: StudySource) -> str:
    kinds = {"simulated": "simulated", "table": "table", "run": "run of models"}
    return (
        f"{source.name} ({kinds[source.kind]}, {len(source.train)} rows to fit on, "
        f"{len(source.test)} to score on, {source.test.num_tiers} tiers)"
    )


def _over(row: CellScore, name: str) -> str:
    figure = row.figures.get(name)
    if figure is None or figure.value is None:
        return "-"
    return f"{_percent(figure.value)} ({_span(figure)})"


def _value(figure: CellFigure, form: str) -> str:
    return "-" if figure.value is None else format(figure.value, form)


def _span(figure: CellFigure) -> str:
    if figure.interval is None:
        return "none"
    return " to ".join(_percent(v) for v in figure.interval)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def _cell(value: Any) -> str:
    if value is None:
        return "own"
    return str(value) if _is_plain(value) else shown(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))
