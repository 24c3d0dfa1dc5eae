"""Confidence from the SLM's own token probabilities: no further call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from automix_eval.metrics.choice_values import choice_confidence, compared_values
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Ask, Question, Verification

#: Name -> what it makes of the tokens' log-probabilities and of their leads over the second-best.
STATISTICS: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "mean_probability": lambda logprobs, _: math.exp(fmean(logprobs)),
    "min_probability": lambda logprobs, _: math.exp(min(logprobs)),
    "first_margin": lambda _, margins: margins[0],
    "mean_margin": lambda _, margins: fmean(margins),
}


class Margin:
    """A statistic of the token probabilities of the answer.

    For a multiple-choice answer the probabilities are the softmax of what the task's metric
    compares, the choices' log-probabilities or, by acc_norm, those by length: the
    ``*_probability`` statistics give that of the choice taken, the ``*_margin`` statistics its lead
    over the second best.
    Sources: the first-token margin of arXiv 2405.02134; the mean token log-probability and token
    quantiles of arXiv 2404.10136.

    Args:
        statistic: ``mean_probability`` (geometric mean of the tokens' probabilities),
            ``min_probability``, ``first_margin`` (best minus second-best token, first token) or
            ``mean_margin``.
    """

    needs_token_probs = True

    def __init__(self, statistic: str = "mean_probability") -> None:
        if statistic not in STATISTICS:
            raise AutoMixError(
                f"verifier.statistic={statistic!r} is unknown: choose one of "
                f"{', '.join(STATISTICS)}"
            )
        self.statistic = statistic

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters."""
        return {"name": "margin", "statistic": self.statistic}

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Read the probabilities that came with each answer."""
        return [
            self._confidence(question, answer, ask.tier)
            for question, answer in zip(questions, answers, strict=True)
        ]

    def _confidence(self, question: Question, answer: Answer, tier: int) -> Verification:
        if answer.choice_logprobs:
            logprobs = [p for p, _ in answer.choice_logprobs]
            values = compared_values(question.metric, logprobs, question.choice_texts)
            kind = "probability" if self.statistic.endswith("probability") else "margin"
            return Verification(tier, choice_confidence(values, kind))
        if not answer.text.strip():
            return Verification(tier, None, outcome="empty_answer")
        if not answer.token_logprobs:
            raise AutoMixError(
                f"margin, token_profile and auto read the token probabilities of tier {tier}'s "
                "answers, and this one has none (sampled answers carry none, nor do all backends): "
                "use verifier=few_shot, greedy answers, or slm=hf"
            )
        value = STATISTICS[self.statistic](answer.token_logprobs, answer.token_margins)
        return Verification(tier, min(max(value, 0.0), 1.0))
