"""The fixed-answer rule: whole answers, any meta-verifier, all questions counted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.always import AlwaysLLM, AlwaysSLM
from automix_eval.meta_verifiers.baselines.oracle import Oracle
from automix_eval.meta_verifiers.baselines.random import Random
from automix_eval.meta_verifiers.fixed_answer import FixedAnswer
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Observation


def outcomes(answers: list[list[str]], seed: int = 0) -> Outcomes:
    """Questions with these answers, one list a tier; confidences above one half."""
    rng = np.random.default_rng(seed)
    tiers, n = len(answers), len(answers[0])
    confidences = rng.integers(5, 9, (n, tiers)) / 8
    confidences[:, -1] = np.nan
    verification = np.ones((n, tiers))
    verification[:, -1] = 0
    return Outcomes(
        scores=np.sort(rng.random((n, tiers)), axis=1),
        answer_costs=np.tile([1.0, 10.0, 50.0][:tiers], (n, 1)),
        confidences=confidences,
        verification_costs=verification,
        names=tuple(f"tier {t}" for t in range(tiers)),
        ids=tuple(f"q{i}" for i in range(n)),
        questions=tuple(f"question {i}?" for i in range(n)),
        answers=tuple(tuple(column) for column in answers),
    )


def mixed(n: int = 80) -> Outcomes:
    """Two tiers; every fourth answer of the first is "Unanswerable."."""
    first = ["Unanswerable." if i % 4 == 0 else f"answer {i}" for i in range(n)]
    return outcomes([first, ["large"] * n])


@pytest.mark.parametrize("answer", ["unanswerable", "Unanswerable.", " The  UNANSWERABLE ! "])
def test_equal_answers_escalate(answer):
    """Case, punctuation, articles and white space do not count."""
    assert follow(FixedAnswer(AlwaysSLM()), outcomes([[answer], ["x"]])).final.tolist() == [1]


@pytest.mark.parametrize(
    "answer", ["", "a", "un", "answerable", "it is unanswerable", "un answerable"]
)
def test_other_answers_are_left_alone(answer):
    """No part of a fixed answer matches it, nor does an answer that contains it."""
    assert follow(FixedAnswer(AlwaysSLM()), outcomes([[answer], ["x"]])).final.tolist() == [0]


@pytest.mark.parametrize(("to", "expected"), [("next", [1, 2, 0]), ("last", [2, 2, 0])])
def test_leads_to_the_next_tier_or_to_the_last(to, expected):
    """The rule holds at every tier but the last, which keeps."""
    fixed = "unanswerable"
    data = outcomes([[fixed, fixed, "x"], ["x", fixed, fixed], [fixed] * 3])
    assert follow(FixedAnswer(AlwaysSLM(), to=to), data).final.tolist() == expected


def test_the_router_may_go_further_than_the_rule():
    """A question that the meta-verifier sends past the rule's tier goes there."""
    data = outcomes([["unanswerable"], ["x"], ["x"]])
    assert follow(FixedAnswer(AlwaysLLM()), data).final.tolist() == [2]


def test_a_question_the_rule_does_not_know_is_the_routers():
    """Elsewhere the decisions are the meta-verifier's own."""
    data = mixed()
    ruled = np.array([a == "Unanswerable." for a in data.answers[0]])
    plain = Threshold(objective="budget", budget=20.0).fit(data.take(~ruled))
    wrapped = FixedAnswer(Threshold(objective="ibc")).fit(data)
    inner = Threshold(objective="ibc").fit(data.take(~ruled))
    assert wrapped.router_.get_learned() == inner.get_learned()
    assert follow(wrapped, data).final[ruled].tolist() == [1] * int(ruled.sum())
    assert plain.get_learned() != inner.get_learned()


@pytest.mark.parametrize("budget", [18.0, 25.0, 40.0])
def test_a_budget_holds_for_all_questions(budget):
    """What the rule spends is taken from the budget of the rest, and what is left is used."""
    data = mixed(400)
    made = FixedAnswer(Threshold("observed", objective="budget", budget=budget)).fit(data)
    paths = [follow(policy, data) for _, policy in made.sweep()]
    within = [p.score.mean() for p in paths if p.cost.mean() <= budget + 1e-9]
    assert follow(made, data).cost.mean() <= budget + 1e-9
    assert follow(made, data).score.mean() == pytest.approx(max(within))
    assert made.router.budget == budget


def test_a_target_holds_for_all_questions():
    """The share of the last tier's score is reached on all questions, at the least cost."""
    data = mixed(400)
    made = FixedAnswer(Threshold("observed", objective="target", target=0.85)).fit(data)
    least = 0.85 * data.scores[:, 1].mean() - 1e-9
    # of those that verify: one tier alone would save the rule's own verifications too
    verified = [p for _, p in made.sweep() if p.needs_verification]
    paths = [follow(policy, data) for policy in verified]
    assert follow(made, data).score.mean() >= least
    cheapest = min(p.cost.mean() for p in paths if p.score.mean() >= least)
    assert follow(made, data).cost.mean() == pytest.approx(cheapest)


class Keeps(AlwaysSLM):
    """In the place of a router: keeps what it would be fitted on, and what it is asked for."""

    needs_fit = True

    def __init__(self, objective, number, verifies):
        self.objective, self.needs_verification = objective, verifies
        self.budget = self.target = number

    def fit(self, outcomes):
        """Keep it."""
        self.fitted = outcomes.ids
        return self


