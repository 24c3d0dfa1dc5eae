"""The report as JSON, and the schema that describes it.

The schema is derived from the dataclasses of the report, so the two cannot part. ``version`` is
raised whenever a field is renamed, removed or changes its meaning; new fields do not raise it.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from automix_eval.analysis.figures import Figure, MethodFigures, Report, System, TaskReport
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.columns import MEANINGS
from automix_eval.safety.text import printable

FORMAT = "automix-eval report"
VERSION = 2

_FIGURE_FIELDS = ("value", "low", "high", "stderr", "undefined")
_FIGURE = {
    "type": "object",
    "description": "A number with its interval; null where undefined, with the reason beside it.",
    "properties": {
        name: {"type": ["string" if name == "undefined" else "number", "null"]}
        for name in _FIGURE_FIELDS
    },
    "required": list(_FIGURE_FIELDS),
    "additionalProperties": False,
}


def render_json(report: Report) -> str:
    """Everything in the report as one object.

    An undefined figure is null with its reason beside it: each figure is ``{"value", "low",
    "high", "stderr", "undefined"}``; rates and delta IBC are ratios, not percent.
    """
    value = {"format": FORMAT, "version": VERSION, "level": LEVEL, **to_json(report)}
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def render_schema() -> str:
    """The JSON schema (draft 2020-12) of :func:`render_json`."""
    definitions: dict[str, Any] = {"Figure": _FIGURE}
    body = _schema(Report, definitions)["$ref"].rpartition("/")[2]
    whole = definitions.pop(body)
    head = {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "level": {"type": "number", "description": "Coverage of the intervals."},
    }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{FORMAT}, version {VERSION}",
        **whole,
        "properties": {**head, **whole["properties"]},
        "required": [*head, *whole["required"]],
        "$defs": definitions,
    }
    return json.dumps(schema, indent=2) + "\n"


def figure_json(figure: Figure) -> dict[str, float | str | None]:
    """A figure as one flat object."""
    value, ends = figure.value, figure.interval
    shown: dict[str, float | str | None] = dict.fromkeys(_FIGURE_FIELDS)
    if isinstance(value, Undefined):
        return {**shown, "undefined": value.reason or None}
    if isinstance(ends, Undefined):
        return {**shown, "value": value, "undefined": ends.reason}
    low, high = ends if ends is not None else (None, None)
    return {**shown, "value": value, "low": low, "high": high, "stderr": figure.stderr}


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass of the report as JSON values."""
    shown = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, TaskReport):
        shown["method"] = value.method
    if isinstance(value, System):
        shown["ibc"] = None if value.ibc is None else figure_json(Figure(value.ibc))
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, Figure):
        return figure_json(value)
    if isinstance(value, Undefined):
        return figure_json(Figure(value))
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {printable(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return printable(value, 2000) if isinstance(value, str) else value


# --------------------------------------------------------------------------- the schema


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Figure:
        return {"$ref": "#/$defs/Figure"}
    if isinstance(kind, type) and is_dataclass(kind):
        name = str(kind.__name__)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _class_schema(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(a, definitions) for a in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": _schema(arguments[0], definitions)}
        parts = [_schema(a, definitions) for a in arguments]
        return {"type": "array", "prefixItems": parts, "items": False}
    if origin is not None:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {"type": names[kind]} if kind in names else {}


def _class_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    text = inspect.getdoc(kind) or ""
    about = _attributes(text) | (MEANINGS if kind is MethodFigures else {})
    properties = {}
    for field in fields(kind):
        shown = _schema(hints[field.name], definitions)
        if kind is System and field.name == "ibc":
            shown = {"anyOf": [{"$ref": "#/$defs/Figure"}, {"type": "null"}]}
        described = {"description": about[field.name]} if field.name in about else {}
        properties[field.name] = {**shown, **described}
    if kind is TaskReport:
        properties["method"] = {"type": "string", "description": "Name of the method's row."}
    return {
        "type": "object",
        "description": text.partition("\n")[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _attributes(text: str) -> dict[str, str]:
    """Name -> meaning, from a docstring's section of attributes."""
    section = text.partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}
