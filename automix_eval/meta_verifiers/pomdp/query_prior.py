"""The POMDP with a prior from the question: k-NN on embeddings before the first tier.

Source: cascade routing (arXiv 2410.10347), which joins estimates from before an answer with those
from after it. The nearest questions' scores give an estimate of what the last tier gains over the
first. It is one more coordinate of the hidden type, shown by a step before the first tier that
costs nothing and answers nothing. So the belief with which the first tier is chosen is
P(type | estimate), in the same joint density as the confidences, and a question that looks hard may
start at a later tier; how much the estimate tells of each tier's score beside the confidences is
learned by the same regression.

Three families are offered to the objective: these policies, those of the POMDP without a prior, and
those of ``knn_query``, which judges no answer. What each is worth is estimated without the question
itself: the POMDP's as the model expects it, k-NN's by the other questions. Of all of them those
stay to which no other is better at the same cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import Router, Walk, require_fitted
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery
from automix_eval.meta_verifiers.objectives import Ends, Selection
from automix_eval.meta_verifiers.pomdp import describe as pomdp_text
from automix_eval.meta_verifiers.pomdp.chain_pomdp import STORED_ALONE, ChainPomdp, select_safely
from automix_eval.meta_verifiers.pomdp.policy import Rule
from automix_eval.meta_verifiers.pomdp.problem import Problem
from automix_eval.meta_verifiers.pomdp.solve import Node, Solver, Subset
from automix_eval.meta_verifiers.rules.chain_search import front
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation

KINDS = ("question", "answers", "knn")


class _Solver(Solver):
    """The POMDP whose first step shows the estimate and has no answer to keep."""

    def _performance(self, subset: Subset) -> Node:
        node = super()._performance(subset)
        return replace(node, keep=None) if subset == (0,) else node


class _WithQuestion(ChainPomdp):
    """The POMDP of a chain with that step before its first tier."""

    first = 1

    def _asked(self, rows: Outcomes) -> tuple[int, ...]:
        chain = rows.select_tiers(range(1, rows.num_tiers))
        return (0, *(1 + t for t in super()._asked(chain)))

    def _solver(self, problem: Problem) -> Solver:
        return _Solver(problem, None, self.undefined)


@dataclass(frozen=True, slots=True, eq=False)
class _Policy:
    """A policy of the family and what it is expected to be worth."""

    kind: str
    router: Any
    score: float
    cost: float
    escalation: float


class PomdpWithPrior(ChainPomdp):
    """The POMDP, started from what the nearest questions say; see the module's docstring.

    Attributes:
        knn_: The fitted :class:`.knn_query.KnnQuery`; None before fitting.
        span_: Width of the scores' range on the fitting questions.
        policy_: The chosen policy.
    """

    prior: str | Mapping[str, Any]

    needs_texts = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward is not None or self.lambda_ is not None or self.solver != "exact":
            raise AutoMixError(
                "meta_verifier.prior=knn chooses among policies for Perf - lambda * cost: leave "
                "meta_verifier.reward and lambda_ null, and solver exact"
            )
        if self.abstain_price is not None:
            raise AutoMixError(
                "meta_verifier.prior=knn does not abstain: leave abstain_price or prior null"
            )
        self._make_knn()
        self.knn_: KnnQuery | None = None
        self.span_ = 1.0
        self.policy_: _Policy | None = None
        self._every: list[_Policy] | None = None
        self._solvers: dict[str, Solver | None] = {}

    def _make_knn(self) -> KnnQuery:
        try:
            return KnnQuery(**({} if isinstance(self.prior, str) else dict(self.prior)))
        except TypeError as err:
            raise AutoMixError(
                f"meta_verifier.prior={self.prior!r} must have settings of knn_query ({err})"
            ) from err

    def _plain(self, kind: type[ChainPomdp]) -> ChainPomdp:
        names = (f.name for f in fields(ChainPomdp))
        return kind(**{name: getattr(self, name) for name in names} | _OF_ITS_OWN)

    def _fit(self, outcomes: Outcomes) -> PomdpWithPrior:
        """Fit the three families, and choose one policy.

        Raises:
            AutoMixError: Fewer than two questions or tiers, or no texts.
        """
        knn = self._make_knn()
        rows = common.thin(outcomes, knn.max_fit_rows)
        knn._fit(rows)
        self.span_ = float(np.ptp(rows.scores)) or 1.0
        shown = _with_question(rows, self._signal(knn.held_))
        question = self._plain(_WithQuestion)._fit(shown)
        answers = self._plain(ChainPomdp)._fit(rows)
        every = [
            _Policy("knn", policy, *point)
            for (_, policy), point in zip(knn.sweep(), knn.points_.T.tolist(), strict=True)
        ]
        for kind, router in (("question", question), ("answers", answers)):
            for _, policy in router.sweep():
                rule: Rule = policy.rule_
                if kind == "question" and rule.is_single:
                    continue  # those of the chain are among the answers'
                every.append(_Policy(kind, policy, rule.score, rule.cost, rule.escalation))
        table = np.array([(p.score, p.cost, p.escalation) for p in every])
        best, value, note = _chosen(table, Ends.of(rows), self, len(rows))
        kept = np.union1d(front(*table.T), [best])
        order = kept[np.lexsort((table[kept, 0], table[kept, 1]))].tolist()
        self.knn_, self._every = knn, [every[i] for i in order]
        chosen = every[best]
        self._solvers = {"question": question._solved, "answers": answers._solved}
        self._explain(chosen, value)
        return self._keep(chosen, "; ".join(filter(None, [note, *answers.notes()])))

    def choose(self, seen: Seen) -> IntArray:
        """What the policy does; at the first step it looks at the nearest questions."""
        policy: _Policy = require_fitted(self.policy_, "pomdp")
        if policy.kind != "question":
            return np.asarray(policy.router.choose(seen))
        if seen.tier == seen.num_tiers - 1:
            return np.full(len(seen), seen.tier)
        assert self.knn_ is not None
        knn = self.knn_
        number, none = seen.num_tiers + 1, np.empty((len(seen), 0))
        begun = replace(seen, tier=-1, num_tiers=number, confidences=none, signals={}, costs=none)
        to = policy.router.choose(begun)
        looks = to == 0
        if not looks.any() and seen.tier < 0:
            return np.asarray(to - 1)
        signal = np.where(looks, self._signal(knn.expect(seen)), np.nan)[:, None]
        costs = None
        if seen.costs is not None:
            costs = np.concatenate([np.where(looks, 0.0, np.nan)[:, None], seen.costs], axis=1)
        shown = replace(
            seen,
            tier=seen.tier + 1,
            num_tiers=number,
            confidences=np.concatenate([signal, seen.confidences], axis=1),
            signals={},
            costs=costs,
        )
        if seen.tier < 0:
            here = np.flatnonzero(looks)
            to[here] = policy.router.choose(
                replace(
                    shown,
                    confidences=signal[here],
                    ids=None if seen.ids is None else tuple(seen.ids[i] for i in here.tolist()),
                    costs=np.zeros((len(here), 1)),
                )
            )
            return np.asarray(to - 1)
        return np.asarray(policy.router.choose(shown) - 1)

    def walk(self, outcomes: Outcomes, known: dict[Any, Any]) -> Walk | None:
        """None: the nearest questions are looked up for those who ask."""
        return Router.walk(self, outcomes, known)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """(expected mean cost, policy), cheap to dear: those to which none is better."""
        require_fitted(self.policy_, "pomdp")
        if self._every is None:
            raise AutoMixError(STORED_ALONE)
        return [(policy.cost, copy(self)._keep(policy, "")) for policy in self._every]

    def get_learned(self) -> dict[str, Any]:
        """The nearest questions, and the policy."""
        policy: _Policy = require_fitted(self.policy_, "pomdp")
        assert self.knn_ is not None
        knn = policy.router if policy.kind == "knn" else self.knn_
        rule = None if policy.kind == "knn" else policy.router.get_learned()
        held = {name: getattr(policy, name) for name in ("kind", "score", "cost", "escalation")}
        return {
            "knn": knn.get_learned(), "span": self.span_, "pomdp": rule, "note": self.note_, **held
        }  # fmt: skip

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the nearest questions and the policy."""
        with common.reading("pomdp, prior=knn"):
            common.exactly(
                learned, "knn", "span", "pomdp", "note", "kind", "score", "cost", "escalation"
            )
            if learned["kind"] not in KINDS:
                raise ValueError(f"kind={learned['kind']!r:.40}")
            numbers = [common.number(learned[k]) for k in ("score", "cost", "escalation")]
            span, note = common.number(learned["span"], 0.0), common.text(learned["note"])
            knn = self._make_knn()
            knn.set_learned(learned["knn"])
            router: Any = knn
            if learned["kind"] != "knn":
                router = self._plain(_WithQuestion if learned["kind"] == "question" else ChainPomdp)
                router.set_learned(learned["pomdp"])
        self.knn_, self.span_, self._every = knn, span, None
        self._keep(_Policy(learned["kind"], router, *numbers), note)

    def describe(self) -> str:
        """The policy, and what it looks at before the first tier."""
        policy: _Policy = require_fitted(self.policy_, "pomdp")
        said = {
            "knn": "The nearest questions decide alone.",
            "answers": "The nearest questions are not looked at.",
            "question": "Tier 0 of this table is the question: its confidence is what the last "
            "tier gains over the first on the nearest questions, 0.5 for nothing. Tier 1 is the "
            "first of the chain.",
        }[policy.kind]
        return "\n".join(filter(None, [said, policy.router.describe(), self.note_]))

    def _take(self, chosen: Any, value: float, note: str) -> None:
        policy = chosen.policy_
        self._explain(policy, value)
        self._keep(policy, note)

    def _explain(self, policy: _Policy, value: float | None) -> None:
        """What a policy of the POMDP stores beside its actions."""
        solved = self._solvers.get(policy.kind)
        if solved is not None:
            rule = policy.router.rule_
            summary = pomdp_text.summarise(solved, rule)
            policy.router._hold(replace(rule, objective=value, summary=summary))

    def _keep(self, policy: _Policy, note: str) -> PomdpWithPrior:
        self.policy_, self.note_ = policy, note
        self.needs_verification = policy.router.needs_verification
        return self

    def _signal(self, expected: FloatArray) -> FloatArray:
        """(n,) in [0, 1]: what the last tier is expected to gain over the first; 0.5 nothing."""
        gain = (expected[0][:, -1] - expected[0][:, 0]) / self.span_
        return np.asarray(np.clip(0.5 + 0.5 * gain, 0.0, 1.0))

    def _reason(self, observation: Observation, to: int) -> str:
        if observation.tier < 0 and self.policy_ is not None and self.policy_.kind != "answers":
            return f"questions like it start at tier {to}"
        return Router._reason(self, observation, to)


# What the families within have: an objective of which only the sweep is used.
_OF_ITS_OWN: dict[str, Any] = {
    "objective": "gain", "budget": None, "target": None, "error_price": None,
}  # fmt: skip


def _with_question(rows: Outcomes, signal: FloatArray) -> Outcomes:
    """The chain with the step before it, which costs nothing and scores as badly as any."""

    def widened(table: FloatArray, first: FloatArray | float) -> FloatArray:
        return np.column_stack([np.broadcast_to(first, len(rows)), table])

    return Outcomes(
        widened(rows.scores, float(rows.scores.min())),
        widened(rows.answer_costs, 0.0),
        widened(rows.confidences, signal),
        widened(rows.verification_costs, 0.0),
        ("the question", *rows.names),
        rows.ids,
        documents=rows.documents,
    )


def _chosen(
    table: FloatArray, ends: Ends, asked: Selection, number: int
) -> tuple[int, float | None, str]:
    found = select_safely(table, ends, asked, number)
    # no index: the objective exists for no policy, and the cheapest is taken
    index = int(table[:, 1].argmin()) if found.index is None else found.index
    return index, found.value, found.note
