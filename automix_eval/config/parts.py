"""The parts of a run, made by their names in hydra_conf/: backend, verifier, router, cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from automix_eval.cascade.budget import Budget
from automix_eval.config import compose as config
from automix_eval.config.compose import name_of, tier_names
from automix_eval.config.overrides import ConfigError
from automix_eval.costs.metered import MeteredCost
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.fixed_answer import FixedAnswer
from automix_eval.paths import hydra_conf_dir
from automix_eval.records.importers.model_outcomes import Importer
from automix_eval.records.policies import PolicyError
from automix_eval.records.stream import MOST_BESIDE
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Backend, CostModel, Verifier


def restore(policy: Mapping[str, Any]) -> MetaVerifier:
    """The fitted router of a checked policy, made by its name in hydra_conf/.

    The file chooses among the options there and gives values to their keys; it names no code.

    Raises:
        AutoMixError: The name, a hyper-parameter or a learned value is unknown or of a wrong kind.
    """
    values = dict(policy["meta_verifier"])
    if "${" in json.dumps(values):
        raise PolicyError("the policy's hyper-parameters refer to other values ('${...}')")
    arguments: dict[str, Any] = {"meta_verifier": values.pop("name", None)}
    for group in ("calibrator", "fixed_answer"):
        inner = values.pop(group, None)
        if inner is None:
            continue
        if not isinstance(inner, Mapping):
            raise PolicyError(f"the policy's {group} is {inner!r}, expected an object")
        arguments |= {f"{group}.{key}": value for key, value in inner.items() if key != "name"}
        if group == "calibrator":
            arguments[group] = inner.get("name")
    arguments |= {f"meta_verifier.{key}": value for key, value in values.items()}
    router = make_meta_verifier(config.build(arguments))
    router.set_learned(policy["learned"])
    return router


# Values of a group that are no argument of its class.
_SCORED_BY = ("metric", "scorer", "result")  # what a format calls the choice of its score
_NOT_PARAMETERS = ("policy", "transfer", "option", "with_calibrator")


def make_backend(config: DictConfig, tier: str) -> Backend:
    """The backend of a tier, by its name."""
    if not config.tiers:
        return cast(Backend, _instantiate(config[tier], f"{tier}={name_of(config, tier)}"))
    values = next(t for t in config.tiers if t.tier == tier)
    return cast(Backend, _instantiate(values, f"the tier {tier} ({values.option})"))


def make_verifier(config: DictConfig) -> Verifier:
    """The verifier."""
    return cast(Verifier, _make(config, "verifier"))


def make_meta_verifier(config: DictConfig) -> MetaVerifier:
    """The meta-verifier, not fitted, under the fixed-answer rule and behind its calibrator."""
    router = cast(MetaVerifier, _make(config, "meta_verifier"))
    rule = _fixed_answer(config)
    if rule:
        router = FixedAnswer(router, **rule)
    if config.calibrator.get("_target_"):
        _make(config, "calibrator")  # a wrong value is refused now, and not by the fit
    if config.calibrator.get("_target_") and router.needs_verification:
        return Calibrated(router, partial(_make, config, "calibrator"))
    return router


def live_meta_verifier(config: DictConfig) -> MetaVerifier:
    """The same for a run of models, before one is asked.

    Raises:
        AutoMixError: It reads what no run knows, or routes no chain of this length.
    """
    router = make_meta_verifier(config)
    if router.needs_hindsight:
        raise AutoMixError(
            f"meta_verifier={name_of(config, 'meta_verifier')} decides by scores "
            "that a live run does not know: it exists in automix-eval replay and in reports"
        )
    router.check_chain(len(tier_names(config)))
    return router


def make_cost(config: DictConfig) -> CostModel:
    """The cost model."""
    return cast(CostModel, _make(config, "cost"))


def checked_cost(config: DictConfig, verifier: Verifier) -> CostModel:
    """The cost model, which has a price for every tier and for what the verifier asks beside them.

    Raises:
        AutoMixError: It has none.
    """
    cost, tiers, numbers = make_cost(config), len(tier_names(config)), beside(config, verifier)
    cost.check(tiers)
    if numbers and isinstance(cost, MeteredCost):
        try:
            cost.check(tiers + len(numbers))
        except AutoMixError as err:
            named = [f"{n} is {model.label}" for model, n in numbers.items()]
            raise ConfigError(f"{err}. Of verifier.second tier {', '.join(named)}") from err
    return cost


def beside(config: DictConfig, verifier: Verifier) -> dict[Backend, int]:
    """Models that a verifier asks beside the tiers, each with its number after theirs.

    Raises:
        AutoMixError: There are more than records hold.
    """
    models = dict.fromkeys(getattr(verifier, "models", ()))
    if len(models) > MOST_BESIDE:
        raise ConfigError(
            f"the verifier asks {len(models)} models beside the tiers, of at most {MOST_BESIDE}"
        )
    return {model: number for number, model in enumerate(models, len(tier_names(config)))}


def make_importer(
    option: str, values: DictConfig, path: Path, metric: str | None = None
) -> tuple[str, Importer] | None:
    """The importer of a public table and its name; None for a table of the user's own.

    Args:
        option: Of the group ``format``; ``auto`` asks every format whether the path is surely its.
        values: The group's values.
        path: The file or folder.
        metric: What is the score, of a format that may hold several; for ``auto`` alone.

    Raises:
        AutoMixError: A metric is given, and the format that was found holds one score alone.
    """
    if option != "auto":
        made = _instantiate(values, f"format={option}") if values._target_ else None
        return (option, cast(Importer, made)) if made else None
    for name in config.options("format"):
        node = cast(DictConfig, OmegaConf.load(hydra_conf_dir() / "format" / f"{name}.yaml"))
        if node._target_:
            importer = cast(Importer, _instantiate(node, f"format={name}"))
            if importer.recognises(path):
                key = next((k for k in _SCORED_BY if k in node), None)
                if metric is None:
                    return name, importer
                if key is None:
                    raise AutoMixError(f"metric {metric}: {path} holds one score of an answer")
                node[key] = metric
                return name, cast(Importer, _instantiate(node, f"format={name}"))
    return None


def make_budget(config: DictConfig) -> Budget:
    """What the run may spend, in the units of its cost model."""
    limits = cast(dict[str, Any], OmegaConf.to_container(config.budget))
    return Budget(**limits, cost=make_cost(config), num_tiers=len(tier_names(config)))


def parameters(config: DictConfig, group: str) -> dict[str, Any]:
    """A group's values as plain data, without what is no hyper-parameter."""
    values = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(values, dict)
    return {str(k): v for k, v in values.items() if k != "_target_" and k not in _NOT_PARAMETERS}


