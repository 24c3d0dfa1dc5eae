"""The option ``pomdp``: AutoMix's POMDP, with or without a prior from the question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automix_eval.meta_verifiers.pomdp.chain_pomdp import ChainPomdp
from automix_eval.meta_verifiers.pomdp.options import check_prior
from automix_eval.meta_verifiers.pomdp.query_prior import PomdpWithPrior


@dataclass(kw_only=True, eq=False)
class Pomdp(ChainPomdp):
    """The paper's POMDP for N tiers: keep an answer, or route to any later tier.

    See :class:`.chain_pomdp.ChainPomdp`, whose hyper-parameters these are, and one more.

    Args:
        prior: None, or ``knn``: what is believed of a question before the first tier comes from the
            questions nearest to it (:mod:`.query_prior`); a mapping are settings of ``knn_query``.
    """

    prior: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_prior(self.prior)
        if self.prior is None:
            super().__post_init__()
            return
        self.__class__ = PomdpWithPrior  # type: ignore[assignment]  # a router of its own
        self.__post_init__()
