"""Calibrators, and the calibrated meta-verifier."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from omegaconf import OmegaConf
from router_records import observe

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.always import AlwaysSLM
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.calibrators.by_rows import LEAST_ROWS, ByRows
from automix_eval.meta_verifiers.calibrators.heads import Heads
from automix_eval.meta_verifiers.calibrators.isotonic import Isotonic
from automix_eval.meta_verifiers.calibrators.logistic import LEAST_WEIGHT, Logistic
from automix_eval.meta_verifiers.calibrators.signals import direction
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.metrics.calibration import auroc
from automix_eval.paths import hydra_conf_dir
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError

FILES = sorted(p for p in (hydra_conf_dir() / "calibrator").glob("*.yaml") if p.stem != "none")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def make(request):
    """Makes one calibrator of one configuration."""
    return lambda: instantiate(OmegaConf.load(request.param))


def test_the_configuration_lists_every_hyper_parameter(make):
    """The class alone has the defaults of its YAML."""
    made = make()
    assert vars(type(made)()) == vars(made)


def sample(n=400, signals=1, seed=0, reverse=False):
    """Signals that inform about a right or wrong answer, and the answers' scores."""
    draw = np.random.default_rng(seed)
    quality = draw.uniform(size=n)
    target = (draw.uniform(size=n) < quality).astype(float)
    noisy = [np.clip(quality + draw.normal(0, 0.1, n), 0, 1) for _ in range(signals)]
    table = np.stack(noisy, axis=1)
    return (1 - table if reverse else table), target


def chain(confidence, right, large=None):
    """Two tiers at 1:50 with the given confidences and scores of the first."""
    n = len(right)
    large = np.ones(n) if large is None else large
    return Outcomes(
        np.stack([right, large], axis=1),
        np.tile([1.0, 50.0], (n, 1)),
        np.stack([confidence, np.full(n, np.nan)], axis=1),
        np.tile([1.0, 0.0], (n, 1)),
        ("small", "large"),
        tuple(map(str, range(n))),
    )


def test_predictions_are_probabilities_and_calibrated(make):
    """Predictions lie in [0, 1], and their mean over the fitting data is the mean score."""
    signals, target = sample()
    predicted = make().fit(signals, target).predict(signals)
    assert ((predicted >= 0) & (predicted <= 1)).all()
    assert predicted.mean() == pytest.approx(target.mean(), abs=0.02)


def test_a_verifier_the_wrong_way_round_is_turned(make):
    """Reversed signals are worth as much as upright ones."""
    signals, target = sample(reverse=True)
    predicted = make().fit(signals, target).predict(signals)
    assert np.corrcoef(predicted, target)[0, 1] > 0.3
    assert predicted[signals[:, 0].argmin()] > predicted[signals[:, 0].argmax()]


def test_a_useless_signal_beside_a_good_one_is_harmless(make):
    """Adding noise as a second signal costs little of what the first one says."""
    signals, target = sample(2000)
    noise = np.random.default_rng(5).uniform(size=(2000, 1))
    alone = make().fit(signals, target).predict(signals)
    both = make().fit(np.hstack([signals, noise]), target).predict(np.hstack([signals, noise]))
    error = [((p - target) ** 2).mean() for p in (alone, both)]
    assert error[1] < error[0] + 0.01


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_gives_a_constant_short_of_certainty(value):
    """Where every answer is right (or wrong) the prior stands for all, and it is finite."""
    signals, _ = sample(50)
    predicted = Logistic().fit(signals, np.full(50, value)).predict(signals)
    assert np.ptp(predicted) == 0
    assert abs(predicted[0] - value) == pytest.approx(1 / 52)
    assert np.ptp(Isotonic().fit(signals, np.full(50, value)).predict(signals)) == 0


def test_constant_signals_and_gaps_have_a_defined_outcome(make):
    """A constant signal predicts the mean; a missing one does not make a prediction NaN."""
    constant = make().fit(np.full((8, 1), 0.5), np.array([0.0, 1.0] * 4))
    assert constant.predict(np.array([[0.5], [0.9]])) == pytest.approx([0.5, 0.5])
    signals, target = sample(100, signals=2)
    signals[::3, 1] = np.nan
    assert np.isfinite(make().fit(signals, target).predict(signals)).all()
    nobody = make().fit(np.empty((0, 1)), np.empty(0))
    json.dumps(nobody.get_learned(), allow_nan=False)
    assert nobody.predict(np.array([[0.2], [np.nan]])) == pytest.approx([0.5, 0.5])


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_never_inf_or_nan(rows):
    """Any confidences and graded scores give finite probabilities."""
    signals, target = np.array([[v] for v, _ in rows]), np.array([t for _, t in rows])
    for calibrator in (Logistic(), Isotonic()):
        predicted = calibrator.fit(signals, target).predict(np.array([[0.0], [0.3], [1.0]]))
        assert np.isfinite(predicted).all()
        assert ((predicted >= 0) & (predicted <= 1)).all()


