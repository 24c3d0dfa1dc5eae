"""``automix-eval plan``: questions, calls, tokens and expected cost of a run, calling no model.

With ``--detect``: how many questions it takes, see :mod:`automix_eval.commands.plan_size`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from automix_eval.cascade.tier import samples
from automix_eval.commands import plan_size
from automix_eval.commands.settings_help import settings_text
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.config.command_line import RUN, as_settings, bracketed
from automix_eval.config.run_settings import Output, RunSettings, harness_settings
from automix_eval.harness import evaluation_frames, refusals
from automix_eval.harness import task_view as harness
from automix_eval.harness.console import console
from automix_eval.harness.evaluate import generation_arguments, task_manager, task_names
from automix_eval.harness.evaluation_frames import HarnessRun
from automix_eval.harness.grouping import group
from automix_eval.harness.task_view import TaskView
from automix_eval.harness.templates import templates_compiled_once
from automix_eval.report.blocks import Paragraph, Table
from automix_eval.report.fixed_width import render_text
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import show
from automix_eval.safety.untrusted import parse_json
from automix_eval.types import (
    Answer,
    Backend,
    Call,
    CostModel,
    GenerateRequest,
    Generation,
    Phase,
    Prompt,
    Question,
    Role,
    ScoreRequest,
    Scores,
    Verification,
)

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

# Settings of the harness; the other ones are the cascade's.
_HARNESS = RunSettings.__struct_fields__
_DEFAULT_MAX_GEN_TOKS = 256
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Line:
    """What one tier will be asked for one purpose.

    Attributes:
        share: Expected share of the questions that get there.
        prompt: Mean prompt tokens of a question, all its calls together; None where the tier has
            no tokenizer.
        generated: Mean of the most tokens that may be generated for a question.
        cost: Mean cost of a question, with as many tokens; None where it cannot be known.
    """

    task: str
    phase: Phase
    tier: str
    role: Role
    questions: int
    share: float
    calls: float
    prompt: float | None
    generated: float | None
    cost: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = settings_text(RUN, ("evaluation", "config"))
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE|PATH",
        help="settings of the run (tasks=coqa limit=100 slm=hf slm.pretrained=...), listed below; "
        "--KEY VALUE of lm_eval is taken too; with --detect: a folder with a pilot run, or a "
        "table of outcomes",
    )
    parser.add_argument(
        "--escalation_rate",
        type=float,
        default=0.5,
        help="share of the questions of a tier that go on to the next (default 0.5)",
    )
    parser.add_argument(
        "--detect",
        type=float,
        metavar="DELTA_IBC",
        help="say how many questions find a delta IBC of so much (0.2) with 80%% power",
    )
    parser.add_argument(
        "--detect-loss",
        type=float,
        metavar="LOSS",
        help="the same for a loss of quality against the LLM (0.02)",
    )
    parser.add_argument(
        "--router",
        default="threshold",
        metavar="NAME",
        help="with --detect, what is fitted in folds on a table (default: threshold)",
    )


def prepared(arguments: Sequence[str]) -> list[str]:
    """The command line with the options of lm_eval as settings, behind the options of this one."""
    options: list[str] = []
    settings: list[str] = []
    rest = iter(as_settings(RUN, arguments))
    for word in rest:
        if not word.startswith("-"):
            settings.append(word)
            continue
        options.append(word)
        if "=" not in word and word not in ("-h", "--help"):
            options += itertools.islice(rest, 1)
    # argparse takes settings in one piece only
    return [*options, *settings]


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    if args.detect is not None or args.detect_loss is not None:
        wanted = plan_size.Wanted(args.detect, args.detect_loss)
        paths = [Path(text) for text in args.overrides]
        show(render_text(plan_size.plan_size(wanted, paths, args.router), _WIDTH) + "\n")
        return 0
    if not 0 <= args.escalation_rate <= 1:
        raise AutoMixError(f"--escalation_rate={args.escalation_rate:g} must lie in [0, 1]")
    given = _arguments(args.overrides)
    harness = harness_settings({k: given.pop(k) for k in _HARNESS if k in given})
    # the line of a run is taken as it is; a plan writes nothing
    given = {k: v for k, v in given.items() if k not in Output.__struct_fields__}
    settings = config.build(given)
    parts.checked_cost(settings, parts.make_verifier(settings))
    with templates_compiled_once(), console(None):
        found, requests = _requests(harness)
        planner = _Planner(settings, found, args.escalation_rate)
        lines = [
            line
            for name, positions in evaluation_frames.group_by_task(requests).items()
            for line in planner.lines(name, [requests[p] for p in positions])
        ]
    blocks = _blocks(lines, args.escalation_rate, config.name_of(settings, "cost"))
    show(render_text(blocks, _WIDTH) + "\n")
    return 0


# --------------------------------------------------------------------------- the run's requests


class _Planned(Exception):  # noqa: N818  not an error: it carries the requests out of the harness
    def __init__(self, run: HarnessRun, requests: list[Instance]) -> None:
        super().__init__("planned")
        self.run, self.requests = run, requests


def _requests(asked: RunSettings) -> tuple[HarnessRun, list[Instance]]:
    """The tasks and requests that the harness makes of its settings."""
    import lm_eval
    from lm_eval.api.model import LM

    class Planner(LM):  # type: ignore[misc]  # the harness ships no types
        """Takes the requests of a run and answers none."""

        tokenizer_name = "plan"

        def generate_until(self, requests: list[Instance]) -> NoReturn:
            raise _Planned(
                evaluation_frames.current_run(requests), evaluation_frames.pending_requests()
            )

        loglikelihood = loglikelihood_rolling = generate_until

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return harness.encode_chat(chat_history, continue_final=not add_generation_prompt)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return "each tier's own" if chat_template else ""

    manager = task_manager(asked.include_path, asked.metadata, tasks=asked.tasks)
    try:
        lm_eval.simple_evaluate(
            model=Planner(),
            tasks=task_names(manager, asked.tasks),
            num_fewshot=asked.num_fewshot,
            limit=asked.limit,
            apply_chat_template=asked.apply_chat_template,
            fewshot_as_multiturn=bool(
                asked.apply_chat_template
                if asked.fewshot_as_multiturn is None
                else asked.fewshot_as_multiturn
            ),
            system_instruction=asked.system_instruction,
            gen_kwargs=generation_arguments(asked.gen_kwargs),
            task_manager=manager,
        )
    except _Planned as planned:
        return planned.run, planned.requests
    raise AutoMixError(f"tasks={','.join(asked.tasks)} gives no request: nothing to plan")


def _arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Model arguments, read as the harness reads those of its command line."""
    from lm_eval.utils import simple_parse_args_string

    given: dict[str, Any] = {}
    for pair in pairs:
        if pair.lstrip().startswith("{"):
            try:
                given |= parse_json(pair.encode("utf-8", "replace"))
            except ValueError as err:
                raise AutoMixError(f"a model argument is no JSON: {err}") from err
        elif "=" not in pair:
            raise AutoMixError(f"{pair!r} is no KEY=VALUE")
        elif pair.partition("=")[2][:1] in ("[", "{"):
            key = pair.partition("=")[0]
            given[key] = bracketed(pair)
        else:
            given |= simple_parse_args_string(pair)
    return given


