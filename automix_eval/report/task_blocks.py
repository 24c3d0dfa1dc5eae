"""The report in words and tables, before it is written as text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.figures import Figure, Report, TaskFigures, TaskReport, VerifierFigures
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import (
    Block,
    Heading,
    Paragraph,
    Reasons,
    Table,
    known_text,
    value_text,
)
from automix_eval.report.board_picture import tier_name
from automix_eval.report.leaderboard_blocks import board_blocks
from automix_eval.report.legend import legend
from automix_eval.report.point_blocks import points_blocks
from automix_eval.safety.text import clip


def report_blocks(report: Report) -> list[Block]:
    """The whole report."""
    blocks: list[Block] = [Heading("AutoMix report", 1)]
    blocks += points_blocks(report)
    for task in report.tasks:
        blocks += _task(task)
    if report.tasks:
        blocks += _overall(report.tasks)
    for board in report.boards:
        blocks += board_blocks(board)
    blocks += legend(report)
    if report.warnings:
        blocks += [Heading("Warnings", 2), *(Paragraph(w, "! ") for w in report.warnings)]
    return blocks


def _task(task: TaskReport) -> list[Block]:
    figures, reasons = task.figures, Reasons()
    blocks: list[Block] = [
        Heading(f"Run {task.run_id}, task {task.task}", 2),
        Paragraph(
            ", ".join(
                filter(None, (task.label, task.created, f"automix-eval {task.version or '?'}"))
            )
            + "."
        ),
        Paragraph(
            f"Verifier: {task.verifier}; meta-verifier: {task.meta_verifier}. LLM figures from: "
            f"{task.llm_source or 'nowhere'}."
        ),
        Paragraph(_ibc_line(figures, reasons)),
        *reasons.blocks(),
    ]
    blocks += _calls(task)
    blocks += latency_blocks(task)
    for verifier in figures.verifiers:
        blocks += _verifier(task, verifier)
    blocks += [
        Paragraph(
            f"Shortened prompts: {t.shortened} of {t.prompts} ({_tier(task, t.tier)}, {t.role}): "
            f"{t.demonstrations} demonstrations and {t.context_tokens} context tokens left out."
        )
        for t in figures.truncations
    ]
    return [*blocks, *(Paragraph(w, "! ") for w in task.warnings)]


def _ibc_line(figures: TaskFigures, reasons: Reasons) -> str:
    method, base = (
        "-" if system.ibc is None else reasons.show(system.ibc, ".3g")
        for system in (figures.method, figures.llm)
    )
    return f"IBC: AutoMix {method}, always asking the LLM {base}"


def _calls(task: TaskReport) -> list[Block]:
    figures = task.figures
    total, asked = figures.num_questions, figures.final_tiers[-1]
    saved = (
        f"LLM answers saved against always asking the LLM: {total - asked} of {total} "
        f"({(total - asked) / total:.1%})."
    )
    if figures.llm_answers_recorded > asked:
        saved += (
            f" This run asked the LLM {figures.llm_answers_recorded} questions all the same, to "
            "record every tier; those answers are not in the cost of AutoMix."
        )
    if len(task.tiers) > 2:
        counts = ", ".join(
            f"{_tier(task, i)} {n}" for i, n in enumerate(figures.final_tiers)
        )  # fmt: skip
        saved += f" Final answers by tier: {counts}."
    rows = tuple(
        (
            f"{_tier(task, c.tier)}, {c.role}",
            *map(str, (c.on_path, c.made, c.stored, c.calibration_made, c.calibration_stored)),
        )
        for c in figures.calls
    )
    header = ("Calls", "on the path", "made", "from store", "calibration", "its store")
    return [Table(header, rows), Paragraph(saved)]


def _verifier(task: TaskReport, figures: VerifierFigures) -> list[Block]:
    reasons = Reasons()
    auroc = reasons.show(figures.auroc.value, ".3f")
    name = _tier(task, figures.tier)
    text = f"Verifier on {'' if name[0].islower() else 'the '}{name}: AUROC {auroc} "
    text += f"(correct = score > {figures.right_above:.4g})"
    if not isinstance(figures.benefit_auroc.value, Undefined):
        text += f", {figures.benefit_auroc.value:.3f} for benefit "
        text += f"(the LLM's score > {figures.helps_above:.4g} higher)"
    if not isinstance(figures.benefit_correlation.value, Undefined):
        text += f", rank correlation with it {figures.benefit_correlation.value:+.3f}"
    if not isinstance(figures.brier.value, Undefined):
        text += ", calibration error " + reasons.show(figures.calibration_error.value, ".3f")
        text += f", Brier score {figures.brier.value:.3f}, area under the risk-coverage curve "
        text += reasons.show(figures.risk_coverage.value, ".3f")
    text += ". "
    if figures.five_numbers is None:
        text += "No answer has a confidence. "
    else:
        names = ("min", "quartile", "median", "quartile", "max")
        numbers = zip(names, figures.five_numbers, strict=True)
        text += "Confidence: " + ", ".join(f"{n} {v:.3g}" for n, v in numbers) + ". "
        if figures.distinct == 1:
            text += "It is the same for every answer, so no meta-verifier can route by it. "
    text += "Outcomes: " + ", ".join(f"{k} {n}" for k, n in figures.outcomes.items()) + "."
    if figures.num_unparsable:
        text += f" Samples without a decision: {figures.num_unparsable}"
        text += f" of {figures.num_samples}." if figures.num_samples else "."
    if figures.num_saved:
        wanted = figures.num_samples + figures.num_saved
        text += f" Stopped early: {figures.num_saved} of {wanted} samples saved."
    return [Paragraph(text), *reasons.blocks()]


def _overall(tasks: Sequence[TaskReport]) -> list[Block]:
    header = ("Task", "n", "Meta-verifier", "SLM", "AutoMix", "LLM", "Cost", "Esc.", "delta IBC")
    rows = []
    for t in tasks:
        f = t.figures
        values = [_short(s.quality, ".3f") for s in (f.slm, f.method, f.llm)]
        rows.append(
            (
                clip(t.task, 16) + ("*" if t.sample else ""),
                str(f.num_questions),
                clip(t.meta_verifier, 16),
                *values,
                _short(f.method.cost, ".4g"),
                _short(f.method.escalation_rate, ".0%"),
                _short(f.delta_ibc, "+.0%"),
            )
        )
    return [Heading("Overall", 2), Table(header, tuple(rows))]


def _short(figure: Figure, form: str) -> str:
    if isinstance(figure.value, Undefined):
        return "undef."
    if form != "+.0%":
        return format(figure.value, form)
    return known_text(figure, form) + (" [undef.]" if figure.undefined else "")


def _tier(task: TaskReport, index: int) -> str:
    return tier_name(index, len(task.tiers))


NAMES = {"slm": "SLM", "verification": "verification", "llm": "LLM", "path": "the whole path"}


def latency_blocks(task: TaskReport) -> list[Block]:
    """Median, 95th and 99th percentile of each part; one sentence where none is defined."""
    if not task.latency:
        return []
    reasons = Reasons()
    two = value_text(task.waits_for_two, ".1%", reasons, "undefined ")
    share = Paragraph(f"Questions that wait for two models or more: {two}.")
    figures = [f for found in task.latency.values() for f in found.values()]
    if all(isinstance(f.value, Undefined) for f in figures):
        whole = task.latency["path"]["p50"].value
        text = whole.reason if isinstance(whole, Undefined) else ""
        return [share, *reasons.blocks(), Paragraph(f"Latency: undefined: {text}.")]
    rows = tuple(
        (NAMES[part], *(value_text(f, ".3f", reasons, "undefined ") for f in found.values()))
        for part, found in task.latency.items()
    )
    header = ("Latency, seconds", *next(iter(task.latency.values())))
    return [Table(header, rows), share, *reasons.blocks()]
