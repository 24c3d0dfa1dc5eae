"""What operating points come to, in words: whether a cascade pays, and what to take."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.operating_points import TARGETS
from automix_eval.analysis.point_figures import Conclusion, OperatingPoint, size_words
from automix_eval.metrics.ibc import TOLERANCE, Undefined
from automix_eval.metrics.noninferiority import MIN_DOCUMENTS


def verdict_of(
    points: Sequence[OperatingPoint],
    questions: int,
    documents: int,
    live_name: str = "the live policy",
) -> Conclusion:
    """What points come to: whether a cascade pays, and what to take."""
    named_live = live_name[0].upper() + live_name[1:]
    named = {p.name: p for p in points}
    slm, llm = named["slm"].quality.value, named["llm"].quality.value
    for value in (llm, slm):
        if isinstance(value, Undefined):
            return Conclusion("unknown", f"Nothing can be concluded: {value.reason}.")
    if documents < MIN_DOCUMENTS:
        return Conclusion(
            "not shown",
            f"Nothing can be concluded from {size_words(questions, documents)}: at least "
            f"{MIN_DOCUMENTS} documents are needed.",
        )
    assert isinstance(slm, float)
    assert isinstance(llm, float)
    if llm <= slm:
        return Conclusion(
            "nothing to gain",
            f"Nothing to gain: on these questions the LLM ({llm:.3f}) is not better than the SLM "
            f"({slm:.3f}).",
        )
    live = named.get("live")
    found = [_gain_words(p, named_live) for p in (live, named.get("gain")) if p and p.shown][:1]
    found += [_keeps_words(p) for n, _ in TARGETS if (p := named.get(n)) and p.shown and _saves(p)]
    if live and live.words.startswith("a loss"):
        found.insert(0, f"{named_live} does not pay: a random choice of the same cost is better.")
        return Conclusion("pays" if len(found) > 1 else "costs", " ".join(found))
    if found:
        if live and not live.shown:
            found.insert(0, f"No gain of {live_name} is shown, but there are others.")
        return Conclusion("pays", " ".join(found))
    if not any(n in named for n in ("live", "gain")):
        return Conclusion("unknown", "Nothing can be concluded: no router could be followed.")
    return Conclusion(
        "not shown",
        "Not shown to pay: no policy is told from a random choice of the models at the same cost, "
        f"and none cheaper than the LLM is shown to keep {TARGETS[0][1]:.0%} of its quality.",
    )


def _saves(point: OperatingPoint) -> bool:
    return not isinstance(point.saved.value, Undefined) and point.saved.value > TOLERANCE


def _gain_words(point: OperatingPoint, live: str) -> str:
    who = live if point.name == "live" else "The policy of the largest gain"
    share, saved = point.share.value, point.saved.value
    if isinstance(share, Undefined) or isinstance(saved, Undefined):
        return f"{who} pays: it buys more than a random choice of the same cost."
    return (
        f"{who} pays: {share:.0%} of the LLM's quality at {1 - saved:.0%} of its cost, more than "
        "a random choice of the same cost buys."
    )


def _keeps_words(point: OperatingPoint) -> str:
    assert not isinstance(point.saved.value, Undefined)
    return (
        f"{dict(TARGETS)[point.name]:.0%} of the LLM's quality is kept at "
        f"{1 - point.saved.value:.0%} of its cost."
    )
