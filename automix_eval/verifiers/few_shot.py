"""Few-shot self-verification by sampling: the paper's verifier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.types import (
    Answer,
    Ask,
    AutoMixError,
    GenerateRequest,
    Question,
    Verification,
)
from automix_eval.verifiers import prompt as verification_prompt

_DECISION = re.compile(r"the ai generated answer is\s*:?\s*\**(correct|incorrect)\b", re.IGNORECASE)


def parse_decision(sample: str) -> bool | None:
    """Whether a sample judges the answer correct; None if it takes no decision.

    The last decision counts: a sample may quote one before it reasons. The reference counts a
    sample that says both as correct.
    """
    found = _DECISION.findall(sample)
    return None if not found else found[-1].lower() == "correct"


class FewShot:
    """v = (# samples judging "Correct") / (# samples with a decision), k samples at temperature 1.

    Source: AutoMix, arXiv 2310.12963, section 2 (self-verification). Samples without a decision
    are counted; if no sample has one, the confidence is undefined, not 0.

    Args:
        num_samples: k; the paper's runs use 8 to 32.
        temperature: Sampling temperature, above 0.
        max_tokens: Most tokens of a sample.
    """

    needs_token_probs = False

    def __init__(
        self, num_samples: int = 8, temperature: float = 1.0, max_tokens: int = 250
    ) -> None:
        for name, value, kind in (
            ("num_samples", num_samples, int),
            ("temperature", temperature, (int, float)),
            ("max_tokens", max_tokens, int),
        ):
            if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
                raise AutoMixError(f"verifier.{name} must be a number above 0, got {value!r}")
        self.num_samples = num_samples
        self.temperature = temperature
        self.max_tokens = max_tokens

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters."""
        return {
            "name": "few_shot",
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Draw k samples for each answer that can be verified."""
        outcomes = [
            verification_prompt.unverifiable(q, a) for q, a in zip(questions, answers, strict=True)
        ]
        todo = [i for i, outcome in enumerate(outcomes) if outcome is None]
        prompts = {
            i: verification_prompt.build(questions[i], answers[i], ask, reserve=self.max_tokens)
            for i in todo
        }
        generation = {
            "do_sample": True,
            "temperature": float(self.temperature),
            "max_gen_toks": self.max_tokens,
            "until": [verification_prompt.SEPARATOR],
        }
        results = ask.generate(
            [
                GenerateRequest(prompts[i].text, generation, seed=ask.seed + sample)
                for i in todo
                for sample in range(self.num_samples)
            ]
        )
        verifications = [
            Verification(ask.tier, None, outcome=outcome or "unparsable") for outcome in outcomes
        ]
        for position, i in enumerate(todo):
            drawn = results[position * self.num_samples : (position + 1) * self.num_samples]
            decisions = [parse_decision(generation.text) for generation, _ in drawn]
            parsed = [d for d in decisions if d is not None]
            verifications[i] = Verification(
                ask.tier,
                sum(parsed) / len(parsed) if parsed else None,
                outcome="ok" if parsed else "unparsable",
                calls=tuple(call for _, call in drawn),
                samples=tuple(generation.text for generation, _ in drawn),
                num_unparsable=len(decisions) - len(parsed),
                dropped_demonstrations=prompts[i].dropped_demonstrations,
                cut_context_tokens=prompts[i].cut_context_tokens,
            )
        return verifications
