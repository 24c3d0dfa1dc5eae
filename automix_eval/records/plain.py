"""Dataclasses as JSON values.

``dataclasses.asdict`` copies every number of every tuple; a record holds hundreds of them, and a
run a record a question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

_ATOMS = frozenset({str, int, float, bool, type(None)})
# By class: the names of its fields and what reads them all; None for a class that is no dataclass.
_READERS: dict[type, tuple[tuple[str, ...], Callable[[Any], Any]] | None] = {}


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
    if (reader := _reader(kind)) is not None:
        names, read = reader
        row = dict(zip(names, read(value), strict=True))
    elif isinstance(value, Mapping):
        row = dict(value)
    else:
        return value
    for name, entry in row.items():
        if type(entry) not in _ATOMS and entry != ():
            row[name] = as_json(entry)
    return row


def _reader(kind: type) -> tuple[tuple[str, ...], Callable[[Any], Any]] | None:
    if kind not in _READERS:
        known = dataclasses.is_dataclass(kind)
        names = tuple(f.name for f in dataclasses.fields(kind)) if known else ()
        # attrgetter gives a tuple of two names or more
        _READERS[kind] = (names, attrgetter(*names)) if len(names) > 1 else None
    return _READERS[kind]
