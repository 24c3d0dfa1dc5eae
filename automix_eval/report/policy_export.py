"""A policy for where it is to be used: a module of Python, or the configuration of a gateway.

``vllm-semantic-router`` follows the project's own description of its ``confidence`` algorithm
(website/docs/tutorials/algorithm/looper/confidence.md, read in November 2026): a response is kept
where its confidence is at least ``threshold``, and a threshold lies in (0, 1].
"""

from __future__ import annotations

import math
import pprint
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml

from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.calibrators.by_rows import read_by
from automix_eval.meta_verifiers.calibrators.signals import CLIP
from automix_eval.meta_verifiers.compiled import CompiledPolicy, NotCompiledError, compile_policy
from automix_eval.meta_verifiers.served_policy import ServedPolicy
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable

# The module that `as_python` writes, and what it has besides for a policy behind a calibrator.
_FILES = Path(__file__).with_name("policy_files")


def export(policy: ServedPolicy, form: str, verifier_url: str | None = None) -> str:
    """The text of a policy for a service.

    Args:
        policy: The policy.
        form: ``python``, ``vllm-semantic-router`` or ``litellm``.
        verifier_url: Where the semantic router finds its entailment verifier.

    Raises:
        AutoMixError: The form cannot say what the policy does; names the reason.
    """
    writers = {"python": as_python, "litellm": as_litellm}
    try:
        if form in writers:
            return writers[form](policy)
        return as_vllm_semantic_router(policy, verifier_url)
    except NotCompiledError as err:
        name = printable(policy.held["meta_verifier"].get("name"))
        raise AutoMixError(
            f"this policy of {name} cannot be written as {form}: {err}. In a service "
            "automix_eval.load_policy(FILE).decide(...) decides by any policy"
        ) from err


def as_python(policy: ServedPolicy) -> str:
    """One module without dependencies that decides as the policy does."""
    router, calibration, math_names = policy.router, "", ""
    if isinstance(router, Calibrated):
        parts = [_calibration(entry) for entry in router.get_learned()["calibrators"]]
        calibration = _filled("calibration.py.txt", calibration=_literal(parts), clip=repr(CLIP))
        router, math_names = router.meta_verifier, "\nfrom math import exp, log, log1p"
    found = compile_policy(router, len(policy.tiers))
    module = _filled(
        "module.py.txt",
        more_imports=math_names,
        about=_literal(_about(policy)),
        tiers=_literal(tuple(printable(t) for t in policy.tiers)),
        first=str(found.first),
        edges=_literal(found.edges),
        levels=_literal(found.levels),
        tables="\n".join(_entry(path, table) for path, table in found.tables.items()),
        path="tuple(asked)" if found.by_path else "(asked[-1],)",
    )
    return module + calibration


def _filled(file: str, **values: str) -> str:
    return Template((_FILES / file).read_text(encoding="utf-8")).substitute(values)


def as_litellm(policy: ServedPolicy) -> str:
    """A ``model_list`` of LiteLLM, for a policy that asks one model for every question."""
    found = compile_policy(policy.router, len(policy.tiers))
    if not found.single:
        raise NotCompiledError(
            "LiteLLM's routers choose a model from the request, before any has answered, and this "
            "policy reads the confidence of an answer. --as python gives a module that a custom "
            "callback can call"
        )
    model = printable(policy.tiers[found.first])
    value = {"model_list": [{"model_name": "automix", "litellm_params": {"model": model}}]}
    return _head(policy, "LiteLLM", "one model answers every question") + _yaml(value)


def as_vllm_semantic_router(policy: ServedPolicy, verifier_url: str | None) -> str:
    """The candidates and the ``confidence`` algorithm of a decision of vLLM Semantic Router."""
    found = compile_policy(policy.router, len(policy.tiers))
    path, bound = _one_threshold(found)
    method, threshold, settings = _signal(policy.verifier, bound, verifier_url)
    value = {
        "modelRefs": [{"model": printable(policy.tiers[t])} for t in path],
        "algorithm": {
            "type": "confidence",
            "minimum_candidates": 2,
            "confidence": {
                "confidence_method": method,
                "threshold": threshold,
                "escalation_order": "declared",
                "on_error": "skip",
                **settings,
            },
        },
    }
    said = "keys of a routing decision: give models the names of your configuration"
    return _head(policy, "vLLM Semantic Router", said) + _yaml(value)