def test_learned_values_survive_json(make):
    """A fresh calibrator with the learned values predicts the same."""
    for count in (1, 3):
        signals, target = sample(signals=count)
        fitted, other = make().fit(signals, target), make()
        other.set_learned(json.loads(json.dumps(fitted.get_learned(), allow_nan=False)))
        assert (other.predict(signals) == fitted.predict(signals)).all()


def test_foreign_values_are_refused(make):
    """Values of another shape are refused, field by field."""
    learned = make().fit(*sample()).get_learned()
    key = "weights" if "weights" in learned else "y"
    for broken in ({}, {**learned, "more": 1}, {**learned, key: ["a"]}, {**learned, key: [1e999]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            make().set_learned(copy.deepcopy(broken))


@pytest.mark.parametrize("field", ["x", "y", "weights", "intercept", "mean", "scale"])
def test_a_stored_number_that_is_none_is_named(field):
    """Texts, truth values and what is not finite, in any list of numbers."""
    kind = Isotonic if field in ("x", "y") else Logistic
    for bad in ("a", True, float("inf"), float("nan")):
        said = "must be finite" if isinstance(bad, float) else "must be a list of numbers"
        learned = kind().fit(*sample(50)).get_learned()
        held = learned["preparation"] if field in ("mean", "scale") else learned
        held[field] = bad if field == "intercept" else [bad]
        with pytest.raises((TypeError, ValueError), match=f"^{field} {said}$"):
            kind().set_learned(learned)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([0, 0, 2], [0, 1, 1], ""),
        ([], [], "equally long"),
        ([0, 1], [0], "equally long"),
        ([0], [0, 1], "equally long"),
        ([1, 0], [0, 1], "ascending"),
        ([0], [-1e-9], r"in \[0, 1\]"),
        ([0], [1.001], r"in \[0, 1\]"),
    ],
)
def test_knots_ascend_to_shares(x, y, said):
    """Equal knots and both ends of [0, 1] are taken."""
    made, learned = Isotonic(), {"combination": None, "x": x, "y": y}
    if not said:
        made.set_learned(learned)
        assert made.get_learned() == learned
        return
    with pytest.raises(ValueError, match=said):
        made.set_learned(learned)


def test_the_calibrated_router_turns_a_reversed_verifier(make):
    """Behind a calibrator self-consistency escalates the wrong answers of a reversed verifier."""
    signals, target = sample(600, reverse=True)
    data = chain(signals[:, 0], target)
    plain = follow(SelfConsistency(), data)
    router = Calibrated(SelfConsistency(), make).fit(data)
    turned = follow(router, data)
    assert turned.score.mean() > plain.score.mean() + 0.1
    assert any("wrong way round" in note for note in router.notes())
    assert "wrong way round" in router.describe()


def test_errors_counted_below_zero_are_calibrated_as_their_shares(make):
    """Both are mapped to the same targets: they gave half of the range, and no answer was right."""
    right = np.random.default_rng(3).random(120) < 0.5
    confidence = np.where(right, 0.7, 0.4) + np.linspace(0, 0.2, 120)
    rows = chain(confidence, right)
    shares, errors = (
        Calibrated(SelfConsistency(), make).fit(some)
        for some in (rows, dataclasses.replace(rows, scores=rows.scores - 1))
    )
    assert shares.auroc_ == errors.auroc_ != [None]
    assert (follow(shares, rows).cost == follow(errors, rows).cost).all()


