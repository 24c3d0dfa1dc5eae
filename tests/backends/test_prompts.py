"""Laws of fitting prompts into a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.backends import prompts
from automix_eval.backends.prompts import CUT, Parts, PromptTooLongError, fit, fit_chat, split_at
from automix_eval.types import Message, Prompt

WORDS = st.lists(st.sampled_from(["ferry", "pier", "seven", "ice"]), max_size=60).map(" ".join)


def words(text: str) -> int:
    """Tokens of the toy tokenizer: words."""
    return len(text.split())


def parts_of(context: str, shots: int) -> Parts:
    """A prompt with a context, an instruction, a question and some demonstrations."""
    return Parts(
        "Instruction first.\n",
        tuple(f"demo{i} one two three\n\n" for i in range(shots)),
        f"Context: {context}\n\nQuestion: where? Answer:",
        context,
    )


@given(WORDS, st.integers(0, 4), st.integers(12, 120))
def test_a_fitted_prompt_fits_and_keeps_what_matters(context: str, shots: int, budget: int) -> None:
    """Instruction, question and cue survive every shortening."""
    parts = parts_of(context, shots)
    fitted = fit(parts, budget, words)
    assert words(fitted.text) <= budget
    assert fitted.text.startswith("Instruction first.")
    assert fitted.text.endswith("Question: where? Answer:")


@given(WORDS, st.integers(0, 4))
def test_a_prompt_that_fits_is_untouched(context: str, shots: int) -> None:
    """Nothing is lost without need, and unknown windows or tokenizers touch nothing."""
    parts = parts_of(context, shots)
    for budget, count in ((words(parts.text()), words), (None, words), (1, lambda _: None)):
        fitted = fit(parts, budget, count)
        assert fitted.text == parts.text()
        assert (fitted.dropped_demonstrations, fitted.cut_context_tokens) == (0, 0)


@given(st.integers(1, 4))
def test_demonstrations_go_before_any_of_the_context(shots: int) -> None:
    """One token too many costs the first demonstration and nothing else."""
    parts = parts_of("the ferry leaves the pier at seven", shots)
    fitted = fit(parts, words(parts.text()) - 1, words)
    assert fitted.dropped_demonstrations == 1
    assert parts.context in fitted.text
    assert "demo0" not in fitted.text


def test_the_context_loses_its_middle() -> None:
    """Both ends of the context stay, and the tokens cut are counted."""
    context = " ".join(f"w{i}" for i in range(100))
    parts = parts_of(context, 2)
    fitted = fit(parts, 40, words)
    assert CUT.strip() in fitted.text
    assert "w0 " in fitted.text
    assert "w99" in fitted.text
    assert "w50" not in fitted.text
    assert fitted.dropped_demonstrations == 2
    assert fitted.cut_context_tokens == words(parts_of(context, 0).text()) - words(fitted.text)


def test_questions_on_one_document_lose_the_same() -> None:
    """Cuts lie on a grid: what stands before the questions of a document can be read once."""
    context = " ".join(f"w{i}" for i in range(2000))
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(1)
        return words(text)

    kept = set()
    for length in range(3, 43):
        body = f"Context: {context}\n\nQuestion: {'where ' * length}? Answer:"
        fitted = fit(Parts("Instruction first.\n", (), body, context), 600, count)
        assert 600 * 0.92 <= words(fitted.text) <= 600
        kept.add(fitted.text.partition("Question:")[0])
    assert len(kept) <= 3
    assert len(counted) <= 40 * 5  # a prompt is tokenised a few times, not once a halving


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.integers(500, 1500))
def test_what_was_cut_before_does_not_change_a_cut(lengths: list[int], budget: int) -> None:
    """Any order of the questions and any earlier ones give each the same prompt."""
    context = " ".join(f"w{i}" for i in range(3000))

    def cut(length: int) -> str:
        body = f"Context: {context}\n\nQuestion: {'where ' * length}? Answer:"
        return fit(Parts("Instruction first.\n", (), body, context), budget, words).text

    alone = []
    for length in lengths:
        prompts._recent.clear()
        alone.append(cut(length))
    prompts._recent.clear()
    assert [cut(length) for length in lengths] == alone
    assert [cut(length) for length in reversed(lengths)] == alone[::-1]


def test_a_question_longer_than_the_window_is_an_error() -> None:
    """Never the question: the error names the window's setting."""
    with pytest.raises(PromptTooLongError, match="max_length"):
        fit(parts_of("ferry", 1), 3, words)


def test_a_chat_loses_whole_demonstration_turns_first() -> None:
    """A demonstration is a user turn with its answer; system and last turn stay."""
    turns = [Message("system", "Be brief.")]
    for i in range(3):
        turns += [Message("user", f"q{i} one two"), Message("assistant", f"a{i}")]
    context = " ".join(f"w{i}" for i in range(30))
    turns.append(Message("user", f"{context} Question: where?"))
    prompt = Prompt(messages=tuple(turns))

    def count(p: Prompt) -> int:
        return sum(words(m.content) for m in p.messages)

    one = fit_chat(prompt, context, count(prompt) - 1, count)
    assert one.dropped_demonstrations == 1
    assert [m.content for m in one.prompt.messages][:2] == ["Be brief.", "q1 one two"]
    cut = fit_chat(prompt, context, 20, count)
    assert cut.dropped_demonstrations == 3
    assert count(cut.prompt) <= 20
    assert cut.prompt.messages[-1].content.endswith("Question: where?")
    assert cut.cut_context_tokens > 0


@given(st.lists(st.sampled_from(["ab ", "abc ", "b "]), max_size=6))
def test_splitting_is_the_inverse_of_joining(blocks: list[str]) -> None:
    """A text made of known blocks splits into blocks that join to it."""
    found = split_at("".join(blocks), ["abc ", "ab ", "b "])
    assert found is not None
    assert "".join(found) == "".join(blocks)


def test_a_text_of_unknown_blocks_is_not_split() -> None:
    """Guessing where a demonstration ends could cut a passage in two."""
    assert split_at("ab xy", ["ab "]) is None
