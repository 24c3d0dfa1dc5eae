"""``automix_eval.load_policy``: a fitted policy that decides in a service.

::

    policy = automix_eval.load_policy("automix_policy_coqa_....json")
    answer, v = ask_small(question)              # v: the confidence that the policy was fitted on
    if policy.decide(confidence=v).escalates:
        answer = ask_large(question)

The files are read once and nothing is written: an object may be shared by threads.
"""

from __future__ import annotations

from pathlib import Path

from automix_eval.config.parts import restore
from automix_eval.meta_verifiers.served_policy import ServedPolicy
from automix_eval.records import policies


def load_policy(path: str | Path) -> ServedPolicy:
    """Read a policy file, or the output of a replay, and make its router.

    Args:
        path: ``automix_policy_*.json`` or a replay's ``out.json``.

    Raises:
        AutoMixError: It is no policy, was changed after it was written, or is one of another
            release.
    """
    held = policies.load(Path(path).expanduser(), inside="policy")
    return ServedPolicy(restore(held), held)