def test_the_calibrated_router_reads_all_signals():
    """With signals beside the confidence it learns from them, and says how much each weighs."""
    signals, target = sample(500, signals=2)
    data = chain(np.full(500, 0.5), target)
    table = {
        name: np.stack([signals[:, i], np.full(500, np.nan)], axis=1)
        for i, name in enumerate(("margin", "p_true"))
    }
    data = Outcomes(
        data.scores, data.answer_costs, data.confidences, data.verification_costs, data.names,
        data.ids, table,
    )  # fmt: skip
    router = Calibrated(SelfConsistency(), Logistic).fit(data)
    path = follow(router, data)
    wrong = target == 0
    assert path.final[wrong].mean() > path.final[~wrong].mean() + 0.3
    assert "margin +" in router.describe()
    assert "p_true +" in router.describe()


def test_the_calibrated_router_survives_json_and_row_order(make):
    """A restored policy decides the same; the order of the fitting rows does not matter."""
    signals, target = sample(200)
    data = chain(signals[:, 0], target)
    router = Calibrated(SelfConsistency(), make).fit(data)
    other = Calibrated(SelfConsistency(), make)
    other.set_learned(json.loads(json.dumps(router.get_learned(), allow_nan=False)))
    again = Calibrated(SelfConsistency(), make).fit(
        data.take(np.random.default_rng(1).permutation(200))
    )
    grid = [observe(k / 8) for k in range(9)] + [observe(None)]
    assert other.decide(grid) == router.decide(grid) == again.decide(grid)
    with pytest.raises(AutoMixError, match="no policy with a calibrator"):
        other.set_learned({"rules": []})
    with pytest.raises(AutoMixError, match=r"^the calibrator was fitted for 2 tiers .* chain of 3"):
        router.decide([observe(0.5, 0, 3)])
    fresh = Calibrated(SelfConsistency(), make)
    for ask in (fresh.get_learned, fresh.describe, lambda: fresh.decide([observe(0.5)])):
        with pytest.raises(AutoMixError, match=r"^meta_verifier=calibrated has learned nothing"):
            ask()
    learned = router.get_learned()
    for area in (0, 1, None, -1e-9, 1 + 1e-9):
        learned["calibrators"][0]["auroc"] = area
        if area in (0, 1, None):
            other.set_learned(learned)
            assert other.get_learned() == learned
        else:
            with pytest.raises(AutoMixError, match="auroc is"):
                other.set_learned(learned)


def test_what_reads_no_confidence_is_not_calibrated():
    """A calibrator before always_slm would learn for nothing."""
    with pytest.raises(AutoMixError, match="nothing to calibrate"):
        Calibrated(AlwaysSLM(), Logistic)
    built = config.build({"meta_verifier": "always_slm", "calibrator": "isotonic"})
    assert isinstance(parts.make_meta_verifier(built), AlwaysSLM)


def test_the_configuration_puts_the_calibrator_in_front():
    """calibrator=isotonic wraps any meta-verifier that reads confidences."""
    built = config.build({"meta_verifier": "self_consistency", "calibrator": "isotonic"})
    router = parts.make_meta_verifier(built)
    assert isinstance(router, Calibrated)
    assert isinstance(router.make(), Isotonic)
    assert parts.router_parameters(built)["calibrator"] == {
        "name": "isotonic", "penalty": 1.0, "predicts": "score",
    }  # fmt: skip


@pytest.mark.parametrize("penalty", [0, -1, True, "x", None])
def test_a_bad_penalty_is_refused(make, penalty):
    """Hyper-parameters are checked when the calibrator is made."""
    for kind in (Logistic, Isotonic):
        with pytest.raises(AutoMixError, match=r"calibrator\.penalty"):
            kind(penalty)


def signalled(columns, right, large=None):
    """Two tiers whose first one's verifier gives these signals; the first is its confidence."""
    made = chain(columns[:, 0], right, large)
    missing = np.full(len(columns), np.nan)
    table = {
        f"s{i}": np.stack([columns[:, i], missing], axis=1) for i in range(1, columns.shape[1])
    }
    return dataclasses.replace(made, signals=table)


def test_few_rows_leave_nothing_but_the_confidence():
    """With fewer than 40 rows other signals, however good on them, are not read."""
    confidence, target = sample(LEAST_ROWS - 1, seed=3)
    table = np.hstack([confidence, target[:, None]])
    fitted = ByRows().fit(table, target)
    turned = fitted.predict(np.hstack([confidence, 1 - target[:, None]]))
    assert (fitted.predict(table) == turned).all()
    assert fitted.kind_ == "rising logistic of the confidence"
    # and their order is that of the confidence, even where the rows say the reverse
    backwards = ByRows().fit(table, 1 - target).predict(table)
    assert (np.diff(backwards[np.argsort(confidence[:, 0])]) >= 0).all()


