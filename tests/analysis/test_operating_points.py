"""Operating points: what is fitted apart from what is scored, what is shown, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from automix_eval.analysis.beside_llm import six_columns
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.operating_points import (
    PointColumns,
    PolicyChoice,
    RoutedPoint,
    chosen_policies,
    routed,
)
from automix_eval.analysis.point_figures import OperatingPoint
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.references import References, ScoredQuestions
from automix_eval.analysis.routed_paths import ChainRouting
from automix_eval.analysis.slices import by_slice
from automix_eval.analysis.verdict import verdict_of
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.doc_fields import FieldValues
from automix_eval.records.outcomes import Outcomes

pytestmark = pytest.mark.all_folds
OBSERVED = partial(Threshold, candidates="observed")


def world(n: int, seed: int = 0, useful: bool = True, slm: float = 0.5, group: int = 1) -> Outcomes:
    """Questions of which the SLM's confidence tells whether it is right, or tells nothing."""
    rng = np.random.default_rng(seed)
    right, confidence = rng.random(n) < slm, rng.random(n)
    if useful:
        confidence = 0.5 * confidence + 0.5 * right
    scores = np.stack([right, right | (rng.random(n) < 0.8)], axis=1).astype(float)
    return Outcomes(
        scores,
        np.tile([1.0, 50.0], (n, 1)),
        np.stack([confidence, np.full(n, np.nan)], axis=1),
        np.zeros((n, 2)),
        ("s", "l"),
        tuple(f"q{i}" for i in range(n)),
        documents=tuple(f"d{i // group}" for i in range(n)),
    )


def scored_points(
    scored: ScoredQuestions, routings: list[RoutedPoint], resamples: int
) -> tuple[OperatingPoint, ...]:
    """The figures of points in a bootstrap of their own."""
    references = References.of_questions(scored, resamples, 0)
    return PointColumns.of(scored, routings, references).figures()


def points(
    test: Outcomes, fitting: Outcomes | None, live: Threshold | None = None
) -> dict[str, OperatingPoint]:
    """The operating points of a threshold, by name."""
    scored = ScoredQuestions.of(test)
    chosen = chosen_policies(OBSERVED, fitting, test)
    first = [PolicyChoice("live", live)] if live else []
    routings = [routed(choice, test, scored) for choice in [*first, *chosen]]
    return {p.name: p for p in scored_points(scored, routings, 200)}


def test_a_useful_verifier_pays_and_the_points_say_so() -> None:
    """With a confidence that tells right from wrong, a share is kept for less, and it is shown."""
    found = points(world(400, 1), world(400))
    assert list(found) == ["slm", "gain", "keeps_95", "keeps_99", "llm"]
    assert found["gain"].shown
    assert found["keeps_95"].shown
    saved = [found[n].saved.value for n in ("slm", "keeps_95", "keeps_99", "llm")]
    assert saved == sorted(saved, reverse=True)
    assert saved[-1] == 0
    verdict = verdict_of(list(found.values()), 400, 400)
    assert verdict.kind == "pays"
    assert "95% of the LLM's quality is kept" in verdict.words


def test_what_is_not_shown_says_why() -> None:
    """Few fitting questions show nothing: the LLM is asked always, and a number would do."""
    found = points(world(60, 1, useful=False), world(25, useful=False))
    for name in ("keeps_95", "keeps_99"):
        assert found[name].shown is False
        assert found[name].same_as == "llm"
        assert "25 fitting questions show it of no policy cheaper" in found[name].why


@pytest.mark.parametrize("useful", [True, False])
def test_in_folds_no_policy_saw_what_it_decides(useful: bool) -> None:
    """Where nothing is apart, each document is decided by policies of the other folds."""
    test = world(200, useful=useful, group=4)
    for choice in chosen_policies(Threshold, None, test):
        assert isinstance(choice.policy, CrossFitted)
        for policy in choice.policy.ways:
            folds = policy.fold_of_
            names = zip(test.documents or (), (folds[i] for i in test.ids), strict=True)
            assert len(set(names)) == 50
    assert points(test, None)["gain"].shown is useful


