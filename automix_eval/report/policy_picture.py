"""A fitted policy as a picture: from confidence to action, and the belief behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from automix_eval.safety.numbers import is_number

# The hidden states of AutoMix's POMDP, in the order of a policy file.
STATES = ("Simple", "Complex", "Unsolvable")


@dataclass(frozen=True, slots=True)
class PolicyPicture:
    """What a policy does with the confidence of one tier.

    Attributes:
        tier: The tier whose confidence is looked at.
        last: The last tier of the chain.
        edges: Edges of the parts of [0, 1] with one action each, ascending.
        actions: For each part the tier asked next; ``tier`` itself keeps the answer.
        belief: P(state | part) for :data:`STATES`, one triple a part; empty if the router has no
            belief.
        words: The rule in a few sentences.
    """

    tier: int
    last: int
    edges: tuple[float, ...]
    actions: tuple[int, ...]
    belief: tuple[tuple[float, ...], ...] = ()
    words: str = ""

    @property
    def spans(self) -> tuple[tuple[int, float, float], ...]:
        """(tier asked next, low, high) of neighbouring parts with one action."""
        spans: list[tuple[int, float, float]] = []
        for low, high, to in zip(self.edges[:-1], self.edges[1:], self.actions, strict=True):
            if spans and spans[-1][0] == to:
                spans[-1] = (to, spans[-1][1], high)
            else:
                spans.append((to, low, high))
        return tuple(spans)

    def action(self, to: int) -> str:
        """An action in a word or two."""
        if to == self.tier:
            return "keep"
        if self.tier + 1 == self.last:
            return "escalate"
        return "to the LLM" if to == self.last else f"to tier {to}"


def policy_pictures(policy: Mapping[str, Any] | None) -> tuple[PolicyPicture, ...]:
    """The rules of a policy file, those of a shape known here.

    A file from elsewhere may hold anything: what is not a rule over parts of [0, 1] gives no
    picture, and the caller shows the file's own values instead.
    """
    learned = policy.get("learned") if policy else None
    if not isinstance(learned, Mapping):
        return ()
    if isinstance(inner := learned.get("meta_verifier"), Mapping):
        return _pictures(inner, " The confidence is the calibrated one.")
    return _pictures(learned, "")


def _pictures(learned: Mapping[str, Any], more: str) -> tuple[PolicyPicture, ...]:
    summary, rules = learned.get("summary"), learned.get("rules")
    if isinstance(summary, list):
        more = _mixture(learned) + more
        found = [_pomdp(row, tier, len(summary), more) for tier, row in enumerate(summary)]
    elif isinstance(rules, list):
        found = [_rule(row, tier, len(rules), more) for tier, row in enumerate(rules)]
    else:
        found = []
    return tuple(p for p in found if p)


def _pomdp(row: Any, tier: int, last: int, more: str) -> PolicyPicture | None:
    """An entry of the POMDP's summary; its last group is that of undefined confidences."""
    if not isinstance(row, Mapping):
        return None
    bounds = _numbers(row.get("bounds"), least=0)
    actions = _actions(row.get("next"), tier, last)
    if bounds is None or actions is None or len(actions) != len(bounds) + 2:
        return None
    edges = (0.0, *bounds, 1.0)
    if not _ascend(edges):
        return None
    belief = _belief(row.get("belief"), len(actions))[:-1]
    picture = PolicyPicture(tier, last, edges, actions[:-1], belief)
    undefined = f" An undefined confidence: {picture.action(actions[-1])}."
    return _worded(picture, undefined + more)


def _rule(row: Any, tier: int, last: int, more: str) -> PolicyPicture | None:
    """A threshold, or one action for each of several bins."""
    if not isinstance(row, Mapping):
        return None
    if "threshold" in row:
        return _threshold(row["threshold"], tier, last, more)
    edges, up = _numbers(row.get("edges")), row.get("escalate")
    if edges is None or not isinstance(up, list) or len(up) != len(edges) - 1:
        return None
    if not _ascend(edges) or not all(isinstance(e, bool) for e in up):
        return None
    actions = tuple(tier + 1 if e else tier for e in up)
    belief = _belief(row.get("belief"), len(up))
    return _worded(PolicyPicture(tier, last, edges, actions, belief), more)


def _threshold(value: Any, tier: int, last: int, more: str) -> PolicyPicture | None:
    if value in ("never", "always"):
        to = tier + 1 if value == "always" else tier
        return _worded(PolicyPicture(tier, last, (0.0, 1.0), (to,)), more)
    at = _numbers([value])
    if at is None or not 0 <= at[0] <= 1:
        return None
    words = f"Escalate when the confidence is at most {at[0]:.4g}; keep the answer otherwise.{more}"
    if at[0] in (0.0, 1.0):
        # A part of length zero cannot be drawn; the sentence still tells the rule.
        actions = (tier + 1 if at[0] else tier,)
        return PolicyPicture(tier, last, (0.0, 1.0), actions, words=words)
    return PolicyPicture(tier, last, (0.0, at[0], 1.0), (tier + 1, tier), words=words)


def _worded(picture: PolicyPicture, more: str) -> PolicyPicture:
    spans = picture.spans
    if len(spans) == 1:
        words = "Every answer is kept." if spans[0][0] == picture.tier else "Every answer goes on."
    else:
        parts = [f"{low:.3g} to {high:.3g} {picture.action(to)}" for to, low, high in spans]
        words = f"By confidence: {', '.join(parts)}."
    return PolicyPicture(
        picture.tier, picture.last, picture.edges, picture.actions, picture.belief, words + more
    )


def _mixture(learned: Mapping[str, Any]) -> str:
    share = _numbers([learned.get("share")])
    if learned.get("high") is None or share is None or not share[0]:
        return ""
    return (
        f" A mixture: {share[0]:.1%} of the questions follow a second, dearer policy; this is the "
        "first."
    )


def _actions(values: Any, tier: int, last: int) -> tuple[int, ...] | None:
    """Tiers asked next, each within the chain and none before ``tier``."""
    found = _numbers(values)
    if found is None or not all(v.is_integer() and tier <= v <= last for v in found):
        return None
    return tuple(int(v) for v in found)


def _belief(rows: Any, parts: int) -> tuple[tuple[float, ...], ...]:
    if not isinstance(rows, list) or len(rows) != parts:
        return ()
    found = [_numbers(row) for row in rows]
    good = [row for row in found if row and len(row) == len(STATES) and min(row) >= 0]
    return tuple(good) if len(good) == parts else ()


def _ascend(edges: tuple[float, ...]) -> bool:
    return all(b > a for a, b in pairwise(edges))


def _numbers(values: Any, least: int = 1) -> tuple[float, ...] | None:
    """A list of at least so many finite numbers as a tuple, None if it is anything else."""
    if not isinstance(values, list) or len(values) < least:
        return None
    # An integer may be too large for a floating-point number.
    if not all(is_number(v, -1e300, 1e300) for v in values):
        return None
    return tuple(map(float, values))