# --------------------------------------------------------------------------- counting


class _Planner:
    """Counts what a configuration will ask.

    Args:
        settings: The configuration.
        found: The run's tasks.
        rate: Share of the questions of a tier that go on to the next.
    """

    def __init__(self, settings: Any, found: HarnessRun, rate: float) -> None:
        self._settings, self._run, self._rate = settings, found, rate
        self._names = config.tier_names(settings)
        self._cost = parts.make_cost(settings)
        if "only_if_open" in settings.verifier:  # unknown beforehand of which answers: all count
            settings.verifier.only_if_open = None
        if "demonstrations" in settings.verifier:  # nor which the calibration gives
            settings.verifier.demonstrations = "fixed"
        self._verifier = parts.make_verifier(settings)
        self._router = parts.live_meta_verifier(settings)
        beside = parts.beside(settings, self._verifier)
        self._asks = [
            _Counting(i, beside, parts.make_backend(settings, n), int(settings.seed))
            for i, n in enumerate(self._names)
        ]

    def lines(self, name: str, requests: list[Instance]) -> Iterator[Line]:
        """Every line of one task: the calibration's, then the evaluation's."""
        view = TaskView.configured(name, self._run, self._settings)
        if why := refusals.why_not(view, None):
            raise AutoMixError(f"task {name} cannot be run: {why}")
        grouped = group(requests, view.as_unit)
        asked = [view.question(requests, grouped, i)[0] for i in range(len(grouped))]
        last = len(self._names) - 1
        verified = range(last if self._router.needs_verification else 0)
        if self._router.needs_fit and not self._settings.meta_verifier.policy:
            fitted_on = view.calibration_questions(self._settings.calibration.seed)
            for tier in range(last + 1):
                yield from self._of_tier(view, fitted_on, tier, 1.0, tier in verified)
        questions = [q for q in asked if not view.is_fitted_on(q)]
        only = self._router.only_tier
        for tier in range(last + 1):
            share = self._rate**tier if only is None else float(tier == only % (last + 1))
            if self._settings.record == "full":
                share = 1.0
            if share:
                yield from self._of_tier(view, questions, tier, share, tier in verified)

    def _of_tier(
        self, view: TaskView, questions: Sequence[Question], tier: int, share: float, verify: bool
    ) -> Iterator[Line]:
        ask = self._asks[tier]
        answers = [ask.answer(q, (view.references(q) or ("",))[0] or "?") for q in questions]
        yield self._line(view.name, questions, ask, share, "answer", [a.calls for a in answers])
        if verify:
            judged = self._verifier.verify(questions, answers, ask)
            calls = [v.calls for v in judged]
            yield self._line(view.name, questions, ask, share, "verify", calls)

    def _line(
        self,
        task: str,
        questions: Sequence[Question],
        ask: _Counting,
        share: float,
        role: Role,
        calls: Sequence[Sequence[Call]],
    ) -> Line:
        number = len(questions)
        return Line(
            task,
            questions[0].phase,
            self._names[ask.tier],
            role,
            number,
            share,
            sum(len(c) for c in calls) / number,
            _mean([c.prompt_tokens for own in calls for c in own], number),
            _mean([c.generated_tokens for own in calls for c in own], number),
            _price(self._cost, ask.tier, role, calls),
        )


