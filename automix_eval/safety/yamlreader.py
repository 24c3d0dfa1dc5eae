"""The YAML that is read from files of others."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice and numbers without an end are errors."""


def _number(loader: Loader, node: yaml.ScalarNode) -> float:
    number = float(loader.construct_yaml_float(node))
    if not math.isfinite(number):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:40]} is no finite number", node.start_mark
        )
    return number


def _integer(loader: Loader, node: yaml.ScalarNode) -> int:
    number = int(loader.construct_yaml_int(node)) if len(node.value) < 80 else 2**63
    if abs(number) >= 2**63:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:40]} has more than 64 bits", node.start_mark
        )
    return number


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
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
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _REPLACED]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
Loader.add_constructor("tag:yaml.org,2002:float", _number)
Loader.add_constructor("tag:yaml.org,2002:int", _integer)
Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
