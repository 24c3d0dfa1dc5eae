"""The progress of a stage, where lines stay and on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.cascade import progress
from automix_eval.cascade.progress import progress_line


def test_a_short_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal a stage that ends at once says how far it came, once."""
    with progress_line("coqa: answering (slm)", 3, 2, shown=True) as advance:
        for _ in range(3):
            advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "coqa: answering (slm): 3/3, 00:00, 2 more from the store\n"


def test_a_stage_that_breaks_off_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    """The line comes with the error, and the error goes on."""

    def broken() -> None:
        with progress_line("t", 3, 0, shown=True) as advance:
            advance()
            raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        broken()
    assert capsys.readouterr().err == "t: 1/3, 00:00\n"


def test_nothing_is_shown_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """progress=false is silent."""
    with progress_line("t", 1, 0, shown=False) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


@given(calls=st.integers(2, 400), seconds=st.floats(0.1, 500))
def test_lines_of_a_long_stage_grow_with_its_logarithm(calls: int, seconds: float) -> None:
    """However many calls and however slow, a line comes at most once in each doubling of time."""
    now = [0.0]
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.time, "monotonic", lambda: now[0])
        patch.setattr("builtins.print", lambda text, **_: said.append(text))
        patch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
        with progress_line("t", calls, 0, shown=True) as advance:
            for _ in range(calls):
                now[0] += seconds
                advance()
    assert len(said) <= 1 + int(calls * seconds / 60).bit_length()
    assert all(" left" in line for line in said[:-1])
    assert said[-1].startswith(f"t: {calls}/{calls}, ")
