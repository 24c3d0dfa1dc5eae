"""Pages of the documentation that are made from the code, when mkdocs builds it."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from automix_eval import types
from automix_eval.commands import main as program
from automix_eval.commands.settings_help import merged, plain
from automix_eval.config import described
from automix_eval.config.described import Setting
from automix_eval.config.overrides import GROUPS, TIERS
from automix_eval.report.json_report import render_schema

DOCS = Path(__file__).parent
_OWN_LANGUAGE = ("run", "fit", "replay")
_RECORD = ("Record", "TierRecord", "Answer", "Verification", "Decision", "Call")
_PYTHON = (
    ("automix_eval.harness.evaluate", ("evaluate",)),
    ("automix_eval.report.results", ("read", "Results")),
    ("automix_eval.config.policy_files", ("load_policy",)),
    ("automix_eval.meta_verifiers.served_policy", ("ServedPolicy",)),
    ("automix_eval.report.gate", ("GatedRuns", "GatedRun", "Gate", "Holds")),
    ("automix_eval.types", ("Verifier", "Ask", "CostModel", "Backend", "Question", "Observation")),
    ("automix_eval.meta_verifiers.contract", ("MetaVerifier",)),
)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of the folder."""
    from mkdocs.structure.files import File

    made = pages() | {f"{p.stem}.md": notebook(p) for p in sorted(DOCS.glob("*.ipynb"))}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Make equations MathML; links out of the folder lead to files that are not on the site."""
    from latex2mathml.converter import convert

    def equation(found: re.Match[str]) -> str:
        return f"<div style='margin: 1em 0'>{convert(found[1].strip(), display='block')}</div>"

    markdown = re.sub(r"^```math\n(.*?)^```$", equation, markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def pages() -> dict[str, str]:
    """File name -> Markdown, of the reference."""
    return {
        "commands.md": _commands(),
        "settings.md": _settings(),
        "files.md": _files(),
        "report-schema.md": _report(),
        "python-api.md": _python(),
    }


def notebook(path: Path) -> str:
    """A notebook as Markdown, its cells run, in this process, and shown with what they print."""
    parts = []
    for text, printed in run_notebook(path):
        parts.append(text if printed is None else f"```python\n{text}\n```")
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join([*parts, f"The notebook: [{path.name}]({path.name})"]) + "\n"


def run_notebook(path: Path) -> list[tuple[str, str | None]]:
    """Run a notebook's cells in a folder of their own, in which ``results`` is the project's.

    Returns:
        Each cell's text, with what it printed and the value of its last expression; None where it
        is no code.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "notebook"}
    found: list[tuple[str, str | None]] = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("results").symlink_to(DOCS.parent / "results")
            for cell in cells:
                text = "".join(cell["source"])
                code = cell["cell_type"] == "code"
                found.append((text, _run(text, names) if code else None))
        finally:
            os.chdir(before)
    return found


def _run(text: str, names: dict[str, Any]) -> str:
    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "notebook", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
            if value is not None:
                print(value)
    return printed.getvalue()


