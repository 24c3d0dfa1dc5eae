"""Tables of fixed width: names may be long, numbers stay whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from automix_eval.report.blocks import Table
from automix_eval.report.fixed_width import render_text

WORDS = st.lists(st.text("abcdef", min_size=1, max_size=9), min_size=1, max_size=8).map(" ".join)


@given(names=st.lists(WORDS, min_size=1, max_size=4), width=st.integers(30, 60))
def test_no_name_is_cut(names: list[str], width: int) -> None:
    """Every word of a name stands in its row, no line is too wide, each number once."""
    rows = tuple((name, f"{i}.25") for i, name in enumerate(names))
    text = render_text([Table(("Method", "Quality"), rows)], width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for i, name in enumerate(names):
        (start,) = [n for n, line in enumerate(lines) if line.endswith(f" {i}.25")]
        after = [n for n, line in enumerate(lines[start + 1 :], start + 1) if line[:2] != "  "]
        end = min(after, default=len(lines))
        said = " ".join([lines[start].rsplit(" ", 1)[0], *lines[start + 1 : end]])
        assert said.split() == name.split()
