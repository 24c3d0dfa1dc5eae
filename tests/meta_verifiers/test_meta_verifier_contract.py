"""The contract of a meta-verifier, held by every configuration in hydra_conf/meta_verifier."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from router_records import GRID, PAPER, TYPICAL, columns, observe, pair_records, record, relive
from test_pomdp_costs import dear_and_cheap

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.config.described import of_file
from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.baselines.cost_aware import GreedyLearner
from automix_eval.meta_verifiers.baselines.frugal_gpt import FrugalGPT
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery
from automix_eval.meta_verifiers.baselines.random import Random
from automix_eval.meta_verifiers.baselines.texts import TextRouter
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.paths import hydra_conf_dir
from automix_eval.records.outcomes import Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Decision, Observation

FILES = sorted((hydra_conf_dir() / "meta_verifier").glob("*.yaml"))


@functools.cache
def composed(given):
    """The configuration of some arguments; composing is slow, so each is composed once."""
    return config.build(json.loads(given))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    """One configuration file."""
    return request.param


@pytest.fixture
def make(path, fast_routers):
    """Makes fresh meta-verifiers of one configuration, as the cascade does."""

    def build(**arguments):
        small = {f"meta_verifier.{k}": v for k, v in fast_routers.get(path.stem, {}).items()}
        given = {"meta_verifier": path.stem, **small, **arguments}
        return parts.make_meta_verifier(composed(json.dumps(given)))

    return build


@pytest.fixture
def router(make):
    """A fresh meta-verifier of one configuration."""
    return make()


@pytest.fixture
def live(router):
    """The same, unless it decides by hindsight, which a live run has not."""
    if router.needs_hindsight:
        pytest.skip("replays only")
    return router


@pytest.fixture
def parametric(router):
    """The same, if an objective chooses its policy."""
    if not hasattr(router, "budget"):
        pytest.skip("no objective")
    return router


@pytest.fixture
def in_sample(parametric):
    """The same, if the objective is met on the fitting data: not in the mean, or out of fold."""
    if isinstance(parametric, (Pomdp, Random, GreedyLearner, TextRouter, KnnQuery)):
        pytest.skip("its objective holds for questions it was not fitted on")
    return parametric


def typical():
    """Fitting data of two tiers."""
    return columns(pair_records(TYPICAL))


def routes(router, outcomes):
    """The tier whose answer counts for each question of a replay."""
    return follow(router, outcomes).final.tolist()


def test_those_of_the_package_are_there():
    """The folder is the registry; an empty glob would pass every test below."""
    names = {
        *("always_llm", "always_slm", "double_threshold", "greedy", "pomdp", "pomdp_v1"),
        *("self_consistency", "threshold", "union"),
    }
    assert names <= {p.stem for p in FILES}


def test_the_configuration_lists_every_hyper_parameter(path):
    """Each hyper-parameter of the class stands in the YAML with its default, below a comment."""
    conf = OmegaConf.load(path)
    signature = inspect.signature(get_class(conf._target_))
    assert set(conf) - {"_target_"} == set(signature.parameters)
    made = parts.parameters(config.build({"meta_verifier": path.stem}), "meta_verifier")
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, parameter in signature.parameters.items():
        default = parameter.default
        assert made[name] == (list(default) if isinstance(default, tuple) else default)
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("# ")


# Any of these may be: what names a file, a folder or a signal, and what an encoder is.
ANYTHING = {"encoder", "folder", "seed", "signal"}


def edges(setting):
    """What a setting may just be, and what it may just not be, as its comment in the YAML says."""
    kind, words = setting.kind, {"true": True, "false": False}
    taken = [words.get(word, word) for word in setting.choices if word != "mapping"]
    refused = []
    if found := re.search(r"(integer|number) (>=?) (\d+)", kind):
        least = int(found[3])
        step = 1 if found[1] == "integer" else 1e-9
        taken.append(least if found[2] == ">=" else least + step)
        refused += [least - step if found[2] == ">=" else least, True]
    elif "number in [0, 1]" in kind:
        taken += [0, 1]
        refused += [-1e-9, 1 + 1e-9, False]
    elif kind == "observed | list of numbers":
        taken += [[0.0, 1.0], (0.5,)]
        refused += [[-1e-9], [0.5, 1 + 1e-9], [], "anything"]
    elif kind == "list of names":
        taken += [["margin"], ("a", "b"), None, []]
        refused += [["margin", 1], "margin"]
    elif kind == "list of integers":
        taken += [[1, 2], (3,)]
        refused += [[1, 0]]
    return taken, refused


def test_a_hyper_parameter_is_what_its_comment_says(path):
    """Its edges are taken; beyond them, and nonsense of every type, it is refused by its name."""
    kind = get_class(OmegaConf.load(path)._target_)
    said = {s.key.rpartition(".")[2]: s for s in of_file(f"meta_verifier/{path.stem}")}
    for name in inspect.signature(kind).parameters:
        beside = {"objective": "loss", "error_price": 1.0} if name == "abstain_price" else {}
        taken, refused = edges(said[name])
        for value in taken:
            given = beside | {name: value}
            assert getattr(kind(**given), name) == value
        nonsense = ["no such value", -1.5, [None], float("nan")]
        if name in ANYTHING:
            nonsense = []
        if said[name].kind == "number":
            nonsense.remove(-1.5)
        for value in [*refused, *nonsense]:
            key = {"budget": "mean_cost"}.get(name, name)
            with pytest.raises(AutoMixError, match=rf"(^|meta_verifier\.){key}=") as refusal:
                kind(**beside | {name: value})
            of = re.search(r" of (\w+) (?:must|is unknown)", str(refusal.value))
            assert of is None or of[1] == path.stem


# Of those that no objective reads: values that make another policy of these data.
OTHERS = {
    "bandwidth": 0.1, "candidates": [0.5], "cost_levels": 1, "hidden": [3], "lambda_": 0.004,
    "max_fit_rows": 20, "max_iter": 2, "mixtures": False, "neighbors": 2, "neighbours": 0.001,
    "num_bins": 5, "penalty": 9.0, "price": 0.004, "rate": 0.25, "ridge": 9.0, "seed": 9,
    "sigma": 3.0, "strength": 9.0, "tier": 1, "undefined": "keep",
}  # fmt: skip


def test_every_hyper_parameter_reaches_the_policy(path, fast_routers):
    """Another value of any of them learns something else, or sends questions elsewhere."""
    if path.stem in fast_routers:
        pytest.skip("encoders are fitted elsewhere")
    kind = get_class(OmegaConf.load(path)._target_)
    # few enough that each counts
    number, missing = (90, 0.02) if path.stem == "pomdp" else (60, 0.05)
    outcomes, known = dear_and_cheap(number, undefined=missing), []
    always = {"random": {"rate": 0.5}, "mlp": {"max_iter": 9}}.get(path.stem, {})
    for name in (None, *(n for n in inspect.signature(kind).parameters if n in OTHERS)):
        made = kind(**always | ({} if name is None else {name: OTHERS[name]})).fit(outcomes)
        found = made.get_learned(), routes(made, outcomes), len(made.sweep())
        assert found not in known, name
        known.append(found)


def test_the_objective_is_one_key_for_all(path):
    """Who has an objective takes it, budget and target from the top of the configuration."""
    conf = OmegaConf.to_container(OmegaConf.load(path))
    top = {"objective": "objective", "budget": "mean_cost", "target": "target"}
    for name in set(top) & set(conf):
        assert conf[name] == f"${{{top[name]}}}"


def test_hyper_parameters_are_stored_untouched(path, router):
    """The constructor stores what it was given, also after a fit."""
    names = inspect.signature(type(router)).parameters
    before = {k: copy.deepcopy(getattr(router, k)) for k in names}
    router.fit(typical())
    assert {k: getattr(router, k) for k in names} == before


def test_declares_what_it_needs(router):
    """The attributes of the protocol have their types."""
    assert isinstance(router.needs_verification, bool)
    assert isinstance(router.needs_fit, bool)
    assert isinstance(router.needs_texts, bool)
    assert isinstance(router.needs_hindsight, bool)
    assert router.only_tier is None or type(router.only_tier) is int


def test_fit_returns_self_and_leaves_the_records_alone(router):
    """Fitting chains, and changes nothing it was given."""
    outcomes = typical()
    before = copy.deepcopy(outcomes)
    assert router.fit(outcomes) is router
    for name in ("scores", "answer_costs", "confidences", "verification_costs"):
        assert np.array_equal(getattr(outcomes, name), getattr(before, name), equal_nan=True)
    assert (outcomes.ids, outcomes.questions, outcomes.answers) == (
        before.ids,
        before.questions,
        before.answers,
    )


def test_the_order_of_the_rows_does_not_matter(make):
    """Shuffled rows give the same learned values, to the last bit."""
    records = pair_records(TYPICAL)
    shuffled = random.Random(1).sample(records, len(records))
    learned = [json.dumps(make().fit(columns(r)).get_learned()) for r in (records, shuffled)]
    assert learned[0] == learned[1]


def test_one_decision_an_observation_within_the_chain(live):
    """Decisions come in order, one each, and lead to the same or a later tier."""
    live.fit(typical())
    assert live.decide([]) == []
    decisions = live.decide(GRID)
    assert len(decisions) == len(GRID)
    for decision, observation in zip(decisions, GRID, strict=True):
        assert isinstance(decision, Decision)
        assert decision.tier == observation.tier
        assert observation.tier <= decision.to < observation.num_tiers
        assert decision.reason
        assert type(decision.to) is int


def test_chooses_the_first_tier_too(live):
    """Before the first tier only the question is known, and some tier is asked."""
    live.fit(typical())
    (decision,) = live.decide([Observation(-1, 2, (), observe(None).question)])
    assert decision.tier == -1
    assert 0 <= decision.to < 2


def test_a_replay_is_the_live_run(live):
    """Following columns ends each question where the decisions of a live run end it."""
    records = pair_records(TYPICAL)
    live.fit(columns(records))
    assert routes(live, columns(records)) == [relive(live, r) for r in records]


def test_the_last_tier_keeps(live):
    """The last tier has nowhere to send a question."""
    live.fit(typical())
    (decision,) = live.decide([observe(None, tier=1)])
    assert decision.to == 1


def test_a_chain_of_three_tiers(make):
    """Every meta-verifier fits, decides and can be swept in a longer chain, at every tier."""
    rows = [
        record(i, (slm, (slm + llm) / 2, llm), (v, v)) for i, (v, slm, llm) in enumerate(TYPICAL)
    ]
    outcomes = columns(rows, PaperCost(tiers=(1.0, 10.0, 50.0)))
    router = make().fit(outcomes)
    assert set(routes(router, outcomes)) <= {0, 1, 2}
    assert all(len(routes(policy, outcomes)) == len(rows) for _, policy in router.sweep())
    for tier in () if router.needs_hindsight else range(3):
        (decision,) = router.decide([observe(0.5, tier, 3)])
        assert tier <= decision.to <= 2


def test_learned_values_survive_json(make):
    """What was learned goes through JSON into a fresh instance that decides the same."""
    router = make().fit(typical())
    text = json.dumps(router.get_learned(), allow_nan=False)
    other = make()
    other.set_learned(json.loads(text))
    assert routes(other, typical()) == routes(router, typical())
    if not router.needs_hindsight:
        assert other.decide(GRID) == router.decide(GRID)
    assert json.dumps(other.get_learned()) == text
    assert other.describe() == router.describe() != ""


def test_a_foreign_policy_is_refused(router):
    """A policy of another shape is an AutoMixError, not a surprise at the first decision."""
    for learned in ({"weights": [1.0]}, {"rules": [{"weights": 1.0}]}, {"rules": [3]}):
        with pytest.raises(AutoMixError):
            router.set_learned(learned)


def test_needs_fit_is_meant(router, path):
    """Deciding, or saving, before fitting is an AutoMixError iff the router says it needs a fit."""
    if not router.needs_fit:
        assert router.needs_hindsight or len(router.decide(GRID)) == len(GRID)
        return
    message = f"^meta_verifier={path.stem} has learned nothing yet: call fit"
    acts = router.get_learned, router.sweep, router.describe, lambda: router.decide([observe(0.5)])
    for act in acts:
        with pytest.raises(AutoMixError, match=message):
            act()
    router.fit(typical())
    test_declares_what_it_needs(router)


def test_a_chain_of_another_length_is_refused_by_name(live, path):
    """Or the chain does not matter: what was fitted for two tiers sends questions of three on."""
    shown = Seen(0, 3, np.full((1, 1), 0.5), ("q",), questions=("q",), answers=("a",))
    said = "^"
    try:
        assert live.fit(typical()).choose(shown)[0] in (0, 1, 2)
    except AutoMixError as err:
        said = str(err)
    name = "threshold" if path.stem == "frugal_gpt" else path.stem
    assert said == "^" or said.startswith(f"meta_verifier={name} was fitted for 2 tiers and meets")


def test_hindsight_is_for_replays(router):
    """A router that reads scores it could not know refuses a live decision."""
    if not router.needs_hindsight:
        pytest.skip("decides by what it sees")
    with pytest.raises(AutoMixError):
        router.fit(typical()).decide([observe(0.5)])


def test_texts_that_are_missing_are_named(live, path):
    """Of the question before the first tier, or of the answer after it, by the router's name."""
    if not live.needs_texts or path.stem == "random":
        pytest.skip("reads no text")
    live.fit(typical())

    def blind():
        for tier in (-1, 0):
            live.choose(Seen(tier, 2, np.full((1, tier + 1), 0.5), ids=("q",)))

    with pytest.raises(AutoMixError, match=rf"^meta_verifier={path.stem} reads the \w+, and there"):
        blind()


