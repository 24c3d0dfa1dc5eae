"""The router of each task of a run: as configured, restored from a policy, or fitted."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig

from automix_eval.cascade.budget import Budget
from automix_eval.cascade.failures import TooManyFailedError
from automix_eval.cascade.route import Chain, ask_all
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.harness.ranks import Ranks, interleave
from automix_eval.harness.recording import Recorder
from automix_eval.harness.run_log import RunLog
from automix_eval.harness.task_source import prompt_hashes
from automix_eval.harness.task_view import TaskView
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records import policies as policy
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Question, Record
from automix_eval.verifiers.ensemble import signal_names
from automix_eval.verifiers.few_shot import FewShot
from automix_eval.verifiers.judged_examples import NUMBER, Judged, choose, example
from automix_eval.verifiers.prompt import Example

log = logging.getLogger(__name__)


def read_policy(settings: DictConfig, router: MetaVerifier) -> dict[str, Any] | None:
    """The policy that ``meta_verifier.policy`` names, None where it names none.

    Raises:
        AutoMixError: The router learns nothing, or the file is no policy.
    """
    path = settings.meta_verifier.policy
    if not path:
        return None
    if not router.needs_fit:
        raise AutoMixError(
            f"meta_verifier={config.name_of(settings, 'meta_verifier')} learns nothing: "
            "leave meta_verifier.policy out"
        )
    return policy.load(Path(str(path)).expanduser())


class TaskRouters:
    """Makes the router of each task when it is first asked for.

    Args:
        settings: The configuration of the run.
        policy: What :func:`read_policy` found.
        chain: The cascade that a calibration asks.
        ranks: The processes of the run, which share a calibration.
        recorder: Makes the calibration's records.
        log: Takes policies, calibration records and warnings.
    """

    def __init__(
        self,
        settings: DictConfig,
        policy: Mapping[str, Any] | None,
        chain: Callable[[TaskView], Chain],
        ranks: Ranks,
        recorder: Recorder,
        log: RunLog,
    ) -> None:
        self._config = settings
        self.policy = policy
        self._chain = chain
        self._ranks = ranks
        self._recorder = recorder
        self._log = log
        self._made: dict[str, tuple[TaskView, MetaVerifier]] = {}
        #: The verifiers of tasks whose demonstrations were chosen with the policy.
        self.verifiers: dict[str, FewShot] = {}

    def make(self, views: Sequence[TaskView]) -> None:
        """The routers of all tasks, so that a budget pays every fit before an evaluation.

        Raises:
            AutoMixError: It does not cover them, which is said before a call where calls are
                limited; or as of :meth:`of`.
        """
        views = [view for view in views if self._made.get(view.name, (None,))[0] is not view]
        if views and self.policy is None and parts.make_meta_verifier(self._config).needs_fit:
            seed = self._config.calibration.seed
            asked = [q for view in views for q in view.calibration_questions(seed)]
            budget = self._chain(views[0]).budget
            self._ranks.together(lambda: budget.need(self._ranks.share(asked)))
        for view in views:
            self.of(view)

    def of(self, view: TaskView) -> MetaVerifier:
        """The router of a task; another view of the task, of another evaluation, has another.

        Raises:
            AutoMixError: It cannot be fitted, or its policy is for something else.
        """
        seen, router = self._made.get(view.name, (None, None))
        if router is None or seen is not view:
            router = parts.make_meta_verifier(self._config)
            if router.needs_fit and self.policy is not None:
                router = self._restored(view, router, self.policy)
            elif router.needs_fit:
                try:
                    router = self._fitted(view, router)
                except TooManyFailedError:
                    self._log.save()
                    raise
            elif router.needs_verification and self._shows_examples(view):
                raise AutoMixError(
                    "verifier.demonstrations=calibration takes them from the questions that the "
                    "router is fitted on, and "
                    f"meta_verifier={config.name_of(self._config, 'meta_verifier')} learns "
                    "nothing: choose another, or verifier.demonstrations=fixed"
                )
            self._made[view.name] = view, router
        return router

    def why_not(self, view: TaskView) -> str:
        """Why no router, or not the policy that is given, can be had for a task; or empty.

        Raises:
            AutoMixError: The router reads signals that the verifier does not give, or no policy.
        """
        differences = self._fitted_otherwise(view)
        if differences and not self._config.meta_verifier.transfer:
            return (
                f"{differences}. Fit one here by leaving meta_verifier.policy out, or accept the "
                "difference with meta_verifier.transfer=true"
            )
        router = parts.make_meta_verifier(self._config)
        if self.policy is not None:
            router.set_learned(self.policy["learned"])
        if router.needs_verification:
            is_choice = view.task.OUTPUT_TYPE != "generate_until"
            router.check_signals(signal_names(self._chain(view).verifier, is_choice))
        return ""

    def _fitted_otherwise(self, view: TaskView) -> str:
        """In what the policy that is given was fitted for something else than a task; or empty."""
        if self.policy is None:
            return ""
        name = config.name_of(self._config, "meta_verifier")
        differences = policy.mismatches(self.policy, name, self._valid_for(view))
        if not differences:
            return ""
        return (
            f"the policy {self._config.meta_verifier.policy} was fitted for something else: "
            + "; ".join(differences)
        )

    def _restored(
        self, view: TaskView, router: MetaVerifier, given: Mapping[str, Any]
    ) -> MetaVerifier:
        if differences := self._fitted_otherwise(view):  # accepted, or the task was refused
            self._log.warn(view.name, differences)
        fitted = given["fitted_on"]
        own = fitted.get("doc_ids") if fitted.get("task") == view.name else None
        if note := view.fitting.reuse(
            str(fitted.get("split")), own if isinstance(own, list) else ()
        ):
            self._log.warn(view.name, note)
        if verifier := self._shows_examples(view):
            shown = _read(fitted.get("demonstrations"), len(self._chain(view).tiers) - 1)
            self.verifiers[view.name] = verifier.with_examples(shown)
        router.set_learned(given["learned"])
        self._log.use_policy(view.name, str(self._config.meta_verifier.policy))
        return router

    def _fitted(self, view: TaskView, router: MetaVerifier) -> MetaVerifier:
        settings = self._config.calibration
        questions = view.calibration_questions(settings.seed)
        chosen = view.fitting.choice
        for note in chosen.notes:
            self._log.warn(view.name, note)
        verifier = self._shows_examples(view) if router.needs_verification else None
        shown = self._examples(view, questions, verifier) if verifier else []
        told = {question.doc_id for scored in shown for question, *_ in scored}
        chain = self._chain(view)
        # an answer that is demonstrated is not judged as others are
        kept = [q.doc_id not in told for q in questions]
        log.info("%s: fitting on %d %s questions", view.name, sum(kept), chosen.split)
        with ExitStack() as repeated:
            for tier in chain.tiers[: len(shown)]:  # their answers are there, to choose among
                repeated.enter_context(tier.counts.repeating(("calibration", view.name, "answer")))
            found = self._ask(view, chain, questions, router.needs_verification, kept)
        rows = [row for row in found if row is not None and self._recorder.keeps(view, row)]
        unscored = sum(row is not None for row in found) - len(rows)
        self._enough(view, rows, len(found) - unscored, unscored, chain.failures.share)
        # a fit that fails must not lose what it was to be fitted on
        self._log.add(view.name, view.about(), rows)
        self._log.note(view.name, "calibration")
        router = router.fit(Outcomes.from_records(rows, parts.make_cost(self._config)))
        for note in router.notes():
            self._log.warn(view.name, f"policy: {note}")
        fitted = policy.make(
            config.name_of(self._config, "meta_verifier"),
            parts.router_parameters(self._config),
            router.get_learned(),
            {
                **self._valid_for(view),
                "split": chosen.split,
                "num_questions": len(rows),
                "doc_ids": [*(r.doc_id for r in rows), *sorted(told)],
            }
            | ({"demonstrations": _examples_of(shown)} if shown else {}),
        )
        self._log.add_policy(view.name, fitted)
        return router

    def _ask(
        self,
        view: TaskView,
        chain: Chain,
        questions: Sequence[Question],
        verify: bool,
        kept: Sequence[bool],
    ) -> list[Record | None]:
        """Records of the answers of a chain's tiers, in the order of the questions that are kept.

        A process has the same share whichever are: their first calls were its own.
        """
        chain.failures.expect(view.name, "calibration", sum(kept))

        def work() -> list[Record | None]:
            mine = list(compress(self._ranks.share(questions), self._ranks.share(kept)))
            return self._recorder.records(view, mine, ask_all(mine, chain, verify=verify))

        return interleave(self._ranks.together(work), kept)

    def _shows_examples(self, view: TaskView) -> FewShot | None:
        """The verifier, if its demonstrations are chosen with the policy."""
        verifier = self._chain(view).verifier
        return verifier if isinstance(verifier, FewShot) and verifier.needs_examples else None

    def _examples(
        self, view: TaskView, questions: Sequence[Question], verifier: FewShot
    ) -> list[list[Judged]]:
        """Answers of each tier that is verified, which the task's verifier is to demonstrate.

        The other calls are in the store when the tiers are asked again, and the budget pays them.
        """
        chain = self._chain(view)
        judged = replace(chain, tiers=chain.tiers[:-1], budget=Budget())
        least = int(self._config.calibration.min_docs) + NUMBER * len(judged.tiers)
        if len(questions) < least:
            raise AutoMixError(
                f"{view.name}: verifier.demonstrations=calibration shows {NUMBER} of the "
                f"{len(questions)} calibration questions for each tier that is verified, which "
                f"leaves too few to fit on: raise calibration.num_docs to {least}"
            )
        found = self._ask(view, judged, questions, False, [True] * len(questions))
        shown = []
        for tier in range(len(judged.tiers)):
            rows = [
                (question, record.tiers[tier].answer, score)
                for question, record in zip(questions, found, strict=True)
                if record and (score := record.tiers[tier].score) is not None
            ]
            shown.append(choose(rows, int(self._config.calibration.seed)))
        self.verifiers[view.name] = verifier.with_examples(_examples_of(shown))
        return shown

    def _enough(
        self, view: TaskView, rows: Sequence[Record], asked: int, unscored: int, share: float
    ) -> None:
        """Stop, in every process, where too few calibration questions are left for a fit."""
        least = int(self._config.calibration.min_docs)
        lost = asked - len(rows)
        if lost > share * asked + 1e-9 or len(rows) < least:
            none = f", and the task gives no score to {unscored}" if unscored else ""
            raise TooManyFailedError(
                f"{view.name}, calibration: {lost} of {asked} questions failed{none}: more than "
                f"fail_on_error={share:g} allows, or fewer left than calibration.min_docs={least}. "
                "Finished calls are kept: mend the cause, and the same command resumes"
            )

    def _valid_for(self, view: TaskView) -> dict[str, Any]:
        chain = self._chain(view)
        return {
            "task": view.name,
            "tiers": [
                {"label": t.backend.label, "sha256": _sha(t.backend.identity)} for t in chain.tiers
            ],
            "verifier": dict(chain.verifier.identity),
            # a policy weighs quality against these very prices
            "cost": {
                "name": config.name_of(self._config, "cost"),
                **parts.parameters(self._config, "cost"),
            },
            # which scores it was fitted on, and answers to which prompts
            **({"metric": view.metric} if view.metric else {}),
            "filter": view.metrics.filter.name,
            "num_fewshot": view.task.config.num_fewshot or 0,
            "chat_template": view.run.apply_chat_template,
            "prompt": prompt_hashes(view.task, view.run.system_instruction),
        }


def _examples_of(shown: Sequence[Sequence[Judged]]) -> list[list[Example]]:
    """Demonstrations of each tier, as a policy holds them."""
    return [[example(*one) for one in scored] for scored in shown]


def _read(held: Any, tiers: int) -> list[list[Example]]:
    """Demonstrations of a policy, checked.

    Raises:
        PolicyError: It holds none of some tier that is verified, or something else.
    """
    try:
        made = msgspec.convert(held or [], list[list[Example]])
        if len(made) != tiers:
            raise ValueError(f"of {len(made)} tiers for {tiers}")
    except (msgspec.ValidationError, ValueError) as err:
        raise policy.PolicyError(
            "the policy does not hold the demonstrations that verifier.demonstrations=calibration "
            f"needs ({err}): fit it again by leaving meta_verifier.policy out"
        ) from err
    return made


def _sha(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
