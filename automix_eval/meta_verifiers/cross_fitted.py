"""A router fitted in folds, so that no question is decided by a policy that saw its scores.

Policies of five folds share three quarters of what they were fitted on, so that folds err together,
and an interval that takes questions for independent is too narrow (S. Bates, T. Hastie and R.
Tibshirani, "Cross-validation: what does it estimate and how well does it do it?", arXiv
2104.00673). So its figures are those of policies fitted without one fold more, as there: a question
has four of them, :attr:`CrossFitted.ways`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import Router, Walk, require_fitted
from automix_eval.meta_verifiers.baselines.common import check_count, fold_of
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.follow import Follower
from automix_eval.records.outcomes import IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError

# Policies of a range: those of the folds are matched by their place in it.
_POINTS = 33


class CrossFitted(Router):
    """Decides each question by a policy that was fitted on the other folds.

    For replays of rows that nothing parts into training and test rows: ``fit`` and the play take
    the same rows. Rows of one document share a fold. A figure of it is one of the way of fitting,
    not of one policy: to use a policy, fit the router itself on all rows.

    Args:
        make: Makes one unfitted router.
        folds: Number of folds, at least 2.

    Attributes:
        policies_: One a fold; None before fitting.
        fold_of_: The fold of each question, by its identity.
    """

    needs_fit = True
    needs_texts = True  # the identity of a row says which fold it is in

    def __init__(self, make: Callable[[], MetaVerifier], folds: int = 5) -> None:
        check_count("folds", folds, 2)
        self.make, self.folds = make, folds
        one = make()
        self.needs_verification, self.needs_hindsight = one.needs_verification, one.needs_hindsight
        self.policies_: list[MetaVerifier] | None = None
        self.fold_of_: dict[str, int] = {}
        self._rows: Outcomes | None = None
        self._fitted: dict[frozenset[int], MetaVerifier] = {}
        self._ways: tuple[CrossFitted, ...] = ()

    def fit(self, outcomes: Outcomes) -> CrossFitted:
        """Fit a policy on all folds but one, for each.

        Raises:
            AutoMixError: There are fewer rows than folds, or rows of one identity in two folds.
        """
        rows = outcomes.canonical()
        if len(rows) < self.folds:
            raise AutoMixError(
                f"{len(rows)} questions cannot be parted into {self.folds} folds: set fewer folds"
            )
        fold = fold_of(rows, self.folds)
        self.fold_of_ = {}
        for name, number in zip(rows.ids, fold.tolist(), strict=True):
            if self.fold_of_.setdefault(name, number) != number:
                raise AutoMixError(
                    f"the question {name} stands in several rows: rows of one identity are fitted "
                    "and scored together where they are one document (document_column)"
                )
        self._rows, self._fitted, self._ways = rows, {}, ()
        self._hold([self.without(f) for f in range(self.folds)])
        return self

    def rest(self, *left_out: int) -> Outcomes:
        """The questions of the other folds."""
        rows: Outcomes = require_fitted(self._rows, "cross-fitted")
        return rows.take([self.fold_of_[name] not in left_out for name in rows.ids]).canonical()

    def without(self, *left_out: int) -> MetaVerifier:
        """What is fitted on the other folds, once."""
        key = frozenset(left_out)
        if key not in self._fitted:
            self._fitted[key] = self.make().fit(self.rest(*left_out))
        return self._fitted[key]

    @property
    def ways(self) -> tuple[CrossFitted, ...]:
        """Each fold by the policies that saw neither it nor one of the others, in turn.

        Itself alone where two folds leave nothing to fit on, where policies were given, and where
        texts are read, which takes too long to be done thrice.
        """
        number = self.folds
        if self._rows is None or number == 2 or self.make().needs_texts:
            return (self,)
        if not self._ways:
            pairs = ([(f, (f + more) % number) for f in range(number)] for more in range(1, number))
            self._ways = tuple(
                self.with_policies([self.without(*pair) for pair in way]) for way in pairs
            )
        return self._ways

    def choose(self, seen: Seen) -> IntArray:  # noqa: ARG002 - the contract's
        """Refused, as :meth:`get_learned`: rows are decided together, by :meth:`walk`."""
        raise AutoMixError("a cross-fitted router is no policy, so it decides no single question")

    def walk(self, outcomes: Outcomes, known: dict[Any, Any]) -> Walk:
        """Where all rows lead, fold by fold."""
        policies: list[MetaVerifier] = require_fitted(self.policies_, "cross-fitted")
        if "folds" not in known:
            try:
                fold = np.array([self.fold_of_[name] for name in outcomes.ids])
            except KeyError as err:
                raise AutoMixError(
                    f"question {err} was not among those fitted in folds, so it has no policy"
                ) from err
            parts = [np.flatnonzero(fold == number) for number in range(self.folds)]
            # the rows of a fold, followed by themselves, may share what policies know of them
            known["folds"] = [(rows, Follower(outcomes.take(rows))) for rows in parts]
        final = np.empty(len(outcomes), dtype=np.intp)
        visited = np.empty((outcomes.num_tiers, len(outcomes)), dtype=np.bool_)
        abstained, verified = (np.empty(len(outcomes), dtype=np.bool_) for _ in range(2))
        for (rows, part), policy in zip(known["folds"], policies, strict=True):
            final[rows], asked, abstained[rows], _ = part.walk(policy)
            visited[:, rows] = asked.T
            verified[rows] = policy.needs_verification  # not by one that asks one tier alone
        return Walk(final, visited.T, abstained, verified)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Policies at equal places of the folds' ranges; their parameters differ by fold."""
        policies: list[MetaVerifier] = require_fitted(self.policies_, "cross-fitted")
        families = [p.sweep() for p in policies]
        number = min(_POINTS, *(len(f) for f in families))
        if number < 2:
            return [(None, self)]
        places = [np.linspace(0, len(f) - 1, number).round().astype(int) for f in families]
        return [
            (None, self.with_policies([f[p[i]][1] for f, p in zip(families, places, strict=True)]))
            for i in range(number)
        ]

    def notes(self) -> list[str]:
        """Those of the folds' policies; of those that differ in their numbers alone the first."""
        alike: dict[str, list[str]] = {}
        for note in (n for p in self.policies_ or () for n in p.notes()):
            alike.setdefault(re.sub(r"\d+(\.\d+)?", "#", note), []).append(note)
        return [
            found[0] + (f" (alike in {len(found)} folds)" if len(set(found)) > 1 else "")
            for found in alike.values()
        ]

    def describe(self) -> str:
        """How many policies there are; they differ."""
        return f"{self.folds} policies, each fitted on the other folds' questions."

    def get_learned(self) -> dict[str, Any]:
        """Refused: it is no one policy."""
        raise AutoMixError("a cross-fitted router is no policy: fit the router on all rows")

    def set_learned(self, learned: Mapping[str, Any]) -> None:  # noqa: ARG002 - the contract's
        """Refused, as :meth:`get_learned`."""
        raise AutoMixError("a cross-fitted router is no policy, so none can be loaded into it")

    def with_policies(self, policies: list[MetaVerifier]) -> CrossFitted:
        """The same folds with other policies, one a fold."""
        other = copy(self)
        other._rows = None
        other._hold(policies)
        return other

    def _hold(self, policies: list[MetaVerifier]) -> None:
        self.policies_ = policies
        self.needs_verification = any(policy.needs_verification for policy in policies)