def test_a_signal_that_says_much_more_is_taken():
    """Where the confidence is noise and a signal is not, all signals are weighed."""
    signal, target = sample(300)
    noise = np.random.default_rng(2).uniform(size=(300, 1))
    assert ByRows().fit(np.hstack([noise, signal]), target).kind_.startswith("logistic")
    assert "confidence" not in ByRows().fit(np.hstack([noise, signal]), target).kind_


def test_a_calibration_is_chosen_by_its_losses_out_of_fold():
    """Later ones of the list only where they gain on the first beyond noise, and most of all."""
    known, found = [1, -1, 0], set()
    for seed in range(1, 4):
        draw = np.random.default_rng(seed)
        n = (LEAST_ROWS, 90)[seed % 2]
        table = draw.uniform(size=(n, 3))
        shape = [table[:, 0], 1 - table[:, 0], table[:, 0] > 0.7, 1 - table[:, 1]][seed]
        target = (draw.uniform(size=n) < 0.1 + 0.8 * shape).astype(float)
        kinds = {
            "rising logistic of the confidence": (1, lambda: Logistic(directions=[1])),
            "logistic of the confidence": (1, Logistic),
            "isotonic of the confidence": (1, Isotonic),
            "logistic, strong penalty": (3, lambda: Logistic(0.03, directions=known)),
            "logistic": (3, lambda: Logistic(0.3, directions=known)),
        }
        losses = {}
        for kind, (read, new) in kinds.items():
            said = np.empty(n)
            for fold in range(5):
                out = np.arange(n) % 5 == fold
                fitted = new().fit(table[~out, :read], target[~out])
                said[out] = fitted.predict(table[out, :read]).clip(0.001, 0.999)
            losses[kind] = -np.log(np.where(target == 1, said, 1 - said))
        first = next(iter(losses.values()))
        gains = [(np.mean(first - loss), kind) for kind, loss in losses.items()]
        least = {kind: 1.645 * np.std(first - loss) / n**0.5 for kind, loss in losses.items()}
        beyond = [gain for gain in gains if gain[0] > least[gain[1]]]
        expected = max(beyond, default=gains[0])[1]
        made = ByRows().knowing(["confidence", "choice_entropy", "num_tokens"]).fit(table, target)
        assert made.kind_ == expected
        read, new = kinds[expected]
        same = new().fit(table[:, :read], target).predict(table[:, :read])
        assert made.predict(table) == pytest.approx(same)
        found.add(expected)
    assert len(found) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_noise_beside_the_confidence_does_not_make_it_worse(seed):
    """Ten signals of noise leave the ranking of a good confidence as it was, but for a little."""
    confidence, target = sample(120, seed=seed)
    draw = np.random.default_rng(seed)
    noise, other = draw.uniform(size=(120, 10)), draw.uniform(size=(1000, 10))
    fitted = ByRows().fit(np.hstack([confidence, noise]), target)
    fresh, right = sample(1000, seed=100 + seed)
    areas = [
        auroc(value.tolist(), (right > 0.5).tolist())
        for value in (fresh[:, 0], fitted.predict(np.hstack([fresh, other])))
    ]
    assert areas[1] > areas[0] - 0.02


@settings(max_examples=examples(20))
@given(st.integers(0, 10**6), st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=5))
def test_a_signal_weighs_in_its_known_direction_alone(seed, directions):
    """Whatever the rows say; and the first, if it is a confidence, always weighs something."""
    draw = np.random.default_rng(seed)
    signals = draw.uniform(size=(40, len(directions)))
    weights = Logistic(directions=directions).fit(signals, draw.random(40)).weights_
    assert all(w * d >= 0 for w, d in zip(weights, directions, strict=True))
    assert directions[0] < 1 or weights[0] >= LEAST_WEIGHT
    free, known = Logistic(), Logistic(directions=[0] * len(directions))
    target = draw.random(40)
    assert free.fit(signals, target).weights_ == known.fit(signals, target).weights_


def test_rows_cannot_turn_what_is_known_of_a_signal():
    """A minimum probability that falls with being right is chance: fitted rows leave it unused."""
    signal, target = sample(300)
    table = np.hstack([np.random.default_rng(2).uniform(size=(300, 1)), 1 - signal])
    names = ["confidence", "profile_min_probability"]
    free = ByRows().fit(table, target)
    told = ByRows().knowing(names).fit(table, target)
    turned = ByRows().knowing(["confidence", "choice_entropy"]).fit(table, target)
    other = np.hstack([table[:, :1], signal])
    assert (told.predict(table) == told.predict(other)).all()
    for calibrator in (free, turned):
        assert not np.allclose(calibrator.predict(table), calibrator.predict(other))


