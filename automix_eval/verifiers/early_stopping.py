"""When further samples of a verification cannot, or hardly, change the routing decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator


def rounds(num_samples: int) -> Iterator[range]:
    """Samples by round: half of them first, then half of what is left, down to one."""
    start = 0
    while start < num_samples:
        size = math.ceil((num_samples - start) / 2)
        yield range(start, start + size)
        start += size


def settled(
    decide: Callable[[float], int],
    num_correct: int,
    num_parsed: int,
    num_left: int,
    error_rate: float,
) -> bool:
    """Whether a verification may stop: its decision would stay what it is now.

    Args:
        decide: The router's choice as a function of the confidence.
        num_correct: Samples so far that judge the answer correct.
        num_parsed: Samples so far with a decision.
        num_left: Samples not drawn yet; any of them may turn out to have no decision.
        error_rate: Accepted probability that all samples would have led elsewhere; 0 stops only
            where no outcome could. The probability is that of the beta-binomial distribution, the
            share of "Correct" uniform beforehand, so it holds however often one looks.
    """
    if num_parsed == 0:
        return False
    now = decide(num_correct / num_parsed)
    if all(
        decide((num_correct + more) / (num_parsed + parsed)) == now
        for parsed in range(1, num_left + 1)
        for more in range(parsed + 1)
    ):
        return True
    wrong = math.fsum(
        _probability(more, num_left, num_correct, num_parsed)
        for more in range(num_left + 1)
        if decide((num_correct + more) / (num_parsed + num_left)) != now
    )
    return error_rate > 0 and wrong <= error_rate


def _probability(more: int, num_left: int, num_correct: int, num_parsed: int) -> float:
    """Beta-binomial probability of ``more`` further "Correct" among ``num_left`` samples."""
    a, b = num_correct + 1, num_parsed - num_correct + 1

    def log_beta(x: int, y: int) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    log_ratio = log_beta(a + more, b + num_left - more) - log_beta(a, b)
    return math.comb(num_left, more) * math.exp(log_ratio)
