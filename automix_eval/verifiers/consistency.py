"""Agreement of the answer with further answers to the same prompt, of the same or another model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from automix_eval.backends.embeddings import embed
from automix_eval.backends.encoder import DEFAULT, why_not
from automix_eval.metrics.answers import exact_match, token_f1
from automix_eval.metrics.choice_values import choice_confidence, compared_values
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole
from automix_eval.types import Answer, Ask, Backend, Call, Generation, Question, Verification

# Answers with at least this token F1 are taken to say the same.
_SAME = 0.5
# Tokens of an answer that the encoder reads.
_READ = 128

_SHARES = {"f1": token_f1, "exact": exact_match}
AGREEMENTS = (*_SHARES, "embedding")


class Consistency:
    """v = mean agreement of the answer with k answers sampled from the same prompt.

    It reads nothing but texts, so it works behind any chat API; the k samples share one prompt.
    With a ``second`` model, which does not share the mistakes of the first, its answer is one more
    to agree with, or with k = 0 the only one.

    Answers are grouped where they say the same, as do those that a chain of alike answers joins:
    a token F1 of at least .5, or with ``agreement=embedding`` a cosine of the sentence encoder's
    embeddings of at least ``similarity``. Signals beside the agreement are ``f1`` and ``exact``,
    the mean token F1 of the samples among themselves, the entropy of the groups of the answer and
    all further answers (n in all) as a share of log n, and the agreement with the second. By
    embedding v = 1 - that entropy. An empty further answer agrees with no answer and is counted as
    undecided; the confidence is undefined where all are empty.

    The choice of a multiple-choice question is no sampled text: there the agreement is the one to
    be expected of choices drawn by their probabilities, that of the choice taken, without a call.

    Sources: self-consistency, arXiv 2203.11171; agreement as deferral, arXiv 2407.02348; semantic
    entropy, arXiv 2302.09664 (there the groups are those of an entailment model).

    Args:
        num_samples: k, at least 2, since one more answer can only agree or not; with a second
            model 0 or more.
        temperature: Sampling temperature, above 0.
        agreement: ``f1`` (token F1), ``exact`` (normalised texts are equal) or ``embedding``.
        similarity: Of embeddings that say the same, in [-1, 1]. By .5 two different wordings of an
            answer are told best from answers to other questions of the same story (references of
            CoQA and NarrativeQA, all-minilm-l6-v2: .78 of them and .06 of the others are as near).
        encoder: Of the embeddings: a packaged encoder, or a name or folder that transformers loads.
        second: Another model, which answers each question once; or the number of a tier: tiers
            after it compare with what it has answered, at no price, and others with samples alone.
    """

    needs_token_probs = False

    def __init__(
        self,
        num_samples: int = 4,
        temperature: float = 1.0,
        agreement: str = "f1",
        similarity: float = 0.5,
        encoder: str = DEFAULT,
        second: Backend | int | None = None,
    ) -> None:
        least = 2 if second is None or isinstance(second, int) else 0
        if not is_whole(num_samples, least):
            raise AutoMixError(
                f"verifier.num_samples={num_samples!r} must be an integer of at least {least}: "
                "agreement with a single further answer is no share (with verifier.second 0 asks "
                "that model alone)"
            )
        if not is_number(temperature) or temperature <= 0:
            raise AutoMixError(f"verifier.temperature={temperature!r} must be a number above 0")
        if agreement not in AGREEMENTS:
            raise AutoMixError(
                f"verifier.agreement={agreement!r} is unknown: choose one of "
                f"{', '.join(AGREEMENTS)}"
            )
        if not is_number(similarity, -1.0, 1.0):
            raise AutoMixError(f"verifier.similarity={similarity!r} must be a number in [-1, 1]")
        if agreement == "embedding" and (why := why_not(encoder)):
            raise AutoMixError(f"verifier.agreement=embedding: {why}")
        self.num_samples = num_samples
        self.temperature = temperature
        self.agreement = agreement
        self.similarity = similarity
        self.encoder = encoder
        self.second = second

    @property
    def models(self) -> list[Backend]:
        """Models that are asked beside the tier's own."""
        return [] if self.second is None or isinstance(self.second, int) else [self.second]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hyper-parameters; those without effect are left out."""
        names = ["num_samples", "temperature", "agreement"]
        names += ["similarity", "encoder"] if self.agreement == "embedding" else []
        identity = {"name": "consistency", **{name: getattr(self, name) for name in names}}
        label = getattr(self.second, "label", self.second)
        return identity | ({} if label is None else {"second": label})

    def signal_names(self, choices: bool) -> list[str]:
        """All there can be, of an answer that is a choice or a text."""
        names = ["exact"] if choices else [*_SHARES, "entropy"]
        names += ["among_samples"] if self.num_samples > 1 and not choices else []
        return names + ([] if self.second is None else ["second_exact" if choices else "second_f1"])

    def verify(
        self, questions: Sequence[Question], answers: Sequence[Answer], ask: Ask
    ) -> list[Verification]:
        """Draw k further answers to each question whose answer says something; ask the second."""
        spoken = [i for i, a in enumerate(answers) if a.text.strip()]
        todo = [i for i in spoken if not answers[i].choice_logprobs and self.num_samples]
        asked = [questions[i] for i in todo]
        drawn = ask.answer_again(asked, self.num_samples, self.temperature) if todo else []
        samples = dict(zip(todo, drawn, strict=True))
        others = self._ask_second([questions[i] for i in spoken], ask)
        second = dict(zip(spoken, others, strict=True))
        found = []
        for i, answer in enumerate(answers):
            if not answer.text.strip():
                found.append(Verification(ask.tier, None, outcome="empty_answer"))
            elif answer.choice_logprobs:
                found.append(self._of_choices(questions[i], answer, second.get(i), ask.tier))
            else:
                found.append(self._compare(answer, samples.get(i, ()), second.get(i), ask.tier))
        return found

    def _ask_second(self, questions: Sequence[Question], ask: Ask) -> Sequence[Answer | None]:
        """The second model's answers; None where it is a tier that was not asked before."""
        if self.second is None or not questions:
            return [None] * len(questions)
        if not isinstance(self.second, int):
            return ask.answer_by(self.second, questions)
        tier = self.second
        made = [ask.earlier(q, tier) if tier < ask.tier else None for q in questions]
        return [a and replace(a, calls=()) for a in made]  # paid as that tier's answers

    def _compare(
        self,
        answer: Answer,
        drawn: Sequence[tuple[Generation, Call]],
        second: Answer | None,
        tier: int,
    ) -> Verification:
        own = [generation.text.strip() for generation, _ in drawn]
        other = [] if second is None else [second.text.strip()]
        texts = [*own, *other]
        signals: dict[str, float] = {}
        confidence = None
        if any(texts):
            for name, agree in _SHARES.items():
                # an empty further answer has no text to agree
                signals[name] = fmean(agree(t, [answer.text]) if t else 0.0 for t in texts)
            if len(own) > 1:
                pairs = [token_f1(a, [b]) if a and b else 0.0 for a, b in combinations(own, 2)]
                signals["among_samples"] = fmean(pairs)
            signals["entropy"] = _entropy(self._alike([answer.text.strip(), *texts]))
            if other:
                signals["second_f1"] = token_f1(other[0], [answer.text]) if other[0] else 0.0
            confidence = signals.get(self.agreement, 1 - signals["entropy"])
        return Verification(
            tier,
            confidence,
            outcome="ok" if any(texts) else "unparsable",
            calls=(*(call for _, call in drawn), *(() if second is None else second.calls)),
            samples=tuple(texts),
            num_unparsable=texts.count(""),
            signals=signals,
        )

    def _of_choices(
        self, question: Question, answer: Answer, second: Answer | None, tier: int
    ) -> Verification:
        logprobs = [p for p, _ in answer.choice_logprobs]
        values = compared_values(question.metric, logprobs, question.choice_texts)
        share = choice_confidence(values, "probability")
        if second is None:
            return Verification(tier, share, signals={"exact": share})
        same = float(second.text == answer.text)
        share = (self.num_samples * share + same) / (self.num_samples + 1)
        signals = {"exact": share, "second_exact": same}
        return Verification(tier, share, "ok", second.calls, (second.text,), signals=signals)

    def _alike(self, texts: Sequence[str]) -> Any:
        """(n, n) which texts say the same; an empty one says the same as another such only."""
        said = np.array(texts)
        blank = said == ""
        if self.agreement == "embedding":
            # in the place of silence anything: an encoder may have no token for it
            shown = [text or "-" for text in texts]
            vectors = embed(self.encoder, shown, _READ).astype(np.float32)
            # half precision: a text's cosine with itself need not be 1
            alike = (vectors @ vectors.T >= self.similarity) | (said[:, None] == said)
        else:
            alike = np.array([[token_f1(a, [b]) >= _SAME for b in texts] for a in texts])
        return np.where(blank[:, None] | blank, blank[:, None] & blank, alike)


def _entropy(alike: Any) -> float:
    """Entropy of the groups of n texts, as a share of that of n different ones.

    Args:
        alike: (n, n) which say the same, n at least 2.
    """
    from scipy.sparse.csgraph import connected_components

    shares = np.bincount(connected_components(alike, directed=False)[1]) / len(alike)
    value = -math.fsum(shares * np.log(shares)) / math.log(len(alike))
    return min(max(value, 0.0), 1.0)
