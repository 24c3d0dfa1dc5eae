"""Several verifiers at once: their confidences are the signals a calibrator turns into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Ask, Outcome, Question, Verification, Verifier


class Ensemble:
    """Run every member on every answer.

    The signals of an answer are the members' confidences, by name; the members' own signals, by
    the member's name and theirs; and with ``answer_length`` the logarithm of one plus its number
    of words. Which of them says how much is learned with the policy (``calibrator=logistic``,
    ``isotonic`` or ``auto``); without a calibrator the confidence is the mean of those that are
    defined.

    Args:
        members: Name and verifier of each member, at least one.
        answer_length: Whether the length of the answer is a signal too.
    """

    def __init__(self, members: Mapping[str, Verifier], answer_length: bool = True) -> None:
        if not members or not isinstance(members, Mapping):
            raise AutoMixError("verifier.members must name at least one verifier")
        if not isinstance(answer_length, bool):
            raise AutoMixError(f"verifier.answer_length={answer_length!r} must be true or false")
        self.members = members
        self.answer_length = answer_length

    @property
    def needs_token_probs(self) -> bool:
        """Whether a member reads them."""
        return any(member.needs_token_probs for member in self.members.values())

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, members and hyper-parameters."""
        return {
            "name": "ensemble",
            "members": {name: dict(m.identity) for name, m in self.members.items()},
            "answer_length": self.answer_length,
        }

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """One verification an answer, with the signals of all members."""
        # a member's confidence is not the one the router decides by
        ask.decide = None
        parts = [member.verify(questions, answers, ask) for member in self.members.values()]
        return [
            self._merge(ask.tier, answer, dict(zip(self.members, each, strict=True)))
            for answer, *each in zip(answers, *parts, strict=True)
        ]

    def _merge(self, tier: int, answer: Answer, parts: Mapping[str, Verification]) -> Verification:
        signals = {n: v.confidence for n, v in parts.items() if v.confidence is not None}
        confidence = math.fsum(signals.values()) / len(signals) if signals else None
        for member, v in parts.items():
            signals |= {f"{member}_{name}": value for name, value in v.signals.items()}
        if self.answer_length and signals:
            signals["answer_length"] = math.log1p(len(answer.text.split()))
        outcomes: list[Outcome] = [v.outcome for v in parts.values()]
        return Verification(
            tier=tier,
            confidence=confidence,
            outcome="ok" if signals else outcomes[0],
            calls=tuple(call for v in parts.values() for call in v.calls),
            samples=tuple(text for v in parts.values() for text in v.samples),
            num_unparsable=sum(v.num_unparsable for v in parts.values()),
            dropped_demonstrations=max(v.dropped_demonstrations for v in parts.values()),
            cut_context_tokens=max(v.cut_context_tokens for v in parts.values()),
            saved_samples=sum(v.saved_samples for v in parts.values()),
            signals=signals,
        )
