"""The figures of a method, a row each: what every format shows of them, and how.

A new figure is a field of :class:`MethodFigures`, the function that computes it, and a row here.
CSV and JSON hold all of them; ``tables`` says where else a figure stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from automix_eval.analysis.figures import Figure, MethodFigures

TableName = Literal["text", "text, further", "page", "page, further", "latex", "harness"]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of every method.

    Attributes:
        name: Its name in the CSV and in the harness's results.
        field: The field of :class:`MethodFigures` that holds it; its name in a gate, too.
        heading: What the page writes above it.
        short: The same in the text, in Markdown and in LaTeX.
        meaning: What it is, in a sentence without its full stop.
        form: Its format; a ratio is shown in percent.
        higher: Whether more is better; None where that is no question.
        tables: Where it is shown besides CSV and JSON.
        several: Name -> figure, for a field that holds more than one; None for a single figure.
    """

    name: str
    field: str
    heading: str
    short: str
    meaning: str
    form: str
    higher: bool | None
    tables: tuple[TableName, ...]
    several: Callable[[MethodFigures], Mapping[str, Figure]] | None = None

    def figures(self, method: MethodFigures) -> Mapping[str, Figure]:
        """Its figures by their names in the CSV: one, one a cost region or tier, or none."""
        if self.several is None:
            return {self.name: getattr(method, self.field)}
        return self.several(method)

    def of(self, method: MethodFigures) -> Figure:
        """The one figure of a column that is in a table."""
        return self.figures(method)[self.name]

    @property
    def brief(self) -> str:
        """The format for a narrow column: whole percent."""
        return self.form.replace(".1%", ".0%")

    @property
    def fine(self) -> str:
        """The format for a spread over seeds, which may be small."""
        return self.form.replace(".3f", ".4f")


def shown_in(table: TableName) -> tuple[Column, ...]:
    """The columns of a table, from left to right."""
    return tuple(column for column in COLUMNS if table in column.tables)


def all_figures(method: MethodFigures) -> dict[str, Figure]:
    """Every figure of a method by its name in the CSV, in the order of the CSV."""
    return {name: f for column in COLUMNS for name, f in column.figures(method).items()}


def _cpt(share: float) -> Column:
    name = f"cpt_{share * 100:.0f}"
    return Column(
        name, "cpt", f"CPT({share:.0%})", f"CPT {share:.0%}",
        f"least share of the LLM's calls that recovers {share:.0%} of the gap between SLM and LLM "
        "(RouteLLM's call-performance threshold)",
        ".1%", False, ("page, further", "harness"),
        lambda m: {name: dict(m.cpt)[share]},
    )  # fmt: skip


def _cost_at(share: float, tables: tuple[TableName, ...]) -> Column:
    name = f"cost_at_{share * 100:.0f}"
    return Column(
        name, "cost_at", f"Cost for {share:.0%}", f"at {share:.0%}",
        f"cost per question down to which {share:.0%} of the LLM's quality holds along the "
        "method's policies, chosen on its fitting questions and mixed with SLM and LLM",
        ".4g", False, tables,
        lambda m: {name: dict(m.cost_at)[share]},
    )  # fmt: skip


