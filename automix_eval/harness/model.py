"""AutoMixLM: a cascade of the harness's models as one model of the harness."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from automix_eval.cascade import failures
from automix_eval.cascade import route as cascade
from automix_eval.cascade.budget import BudgetSpentError
from automix_eval.cascade.failures import Failures, TooManyFailedError
from automix_eval.cascade.store import CallStore
from automix_eval.cascade.tier import Tier
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.config.overrides import refuse_secrets
from automix_eval.harness import evaluation_frames, refusals
from automix_eval.harness import model_pool as pool
from automix_eval.harness import task_view as harness
from automix_eval.harness.corpus import CorpusMetrics
from automix_eval.harness.evaluation_frames import HarnessRun
from automix_eval.harness.grouping import Grouping, group
from automix_eval.harness.ranks import Ranks
from automix_eval.harness.recording import Recorder, routing
from automix_eval.harness.run_log import RunLog
from automix_eval.harness.task_routers import TaskRouters, read_policy
from automix_eval.harness.task_view import RoutedAnswer, TaskView
from automix_eval.harness.templates import templates_compiled_once
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.paths import cache_dir
from automix_eval.safety import errors as uncaught
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name
from automix_eval.safety.logs import guard_logs
from automix_eval.types import Call, Question, Record, TierRecord

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

log = logging.getLogger(__name__)


class AutoMixLM(LM):  # type: ignore[misc]  # the harness ships no types
    """Tier 1 answers and verifies, the meta-verifier decides, only escalated questions go on.

    Source: AutoMix, arXiv 2310.12963.

    Args:
        batch_size: Of every tier that does not set its own.
        max_batch_size: Likewise.
        device: Likewise.
        **model_args: Overrides of hydra_conf/, see :func:`automix_eval.config.compose.build`.

    Raises:
        AutoMixError: A setting is wrong or a tier cannot be loaded; names cause and remedy.
    """

    def __init__(
        self,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__()
        self.ranks = Ranks()
        self._rank, self._world_size = self.ranks.index, self.ranks.number
        _log_like_the_harness(self._rank)
        guard_logs()
        uncaught.show_in_one_line()
        evaluation_frames.check_interface()
        evaluation_frames.refuse_limit_zero()
        for name, value in evaluation_frames.kept_arguments().items():
            refuse_secrets(name, value)
        self.config = config.build(model_args)
        self._device = device
        # to the millisecond: runs that end within one second keep their order in a report
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.localtime(now))
        name = f"{stamp}{int(now % 1 * 1000):03}-{secrets.token_hex(3)}"
        self.run_id = self.ranks.first(name)
        self.verifier = parts.make_verifier(self.config)
        self.cost = parts.checked_cost(self.config, self.verifier)
        self.budget = parts.make_budget(self.config).share(self._rank, self._world_size)
        self._meta_verifier = parts.live_meta_verifier(self.config)
        given_policy = read_policy(self.config, self._meta_verifier)
        path = self.config.store.path
        self.store = CallStore(Path(path) if path else cache_dir() / "calls.sqlite")
        defaults = {"batch_size": batch_size, "max_batch_size": max_batch_size, "device": device}
        names, backends = config.tier_names(self.config), pool.backends(self.config, defaults)
        seed, shows = int(self.config.seed), bool(self.config.progress) and self._rank == 0
        self._others = parts.beside(self.config, self.verifier)
        self.tiers = [
            Tier(i, name, made, self.store, seed=seed, progress=shows, beside=self._others)
            for i, (name, made) in enumerate(zip(names, backends, strict=True))
        ]
        for backend in self._others:
            backend.set_defaults(defaults)
        try:
            self._open_tiers()
        except KeyboardInterrupt as interrupt:
            raise uncaught.explained(interrupt)  # noqa: B904 - the very same error
        self._views: dict[str, TaskView] = {}
        self._asked: Counter[str] = Counter()
        self.failures = Failures(float(self.config.fail_on_error))
        self.log = RunLog(
            self.run_id, self.tiers, self._about(), self.ranks, self.budget, self.failures
        )
        self.corpus = CorpusMetrics()
        self.recorder = Recorder(self.tiers, self.failures, self.corpus)
        self.routers = TaskRouters(
            self.config, given_policy, self._chain, self.ranks, self.recorder, self.log
        )

    # ----------------------------------------------------------------- the harness's contract

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Route every question; each answer is a string that carries its routing."""
        return self._answer_all(requests, evaluation_frames.current_run(requests))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Route multiple-choice questions; a question's choices all come from one tier."""
        return self._answer_all(requests, evaluation_frames.current_run(requests))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refused, or left out: a perplexity has no answer that could be verified or routed."""
        return self._answer_all(requests, evaluation_frames.current_run(requests))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Keep the turns: each tier applies the template of its own model to them."""
        return harness.encode_chat(chat_history, continue_final=not add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """The tiers' models, for the harness's request cache."""
        return "automix__" + "__".join(safe_name(t.backend.label) for t in self.tiers)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The templates are the tiers' own."""
        return "each tier's own" if chat_template else ""

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Refuse ``--use_cache``: its key leaves out the models, the policy and the task."""
        if cache_hook.dbdict is not None:
            raise AutoMixError(
                "--use_cache would return answers of other models and policies, since its key is "
                "the prompt alone. Leave it out: the cascade keeps every call in its own store "
                f"({self.store.path}) and a killed run resumes from it"
            )
        super().set_cache_hook(cache_hook)

    @property
    def device(self) -> Any:
        """Where the harness puts the tensors of its own exchanges between processes."""
        return self.ranks.device if self.ranks.number > 1 else self._device

    def all_gather(self, tensor: Any) -> Any:
        """Tensors of all processes, concatenated."""
        return self.ranks.gather_tensor(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Objects of all processes, in process ``dst``."""
        values = self.ranks.gather(obj)
        return values if self._rank == dst else None

    def barrier(self) -> None:
        """Wait for all processes."""
        self.ranks.barrier()

    def get_model_info(self) -> dict[str, Any]:
        """What the harness merges into ``results["config"]``."""
        return {"automix": self.log.summary()}

    # ----------------------------------------------------------------- the run

    @templates_compiled_once()
    def _answer_all(self, requests: list[Instance], run: HarnessRun) -> list[Any]:
        for tier in self.tiers:
            tier.chat = run.apply_chat_template
        run = self._supported(run)
        self.log.write_into(self._records_folder(run))
        groups = evaluation_frames.group_by_task(requests)
        # what is left out of the run still wants an answer, which nobody scores
        results: list[Any] = [
            0.0 if r.request_type == "loglikelihood_rolling" else (0.0, False) for r in requests
        ]
        groups = {name: positions for name, positions in groups.items() if name in run.tasks}
        self._announce(list(groups))
        if self.ranks.number > 1 or self.budget.is_limited:
            # every process takes part in every task's fit, whether or not it has its questions
            self.routers.make([self._view(name, run) for name in sorted(run.tasks)])

        def work() -> None:
            for name, positions in groups.items():
                mine = self._answer(self._view(name, run), [requests[p] for p in positions])
                for position, result in zip(positions, mine, strict=True):
                    results[position] = result

        try:
            with evaluation_frames.set_aside():
                self.ranks.together(work)
        except KeyboardInterrupt as interrupt:
            log.warning(
                "interrupted: finished calls are kept and the same command resumes; %s",
                self.log.where_records_are(),
            )
            raise uncaught.explained(interrupt)  # noqa: B904 - the very same error
        except TooManyFailedError:
            self.log.save()
            raise
        self.log.merge()
        self._sum_up([self._views[name] for name in groups])
        return results

    def _supported(self, run: HarnessRun) -> HarnessRun:
        """The run with the tasks that can be run, all of them looked at before the first call.

        Raises:
            AutoMixError: Some cannot, and the run does not leave them out; or none can.
        """
        router = self._meta_verifier
        fits = router if router.needs_fit and self.routers.policy is None else None
        models = self._surely_used(), self.verifier if router.needs_verification else None
        reasons = {}
        for name in run.tasks:
            try:
                why = refusals.why_not(self._view(name, run), fits, *models)
                why = why or self.routers.why_not(self._views[name])
            except AutoMixError as err:
                why = str(err)
            if why:
                reasons[name] = why
        if not self.config.skip_unsupported or len(reasons) == len(run.tasks):
            refusals.refuse(reasons, len(run.tasks))
        for name, why in reasons.items():
            self.log.warn(name, f"left out, as skip_unsupported=true says: {why}")
        evaluation_frames.leave_out(reasons)
        kept = {name: task for name, task in run.tasks.items() if name not in reasons}
        for name in kept:
            for note in self._views[name].notes():
                self.log.warn(name, note)
        return replace(run, tasks=kept)

    def _sum_up(self, views: Sequence[TaskView]) -> None:
        """Compute metrics of all questions together, and say them."""
        self.corpus.take(self.ranks.gather(self.corpus.found()))
        asked = self.ranks.gather(+self._asked)
        for view in views:
            # the harness joins the scores of processes that all have some
            if all(view.name in own for own in asked):
                view.fitting.leave_out_of_scores()
            elif view.fitting.has_fitted_documents:
                self.log.warn(view.name, "the harness's figures score fitting questions as failed")
            self.log.corpus(view.name, self.corpus.summary(view.metrics, int(self.config.seed)))

    def _announce(self, now: Sequence[str]) -> None:
        """Tell the records what is to come."""
        planned: Counter[str] = Counter()
        for part in self.ranks.gather(evaluation_frames.planned_questions()):
            planned.update(part)
        self.log.expect(planned, now)
        for task in now:
            self.failures.expect(task, "evaluation", planned[task])

    def _answer(self, view: TaskView, requests: list[Instance]) -> list[Any]:
        """Results of the requests of one task, in their order."""
        grouped = group(requests, view.as_unit)
        router = self.routers.of(view)
        self.corpus.begin(view.name)
        results: list[Any] = [None] * len(requests)
        for block in self._blocks(view, requests, grouped):
            made = [view.question(requests, grouped, i) for i in block]
            asked = self.recorder.not_fitted_on(view, [question for question, _ in made])
            self._asked[view.name] += len(asked)
            rows = iter(self._route(view, asked, router))
            for question, positions in made:
                row = None if view.is_fitted_on(question) else next(rows)
                if row is None:
                    nothing = self._placeholder(view, question)
                    for position in positions:
                        results[position] = nothing
                    continue
                final = row.tier(row.final)
                assert final is not None
                if question.choices:
                    ids = dict.fromkeys(id(requests[p]) for p in positions)
                    scored = dict(zip(ids, final.answer.choice_logprobs, strict=True))
                    for position in positions:
                        results[position] = scored[id(requests[position])]
                else:
                    way = routing(row, self.cost, self.tiers)
                    texts = final.answer.repeats or (final.answer.text,)
                    for position, text in zip(positions, texts, strict=True):
                        results[position] = RoutedAnswer(text, way)
            view.forget(question for question, _ in made)
        self._refuse_nothing(view, len(grouped))
        self.log.finish(view.name)
        for position, original in grouped.copies.items():
            results[position] = results[original]
        return results

    def _blocks(
        self, view: TaskView, requests: Sequence[Instance], grouped: Grouping
    ) -> Iterator[range]:
        """Questions to route together; all of them where a budget has to be shared out."""
        if self.budget.is_limited:
            yield range(len(grouped))
            return
        size = int(self.config.block_size)
        for block in grouped.blocks(size, lambda p: view.document(requests[p])):
            if len(block) < len(grouped):
                log.info(
                    "%s: questions %d to %d of %d",
                    view.name,
                    block.start + 1,
                    block.stop,
                    len(grouped),
                )
            yield block

    def _route(
        self, view: TaskView, questions: Sequence[Question], router: MetaVerifier
    ) -> list[Record | None]:
        """The cascade on some questions, recorded; None for those that failed for good."""
        try:
            done = cascade.route(questions, self._chain(view), router, self.config.record == "full")
        except BudgetSpentError as spent:
            self.log.warn(view.name, str(spent), said=True)
            kept = [(questions[i], tiers) for i, tiers in spent.finished]
            self._log_rows(view, [q for q, _ in kept], [tiers for _, tiers in kept])
            self.log.note(view.name, "evaluation")
            raise
        return self._log_rows(view, questions, done)

    def _placeholder(self, view: TaskView, question: Question) -> Any:
        """What the harness is given for a question that failed; nothing that is scored, if so."""
        if not view.leaves_out(question):
            self.log.warn(
                view.name,
                "the harness's own figures score questions that failed, which this task does not "
                "leave out: those of `automix-eval report` leave them out",
            )
        return (0.0, False) if question.choices else RoutedAnswer.failed()

    def _refuse_nothing(self, view: TaskView, number: int) -> None:
        """Stop where every question of this process has failed: there is nothing to score."""
        if number and len(self.failures.of(view.name, "evaluation")) == number:
            raise TooManyFailedError(
                f"all {number} questions of {view.name} failed"
                + (f" in process {self._rank}" if self.ranks.number > 1 else "")
                + f": {failures.reasons(self.failures.of(view.name, 'evaluation'))}. Finished "
                "calls are kept: mend the cause, and the same command resumes"
            )

    def _chain(self, view: TaskView) -> cascade.Chain:
        return cascade.Chain(
            self.tiers,
            self.routers.verifiers.get(view.name, self.verifier),
            view.split,
            log.info,
            self.budget,
            self.cost.answer_cost,
            self.failures,
            view.pick,
        )

    def _view(self, name: str, run: HarnessRun) -> TaskView:
        view = self._views.get(name)
        if view is None or view.task is not run.tasks[name]:
            # another evaluation with the same model: its tasks may have other settings
            view = TaskView.configured(name, run, self.config)
            self._views[name] = view
        return view

    # ----------------------------------------------------------------- records

    def _log_rows(
        self, view: TaskView, questions: Sequence[Question], done: Sequence[Sequence[TierRecord]]
    ) -> list[Record | None]:
        rows = self.recorder.records(view, questions, done)
        if kept := [row for row in rows if row is not None and self.recorder.keeps(view, row)]:
            self.log.add(view.name, view.about(), kept)
        return rows

    # ----------------------------------------------------------------- inside

    def _about(self) -> dict[str, Any]:
        """What the manifest says of this run; secrets are blanked."""
        return {
            "model_label": self.config.model,
            "config": config.shown(self.config),
            "record": self.config.record,
            "verifier": dict(self.verifier.identity),
        }

    def _open_tiers(self) -> None:
        for tier in self._surely_used():
            # a server that is down is found in a second, a model may take minutes to load
            tier.backend.probe()
        for tier in self._surely_used():
            log.info("%s: %s", tier.name, tier.backend.label)
            tier.backend.load()
            counted = 0 if getattr(tier.backend, "counts_tokens", True) else None
            self.cost.price(Call(tier.tier, "answer", counted, counted, 0.0, 0))
        for model in self._others if self._meta_verifier.only_tier is None else ():
            log.info("verifier: %s", model.label)
            model.load()
            if own := [t.name for t in self.tiers if t.backend.identity == model.identity]:
                raise AutoMixError(
                    f"verifier.second={model.label} is the model of {own[0]}: a model agrees with "
                    "itself, and what a later tier answers is known once it is paid. Name another"
                )

    def _surely_used(self) -> list[Tier]:
        """Tiers to make ready at once, so that what is wrong with one is said before any call."""
        only = self._meta_verifier.only_tier
        if self.config.record == "full" or only is None:
            return self.tiers
        return [self.tiers[only]]

    def _records_folder(self, run: HarnessRun) -> Path:
        chosen = self.config.records_dir
        if chosen:
            return Path(str(chosen)).expanduser()
        if run.output_folder is not None:
            return run.output_folder
        folder = cache_dir() / "runs" / self.run_id
        log.info("no --output_path: records and policies go to %s", folder)
        return folder


def _log_like_the_harness(rank: int) -> None:
    """Show our lines beside the harness's, in its format and at its level; once a run."""
    ours, theirs = logging.getLogger("automix_eval"), logging.getLogger("lm_eval")
    if theirs.handlers and not ours.handlers:
        for handler in theirs.handlers:
            ours.addHandler(handler)
        ours.setLevel(theirs.level if rank == 0 else logging.ERROR)
        ours.propagate = False
