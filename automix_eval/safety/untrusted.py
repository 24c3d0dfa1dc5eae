"""Files and texts of others: read within bounds, and shown without what a terminal obeys.

Every function raises ValueError, with one line that says what is wrong; the caller adds which file
it is about.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from automix_eval.safety.text import printable

MIB = 2**20
#: Longest line of a file of records or samples, in bytes.
LONGEST_LINE = 64 * MIB
#: Levels of lists and mappings in one another.
_DEEPEST = 64
_MOST_NODES = 100_000
_LARGEST = 2**63


def read_bytes(path: Path, most: int) -> bytes:
    """A file's bytes.

    Args:
        path: An ordinary file; a pipe or device would never end.
        most: Most bytes taken.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ordinary file, or larger.
    """
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most // MIB} MiB")
    return data


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, open to be read; OSError and ValueError as of :func:`read_bytes`."""
    # without O_NONBLOCK a pipe that nobody writes to is waited for already here
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(handle, "rb", buffering=MIB)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise ValueError("no ordinary file")
    return file


def read_json(path: Path, most: int = 256 * MIB, nan_is_none: bool = False) -> Any:
    """A JSON file as :func:`parse_json` takes it; OSError and ValueError as there.

    Its texts are whole characters, so that what was read can be written.
    """
    data = read_bytes(path, most)
    value = parse_json(data, nan_is_none)
    if b"\\ud" in data.lower():
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def parse_json(data: bytes, nan_is_none: bool = False) -> Any:
    """Strict JSON: UTF-8, finite numbers of at most 64 bits, unique keys, not too deep.

    Args:
        data: The bytes.
        nan_is_none: Whether ``NaN`` and ``Infinity``, as Python writes what is no number, are None.

    Raises:
        ValueError: It is anything else.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=(lambda _: None) if nan_is_none else _no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    _check_depth(value)
    return value


def why_no_json(line: bytes, err: Exception) -> str:
    """What is wrong with a line that msgspec refuses, in words that name the place to mend."""
    named: list[str] = []
    try:
        value = json.loads(line, parse_constant=named.append)
        if named:
            return f"{named[0]} is no JSON: write null"
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a text holds half a surrogate pair (\\ud800 to \\udfff), which is no character"
    except (ValueError, RecursionError):
        pass
    return str(err)


def parse_yaml(data: bytes) -> Any:
    """One YAML document of plain values: no tags of programs, bounded aliases, unique keys.

    Numbers such as ``1e-3`` are numbers, as in Hydra's own files; dates are texts.

    Raises:
        ValueError: It is anything else.
    """
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_nodes(node)
            value = loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    except yaml.MarkedYAMLError as err:
        # the whole message shows the text around, where secrets may stand
        line = err.problem_mark.line + 1 if err.problem_mark else "?"
        raise ValueError(f"line {line}: {printable(err.problem)}") from err
    except (yaml.YAMLError, OverflowError) as err:
        raise ValueError(printable(err)) from err
    return value


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, from 1, without holding more than one.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ordinary file, or a line is longer than :data:`LONGEST_LINE`.
    """
    with open_file(path) as file:
        yield from enumerate(bounded(file), 1)


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """The lines of an open file; ValueError for one longer than :data:`LONGEST_LINE`."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE // MIB} MiB")
        yield line


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"the key {printable(twice, 80)!r} stands twice in one object")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond all floating-point numbers")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) < 40 else _LARGEST
    if abs(number) >= _LARGEST:
        raise ValueError(f"{text[:40]} has more than 64 bits")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {_DEEPEST} levels")


def _check_nodes(root: Any) -> None:
    """Aliases are followed as often as they stand: a few lines may mean billions of values."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if id(node) in open_nodes:
            raise ValueError("an alias refers to what it stands in")
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inner: list[Any] = []
            if isinstance(node, yaml.MappingNode):
                inner = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                inner = list(node.value)
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in inner)
            open_nodes.discard(id(node))
        if sizes[id(node)] > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES} values, aliases included")
        return sizes[id(node)]

    size(root, 0)


# --------------------------------------------------------------------------- YAML of others


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice and numbers without an end are errors."""


def _yaml_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    number = float(loader.construct_yaml_float(node))
    if not math.isfinite(number):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:40]} is no finite number", node.start_mark
        )
    return number


def _yaml_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = int(loader.construct_yaml_int(node)) if len(node.value) < 80 else 2**63
    if abs(number) >= 2**63:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:40]} has more than 64 bits", node.start_mark
        )
    return number


def _yaml_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[tuple[str, str]] = set()
    for key_node, _ in node.value:  # a merged key (<<) may be overridden, an own one is unique
        name = (key_node.tag, str(key_node.value))
        if not isinstance(key_node, yaml.ScalarNode) or name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {name[1][:40]!r} stands twice or is none", key_node.start_mark
            )
        seen.add(name)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_REPLACED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _REPLACED]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:float", _yaml_float)
_Loader.add_constructor("tag:yaml.org,2002:int", _yaml_integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _yaml_mapping)
