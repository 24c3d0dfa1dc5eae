"""A router's figures on outcomes of every tier, as the result of a replay holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.analysis.curve_figures import random_cost
from automix_eval.analysis.figures import Abstention, Figure, MethodFigures
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.curves import STEP_AREA, Point, quality_at, step_area
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes

_FIGURES = ("quality", "share", "cost", "saved", "escalation_rate", "delta_ibc", "kept")


def score(
    router: MetaVerifier,
    test: Outcomes,
    seed: int,
    resamples: int,
    pairs: MetaVerifier | None = None,
    fitting: Outcomes | None = None,
) -> dict[str, Any]:
    """Score a fitted router, its whole range and what it is compared with.

    Args:
        router: Fitted, or of a kind that learns nothing.
        test: Outcomes of every tier.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
        pairs: The best cascade of two tiers, fitted likewise; None where there is none.
        fitting: The questions it was fitted on; None where they are unknown, or in folds.

    Returns:
        JSON: a figure that does not exist is null, with the reason in ``undefined``. ``auc`` is the
        :func:`~automix_eval.metrics.curves.step_area` of the router's range, ``cost_at`` the
        cost down to which its policies, chosen on the fitting questions and mixed, hold a share of
        the last tier's quality; without fitting questions the least on the hull of its range.
        ``apgr`` and ``cpt`` are RouteLLM's (arXiv 2406.18665).
    """
    row = MethodScore.of_routers([router], test, seed, resamples, fitting=[fitting])
    found, corners = row.figures(), row.oracle()
    spent = random_cost(row.mean("cost"), row.ends())
    quality, costs = test.scores.mean(axis=0).tolist(), test.answer_costs.mean(axis=0).tolist()
    tiers = [_reference(*one) for one in zip(test.names, quality, costs, strict=True)]
    chance = found.random_quality.value
    chosen = {"performance": found.quality, "cost": found.cost, "delta_ibc": found.delta_ibc}
    singles = list(zip(costs, quality, strict=True))
    area = _area(found, singles)
    best = min(range(len(singles)), key=lambda t: (-quality[t], costs[t]))
    own = found.cost.value
    mixed = own if isinstance(own, Undefined) else quality_at(singles, own)
    shares = {str(share): figure.value for share, figure in found.cost_at}
    undefined = {
        "delta_ibc": found.delta_ibc.value,
        "auc": area,
        "random": chance,
        **{f"cost_at_{share}": value for share, value in shares.items()},
        "apgr": found.apgr.value,
        **{f"cpt_{share}": figure.value for share, figure in found.cpt},
        **{f"{name}_interval": _interval(figure) for name, figure in chosen.items()},
    }
    return {
        **{name: _number(figure.value) for name, figure in chosen.items()},
        "escalation": [_number(tier.final.value) for tier in found.tiers],
        "undefined_reason": _reasons({"": found.delta_ibc.value}).get(""),
        "intervals": {name: _number(_interval(figure)) for name, figure in chosen.items()},
        "curve": [[p.cost, p.quality, p.parameter] for p in found.curve],
        "cost_at": {share: _number(value) for share, value in shares.items()},
        "apgr": _number(found.apgr.value),
        "cpt": {str(share): _number(figure.value) for share, figure in found.cpt},
        "auc": _number(area),
        "auc_definition": STEP_AREA,
        "references": {
            "tiers": tiers,
            "random": None
            if isinstance(chance, Undefined) or isinstance(spent, Undefined)
            else _reference("random at the same cost", chance, spent[0]),
            "oracle": None
            if isinstance(corners, Undefined)
            else _reference("oracle", corners[0][0][0], corners[0][1][0]),
            "best_single": tiers[best],
            "zero": None
            if isinstance(mixed, Undefined) or isinstance(own, Undefined)
            else _reference("zero router at the same cost", mixed, own),
            "pairs": None if pairs is None else _played("pairs", pairs, test, seed, singles),
        },
        "undefined": _reasons(undefined),
    }


def _area(found: MethodFigures, singles: Sequence[Point]) -> float | Undefined:
    costs = [cost for cost, _ in singles]
    points = [(p.cost, p.quality) for p in found.curve]
    return step_area([*points, min(singles)], min(costs), max(costs))


def _played(
    name: str, router: MetaVerifier, test: Outcomes, seed: int, singles: Sequence[Point]
) -> dict[str, Any]:
    """A fitted opponent: its point, delta IBC and area, without intervals."""
    found = MethodScore.of_routers([router], test, seed, 2).figures()
    figures = {"performance": found.quality, "cost": found.cost, "delta_ibc": found.delta_ibc}
    return {
        "name": name,
        **{key: _number(figure.value) for key, figure in figures.items()},
        "auc": _number(_area(found, singles)),
    }


def points_json(points: OperatingPoints) -> dict[str, Any]:
    """Operating points as JSON; figures as those of :func:`score`, shares as ratios."""
    rows = []
    for point in points.points:
        held = {name: getattr(point, name) for name in _FIGURES}
        missing = {name: figure.value for name, figure in held.items()}
        rows.append(
            {
                "name": point.name,
                **{name: _number(figure.value) for name, figure in held.items()},
                "intervals": {name: _number(_interval(figure)) for name, figure in held.items()},
                "shown": point.shown,
                "words": point.words,
                "why": point.why,
                "same_as": point.same_as,
                "undefined": _reasons(missing),
            }
        )
    verdict = {"kind": points.verdict.kind, "words": points.verdict.words}
    about = {"router": points.router, "fitted": points.fitted, "notes": list(points.notes)}
    return {"verdict": verdict, **about, "points": rows}


def abstention_json(found: Abstention) -> dict[str, Any]:
    """What came of abstentions as JSON; shares as ratios."""
    held = {name: getattr(found, name) for name in ("coverage", "quality", "loss")}
    return {
        "abstained": found.abstained,
        **{name: _number(figure.value) for name, figure in held.items()},
        "intervals": {name: _number(_interval(figure)) for name, figure in held.items()},
        "undefined": _reasons({name: figure.value for name, figure in held.items()}),
    }


def _reference(name: str, performance: float, cost: float) -> dict[str, Any]:
    return {"name": name, "performance": float(performance), "cost": float(cost)}


def _interval(figure: Figure) -> Any:
    """The interval; of a figure that does not exist it would be one of something else."""
    return figure.value if isinstance(figure.value, Undefined) else figure.interval


def _number(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    return list(value) if isinstance(value, tuple) else value


def _reasons(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: v.reason for name, v in values.items() if isinstance(v, Undefined)}
