"""Writes a report: to the terminal, one file, or a folder with stable names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from automix_eval.analysis.figures import Report
from automix_eval.analysis.gather import ReportAndRuns
from automix_eval.report.blocks import Block, Heading, Paragraph
from automix_eval.report.fixed_width import render_text
from automix_eval.report.formats import render_csv, render_harness, render_latex, render_markdown
from automix_eval.report.json_report import render_json, render_schema
from automix_eval.report.point_blocks import points_blocks
from automix_eval.report.task_blocks import report_blocks
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_file
from automix_eval.safety.text import clip

# Format -> its name in a folder. Stable: scripts may rely on it.
NAMES = {
    "text": "report.txt",
    "md": "report.md",
    "csv": "report.csv",
    "latex": "report.tex",
    "json": "report.json",
    "html": "report.html",
    "lm-eval": "lm_eval_results.json",
}
_OF_FIGURES = {
    "csv": render_csv,
    "latex": render_latex,
    "json": render_json,
    "lm-eval": render_harness,
}
SCHEMA = "report.schema.json"
PICTURES = "pictures"


def render(assembled: ReportAndRuns, form: str) -> str:
    """The report in one of :data:`NAMES`."""
    report = assembled.report
    if form in _OF_FIGURES:
        return _OF_FIGURES[form](report)
    if form == "html":
        # imported late, like the pictures: the page's template takes a moment
        page = import_module("automix_eval.report.page")
        return str(page.render_html(report, assembled.runs))
    blocks = report_blocks(report)
    return render_markdown(blocks) if form == "md" else render_text(blocks)


def render_screen(assembled: ReportAndRuns) -> str:
    """What fits on a screen; the whole report where there is no cascade to judge."""
    report = assembled.report
    if not report.operating_points:
        return render(assembled, "text")
    return render_text(_brief(report))


def is_folder(out: Path) -> bool:
    """Whether ``--out`` names a folder: one that exists, or a name without an ending."""
    return out.is_dir() or (not out.exists() and not out.suffix)


def write_folder(assembled: ReportAndRuns, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write every format under its stable name, and the pictures.

    All texts are made before the first is written, and each replaces its file in one step: a
    failure leaves the old report whole.

    Raises:
        AutoMixError: The folder cannot be made or written.
    """
    texts = {NAMES[form]: render(assembled, form) for form in formats}
    if "json" in formats:
        texts[SCHEMA] = render_schema()
    written = [write_file(folder / name, text) for name, text in texts.items()]
    if "html" in formats:
        plots = import_module("automix_eval.report.pictures")
        inside = folder / PICTURES
        try:
            if inside.is_symlink():
                raise NotADirectoryError("it is a link to elsewhere")
            inside.mkdir(exist_ok=True)
            written += plots.save_all(assembled.report, inside)
        except OSError as err:
            raise AutoMixError(f"cannot write the pictures to {inside}: {err}") from err
    return written


# Longer warnings are whole in the full report, and in the log of the run.
_LENGTH = 180
_MORE = (
    "Of the same folder, `automix-eval report` prints every table with --full, and writes a page, "
    "pictures, CSV and JSON with --out DIR."
)


def _brief(report: Report) -> list[Block]:
    """Verdict, operating points and warnings of every task: a screen of them."""
    blocks: list[Block] = [Heading("AutoMix report", 1), *points_blocks(report)]
    warnings = [*(w for task in report.tasks for w in task.warnings), *report.warnings]
    blocks += [Paragraph(clip(w, _LENGTH), "! ") for w in dict.fromkeys(warnings)]
    return [*blocks, Paragraph(_MORE)]
