"""The nouns of AutoMix and the contracts between its layers.

Every stage of the cascade maps a list of these frozen values to a list of the same length.
Tiers are numbered from 0 (the SLM) to N - 1 (the LLM). Source: AutoMix, arXiv 2310.12963.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["answer", "verify"]
Phase = Literal["calibration", "evaluation"]
UNSEEN, THINKING = "unseen", "thinking"  # events: of a log-probability but a bound; a cut thought
Outcome = Literal["ok", "unparsable", "empty_answer", "empty_context", "empty_question"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a tier is asked, before its own chat template and window are applied.

    Attributes:
        text: The whole prompt; for a chat prompt the empty string.
        messages: The turns of a chat prompt; empty for a completion prompt.
        continue_final: The last message is the beginning of the model's own turn.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    continue_final: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is a list of turns."""
        return bool(self.messages)


@dataclass(frozen=True, slots=True)
class Question:
    """One document of a task, asked once.

    Attributes:
        task, doc_id: Name of the task; the harness's index of the document in its split.
        repeat, phase: 0 .. repeats - 1; whether it is of the calibration or of the evaluation.
        prompt: The answer prompt (of the first choice for a multiple-choice question).
        context: The passage the verifier grounds the answer in; may be empty.
        question: The question alone (with its options), as the verifier shows it.
        generation: Generation arguments of the harness (``until``, ``max_gen_toks``, ...).
        choices: (prompt, continuation) pairs of a multiple-choice question, else empty.
        grounded: The task has a context field, so an empty ``context`` is a defect of the row.
        options: What each choice answers; fewer than ``choices`` if the rest only compare.
        repeats: Answers wanted together, which one metric scores; ``repeat`` is 0 then.
        metric: Name of the metric that compares the choices.
        choice_texts: The choices as the task has them; that metric may divide by their length.
    """

    task: str
    doc_id: int
    prompt: Prompt
    context: str
    question: str
    phase: Phase = "evaluation"
    repeat: int = 0
    generation: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[tuple[Prompt, str], ...] = ()
    grounded: bool = True
    options: tuple[str, ...] = ()
    repeats: int = 1
    metric: str = ""
    choice_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One metered model call.

    Attributes:
        tier: Index of the tier that was called.
        role: What for.
        prompt_tokens: Tokens of the prompt, None where the backend cannot count.
        generated_tokens: Tokens generated (0 for a forward pass), None where unknown.
        seconds: Wall seconds; a batch's time is shared among its calls, so sums are exact.
        cached_tokens: Tokens of the prompt that were read from a cache; None where unknown.
        latency: Wall seconds from request to reply; None where calls shared a batch.
    """

    tier: int
    role: Role
    prompt_tokens: int | None
    generated_tokens: int | None
    seconds: float | None
    cached_tokens: int | None = None
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """What a backend returns for one generation request; ``latency`` as of a :class:`Call`.

    Attributes:
        text: The text before the first stop sequence.
        token_logprobs: Log-probability of each generated token but the stop; empty where unknown.
        token_margins: Probability of the best minus that of the second-best token, per token.
        cached_tokens: Tokens of the prompt that were read from a cache; None where unknown.
        events: Worth counting: ``length``, ``content_filter``, ``empty``, ``no_usage``,
            ``thinking``; ``retry:<kind>`` for each attempt that failed.
    """

    text: str
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    seconds: float | None = None
    token_logprobs: tuple[float, ...] = ()
    token_margins: tuple[float, ...] = ()
    cached_tokens: int | None = None
    events: tuple[str, ...] = ()
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A generation request in a tier's own rendered form.

    Attributes:
        prompt: The rendered prompt (a JSON list of turns for a chat-only API).
        generation: Generation arguments in the harness's terms.
        seed: Seed of this very sample; None for greedy decoding.
        stop_after: A regular expression, case ignored: a backend may end at its first match.
    """

    prompt: str
    generation: Mapping[str, Any]
    seed: int | None = None
    stop_after: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Log-probabilities of whole continuations after one prompt."""

    prompt: str
    continuations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a backend returns for one :class:`ScoreRequest`; the rest as of a :class:`Generation`.

    Attributes:
        logprobs: Natural-log probability of each continuation, in the request's order.
        greedy: Whether greedy decoding would produce each continuation.
        events: As of a :class:`Generation`, and ``UNSEEN`` for each upper bound in ``logprobs``.
    """

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...] = ()
    prompt_tokens: int | None = None
    seconds: float | None = None
    cached_tokens: int | None = None
    events: tuple[str, ...] = ()
    latency: float | None = None