@pytest.mark.parametrize(
    ("name", "way"),
    [("confidence", 1), ("min_probability", 1), ("margin", 1), ("c8_f1", 1), ("choice_entropy", -1),
     ("even_rank", -1), ("num_tokens", 0), ("answer_length", 0), ("p_true", 0)],
)  # fmt: skip
def test_directions_of_signals(name, way):
    """Probabilities and agreement speak for an answer, entropy against it, length either way."""
    assert direction(name) == way


def test_a_confidence_that_is_the_wrong_way_round_is_turned():
    """The confidence itself may fall, where the rows show it; then the others stay as they are."""
    signal, target = sample(300)
    table = np.hstack([1 - signal, 1 - signal])
    told = ByRows().knowing(["confidence", "min_probability"]).fit(table, target)
    assert told.kind_.endswith("of the confidence")
    assert np.diff(told.predict(np.array([[0.2, 0.2], [0.8, 0.8]])))[0] < 0


class Kept(AlwaysSLM):
    """In the place of a router: keeps what it would be fitted on."""

    needs_verification = needs_fit = True

    def fit(self, outcomes):
        """Keep it."""
        self.outcomes = outcomes
        return self


@pytest.mark.parametrize("kind", [Logistic, ByRows])
def test_signals_that_say_nothing_do_not_rank_the_wrong_way_round(kind):
    """Out of fold, the folds' unlike means would: pooled AUROC of noise .34 to .40, not .5."""
    areas, unlike = [], 0.0
    for seed in range(12):
        draw = np.random.default_rng(seed)
        right = (draw.random(100) < 0.2).astype(float)
        keep = Kept()
        Calibrated(keep, kind).fit(signalled(draw.uniform(size=(100, 1)), right))
        held = keep.outcomes
        areas.append(auroc(held.confidences[:, 0].tolist(), (held.scores[:, 0] > 0.5).tolist()))
        unlike = max(unlike, abs(held.confidences[:, 0].mean() - right.mean()))
    assert unlike < 0.02
    assert np.mean(areas) > 0.42


def test_out_of_fold_a_confidence_keeps_its_order():
    """A calibrator that rises with the confidence ranks the rows as it does, over all folds."""
    for seed in range(6):
        draw = np.random.default_rng(seed)
        confidence = draw.uniform(size=(LEAST_ROWS - 1, 1))
        right = (draw.random(LEAST_ROWS - 1) < 0.3).astype(float)
        keep = Kept()
        Calibrated(keep, ByRows).fit(signalled(confidence, right))
        order = np.argsort(confidence[:, 0])
        names = {name: i for i, name in enumerate(keep.outcomes.ids)}
        held = keep.outcomes.confidences[[names[str(i)] for i in order], 0]
        assert (np.diff(held) >= 0).all()


def test_the_auto_calibrator_reads_the_confidence_before_the_signals():
    """A verifier with signals gives auto its confidence as well; the others read signals alone."""
    columns, target = sample(200, signals=3)
    data = signalled(columns, target)
    for kind, names in ((ByRows, ["confidence", "s1", "s2"]), (Logistic, ["s1", "s2"])):
        router = Calibrated(SelfConsistency(), kind).fit(data)
        assert router.names_ == [names]
        assert "calibration of " + ", ".join(names) in router.describe()


def test_benefit_escalates_where_the_last_tier_helps_and_not_where_all_fail(make):
    """Of unsure answers only those that the last tier gets right look worth escalating."""
    draw = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 200)  # the first tier is right; only the last is; nobody is
    right, large = (kind == 0).astype(float), (kind <= 1).astype(float)
    signal = np.clip(
        np.choose(kind, [0.9, 0.6, 0.2])[:, None] + draw.normal(0, 0.05, (600, 1)), 0, 1
    )
    data = chain(signal[:, 0], right, large)
    benefit = Calibrated(SelfConsistency(), lambda: with_benefit(make)).fit(data)
    score = Calibrated(SelfConsistency(), make).fit(data)
    hopeless = [r.judge_first(data)[kind == 2].mean() for r in (score, benefit)]
    helped = [r.judge_first(data)[kind == 1].mean() for r in (score, benefit)]
    assert hopeless[0] < helped[0] + 0.05
    assert hopeless[1] > helped[1]
    assert "benefit" in benefit.describe()


