"""What the harness's run tells a composite model: its tasks, prompts, metrics and output folder.

The harness hands a model nothing but requests. Calibration needs the tasks themselves (their
train splits, prompts and metrics, with every setting of the command line applied), so the run is
read, never changed, from the harness's own frames on the call stack.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automix_eval.backends.prompts import Parts, split_at
from automix_eval.harness.evaluation_frames import HarnessRun
from automix_eval.harness.grouping import Grouping
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.safety.errors import AutoMixError
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
    """

    def __init__(self, name: str, task: Any, run: HarnessRun, metric: str | None = None) -> None:
        self.name = name
        self.task = task
        self.run = run
        metadata = task.config.metadata if isinstance(task.config.metadata, dict) else {}
        self.settings: Mapping[str, Any] = metadata.get("automix") or {}
        self.is_sample = bool(metadata.get("sample"))
        self._metric = metric or self.settings.get("metric")
        self._instances: dict[tuple[Phase, int, int], list[Instance]] = {}
        self._demonstrations: list[str] | None = None

    # ----------------------------------------------------------------- questions

    def question(
        self, requests: Sequence[Instance], grouping: Grouping, index: int
    ) -> tuple[Question, list[int]]:
        """One question of evaluation requests, and the positions of its requests.

        The view keeps what belongs to it until it is told to :meth:`forget` it.
        """
        positions = grouping.positions(index)
        positions.sort(key=lambda p: requests[p].idx)
        instances = [requests[p] for p in positions]
        repeat = int(grouping.repeats[index])
        doc_id = int(instances[0].doc_id or 0)
        return self._question(instances, doc_id, "evaluation", repeat), positions

    def forget(self, questions: Iterable[Question]) -> None:
        """Let go of questions that are finished."""
        for question in questions:
            del self._instances[question.phase, question.doc_id, question.repeat]

    def calibration_questions(self, num_docs: int, min_docs: int, seed: int) -> list[Question]:
        """Questions of the train split, prompted exactly like the evaluation's.

        No evaluation document enters. A question's own document never appears among its
        demonstrations, nor another question on the same document.

        Raises:
            AutoMixError: The task has no train split or too few questions in it.
        """
        if not self.task.has_training_docs():
            raise AutoMixError(
                f"task {self.name} has no train split to fit the meta-verifier on. Two ways out: "
                "meta_verifier.policy=FILE.json with a policy fitted elsewhere, or a "
                "meta-verifier that needs no fit (self_consistency, always_slm, always_llm)"
            )
        docs = self.task.training_docs()
        available = len(docs)
        if available < min_docs:
            raise AutoMixError(
                f"task {self.name} has {available} train questions and calibration.min_docs is "
                f"{min_docs}: lower calibration.min_docs, give meta_verifier.policy=FILE.json, or "
                "use a meta-verifier that needs no fit"
            )
        chosen = sorted(nested_sample(available, num_docs, seed))
        return [self._calibration_question(docs, i, seed) for i in chosen]

    def train_size(self) -> int:
        """Questions in the train split."""
        return len(self.task.training_docs()) if self.task.has_training_docs() else 0

    # ----------------------------------------------------------------- prompts

    def split(self, question: Question) -> Parts:
        """The parts of a completion prompt: head, demonstrations, the question's own block."""
        text = question.prompt.text
        instances = self._instances[question.phase, question.doc_id, question.repeat]
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

    def score(self, question: Question, answer: Answer) -> tuple[float | None, dict[str, float]]:
        """The main metric and all numeric metrics of an answer, by the task's own code.

        Raises:
            AutoMixError: The main metric is unknown or not a number for this task.
        """
        if "bypass" in getattr(self.task, "_metric_fn_list", {}):
            return None, {}
        instances = self._instances[question.phase, question.doc_id, question.repeat]
        responses: list[Any] = list(answer.choice_logprobs) or [answer.text]
        copies = [
            dataclasses.replace(i, resps=[r], filtered_resps={})
            for i, r in zip(instances, responses, strict=True)
        ]
        for ensemble in self.task._filters:
            ensemble.apply(copies)
        key = next(iter(copies[0].filtered_resps))
        doc = copies[0].doc
        found = self.task.process_results(doc, [c.filtered_resps[key] for c in copies])
        metrics = {
            str(k): float(v)
            for k, v in found.items()
            if isinstance(v, (int, float)) and math.isfinite(v)
        }
        return metrics.get(self._main(found, metrics, question)), metrics

    def leaves_out(self, question: Question) -> bool:
        """Whether the harness's figures leave out a question that failed, by the task's code."""
        if question.choices:
            return False  # its numbers cannot say so
        instances = self._instances[question.phase, question.doc_id, question.repeat]
        copies = [
            dataclasses.replace(i, resps=[RoutedAnswer.failed()], filtered_resps={})
            for i in instances
        ]
        for ensemble in self.task._filters:
            ensemble.apply(copies)
        return not any(
            self.task.process_results(copies[0].doc, [found])
            for found in copies[0].filtered_resps.values()
        )

    @property
    def metric(self) -> str:
        """Name of the main metric; empty before the first score of a foreign task."""
        return self._metric or ""

    def references(self, question: Question) -> tuple[str, ...]:
        """Gold answers, for the reader of a record."""
        doc = self.doc(question)
        answers = doc.get("answers")
        if isinstance(answers, list) and all(isinstance(a, str) for a in answers):
            return tuple(answers)
        target = self.task.doc_to_target(doc)
        choices = self.task.doc_to_choice(doc) if self.task.config.doc_to_choice else None
        if choices and isinstance(target, int) and 0 <= target < len(choices):
            return (str(choices[target]),)
        return tuple(map(str, target)) if isinstance(target, list) else (str(target),)

    def doc(self, question: Question) -> Mapping[str, Any]:
        """The task's document behind a question."""
        instances = self._instances[question.phase, question.doc_id, question.repeat]
        doc: Mapping[str, Any] = instances[0].doc
        return doc

    def document_id(self, question: Question) -> str:
        """Identity of the document that several questions share; empty where the task has none."""
        return str(self.doc(question).get("document_id", ""))

    def document(self, request: Instance) -> str | int:
        """What the questions of one document share."""
        return str(request.doc.get("document_id", "")) or int(request.doc_id or 0)

    def prompt_of(self, question: Question) -> str:
        """The harness's own prompt string, as its samples hash it."""
        instances = self._instances[question.phase, question.doc_id, question.repeat]
        return str(instances[0].arguments[0])

    # ----------------------------------------------------------------- inside

    def _main(
        self, found: Mapping[str, Any], metrics: Mapping[str, float], question: Question
    ) -> str:
        if self._metric is None:
            preferred = [m["metric"] for m in self.task.config.metric_list or [] if "metric" in m]
            names = [str(m) for m in preferred if m in metrics] or list(metrics)
            if not names:
                raise AutoMixError(
                    f"task {self.name} has no numeric per-question metric "
                    f"(it has {', '.join(found) or 'none'}), so no router can be fitted or judged"
                )
            self._metric = names[0]
        if self._metric not in metrics:
            value = found.get(self._metric, "absent")
            raise AutoMixError(
                f"task {self.name}, document {question.doc_id}: the metric {self._metric!r} is "
                f"{value!r}, not a finite number. Set calibration.metric to one of "
                f"{', '.join(metrics) or '(none)'} or mend the row"
            )
        return self._metric

    def _question(
        self, instances: Sequence[Instance], doc_id: int, phase: Phase, repeat: int
    ) -> Question:
        first = instances[0]
        chat = self.run.apply_chat_template
        self._instances[phase, doc_id, repeat] = list(instances)
        prompt = decode_prompt(str(first.arguments[0]), chat)
        doc = first.doc
        grounded = bool(self.settings)
        question = str(doc.get("question", "")) if grounded else self._body(doc)
        choices: tuple[tuple[Prompt, str], ...] = ()
        generation: Mapping[str, Any] = {}
        if first.request_type == "generate_until":
            generation = dict(first.arguments[1])
        else:
            choices = tuple(
                (decode_prompt(str(i.arguments[0]), chat), str(i.arguments[1])) for i in instances
            )
            if len(choices) < 2:
                raise AutoMixError(
                    f"task {self.name} scores one given continuation a document: there is no "
                    "answer to verify or to route. The cascade runs generate_until and "
                    "multiple_choice tasks"
                )
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
        )

    def _calibration_question(self, docs: Any, index: int, seed: int) -> Question:
        doc = docs[index]
        task = self.task
        sampler = getattr(task, "sampler", None)
        if sampler is not None and task.config.num_fewshot:
            own = copy.copy(sampler)
            own.df = [d for d in sampler.fewshot_docs() if not _same_document(d, doc)]
            own._loaded = True
            own.rnd = random.Random(f"{seed}-{index}")
            task.sampler = own
        try:
            prompt = task.fewshot_context(
                doc,
                num_fewshot=task.config.num_fewshot or 0,
                system_instruction=self.run.system_instruction,
                apply_chat_template=self.run.apply_chat_template,
                fewshot_as_multiturn=self.run.fewshot_as_multiturn,
                chat_template=_chat_template if self.run.apply_chat_template else None,
                gen_prefix=task.doc_to_prefix(doc),
            )
        finally:
            if sampler is not None:
                task.sampler = sampler
        made = task.construct_requests(
            doc=doc,
            ctx=prompt,
            metadata=(self.name, index, 1),
            apply_chat_template=self.run.apply_chat_template,
            chat_template=_chat_template if self.run.apply_chat_template else None,
        )
        return self._question(made if isinstance(made, list) else [made], index, "calibration", 0)

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


def _same_document(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a == b:
        return True
    key = "document_id"
    return key in a and key in b and bool(a[key] == b[key])
