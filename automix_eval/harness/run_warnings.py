"""What the questions of one phase lost, counted as they pass, so that no record need be kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from math import inf

from automix_eval.cascade import budget as budgets
from automix_eval.cascade.tier import Tier
from automix_eval.safety.text import printable
from automix_eval.types import THINKING, Answer, Phase, Record, Verification

# Answers without a point that are no accident.
MANY = 10
_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))


@dataclass(slots=True)
class _TierLosses:
    """Counts of one tier.

    Attributes:
        prompts: Prompts of answers, and of verifications that asked the model.
        dropped: Prompts that lost demonstrations.
        cut: Prompts that lost the middle of their context.
        verified: Answers that were verified.
        undefined: Verifications without a confidence.
        outcomes: Why they have none.
        least, most: Of the confidences.
        answers: Answers given.
        empty: Answers without a word.
        thinking: Answers that end while the model is still thinking, by their marks.
        thoughts_cut: The same by what the backend has seen: a thought may begin in the prompt.
    """

    prompts: int = 0
    dropped: int = 0
    cut: int = 0
    verified: int = 0
    undefined: int = 0
    outcomes: set[str] = field(default_factory=set)
    least: float = inf
    most: float = -inf
    answers: int = 0
    empty: int = 0
    thinking: int = 0
    thoughts_cut: int = 0

    def absorb(self, other: _TierLosses) -> None:
        """Add the counts of another process."""
        self.prompts += other.prompts
        self.dropped += other.dropped
        self.cut += other.cut
        self.verified += other.verified
        self.undefined += other.undefined
        self.outcomes |= other.outcomes
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.answers += other.answers
        self.empty += other.empty
        self.thinking += other.thinking
        self.thoughts_cut += other.thoughts_cut


@dataclass(slots=True)
class PromptLosses:
    """Counts of one task and phase.

    Attributes:
        num_tiers: Length of the chain.
        questions: Questions counted.
        spent: Questions whose escalation the budget refused.
        reason: (doc_id, repeat, decision) of the first of them.
        short: Questions that not every tier was asked.
        scored: Answers with a score, of all tiers.
        above: Of these, scores that are not 0.
        example: (answer, reference) of the first answer that scored 0.
    """

    num_tiers: int
    questions: int = 0
    spent: int = 0
    reason: tuple[int, int, str] | None = None
    short: int = 0
    scored: int = 0
    above: int = 0
    example: tuple[str, str] | None = None
    tiers: dict[int, _TierLosses] = field(default_factory=dict)

    def take(self, rows: Sequence[Record]) -> None:
        """Count records."""
        for row in rows:
            self.questions += 1
            self.short += len(row.tiers) < self.num_tiers
            for tier in row.tiers:
                if tier.decision and tier.decision.reason.startswith(budgets.SPENT):
                    self.spent += 1
                    self.reason = self.reason or (row.doc_id, row.repeat, tier.decision.reason)
                if tier.score is not None:
                    self.scored += 1
                    self.above += tier.score != 0
                    shown = tier.answer.text, (*row.references, "")[0]
                    self.example = self.example or shown
                counts = self.tiers.setdefault(tier.tier, _TierLosses())
                _count(counts, tier.answer)
                for text in tier.answer.repeats or (tier.answer.text,):
                    counts.answers += 1
                    counts.empty += not text.strip()
                    counts.thinking += _is_thinking(text)
                if (verification := tier.verification) is None:
                    continue
                counts.verified += 1
                if verification.calls:
                    _count(counts, verification)
                if verification.confidence is None:
                    counts.undefined += 1
                    counts.outcomes.add(verification.outcome)
                else:
                    counts.least = min(counts.least, verification.confidence)
                    counts.most = max(counts.most, verification.confidence)

    def take_events(self, task: str, phase: Phase, tiers: Sequence[Tier]) -> None:
        """Count what the calls of a task's answers noted so far."""
        for tier in tiers:
            events = tier.counts.events_of(phase, task, "answer")
            counts = self.tiers.setdefault(tier.tier, _TierLosses())
            counts.thoughts_cut = events.get(THINKING, 0)

    def absorb(self, other: PromptLosses) -> None:
        """Add the counts of another process."""
        self.questions += other.questions
        self.spent += other.spent
        self.short += other.short
        self.scored += other.scored
        self.above += other.above
        self.example = self.example or other.example
        reasons = [r for r in (self.reason, other.reason) if r is not None]
        self.reason = min(reasons, default=None)
        for tier, counts in other.tiers.items():
            self.tiers.setdefault(tier, _TierLosses()).absorb(counts)

    def notes(
        self, task: str, phase: Phase, tiers: Sequence[Tier], all_wanted: bool
    ) -> Iterator[str]:
        """What the reader of the run must know.

        Args:
            task: The task that was counted.
            phase: The phase that was counted.
            tiers: The chain.
            all_wanted: Whether every tier was to answer every question, within a budget.
        """
        if phase == "evaluation":
            yield from self._limits(all_wanted)
        if self.scored >= MANY and not self.above and self.example:
            answer, reference = (printable(text, 80) for text in self.example)
            yield (
                f"{phase}: all {self.scored} answers of all tiers score 0, such as {answer!r} "
                f"where the reference is {reference!r}. Likely causes: white space or further "
                "lines that no filter of the task takes away (filter_list, until), case and "
                "punctuation that the metric counts (ignore_case, ignore_punctuation), or a chat "
                "model without --apply_chat_template"
            )
        for tier in tiers:
            counts = self.tiers.get(tier.tier, _TierLosses())
            if counts.cut or counts.dropped:
                yield (
                    f"{phase}, {tier.name}: of {counts.prompts} prompts {counts.dropped} lost "
                    f"demonstrations and {counts.cut} the middle of their context, to fit the "
                    f"window of {tier.max_length} tokens"
                )
            if counts.empty:
                yield (
                    f"{phase}, {tier.name}: {counts.empty} of {counts.answers} answers are empty "
                    "and scored as they are: a stop sequence at their beginning, a reply without "
                    "content, or all tokens spent on thinking"
                )
            if thinking := max(counts.thinking, counts.thoughts_cut):
                yield (
                    f"{phase}, {tier.name}: {thinking} of {counts.answers} answers end "
                    "while the model is still thinking, and are scored as they are: raise "
                    "max_gen_toks (--gen_kwargs), or switch thinking off"
                )
            if tier.counts.lost_system_of(phase, task):
                yield (
                    f"{phase}, {tier.name}: the model's chat template has no system role, and "
                    "drops the system message (system instruction, description of the task): this "
                    "tier answered without it. Put it into the task's doc_to_text, or use a model "
                    "whose template has the role"
                )
            if counts.verified and counts.undefined == counts.verified:
                yield (
                    f"{phase}, {tier.name}: no verification gave a confidence "
                    f"({', '.join(sorted(counts.outcomes))}): the routing rests on "
                    f"meta_verifier.undefined alone; {_remedy(counts.outcomes)}"
                )
            judged = counts.verified - counts.undefined
            if judged >= MANY and counts.least == counts.most:
                yield (
                    f"{phase}, {tier.name}: all {judged} confidences are {counts.least:.4g}, so "
                    "that they tell no answer from another; try another verifier"
                )

    def _limits(self, all_wanted: bool) -> Iterator[str]:
        """Where the budget, not the router, kept an answer."""
        if self.reason is not None:
            yield (
                f"{self.reason[2]}: {self.spent} of {self.questions} questions were not escalated "
                "as the router wished and keep the answer they had"
            )
        if self.short and all_wanted:
            yield (
                f"record=full: {self.short} of {self.questions} questions lack the answers of "
                "larger tiers, because the budget was spent"
            )


def _count(counts: _TierLosses, prompt: Answer | Verification) -> None:
    counts.prompts += 1
    counts.dropped += bool(prompt.dropped_demonstrations)
    counts.cut += bool(prompt.cut_context_tokens)


def _is_thinking(text: str) -> bool:
    """Whether a text opens a thought, in the marks that models use, and does not close it."""
    return any(text.rfind(begin) > text.rfind(end) for begin, end in _THOUGHTS)


def _remedy(outcomes: Set[str]) -> str:
    """What to try where no verification gave a confidence, by the reasons."""
    if outcomes == {"empty_answer"}:
        return "the tier answers nothing: try --num_fewshot 2 or --apply_chat_template"
    if outcomes & {"empty_context", "empty_question"}:
        return (
            "an answer is judged by the question and context that metadata.automix names, and they "
            "are empty: fill them, leave that entry out (the prompt stands in), or try "
            "verifier=margin"
        )
    return "try verifier=p_true or verifier=margin"