class Backend(Protocol):
    """A tier's model, loaded on first use.

    Attributes:
        gives_token_probs: Whether greedy generations carry their tokens' probabilities.
        patience: Prompts that may fail for good before nothing more is asked.
    """

    gives_token_probs: bool
    patience: int

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes two backends the same model: enters every key of the call store."""

    @property
    def label(self) -> str:
        """A short name for tables."""

    @property
    def varies(self) -> str:
        """Why the same call may bring another result another time; empty where it does not."""

    @property
    def max_length(self) -> int | None:
        """The window in tokens, None where it is unknown."""

    def set_defaults(self, arguments: Mapping[str, Any]) -> None:
        """Take batch size and device where the tier sets none of its own."""

    def probe(self) -> None:
        """Raise AutoMixError if a server is needed and nothing listens at its address."""

    def load(self) -> None:
        """Make prompts countable and renderable; a failure names the tier's settings."""

    def counter(self) -> Callable[[Prompt], int] | None:
        """Counts the tokens of prompts without the model, None without a tokenizer."""

    def count_tokens(self, text: str) -> int | None:
        """Number of tokens of a rendered prompt, None without a tokenizer."""

    def render(self, prompt: Prompt) -> str:
        """A prompt in the model's own form, its chat template applied."""

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """Generate; each result is handed over, with its index, as soon as it exists."""

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score continuations exactly as the harness's own class of the model does."""

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score a few short continuations of long prompts, each prompt read once if possible."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A tier's answer.

    Attributes:
        text: The answer, or the text of the most probable choice.
        choice_logprobs: (log-probability, is greedy) of each choice of a multiple-choice question.
        dropped_demonstrations, cut_context_tokens: Left out, and cut from its middle, to fit.
        repeats: All answers to a question asked several times as one; ``text`` has the score.
    """

    tier: int
    text: str
    calls: tuple[Call, ...] = ()
    choice_logprobs: tuple[tuple[float, bool], ...] = ()
    token_logprobs: tuple[float, ...] = ()
    token_margins: tuple[float, ...] = ()
    dropped_demonstrations: int = 0
    cut_context_tokens: int = 0
    repeats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """A tier's judgement of its own answer.

    Attributes:
        confidence: Share judged correct, or a probability, in [0, 1]; None where undefined.
        outcome: Why the confidence is undefined, or "ok".
        samples, num_unparsable: Texts drawn; how many without a decision, or without any text.
        signals: What several verifiers said, by name; a calibrator turns them into one confidence.
        saved_samples: Samples not drawn because the routing decision was settled.
    """

    tier: int
    confidence: float | None
    outcome: Outcome = "ok"
    calls: tuple[Call, ...] = ()
    samples: tuple[str, ...] = ()
    num_unparsable: int = 0
    dropped_demonstrations: int = 0
    cut_context_tokens: int = 0
    signals: Mapping[str, float] = field(default_factory=dict)
    saved_samples: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What a meta-verifier may look at when it decides for one question.

    Attributes:
        tier, num_tiers: The tier reached, -1 before the first is chosen; length of the chain.
        confidences: Confidence of tier 0 .. ``tier``; None for tiers skipped or undefined.
        question, answer: The question; the answer of the tier reached, None before the first.
        signals: What several verifiers said, one mapping a tier 0 .. ``tier``.
        costs: Cost of each answer, None for tiers skipped; empty where they have no known price.
    """

    tier: int
    num_tiers: int
    confidences: tuple[float | None, ...]
    question: Question | None = None
    answer: Answer | None = None
    signals: tuple[Mapping[str, float], ...] = ()
    costs: tuple[float | None, ...] = ()

    @property
    def confidence(self) -> float | None:
        """Confidence at the tier reached."""
        return self.confidences[self.tier] if self.tier >= 0 else None