def _commands() -> str:
    lines = ["# Commands", "", "`automix-eval COMMAND --help` shows the same.", ""]
    for purpose, commands in program.PURPOSES.items():
        lines += [f"## {purpose}", ""]
        for name in commands:
            module = importlib.import_module(f"automix_eval.{program.COMMANDS[name]}")
            lines += [f"### {name}", "", program.summary(name), "", "```text"]
            if name in _OWN_LANGUAGE:
                lines += [f"usage: automix-eval {name} KEY=VALUE ...", "", module.EXAMPLES]
                lines += ["```", "", "Every key: [settings](settings.md).", ""]
                continue
            parser = argparse.ArgumentParser(f"automix-eval {name}", add_help=False)
            module.add_arguments(parser)
            if name == "plan":
                parser.epilog = None
            lines += [parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "The same names in `--model_args`, in a file given as `config=FILE`, and in `run`, `fit`, "
        "`plan` and `replay`. `A,B` is a list where a key takes one, and `A+B` everywhere.",
        "",
    ]
    for name in ("config", "evaluation", "run", "replay"):
        title = {"replay": "Of a replay", "config": "The cascade"}.get(name, described.title(name))
        lines += [f"## {title}", ""]
        lines += _table(described.of_file(name))
    meanings = described.group_meanings("config") | {
        "format": described.group_meanings("replay")["format"]
    }
    for group in (*GROUPS, "format"):
        if group == TIERS[1]:
            continue
        names = TIERS if group in TIERS else (group,)
        lines += ["## " + ", ".join(f"{n}=OPTION" for n in names), ""]
        lines += [f"`{n}`: {meanings[n][0]}; default `{meanings[n][1]}`.\n" for n in names]
        lines += ["| option | |", "|---|---|"]
        for option in described.options(group):
            lines.append(f"| `{option}` | {_cell(described.description(group, option))} |")
        keys = merged(group)
        if keys:
            lines += ["", "| key | value | default | of | |", "|---|---|---|---|---|"]
        for key in keys:
            one = key.setting
            default = f"that of `{one.inherits}`" if one.inherits else _cell(key.default())
            every = len(key.options) == len(described.options(group))
            held = "all" if every else ", ".join(key.options)
            meaning = "" if one.inherits else _cell(one.meaning)
            lines.append(f"| `{one.key}` | {_cell(one.kind)} | {default} | {held} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _table(found: tuple[Setting, ...]) -> list[str]:
    rows = [
        f"| `{s.key}` | {_cell(s.kind)} | `{_cell(s.default)}` | {_cell(s.meaning)} |"
        for s in found
    ]
    return ["| key | value | default | |", "|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _files() -> str:
    lines = [
        "# Files of a run",
        "",
        "Beside the harness's own `results_*.json` and `samples_*.jsonl` a run writes three kinds "
        "of files. All are JSON in UTF-8.",
        "",
        "## Records: automix_records_ID.jsonl",
        "",
        "One line a question, calibration and evaluation.",
        "",
    ]
    for name in _RECORD:
        lines += [f"### {name}", "", *_fields(getattr(types, name)), ""]
    lines += ["## Manifest: automix_run_ID.json", "", (DOCS / "manifest.inc").read_text(), ""]
    lines += ["## Policy: automix_policy_TASK_ID.json", "", (DOCS / "policy.inc").read_text(), ""]
    return "\n".join(lines)


def _fields(kind: Any) -> Iterator[str]:
    text = inspect.getdoc(kind) or ""
    yield text.partition("\n\nA")[0].replace("``", "`")
    yield ""
    about = attributes(text)
    yield "| field | type | |"
    yield "|---|---|---|"
    for field in fields(kind):
        yield f"| `{field.name}` | {_cell(str(field.type))} | {_cell(about.get(field.name, ''))} |"


def attributes(text: str) -> dict[str, str]:
    """Name -> meaning, from a docstring's section of attributes."""
    section = text.partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _report() -> str:
    held = json.loads(render_schema())
    lines = [
        "# The report as JSON",
        "",
        f"`automix-eval report DIR --format json`. {held.get('description', '')}",
        "",
        *_properties(held),
    ]
    for name, part in sorted(held["$defs"].items()):
        lines += [f"## {name}", "", part.get("description", ""), "", *_properties(part), ""]
    return "\n".join(lines)


def _properties(part: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, inner in part.get("properties", {}).items():
        yield f"| `{name}` | {_cell(_kind(inner))} | {_cell(inner.get('description', ''))} |"
    yield ""


def _kind(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    if "anyOf" in part:
        return " or ".join(_kind(p) for p in part["anyOf"])
    if "enum" in part:
        return " or ".join(map(str, part["enum"]))
    if part.get("type") == "array" and isinstance(part.get("items"), dict):
        return f"list of {_kind(part['items'])}"
    if isinstance(part.get("additionalProperties"), dict):
        return f"mapping to {_kind(part['additionalProperties'])}"
    return str(part.get("type", part.get("const", "any")))


def _python() -> str:
    lines = ["# Python interface", ""]
    for module_name, names in _PYTHON:
        module = importlib.import_module(module_name)
        for name in names:
            found = getattr(module, name)
            lines += [f"## {name}", "", f"`{module_name}.{name}`", "", *_described(found), ""]
            if not inspect.isclass(found) or (is_dataclass(found) and name == "Question"):
                continue
            for key, member in vars(found).items():
                own = getattr(member, "__func__", member)
                if not key.startswith("_") and inspect.isfunction(own):
                    lines += [f"### {name}.{key}", "", *_described(own), ""]
    return "\n".join(lines)


def _described(found: Any) -> list[str]:
    name = found.__name__
    shown = str(inspect.signature(found)) if not inspect.isclass(found) else ""
    signature = "" if inspect.isclass(found) else f"{name}{shown}\n\n"
    text = inspect.getdoc(found) or ""
    return ["```text", f"{signature}{text}", "```"]
