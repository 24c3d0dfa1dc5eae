"""What a task of the harness's run tells the cascade: questions, contexts, prompts and scores.

The harness hands a model nothing but requests. Calibration needs the tasks themselves (their
train splits, prompts and metrics, with every setting of the command line applied), so the run is
read, never changed, from the harness's own frames on the call stack.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automix_eval.backends.prompts import Parts, split_at
from automix_eval.harness.demonstrations import Demonstrations, document_id
from automix_eval.harness.evaluation_frames import HarnessRun
from automix_eval.harness.fitting_questions import FittingChoice, FittingQuestions
from automix_eval.harness.grouping import Grouping
from automix_eval.harness.task_metrics import TaskMetrics, TaskScore
from automix_eval.harness.task_source import config_hashes
from automix_eval.metrics.choice_values import compared_values
from automix_eval.types import Answer, Message, Phase, Prompt, Question

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

log = logging.getLogger(__name__)

_CHAT = '{"automix_chat": '


def encode_chat(history: Sequence[Mapping[str, str]], continue_final: bool) -> str:
    """Turns as one string, so that each tier can apply its own template later."""
    turns = [{"role": str(t["role"]), "content": str(t["content"])} for t in history]
    text = json.dumps(turns, ensure_ascii=False)
    return f'{_CHAT}{text}, "continue": {json.dumps(continue_final)}}}'


def decode_prompt(text: str, is_chat: bool) -> Prompt:
    """The prompt of a request."""
    if not (is_chat and text.startswith(_CHAT)):
        return Prompt(text)
    value = json.loads(text)
    return Prompt(
        messages=tuple(Message(t["role"], t["content"]) for t in value["automix_chat"]),
        continue_final=bool(value["continue"]),
    )


class TaskView:
    """One task of the run, as the cascade needs it.

    Args:
        name: The task's name.
        task: The harness's task object.
        run: The run it belongs to.
        metric: Name of the main metric; None takes the task's own.
        filter_name: Name of the filter under which answers are scored; None takes the first.
        as_unit: Whether the repeats of a question are answered by one tier and scored together.
        calibration: See :class:`~automix_eval.harness.fitting_questions.FittingQuestions`.

    Raises:
        AutoMixError: The task has no such filter.
    """

    def __init__(
        self,
        name: str,
        task: Any,
        run: HarnessRun,
        metric: str | None = None,
        filter_name: str | None = None,
        as_unit: bool = True,
        calibration: Any = None,
    ) -> None:
        self.name = name
        self.task = task
        self.run = run
        metadata = task.config.metadata if isinstance(task.config.metadata, dict) else {}
        self.settings: Mapping[str, Any] = metadata.get("automix") or {}
        self.is_sample = bool(metadata.get("sample"))
        self.repeats = max(int(task.config.repeats or 1), 1)
        self.as_unit = as_unit
        self.metrics = TaskMetrics(name, task, metric or self.settings.get("metric"), filter_name)
        self._config_hashes = config_hashes(task)
        self._instances: dict[tuple[Phase, int, int], list[Instance]] = {}
        self.fitting = FittingQuestions(name, task, calibration)
        self._shots = Demonstrations(task)
        self._demonstrations: list[str] | None = None

    @classmethod
    def configured(cls, name: str, run: HarnessRun, settings: Any) -> TaskView:
        """A task of a run, with the metric, filter and repeats of a configuration."""
        fit, as_unit = settings.calibration, settings.repeats == "unit"
        return cls(name, run.tasks[name], run, fit.metric, settings.filter, as_unit, fit)

    # ----------------------------------------------------------------- questions

    def question(
        self, requests: Sequence[Instance], grouping: Grouping, index: int
    ) -> tuple[Question, list[int]]:
        """One question of evaluation requests, and the positions of its requests.

        The view keeps what belongs to it until it is told to :meth:`forget` it.
        """
        positions = grouping.positions(index)
        positions.sort(key=lambda p: requests[p].idx)
        instances = list({id(requests[p]): requests[p] for p in positions}.values())
        repeat = int(grouping.repeats[index])
        doc_id = self.run.doc_id(self.name, int(instances[0].doc_id or 0))
        if self._shots.are_drawn:
            self._draw_again(instances, doc_id)
        return self._question(instances, doc_id, "evaluation", repeat), positions

    def forget(self, questions: Iterable[Question]) -> None:
        """Let go of questions that are finished."""
        for question in questions:
            del self._instances[question.phase, question.doc_id, question.repeat]

    def calibration_questions(self, seed: int) -> list[Question]:
        """Questions to fit on, prompted exactly like the evaluation's.

        No question that is scored enters. A question's own document never appears among its
        demonstrations, nor another question on the same document.

        Raises:
            AutoMixError: The task has too few questions for a fit.
        """
        chosen = self.fitting.choice
        docs = self.fitting.docs(chosen.split)
        return [self._calibration_question(docs, i, seed) for i in chosen.doc_ids]

    def check_demonstrations(self, chosen: FittingChoice | None) -> None:
        """Refuse a task without enough demonstrations for a prompt of some question.

        Args:
            chosen: Questions to fit on, that are asked too.

        Raises:
            AutoMixError: Some prompt would lack some.
        """

        def asked() -> Iterator[Any]:
            yield from self.task.eval_docs
            if chosen:
                docs = self.fitting.docs(chosen.split)
                yield from (docs[i] for i in chosen.doc_ids)

        self._shots.check(asked)

    # ----------------------------------------------------------------- prompts

    def split(self, question: Question) -> Parts:
        """The parts of a completion prompt: head, demonstrations, the question's own block."""
        text = question.prompt.text
        instances = self._of(question)
        body = self._body(instances[0].doc)
        if not text.endswith(body):
            return Parts("", (), text, question.context)
        before = text[: len(text) - len(body)]
        shots: tuple[str, ...] = ()
        head = before
        if self.task.config.num_fewshot:
            # the head is what stands before the first demonstration
            blocks = self._known_demonstrations()
            starts = [p for b in blocks if (p := before.find(b)) >= 0]
            first = min(starts, default=len(before))
            if (found := split_at(before[first:], blocks)) is not None:
                head, shots = before[:first], found
        return Parts(head, shots, body, question.context)

    # ----------------------------------------------------------------- scores

    def score(self, question: Question, answer: Answer) -> TaskScore:
        """The scores of an answer, by the task's own code."""
        instances = self._of(question)
        responses: list[list[Any]]
        if question.choices:
            responses = [[r] * self.repeats for r in answer.choice_logprobs]
        elif answer.repeats:
            responses = [list(answer.repeats)]
        else:
            responses = [[answer.text] * self.repeats]
        return self.metrics.score(instances, responses)

    def pick(self, question: Question, results: Sequence[Any]) -> int:
        """Which of the results of a question is the answer that is scored.

        Args:
            question: The question.
            results: Of a question with choices the (log-probability, is greedy) of each, else the
                texts of all repeats.
        """
        if question.choices:
            texts = question.choice_texts or question.options
            values = compared_values(self.metric, [r[0] for r in results], texts)
            return int(np.argmax(values))
        instances = self._of(question)
        wanted = self.metrics.filtered(instances, [results])
        for i, text in enumerate(results):
            if self.metrics.filtered(instances, [[text] * len(results)]) == wanted:
                return i
        return 0

    def is_fitted_on(self, question: Question) -> bool:
        """Whether an evaluated question is on a document that the router was fitted on."""
        return self.fitting.has_fitted_documents and self.fitting.are_on(self.doc(question))

    def leaves_out(self, question: Question) -> bool:
        """Whether the harness's figures leave out a question that failed, by the task's code."""
        if self.is_fitted_on(question):
            return True
        if question.choices:
            return False  # its numbers cannot say so
        instances = self._of(question)
        return not self.metrics.found(instances, [[RoutedAnswer.failed()] * self.repeats])

    @property
    def metric(self) -> str:
        """Name of the main metric; empty where it is not known before the first score."""
        return self.metrics.main or ""

    def notes(self) -> list[str]:
        """What the reader of the run must know of the task's settings."""
        given = self.task.config.generation_kwargs or {}
        stops = given.get("until") or []
        written = [s for s in ([stops] if isinstance(stops, str) else stops) if "\\n" in str(s)]
        found = self.metrics.notes()
        if self.task.OUTPUT_TYPE == "generate_until" and written:
            found.append(
                f"the stop sequence {written[0]!r} is a backslash and an n, at which no answer "
                'ends: where a line break is meant, give --gen_kwargs as JSON, {"until": ["\\n"]}'
            )
        if given.get("do_sample") and (given.get("num_beams") or 1) > 1:
            found.append("slm and llm of hf draw each sample token by token, without num_beams")
        if self.repeats > 1 and not self.as_unit:
            found.append(
                f"repeats=each scores each of the {self.repeats} answers to a question by itself; "
                "the harness's own figures are of what the task's filter makes of them together"
            )
        return found

    def about(self) -> dict[str, Any]:
        """What the manifest says of the task."""
        own: dict[str, Any] = {"metric": self.metric, "sample": self.is_sample}
        own["filter"] = self.metrics.filter.name
        own["config_hashes"] = self._config_hashes
        if not self.metrics.higher_is_better:
            own["higher_is_better"] = False
        if self.repeats > 1:
            own["repeats"] = {"number": self.repeats, "routed": "unit" if self.as_unit else "each"}
        return own

    def references(self, question: Question) -> tuple[str, ...]:
        """Gold answers, for the reader of a record."""
        doc = self.doc(question)
        answers = doc.get("answers") if self.settings else None
        if isinstance(answers, list) and all(isinstance(a, str) for a in answers):
            return tuple(answers)
        # with several inputs the harness takes the text for the index of the right one
        gold = self.task.doc_to_text(doc) if self._has_several_inputs else None
        target = self.task.doc_to_target(doc) if gold is None else gold
        choices = self.task.doc_to_choice(doc) if self.task.config.doc_to_choice else None
        found = target if isinstance(target, list) else [target]
        return tuple(
            str(choices[t]) if choices and isinstance(t, int) and 0 <= t < len(choices) else str(t)
            for t in found
        )

    def doc(self, question: Question) -> Mapping[str, Any]:
        """The task's document behind a question."""
        doc: Mapping[str, Any] = self._of(question)[0].doc
        return doc

    def document_id(self, question: Question) -> str:
        """Identity of the document that several questions share; empty where the task has none."""
        return document_id(self.doc(question))

    def document(self, request: Instance) -> str | int:
        """What the questions of one document share."""
        return document_id(request.doc) or int(request.doc_id or 0)

    def prompt_of(self, question: Question) -> str:
        """The harness's own prompt string, as its samples hash it."""
        return str(self._of(question)[0].arguments[0])

    # ----------------------------------------------------------------- inside

    def _of(self, question: Question) -> list[Instance]:
        """The requests of a question that is not forgotten."""
        return self._instances[question.phase, question.doc_id, question.repeat]

    @property
    def _has_several_inputs(self) -> bool:
        """Whether the choices of a question are beginnings of a text, as in WinoGrande."""
        return bool(getattr(self.task, "multiple_input", 0))

    def _draw_again(self, instances: Sequence[Instance], doc_id: int) -> None:
        """Put demonstrations of the question's own into requests that the harness has made."""
        made = self._requests(instances[0].doc, doc_id, f"{self.run.fewshot_seed}-{doc_id}")
        for instance, new in zip(instances, made, strict=True):
            instance.arguments = new.arguments

    def _question(
        self, instances: Sequence[Instance], doc_id: int, phase: Phase, repeat: int
    ) -> Question:
        first = instances[0]
        chat = self.run.apply_chat_template
        self._instances[phase, doc_id, repeat] = list(instances)
        prompt = decode_prompt(str(first.arguments[0]), chat)
        doc = first.doc
        grounded = bool(self.settings)
        choices: tuple[tuple[Prompt, str], ...] = ()
        options: tuple[str, ...] = ()
        generation: Mapping[str, Any] = {}
        if first.request_type == "generate_until":
            generation = dict(first.arguments[1])
        else:
            choices = tuple(
                (decode_prompt(str(i.arguments[0]), chat), str(i.arguments[1])) for i in instances
            )
            options = self._options(doc, choices)
        if self._has_several_inputs:
            question = "Which of these texts is right?\n" + "\n".join(f"- {o}" for o in options)
        else:
            question = str(doc.get("question", "")) if grounded else self._body(doc)
        return Question(
            self.name,
            doc_id,
            prompt,
            context=str(doc.get("context", "")) if grounded else "",
            question=question,
            phase=phase,
            repeat=repeat,
            generation=generation,
            choices=choices,
            grounded=grounded,
            options=options,
            repeats=self.repeats if self.as_unit and not choices else 1,
            metric=self.metric if choices else "",
            choice_texts=self._choice_texts(doc) if choices else (),
        )

    def _choice_texts(self, doc: Any) -> tuple[str, ...]:
        found = self.task.doc_to_choice(doc) if self.task.config.doc_to_choice else ()
        return tuple(map(str, found))

    def _options(self, doc: Any, choices: Sequence[tuple[Prompt, str]]) -> tuple[str, ...]:
        """What each choice says; choices scored without the question say nothing."""
        texts = self._choice_texts(doc)
        number = len(texts) if texts and len(choices) == 2 * len(texts) else len(choices)
        if self._has_several_inputs and texts:
            return tuple(f"{text}{choices[i][1]}" for i, text in enumerate(texts))
        return tuple(continuation.strip() for _, continuation in choices[:number])

    def _calibration_question(self, docs: Any, index: int, seed: int) -> Question:
        made = self._requests(docs[index], index, f"{seed}-{index}")
        return self._question(made, index, "calibration", 0)

    def _requests(self, doc: Any, doc_id: int, seed: str) -> list[Instance]:
        """The requests of a document as the harness makes them, but for who draws."""
        task, chat = self.task, self.run.apply_chat_template
        with self._shots.of(doc, seed):
            prompt = task.fewshot_context(
                doc,
                num_fewshot=task.config.num_fewshot or 0,
                system_instruction=self.run.system_instruction,
                apply_chat_template=chat,
                fewshot_as_multiturn=self.run.fewshot_as_multiturn,
                chat_template=_chat_template if chat else None,
                gen_prefix=task.doc_to_prefix(doc),
            )
        made = task.construct_requests(
            doc=doc,
            ctx=prompt,
            metadata=(self.name, doc_id, self.repeats),
            apply_chat_template=chat,
            chat_template=_chat_template if chat else None,
        )
        return made if isinstance(made, list) else [made]

    def _body(self, doc: Any) -> str:
        text = self.task.doc_to_text(doc)
        prefix = self.task.doc_to_prefix(doc)
        turns = self.task.build_qa_turn(
            q=str(text),
            c=self.task.doc_to_choice(doc) if self.task.config.doc_to_choice else None,
            gen_prefix=prefix,
            tgt_delim=self.task.config.target_delimiter,
            few_delim="",
        )
        return "".join(t.to_text() for t in turns)

    def _known_demonstrations(self) -> Sequence[str]:
        """Every possible demonstration, rendered once, and only if a prompt does not fit."""
        if self._demonstrations is None:
            task, settings = self.task, self.task.fewshot_cfg
            rendered = []
            for doc in task.sampler.fewshot_docs():
                turns = task.build_qa_turn(
                    q=task.doc_to_text(doc, settings.doc_to_text),
                    c=task.doc_to_choice(doc, settings.doc_to_choice)
                    if settings.doc_to_choice
                    else None,
                    a=task.doc_to_target(doc, settings.doc_to_target),
                    gen_prefix=task.resolve_field(doc, settings.gen_prefix),
                    tgt_delim=settings.target_delimiter,
                    few_delim=settings.fewshot_delimiter,
                )
                rendered.append("".join(t.to_text() for t in turns))
            self._demonstrations = sorted(rendered, key=len, reverse=True)
        return self._demonstrations


# A word that answers no question, for tasks that score it all the same.
FAILED = "[call-failed]"


class RoutedAnswer(str):
    """An answer that carries its routing into the task's ``process_results``.

    Attributes:
        routing: decision, confidence, cost and escalation of this question, or ``failed``; empty in
            the copies that the harness makes when it casts a gold answer to the type of an answer.
    """

    routing: Mapping[str, Any]

    def __new__(cls, text: object, routing: Mapping[str, Any] | None = None) -> RoutedAnswer:
        """A string equal to ``str(text)``."""
        answer = super().__new__(cls, text)
        answer.routing = dict(routing or {})
        return answer

    @classmethod
    def failed(cls) -> RoutedAnswer:
        """In the place of the answer to a question whose calls failed for good."""
        return cls(FAILED, {"failed": True})

    def __reduce__(self) -> tuple[Any, ...]:
        return (RoutedAnswer, (str(self), self.routing))


def _chat_template(history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
    return encode_chat(history, continue_final=not add_generation_prompt)
