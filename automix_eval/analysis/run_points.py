"""The operating points of a task of a run: its live policy, and what else its records offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from automix_eval.analysis.leaderboard import BoardColumns, ReplayCache
from automix_eval.analysis.operating_points import (
    FOLDS,
    PointColumns,
    RoutedPoint,
    chosen_policies,
    routed,
)
from automix_eval.analysis.play import configured, own_router
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.references import ScoredQuestions
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting
from automix_eval.analysis.verdict import verdict_of
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.runs import Run
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True)
class RunPoints:
    """The points of one task of one run, registered with its board."""

    columns: PointColumns
    router: str
    fitted: str
    notes: tuple[str, ...]

    def of(self, questions: QuestionSet) -> OperatingPoints:
        """The operating points; the first figure of the board draws the bootstrap of both."""
        run, info = questions.run, questions.run.tasks[questions.task]
        found = self.columns.figures()
        return OperatingPoints(
            task=printable(questions.task),
            run_id=printable(run.run_id),
            metric=printable(info.quality),
            cost=run.prices,
            sample=info.sample,
            tiers=tuple(t.label for t in run.tiers),
            num_questions=len(questions.rows),
            num_documents=questions.rows.num_documents,
            router=self.router,
            fitted=self.fitted,
            verdict=verdict_of(found, len(questions.rows), questions.rows.num_documents),
            points=found,
            notes=self.notes,
        )


def draft_points(questions: QuestionSet, board: BoardColumns, cache: ReplayCache) -> RunPoints:
    """Register the operating points of one task of one run.

    They are scored on the evaluated questions where every tier was asked them, with policies fitted
    on the calibration questions; else on the calibration questions, in folds. The live policy is
    scored on the evaluated questions always.
    """
    llm, documents = GivenRouting.llm_of(questions), questions.rows.documents
    evaluated = ScoredQuestions(questions.tiers, documents, llm)
    points = [RoutedPoint("live", (ChainRouting.live(questions),), evaluated)]
    name, fitted, notes = "", "", []
    try:
        name, more, fitted = _others(questions, cache, evaluated)
        points += more
    except AutoMixError as err:
        notes.append(f"Only the live policy is known: {printable(err, 600)}.")
    references = board.references[id(questions)]
    columns = PointColumns.of(evaluated, points, references)
    return RunPoints(columns, name, fitted, tuple(notes))


def _others(
    questions: QuestionSet, cache: ReplayCache, evaluated: ScoredQuestions
) -> tuple[str, list[RoutedPoint], str]:
    """The router, its points, and how they were fitted."""
    name, make = _router_of_points(questions.run)
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
    return name, [routed(c, test, scored) for c in choices], how + choices[0].words


def _router_of_points(run: Run) -> tuple[str, Callable[[], MetaVerifier]]:
    """The router whose policies are the operating points of a run, and what makes it unfitted.

    That of the run, with the objective ``gain``; the default one where the run's has no objective,
    or would have to read texts.

    Raises:
        AutoMixError: The run's settings cannot be read.
    """
    from automix_eval.config import compose as config  # imported late: Hydra takes a second
    from automix_eval.config import parts

    named, held = own_router(run)
    kept = {k: v for k, v in held.items() if k not in ("lambda_", "abstain_price")}
    own = kept | {"objective": "gain"}
    default = config.default_choices()["meta_verifier"]
    for name, values in ((named, own), (default, {"objective": "gain"})):
        try:
            settings = configured(name, values, run)
            router = parts.make_meta_verifier(settings)
        except AutoMixError:
            if name == default and values is not own:
                raise
            continue
        if not router.needs_texts and not router.needs_hindsight:
            return name, partial(parts.make_meta_verifier, settings)
    raise AutoMixError(f"meta_verifier={default} reads texts, so it has no points unasked")
