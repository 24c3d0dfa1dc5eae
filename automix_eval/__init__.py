"""AutoMix (arXiv 2310.12963) as a model of the lm-evaluation-harness.

The names below are the interface of the authors' package automix-llm; they are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automix_eval.dropin import (
        POMDP,
        AutoMix,
        Automix,
        AutomixUnion,
        DoubleThreshold,
        FixedAnswerRouting,
        GreedyPOMDP,
        POMDPSimple,
        SelfConsistency,
        Threshold,
        TripleThreshold,
    )

__version__ = "0.1.0"

__all__ = [
    "POMDP",
    "AutoMix",
    "Automix",
    "AutomixUnion",
    "DoubleThreshold",
    "FixedAnswerRouting",
    "GreedyPOMDP",
    "POMDPSimple",
    "SelfConsistency",
    "Threshold",
    "TripleThreshold",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from automix_eval import dropin

        return getattr(dropin, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
