"""The drop-in for automix-llm: equal to its release 1.0.3, except for the documented deviations."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from automix_frames import ANY, FIGURES, FROZEN, SHARES, make, methods, results

import automix_eval
from automix_eval import (
    POMDP,
    AutoMix,
    AutomixUnion,
    DoubleThreshold,
    FixedAnswerRouting,
    GreedyPOMDP,
    POMDPSimple,
    SelfConsistency,
    Threshold,
    TripleThreshold,
)
from automix_eval.metrics.ibc import Undefined
from automix_eval.safety.errors import AutoMixError

NAMES = ("threshold", "self_consistency", "double_threshold", "pomdp_simple", "greedy", "union")
ALL = [
    Threshold,
    SelfConsistency,
    DoubleThreshold,
    TripleThreshold,
    POMDPSimple,
    GreedyPOMDP,
    POMDP,
]


def trained(method=None, frame=None, **arguments):
    """A trained drop-in."""
    automix = AutoMix(method or POMDP(num_bins=8), **arguments)
    automix.train(make(0, 400) if frame is None else frame)
    return automix


# --------------------------------------------------------------------------- parity


@pytest.mark.parametrize("seed", [*SHARES, *ANY])
def test_equals_automix_llm(seed):
    """Train on 1000 rows, evaluate 4000: figures to 1e-9 and every decision, frozen from 1.0.3."""
    for name, expected in json.loads(FROZEN.read_text(encoding="utf-8"))[str(seed)].items():
        found = results(AutoMix(methods(automix_eval)[name]), seed)
        assert found["decisions"] == expected["decisions"], name
        for figure in FIGURES:
            assert found[figure] == pytest.approx(expected[figure], rel=0, abs=1e-9), name


def test_the_frozen_frames_cover_every_method():
    """50 frames with all six methods, and 10 with any confidence with the four it concerns."""
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert [int(seed) for seed in frozen] == [*SHARES, *ANY]
    assert all(set(frozen[str(seed)]) == set(NAMES) for seed in SHARES)
    assert all(set(frozen[str(seed)]) == set(NAMES[:4]) for seed in ANY)


@pytest.mark.parametrize("name", ["threshold", "double_threshold", "pomdp_simple", "union"])
def test_equals_the_package_itself(name):
    """Where automix-llm is installed: the same parameter, decisions and single rows."""
    reference = pytest.importorskip("automix")
    train, test = make(7, 300), make(1007, 40)
    theirs = reference.Automix(methods(reference)[name])
    ours = AutoMix(methods(automix_eval)[name])
    theirs.train(train)
    ours.train(train)
    route = ours.infer(test)
    for index, row in test.iterrows():
        assert ours.infer(row) == bool(theirs.infer(row)) == route[index]
    assert ours.evaluate(test) == pytest.approx(theirs.evaluate(test), abs=1e-9)


def test_a_window_of_costs_agrees():
    """cost_constraint leaves the parameters whose mean cost lies within it, as there."""
    reference = pytest.importorskip("automix")
    train = make(3, 300)
    for window in ([5, 15], [20, 30]):
        theirs, ours = reference.Automix(reference.Threshold(8)), AutoMix(Threshold(8))
        theirs.train(train, cost_constraint=window)
        ours.train(train, cost_constraint=window)
        assert ours.best_param == theirs.best_param


# --------------------------------------------------------------------------- the interface


def test_the_call_of_the_readme():
    """The names, the calls and the shapes of what they return."""
    columns = {"slm_column": "s", "llm_column": "l", "verifier_column": "v"}
    frame = make(1, 300).rename(columns={"llama13b_f1": "s", "llama70b_f1": "l", "p_ver_13b": "v"})
    automix = AutoMix(POMDP(num_bins=8), **columns, costs=[1, 50], verifier_cost=1)
    automix.train(frame)
    assert type(automix.infer(frame.iloc[0])) is bool
    assert automix.infer(dict(frame.iloc[0])) == automix.infer(frame.iloc[0])
    figures = automix.evaluate(frame, return_dict=True, return_decisions=True)
    assert [*figures][:4] == list(FIGURES)
    assert figures["route_to_llm"].index.equals(frame.index)
    assert automix.evaluate(frame) == tuple(figures[name] for name in FIGURES)
    given = automix.compute_performance_cost(frame, figures["route_to_llm"])
    assert given == (figures["avg_performance"], figures["avg_cost"])
    assert automix_eval.Automix is AutoMix


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("bins", [1, 3, 10, 12, 20, 24, 500])
def test_any_number_of_bins(method, bins):
    """Every method trains and evaluates with every number of bins, also with more than rows."""
    most = {TripleThreshold: 12, DoubleThreshold: 60, POMDP: 60}.get(method, bins)
    bins = max(min(bins, most), {TripleThreshold: 3, DoubleThreshold: 2}.get(method, 1))
    frame = make(2, 50)
    figures = trained(method(num_bins=bins), frame).evaluate(frame)
    assert all(isinstance(f, Undefined) or np.isfinite(f) for f in figures)


@pytest.mark.parametrize("method", [DoubleThreshold, TripleThreshold])
def test_too_few_bins_are_named(method):
    """A grid without a pair of points below 1 has nothing to try."""
    with pytest.raises(AutoMixError, match="raise num_bins"):
        AutoMix(method(num_bins=1)).train(make(2, 50))


@pytest.mark.parametrize("bins", [10, 12, 20, 24])
@pytest.mark.parametrize("method", [POMDPSimple, GreedyPOMDP])
def test_fitting_and_deciding_bin_alike(method, bins):
    """Bins other than powers of two: the low half that gains is what is routed."""
    v = np.arange(bins + 1) / bins
    frame = pd.DataFrame(
        {"p_ver_13b": v, "llama13b_f1": (v > 0.5) * 1.0, "llama70b_f1": np.ones(bins + 1)}
    )
    automix = trained(method(num_bins=bins), frame)
    route = automix.infer(frame)
    assert route.tolist() == [automix.infer(row) for _, row in frame.iterrows()]
    assert set(v[route]) <= set(v[v <= 0.5])
    assert route.any()


def test_import_stays_light():
    """Importing the package loads no numpy and no pandas; a misspelt name is an AttributeError."""
    code = "import sys, automix_eval; print('numpy' in sys.modules, 'pandas' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="PODMP"):
        _ = automix_eval.PODMP


# --------------------------------------------------------------------------- deviations


def test_greedy_reads_the_columns_it_is_given():
    """GreedyPOMDP takes AutoMix's columns, or its own; none is hard-coded."""
    frame = make(4, 300)
    expected = trained(GreedyPOMDP(8), frame).best_param
    renamed = frame.rename(columns={"llama13b_f1": "s", "llama70b_f1": "l"})
    named = {"slm_column": "s", "llm_column": "l"}
    assert trained(GreedyPOMDP(8), renamed, **named).best_param == expected
    other = frame.assign(s=frame.llama70b_f1, l=frame.llama13b_f1)
    assert trained(GreedyPOMDP(8, **named), other).best_param != expected


