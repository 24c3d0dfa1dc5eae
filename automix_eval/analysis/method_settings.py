"""Settings of a run, flat, so that two runs can be told apart by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from automix_eval.analysis.selection import settings_of
from automix_eval.records.runs import Run
from automix_eval.safety.text import printable

# Settings of a run that are compared by themselves, say nothing of its answers, or are read only by
# others that are compared.
_NOT_THE_METHOD = frozenset(
    [
        "cost",
        "llm",
        "mean_cost",
        "metric",
        "model",
        "objective",
        "record",
        "skip_unsupported",
        "slm",
        "target",
        "tiers",
    ]
)
_NO_SETTING = frozenset(["_target_", "seed", "transfer"])


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """Settings that may change the answers of a run, its seeds left out.

    Attributes:
        values: By dotted name, as text.
    """

    values: Mapping[str, str]

    @classmethod
    def of_method(cls, run: Run) -> MethodSettings:
        """Those of everything but the tiers and the prices."""
        held = {k: v for k, v in run.config.items() if k not in _NOT_THE_METHOD}
        return cls({"model": run.label, **dict(_flat(settings_of(held)))})

    @classmethod
    def of_verifier(cls, run: Run) -> MethodSettings:
        """Those of the verifier."""
        return cls(dict(_flat(settings_of(run.config.get("verifier")), "verifier")))

    @classmethod
    def of_tiers(cls, run: Run) -> MethodSettings:
        """Those of all tiers."""
        return cls(dict(_flat({f"tier {i}": t for i, t in enumerate(_tiers(run))})))

    @classmethod
    def of_last_tier(cls, run: Run) -> MethodSettings:
        """Those of the LLM."""
        return cls(dict(_flat(_tiers(run)[-1])))

    def text(self) -> str:
        """The same for the same settings."""
        return json.dumps(self.values, sort_keys=True)

    @staticmethod
    def unequal(several: Iterable[MethodSettings]) -> list[str]:
        """Names of the settings that are not the same in all of them."""
        found = [one.values for one in several]
        keys = sorted({key for one in found for key in one})
        return [printable(k) for k in keys if len({one.get(k) for one in found}) > 1]


def _tiers(run: Run) -> list[Any]:
    chain = run.config.get("tiers")
    own = (
        chain if isinstance(chain, list) and chain else [run.config.get(k) for k in ("slm", "llm")]
    )
    return list(settings_of(own))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Settings at any depth, by their dotted names."""
    if not isinstance(value, Mapping):
        yield name, value if isinstance(value, str) else json.dumps(value, default=str)
        return
    for key, inner in sorted(value.items(), key=lambda pair: str(pair[0])):
        if key not in _NO_SETTING:
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
