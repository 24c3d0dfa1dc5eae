"""Everything the template shows, in the order of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from automix_eval.analysis.figures import Board, MethodFigures, Report
from automix_eval.analysis.point_figures import ConclusionKind, OperatingPoints
from automix_eval.report.board_picture import BoardPicture, board_pictures, defined, number
from automix_eval.report.legend import SAMPLE_NOTE
from automix_eval.report.page import board_drawings, page_tables
from automix_eval.report.page.run_parts import Picture, RunPart, picture_of, run_part
from automix_eval.report.page.words import Verdict, many, show, verdict, with_interval
from automix_eval.report.point_blocks import FEW_DOCUMENTS, run_words, scored_words

# Kind, sign and words of what operating points come to.
_VERDICTS: Mapping[ConclusionKind, tuple[str, str, str]] = {
    "pays": ("more", "\u25b2", "it pays"),
    "costs": ("less", "\u25bc", "it does not pay"),
    "not shown": ("same", "\u2248", "no gain is shown"),
    "nothing to gain": ("same", "\u2248", "there is nothing to gain"),
    "unknown": ("unknown", "?", "nothing can be concluded"),
}

# Below this share a large delta IBC says little: hardly a question was escalated.
LITTLE_ESCALATION = 0.05


@dataclass(frozen=True, slots=True)
class Claim:
    """A method's verdict on one task, as a card shows it.

    Attributes:
        delta: Delta IBC with its interval; empty where undefined.
        plain: What the method achieves, in one sentence.
        cautions: What one must know before believing it.
    """

    method: str
    verdict: Verdict
    delta: str
    plain: str
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointsPart:
    """The operating points of one run on a task: verdict, table, and how they were fitted."""

    run: str
    verdict: str
    table: page_tables.PageTable
    about: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One board: a card at the top of the page, and the part it opens.

    Attributes:
        id: Names the panel within the page; letters and digits only.
        size: Questions and documents, in words.
    """

    id: str
    board: Board
    size: str
    sample: bool
    claims: tuple[Claim, ...]
    points: tuple[PointsPart, ...]
    plane: Picture | None
    escalation: Picture | None
    leaderboard: page_tables.PageTable
    further: page_tables.PageTable
    comparisons: page_tables.PageTable | None
    runs: tuple[RunPart, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The whole page but its questions."""

    summary: str
    sample_note: str
    panels: tuple[Panel, ...]
    forest: Picture | None
    overall: page_tables.PageTable
    about: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def view_of(report: Report) -> View:
    """The page of a report."""
    all_drawn = board_pictures(report)
    panels = tuple(
        _panel(f"task{i}", drawn, report.operating_points) for i, drawn in enumerate(all_drawn)
    )
    return View(
        summary=_summary(panels),
        sample_note=_sample_note(panels),
        panels=panels,
        forest=picture_of(
            "\u0394IBC by task",
            board_drawings.forest(all_drawn),
            "Right of 0 the cascade buys quality more cheaply than always asking the LLM; an "
            "interval that holds 0 tells no difference.",
        ),
        overall=page_tables.overall(all_drawn),
        about=_about(report),
        warnings=report.warnings,
    )


def _summary(panels: Sequence[Panel]) -> str:
    kinds = Counter(claim.verdict.kind for panel in panels for claim in panel.claims)
    if not kinds:
        return "There is no method to judge."
    forms = {
        "more": "it pays on {}",
        "same": "no gain is shown on {}",
        "less": "it does not pay on {}",
        "unknown": "nothing can be concluded on {}",
    }
    one_each = all(len(p.claims) == 1 for p in panels)
    cases = many(sum(kinds.values()), "task" if one_each else "pair")
    parts = [form.format(kinds[kind]) for kind, form in forms.items() if kinds[kind]]
    return f"Of {cases}{'' if one_each else ' of task and method'}: {', '.join(parts)}."


def _sample_note(panels: Sequence[Panel]) -> str:
    names = [p.board.task for p in panels if p.sample]
    return f"{', '.join(dict.fromkeys(names))}: {SAMPLE_NOTE}." if names else ""


def _panel(id_: str, drawn: BoardPicture, points: Sequence[OperatingPoints]) -> Panel:
    board = drawn.board
    here = {(t.run_id, t.task) for t in drawn.tasks} or {("", board.task)}
    mine = [one for one in points if (one.run_id, one.task) in here]
    labels = {t.run_id: t.label for t in drawn.tasks}
    size = many(board.num_questions, "question")
    if board.num_documents != board.num_questions:
        size += f" about {many(board.num_documents, 'document')}"
    return Panel(
        id=id_,
        board=board,
        size=size,
        sample=board.sample,
        claims=_claims(drawn, mine),
        points=tuple(
            PointsPart(
                run_words(one.run_id, labels.get(one.run_id, "")) if one.run_id else "",
                one.verdict.words,
                page_tables.points(one),
                scored_words(one),
                one.notes,
            )
            for one in mine
        ),
        plane=picture_of(
            "Quality against cost",
            board_drawings.plane(drawn),
            "Dashed: the line from always asking the SLM to always asking the LLM; a point above "
            "it buys quality more cheaply. Dotted: the oracle. Filled: what ran; open: replayed. "
            "Solid lines: other operating points of a method. Whiskers: 95 % intervals.",
        ),
        escalation=picture_of(
            "Quality against escalation",
            board_drawings.escalation(drawn),
            "Dashed: escalating random questions.",
        ),
        leaderboard=page_tables.leaderboard(drawn),
        further=page_tables.further(drawn),
        comparisons=page_tables.comparisons(drawn),
        runs=tuple(run_part(task, many_runs=len(drawn.tasks) > 1) for task in drawn.tasks),
    )


def _claims(drawn: BoardPicture, points: Sequence[OperatingPoints]) -> tuple[Claim, ...]:
    """A claim a judged method; where one run stands alone, its operating points are the verdict."""
    claims = tuple(_claim(drawn, m) for m in drawn.judged)
    if len(claims) != 1 or len(points) != 1:
        return claims
    found = points[0].verdict
    plain = f"{found.words} {claims[0].plain}".strip()
    return (replace(claims[0], verdict=Verdict(*_VERDICTS[found.kind]), plain=plain),)


def _claim(drawn: BoardPicture, method: MethodFigures) -> Claim:
    cautions = []
    rate = method.escalation_rate
    if defined(rate) and number(rate) == 0:
        cautions.append("nothing is escalated: every answer is the SLM's")
    elif defined(rate) and number(rate) < LITTLE_ESCALATION:
        cautions.append(f"escalates only {number(rate):.1%}: read \u0394IBC beside the quality")
    if method.delta_ibc.ends and drawn.board.num_documents < FEW_DOCUMENTS:
        documents = many(drawn.board.num_documents, "document")
        cautions.append(f"only {documents}: the interval is rough")
    delta = with_interval(method.delta_ibc, "+.0%") if defined(method.delta_ibc) else ""
    return Claim(
        method.label,
        verdict(method.delta_ibc, drawn.board.num_documents),
        delta,
        _achieved(drawn, method),
        tuple(cautions),
    )


def _achieved(drawn: BoardPicture, method: MethodFigures) -> str:
    """Quality and cost as shares of the LLM's; the figures alone where there is no LLM."""
    if not defined(method.quality) or not defined(method.cost):
        return ""
    llm, slm = drawn.end("llm"), drawn.end("slm")
    quality, cost = number(method.quality), number(method.cost)
    text = f"Quality {quality:.3f}"
    if slm and llm:
        text += f" (SLM {slm.at[1]:.3f}, LLM {llm.at[1]:.3f})"
    text += f" at a cost of {cost:.4g}"
    if llm and llm.at[0] > 0:
        text += f", {cost / llm.at[0]:.0%} of the LLM's"
    if defined(method.escalation_rate):
        text += f"; {show(method.escalation_rate.value, '.0%')} escalated"
    return text + "."


def _about(report: Report) -> tuple[tuple[str, str], ...]:
    return (
        ("IBC", "quality gained over the SLM alone per unit of extra cost."),
        (
            "\u0394IBC",
            "IBC of a method against IBC of always asking the LLM. Above 0 %: quality is bought "
            "more cheaply; 0 %: no better than sending random questions to the LLM unverified; "
            "below: worse. Escalating almost nothing can make it large: read it beside quality.",
        ),
        (
            "[low, high]",
            f"95 % intervals, paired bootstrap of whole documents, {report.resamples:,} "
            f"resamples, seed {report.seed}. An interval that holds 0 tells no difference from 0.",
        ),
        ("Cost", "mean per question; the SLM and the LLM rows are without verification."),
        ("Escalated", "share of questions answered by a tier above the SLM."),
        ("Ran, replayed", "a method that ran made its calls; a replayed one is computed from "
         "records in which every tier was asked."),
        ("Right", "a score above 0.5; of scores that leave [0, 1], above their range's middle."),
    )  # fmt: skip
