"""The POMDP of the paper: problem, costs, solution, policy and its words."""

from automix_eval.meta_verifiers.pomdp.router import Pomdp

__all__ = ["Pomdp"]