def test_needs_verification_is_meant(live):
    """A router that does not ask for a verification decides the same whatever it says."""
    if live.needs_verification:
        pytest.skip("reads confidences")
    live.fit(typical())
    assert len({d.to for d in live.decide(GRID)}) == 1


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_a_missing_score_is_named(router, bad):
    """A router that learns names task, document and tier of a score that is no number."""
    if not router.needs_fit:
        pytest.skip("learns nothing")
    records = pair_records([*TYPICAL, (0.5, 1.0, bad)])
    with pytest.raises(AutoMixError, match=f"task toy, doc_id {len(TYPICAL)}, tier 1"):
        router.fit(columns(records))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_records_are_refused(router, count):
    """A router that learns wants at least two records."""
    if not router.needs_fit:
        pytest.skip("learns nothing")
    with pytest.raises(AutoMixError, match=r"at least \d+ records|no records to fit on"):
        router.fit(columns(pair_records(TYPICAL[:count])))


# --------------------------------------------------------------------------- the family of policies


def test_a_sweep_goes_from_cheap_to_dear(make):
    """The family is fitted, ordered by cost on the fitting data, and leaves the router as it is."""
    router, outcomes = make().fit(typical()), typical()
    before = json.dumps(router.get_learned()), routes(router, outcomes)
    family = router.sweep()
    costs = [follow(policy, outcomes).cost.mean() for _, policy in family]
    assert costs
    if isinstance(router, FrugalGPT):
        # ordered by the cost of out-of-fold scores, its parameter; the encoder knows its own
        # training data, on which one list of tiers may cost more or less beside another
        assert (np.diff([parameter for parameter, _ in family]) >= -1e-9).all()
        lists = [policy.threshold_.policy_.tiers for _, policy in family]
        groups = [[c for c, of in zip(costs, lists, strict=True) if of == t] for t in set(lists)]
    else:
        groups = [costs]
    assert all((np.diff(group) >= -1e-9).all() for group in groups)
    assert len(family) == 1 or all(isinstance(parameter, float) for parameter, _ in family)
    assert (json.dumps(router.get_learned()), routes(router, outcomes)) == before


