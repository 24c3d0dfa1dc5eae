"""What a multiple-choice metric of the harness compares, and how sure it makes an answer.

Source: lm_eval 0.4.13, ConfigurableTask.process_results: ``acc`` compares log-probabilities,
``acc_norm`` and ``acc_bytes`` divide them by the length of the choice in characters or bytes, and
``acc_mutual_info`` takes off the log-probability of the choice without its question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

BY_LENGTH: dict[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode(errors="replace")),
}


def compared_values(metric: str, logprobs: Sequence[float], texts: Sequence[str]) -> list[float]:
    """One value a choice; the largest is the answer, the first of equals.

    Args:
        metric: Name of the metric.
        logprobs: Natural-log probability of each choice; twice as many for ``acc_mutual_info``, the
            second half without the question.
        texts: The choices as the task has them; none where they are unknown, and then nothing is
            divided.
    """
    number = len(texts) if len(logprobs) == 2 * len(texts) else len(logprobs)
    values = list(logprobs[:number])
    if metric in BY_LENGTH and len(texts) == number:
        return [v / max(1, BY_LENGTH[metric](t)) for v, t in zip(values, texts, strict=True)]
    if metric == "acc_mutual_info" and len(logprobs) == 2 * number:
        return [v - u for v, u in zip(values, logprobs[number:], strict=True)]
    return values


def choice_confidence(values: Sequence[float], statistic: str) -> float:
    """From the softmax of what is compared: ``probability`` of the best, or its ``margin``.

    Args:
        values: One a choice, natural logarithms.
        statistic: ``probability``, or ``margin``: the lead over the second best.
    """
    best, *others = softmax(values)
    if statistic == "probability":
        return best
    return best - (others[0] if others else 0.0)


def softmax(values: Sequence[float]) -> list[float]:
    """Shares of 1, largest first, of values that are natural logarithms."""
    top = max(values)
    weights = sorted((math.exp(v - top) for v in values), reverse=True)
    total = math.fsum(weights)
    return [w / total for w in weights]
