"""The contract of a meta-verifier, held by every configuration in hydra_conf/meta_verifier."""

from __future__ import annotations

import copy
import inspect
import json

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from router_records import GRID, TYPICAL, columns, observe, pair_records, record

from automix_eval.costs.paper import PaperCost
from automix_eval.paths import hydra_conf_dir
from automix_eval.types import AutoMixError, Decision

FILES = sorted((hydra_conf_dir() / "meta_verifier").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request):
    """One configuration file."""
    return request.param


@pytest.fixture
def router(path):
    """A fresh meta-verifier of one configuration."""
    return instantiate(OmegaConf.load(path))


def test_the_five_of_the_package_are_there():
    """The folder is the registry; an empty glob would pass every test below."""
    names = {"always_llm", "always_slm", "pomdp", "self_consistency", "threshold"}
    assert names <= {p.stem for p in FILES}


def test_the_configuration_lists_every_hyper_parameter(path):
    """Each hyper-parameter of the class stands in the YAML with its default, below a comment."""
    conf = OmegaConf.load(path)
    signature = inspect.signature(get_class(conf._target_))
    assert set(conf) - {"_target_"} == set(signature.parameters)
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, parameter in signature.parameters.items():
        value = OmegaConf.to_object(conf)[name]
        default = parameter.default
        assert value == (list(default) if isinstance(default, tuple) else default)
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("# ")


def test_hyper_parameters_are_stored_untouched(path, router):
    """The constructor stores what it was given, also after a fit."""
    conf = {k: v for k, v in OmegaConf.load(path).items() if k != "_target_"}
    router.fit(columns(pair_records(TYPICAL)))
    assert {k: getattr(router, k) for k in conf} == conf


def test_declares_what_it_needs(router):
    """The three attributes of the protocol have their types."""
    assert isinstance(router.needs_verification, bool)
    assert isinstance(router.needs_fit, bool)
    assert isinstance(router.needs_texts, bool)
    assert isinstance(router.needs_hindsight, bool)
    assert router.only_tier in (None, -1, 0)


def test_fit_returns_self_and_leaves_the_records_alone(router):
    """Fitting chains, and changes nothing it was given."""
    records = pair_records(TYPICAL)
    before = copy.deepcopy(records)
    assert router.fit(columns(records)) is router
    assert records == before


def test_one_decision_an_observation_within_the_chain(router):
    """Decisions come in order, one each, and lead to the same or a later tier."""
    router.fit(columns(pair_records(TYPICAL)))
    assert router.decide([]) == []
    decisions = router.decide(GRID)
    assert len(decisions) == len(GRID)
    for decision, observation in zip(decisions, GRID, strict=True):
        assert isinstance(decision, Decision)
        assert decision.tier == observation.tier
        assert observation.tier <= decision.to < observation.num_tiers
        assert decision.reason
        assert type(decision.to) is int


def test_the_last_tier_keeps(router):
    """The last tier has nowhere to send a question."""
    router.fit(columns(pair_records(TYPICAL)))
    (decision,) = router.decide([observe(None, tier=1)])
    assert decision.to == 1


def test_a_chain_of_three_tiers(router):
    """Every meta-verifier fits and decides in a longer chain, at every tier."""
    rows = [
        record(i, (slm, (slm + llm) / 2, llm), (v, v)) for i, (v, slm, llm) in enumerate(TYPICAL)
    ]
    router.fit(columns(rows, PaperCost(tiers=(1.0, 10.0, 50.0))))
    for tier in range(3):
        (decision,) = router.decide([observe(0.5, tier, 3)])
        assert tier <= decision.to <= 2


def test_learned_values_survive_json(path, router):
    """What was learned goes through JSON into a fresh instance that decides the same."""
    router.fit(columns(pair_records(TYPICAL)))
    text = json.dumps(router.get_learned(), allow_nan=False)
    other = instantiate(OmegaConf.load(path))
    other.set_learned(json.loads(text))
    assert other.decide(GRID) == router.decide(GRID)
    assert json.dumps(other.get_learned()) == text


def test_a_foreign_policy_is_refused(router):
    """A policy of another shape is an AutoMixError, not a surprise at the first decision."""
    for learned in ({"weights": [1.0]}, {"rules": [{"weights": 1.0}]}, {"rules": [3]}):
        with pytest.raises(AutoMixError):
            router.set_learned(learned)


def test_needs_fit_is_meant(router):
    """Deciding, or saving, before fitting is an AutoMixError iff the router says it needs a fit."""
    if not router.needs_fit:
        assert len(router.decide(GRID)) == len(GRID)
        return
    for act in (lambda: router.decide([observe(0.5)]), router.get_learned):
        with pytest.raises(AutoMixError, match="fit"):
            act()


def test_needs_verification_is_meant(router):
    """A router that does not ask for a verification decides the same whatever it says."""
    if router.needs_verification:
        pytest.skip("reads confidences")
    router.fit(columns(pair_records(TYPICAL)))
    assert len({d.to for d in router.decide(GRID)}) == 1


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
    with pytest.raises(AutoMixError, match=r"at least 2 records|no records to fit on"):
        router.fit(columns(pair_records(TYPICAL[:count])))
