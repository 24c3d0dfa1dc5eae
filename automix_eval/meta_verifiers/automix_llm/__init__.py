"""The interface of the authors' package automix-llm 1.0.3; what differs: docs/automix-llm.md."""

from automix_eval.meta_verifiers.automix_llm.automix import AutoMix, Automix
from automix_eval.meta_verifiers.automix_llm.methods import (
    POMDP,
    AutomixUnion,
    DoubleThreshold,
    FixedAnswerRouting,
    GreedyPOMDP,
    POMDPSimple,
    SelfConsistency,
    Threshold,
    TripleThreshold,
)

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
