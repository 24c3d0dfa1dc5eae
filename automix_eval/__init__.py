"""AutoMix (arXiv 2310.12963) as a model of the lm-evaluation-harness.

``evaluate`` runs an evaluation, ``read`` reads finished runs and tables, ``load_policy`` a fitted
policy that decides in a service; the other names are the interface of the authors' package
automix-llm, listed in :mod:`automix_eval.meta_verifiers.automix_llm`. Each is loaded on first use.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automix_eval.config.policy_files import load_policy as load_policy
    from automix_eval.harness.evaluate import evaluate as evaluate
    from automix_eval.meta_verifiers.automix_llm import *  # noqa: F403 (the names stand there)
    from automix_eval.report.results import read as read

# Where no site folder's .pth file did so (pip --target, PYTHONPATH). A policy needs no harness, so
# the package works alone too, and `automix-eval doctor` says what is missing.
with suppress(ModuleNotFoundError):
    import _automix_bridge  # noqa: F401

__version__ = "0.1.0"

_OURS = {
    "evaluate": "harness.evaluate",
    "load_policy": "config.policy_files",
    "read": "report.results",
}


def __getattr__(name: str) -> Any:
    if name in _OURS:
        return getattr(import_module(f"automix_eval.{_OURS[name]}"), name)
    if not name.startswith("_"):
        from automix_eval.meta_verifiers import automix_llm

        if name in automix_llm.__all__:
            return getattr(automix_llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