def _one_threshold(found: CompiledPolicy) -> tuple[list[int], float]:
    """The tiers asked in order, and the least confidence that is kept, the same at all of them."""
    if found.single:
        raise NotCompiledError("it asks one model for every question, so there is no threshold")
    path, bounds = [found.first], set()
    while path[-1] < found.num_tiers - 1:
        tier = path[-1]
        key = tuple(path) if found.by_path else (tier,)
        table, edges = found.tables[key], found.edges[tier]
        if table.size != len(edges) + 2:
            raise NotCompiledError("it reads more than the confidence of the tier reached")
        first, *others = table.ravel().tolist()
        if others == [tier] and first == tier:
            break  # the last tier that is asked: whatever its confidence, its answer is kept
        if first == tier or others != [tier, first]:
            raise NotCompiledError(
                "it is not one threshold: keep an answer from some confidence on, and escalate "
                "below it and where there is no confidence"
            )
        bounds.add(edges[0])
        path.append(first)
    if len(bounds) != 1:
        raise NotCompiledError(f"its tiers have the thresholds {sorted(bounds)}, not one")
    return path, bounds.pop()


def _signal(
    verifier: Mapping[str, Any] | None, bound: float, verifier_url: str | None
) -> tuple[str, float, dict[str, Any]]:
    """Its name there, the threshold in its unit, and what else it needs."""
    held = {} if verifier is None else dict(verifier)
    name, statistic = held.get("name"), held.get("statistic")
    if name == "few_shot":
        if not verifier_url:
            raise NotCompiledError(
                "few-shot verification is automix_entailment there, which needs its verifier's "
                "address: --verifier-url URL"
            )
        return "automix_entailment", bound, {"verifier_server_url": verifier_url}
    if name == "margin" and statistic == "mean_probability":
        # there max(0, 1 + (mean log-probability) / 3), here e to the mean log-probability
        if bound <= math.exp(-3.0):
            raise NotCompiledError(
                f"its threshold {bound:.4g} is below e^-3, where the signal is 0 there"
            )
        # an observed confidence may be the threshold itself: rounding must not turn that decision
        return "avg_logprob", min(1.0, 1.0 + math.log(bound) / 3.0 + 1e-12), {}
    raise NotCompiledError(
        f"it has no signal like that of verifier={printable(name or 'unknown')}"
        + (f" with statistic={printable(statistic)}" if statistic else "")
        + ": margin with mean_probability (avg_logprob) and few_shot (automix_entailment) have one"
    )


def _calibration(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A tier's calibrator, as the module reads it."""
    names, last = [str(n) for n in entry["signals"]], entry.get("last")
    return {
        "signals": names,
        "own": _calibrator(entry["learned"], names),
        "last": None if last is None else _calibrator(last["learned"], names),
        "weight": None if last is None else last["weight"],
        "mean": None if last is None else last["mean"],
    }


def _calibrator(learned: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    if "chosen" in learned:
        return _calibrator(learned["chosen"], names[: read_by(learned["kind"])])
    if "x" in learned:
        inner = learned["combination"]
        of = names[0] if inner is None else _calibrator(inner, names)
        return {"of": of, "x": learned["x"], "y": learned["y"]}
    made = learned["preparation"]
    columns = zip(
        names, made["logit"], made["mean"], made["scale"], learned["weights"], strict=True
    )
    return {"intercept": learned["intercept"], "terms": [list(column) for column in columns]}


def _about(policy: ServedPolicy) -> dict[str, Any]:
    fitted = policy.held["fitted_on"]
    return {
        "meta_verifier": _plain(policy.held["meta_verifier"].get("name")),
        **{key: _plain(fitted.get(key)) for key in ("task", "verifier", "cost", "num_questions")},
    }


def _plain(value: Any) -> Any:
    """Values of a policy file as literals: texts are printable, and nothing is code."""
    if isinstance(value, Mapping):
        return {printable(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return printable(value)


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=96, compact=True, sort_dicts=False)


def _entry(path: tuple[int, ...], table: Any) -> str:
    digits = "".join("0123456789abcdefghijklmnopqrstuvwxyz"[t] for t in table.ravel().tolist())
    parts = [digits[i : i + 84] for i in range(0, len(digits), 84)]
    lines = "\n".join(f'        "{part}"' for part in parts)
    return f"    {path!r}: (\n{lines}\n    ),"


def _head(policy: ServedPolicy, whose: str, said: str) -> str:
    facts = ", ".join(f"{k}: {v}" for k, v in _about(policy).items())
    return f"# {whose}: {said}.\n# From a policy of automix-eval; {printable(facts, 400)}\n"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
