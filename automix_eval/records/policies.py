"""Policies: what a meta-verifier learned, as a JSON file that says what it is valid for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automix_eval.records.task_settings import differing
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_json
from automix_eval.safety.text import listing
from automix_eval.safety.untrusted import read_json

FORMAT = "automix-eval policy"
VERSION = 1


class PolicyError(AutoMixError):
    """A policy file that is damaged or was fitted for something else."""


def make(
    name: str, params: Mapping[str, Any], learned: Mapping[str, Any], fitted_on: Mapping[str, Any]
) -> dict[str, Any]:
    """A policy as JSON.

    Args:
        name: The meta-verifier, as in the configuration.
        params: Its hyper-parameters.
        learned: What ``get_learned`` returned.
        fitted_on: task, split, documents, tiers, verifier, metric and cost.
    """
    policy: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "meta_verifier": {"name": name, **params},
        "learned": dict(learned),
        "fitted_on": dict(fitted_on),
    }
    return policy | {"sha256": _digest(policy)}


def save(path: Path, policy: Mapping[str, Any]) -> None:
    """Write a policy atomically."""
    write_json(path, policy)


def load(path: Path, inside: str | None = None) -> dict[str, Any]:
    """Read and check a policy file.

    Args:
        path: The file.
        inside: A key under which a file that is no policy may hold one, as a replay's result does.

    Raises:
        PolicyError: Missing, not a policy, or changed since it was written.
    """
    if path.is_dir():
        found = ", ".join(p.name for p in sorted(path.glob("automix_policy_*.json"))[:5])
        raise PolicyError(f"{path} is a folder: name a policy of it ({found or 'it has none'})")
    try:
        policy = read_json(path)
    except (OSError, ValueError) as err:
        raise PolicyError(f"the policy {path} cannot be read: {err}") from err
    if inside and isinstance(policy, dict) and isinstance(policy.get(inside), dict):
        policy = policy[inside]
    return _checked(path, policy)


_ALWAYS = ("task", "tiers", "verifier", "cost")


def mismatches(policy: Mapping[str, Any], name: str, now: Mapping[str, Any]) -> list[str]:
    """In what a policy differs from the run that wants to use it, one line each."""
    fitted = policy["fitted_on"]
    lines = []
    if policy["meta_verifier"].get("name") != name:
        lines.append(f"meta_verifier: fitted {policy['meta_verifier'].get('name')}, now {name}")
    for key in now:
        if key == "prompt":
            held = fitted.get(key) if fitted.get("task") == now.get("task") else None
            if keys := differing(held if isinstance(held, dict) else {}, now[key]):
                lines.append(f"the task has another {listing(keys)} than it was fitted on")
        # an older policy does not say under which filter it was fitted; no demonstrations are none
        elif (key in fitted or key in _ALWAYS) and (fitted.get(key) or None) != (now[key] or None):
            lines.append(f"{key}: fitted on {_short(fitted.get(key))}, now {_short(now.get(key))}")
    return lines


def _checked(path: Path, policy: Any) -> dict[str, Any]:
    if not isinstance(policy, dict) or policy.get("format") != FORMAT:
        raise PolicyError(f"{path} is not a policy of automix-eval")
    if policy.get("version") != VERSION:
        raise PolicyError(
            f"{path} has version {policy.get('version')!r}; this release reads {VERSION}"
        )
    if policy.get("sha256") != _digest({k: v for k, v in policy.items() if k != "sha256"}):
        raise PolicyError(
            f"{path} was changed after it was written (its hash does not match): fit it again by "
            "leaving meta_verifier.policy out"
        )
    if not all(isinstance(policy.get(k), dict) for k in ("meta_verifier", "learned", "fitted_on")):
        raise PolicyError(f"{path} lacks meta_verifier, learned or fitted_on: fit it again")
    return policy


def _digest(policy: Mapping[str, Any]) -> str:
    text = json.dumps(policy, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) < 160 else text[:157] + "..."
