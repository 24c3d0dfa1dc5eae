"""Few-shot self-verification by sampling: the paper's verifier."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

from automix_eval.backends.prompts import Fitted
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole
from automix_eval.types import (
    Answer,
    Ask,
    Call,
    GenerateRequest,
    Generation,
    Question,
    Verification,
)
from automix_eval.verifiers import p_true
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

    With ``form=scored`` a sample without a decision is judged too: both verdicts are scored after
    its reasoning, and it counts as P(Correct) / (P(Correct) + P(Incorrect)).

    Args:
        num_samples: k; the paper's runs use 8 to 32.
        temperature: Sampling temperature, above 0.
        max_tokens: Most tokens of a sample; it ends before at its decision.
        stop_early: None draws all samples. Otherwise samples are drawn in rounds (half of them
            first) until the router's decision is settled: 0 stops only where no further sample
            could change it, a number above 0 where one would with at most this probability.
            A meta-verifier is fitted on all samples in any case.
        form: ``paper``, a sample's free text decides or nothing does; or ``scored``, which needs a
            backend that gives probabilities of continuations.
        demonstrations: ``fixed``, the four of :mod:`.prompt`; or ``calibration``, two right and two
            wrong answers of each tier itself, of the questions that the router is fitted on.
    """

    needs_token_probs = False

    def __init__(
        self,
        num_samples: int = 8,
        temperature: float = 1.0,
        max_tokens: int = 250,
        stop_early: float | None = None,
        form: str = "paper",
        demonstrations: str = "fixed",
    ) -> None:
        for name, value, valid in (
            ("num_samples", num_samples, is_whole(num_samples, 1)),
            ("temperature", temperature, is_number(temperature) and temperature > 0),
            ("max_tokens", max_tokens, is_whole(max_tokens, 1)),
        ):
            if not valid:
                raise AutoMixError(f"verifier.{name} must be a number above 0, got {value!r}")
        if stop_early is not None and not (is_number(stop_early, 0.0) and stop_early < 1):
            raise AutoMixError(
                f"verifier.stop_early must be null or an error rate from 0 to 1, got {stop_early!r}"
            )
        if form not in ("paper", "scored"):
            raise AutoMixError(f"verifier.form={form!r} is unknown: choose paper or scored")
        if form == "scored" and stop_early is not None:
            raise AutoMixError(
                "verifier.stop_early counts decisions as they are drawn, and with "
                "verifier.form=scored the others are judged at the end: leave one of them out"
            )
        if demonstrations not in ("fixed", "calibration"):
            raise AutoMixError(
                f"verifier.demonstrations={demonstrations!r} is unknown: fixed or calibration"
            )
        self.demonstrations = demonstrations
        self.examples: Sequence[Sequence[verification_prompt.Example]] = ()
        self.form = form
        self.num_samples = num_samples
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.stop_early = stop_early

    @property
    def needs_scores(self) -> bool:
        """Whether it reads probabilities of given verdicts."""
        return self.form == "scored"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters; stopping at error rate 0 changes no decision."""
        identity: dict[str, Any] = {
            "name": "few_shot",
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        identity |= {"stop_early": self.stop_early} if self.stop_early else {}
        identity |= {"form": self.form} if self.form != "paper" else {}
        return identity | ({"demonstrations": "calibration"} if self.needs_examples else {})

    @property
    def needs_examples(self) -> bool:
        """Whether its demonstrations are chosen with the policy."""
        return self.demonstrations == "calibration"

    def with_examples(self, examples: Sequence[Sequence[verification_prompt.Example]]) -> FewShot:
        """The same verifier with these demonstrations of each tier."""
        made = copy(self)
        made.examples = examples
        return made

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Draw up to k samples for each answer that can be verified."""
        outcomes = [
            verification_prompt.unverifiable(q, a) for q, a in zip(questions, answers, strict=True)
        ]
        todo = [i for i, outcome in enumerate(outcomes) if outcome is None]
        prompts = {
            i: verification_prompt.build(
                questions[i], answers[i], ask, self.max_tokens, examples=self._shown(ask)
            )
            for i in todo
        }
        drawn = self._draw(prompts, ask)
        scored = self._score(questions, answers, drawn, ask) if self.form == "scored" else {}
        verifications = [
            Verification(ask.tier, None, outcome=outcome or "unparsable") for outcome in outcomes
        ]
        for i, fitted in prompts.items():
            extra = [scored.get((i, sample)) for sample in range(len(drawn[i]))]
            verifications[i] = self._judge(fitted, drawn[i], extra, ask.tier)
        if saved := sum(v.saved_samples for v in verifications):
            log.info("stop_early: %d of %d samples saved", saved, len(todo) * self.num_samples)
        return verifications

    def _shown(self, ask: Ask) -> Sequence[verification_prompt.Example]:
        if not self.needs_examples:
            return verification_prompt.EXAMPLES
        if not self.examples:
            raise AutoMixError(
                "verifier.demonstrations=calibration, and none were chosen: a run takes them from "
                "its calibration or policy; with_examples gives them"
            )
        return self.examples[ask.tier]

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

    def _score(
        self,
        questions: Sequence[Question],
        answers: Sequence[Answer],
        drawn: Mapping[int, Sequence[tuple[Generation, Call]]],
        ask: Ask,
    ) -> dict[tuple[int, int], tuple[float | None, Call]]:
        """P(Correct) after each sample without a decision, by number of answer and sample."""
        undecided = [
            (i, sample, generation.text)
            for i, own in drawn.items()
            for sample, (generation, _) in enumerate(own)
            if parse_decision(generation.text) is None
        ]
        prompts = [
            verification_prompt.build(
                questions[i],
                answers[i],
                ask,
                p_true.RESERVE,
                True,
                _reasoning(text),
                self._shown(ask),
            ).text
            for i, _, text in undecided
        ]
        found = p_true.score(prompts, ask)
        return {(i, sample): value for (i, sample, _), value in zip(undecided, found, strict=True)}

    def _judge(
        self,
        fitted: Fitted,
        drawn: Sequence[tuple[Generation, Call]],
        scored: Sequence[tuple[float | None, Call] | None],
        tier: int,
    ) -> Verification:
        texts = tuple(until_decision(generation.text) for generation, _ in drawn)
        shares = [
            extra[0] if extra else parse_decision(text)
            for text, extra in zip(texts, scored, strict=True)
        ]
        judged = [float(share) for share in shares if share is not None]
        return Verification(
            tier,
            sum(judged) / len(judged) if judged else None,
            outcome="ok" if judged else "unparsable",
            calls=(*(call for _, call in drawn), *(extra[1] for extra in scored if extra)),
            samples=texts,
            num_unparsable=len(shares) - len(judged),
            dropped_demonstrations=fitted.dropped_demonstrations,
            cut_context_tokens=fitted.cut_context_tokens,
            saved_samples=self.num_samples - len(drawn),
        )


def _reasoning(sample: str) -> str:
    """What a sample without a decision says before it begins one."""
    return re.split(r"verification decision", sample, maxsplit=1, flags=re.IGNORECASE)[0].strip()
