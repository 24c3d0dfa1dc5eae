"""The encoder that remembers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from automix_eval.backends.hf.settings import TokenMemory


@given(st.lists(st.text("ab", max_size=6), max_size=40), st.integers(0, 12))
def test_what_is_remembered_is_what_is_encoded(texts: list[str], budget: int) -> None:
    """Tokens are those of the encoder, whatever the order and the room, and room is kept."""
    memory = TokenMemory(lambda text: list(text.encode()), budget)
    for text in texts:
        assert list(memory(text)) == list(text.encode())
        assert sum(map(len, memory._held.values())) == memory._size <= budget


def test_a_text_is_encoded_once_until_others_drive_it_out() -> None:
    """What was used last stays."""
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return [0] * len(text)

    memory = TokenMemory(encode, budget=4)
    for text in ("aa", "bb", "aa", "cc", "aa", "bb"):
        memory(text)
    assert encoded == ["aa", "bb", "cc", "bb"]
