"""Every setting as hydra_conf/ describes it: the source of help, completion and reference.

A key's comment, above it or behind it, is its meaning; it ends in ``<KIND>``, what the value may
be: ``integer >= 1``, ``number in [0, 1]``, ``routed | full``, ``list of names``, ``path``. Hydra is
not imported: a shell that completes a word waits for this.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import yaml

from automix_eval.config.overrides import TIERS
from automix_eval.paths import hydra_conf_dir

_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z_]\w*):(?P<rest>.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(?P<text>.*)$")
# Between the items of a list; 1e+3 is a number.
PLUS = re.compile(r"(?<!\d[eE])\+")
_NO_SETTINGS = ("_target_", "defaults", "hydra")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key.

    Attributes:
        key: As it is written on a command line, such as ``verifier.num_samples``.
        meaning: Of the value; its first word may be the end of a sentence that the key begins.
        kind: What the value may be; empty where the value is taken from another key.
        default: As YAML; ``???`` must be given.
    """

    key: str
    meaning: str
    kind: str
    default: str

    @property
    def inherits(self) -> str:
        """The key whose value this one takes, empty where it has a value of its own."""
        match = re.fullmatch(r"\$\{(\w+)\}", self.default)
        return match[1] if match else ""

    @property
    def choices(self) -> list[str]:
        """The words that the value may be, where it is one of some."""
        words = [word.strip() for word in self.kind.split("|")]
        return [word for word in words if re.fullmatch(r"[a-z_]\w*", word)] if words[1:] else []


@lru_cache(maxsize=256)
def of_file(name: str) -> tuple[Setting, ...]:
    """The keys of a file of hydra_conf/, such as ``config`` or ``verifier/few_shot``."""
    text = (hydra_conf_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text) or {}
    return tuple(_settings(text.splitlines(), values))


@lru_cache(maxsize=256)
def of_option(group: str, option: str) -> tuple[Setting, ...]:
    """The keys of a group's option with the group's name before them, those of its bases too."""
    folder = "tier" if group in TIERS else group
    text = (hydra_conf_dir() / folder / f"{option}.yaml").read_text(encoding="utf-8")
    found: dict[str, Setting] = {}
    for base in (yaml.safe_load(text) or {}).get("defaults", []):
        if base != "_self_":
            found |= {s.key: s for s in of_option(group, str(base))}
    for setting in of_file(f"{folder}/{option}"):
        key = f"{group}.{setting.key}"
        own = replace(setting, key=key)
        if key in found and not own.kind:  # a base says what it is, this file its value
            base_of = found[key]
            meaning = own.meaning or base_of.meaning
            own = replace(own, meaning=meaning, kind=base_of.kind)
        found[key] = own
    return tuple(found.values())


def options(group: str) -> list[str]:
    """Names of a group's options: its YAML files."""
    return sorted(p.stem for p in (hydra_conf_dir() / group).glob("*.yaml"))


def description(group: str, option: str) -> str:
    """What the comment on top of an option's file says."""
    file = hydra_conf_dir() / ("tier" if group in TIERS else group) / f"{option}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    return _joined(itertools.takewhile(lambda line: line.startswith("#"), lines))


def title(name: str) -> str:
    """The first sentence of the comment on top of a file."""
    text = (hydra_conf_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    top = _joined(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    return top.partition(". ")[0].rstrip(".")


def group_meanings(name: str) -> dict[str, tuple[str, str]]:
    """Group -> (what it is, its default option), as the list of defaults of a file says."""
    text = (hydra_conf_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    return {
        match[1]: (match[3], match[2])
        for match in re.finditer(r"^  - (\w+): (\w+)\s+# (.*)$", text, re.MULTILINE)
    }


@lru_cache(maxsize=1024)
def kind(key: str, files: tuple[str, ...], groups: tuple[str, ...]) -> str | None:
    """What the value of a key may be, in the files or an option of its group; None if unknown."""
    group = key.partition(".")[0]
    own = (of_option(group, o) for o in options(group)) if group in groups else ()
    known = itertools.chain.from_iterable((*map(of_file, files), *own))
    return next((s.kind for s in known if s.key == key), None)


def as_list(text: str, kind: str) -> list[Any]:
    """A list as --model_args writes it: ``1+10+50``, for a comma ends an argument there."""
    items = PLUS.split(text)
    return [yaml.safe_load(i) for i in items] if kind.endswith(("numbers", "integers")) else items


def holders(group: str, name: str) -> list[str]:
    """Options of a group that have a key of this name."""
    key = f"{group}.{name}"
    return [o for o in options(group) if any(s.key == key for s in of_option(group, o))]


def names_in(group: str) -> list[str]:
    """Names of all keys of all options of a group."""
    found = (s.key.partition(".")[2] for o in options(group) for s in of_option(group, o))
    return list(dict.fromkeys(found))


def _settings(lines: Sequence[str], values: Mapping[str, Any]) -> Iterator[Setting]:
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in lines:
        if line.lstrip().startswith("#"):
            above.append(line)
            continue
        match = _KEY.match(line)
        if match is None:
            above = []
            continue
        indent = len(match["indent"])
        parents = [(at, name) for at, name in parents if at < indent]
        path = [*(name for _, name in parents), match["name"]]
        parents.append((indent, match["name"]))
        comment = _COMMENT.search(match["rest"])
        meaning, kind = _parted(comment["text"] if comment else _joined(above))
        above = []
        value = _value(values, path)
        if path[0] in _NO_SETTINGS or (isinstance(value, dict) and not kind):
            continue
        yield Setting(".".join(path), meaning, kind, _as_yaml(value))


def _value(values: Any, path: Sequence[str]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _parted(comment: str) -> tuple[str, str]:
    meaning, mark, kind = comment.strip().rpartition("<")
    if not mark or not kind.endswith(">"):
        return comment.strip(), ""
    return meaning.strip(), kind[:-1]


def _joined(lines: Any) -> str:
    return " ".join(line.strip().lstrip("#").strip() for line in lines).strip()


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip().strip("'")
