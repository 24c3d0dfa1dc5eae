"""Few-shot self-verification by sampling: the paper's verifier."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from automix_eval.backends.prompts import Fitted
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import (
    Answer,
    Ask,
    Call,
    GenerateRequest,
    Generation,
    Question,
    Verification,
)
from automix_eval.verifiers import prompt as verification_prompt
from automix_eval.verifiers.early_stopping import rounds, settled

log = logging.getLogger(__name__)

#: The sentence a sample ends with; the character after the verdict tells it from "correctly".
_END = rf"{verification_prompt.DECISION}\s*:?\s*\**(?:correct|incorrect)\W"
_DECISION = re.compile(r"the ai generated answer is\s*:?\s*\**(correct|incorrect)\b", re.IGNORECASE)


def until_decision(sample: str) -> str:
    """A sample up to its verification decision; what comes after is no part of the judgement."""
    found = re.search(_END, sample, re.IGNORECASE)
    return sample[: found.end()] if found else sample


def parse_decision(sample: str) -> bool | None:
    """Whether a sample judges the answer correct; None if it takes no decision.

    The first "Verification Decision" ends a sample. Before it, or without one, the last verdict
    counts: a sample may quote one before it reasons. The reference counts a sample that says both
    as correct.
    """
    found = _DECISION.findall(until_decision(sample))
    return None if not found else found[-1].lower() == "correct"


class FewShot:
    """v = (# samples judging "Correct") / (# samples with a decision), k samples at temperature 1.

    Source: AutoMix, arXiv 2310.12963, section 2 (self-verification). Samples without a decision
    are counted; if no sample has one, the confidence is undefined, not 0.

    Args:
        num_samples: k; the paper's runs use 8 to 32.
        temperature: Sampling temperature, above 0.
        max_tokens: Most tokens of a sample; it ends before at its decision.
        stop_early: None draws all samples. Otherwise samples are drawn in rounds (half of them
            first) until the router's decision is settled: 0 stops only where no further sample
            could change it, a number above 0 where one would with at most this probability.
            A meta-verifier is fitted on all samples in any case.
    """

    needs_token_probs = False

    def __init__(
        self,
        num_samples: int = 8,
        temperature: float = 1.0,
        max_tokens: int = 250,
        stop_early: float | None = None,
    ) -> None:
        for name, value, kind in (
            ("num_samples", num_samples, int),
            ("temperature", temperature, (int, float)),
            ("max_tokens", max_tokens, int),
        ):
            if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
                raise AutoMixError(f"verifier.{name} must be a number above 0, got {value!r}")
        if stop_early is not None and (
            isinstance(stop_early, bool)
            or not isinstance(stop_early, (int, float))
            or not 0 <= stop_early < 1
        ):
            raise AutoMixError(
                f"verifier.stop_early must be null or an error rate from 0 to 1, got {stop_early!r}"
            )
        self.num_samples = num_samples
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.stop_early = stop_early

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters; stopping at error rate 0 changes no decision."""
        identity: dict[str, Any] = {
            "name": "few_shot",
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        return identity | ({"stop_early": self.stop_early} if self.stop_early else {})

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Draw up to k samples for each answer that can be verified."""
        outcomes = [
            verification_prompt.unverifiable(q, a) for q, a in zip(questions, answers, strict=True)
        ]
        todo = [i for i, outcome in enumerate(outcomes) if outcome is None]
        prompts = {
            i: verification_prompt.build(questions[i], answers[i], ask, reserve=self.max_tokens)
            for i in todo
        }
        drawn = self._draw(prompts, ask)
        verifications = [
            Verification(ask.tier, None, outcome=outcome or "unparsable") for outcome in outcomes
        ]
        for i, fitted in prompts.items():
            verifications[i] = self._judge(fitted, drawn[i], ask.tier)
        if saved := sum(v.saved_samples for v in verifications):
            log.info("stop_early: %d of %d samples saved", saved, len(todo) * self.num_samples)
        return verifications

    def _draw(
        self, prompts: Mapping[int, Fitted], ask: Ask
    ) -> dict[int, list[tuple[Generation, Call]]]:
        """Samples by answer, in rounds where the router's decision may be settled early."""
        generation = {
            "do_sample": True,
            "temperature": float(self.temperature),
            "max_gen_toks": self.max_tokens,
            "until": [verification_prompt.SEPARATOR],
        }
        drawn: dict[int, list[tuple[Generation, Call]]] = {i: [] for i in prompts}
        decide = ask.decide if self.stop_early is not None else None
        going = list(prompts)
        for batch in [range(self.num_samples)] if decide is None else rounds(self.num_samples):
            wanted = [(i, sample) for i in going for sample in batch]
            results = ask.generate(
                [
                    GenerateRequest(
                        prompts[i].text, generation, seed=ask.seed + sample, stop_after=_END
                    )
                    for i, sample in wanted
                ]
            )
            for (i, _), result in zip(wanted, results, strict=True):
                drawn[i].append(result)
            if decide is not None:
                going = [i for i in going if not self._settled(drawn[i], decide, i)]
        return drawn

    def _settled(
        self,
        drawn: Sequence[tuple[Generation, Call]],
        decide: Callable[[int, float], int],
        index: int,
    ) -> bool:
        assert self.stop_early is not None
        decisions = [parse_decision(generation.text) for generation, _ in drawn]
        return settled(
            cache(lambda confidence: decide(index, confidence)),
            decisions.count(True),
            len(decisions) - decisions.count(None),
            self.num_samples - len(drawn),
            self.stop_early,
        )

    def _judge(
        self, fitted: Fitted, drawn: Sequence[tuple[Generation, Call]], tier: int
    ) -> Verification:
        texts = tuple(until_decision(generation.text) for generation, _ in drawn)
        decisions = [parse_decision(text) for text in texts]
        parsed = [d for d in decisions if d is not None]
        return Verification(
            tier,
            sum(parsed) / len(parsed) if parsed else None,
            outcome="ok" if parsed else "unparsable",
            calls=tuple(call for _, call in drawn),
            samples=texts,
            num_unparsable=len(decisions) - len(parsed),
            dropped_demonstrations=fitted.dropped_demonstrations,
            cut_context_tokens=fitted.cut_context_tokens,
            saved_samples=self.num_samples - len(drawn),
        )
