"""The answer's token probabilities as several signals for a calibrator: no further call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.metrics.choice_values import softmax
from automix_eval.types import Answer, Ask, Prompt, Question, Verification
from automix_eval.verifiers.margin import STATISTICS, Margin

_OF_TWO = Question("", 0, Prompt(), "", "", choices=((Prompt(), "a"), (Prompt(), "b")))


class TokenProfile:
    """What the probabilities of an answer's tokens, or of its choices, look like.

    The confidence is that of :class:`.margin.Margin`, the mean token probability, so that routers
    work without a calibrator and where there are too few rows to weigh signals. Signals:

    - of a text: geometric mean, minimum, 10 % quantile and median of the tokens' probabilities,
      the probability of the first token and of the whole answer, the lead over the second-best
      token at the first token and on average, and log(1 + number of tokens);
    - of a multiple-choice answer: probability, lead over the second best and entropy (as a share
      of log n) under the softmax over the choices' log-probabilities, and under that of
      log-probability per character (``even_*``), and the place of the answer among the choices by
      the latter (0 the first, 1 the last).

    Sources: quantiles, arXiv 2404.10136; mean log-probability, arXiv 2605.02241; first-token
    margin, arXiv 2405.02134.
    """

    needs_token_probs = True

    def __init__(self) -> None:
        self._single = Margin()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name; there are no hyper-parameters."""
        return {"name": "token_profile"}

    def signal_names(self, choices: bool) -> list[str]:
        """All there can be, of an answer that is a choice or a text."""
        probabilities = ((0.0, True),) * 2 if choices else ()
        answer = Answer(0, "any", (), probabilities, token_logprobs=(0.0,), token_margins=(0.0,))
        return list(_signals(_OF_TWO, answer))

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Read the probabilities that came with each answer.

        Raises:
            AutoMixError: An answer with text came without token probabilities.
        """
        return [
            Verification(v.tier, v.confidence, v.outcome, signals=_signals(question, answer))
            for question, answer, v in zip(
                questions, answers, self._single.verify(questions, answers, ask), strict=True
            )
        ]


def _signals(question: Question, answer: Answer) -> dict[str, float]:
    if answer.choice_logprobs:
        return _of_choices(question, [p for p, _ in answer.choice_logprobs])
    if not answer.text.strip():
        return {}
    return _of_tokens(answer.token_logprobs, answer.token_margins)


def _of_tokens(logprobs: Sequence[float], margins: Sequence[float]) -> dict[str, float]:
    ascending = sorted(logprobs)
    n = len(ascending)
    low, median = np.quantile(ascending, [0.1, 0.5]).tolist()
    known = [name for name in STATISTICS if margins or name.endswith("probability")]
    signals = {name: STATISTICS[name](logprobs, margins) for name in known} | {
        "low_probability": math.exp(low),
        "median_probability": math.exp(median),
        "first_probability": math.exp(logprobs[0]),
        "answer_probability": math.exp(math.fsum(ascending)),
        "num_tokens": math.log1p(n),
    }
    return {name: _bounded(name, value) for name, value in signals.items()}


def _of_choices(question: Question, logprobs: Sequence[float]) -> dict[str, float]:
    # of continuations that only compare (acc_mutual_info) none is an answer
    number = len(question.options) or len(logprobs)
    raw = list(logprobs[:number])
    taken = max(range(number), key=raw.__getitem__)
    signals = _of_distribution("choice", raw)
    if len(question.choices) >= number:
        lengths = [max(len(text.strip()), 1) for _, text in question.choices[:number]]
        even = [value / length for value, length in zip(raw, lengths, strict=True)]
        signals |= _of_distribution("even", even)
        better = sum(value > even[taken] for value in even)
        signals["even_rank"] = better / max(number - 1, 1)
    return signals


def _of_distribution(name: str, logprobs: Sequence[float]) -> dict[str, float]:
    shares = softmax(logprobs)
    n = len(shares)
    entropy = -math.fsum(p * math.log(p) for p in shares if p > 0)
    signals = {
        "probability": shares[0],
        "margin": shares[0] - (shares[1] if n > 1 else 0.0),
        "entropy": entropy / math.log(n) if n > 1 else 0.0,
    }
    return {f"{name}_{key}": _bounded(key, value) for key, value in signals.items()}


def _bounded(name: str, value: float) -> float:
    """Probabilities within [0, 1] however sums round; a count as it is."""
    return value if name == "num_tokens" else min(max(value, 0.0), 1.0)
