"""Demonstrations of a verification from answers that were scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verifiers import FakeAsk, answer, question

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer
from automix_eval.verifiers.few_shot import FewShot
from automix_eval.verifiers.judged_examples import Scored, choose, example
from automix_eval.verifiers.prompt import EXAMPLES


def scored(number: int, context: str, score: float, text: str = "pier") -> Scored:
    """The answer to a question of this number."""
    return replace(question(context), doc_id=number), Answer(0, text), score


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "bb", "ccc", "dddd", " "]),
        st.floats(0, 1),
        st.sampled_from(["pier", "", " "]),
    ),
    max_size=12,
)


@given(ROWS, st.integers(0, 3))
def test_two_of_each_on_contexts_of_their_own_where_there_are_so_many(
    rows: list[tuple[str, float, str]], seed: int
) -> None:
    """Right, wrong, wrong, right; nothing that cannot be verified; or one clear error."""
    given_rows = [scored(i, *row) for i, row in enumerate(rows)]
    usable = [
        (q, a, score > 0.5) for q, a, score in given_rows if q.context.strip() and a.text.strip()
    ]
    right = sum(mark for *_, mark in usable)
    if min(right, len(usable) - right) < 2:
        with pytest.raises(AutoMixError, match="2 right and 2 wrong"):
            choose(given_rows, seed)
        return
    found = choose(given_rows, seed)
    assert [mark for *_, mark in found] == [True, False, False, True]
    assert all(one in usable for one in found)
    assert len({q.doc_id for q, *_ in found}) == 4
    assert found == choose(given_rows, seed)


def test_short_contexts_and_different_ones_are_preferred() -> None:
    """Each verification reads them; two questions of one passage show less than of two."""
    rows = [scored(i, "x" * (1 + i // 4), float(i % 2)) for i in range(24)]
    assert sorted(len(q.context) for q, *_ in choose(rows, 0)) == [1, 2, 3, 4]


def test_chosen_demonstrations_take_the_place_of_the_fixed() -> None:
    """A tier is shown its own answers, with their verdicts and without a reasoning."""
    rows = [scored(i, f"passage {i}", float(i % 2), f"text {i}") for i in range(4)]
    shown = [example(*one) for one in choose(rows, 0)]
    verifier = FewShot(1, demonstrations="calibration").with_examples([shown])
    ask = FakeAsk()
    verifier.verify([question()], [answer("pier")], ask)
    prompt = ask.requests[0].prompt
    assert EXAMPLES[0][0] not in prompt
    for context, _, text, reasoning, verdict in shown:
        assert reasoning == ""
        block = prompt[prompt.index(context) :].split("---")[0]
        assert f"AI Generated Answer: {text}\n" in block
        assert f"Evaluation: Verification Decision: The AI generated answer is {verdict}." in block


def test_without_a_calibration_there_is_nothing_to_show() -> None:
    """The verifier alone has none to choose from, and says so."""
    with pytest.raises(AutoMixError, match="none were chosen"):
        FewShot(demonstrations="calibration").verify([question()], [answer("pier")], FakeAsk())
    with pytest.raises(AutoMixError, match="demonstrations"):
        FewShot(demonstrations="own")