def test_a_budget_is_kept_with_the_best_quality(make, in_sample):
    """objective=budget: no policy of the family within the budget scores higher."""
    outcomes = typical()
    for budget in (2.0, 10.0, 30.0, 60.0):
        chosen = make(objective="budget", mean_cost=budget).fit(outcomes)
        path = follow(chosen, outcomes)
        within = _within(chosen, outcomes, lambda p, b=budget: p.cost.mean() <= b + 1e-9)
        assert not within or path.cost.mean() <= budget + 1e-9
        assert all(path.score.mean() >= p.score.mean() - 1e-9 for p in within)


def test_a_target_is_reached_at_the_least_cost(make, in_sample):
    """objective=target: no policy of the family that reaches the target costs less."""
    outcomes = typical()
    for target in (0.5, 0.9, 1.0):
        least = target * outcomes.scores[:, -1].mean() - 1e-9
        chosen = make(objective="target", target=target).fit(outcomes)
        path = follow(chosen, outcomes)
        within = _within(chosen, outcomes, lambda p, least=least: p.score.mean() >= least)
        assert not within or path.score.mean() >= least
        assert all(path.cost.mean() <= p.cost.mean() + 1e-9 for p in within)


def test_the_objective_has_its_number(make, parametric):
    """A budget or target that is not given is an AutoMixError that names it."""
    for name in ("budget", "target"):
        with pytest.raises(AutoMixError, match=name):
            make(objective=name).fit(typical())


