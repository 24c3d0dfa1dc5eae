"""Writes the page: one file that asks no other host for anything and runs one known script."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from automix_eval.analysis.figures import Report
from automix_eval.records.runs import Run
from automix_eval.report.page.contexts import Contexts
from automix_eval.report.page.questions import BUDGET, SampleChunks, groups_of
from automix_eval.report.page.view import view_of
from automix_eval.report.page.visible import visible

_FILES = Path(__file__).parent / "files"
# The order in which the script's parts are put together; each uses only what stands before it.
_SCRIPTS = (
    "dom", "theme", "tables", "panels", "charts", "store", "filters", "detail", "explorer", "main",
)  # fmt: skip


def render_html(report: Report, runs: Sequence[Run]) -> str:
    """The page as one text; :func:`write_html` needs less memory."""
    out = io.StringIO()
    write_html(report, runs, out)
    return out.getvalue()


def write_html(report: Report, runs: Sequence[Run], out: TextIO, budget: int = BUDGET) -> None:
    """Write the page piece by piece.

    Texts of models and data sets are escaped, their hidden characters are made visible, and the
    questions' texts lie in script elements of a type that no browser runs. The content-security
    policy allows the page's own script and style by their hashes and no connection at all.

    Args:
        report: The figures.
        runs: The runs it is about, for the sample explorer.
        out: Where to write, as UTF-8.
        budget: Characters the explorer's data may have; see :class:`SampleChunks`.

    Raises:
        AutoMixError: A file of a run was changed, is damaged or cannot be read.
    """
    groups = groups_of(runs)
    style = _read("page.css")
    body = "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{body}}})();\n'
    template = _environment().get_template("page.html")
    pieces = template.generate(
        view=view_of(report),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        groups=[
            {"index": i, "run": visible(g.run.run_id), "task": visible(g.task),
             "tiers": [visible(t) for t in g.tiers], "count": len(g.rows)}
            for i, g in enumerate(groups)
        ],
        width=max((len(g.tiers) for g in groups), default=0),
        chunks=SampleChunks(groups, Contexts.of(tuple(runs)), budget),
    )  # fmt: skip
    for piece in pieces:
        out.write(piece)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Every text of the template passes here: hidden characters become visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _read(name: str) -> str:
    # A browser turns CR LF into LF before it hashes; so must we.
    return (_FILES / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _policy(style: str, script: str) -> str:
    """The content-security policy."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