@dataclass(frozen=True, slots=True)
class Decision:
    """A meta-verifier's choice.

    Attributes:
        tier, to: Where it was taken; who answers next, the same to keep the current answer.
        reason: One short phrase for the record.
        abstains: The current answer is kept, and is not to count as one.
    """

    tier: int
    to: int
    reason: str = ""
    abstains: bool = False

    @property
    def escalates(self) -> bool:
        """Whether a larger model is asked."""
        return self.to > self.tier


@dataclass(frozen=True, slots=True)
class TierRecord:
    """What one tier did on one question.

    Attributes:
        score: The main metric, or minus it where lower is better; None if it has no number.
        metrics: All numeric per-sample metrics of this tier's answer.
        on_path: False for tiers asked only because every tier is recorded (``record=full``).
    """

    tier: int
    answer: Answer
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    verification: Verification | None = None
    decision: Decision | None = None
    on_path: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """One question and repeat: all calls, so that a new price needs no new run.

    Attributes:
        tiers, final: Tiers asked, ascending; the tier whose answer counts.
        prompt_hash: SHA-256 of the harness's prompt, joins with its samples.
        document: Identity of the document several questions share, where the task has one.
    """

    task: str
    doc_id: int
    repeat: int
    phase: Phase
    final: int
    tiers: tuple[TierRecord, ...]
    prompt_hash: str = ""
    document: str = ""
    question: str = ""
    references: tuple[str, ...] = ()

    def tier(self, index: int) -> TierRecord | None:
        """The record of one tier, None if it was not asked."""
        return next((t for t in self.tiers if t.tier == index), None)


class CostModel(Protocol):
    """Prices calls; never measures them."""

    def price(self, call: Call) -> float:
        """Cost of one call in the model's unit; an unknown price is an AutoMixError."""

    def check(self, num_tiers: int) -> None:
        """Raise AutoMixError unless every tier of a chain of this length has a price."""

    def answer_cost(self, answer: Answer) -> float:
        """Cost of the calls of one answer."""

    def verification_cost(self, verification: Verification) -> float:
        """Cost of the calls of one verification (the paper: one unit however many samples)."""


class Verifier(Protocol):
    """Judges answers of a tier by its own model; names its signals, if any, in ``signal_names``."""

    needs_token_probs: bool

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters: a policy is valid for this verifier only."""

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """One verification per answer, in order; ``ask`` makes the model calls."""


class Ask(Protocol):
    """The calls a verifier may make on the tier under judgement, stored and metered.

    Attributes:
        decide: The tier chosen for the i-th question at a confidence; None to draw all samples.
    """

    decide: Callable[[int, float], int] | None

    @property
    def tier(self) -> int:
        """Index of the tier."""

    @property
    def max_length(self) -> int | None:
        """The tier's window in tokens."""

    @property
    def seed(self) -> int:
        """The run's seed."""

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a text as this tier counts them."""

    def render(self, prompt: str) -> str:
        """A verification prompt in the tier's form: one user turn if a chat template applies."""

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        """Run, or take from the store, generation requests."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, Call]]:
        """Run, or take from the store, scoring requests."""

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        """So many sampled answers to each question's own answer prompt."""

    def answer_by(self, model: Backend, questions: Sequence[Question]) -> list[Answer]:
        """Another model's answers to questions; its calls are of this tier's verification."""

    def earlier(self, question: Question, tier: int) -> Answer | None:
        """What another tier has answered to a question already, if it was asked."""
