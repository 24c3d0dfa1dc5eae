"""One replay as its configuration says: read, sample, fit, score."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, open_dict

from automix_eval import __version__
from automix_eval.analysis.abstention import abstention
from automix_eval.analysis.figures import Abstention
from automix_eval.analysis.operating_points import (
    FOLDS,
    PointColumns,
    PolicyChoice,
    chosen_policies,
    routed,
)
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.analysis.references import References, ScoredQuestions
from automix_eval.analysis.replay_input import source_of, where_to_fit
from automix_eval.analysis.replay_score import abstention_json, points_json, score
from automix_eval.analysis.slice_sources import RoutedColumns
from automix_eval.analysis.slices import Slices, by_slice
from automix_eval.analysis.verdict import verdict_of
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Selection
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.metrics.ibc import exceeds
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.records import policies as policy
from automix_eval.records.doc_fields import FieldValues
from automix_eval.records.evaluated_rows import repeats_together, without_evaluated
from automix_eval.records.from_table import Source
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_whole
from automix_eval.safety.text import printable

FORMAT = "automix-eval replay"
VERSION = 1


def replay(settings: DictConfig) -> tuple[dict[str, Any], OperatingPoints, Slices | None]:
    """Fit and score what a composed hydra_conf/replay.yaml describes.

    Returns:
        The result as JSON: figures on the test rows, curve, policy, and what they rest on. The
        operating points of the router, which the JSON holds too. And the test rows by the values of
        a column, where one is named.

    Raises:
        AutoMixError: A setting, the input or the fit is at fault; names cause and remedy.
    """
    notes = _check(settings)
    router = parts.make_meta_verifier(settings)
    source = source_of(settings)
    if not settings.meta_verifier.policy:
        source = without_evaluated(source)
    source = _repeats_together(source)
    _refuse_blind(router, source.test, config.name_of(settings, "meta_verifier"))
    in_folds = source.train is None and settings.folds and router.needs_fit
    in_folds = in_folds and not settings.meta_verifier.policy
    train = _sampled(source.test if in_folds else source.train, settings, notes)
    fitted, learned = _fitted(router, train, source, settings)
    if in_folds:
        in_each = CrossFitted(lambda: parts.make_meta_verifier(settings), settings.folds)
        fitted = in_each.fit(source.test)
        notes.append(
            f"scored in {settings.folds} folds, each by policies of the others; the policy that is "
            "written is fitted on all rows"
        )
    pairs = _pairs(settings, train, source.test if in_folds else None)
    shown = config.shown(settings)
    known = None if in_folds or settings.meta_verifier.policy else train
    scored = score(fitted, source.test, settings.seed, settings.resamples, pairs, known)
    notes += [*source.notes, *fitted.notes(), *_aim(learned["meta_verifier"], scored)]
    points = _points(settings, fitted, train if not in_folds else None, source)
    abstained = _abstention(settings, learned, fitted, source.test)
    result = {
        "format": FORMAT,
        "version": VERSION,
        "automix_eval_version": __version__,
        "meta_verifier": config.name_of(settings, "meta_verifier"),
        **scored,
        "n_train": 0 if train is None else len(train),
        "n_test": len(source.test),
        "seed": settings.seed,
        "interval_level": LEVEL,
        "resamples": settings.resamples,
        "clustered_by_document": source.grouped,
        "notes": notes,
        "input": dict(source.about),
        "config": shown,
        "policy": learned,
        "operating_points": points_json(points),
        **({} if abstained is None else {"abstention": abstention_json(abstained)}),
    }
    return result, points, _slices(settings, fitted, source)


def _repeats_together(source: Source) -> Source:
    test, note = repeats_together(source.test)
    train = None if source.train is None else repeats_together(source.train)[0]
    notes = (*source.notes, note) if note else source.notes
    grouped = test.documents is not None
    return replace(source, train=train, test=test, grouped=grouped, notes=notes)


def _aim(held: Mapping[str, Any], scored: Mapping[str, Any]) -> list[str]:
    """What a policy was to reach and what it reached, where its objective sets a number."""
    objective = held.get("objective")
    number = held.get({"budget": "budget"}.get(str(objective), "target"))
    if objective not in ("budget", "target", "assured") or number is None:
        return []
    if objective == "budget":
        aimed, reached, what = number, scored["cost"], "a mean cost of at most"
        missed = exceeds(reached, aimed)
    else:
        aimed = number * scored["references"]["tiers"][-1]["performance"]
        reached, what = scored["performance"], f"{number:.4g} of the last tier's quality,"
        missed = exceeds(aimed, reached)
    said = "missed" if missed else "met"
    return [f"aimed at {what} {aimed:.4g}; reached {reached:.4g} on the test rows: {said}"]


def _abstention(
    settings: DictConfig, learned: Mapping[str, Any], router: MetaVerifier, test: Outcomes
) -> Abstention | None:
    """What came of the test rows that the router abstains on; None where it never may."""
    held = learned["meta_verifier"]
    if held.get("abstain_price") is None:
        return None
    path, questions = follow(router, test), ScoredQuestions.of(test)
    return abstention(
        path.abstained, path.score, path.cost, questions.documents, held, settings.resamples,
        settings.seed,
    )  # fmt: skip


def _slices(settings: DictConfig, fitted: MetaVerifier, source: Source) -> Slices | None:
    if source.labels is None:
        return None
    name, field = config.name_of(settings, "meta_verifier"), str(settings.by)
    one = RoutedColumns.played(fitted, source.test, name)
    return by_slice(
        name, field, FieldValues.of(field, source.labels, source.test.ids), one.columns,
        one.escalated, one.documents, settings.resamples, settings.seed,
    )  # fmt: skip


def _points(
    settings: DictConfig, fitted: MetaVerifier, train: Outcomes | None, source: Source
) -> OperatingPoints:
    """The operating points of the router on the test rows, its own policy among them."""
    test, name = source.test, config.name_of(settings, "meta_verifier")
    scored = ScoredQuestions.of(test)
    points = [routed(PolicyChoice("live", fitted), test, scored)]
    notes, how = [], ""
    try:
        make, chooser = _maker(settings, name), settings.meta_verifier
        same = chooser.objective == "gain" and not chooser.policy
        choices = chosen_policies(make, train, test, fitted if same else None)
        points += [routed(choice, test, scored) for choice in choices]
        how = f"on {len(train)} other questions" if train is not None else (
            f"in {(same and settings.folds) or FOLDS} folds of the same questions{choices[0].words}"
        )  # fmt: skip
    except AutoMixError as err:
        notes.append(f"Only this policy is known: {printable(err, 600)}.")
    references = References.of_questions(scored, settings.resamples, settings.seed)
    found = PointColumns.of(scored, points, references).figures()
    documents = references.table.number
    return OperatingPoints(
        task=str(source.fitted_on.get("task") or "replay"),
        run_id="",
        metric="score",
        cost="as the rows have it",
        sample=False,
        tiers=tuple(map(printable, test.names)),
        num_questions=len(test),
        num_documents=documents,
        router=name if how else "",
        fitted=how,
        verdict=verdict_of(found, len(test), documents, "this policy"),
        points=found,
        notes=tuple(notes),
    )


def _maker(settings: DictConfig, name: str) -> Callable[[], MetaVerifier]:
    """Makes the router with the objective ``gain``."""
    other = copy.deepcopy(settings)
    if "objective" not in other.meta_verifier:
        raise AutoMixError(f"{name} has no objective")
    other.meta_verifier.objective = "gain"
    if "abstain_price" in other.meta_verifier:
        other.meta_verifier.abstain_price = None
    router = parts.make_meta_verifier(other)
    if router.needs_texts or router.needs_hindsight:
        raise AutoMixError(f"{name} would be fitted anew on texts, or sees the scores")
    return partial(parts.make_meta_verifier, other)


def _fitted(
    router: MetaVerifier, train: Outcomes | None, source: Source, settings: DictConfig
) -> tuple[MetaVerifier, dict[str, Any]]:
    name = config.name_of(settings, "meta_verifier")
    path = settings.meta_verifier.policy
    if path:
        return _restored(Path(str(path)).expanduser(), source, settings)
    if train is not None:
        router = router.fit(train)
    elif router.needs_fit:
        raise AutoMixError(
            f"meta_verifier={name} is fitted, and there are no rows to fit on: "
            + where_to_fit(settings)
        )
    fitted_on = {
        "tiers": [{"label": label} for label in source.test.names],
        "cost": {"name": config.name_of(settings, "cost"), **parts.parameters(settings, "cost")},
        **source.fitted_on,
        "num_questions": 0 if train is None else len(train),
        "max_train": settings.max_train,
        "seed": settings.seed,
    }
    values = parts.router_parameters(settings)
    return router, policy.make(name, values, router.get_learned(), fitted_on)


def _pairs(
    settings: DictConfig, train: Outcomes | None, in_folds: Outcomes | None
) -> MetaVerifier | None:
    """The best cascade of two tiers by the same objective on the same rows, to compare with.

    None where nothing is fitted, where there is no confidence, and beside itself.
    """
    if train is None or _is_blind(train) or config.name_of(settings, "meta_verifier") == "pairs":
        return None
    other = settings.copy()
    with open_dict(other):
        other.meta_verifier = config.compose_application(
            "replay", {"meta_verifier": "pairs"}
        ).meta_verifier
    if in_folds is not None:
        return CrossFitted(lambda: parts.make_meta_verifier(other), settings.folds).fit(in_folds)
    return parts.make_meta_verifier(other).fit(train)


def _restored(
    path: Path, source: Source, settings: DictConfig
) -> tuple[MetaVerifier, dict[str, Any]]:
    """A policy fitted earlier, with the hyper-parameters of its file."""
    held = policy.load(path)
    fitted_on = held["fitted_on"]
    tiers = fitted_on.get("tiers")
    labels = [t.get("label") for t in tiers if isinstance(t, Mapping)] if tiers else []
    name, wanted = held["meta_verifier"].get("name"), config.name_of(settings, "meta_verifier")
    if name != wanted:
        raise AutoMixError(
            f"the policy {path} is one of {name}, and the configuration says {wanted}: add "
            f"meta_verifier={name}"
        )
    if len(labels) != source.test.num_tiers:
        raise AutoMixError(
            f"the policy {path} was fitted on a chain of {len(labels)} tiers, and this one has "
            f"{source.test.num_tiers}: fit one by leaving meta_verifier.policy out"
        )
    if labels != list(source.test.names) and not settings.meta_verifier.transfer:
        raise AutoMixError(
            f"the policy {path} was fitted on the tiers {', '.join(map(str, labels))}, and these "
            f"are {', '.join(source.test.names)}: fit one by leaving meta_verifier.policy out, or "
            "accept the difference with meta_verifier.transfer=true"
        )
    return parts.restore(held), held


def _sampled(train: Outcomes | None, settings: DictConfig, notes: list[str]) -> Outcomes | None:
    size = settings.max_train
    if train is None or size is None:
        return train
    if size > len(train):
        notes.append(f"max_train={size}, but there are {len(train)} training rows: all are used")
    return train.take(sorted(nested_sample(len(train), size, settings.seed)))


def _refuse_blind(router: MetaVerifier, test: Outcomes, name: str) -> None:
    """A router that reads confidences must not decide without a single one unnoticed."""
    if not router.needs_verification or router.needs_hindsight:
        return
    if _is_blind(test):
        raise AutoMixError(
            f"meta_verifier={name} reads confidences, and no tier before the last has one in the "
            "test rows: name the column of them, as in {name: s, score: COL, confidence: COL, ...}"
        )


def _is_blind(rows: Outcomes) -> bool:
    """Whether no tier before the last has a confidence or a signal."""
    seen = [rows.confidences[:, :-1], *(table[:, :-1] for table in rows.signals.values())]
    return all(bool(np.isnan(table).all()) for table in seen)


def _check(settings: DictConfig) -> list[str]:
    for key, least in (("seed", 0), ("max_train", 1), ("resamples", 1), ("folds", 2)):
        value = settings[key]
        if value is None and key in ("max_train", "folds"):
            continue
        if not is_whole(value, least):
            raise AutoMixError(f"{key}={value!r} must be an integer of at least {least}")
    # Also for a router that has no use for it: a misspelt objective is a mistake all the same.
    keys = ("objective", "target", "confidence", "error_price")
    chosen = Selection(budget=settings.mean_cost, **{key: settings[key] for key in keys})
    return [f"{key} is not read by objective={chosen.objective}" for key in chosen.unread()]