def test_the_costs_of_an_evaluation_count():
    """evaluate(costs=...) and verifier_cost=... change cost and delta IBC."""
    frame, automix = make(5, 400), trained()
    cheap, dear = (automix.evaluate(frame, costs=[1, k], return_dict=True) for k in (10, 100))
    share = automix.infer(frame).mean()
    assert cheap["avg_cost"] == pytest.approx(2 + 10 * share)
    assert dear["avg_cost"] == pytest.approx(2 + 100 * share)
    assert cheap["ibc_lift"] != dear["ibc_lift"]
    free = automix.evaluate(frame, verifier_cost=0, return_dict=True)
    assert free["avg_cost"] == pytest.approx(1 + 50 * share)


def test_parameters_are_values():
    """No parameter passes through text: what is chosen is one of the method's own values."""
    automix = trained(Threshold(num_bins=8))
    assert isinstance(automix.best_param, float)
    assert isinstance(trained().best_param[0], tuple | list | float)


@pytest.mark.parametrize("method", ALL)
def test_a_worse_llm_lifts_nothing(method):
    """The sign does not turn: answers are kept with a warning, and the figure is undefined."""
    frame = make(6, 300).rename(
        columns={"llama13b_f1": "llama70b_f1", "llama70b_f1": "llama13b_f1"}
    )
    automix = AutoMix(method(num_bins=8))
    with pytest.warns(UserWarning, match="not better"):
        automix.train(frame)
    figures = automix.evaluate(frame, return_dict=True, return_decisions=True)
    assert not figures["route_to_llm"].any()
    assert isinstance(figures["ibc_lift"], Undefined)
    assert "not better" in figures["ibc_lift"].reason


