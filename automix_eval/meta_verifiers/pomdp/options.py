"""The hyper-parameters of the POMDP, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automix_eval.meta_verifiers.base import check_undefined
from automix_eval.meta_verifiers.pomdp.problem import COMPLEX, SIMPLE, UNSOLVABLE
from automix_eval.meta_verifiers.pomdp.solve import StateReward
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole

# Order of the columns of a reward table in the configuration, as in AutoMix's first version.
COLUMNS = (COMPLEX, SIMPLE, UNSOLVABLE)


def check_options(
    num_bins: Any,
    cost_levels: Any,
    bandwidth: Any,
    ridge: Any,
    neighbours: Any,
    lambda_: Any,
    mixtures: Any,
    undefined: Any,
) -> None:
    """Raise AutoMixError unless the values are valid."""
    if not is_whole(num_bins, 2):
        raise AutoMixError(f"meta_verifier.num_bins={num_bins!r} must be an integer >= 2")
    if not is_whole(cost_levels, 1):
        raise AutoMixError(
            f"meta_verifier.cost_levels={cost_levels!r} must be an integer >= 1 (1 looks at no "
            "question's cost)"
        )
    if bandwidth not in ("scott", "silverman") and not _is_positive(bandwidth):
        raise AutoMixError(
            f"meta_verifier.bandwidth={bandwidth!r} must be scott, silverman or a number > 0"
        )
    for name, value in (("ridge", ridge), ("neighbours", neighbours)):
        if not (_is_positive(value) or (name == "ridge" and value is None)):
            raise AutoMixError(f"meta_verifier.{name}={value!r} must be a number > 0")
    if lambda_ not in (None, 0) and not is_number(lambda_, 0.0):
        raise AutoMixError(f"meta_verifier.lambda_={lambda_!r} must be null or a number >= 0")
    if not isinstance(mixtures, bool):
        raise AutoMixError(f"meta_verifier.mixtures={mixtures!r} must be true or false")
    if undefined != "observe":
        check_undefined(undefined)


def check_prior(prior: Any) -> None:
    """Raise AutoMixError unless it says where a belief before the first tier comes from."""
    if prior not in (None, "knn") and not isinstance(prior, Mapping):
        raise AutoMixError(
            f"meta_verifier.prior={prior!r} must be null, knn, or a mapping of settings of "
            "knn_query, as {encoder: FOLDER}"
        )


def check_solver(solver: Any, reward: Any, undefined: Any, abstain_price: Any) -> None:
    """Raise AutoMixError unless the solver is known and can do what is asked of it."""
    if solver not in ("exact", "pomdp_py"):
        raise AutoMixError(f"meta_verifier.solver={solver!r} must be exact or pomdp_py")
    if abstain_price is not None and (solver == "pomdp_py" or reward is not None):
        what = "solver=pomdp_py" if reward is None else "reward"
        raise AutoMixError(
            f"meta_verifier.abstain_price={abstain_price!r} needs the exact solver and rewards of "
            f"Perf - lambda * cost, and meta_verifier.{what} is given: leave one of the two out"
        )
    if solver == "pomdp_py" and (reward is not None or undefined in ("escalate", "keep")):
        what = "a reward table" if reward is not None else f"undefined={undefined}"
        raise AutoMixError(
            "meta_verifier.solver=pomdp_py plans for Perf - lambda * cost and nothing else, and "
            f"meta_verifier has {what}: use meta_verifier.solver=exact"
        )


def parse_reward(reward: Any) -> StateReward:
    """The reward table of a configuration; AutoMixError unless it has the right form."""
    try:
        rows = {
            action: tuple(_column(reward[action][part]) for part in ("fixed", "per_r"))
            for action in ("keep", "escalate")
        }
        if set(reward) != set(rows) or any(len(reward[a]) != 2 for a in rows):
            raise ValueError("other keys")
    except (KeyError, TypeError, ValueError) as err:
        raise AutoMixError(
            f"meta_verifier.reward={reward!r} must be null or {{keep: {{fixed: [..], per_r: "
            "[..]}, escalate: {fixed: [..], per_r: [..]}}, each a list of three numbers for "
            f"Complex, Simple, Unsolvable ({err!r})"
        ) from err
    return StateReward(keep=rows["keep"], escalate=rows["escalate"])  # type: ignore[arg-type]


def _column(values: Any) -> tuple[float, ...]:
    numbers = list(values)
    if len(numbers) != len(COLUMNS) or not all(is_number(v) for v in numbers):
        raise ValueError(f"{numbers} is no list of three numbers")
    named = dict(zip(COLUMNS, numbers, strict=True))
    return tuple(float(named[s]) for s in (SIMPLE, COMPLEX, UNSOLVABLE))


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0
