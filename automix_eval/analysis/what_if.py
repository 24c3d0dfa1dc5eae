"""A leaderboard of what a chain of models would do, from outcomes of every one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from omegaconf import DictConfig

from automix_eval.analysis.comparisons import compare_all
from automix_eval.analysis.figures import Board, Report
from automix_eval.analysis.leaderboard import oracle_curve
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.operating_points import (
    PointColumns,
    PolicyChoice,
    RoutedPoint,
    chosen_policies,
    routed,
)
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.reference_methods import (
    NOT_COMPARED,
    ZERO,
    ZERO_LABEL,
    name_alone,
    zero_router,
)
from automix_eval.analysis.references import References, ScoredQuestions
from automix_eval.analysis.replay_input import HeldChain
from automix_eval.analysis.replayed import oracle_routings, replayed
from automix_eval.analysis.routed_paths import ChainRouting, Choice, Method, MethodOnRun, Routing
from automix_eval.analysis.verdict import verdict_of
from automix_eval.backends.encoder import DEFAULT, why_not
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable

# Routers that are fitted in seconds, of those that hydra_conf has.
_QUICK = ("threshold", "pomdp", "pairs", "knn_query")
# The router whose operating points are shown, if it is played.
_POINTS_OF = "pomdp"
# What judges an answer of a table: its confidences are given, not computed.
GIVEN = "confidences given"
_ALONE = "Only the models alone are known"


@dataclass(frozen=True, slots=True, eq=False)
class ChainQuestion:
    """What is asked of a chain.

    Attributes:
        chain: Its models on the questions that are scored.
        train: Others to fit on; None: the routers are fitted in ``folds`` on the same.
        routers: Options of ``hydra_conf/meta_verifier``.
    """

    chain: HeldChain
    train: Outcomes | None
    routers: tuple[str, ...]
    folds: int = 5
    seed: int = 0
    resamples: int = 1000


def default_routers(test: Outcomes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The routers that are played where none is named, and notes on those that cannot be."""
    played, notes = list(_QUICK), []
    if not has_confidences(test):
        blind = [name for name in _QUICK if name != "knn_query"]
        played = [name for name in played if name not in blind]
        notes.append(f"no answer has a confidence, so {', '.join(blind)} are not played")
    missing = "the questions have no texts" if not any(test.questions or ()) else why_not(DEFAULT)
    if missing:
        played.remove("knn_query")
        notes.append(f"{missing}, so knn_query is not played")
    return tuple(played), tuple(notes)


def has_confidences(outcomes: Outcomes) -> bool:
    """Whether an answer of a tier before the last has a confidence."""
    return not np.isnan(outcomes.confidences[:, :-1]).all()


def what_if(asked: ChainQuestion) -> Report:
    """The chain's models alone, the best mixture of them, the oracle, and routers, on one board."""
    chain, test = asked.chain, asked.chain.outcomes
    scored = ScoredQuestions.of(test)
    references = References.of_questions(scored, asked.resamples, asked.seed)
    tiers = scored.tiers
    notes = list(chain.notes)
    best, singles = zero_router(tiers)
    methods = [
        *_alone(tiers, test.names),
        _method(ZERO, ZERO_LABEL, [best], singles),
        _oracle(tiers),
    ]
    played: dict[str, MetaVerifier] = {}
    of_routers = {spec: _routed(asked, spec, tiers, played) for spec in asked.routers}
    methods += of_routers.values()
    failed = {spec: m.missing.reason for spec, m in of_routers.items() if m.missing}
    said: dict[str, list[str]] = {}
    for option, router in played.items():
        for note in router.notes():
            said.setdefault(note, []).append(option)
    notes += [f"{', '.join(options)}: {note}" for note, options in said.items()]
    rows = [MethodScore.of(references.table, m, [references] * len(m.parts)) for m in methods]
    name, chosen, note = _chosen(asked, played, failed, scored)
    points = PointColumns.of(scored, chosen, references)
    board = Board(
        key=chain.task,
        task=chain.task,
        metric=chain.metric,
        sample=False,
        num_questions=len(test),
        num_documents=references.table.number,
        tiers=test.names,
        cost=chain.cost,
        methods=tuple(row.figures() for row in rows),
        comparisons=compare_all([r for r in rows if r.method.name not in NOT_COMPARED], asked.seed),
        oracle_curve=oracle_curve(rows[0]),
    )
    found = points.figures()
    in_folds = f"in {asked.folds} folds of the same questions"
    if name in played:
        in_folds += PolicyChoice("gain", played[name]).words
    summary = OperatingPoints(
        task=chain.task,
        run_id="",
        metric=chain.metric,
        cost=chain.cost,
        sample=False,
        tiers=test.names,
        num_questions=len(test),
        num_documents=board.num_documents,
        router=name,
        fitted=""
        if not chosen
        else (in_folds if asked.train is None else f"on {len(asked.train)} other questions"),
        verdict=verdict_of(found, len(test), board.num_documents),
        points=found,
        notes=(note,) if note else (),
    )
    return Report((), tuple(notes), asked.seed, (board,), asked.resamples, (summary,))


