"""What a router is: the protocol that every option of ``meta_verifier=`` keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from automix_eval.types import Decision, Observation

if TYPE_CHECKING:
    from automix_eval.records.outcomes import IntArray, Outcomes, Seen


class MetaVerifier(Protocol):
    """A router, in scikit-learn's manners: ``__init__`` stores, ``fit`` learns ``*_`` values.

    Attributes:
        needs_verification: Whether it reads confidences.
        needs_fit: Whether ``fit`` must run (or a policy be loaded) before it decides.
        needs_texts: Whether it reads the identity, question or answer of a row.
        needs_hindsight: Whether it reads scores it could not know: replays only.
        only_tier: The one tier it ever asks (-1 the last); None if that depends.
        reads: Names of the signals it is to be fitted on, or that its policy reads.
    """

    needs_verification: bool
    needs_fit: bool
    needs_texts: bool
    needs_hindsight: bool
    only_tier: int | None

    def check_chain(self, num_tiers: int) -> None:
        """Raise AutoMixError unless it routes chains of this length: before a model is asked."""

    @property
    def reads(self) -> Sequence[str]:
        """Names of signals; empty where it reads none, or all there are."""

    def check_signals(self, given: Collection[str]) -> None:
        """Raise AutoMixError unless a verifier that gives these signals gives all it reads."""

    def fit(self, outcomes: Outcomes) -> MetaVerifier:
        """Learn from outcomes of every tier; the order of the rows does not matter."""

    def choose(self, seen: Seen) -> IntArray:
        """(n,) the tier each question goes to next.

        The tier reached keeps its answer; before the first tier (``seen.tier == -1``) the choice
        is the tier asked first. ``ABSTAIN`` after a tier but the last: the question ends there,
        and the answer that it has does not count.
        """

    def decide(self, observations: Sequence[Observation]) -> list[Decision]:
        """:meth:`choose` for observations of a live run, with reasons; one decision each."""

    def sweep(self) -> list[tuple[float | None, MetaVerifier]]:
        """After ``fit``: every (parameter, policy) of its range; one pair without parameters."""

    def only_last(self) -> Any:
        """After ``fit``: the policy that asks the last tier alone; None where the range has it."""

    def notes(self) -> list[str]:
        """What the reader of a report must know about the fit; empty if nothing."""

    def describe(self) -> str:
        """The policy in words and tables."""

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore what :meth:`get_learned` returned; wrong shapes raise AutoMixError."""