def test_prices_reach_the_objective(make, parametric):
    """The cost model is not ignored: the same budget buys less where the last tier is dear."""
    escalated = [
        np.mean(routes(make(objective="budget", mean_cost=12.0).fit(data), data))
        for data in (
            columns(pair_records(TYPICAL), PaperCost(tiers=(1.0, last))) for last in (10.0, 1000.0)
        )
    ]
    assert escalated[0] > escalated[1]
    assert PAPER.tiers == (1.0, 50.0)


def _within(router, outcomes, condition):
    paths = [follow(policy, outcomes) for _, policy in router.sweep()]
    return [path for path in paths if condition(path)]


# --------------------------------------------------------------------------- words, policies read

WORDS = Path(__file__).parents[1] / "data" / "described.json"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def chained():
    """Fitting data by name: of two tiers, of three, and of two of which the last is the worse."""
    worse = pair_records([(v, llm, slm) for v, slm, llm in TYPICAL])
    rows = enumerate(TYPICAL)
    three = [record(i, (slm, (slm + llm) / 2, llm), (v, v)) for i, (v, slm, llm) in rows]
    yield "two tiers", typical()
    yield "three tiers", columns(three, PaperCost(tiers=(1.0, 10.0, 50.0), verifier=1.0))
    yield "a last tier that is worse", columns(worse)