@pytest.mark.parametrize("costs", [[1, 1], [0, 0], [50, 1]])
def test_equal_costs_are_undefined(costs):
    """A better LLM that is no dearer leaves no figure: the best performance is taken, and said."""
    with pytest.warns(UserWarning, match="does not cost more"):
        automix = trained(costs=costs)
    frame = make(0, 400)
    figures = automix.evaluate(frame, return_dict=True)
    assert figures["avg_performance"] >= frame[["llama13b_f1", "llama70b_f1"]].mean().max()
    assert isinstance(figures["ibc_lift"], Undefined)
    assert "does not cost more" in figures["ibc_lift"].reason


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_missing_score_is_named(bad):
    """A score that is no number is an error that names row and column, in train and evaluate."""
    frame = make(0, 50).astype({"llama70b_f1": object})
    frame.loc[7, "llama70b_f1"] = bad
    for act in (AutoMix(Threshold(8)).train, trained().evaluate):
        with pytest.raises(AutoMixError, match="row 7, column 'llama70b_f1'"):
            act(frame)


def test_an_empty_window_is_named():
    """No parameter within cost_constraint: the message gives the costs there are."""
    with pytest.raises(AutoMixError, match=r"cost_constraint=\[1, 1.5\].* they cost"):
        AutoMix(Threshold(8)).train(make(0, 100), cost_constraint=[1, 1.5])


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(("undefined", "expected"), [("escalate", True), ("keep", False)])
def test_a_missing_confidence_follows_the_setting(method, undefined, expected):
    """NaN, None and pandas' NA escalate unless told otherwise, fitted or met later."""
    frame = make(8, 300)
    frame.loc[:20, "p_ver_13b"] = float("nan")
    automix = trained(method(num_bins=8), frame, undefined=undefined)
    assert set(automix.infer(frame)[:21]) == {expected}
    for nothing in (None, pd.NA, float("nan")):
        assert automix.infer({"p_ver_13b": nothing}) is expected
    number = trained(method(num_bins=8), frame, undefined=0.0)
    assert number.infer({"p_ver_13b": None}) == number.infer({"p_ver_13b": 0.0})


@pytest.mark.parametrize("method", ALL)
def test_rounding_and_integers_are_confidences(method):
    """Slightly over 1, and integers in a single row, decide as the plain number does."""
    automix = trained(method(num_bins=8))
    for close, plain in ((1 + 1e-9, 1.0), (-1e-9, 0.0), (1, 1.0), (0, 0.0), (np.int64(1), 1.0)):
        assert automix.infer({"p_ver_13b": close}) == automix.infer({"p_ver_13b": plain})
    whole = make(8, 300).assign(p_ver_13b=lambda f: (f.p_ver_13b > 0.5).astype(int))
    assert len(automix.infer(whole)) == 300


@pytest.mark.parametrize("bad", [1.5, -0.5, float("inf"), "0.5"])
def test_a_confidence_that_is_none_is_named(bad):
    """Numbers far outside [0, 1] and texts are errors that name the column."""
    with pytest.raises(AutoMixError, match="p_ver_13b"):
        trained().infer({"p_ver_13b": bad})


@pytest.mark.parametrize("method", [POMDPSimple, POMDP])
def test_without_labels_they_are_made_from_the_frame(method):
    """No label column: the states come from the training frame's own scores, and it escalates."""
    frame = make(9, 400)
    expected = trained(method(num_bins=8), frame)
    found = trained(method(num_bins=8), frame.drop(columns="category"))
    assert found.best_param == expected.best_param
    assert found.infer(frame).any()
    with pytest.raises(AutoMixError, match="holds Easy; the labels are NEEDY"):
        trained(method(num_bins=8), frame.assign(category="Easy"))


def test_labels_use_no_other_split():
    """Evaluating rows of another kind changes nothing that was fitted."""
    frame = make(9, 400).drop(columns="category")
    automix = trained(POMDPSimple(8), frame)
    before = automix.best_param
    automix.evaluate(frame.assign(llama13b_f1=0.0))
    assert automix.best_param == before


def test_evidence_for_the_slm_counts():
    """UNDEFINED, the label of rows the SLM answers better, weighs as GOOD does."""
    frame = make(11, 400)
    better = frame.llama13b_f1 > frame.llama70b_f1
    assert better.any()
    labelled = frame.assign(category=np.where(better, "UNDEFINED", frame.category))
    counted = frame.assign(category=np.where(better, "GOOD", frame.category))
    params = [POMDPSimple(8).generate_points(_frame(f)) for f in (labelled, counted)]
    assert params[0] == params[1]


