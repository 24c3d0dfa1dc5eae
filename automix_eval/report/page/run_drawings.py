"""Drawings of a run: the verifier's reliability and confidences, and the fitted policy."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.figures import ReliabilityBin, VerifierFigures
from automix_eval.report.page.svg import Drawing
from automix_eval.report.policy_picture import STATES, PolicyPicture

_SIZE = (400, 290)
_MARGINS = (58, 26, 12, 50)
_STRIP = 26  # height of the strip of actions
_ROOM = 60  # what a word needs in it


def reliability(figures: VerifierFigures) -> str:
    """Share of right answers against confidence; empty without confidences."""
    bins = [b for b in figures.reliability if b.count]
    if not bins:
        return ""
    drawing = Drawing("how often answers of each confidence are right", _SIZE, _MARGINS)
    x, y = drawing.x_scale(0, 1), drawing.y_scale(0, 1)
    drawing.x_axis(x, "confidence")
    drawing.y_axis(y, f"share right (score > {figures.right_above:.4g})", percent=True)
    drawing.line("base", [(x.at(0), y.at(0)), (x.at(1), y.at(1))])
    most = max(b.count for b in bins)
    points = []
    for b in bins:
        if b.accuracy is None or b.confidence is None:
            continue
        at = (x.at(b.confidence), y.at(b.accuracy))
        points.append(at)
        group = drawing.add("g", "mark-point live")
        # The area of a dot tells how many answers it stands for.
        radius = 3 + 8 * (b.count / most) ** 0.5
        drawing.add("circle", "dot", parent=group, cx=at[0], cy=at[1], r=radius)
        drawing.tip(
            group,
            f"confidence {b.low:.2f} to {b.high:.2f}\n{b.count} answers, {b.right} right "
            f"({b.accuracy:.0%})\nmean confidence {b.confidence:.2f}",
        )
    drawing.line("curve sweep live", points)
    return drawing.markup()


def distribution(figures: VerifierFigures) -> str:
    """How many right and wrong answers have each confidence; empty without confidences."""
    bins = figures.histogram
    most_right = max((b.right for b in bins), default=0)
    most_wrong = max((b.count - b.right for b in bins), default=0)
    if not most_right + most_wrong:
        return ""
    drawing = Drawing("confidences of right and of wrong answers", _SIZE, _MARGINS)
    x, y = drawing.x_scale(0, 1), drawing.y_scale(-most_wrong * 1.1, most_right * 1.1)
    drawing.x_axis(x, "confidence")
    drawing.y_axis(y, "number of answers", both_ways=True)
    for b in bins:
        _bars(drawing, b, (x.at(b.low), x.at(b.high)), y.at(0), (y.at(0) - y.at(1)))
    drawing.line("axis", [(x.at(0), y.at(0)), (x.at(1), y.at(0))])
    _key(drawing, [("right", "right answers"), ("wrong", "wrong answers")])
    return drawing.markup()


def _bars(
    drawing: Drawing, b: ReliabilityBin, across: tuple[float, float], zero: float, unit: float
) -> None:
    if not b.count:
        return
    group = drawing.add("g", "bars")
    wrong = b.count - b.right
    left, width = across[0] + 0.7, across[1] - across[0] - 1.4
    drawing.add(
        "rect", "right", parent=group, x=left, y=zero - unit * b.right, width=width,
        height=unit * b.right,
    )  # fmt: skip
    drawing.add("rect", "wrong", parent=group, x=left, y=zero, width=width, height=unit * wrong)
    drawing.tip(group, f"confidence {b.low:.2f} to {b.high:.2f}\n{b.right} right\n{wrong} wrong")


def policy(picture: PolicyPicture) -> str:
    """From confidence to action, above it the belief over the hidden states where there is one."""
    size = (_SIZE[0], _SIZE[1] if picture.belief else 112)
    drawing = Drawing(f"policy: {picture.words}", size, _MARGINS)
    x = drawing.x_scale(picture.edges[0], picture.edges[-1])
    drawing.x_axis(x, "confidence", grid=False)
    top = drawing.bottom - _STRIP
    for to, low, high in picture.spans:
        left, width = x.at(low), x.at(high) - x.at(low)
        group, action = drawing.add("g", "bars"), picture.action(to)
        kind = "keep" if to == picture.tier else "escalate"
        drawing.add(
            "rect", f"action {kind}", parent=group, x=left, y=top, width=width, height=_STRIP
        )
        if width > _ROOM:
            middle = left + width / 2
            drawing.add(
                "text", f"on {kind}", action, group, x=middle, y=top + 18, text_anchor="middle"
            )
        drawing.tip(group, f"{action}\nconfidence {low:.3g} to {high:.3g}")
    if picture.belief:
        drawing.bottom = top - 8
        _belief(drawing, picture, [x.at(e) for e in picture.edges])
    return drawing.markup()


def _belief(drawing: Drawing, picture: PolicyPicture, edges: Sequence[float]) -> None:
    y = drawing.y_scale(0, 1)
    for i, triple in enumerate(picture.belief):
        total = sum(triple) or 1.0
        shares = [p / total for p in triple]
        group, below = drawing.add("g", "bars"), 0.0
        for name, share in zip(STATES, shares, strict=True):
            below += share
            drawing.add(
                "rect", f"state {name.lower()}", parent=group, x=edges[i], y=y.at(below),
                width=edges[i + 1] - edges[i], height=y.at(0) - y.at(share),
            )  # fmt: skip
        lines = [f"{n} {p:.0%}" for n, p in zip(STATES, shares, strict=True)]
        drawing.tip(group, "belief\n" + "\n".join(lines))
    for share in (0.0, 0.5, 1.0):
        place = y.at(share)
        drawing.add(
            "text", "tick", f"{share:.0%}", x=drawing.left - 8, y=place + 4, text_anchor="end"
        )
    drawing.y_title("belief")
    _key(drawing, [(f"state {n.lower()}", n) for n in STATES])


def _key(drawing: Drawing, entries: Sequence[tuple[str, str]]) -> None:
    """What the fillings mean, in a line above the plot."""
    group, left = drawing.add("g", "key"), float(drawing.left)
    for css, name in entries:
        drawing.add("rect", css, parent=group, x=left, y=6, width=12, height=12)
        drawing.add("text", "", name, group, x=left + 17, y=16)
        left += 30 + 6.8 * len(name)