COLUMNS = (
    Column(
        "quality", "quality", "Quality", "Quality",
        "mean score",
        ".3f", True, ("text", "page", "latex", "harness"),
    ),
    Column(
        "cost", "cost", "Cost", "Cost",
        "mean cost per question, verification included",
        ".4g", False, ("text", "page", "latex", "harness"),
    ),
    Column(
        "escalation_rate", "escalation_rate", "Escalated", "Esc.",
        "share of questions answered by a tier above the SLM",
        ".1%", False, ("text", "page", "latex", "harness"),
    ),
    Column(
        "ibc", "ibc", "IBC", "IBC",
        "quality gained over the SLM per unit of extra cost",
        ".3g", True, ("text, further", "page, further", "latex", "harness"),
    ),
    Column(
        "delta_ibc", "delta_ibc", "\u0394IBC", "delta IBC",
        "lift of quality per cost over always asking the LLM, a ratio",
        "+.1%", True, ("text", "page", "latex", "harness"),
    ),
    Column(
        "random_quality", "random_quality", "Random, same cost", "random",
        "quality of a random choice between SLM and LLM at the same cost",
        ".3f", None, ("page",),
    ),
    Column(
        "oracle_quality", "oracle_quality", "Oracle, same cost", "oracle",
        "quality of an oracle at the same cost",
        ".3f", None, ("page",),
    ),
    _cost_at(0.95, ("text, further", "page", "harness")),
    _cost_at(0.99, ("text, further", "page, further", "harness")),
    _cost_at(1.0, ("text, further", "page, further", "harness")),
    Column(
        "area", "area", "Area", "Area",
        "quality averaged over costs from the SLM's to the LLM's along the method's policies, "
        "which are chosen on its fitting questions",
        ".3f", True, ("text, further", "page", "harness"),
    ),
    Column(
        "apgr", "apgr", "APGR", "APGR",
        "share of the gap between SLM and LLM that is recovered, averaged over 0 to 100% of the "
        "LLM's calls (RouteLLM); 0.5 for a random choice",
        ".3f", True, ("text, further", "page, further", "harness"),
    ),
    _cpt(0.5),
    _cpt(0.8),
    Column(
        "calls_saved", "calls_saved", "LLM calls saved", "Spared",
        "share of questions on which the last tier was not asked",
        ".1%", True, ("text, further", "page, further", "harness"),
    ),
    Column(
        "verifier_auroc", "auroc", "AUROC", "AUROC",
        "of the confidence read first (the SLM's, unless a method starts at a later tier) as a "
        "predictor of a right answer: score > 0.5, or "
        "above the middle of the range of scores that leave [0, 1]",
        ".3f", True, ("text, further", "page, further", "harness"),
    ),
    Column(
        "verifier_calibration_error", "calibration_error", "Calibration error", "ECE",
        "expected calibration error of the same confidence (10 bins)",
        ".3f", False, ("text, further", "page, further", "harness"),
    ),
    Column(
        "verifier_brier", "brier", "Brier score", "Brier",
        "mean squared distance of the same confidence from 1 (right) or 0",
        ".3f", False, ("page, further", "harness"),
    ),
    Column(
        "verifier_risk_coverage", "risk_coverage", "Risk-coverage area", "AURC",
        "mean share of wrong answers among the k surest of that tier, over all k",
        ".3f", False, ("page, further", "harness"),
    ),
    Column(
        "verifier_benefit_auroc", "benefit_auroc", "AUROC (benefit)", "Benefit",
        "AUROC of the same confidence, if low, as a predictor that the LLM's score is higher by "
        "> 0.1, or a tenth of that range",
        ".3f", True, ("text, further", "page, further", "harness"),
    ),
    Column(
        "verifier_benefit_correlation", "benefit_correlation", "Rank correlation (benefit)", "tau",
        "Kendall's tau b of the same confidence, if low, and the LLM's score minus that tier's",
        "+.3f", True, ("page, further", "harness"),
    ),
    Column(
        "delta_ibc_region", "regions", "\u0394IBC by cost region", "delta IBC by cost region",
        "delta IBC in five equal parts of the cost range; empty where SLM or LLM has no figures",
        "+.1%", None, (),
        lambda m: {f"delta_ibc_region_{i}": r.delta_ibc for i, r in enumerate(m.regions, 1)},
    ),
    Column(
        "delta_ibc_regions_mean", "regions_mean", "\u0394IBC, 5 regions", "Mean",
        "mean delta IBC over five equal cost regions",
        "+.1%", None, ("page, further",),
    ),
    Column(
        "escalated_tier", "tiers", "Escalated by tier", "Esc.",
        "of the questions a tier was asked, the share that went on to a later one; one entry a "
        "tier, empty for a run of one model",
        ".1%", None, (),
        lambda m: {f"escalated_tier_{t.tier}": t.escalated for t in m.tiers[:-1]},
    ),
)  # fmt: skip
# What each field with a single figure holds.
MEANINGS = {c.field: c.meaning for c in COLUMNS if c.several is None}
