"""Dataclasses as JSON values.

``dataclasses.asdict`` copies every number of every tuple; a record holds hundreds of them, and a
run a record a question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

_ATOMS = frozenset({str, int, float, bool, type(None)})
# Field names by class, none for a class that is no dataclass.
_NAMES: dict[type, tuple[str, ...]] = {}


def as_json(value: Any) -> Any:
    """A value of dataclasses, tuples, mappings and JSON atoms as what ``json.dumps`` takes.

    As JSON text it equals that of ``dataclasses.asdict``.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is tuple or kind is list:
        # one kind of entry a tuple, as the types say; numbers and texts are JSON already
        if not value or type(value[0]) in _ATOMS:
            return value
        return kind(as_json(v) for v in value)
    if names := _names(kind):
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: as_json(v) for key, v in value.items()}
    return value


def _names(kind: type) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        names = _NAMES[kind] = tuple(f.name for f in fields)
    return names
