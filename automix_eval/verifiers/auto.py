"""What a tier's own token probabilities say, in one calibrated confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automix_eval.verifiers.token_profile import TokenProfile


class Auto(TokenProfile):
    """The signals of :class:`.token_profile.TokenProfile`, with ``calibrator=auto``.

    The calibrator is fitted with the policy and turns the signals into one confidence; how many of
    them it takes depends on the rows, and with few it takes the mean token probability alone, as
    ``verifier=margin`` does.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name; there are no hyper-parameters."""
        return {"name": "auto"}
