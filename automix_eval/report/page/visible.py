"""Untrusted text made harmless to read: what is invisible in it is shown, nothing is removed."""

from __future__ import annotations

import re

# Line ends and tabs stay. Shown are: the other control characters (an escape sequence must not look
# like nothing), soft hyphen, zero-width space and byte-order mark, all that reorders text, the tag
# characters that smuggle hidden ASCII, private-use and unpaired surrogates. Joiners stay, because
# scripts and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
#: Longest text of one field; a runaway generation must not fill the page.
LONGEST = 100_000


def visible(text: str, limit: int = LONGEST) -> str:
    """The text with every hidden character as a sign one can see.

    C0 controls become their control pictures (U+2400 ..), others ``<U+....>`` in angle brackets of
    their own (U+27E8, U+27E9), which no markup uses.

    Args:
        text: Anything a model or a data set wrote.
        limit: Longest text kept, in characters; the rest is counted and marked, never silent.
    """
    cut = len(text) - limit
    shown = text if cut <= 0 else text[:limit]
    shown = _HIDDEN.sub(_picture, shown.replace("\r\n", "\n"))
    return shown if cut <= 0 else f"{shown}\n\u27e8{cut} more characters\u27e9"


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\u27e8U+{code:04X}\u27e9"
