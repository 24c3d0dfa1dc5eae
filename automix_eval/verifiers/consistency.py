"""Agreement of the answer with further answers of the same model to the same prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from automix_eval.metrics.answers import exact_match, token_f1
from automix_eval.metrics.choice_values import choice_confidence, compared_values
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Ask, Call, Generation, Question, Verification

# Answers with at least this token F1 are taken to say the same.
_SAME = 0.5

_AGREEMENTS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "f1": token_f1,
    "exact": exact_match,
}


class Consistency:
    """v = mean agreement of the answer with k answers sampled from the same prompt.

    It reads nothing but texts, so it works behind any chat API; the k samples share one prompt.
    Signals beside the agreement (``agreement=f1`` or ``exact``) are both of them, the mean token
    F1 of the samples among themselves, and the entropy of what was said, as a share of log(k + 1):
    answer and samples are grouped in order, each with the first group whose first member it
    agrees with (F1 of at least .5). An empty sample agrees with no answer and is counted as
    undecided; the confidence is undefined where all are empty.

    The choice of a multiple-choice question is no sampled text: there the agreement is the one to
    be expected of choices drawn by their probabilities, that of the choice taken, without a call.

    Sources: self-consistency, arXiv 2203.11171; agreement as deferral, arXiv 2407.02348; semantic
    entropy, arXiv 2302.09664 (there the groups are those of an entailment model).

    Args:
        num_samples: k, at least 2: one more answer can only agree or not.
        temperature: Sampling temperature, above 0.
        agreement: ``f1`` (token F1) or ``exact`` (normalised texts are equal).
    """

    needs_token_probs = False

    def __init__(
        self, num_samples: int = 4, temperature: float = 1.0, agreement: str = "f1"
    ) -> None:
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 2:
            raise AutoMixError(
                f"verifier.num_samples={num_samples!r} must be an integer of at least 2: agreement "
                "with a single further answer is no share"
            )
        number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise AutoMixError(f"verifier.temperature={temperature!r} must be a number above 0")
        if agreement not in _AGREEMENTS:
            raise AutoMixError(
                f"verifier.agreement={agreement!r} is unknown: choose {' or '.join(_AGREEMENTS)}"
            )
        self.num_samples = num_samples
        self.temperature = temperature
        self.agreement = agreement

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters."""
        return {
            "name": "consistency",
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            "agreement": self.agreement,
        }

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Draw k further answers to each question whose answer says something."""
        todo = [i for i, a in enumerate(answers) if a.text.strip() and not a.choice_logprobs]
        asked = [questions[i] for i in todo]
        drawn = ask.answer_again(asked, self.num_samples, self.temperature) if todo else []
        by_answer = dict(zip(todo, drawn, strict=True))
        return [
            self._compare(answer, by_answer[i], ask.tier)
            if i in by_answer
            else _of_choices(questions[i], answer, ask.tier)
            for i, answer in enumerate(answers)
        ]

    def _compare(
        self, answer: Answer, drawn: Sequence[tuple[Generation, Call]], tier: int
    ) -> Verification:
        texts = tuple(generation.text.strip() for generation, _ in drawn)
        said = [text for text in texts if text]
        k = len(texts)
        signals = {}
        if said:
            # an empty sample has no text to agree: its agreement is 0
            signals = {
                name: math.fsum(agree(text, [answer.text]) for text in said) / k
                for name, agree in _AGREEMENTS.items()
            }
            pairs = [token_f1(a, [b]) for a, b in combinations(said, 2)]
            signals["among_samples"] = math.fsum(pairs) / (k * (k - 1) / 2)
            signals["entropy"] = _entropy([answer.text.strip(), *texts])
        return Verification(
            tier,
            signals[self.agreement] if said else None,
            outcome="ok" if said else "unparsable",
            calls=tuple(call for _, call in drawn),
            samples=texts,
            num_unparsable=k - len(said),
            signals=signals,
        )


def _of_choices(question: Question, answer: Answer, tier: int) -> Verification:
    if not answer.text.strip():
        return Verification(tier, None, outcome="empty_answer")
    logprobs = [p for p, _ in answer.choice_logprobs]
    values = compared_values(question.metric, logprobs, question.choice_texts)
    share = choice_confidence(values, "probability")
    return Verification(tier, share, signals={"exact": share})


def _entropy(texts: Sequence[str]) -> float:
    """Entropy of groups of texts that say the same, as a share of the entropy of all different."""
    groups: list[list[str]] = []
    for text in texts:
        same = (g for g in groups if (bool(text) == bool(g[0])) and token_f1(text, [g[0]]) >= _SAME)
        group = next(same, None)
        if group is None:
            groups.append([text])
        else:
            group.append(text)
    shares = [len(group) / len(texts) for group in groups]
    value = -math.fsum(p * math.log(p) for p in shares) / math.log(len(texts))
    return min(max(value, 0.0), 1.0)