def test_benefit_keeps_the_order_of_the_confidence_where_the_last_tier_is_as_good_anywhere():
    """The last tier's score is a constant unless the rows show more, and policies restore it."""
    confidence, target = sample(100)
    last = (np.random.default_rng(9).random(100) < 0.5).astype(float)
    heads = Heads(lambda: ByRows(predicts="benefit")).fit(confidence, target, last)
    assert (np.diff(heads.predict(confidence)[np.argsort(confidence[:, 0])]) >= 0).all()
    assert heads.last_.kind_ == "constant"
    again = Heads(lambda: ByRows(predicts="benefit"))
    again.set_learned(json.loads(json.dumps(heads.get_learned())))
    assert again.predict(confidence) == pytest.approx(heads.predict(confidence))
    depends = Heads(lambda: ByRows(predicts="benefit")).fit(confidence, last, target)
    assert depends.last_.kind_ != "constant"


def with_benefit(make):
    """A calibrator whose confidence stands for benefit."""
    made = make()
    made.predicts = "benefit"
    return made


@pytest.mark.parametrize("kind", [Logistic, Isotonic, ByRows])
@settings(max_examples=examples(20))
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=12))
def test_benefit_is_a_confidence_whatever_the_rows(kind, rows):
    """(1 + E[own] - E[last]) / 2 lies in [0, 1], for one row, one class and constant signals."""
    signals, own, last = (np.array(column) for column in zip(*rows, strict=True))
    heads = Heads(lambda: kind(predicts="benefit")).fit(signals[:, None], own, last)
    found = heads.predict(np.array([[0.0], [0.5], [1.0]]))
    assert ((found >= 0) & (found <= 1)).all()


def test_with_few_rows_the_last_tier_is_taken_for_independent():
    """The head of the last tier's score moves away from its mean as rows come in."""
    spans = []
    for n in (8, 800):
        signals, target = sample(n)
        heads = Heads(lambda: Logistic(1000.0, predicts="benefit"))
        heads.fit(signals, np.full(n, 0.5), target)
        spans.append(np.ptp(heads.predict(np.array([[0.1], [0.9]]))))
    assert spans[0] < spans[1]


def test_an_unknown_forecast_is_refused():
    """calibrator.predicts is score or benefit."""
    for kind in (Logistic, Isotonic, ByRows):
        with pytest.raises(AutoMixError, match=r"calibrator\.predicts"):
            kind(predicts="luck")


def test_the_verifier_brings_its_calibrator_and_the_user_s_word_counts():
    """verifier=auto comes with calibrator=auto, unless another is named."""
    assert config.name_of(config.build({"verifier": "auto"}), "calibrator") == "auto"
    named = config.build({"verifier": "auto", "calibrator": "none"})
    assert config.name_of(named, "calibrator") == "none"
    assert config.name_of(config.build({"verifier": "margin"}), "calibrator") == "none"


def test_a_signal_that_tells_nothing_rises():
    """Where the rank correlation is 0 the function is the rising one."""
    made = Isotonic().fit(np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 0.0]))
    assert made.predict(np.array([[0.0], [1.0], [2.0]])).tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("share", "fits"), [(0.0, True), (1.0, True), (-1e-9, False), (1.1, False)]
)
@pytest.mark.parametrize("name", ["weight", "mean"])
def test_heads_read_shares_alone(name, share, fits):
    """Both ends are shares; what lies outside is refused with both values."""
    signals, target = sample()
    made = Heads(lambda: Logistic(predicts="benefit")).fit(signals, target, 1 - target)
    learned = made.get_learned()
    learned["last"][name] = share
    if fits:
        made.set_learned(learned)
        assert made.get_learned()["last"][name] == share
    else:
        with pytest.raises(ValueError, match="expected shares"):
            made.set_learned(learned)


def test_a_strong_penalty_is_a_tenth():
    """Of the kinds that few rows choose among, one shrinks ten times as much as is set."""
    kinds = ByRows(penalty=2.0)._kinds()
    assert kinds["logistic"].penalty == 2.0
    assert kinds["logistic, strong penalty"].penalty == pytest.approx(0.2)