class _Counting:
    """A tier that counts what it is asked and answers with a stand-in: an ``Ask``."""

    # nothing is routed, so all samples count, and no other tier has answered
    decide: Callable[[int, float], int] | None = None
    earlier = staticmethod(lambda *_: None)

    def __init__(self, tier: int, beside: Mapping[Backend, int], model: Backend, seed: int) -> None:
        self.tier, self.seed, self.max_length, self._beside = tier, seed, None, beside
        self._count = model.counter()

    def answer(self, question: Question, text: str, role: Role = "answer") -> Answer:
        """The calls of an answer; its text is a reference, so that its length is likely."""
        if question.choices:
            calls = tuple(self._call(role, p, 0) for p, _ in question.choices)
            scores = tuple((-float(i), i == 0) for i in range(len(calls)))
            return Answer(self.tier, text, calls, choice_logprobs=scores)
        call = self._call(role, question.prompt, _limit(question.generation))
        calls = (call,) * (question.repeats if samples(question.generation) else 1)
        return Answer(self.tier, text, calls, token_logprobs=(0.0,), token_margins=(1.0,))

    def count_tokens(self, text: str) -> int | None:
        """Unknown to a verifier: a plan fits no prompt into a window."""
        del text
        return None

    def render(self, prompt: str) -> str:
        """As it is; the template's own tokens are added when it is counted."""
        return prompt

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        """A decision for each request, at the price of the longest text it allows."""
        del token_probs
        made = Generation(" Verification Decision: The AI generated answer is Correct.")
        return [(made, self._call("verify", r.prompt, _limit(r.generation))) for r in requests]

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        """An answer for each, at the price of the longest text it allows."""
        del temperature
        calls = [self._call("verify", q.prompt, _limit(q.generation)) for q in questions]
        return [[(Generation("?"), call)] * number for call in calls]

    def answer_by(self, model: Backend, questions: Sequence[Question]) -> list[Answer]:
        """Another model's answers, counted by its own tokenizer."""
        other = _Counting(self._beside[model], {}, model, self.seed)
        return [other.answer(q, "?", "verify") for q in questions]

    def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, Call]]:
        """One pass over each prompt."""
        made = [Scores((0.0,) * len(r.continuations)) for r in requests]
        return [(s, self._call("verify", r.prompt, 0)) for s, r in zip(made, requests, strict=True)]

    def _call(self, role: Role, prompt: Prompt | str, generated: int) -> Call:
        asked = Prompt(prompt) if isinstance(prompt, str) else prompt
        tokens = None if self._count is None else self._count(asked)
        return Call(self.tier, role, tokens, generated, None)


def _limit(generation: Any) -> int:
    return int(generation.get("max_gen_toks", _DEFAULT_MAX_GEN_TOKS))


def _mean(tokens: Sequence[int | None], questions: int) -> float | None:
    return None if None in tokens else sum(t for t in tokens if t is not None) / questions


def _price(cost: CostModel, tier: int, role: Role, calls: Sequence[Sequence[Call]]) -> float | None:
    """Mean cost of a question; None where tokens or seconds are not known beforehand."""
    try:
        prices = [
            cost.answer_cost(Answer(tier, "", tuple(own)))
            if role == "answer"
            else cost.verification_cost(Verification(tier, None, calls=tuple(own)))
            for own in calls
        ]
    except AutoMixError:
        return None
    return sum(prices) / len(prices)


def _blocks(lines: Sequence[Line], rate: float, cost: str) -> list[Table | Paragraph]:
    header = (
        "Task", "Phase", "Tier", "Role", "Questions", "Calls", "Prompt tokens",
        "Generated, at most", "Cost",
    )  # fmt: skip
    rows = [
        (
            line.task,
            line.phase,
            line.tier,
            line.role,
            _number(line.questions * line.share),
            *(
                _number(None if value is None else value * line.questions * line.share)
                for value in (line.calls, line.prompt, line.generated, line.cost)
            ),
        )
        for line in lines
    ]
    known = [line.cost * line.questions * line.share for line in lines if line.cost is not None]
    total = (
        f"Expected cost: {_number(sum(known))} (cost={cost})"
        if len(known) == len(lines)
        else f"Expected cost: unknown, since cost={cost} needs what a plan cannot know of some "
        "tiers: their tokens (a tokenizer is missing) or their seconds"
    )
    counts = any(line.share != 1 for line in lines)
    on = f"{rate:.0%} of the questions of each tier go on to the next (--escalation_rate) and "
    notes = (
        f"{total}, if {on * counts}every generation is as long as it may be. Answers under "
        "verification are as long as the references. Calls in the store are not taken off."
    )
    return [Table(header, tuple(rows)), Paragraph(notes)]


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.4g}"