def words_of(router, outcomes):
    """What a router says of its fit, and of each decision but the number that it rests on."""
    router.fit(outcomes)
    last = outcomes.num_tiers - 1
    shown = [
        Observation(-1, last + 1, (), observe(None).question),
        *(observe(v, t, last + 1) for t in range(last + 1) for v in (0.0, 0.5, None)),
    ]
    reasons = [] if router.needs_hindsight else [d.reason for d in router.decide(shown)]
    return [router.describe(), *router.notes(), *reasons]


def test_describes_itself_in_these_words(path, make, fast_routers):
    """Descriptions, notes and reasons are those of described.json, their numbers to 1 in 1,000."""
    expected = json.loads(WORDS.read_text(encoding="utf-8")).get(path.stem)
    if expected is None:
        pytest.skip("a router of one's own")
    tiny = path.stem in fast_routers  # untrained weights: their numbers are anybody's
    for name, outcomes in chained():
        for said, meant in zip(words_of(make(), outcomes), expected[name], strict=True):
            said = said.replace(fast_routers.get(path.stem, {}).get("encoder", "\0"), "ENCODER")
            assert NUMBER.sub("#", said) == NUMBER.sub("#", meant)
            numbers, others = (list(map(float, NUMBER.findall(t))) for t in (said, meant))
            assert tiny or numbers == pytest.approx(others, rel=1e-3, abs=1e-3)


# What a policy may lack or have otherwise: policies of a range, what older files do not hold, what
# is shown and not decided by, and a list where there is none.
MAY_DIFFER = re.compile(
    r"(family|prices|thresholds)\.-\[|\.-(tiers|num_tiers)$|^(threshold\.)?(value|objective)\.None$"
    r"|(family|rules|signals)\.{}$|^summary\.\[0\]\.(counts|next)\.\[0\]\.-7.5$"
)


def spoilt(value):
    """(place, copy of a policy) with one value of it removed, added, or of another kind."""
    if isinstance(value, dict):
        yield "extra", {**value, "extra": 0.0}
        for key, held in value.items():
            yield f"-{key}", {k: v for k, v in value.items() if k != key}
            for place, other in spoilt(held):
                yield f"{key}.{place}", {**value, key: other}
        return
    if isinstance(value, list) and value:
        yield "-[0]", value[1:]
        for place, other in spoilt(value[0]):
            yield f"[0].{place}", [other, *value[1:]]
    for other in (None, "no policy", -7.5, [], {}, float("nan")):
        if type(other) is not type(value):
            yield repr(other), other


def test_a_spoilt_policy_is_refused(make):
    """A value that is missing, too much or of another kind is one clear error, wherever it is."""
    learned, router = make().fit(typical()).get_learned(), make()
    for place, other in spoilt(json.loads(json.dumps(learned))):
        try:
            router.set_learned(other)
        except AutoMixError:
            continue
        assert MAY_DIFFER.search(place), place
        assert router.describe()
        assert json.dumps(router.get_learned(), allow_nan=False)
