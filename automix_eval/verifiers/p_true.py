"""Verification by one forward pass: the probability of Correct against Incorrect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.types import UNSEEN, Answer, Ask, Call, Question, ScoreRequest, Verification
from automix_eval.verifiers import prompt as verification_prompt

_CONTINUATIONS = (" Correct", " Incorrect")
#: Tokens to leave free in the window for them.
RESERVE = 8


def score(prompts: Sequence[str], ask: Ask) -> list[tuple[float | None, Call]]:
    """P(Correct) / (P(Correct) + P(Incorrect)) after each prompt, with the call that gave it.

    None where the model would say neither: of both only an upper bound is known.
    """
    found: list[tuple[float | None, Call]] = []
    for scores, call in ask.score([ScoreRequest(p, _CONTINUATIONS) for p in prompts]):
        correct, incorrect = scores.logprobs
        unseen = scores.events.count(UNSEEN) == len(_CONTINUATIONS)
        share = None if unseen else 1.0 / (1.0 + math.exp(min(incorrect - correct, 700.0)))
        found.append((share, call))
    return found


class PTrue:
    """v = P(" Correct") / (P(" Correct") + P(" Incorrect")) after the decision phrase.

    Whole continuations are scored, since " Incorrect" is several tokens for some tokenizers.
    Source: the P(True) of Kadavath et al. 2022 (arXiv 2207.05221) on AutoMix's prompt.
    """

    needs_token_probs = False
    needs_scores = True

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters."""
        return {"name": "p_true"}

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Score both decisions for each answer that can be verified."""
        outcomes = [
            verification_prompt.unverifiable(q, a) for q, a in zip(questions, answers, strict=True)
        ]
        todo = [i for i, outcome in enumerate(outcomes) if outcome is None]
        prompts = [
            verification_prompt.build(questions[i], answers[i], ask, RESERVE, decide_now=True)
            for i in todo
        ]
        verifications = [
            Verification(ask.tier, None, outcome=outcome or "unparsable") for outcome in outcomes
        ]
        scored = score([p.text for p in prompts], ask)
        for i, fitted, (share, call) in zip(todo, prompts, scored, strict=True):
            verifications[i] = Verification(
                ask.tier,
                share,
                "unparsable" if share is None else "ok",
                calls=(call,),
                dropped_demonstrations=fitted.dropped_demonstrations,
                cut_context_tokens=fitted.cut_context_tokens,
            )
        return verifications