def test_the_gain_is_that_of_policies_that_miss_one_fold_more() -> None:
    """Four policies a question, of which none saw its fold; the error is that of both draws."""
    test = world(60, useful=False)
    gain = chosen_policies(Threshold, None, test)[0]
    ways = gain.policy.ways
    assert len(ways) == 4
    assert "mean of 4 policies a question" in gain.words
    fold = np.array([gain.policy.fold_of_[name] for name in test.ids])
    for i, way in enumerate(ways):
        for own, policy in enumerate(way.policies_):
            rest = test.take((fold != own) & (fold != (own + i + 1) % 5))
            assert policy.get_learned() == Threshold().fit(rest).get_learned()
    paths = [follow(w, test) for w in ways]
    scored = ScoredQuestions.of(test)
    found = scored_points(scored, [routed(gain, test, scored)], 2000)[1]
    assert found.quality.value == pytest.approx(np.mean([p.score for p in paths]))
    assert found.cost.value == pytest.approx(np.mean([p.cost for p in paths]))
    assert found.escalation_rate.value == pytest.approx(np.mean([p.final > 0 for p in paths]))
    # which of the policies a question has is drawn too: more than the error of the questions
    of_questions = np.mean([p.cost for p in paths], axis=0).std() / np.sqrt(len(test))
    of_policies = np.std([p.cost.mean() for p in paths]) / np.sqrt(len(ways))
    assert of_policies > 0.3 * of_questions
    assert found.cost.stderr is not None
    assert found.cost.stderr > np.hypot(of_questions, of_policies)