def test_a_middle_belongs_to_one_bin():
    """A confidence between two points is in the upper bin, in fitting as in deciding."""
    frame = pd.DataFrame(
        {"p_ver_13b": [1 / 16] * 4 + [0.9] * 4, "llama13b_f1": [0.0] * 4 + [1.0] * 4}
    ).assign(llama70b_f1=1.0)
    automix = trained(POMDPSimple(8), frame)
    assert automix.best_param[1] == 1
    assert automix.infer({"p_ver_13b": 1 / 16}) is True


def test_fixed_answers_are_compared_whole():
    """A listed answer is always escalated; a part of it, a letter or the empty text is not."""
    frame = make(0, 200).assign(llama13b_pred_ans="Paris")
    for given in (["unanswerable"], "unanswerable"):
        method = FixedAnswerRouting(SelfConsistency(8), given)
        automix = trained(method, frame)
        for answer in ("unanswerable", " Unanswerable. "):
            row = {"p_ver_13b": 1.0, "llama13b_pred_ans": answer}
            assert automix.infer(row) is True
        for answer in ("", "a", "answer", "unanswerable question", None):
            row = {"p_ver_13b": 1.0, "llama13b_pred_ans": answer}
            assert automix.infer(row) is False
        assert automix.infer({"p_ver_13b": 0.0, "llama13b_pred_ans": "Paris"}) is True


def test_fixed_answers_cost_what_they_cost():
    """Escalated answers are paid in training: a union with fixed answers knows of them."""
    frame = make(0, 200).assign(llama13b_pred_ans=["unanswerable", "Paris"] * 100)
    automix = trained(FixedAnswerRouting(POMDP(8), ["unanswerable"]), frame)
    figures = automix.evaluate(frame, return_dict=True, return_decisions=True)
    assert figures["route_to_llm"][::2].all()
    assert figures["avg_cost"] == pytest.approx(2 + 50 * figures["route_to_llm"].mean())
    with pytest.raises(AutoMixError, match="no column 'llama13b_pred_ans'"):
        trained(FixedAnswerRouting(POMDP(8), ["unanswerable"]))


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("column", ["llama13b_f1", "llama70b_f1", "p_ver_13b"])
def test_missing_columns_are_named_with_those_present(column):
    """The message lists the columns there are."""
    frame = make(0, 20).drop(columns=column)
    with pytest.raises(AutoMixError, match=f"no column '{column}'; it has .*category"):
        AutoMix(POMDP(8)).train(frame)


def test_an_empty_frame_is_named():
    """No rows: neither a division by zero nor a policy."""
    for act in (AutoMix(POMDP(8)).train, trained().evaluate):
        with pytest.raises(AutoMixError, match="no rows"):
            act(make(0, 20)[:0])


def test_untrained_is_an_error():
    """Deciding before training says what to do."""
    with pytest.raises(AutoMixError, match="train"):
        AutoMix(POMDP(8)).infer({"p_ver_13b": 0.5})


@pytest.mark.parametrize(
    "arguments",
    [
        {"costs": [1]},
        {"costs": [1, 10, 50]},
        {"costs": [-1, 50]},
        {"costs": [1, float("nan")]},
        {"verifier_cost": -1},
        {"undefined": "ignore"},
    ],
)
def test_wrong_settings_are_named(arguments):
    """Costs and the setting for missing confidences are checked at once."""
    with pytest.raises(AutoMixError, match=next(iter(arguments))):
        AutoMix(POMDP(8), **arguments)


@pytest.mark.parametrize("bins", [0, -1, 8.0, True, "8"])
def test_wrong_bins_are_named(bins):
    """A number of bins is a positive integer."""
    for method in ALL:
        with pytest.raises(AutoMixError, match="num_bins"):
            method(num_bins=bins)
    with pytest.raises(AutoMixError, match="at least one"):
        AutomixUnion()


@pytest.mark.parametrize("method", ALL)
def test_degenerate_frames(method):
    """One row, one class and constant confidences: a warning or a finite figure, never inf."""
    base = make(0, 20)
    for frame in (
        base[:1],
        base.assign(llama13b_f1=1.0, llama70b_f1=1.0),
        base.assign(p_ver_13b=0.5, llama13b_f1=0.0, llama70b_f1=1.0),
    ):
        automix = AutoMix(method(num_bins=8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            automix.train(frame)
        figures = automix.evaluate(frame)
        assert all(isinstance(f, Undefined) or np.isfinite(f) for f in figures)


def _frame(data):
    from automix_eval.meta_verifiers.automix_llm.frame import Frame

    return Frame(data, "p_ver_13b", {"slm": "llama13b_f1", "llm": "llama70b_f1"})
