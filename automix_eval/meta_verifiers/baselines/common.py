"""What the baselines that learn share: folds, thinning, objectives, reading of policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole

# Policies of a sweep: enough for a smooth curve, few enough to replay.
SWEEP = 51


def check_count(name: str, value: Any, least: int) -> None:
    """Raise AutoMixError unless a hyper-parameter is an integer of at least ``least``."""
    if not is_whole(value, least):
        raise AutoMixError(f"meta_verifier.{name}={value!r} must be an integer of at least {least}")


def check_positive(name: str, value: Any) -> None:
    """Raise AutoMixError unless a hyper-parameter is a positive, finite number."""
    if not is_number(value) or value <= 0:
        raise AutoMixError(f"meta_verifier.{name}={value!r} must be a positive number")


def thinned(values: FloatArray, most: int = SWEEP) -> FloatArray:
    """At most so many of some values, evenly by their place, both ends among them."""
    if len(values) <= most:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, most).round().astype(int)])


def thin(outcomes: Outcomes, most: int) -> Outcomes:
    """The rows in their canonical order, at most ``most``: every n/most-th row of that order.

    Rows next to each other in the canonical order are alike, so a regular step through it is a
    stratified sample, and it is the same sample whatever the order of the rows was.
    """
    rows = outcomes.canonical()
    if len(rows) <= most:
        return rows
    return rows.take(np.arange(most) * len(rows) // most)


def fold_of(outcomes: Outcomes, folds: int) -> IntArray:
    """(n,) the fold of each row of canonical outcomes, 0 .. folds - 1; no fold is empty.

    Rows of one document share a fold: a learner that saw one of them would know the others too
    well. Where there are fewer documents than folds, rows are dealt out one by one.
    """
    n = len(outcomes)
    if outcomes.documents is not None:
        names, group = np.unique(np.array(outcomes.documents), return_inverse=True)
        if len(names) >= min(folds, n):
            return np.asarray(group % folds)
    return np.arange(n) % folds


def one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread: small products are slower on several, and round otherwise."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1)
    return limited


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """Those that scikit-learn has loaded by now: looking for them takes as long as a small fit."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # scikit-learn's

    return ThreadpoolController()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns what goes wrong while a policy is read into an AutoMixError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as err:
        raise AutoMixError(
            f"this is no policy of meta_verifier={name} ({err!r}): fit it again"
        ) from err


def exactly(learned: Any, *keys: str) -> None:
    """Raise ValueError unless a mapping of a policy has these keys and no other."""
    if not isinstance(learned, dict) or set(learned) != set(keys):
        raise ValueError(f"expected the keys {sorted(keys)}, got {learned!r:.120}")


def number(value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """A finite number of a policy, within bounds; ValueError otherwise."""
    if not is_number(value, low, high):
        raise ValueError(f"expected a number in [{low}, {high}], got {value!r:.60}")
    return float(value)


def text(value: Any) -> str:
    """A text of a policy; ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {value!r:.60}")
    return value


def table(value: Any, *shape: int | None) -> FloatArray:
    """Finite numbers of a policy in this shape (None: any length); ValueError otherwise."""
    made = np.array(value, dtype=np.float64)
    fits = made.ndim == len(shape) and all(
        want in (None, size) for want, size in zip(shape, made.shape, strict=True)
    )
    if not fits or not np.isfinite(made).all():
        raise ValueError(f"expected finite numbers of the shape {shape}, got {made.shape}")
    return made