def test_the_gain_in_folds_takes_no_fit_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five policies without one fold, ten without two: what the shares need in any case."""
    fits: list[int] = []
    fit = Threshold.fit
    monkeypatch.setattr(
        Threshold, "fit", lambda self, rows: fits.append(len(rows)) or fit(self, rows)
    )
    chosen_policies(Threshold, None, world(50))
    assert sorted(fits) == [30] * 10 + [40] * 5


def test_folds_that_the_user_chose_are_kept() -> None:
    """What is fitted in folds already is the point of the largest gain; two leave nothing apart."""
    test = world(60)
    for folds, words in ((3, "mean of 2 policies a question"), (2, "")):
        crossed = CrossFitted(Threshold, folds).fit(test)
        gain = chosen_policies(Threshold, None, test, crossed)[0]
        assert gain.policy is crossed
        assert len(crossed.ways) == folds - 1
        assert words in gain.words


def test_a_row_in_folds_is_the_point_of_the_largest_gain() -> None:
    """A leaderboard's row and a replay's figures are means of the same policies, and no seeds."""
    test = world(80, useful=False)
    crossed = CrossFitted(Threshold).fit(test)
    gain = chosen_policies(Threshold, None, test, crossed)[0]
    scored = ScoredQuestions.of(test)
    point = scored_points(scored, [routed(gain, test, scored)], 200)[1]
    row = MethodScore.of_routers([crossed], test, 0, 200).figures()
    assert (row.quality, row.cost, row.delta_ibc) == (point.quality, point.cost, point.delta_ibc)
    five = follow(crossed, test)
    assert row.cost.value != pytest.approx(five.cost.mean())
    assert (len(row.runs), row.by_seed) == (1, {})
    assert not isinstance(row.area.value, Undefined)


def test_what_a_fold_scored_decides_nothing_of_its_own_policy() -> None:
    """Other scores of the first fold: its policy that keeps 95 % stays, those of others change."""
    test = world(200)
    kept = {c.name: c.policy for c in chosen_policies(OBSERVED, None, test)}["keeps_95"]
    own = np.array([kept.fold_of_[name] == 0 for name in test.ids])
    turned = replace(test, scores=np.where(own[:, None], 1 - test.scores, test.scores))
    other = {c.name: c.policy for c in chosen_policies(OBSERVED, None, turned)}["keeps_95"]
    pairs = list(zip(kept.policies_, other.policies_, strict=True))
    assert [a.get_learned() == b.get_learned() for a, b in pairs] == [True] + [False] * 4


def test_what_one_fold_does_not_show_is_not_shown() -> None:
    """In four of five folds nothing cheaper is shown: the point is not shown, and says where."""
    kept = chosen_policies(OBSERVED, None, world(60, seed=2))[1]
    assert kept.proven is False
    assert kept.why.startswith("in 4 of 5 folds 48 fitting questions show it of no policy")


def test_the_verdict_knows_small_samples_and_missing_gaps() -> None:
    """Few documents conclude nothing, and an LLM that is not better leaves nothing to gain."""
    few = points(world(100, group=20), world(60))
    assert verdict_of(list(few.values()), 100, 5).kind == "not shown"
    assert "at least 10 documents" in few["gain"].why
    alike = points(world(60, 1, slm=1.0), world(60, slm=1.0))
    assert verdict_of(list(alike.values()), 60, 60).kind == "nothing to gain"
    useless = points(world(60, 1, useful=False), world(60, useful=False))
    assert verdict_of(list(useless.values()), 60, 60).kind == "not shown"


@pytest.mark.parametrize("useful", [True, False])
def test_a_gain_is_shown_where_both_models_are_alike(useful: bool) -> None:
    """Delta IBC divides by what the LLM gains, here next to nothing; the gain itself does not."""
    rng = np.random.default_rng(3)
    n = 600
    better = np.arange(n) % 2 == 0  # whether the SLM or the LLM is the one that is right
    scores = np.stack([better, ~better], axis=1).astype(float)
    scores[:6, 1] = 1.0
    confidence = 0.5 * rng.random(n) + 0.5 * better * useful
    alike = Outcomes(
        scores,
        np.tile([1.0, 50.0], (n, 1)),
        np.stack([confidence, np.full(n, np.nan)], axis=1),
        np.zeros((n, 2)),
        ("s", "l"),
        tuple(f"q{i}" for i in range(n)),
        documents=tuple(f"d{i}" for i in range(n)),
    )
    live = Threshold(candidates="observed").fit(alike)
    found = points(alike, None, live)["live"]
    assert isinstance(found.delta_ibc.interval, Undefined)
    assert found.shown is useful


def test_the_luck_of_few_escalations_shows_no_gain() -> None:
    """Six of 200 questions go to an LLM that is right in four of five, and six times right.

    The same answers of an LLM that is right everywhere are no luck. A slice of all questions has
    the same figure.
    """
    n, few = 200, np.arange(200) < 6
    wrong = np.where(np.arange(n) % 5 == 0, 0.0, 1.0)
    for llm, shown in ((np.where(few, 1.0, wrong), False), (np.where(few, 1.0, 0.0), True)):
        tiers = PricedTiers.of(replace(world(n), scores=np.column_stack([np.zeros(n), llm])))
        codes = np.arange(n)
        scored = ScoredQuestions(tiers, codes, ChainRouting.only(tiers, 1))
        live = ChainRouting(tiers, np.where(few, 2, 1).astype(np.uint8), 0)
        _, point, _ = scored_points(scored, [RoutedPoint("live", (live,), scored)], 200)
        assert point.shown is shown
        six = six_columns(live, ChainRouting.only(tiers, 0), scored.llm, n)
        assert isinstance(six, np.ndarray)
        whole = by_slice("", "", FieldValues(("all",) * n, ()), six, few, codes, 200, 0).slices[0]
        assert whole.delta_ibc == point.delta_ibc


def test_a_live_policy_with_the_largest_gain_is_one_point() -> None:
    """Points that decide the same are marked, so that nothing is shown twice."""
    test, fitting = world(100, 1), world(100)
    live = Threshold(candidates="observed").fit(fitting)
    found = points(test, fitting, live)
    assert found["gain"].same_as == "live"
    assert found["gain"].quality == found["live"].quality
