"""What a router was to reach, kept, left unanswered, and could have shown: a line each."""

from __future__ import annotations

from collections.abc import Callable

from automix_eval.analysis.figures import Abstention, Aim, Detectable, Figure
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.power import POWER
from automix_eval.report.blocks import known_text


def aim_words(aim: Aim, because: Callable[[Undefined], str]) -> str:
    """What was aimed at, what was reached, and whether the aim was missed, in a line.

    Args:
        aim: The aim.
        because: Writes the reason why something is undefined, or a mark that stands for it.
    """
    if aim.of is None or aim.value is None:
        return f"Aim: objective={aim.objective}, which sets no quality and no cost to reach."
    cost = aim.of == "cost"
    what = f"a mean cost of at most {aim.value:.4g}" if cost else (
        f"{aim.value * 100:.4g}% of the LLM's quality"
        + (f" with {aim.confidence * 100:.4g}% confidence" if aim.confidence is not None else "")
    )  # fmt: skip
    if not cost and not isinstance(aim.aimed.value, Undefined):
        what += f" ({aim.aimed.value:.3f})"
    if isinstance(aim.reached.value, Undefined):
        return f"Aim: {what}; what was reached cannot be told: {because(aim.reached.value)}."
    reached = format(aim.reached.value, ".4g" if cost else ".3f")
    if isinstance(aim.aimed.value, Undefined):
        why = because(aim.aimed.value)
        return f"Aim: {what}; reached {reached}; whether that misses it cannot be told: {why}."
    if not isinstance(aim.share.value, Undefined):
        share = f"{aim.share.value:.1%}"
        reached = f"{reached} ({share} of it)" if cost else f"{share} ({reached})"
    return f"Aim: {what}; reached {reached}: {'missed' if aim.missed else 'met'}."


def abstention_words(found: Abstention) -> str:
    """How many questions were abstained on, what the others are worth, and what all that cost."""

    def with_interval(figure: Figure, form: str) -> str:
        if isinstance(figure.value, Undefined):
            return f"undefined ({figure.value.reason})"
        return known_text(figure, form)

    coverage, quality = with_interval(found.coverage, ".1%"), with_interval(found.quality, ".3f")
    loss = with_interval(found.loss, ".4g")
    return (
        f"Abstained on {found.abstained} questions: answered {coverage}, quality of the answered "
        f"{quality}, loss {loss}. Every other figure takes their answers at hand for them."
    )


def kept_words(kept: Figure, who: str = "The live policy") -> str:
    """Which share of the LLM's quality the questions show that a policy keeps."""
    if isinstance(kept.value, Undefined):
        return f"No share of the LLM's quality is shown to be kept: {kept.value.reason}."
    return f"{who} keeps at least {kept.value:.0%} of the LLM's quality ({LEVEL:.0%} one-sided)."


def detectable_words(could: Detectable, because: Callable[[Undefined], str]) -> str:
    """What as many questions find; as :func:`aim_words`."""
    start = f"With {POWER:.0%} power so many questions find"
    delta, loss = could.delta_ibc.value, could.loss.value
    if isinstance(delta, Undefined) and isinstance(loss, Undefined):
        return f"{start} nothing: {because(delta)}."
    delta_words = (
        f"no delta IBC: {because(delta)}"
        if isinstance(delta, Undefined)
        else f"a delta IBC of {delta:.0%} or more"
    )
    loss_words = (
        f"no loss of quality: {because(loss)}"
        if isinstance(loss, Undefined)
        else f"a loss of quality against the LLM of {loss:.3f} or more"
    )
    # a reason may be long: it ends the sentence
    first, last = (
        (loss_words, delta_words) if isinstance(delta, Undefined) else (delta_words, loss_words)
    )
    return f"{start} {first}, and {last}."
