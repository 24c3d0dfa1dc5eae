"""Model calls of one tier: taken from the store, or run, metered and stored one by one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

import msgspec

from automix_eval.backends import prompts
from automix_eval.cascade.call_counts import CallCounts, Purpose
from automix_eval.cascade.progress import progress_line
from automix_eval.cascade.store import CallStore, call_key
from automix_eval.records.schema import to_json
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.types import (
    Answer,
    Backend,
    Call,
    GenerateRequest,
    Generation,
    Message,
    Phase,
    Prompt,
    Question,
    Role,
    ScoreRequest,
    Scores,
)

log = logging.getLogger(__name__)

R = TypeVar("R", Generation, Scores)
Splitter = Callable[[Question], prompts.Parts]
# Which result of a question, of its choices or of its repeats, is the answer that is scored.
Picker = Callable[[Question, Sequence[Any]], int]
_DEFAULT_MAX_GEN_TOKS = 256
_STAGE: dict[Role, str] = {"answer": "answering", "verify": "verifying"}


class NotAskedError(Exception):
    """A call that an attempt without asking would have to make."""


class Tier:
    """One model of the chain: answers questions, and lends its calls to the verifier.

    Args:
        index: 0 for the SLM, N - 1 for the LLM.
        name: "slm", "llm" or "tier<i>", as in the configuration.
        backend: The model.
        store: Where finished calls are kept.
        seed: Seed of sampled calls.
        chat: Whether verification prompts go through the chat template.
        progress: Whether to show bars.
        beside: Other models that the verifier asks, each with its number after the last tier's.
    """

    def __init__(
        self,
        index: int,
        name: str,
        backend: Backend,
        store: CallStore,
        *,
        seed: int = 0,
        chat: bool = False,
        progress: bool = True,
        beside: Mapping[Backend, int] | None = None,
    ) -> None:
        self.tier = index
        self.name = name
        self.backend = backend
        self.seed = seed
        self.chat = chat
        self.counts = CallCounts()
        self.decide: Callable[[int, float], int] | None = None
        self.earlier: Callable[[Question, int], Answer | None] = lambda *_: None
        self._store = store
        self._beside = beside or {}
        self._progress = progress
        self._context: Purpose = ("evaluation", "", "answer")
        self._title = name
        self._split: Splitter | None = None
        self._failed: dict[str, str] = {}
        self._made: list[str] = []
        self._asks, self._attempts = True, False

    @property
    def max_length(self) -> int | None:
        """The window in tokens."""
        return self.backend.max_length

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a rendered text."""
        return self.backend.count_tokens(text)

    def render(self, prompt: str) -> str:
        """A verification prompt: one user turn if the run applies chat templates."""
        if not self.chat:
            return prompt
        return self.backend.render(Prompt(messages=(Message("user", prompt),)))

    def working_on(self, phase: Phase, task: str, role: Role, stage: str = "") -> None:
        """Say what the next calls are for; it labels counts and progress bars."""
        self._context = (phase, task, role)
        during = ", calibration" if phase == "calibration" else ""
        self._title = f"{task}: {stage or _STAGE[role]} ({self.name}{during})"
        self._failed.clear()

    def tolerate(self, number: int) -> None:
        """Go on until this many different prompts have failed for good; 0 stops at the first."""
        self.backend.patience = number

    @contextmanager
    def attempt(self, asks: bool = True) -> Iterator[None]:
        """Work that counts only if no call of it fails.

        Args:
            asks: False takes calls from the store alone, and counts nothing. One that is not there
                raises :class:`NotAskedError`; one that failed fails again.
        """
        mark = self.counts.mark()
        self._asks, self._attempts = asks, True
        self._made.clear()
        try:
            yield
        except CallsFailedError:
            self.counts.rewind(mark, self._made)
            raise
        finally:
            if not asks:
                self.counts.rewind(mark, ())
            self._asks, self._attempts = True, False

    def check_token_probs(self, sampled: bool) -> None:
        """Raise AutoMixError unless answers, sampled or greedy, carry their probabilities."""
        gives = self.backend.gives_token_probs
        if gives and sampled:
            gives = getattr(self.backend, "gives_sampled_probs", True)
        if not gives:
            raise AutoMixError(
                f"margin, token_profile and auto read token probabilities, and {self.name} "
                f"({self.backend.label}) gives none"
                + (
                    " of sampled answers, as the task asks for: use few_shot or consistency, or "
                    "greedy answers (--gen_kwargs do_sample=false)"
                    if self.backend.gives_token_probs
                    else f": use few_shot or consistency, or {self.name}=hf"
                )
            )

    # ----------------------------------------------------------------- answers

    def answer(
        self,
        questions: Sequence[Question],
        split: Splitter,
        token_probs: bool = False,
        pick: Picker | None = None,
    ) -> list[Answer]:
        """Answer each question, greedily or as its generation arguments say.

        Args:
            questions: All of one task and kind.
            split: The parts of a question's completion prompt, for prompts that do not fit.
            token_probs: Whether the verifier reads the answer's token probabilities.
            pick: Which choice or repeat is the answer; None takes the most probable choice and
                the first repeat.
        """
        self._split = split
        if not questions:
            return []
        if questions[0].choices:
            return self._choose(questions, pick or _most_probable)
        fitted = [self._fit(q, split) for q in questions]
        # greedy decoding gives one answer however often it is asked
        draws = [range(q.repeats if samples(q.generation) else 1) for q in questions]
        results = iter(
            self.generate(
                [
                    GenerateRequest(
                        self._rendered(f.prompt),
                        q.generation,
                        seed=self.seed + q.repeat + draw if samples(q.generation) else None,
                    )
                    for q, f, own in zip(questions, fitted, draws, strict=True)
                    for draw in own
                ],
                token_probs=token_probs,
            )
        )
        answers = []
        for q, f, own in zip(questions, fitted, draws, strict=True):
            made = [next(results) for _ in own]
            texts = tuple(g.text for g, _ in made) * (q.repeats // len(made))
            best = made[pick(q, texts) % len(made)][0] if pick and q.repeats > 1 else made[0][0]
            answers.append(
                Answer(
                    self.tier,
                    best.text,
                    tuple(call for _, call in made),
                    token_logprobs=best.token_logprobs,
                    token_margins=best.token_margins,
                    dropped_demonstrations=f.dropped_demonstrations,
                    cut_context_tokens=f.cut_context_tokens,
                    repeats=texts if q.repeats > 1 else (),
                )
            )
        return answers

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        """Sampled answers to questions that were answered, each ``number`` times.

        The prompt is that of the answer, and the seeds are not. Samples of one prompt are asked
        for together, so that it is read once where the backend can.
        """
        assert self._split is not None, "nothing was answered yet"
        prompts_of = [self._rendered(self._fit(q, self._split).prompt) for q in questions]
        settings = {"do_sample": True, "temperature": float(temperature)}
        drawn = iter(
            self.generate(
                [
                    GenerateRequest(
                        prompt,
                        {**q.generation, **settings},
                        seed=self.seed + q.repeat + q.repeats + sample,
                    )
                    for prompt, q in zip(prompts_of, questions, strict=True)
                    for sample in range(number)
                ]
            )
        )
        return [[next(drawn) for _ in range(number)] for _ in questions]

    def answer_by(self, model: Backend, questions: Sequence[Question]) -> list[Answer]:
        """Another model's answers, in calls of this tier that are priced as that model's."""
        assert self._split is not None, "nothing was answered yet"
        other = copy(self)  # with the same counts, failures and attempt
        other.backend, other.tier = model, self._beside[model]
        model.patience = self.backend.patience
        return other.answer(questions, self._split)

    def _choose(self, questions: Sequence[Question], pick: Picker) -> list[Answer]:
        """Score the choices of every question, as the harness scores them for this model."""
        requests = [
            ScoreRequest(self._rendered(prompt), (continuation,))
            for q in questions
            for prompt, continuation in q.choices
        ]
        results = iter(self._run(requests, "loglikelihood", self.backend.loglikelihood))
        answers = []
        for q in questions:
            scored = [next(results) for _ in q.choices]
            logprobs = tuple((s.logprobs[0], bool(s.greedy and s.greedy[0])) for s, _ in scored)
            best = pick(q, logprobs)
            answers.append(
                Answer(
                    self.tier,
                    q.options[best] if q.options else q.choices[best][1].strip(),
                    tuple(call for _, call in scored),
                    choice_logprobs=logprobs,
                )
            )
        return answers

    def _rendered(self, prompt: Prompt) -> str:
        """A prompt in the model's form; a system message that its template drops is counted."""
        text = self.backend.render(prompt)
        said = [m.content.strip() for m in prompt.messages if m.role == "system"]
        if any(s not in text and json.dumps(s)[1:-1] not in text for s in said):
            self.counts.lose_system(self._context)
        return text

    def _fit(self, question: Question, split: Splitter) -> prompts.FittedPrompt:
        window = self.max_length
        reserve = int(question.generation.get("max_gen_toks", _DEFAULT_MAX_GEN_TOKS))
        budget = None if window is None else window - reserve
        if question.prompt.is_chat:
            return prompts.fit_chat(
                question.prompt,
                question.context,
                budget,
                lambda p: self.count_tokens(self.backend.render(p)),
            )
        size = self.count_tokens(question.prompt.text)
        if budget is None or size is None or size <= budget:
            return prompts.FittedPrompt(question.prompt)
        fitted = prompts.fit(split(question), budget, self.count_tokens)
        return prompts.FittedPrompt(
            Prompt(fitted.text), fitted.dropped_demonstrations, fitted.cut_context_tokens
        )

    # ----------------------------------------------------------------- calls

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        """Generations, in order, each with its metered call."""
        kind = "generate+probs" if token_probs else "generate"

        def run(todo: Sequence[GenerateRequest], done: Callable[[int, Generation], None]) -> None:
            self.backend.generate(todo, done, token_probs=token_probs)

        return self._run(requests, kind, run)

    def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, Call]]:
        """Log-probabilities of continuations, in order, each with its metered call."""
        return self._run(requests, "score", self.backend.score)

    def _run(
        self,
        requests: Sequence[Any],
        kind: str,
        run: Callable[[Sequence[Any], Callable[[int, R], None]], None],
    ) -> list[tuple[R, Call]]:
        identity = {"model": self.backend.identity, "kind": kind, "role": self._context[2]}
        keys = [call_key({**identity, **_asked(r)}) for r in requests]
        if failed := {i: self._failed[k] for i, k in enumerate(keys) if k in self._failed}:
            raise CallsFailedError(next(iter(failed.values())), failed)
        results: dict[str, R] = {}
        todo: dict[str, Any] = {}
        found = self._store.get_many(list(dict.fromkeys(keys)))
        for key, request in zip(keys, requests, strict=True):
            if key in results or key in todo:
                continue
            value = found.pop(key, None)
            restored = None if value is None else _restore(value)
            if restored is None:
                todo[key] = request
            else:
                results[key] = restored
        if todo:
            if not self._asks:
                raise NotAskedError
            stored = sum(k not in todo for k in keys)
            order = list(todo)
            with progress_line(self._title, len(order), stored, self._progress) as advance:

                def done(position: int, result: R) -> None:
                    key = order[position]
                    self._store.put(key, to_json(result))
                    results[key] = result
                    self.counts.made[self._context] += 1
                    if self._attempts:
                        self._made.append(key)
                    advance()

                try:
                    run([todo[k] for k in order], done)
                except CallsFailedError as err:
                    if self._attempts:
                        self._failed |= {order[i]: why for i, why in err.reasons.items()}
                    raise
        missing = [k for k in keys if k not in results]
        if missing:
            raise RuntimeError(f"{self.name}'s backend returned no result for {len(missing)} calls")
        self.counts.add(self._context, keys, todo, {k: r.events for k, r in results.items()})
        return [(results[k], self._call(results[k])) for k in keys]

    def _call(self, result: Generation | Scores) -> Call:
        return Call(
            self.tier,
            self._context[2],
            result.prompt_tokens,
            result.generated_tokens if isinstance(result, Generation) else 0,
            result.seconds,
            result.cached_tokens,
            result.latency,
        )


def _most_probable(question: Question, logprobs: Sequence[Any]) -> int:
    return max(range(len(question.options or logprobs)), key=lambda i: logprobs[i][0])


def samples(generation: Mapping[str, Any]) -> bool:
    """Whether generation arguments ask for sampling, so that every call may differ."""
    return bool(generation.get("do_sample")) or float(generation.get("temperature") or 0.0) > 0.0


def _asked(request: Any) -> dict[str, Any]:
    """A request as part of a key; what it leaves open is no part, so older keys stay valid."""
    return {k: v for k, v in to_json(request).items() if k != "stop_after" or v is not None}


def _restore(value: Mapping[str, Any]) -> Any:
    """A stored result; None, so that the call is repeated, where the entry is of another shape."""
    kind = Generation if "text" in value else Scores
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as err:
        log.warning("an entry of the call store is damaged (%s); the call is repeated", err)
        return None
