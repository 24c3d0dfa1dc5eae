"""The POMDP's policy in words and tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.pomdp.costs import Levels
from automix_eval.meta_verifiers.pomdp.policy import Rule
from automix_eval.meta_verifiers.pomdp.problem import STATES
from automix_eval.meta_verifiers.pomdp.solve import Solver
from automix_eval.records.outcomes import ABSTAIN, FloatArray

# Rows of a table at most, beside one wherever the action changes.
GROUPS = 12


def summarise(solver: Solver, rule: Rule) -> tuple[Mapping[str, Any], ...]:
    """What explains a policy, for every tier but the last, as it acts where that is asked first.

    There is nothing to say of one tier alone that is none of the problem's. Neighbouring bins with
    the same action are taken together; the last group is "undefined".

    Returns:
        For each tier ``counts`` (3,) fitting questions a state, ``prior`` (3,), ``bounds`` between
        the groups of bins, ``observation`` (3, groups) P(group | state), ``belief`` (groups, 3)
        P(state | group), ``scores`` (3, 2) mean score of the tier and of the last one in a state,
        and ``next`` (groups,) the tier asked next at the cost level nearest the mean; and for each
        of the L cost levels its ``level_shares`` (L,), ``level_ratios`` (L, tiers ahead) what those
        cost beside their means, and ``level_kept`` (L,) share of its answers kept.
    """
    if len(rule.tiers) != solver.problem.num_tiers:
        return ()
    return tuple(_summary(solver, rule, t) for t in range(solver.problem.num_tiers - 1))


def describe(rule: Rule, undefined: object, parameter: str) -> str:
    """The policy as text: its start, then states, observations, beliefs, actions of each tier.

    Args:
        rule: The policy.
        undefined: What an undefined confidence is.
        parameter: What the policy's parameter is called.
    """
    mixed = rule.high is not rule.low
    starts = [int(rule.low[()])] + ([int(rule.high[()])] if mixed else [])
    lines = [
        f"POMDP of {rule.num_tiers} tiers, {parameter} = {rule.parameter:.6g}",
        f"on the fitting data: expected score {rule.score:.4f}, cost {rule.cost:.6g}, escalates "
        f"{rule.escalation:.1%}, objective "
        + ("undefined" if rule.objective is None else f"{rule.objective:.6g}"),
        "starts at tier " + " or ".join(str(t) for t in dict.fromkeys(starts)),
    ]
    if mixed:
        lines.append(
            f"a mixture: {rule.share:.1%} of the questions, drawn by their identity, follow a "
            "second, dearer policy; the tables show the first"
        )
    if rule.note:
        lines.append(f"note: {rule.note}")
    lines.append(f"undefined confidence: {undefined}")
    tables = ["\n".join(lines)]
    for index, summary in enumerate(rule.summary):
        tier, *ahead = rule.tiers[index:]
        tables.append(_table(summary, tier, ahead[-1]))
        if len(rule.levels[tier]):
            tables.append(_level_table(summary, tier, ahead, rule.levels[tier]))
    return "\n\n".join(tables)


def belief_at(rule: Rule, tier: int, confidence: float) -> str:
    """The belief after a confidence at a tier, where that is all that was seen."""
    summary = rule.summary[rule.tiers.index(tier)]
    group = bisect_right(summary["bounds"], confidence)
    return ", ".join(f"{s} {p:.2f}" for s, p in zip(STATES, summary["belief"][group], strict=True))


def _summary(solver: Solver, rule: Rule, tier: int) -> dict[str, Any]:
    problem, axis, named = solver.problem, solver.problem.axes[tier], rule.tiers[tier]
    mass = solver.marginal(problem.mass, (tier,))
    joint = np.stack(
        [solver.marginal(problem.mass * table, (tier,)) for table in problem.states[tier]]
    )
    actions, levels = rule.low[named,], problem.levels[tier]
    action = actions[_usual(levels)]
    kept = (actions == named) @ mass
    bins = len(axis) - 1
    size = np.cumsum(mass[:bins]) * GROUPS / max(mass[:bins].sum(), 1e-300)
    block = np.minimum(np.ceil(size - 1e-9), GROUPS)
    new = [i for i in range(1, bins) if block[i] != block[i - 1] or action[i] != action[i - 1]]
    starts = [0, *new, bins]
    seen = np.add.reduceat(joint, starts, axis=1)
    return {
        "counts": problem.state_counts[tier].tolist(),
        "prior": (joint.sum(axis=1) / joint.sum()).tolist(),
        "bounds": [float(axis.edges[i - 1]) for i in new],
        "observation": (seen / seen.sum(axis=1, keepdims=True)).tolist(),
        "belief": (seen / seen.sum(axis=0)).T.tolist(),
        "scores": problem.state_scores[tier].tolist(),
        "next": [int(action[i]) for i in starts],
        "level_shares": levels.shares.tolist(),
        "level_ratios": levels.ratios[:, tier + 1 :].tolist(),
        "level_kept": kept.tolist(),
    }


def _usual(levels: Levels) -> int:
    """The level whose tiers ahead cost closest to their means."""
    return int(np.argmin(np.abs(levels.ratios - 1.0).max(axis=1)))


def _table(summary: Mapping[str, Any], tier: int, last: int) -> str:
    lines = [
        f"tier {tier} (states of the pair {tier}, {last})",
        f"{'state':<12}{'questions':>10}{'prior':>8}{f'tier {tier}':>8}{f'tier {last}':>8}"
        f"{'gain':>8}",
    ]
    for name, count, share, (keep, after) in zip(
        STATES, summary["counts"], summary["prior"], summary["scores"], strict=True
    ):
        lines.append(
            f"{name:<12}{count:>10}{share:>8.3f}{keep:>8.3f}{after:>8.3f}{after - keep:>+8.3f}"
        )
    lines += ["", _sentence(summary, tier)]
    head = "".join(f"{name:>12}" for name in STATES)
    lines += ["", f"{'':<24}{'P(bin | state)':>36}{'P(state | bin)':>36}"]
    lines.append(f"{'confidence':<24}{head}{head}  action")
    for index, to in enumerate(summary["next"]):
        seen = "".join(f"{row[index]:>12.4f}" for row in summary["observation"])
        believed = "".join(f"{p:>12.4f}" for p in summary["belief"][index])
        action = {tier: "keep", ABSTAIN: "abstain"}.get(to, f"ask tier {to}")
        lines.append(f"{_label(summary, index):<24}{seen}{believed}  {action}")
    return "\n".join(lines)


def _sentence(summary: Mapping[str, Any], tier: int) -> str:
    """What is done with which confidences, groups of one action taken together."""
    bounds, to = [0.0, *summary["bounds"], 1.0], summary["next"][:-1]
    said = []
    start = 0
    for end in range(1, len(to) + 1):
        if end == len(to) or to[end] != to[start]:
            words = {tier: "keep the answer", ABSTAIN: "abstain"}
            action = words.get(to[start], f"escalate to tier {to[start]}")
            said.append(f"{action} from {bounds[start]:.4g} to {bounds[end]:.4g}")
            start = end
    return f"by the confidence of tier {tier}: {', '.join(said)}"


def _level_table(
    summary: Mapping[str, Any], tier: int, ahead: Sequence[int], edges: FloatArray
) -> str:
    ratios = np.array(summary["level_ratios"])
    lines = [
        f"cost levels of a first answer by tier {tier} (costs ahead beside their means; the "
        "actions above are those of the level nearest 1)",
        f"{'cost below':<14}{'share':>8}{'kept':>8}" + "".join(f"{f'tier {j}':>9}" for j in ahead),
    ]
    bounds = [*(f"{e:.6g}" for e in edges), "any"]
    for bound, share, kept, row in zip(
        bounds, summary["level_shares"], summary["level_kept"], ratios, strict=True
    ):
        costs = "".join(f"{r:>9.3f}" for r in row)
        lines.append(f"{bound:<14}{share:>8.1%}{kept:>8.1%}{costs}")
    return "\n".join(lines)


def _label(summary: Mapping[str, Any], index: int) -> str:
    if index == len(summary["next"]) - 1:
        return "undefined"
    bounds = [0.0, *summary["bounds"], 1.0]
    close = "]" if index == len(bounds) - 2 else ")"
    return f"[{bounds[index]:.6g}, {bounds[index + 1]:.6g}{close}"