@pytest.mark.parametrize("verifies", [True, False])
@pytest.mark.parametrize("to", ["next", "last"])
@pytest.mark.parametrize(
    ("objective", "number"), [("budget", 1.0), ("budget", 30.0), ("target", 0.2), ("target", 0.9)]
)
def test_the_router_is_asked_for_what_the_rule_leaves(objective, number, to, verifies):
    """What the questions of the rule cost or score, each on its way, is taken off; 0 at least."""
    rng = np.random.default_rng(3)
    answers = [["unanswerable" if x < 0.4 else "x" for x in rng.random(30)] for _ in range(3)]
    data = outcomes(answers)
    made = FixedAnswer(Keeps(objective, number, verifies), to=to).fit(data)
    spent, reached, left = 0.0, 0.0, []
    for i in range(30):
        way = [0]
        while way[-1] < 2 and answers[way[-1]][i] == "unanswerable":
            way.append(2 if to == "last" else way[-1] + 1)
        if len(way) == 1:
            left.append(i)
        else:
            spent += sum(data.answer_costs[i, t] + (verifies and t < 2) for t in way)
            reached += data.scores[i, way[-1]]
    rest = (30 * number - spent) / len(left)
    if objective == "target":
        rest = (number * data.scores[:, 2].sum() - reached) / data.scores[left, 2].sum()
    assert getattr(made.router_, objective) == pytest.approx(max(rest, 0.0))
    assert getattr(made.router, objective) == number
    assert made.router_.fitted == tuple(f"q{i}" for i in left)


def test_a_target_without_a_score_to_reach_it_asks_for_the_whole():
    """Or for nothing, where nothing is left to reach."""
    data = outcomes([["unanswerable", "x", "x"], ["x"] * 3, ["x"] * 3])
    for scores, expected in (([0.2, 0.9], 1.0), ([0.9, 0.9], 0.0)):
        rows = replace(data, scores=np.array([[0.0, *scores], [0.0] * 3, [0.0] * 3]))
        assert FixedAnswer(Keeps("target", 1.0, True)).fit(rows).router_.target == expected


@pytest.mark.parametrize(
    ("tier", "text", "reason"),
    [
        (-1, "", "starts at tier 0"),
        (0, "Unanswerable.", "fixed answer"),
        (0, "x", "v=0.75"),
        (1, "Unanswerable.", "last tier"),
    ],
)
def test_a_decision_says_whether_the_rule_made_it(tier, text, reason):
    """Before the last tier; elsewhere the router says why."""
    answer = Answer(tier, text, ()) if tier >= 0 else None
    seen = Observation(tier, 2, (0.75,) * (tier + 1), None, answer)
    assert FixedAnswer(SelfConsistency()).decide([seen])[0].reason == reason


def test_a_rule_that_leaves_nothing_says_so():
    """A task with nothing but fixed answers is fitted all the same, with a note."""
    data = outcomes([["unanswerable"] * 6, ["x"] * 6])
    made = FixedAnswer(Threshold()).fit(data)
    assert "leave 0 of 6" in made.notes()[0]
    assert follow(made, data).final.tolist() == [1] * 6


def test_learned_values_survive_json():
    """The rule is stored with the meta-verifier, and another rule's policy is refused."""
    data = mixed()
    made = FixedAnswer(Threshold()).fit(data)
    learned = json.loads(json.dumps(made.get_learned(), allow_nan=False))
    other = FixedAnswer(Threshold())
    other.set_learned(learned)
    assert follow(other, data).final.tolist() == follow(made, data).final.tolist()
    assert other.describe() == made.describe()
    for stranger in (FixedAnswer(Threshold(), ["no"]), FixedAnswer(Threshold(), to="last")):
        with pytest.raises(AutoMixError, match="fixed answers"):
            stranger.set_learned(learned)
    with pytest.raises(AutoMixError, match="without the fixed-answer rule"):
        other.set_learned(learned["router"])


def test_numbers_alone_are_refused():
    """A replay without answers cannot follow the rule, and says what is missing."""
    bare = replace(mixed(), answers=None)
    with pytest.raises(AutoMixError, match="answers"):
        follow(FixedAnswer(SelfConsistency()), bare)
    with pytest.raises(AutoMixError, match="answers"):
        FixedAnswer(Threshold()).fit(bare)


@pytest.mark.parametrize("bad", [[], "unanswerable", [""], ["the"], ["?!"], [3]])
def test_answers_that_match_everything_or_nothing_are_refused(bad):
    """An entry that is empty once normalised would send on every empty answer."""
    with pytest.raises(AutoMixError, match=r"fixed_answer\.answers"):
        FixedAnswer(AlwaysSLM(), bad)


def test_takes_over_what_the_router_needs():
    """Verification, fit and hindsight are the meta-verifier's; texts are always read."""
    assert FixedAnswer(Oracle()).needs_hindsight
    assert not FixedAnswer(Random()).needs_verification
    assert FixedAnswer(Threshold()).needs_fit
    assert FixedAnswer(AlwaysSLM()).needs_texts
    assert FixedAnswer(AlwaysSLM()).only_tier is None
    assert FixedAnswer(AlwaysLLM()).only_tier == -1


@pytest.mark.parametrize("given", [["unanswerable", "no idea"], "unanswerable+no idea"])
def test_the_configuration_wraps_any_meta_verifier(given):
    """One key puts the rule around the chosen meta-verifier, and into its policy."""
    made = config.build(
        {"meta_verifier": "threshold", "fixed_answer.answers": given, "fixed_answer.to": "last"}
    )
    router = parts.make_meta_verifier(made)
    assert isinstance(router, FixedAnswer)
    assert isinstance(router.router, Threshold)
    rule = {"answers": ["unanswerable", "no idea"], "to": "last"}
    assert parts.router_parameters(made)["fixed_answer"] == rule
    plain = config.build({"meta_verifier": "threshold"})
    assert isinstance(parts.make_meta_verifier(plain), Threshold)
    assert "fixed_answer" not in parts.router_parameters(plain)
