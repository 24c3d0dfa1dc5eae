"""What an axis does to outcomes: which tiers, what they cost, how good the confidences are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.records.outcomes import FloatArray, Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole

Chain = tuple[int, ...]


def chains(value: Any, num_tiers: int) -> list[Chain]:
    """The chains that a value of the axis ``tiers`` stands for, among N tiers.

    ``ends``: the first and the last. ``pairs``: every two. ``neighbours``: every two that follow
    each other. ``all``. A number k: k tiers evenly spread from the first to the last, none where
    there are fewer. A list: these tiers, counted from 0.

    Raises:
        AutoMixError: Any other value.
    """
    every = range(num_tiers)
    if value == "ends":
        return [(0, num_tiers - 1)]
    if value == "all":
        return [tuple(every)]
    if value == "pairs":
        return list(combinations(every, 2))
    if value == "neighbours":
        return [(t, t + 1) for t in every[:-1]]
    if isinstance(value, list) and len(value) > 1 and all(isinstance(t, int) for t in value):
        return [tuple(value)] if max(value) < num_tiers and sorted(set(value)) == value else []
    if is_whole(value, 2):
        if value > num_tiers:
            return []
        return [tuple(np.round(np.linspace(0, num_tiers - 1, value)).astype(int).tolist())]
    raise AutoMixError(
        f"tiers={value!r} is unknown: ends, all, pairs, neighbours, a number of at least 2, or a "
        "list of tiers counted from 0"
    )


def priced(outcomes: Outcomes, ratio: float | None, verify_cost: float | None) -> Outcomes:
    """The same outcomes at other prices.

    Args:
        outcomes: Of N tiers.
        ratio: An answer of the first tier costs 1 and one of the last this much, those between in
            equal steps of a factor; None: their own costs.
        verify_cost: A verification in answers of the tier that judges; None: its own cost.

    Raises:
        AutoMixError: A price is not a number of at least 0, or a ratio not above 1.
    """
    made = outcomes
    if ratio is not None:
        if not is_number(ratio) or ratio <= 1:
            raise AutoMixError(f"ratio={ratio!r} must be a number above 1, or null")
        prices = np.geomspace(1.0, ratio, outcomes.num_tiers)
        made = replace(made, answer_costs=np.broadcast_to(prices, made.scores.shape).copy())
    if verify_cost is not None:
        if not is_number(verify_cost, 0.0):
            raise AutoMixError(
                f"verify_cost={verify_cost!r} must be a number of at least 0, or null"
            )
        judged = np.broadcast_to(made.answer_costs.mean(axis=0), made.scores.shape) * verify_cost
        judged[:, -1] = 0.0
        made = replace(made, verification_costs=judged)
    return made


def voted(outcomes: Outcomes, votes: int | None, seed: int) -> Outcomes:
    """Confidences as shares of k votes, each drawn to be "correct" with the confidence's chance."""
    if votes is None:
        return outcomes
    if not is_whole(votes, 1):
        raise AutoMixError(f"votes={votes!r} must be an integer of at least 1, or null")
    rng = np.random.default_rng([seed, votes])
    held = outcomes.confidences
    drawn = rng.binomial(votes, np.nan_to_num(held)) / votes
    return replace(outcomes, confidences=np.where(np.isnan(held), np.nan, drawn))


def shuffled(outcomes: Outcomes, share: float, seed: int) -> Outcomes:
    """A share of the confidences, by question, are those of other questions."""
    if not is_number(share, 0.0, 1.0):
        raise AutoMixError(f"shuffled={share!r} must be a share from 0 to 1")
    if not share:
        return outcomes
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(len(outcomes)) < share)
    mixed: FloatArray = outcomes.confidences.copy()
    mixed[rows] = outcomes.confidences[rng.permutation(rows)]
    return replace(outcomes, confidences=mixed)


def sampled(train: Outcomes, size: float | None, seed: int) -> Outcomes:
    """A random sample of the training rows: so many, below 1 a share; None is all of them."""
    if size is None:
        return train
    if not is_number(size) or size <= 0 or (size >= 1 and size != int(size)):
        raise AutoMixError(f"train={size!r} must be a number of rows, a share below 1, or null")
    number = max(1, round(size * len(train))) if size < 1 else int(size)
    return train.take(sorted(nested_sample(len(train), number, seed)))


def label(names: Sequence[str], chain: Chain) -> str:
    """A chain in words: its tiers, or for a long one its ends and its length."""
    picked = [names[t] for t in chain]
    if len(picked) <= 2:
        return " > ".join(picked)
    return f"{picked[0]} > {picked[-1]} ({len(picked)} tiers)"