def router_parameters(config: DictConfig) -> dict[str, Any]:
    """Hyper-parameters of the meta-verifier, its fixed-answer rule and its calibrator."""
    values = parameters(config, "meta_verifier")
    rule = _fixed_answer(config)
    if rule:
        values["fixed_answer"] = rule
    if config.calibrator.get("_target_"):
        calibrator = {"name": name_of(config, "calibrator"), **parameters(config, "calibrator")}
        values["calibrator"] = calibrator
    return values


def _fixed_answer(config: DictConfig) -> dict[str, Any]:
    """Arguments of the fixed-answer rule; empty where no answer is fixed."""
    values = cast(dict[str, Any], OmegaConf.to_container(config.fixed_answer, resolve=True))
    return values if values["answers"] else {}


def _make(config: DictConfig, group: str) -> Any:
    return _instantiate(config[group], f"{group}={name_of(config, group)}")


def _instantiate(node: DictConfig, what: str) -> Any:
    values = {k: v for k, v in node.items() if k not in _NOT_PARAMETERS}
    try:
        return instantiate(values, _convert_="all")
    except InstantiationException as err:
        cause = err.__cause__
        if isinstance(cause, AutoMixError):
            raise cause from None
        raise ConfigError(f"{what} cannot be made: {err}") from err
