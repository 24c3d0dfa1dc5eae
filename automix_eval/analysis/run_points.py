"""The operating points of a task of a run: its live policy, and what else its records offer."""

from __future__ import annotations

from automix_eval.analysis.leaderboard import ReplayCache
from automix_eval.analysis.operating_points import (
    FOLDS,
    RoutedPoint,
    ScoredQuestions,
    chosen_policies,
    routed,
    scored_points,
    verdict_of,
)
from automix_eval.analysis.play import router_of_points
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting
from automix_eval.metrics.ibc import Undefined
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


def points_of_run(questions: QuestionSet, cache: ReplayCache) -> OperatingPoints:
    """The operating points of one task of one run.

    They are scored on the evaluated questions where every tier was asked them, with policies fitted
    on the calibration questions; else on the calibration questions, in folds. The live policy is
    scored on the evaluated questions always.
    """
    run, info = questions.run, questions.run.tasks[questions.task]
    llm = GivenRouting(questions.llm.scores, questions.llm.costs, questions.last)
    evaluated = ScoredQuestions(questions.tiers, questions.rows.documents, llm)
    points = [RoutedPoint("live", ChainRouting.live(questions), evaluated)]
    name, fitted, notes = "", "", []
    try:
        name, more, fitted = _others(questions, cache, evaluated)
        points += more
    except AutoMixError as err:
        notes.append(f"Only the live policy is known: {printable(err, 600)}.")
    found = scored_points(evaluated, points, cache.resamples, cache.seed)
    return OperatingPoints(
        task=printable(questions.task),
        run_id=printable(run.run_id),
        metric=printable(info.metric or "none"),
        cost=run.prices,
        sample=info.sample,
        tiers=tuple(t.label for t in run.tiers),
        num_questions=len(questions.rows),
        num_documents=questions.rows.num_documents,
        router=name,
        fitted=fitted,
        verdict=verdict_of(found, len(questions.rows), questions.rows.num_documents),
        points=found,
        notes=tuple(notes),
    )


def _others(
    questions: QuestionSet, cache: ReplayCache, evaluated: ScoredQuestions
) -> tuple[str, list[RoutedPoint], str]:
    """The router, its points, and how they were fitted."""
    name, make = router_of_points(questions.run)
    data, router = cache.data(questions), make()
    fitting = data.fitting(router)
    reason = questions.tiers.why_not_full()
    if reason is None:
        test, scored = data.test(router), evaluated
        if isinstance(fitting, Undefined):
            how, rows = f"in {FOLDS} folds of the same questions", None
        else:
            how, rows = f"on {len(fitting)} other questions", fitting
    elif isinstance(fitting, Undefined):
        raise AutoMixError(f"{reason.reason}; of the calibration: {fitting.reason}")
    else:
        test, rows = fitting, None
        scored = ScoredQuestions.of(fitting, from_calibration=True)
        how = f"and scored in {FOLDS} folds of the {len(fitting)} calibration questions"
    choices = chosen_policies(make, rows, test)
    return name, [routed(c, test, scored) for c in choices], how