def _chosen(
    asked: ChainQuestion,
    played: Mapping[str, MetaVerifier],
    failed: Mapping[str, str],
    scored: ScoredQuestions,
) -> tuple[str, list[RoutedPoint], str]:
    """A router with an objective, the default one first; its points, and a note on what lacks.

    One that reads texts while it is fitted is not fitted anew: its own policy is its only point.
    """
    aiming = [n for n in sorted(played, key=lambda n: n != _POINTS_OF) if _aims(n)]
    if not aiming:
        why = next((f"{n}: {failed[n]}" for n in failed if _aims(n)), "")
        return "", [], f"{_ALONE}: {why or 'no router with an objective was played'}."
    name = next((n for n in aiming if not _reads_texts(n)), aiming[0])
    if _reads_texts(name):
        own = PolicyChoice("gain", played[name])
        note = f"What keeps a share of the LLM's quality is not sought: {name} reads texts."
        return name, [routed(own, asked.chain.outcomes, scored)], note
    make = partial(parts.make_meta_verifier, _settings(name))
    try:
        choices = chosen_policies(make, asked.train, asked.chain.outcomes, played[name])
        return name, [routed(c, asked.chain.outcomes, scored) for c in choices], ""
    except AutoMixError as err:
        return name, [], f"{_ALONE}: {printable(err, 600)}."


@functools.cache
def _settings(option: str) -> DictConfig:
    """The configuration with a router's defaults: several questions are put to it."""
    return config.build({"meta_verifier": option})


def _aims(option: str) -> bool:
    """Whether a router chooses by the objective ``gain``."""
    return bool(_settings(option).meta_verifier.get("objective") == "gain")


def _reads_texts(option: str) -> bool:
    one = parts.make_meta_verifier(_settings(option))
    return one.needs_texts or one.needs_hindsight


def _alone(tiers: PricedTiers, names: Sequence[str]) -> list[Method]:
    return [
        _method(name_alone(t, tiers.last), f"{name} alone", [ChainRouting.only(tiers, t)])
        for t, name in enumerate(names)
    ]


def _oracle(tiers: PricedTiers) -> Method:
    return _method("oracle", "oracle", oracle_routings(tiers)[:1])


def _routed(
    asked: ChainQuestion,
    option: str,
    tiers: PricedTiers,
    played: dict[str, MetaVerifier],
) -> Method:
    settings = _settings(option)
    try:
        router = fitted(partial(parts.make_meta_verifier, settings), asked)
        one = replayed(router, asked.chain.outcomes, tiers, asked.train)
    except AutoMixError as err:
        reason = Undefined(printable(err, 600))
        return Method(f"replay:{option}", "replay", option, "", (), missing=reason)
    played[option] = router
    verifier = GIVEN if router.needs_verification else ""
    return _method(option, option, one.ways, one.curve, one.path, verifier)


def _method(
    name: str,
    label: str,
    ways: Sequence[ChainRouting],
    curve: tuple[Choice, ...] = (),
    path: tuple[Routing, ...] = (),
    verifier: str = "",
) -> Method:
    parts = tuple(MethodOnRun(way, None, "", curve=curve, path=path) for way in ways)
    return Method(f"replay:{name}", "replay", label, verifier, parts)


def fitted(make: Callable[[], MetaVerifier], asked: ChainQuestion) -> MetaVerifier:
    """A router fitted on the training questions, or in folds on those that it is to decide.

    Raises:
        AutoMixError: It reads confidences, and there are none; or it cannot be fitted.
    """
    router = make()
    if router.needs_verification and not has_confidences(asked.chain.outcomes):
        raise AutoMixError("it reads confidences, and no answer before the last model's has one")
    if not router.needs_fit:
        return router
    if asked.train is not None:
        return router.fit(asked.train)
    return CrossFitted(make, asked.folds).fit(asked.chain.outcomes)
