"""What the page tells of one run: its verifier, its fitted policy, its calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from automix_eval.analysis.figures import TaskReport, VerifierFigures
from automix_eval.report.aim_lines import abstention_words, aim_words, detectable_words, kept_words
from automix_eval.report.board_picture import defined, tier_name
from automix_eval.report.page import page_tables, run_drawings
from automix_eval.report.page.words import with_interval
from automix_eval.report.policy_picture import PolicyPicture, policy_pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, its title and what to see in it."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class TierPart:
    """The verifier and the fitted rule of one tier of one run."""

    title: str
    words: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class RunPart:
    """What a panel tells of one run.

    Attributes:
        about: Provenance in a few sentences.
        promises: What was aimed at and reached, and which share of the LLM's quality is kept.
        policy_json: The policy file's own values; empty if there is none.
    """

    task: TaskReport
    title: str
    about: str
    promises: tuple[str, ...]
    tiers: tuple[TierPart, ...]
    policy_json: str
    calls: page_tables.PageTable
    latency: page_tables.PageTable | None
    shortened: tuple[str, ...]


def run_part(task: TaskReport, many_runs: bool) -> RunPart:
    """The part of one run; it has a title where a board has several."""
    figures = task.figures
    chain = " \u2192 ".join(task.tiers)
    made = ", ".join(filter(None, (task.created, f"automix-eval {task.version}")))
    return RunPart(
        task=task,
        title=f"Run {task.label or task.run_id}: {task.meta_verifier}" if many_runs else "",
        about=f"Run {task.run_id} ({made}). Tiers: {chain}. Verifier: {task.verifier}. "
        f"Meta-verifier: {task.meta_verifier}. Cost: {task.cost}. LLM figures from: "
        f"{task.llm_source or 'nowhere'}.",
        promises=(
            *((aim_words(task.aim, lambda u: u.reason),) if task.aim else ()),
            *((abstention_words(task.abstention),) if task.abstention else ()),
            kept_words(task.kept),
            detectable_words(task.detectable, lambda u: u.reason),
        ),
        tiers=tuple(_tier_parts(task)),
        policy_json=json.dumps(task.policy, indent=1, ensure_ascii=False) if task.policy else "",
        calls=page_tables.calls(task),
        latency=page_tables.latency(task),
        shortened=tuple(
            f"{tier_name(t.tier, len(task.tiers))}, {t.role}: {t.shortened} of {t.prompts} "
            f"prompts did not fit; {t.demonstrations} demonstrations and {t.context_tokens} "
            "context tokens were left out."
            for t in figures.truncations
        ),
    )


def _tier_parts(task: TaskReport) -> Iterator[TierPart]:
    verifiers = {v.tier: v for v in task.figures.verifiers}
    rules = {p.tier: p for p in policy_pictures(task.policy)}
    for tier in sorted({*verifiers, *rules}):
        name = tier_name(tier, len(task.tiers))
        found = [
            *(_verifier_pictures(verifiers[tier]) if tier in verifiers else ()),
            *([_policy_picture(rules[tier], name)] if tier in rules else ()),
        ]
        what = [w for w, part in (("verifier", verifiers), ("policy", rules)) if tier in part]
        title = f"{name[0].upper()}{name[1:]}: {' and '.join(what)}"
        words = _verifier_words(verifiers[tier]) if tier in verifiers else ""
        yield TierPart(title, words, tuple(p for p in found if p))


def _verifier_pictures(figures: VerifierFigures) -> tuple[Picture | None, ...]:
    return (
        picture_of(
            "Reliability of the confidence",
            run_drawings.reliability(figures),
            "On the dashed line a confidence of 80 % is right 80 % of the time; below it the "
            "verifier trusts its answers too much. Larger dots stand for more answers.",
        ),
        picture_of(
            "Confidence of right and of wrong answers",
            run_drawings.distribution(figures),
            "A verifier that can be routed by has its right answers (up) on the right and its "
            "wrong ones (down) on the left.",
        ),
    )


def _verifier_words(figures: VerifierFigures) -> str:
    parts = [f"AUROC {with_interval(figures.auroc, '.3f')}"]
    if defined(figures.benefit_auroc):
        parts.append(f"AUROC for benefit {with_interval(figures.benefit_auroc, '.3f')}")
    if defined(figures.calibration_error):
        parts.append(f"calibration error {with_interval(figures.calibration_error, '.3f')}")
        parts.append(f"Brier score {with_interval(figures.brier, '.3f')}")
        parts.append(f"risk-coverage area {with_interval(figures.risk_coverage, '.3f')}")
    if figures.distinct == 1:
        parts.append("the confidence is the same for every answer, so nothing can route by it")
    outcomes = ", ".join(f"{k.replace('_', ' ')} {n:,}" for k, n in figures.outcomes.items())
    parts.append(f"outcomes: {outcomes}")
    if figures.num_unparsable:
        parts.append(f"{figures.num_unparsable:,} of {figures.num_samples:,} samples undecided")
    if figures.num_saved:
        wanted = figures.num_samples + figures.num_saved
        parts.append(f"{figures.num_saved:,} of {wanted:,} samples saved by stopping early")
    return "; ".join(parts) + "."


def _policy_picture(picture: PolicyPicture, name: str) -> Picture:
    caption = picture.words
    if picture.belief:
        caption += (
            f" Above: the belief over the hidden states. Simple: the {name}'s answer is as good as "
            "the next tier's; Complex: the next tier's is better; Unsolvable: neither is good."
        )
    # Safe: see picture_of.
    return Picture(
        "Policy: from confidence to action", Markup(run_drawings.policy(picture)), caption
    )


def picture_of(title: str, svg: str, caption: str) -> Picture | None:
    """A drawing as a picture; None for an empty one."""
    # Safe: a Drawing's markup comes from ElementTree, which escapes every text.
    return Picture(title, Markup(svg), caption) if svg else None
