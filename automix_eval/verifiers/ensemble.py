"""Several verifiers at once: their confidences are the signals a calibrator turns into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number
from automix_eval.types import Answer, Ask, Backend, Outcome, Question, Verification, Verifier


def signal_names(verifier: Verifier, choices: bool) -> list[str]:
    """Signals that a verifier may give of choices or of texts: none unless it names them."""
    names = getattr(verifier, "signal_names", None)
    return list(names(choices)) if names else []


class Ensemble:
    """Run every member on every answer.

    The signals of an answer are the members' confidences, by name; the members' own signals, by
    the member's name and theirs; and with ``answer_length`` the logarithm of one plus its number
    of words. Which of them says how much is learned with the policy (``calibrator=logistic``,
    ``isotonic`` or ``auto``); without a calibrator the confidence is the mean of those that are
    defined.

    With ``only_if_open`` the members are asked in their order, each about those answers alone of
    which the mean confidence so far lies within these bounds: a free member first (``margin``)
    leaves few for a dear one. It holds in the calibration too, so that a policy is fitted on what
    it will see. Samples that were not drawn are counted.

    Args:
        members: Name and verifier of each member, at least one.
        answer_length: Whether the length of the answer is a signal too.
        only_if_open: (low, high), or None to ask every member about every answer.
    """

    def __init__(
        self,
        members: Mapping[str, Verifier],
        answer_length: bool = True,
        only_if_open: Sequence[float] | None = None,
    ) -> None:
        if not members or not isinstance(members, Mapping):
            raise AutoMixError("verifier.members must name at least one verifier")
        if any(getattr(member, "needs_examples", False) for member in members.values()):
            raise AutoMixError(
                "verifier.members: demonstrations=calibration is for few_shot alone, and a member "
                "takes demonstrations=fixed"
            )
        if not isinstance(answer_length, bool):
            raise AutoMixError(f"verifier.answer_length={answer_length!r} must be true or false")
        if only_if_open is not None and not _is_range(only_if_open):
            raise AutoMixError(
                f"verifier.only_if_open={only_if_open!r} must be null or two confidences "
                "[low, high] with 0 <= low <= high <= 1"
            )
        self.only_if_open = None if only_if_open is None else tuple(only_if_open)
        self.members = members
        self.answer_length = answer_length

    @property
    def needs_token_probs(self) -> bool:
        """Whether a member reads them."""
        return any(member.needs_token_probs for member in self.members.values())

    @property
    def needs_scores(self) -> bool:
        """Whether a member reads probabilities of given verdicts."""
        return any(getattr(member, "needs_scores", False) for member in self.members.values())

    @property
    def models(self) -> list[Backend]:
        """Models that members ask beside the tier's own."""
        return [own for m in self.members.values() for own in getattr(m, "models", ())]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, members and hyper-parameters."""
        identity = {
            "name": "ensemble",
            "members": {name: dict(m.identity) for name, m in self.members.items()},
            "answer_length": self.answer_length,
        }
        given = self.only_if_open
        return identity | ({} if given is None else {"only_if_open": list(given)})

    def signal_names(self, choices: bool) -> list[str]:
        """All there can be, of an answer that is a choice or a text."""
        names = ["answer_length"] if self.answer_length else []
        for name, member in self.members.items():
            names += [name, *(f"{name}_{own}" for own in signal_names(member, choices))]
        return names

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """One verification an answer, with the signals of all members."""
        # a member's confidence is not the one the router decides by
        ask.decide = None
        parts: list[dict[str, Verification]] = [{} for _ in answers]
        saved = [0] * len(answers)
        for name, member in self.members.items():
            here = [i for i, own in enumerate(parts) if self._is_open(own)]
            for i in set(range(len(answers))).difference(here):
                saved[i] += getattr(member, "num_samples", 1)
            found = member.verify([questions[i] for i in here], [answers[i] for i in here], ask)
            for i, verification in zip(here, found, strict=True):
                parts[i][name] = verification
        return [
            self._merge(ask.tier, answer, own, number)
            for answer, own, number in zip(answers, parts, saved, strict=True)
        ]

    def _is_open(self, parts: Mapping[str, Verification]) -> bool:
        """Whether the next member is asked about an answer."""
        held = [v.confidence for v in parts.values() if v.confidence is not None]
        if self.only_if_open is None or not held:
            return True
        low, high = self.only_if_open
        return low <= math.fsum(held) / len(held) <= high

    def _merge(
        self, tier: int, answer: Answer, parts: Mapping[str, Verification], saved: int
    ) -> Verification:
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
            saved_samples=saved + sum(v.saved_samples for v in parts.values()),
            signals=signals,
        )


def _is_range(given: Any) -> bool:
    """Whether it is two numbers, in order, within [0, 1]."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        return False
    return all(map(is_number, given)) and 0 <= given[0] <= given[1] <= 1
