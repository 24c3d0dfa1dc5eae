"""Laws of grouping the harness's requests into questions, and questions into blocks."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from automix_eval.harness.grouping import group


def request(doc_id: int, idx: int, repeats: int | None) -> Any:
    """What grouping reads of a request of the harness."""
    return SimpleNamespace(doc_id=doc_id, idx=idx, repeats=repeats)


@st.composite
def requests(draw: st.DrawFn) -> list[Any]:
    """Documents in any order, each with choices and repeats, and padding copies behind them."""
    repeats = draw(st.integers(1, 3))
    choices = draw(st.integers(1, 3))
    docs = draw(st.lists(st.integers(0, 20), unique=True, min_size=1, max_size=6))
    listed = [
        r for doc in docs for idx in range(choices) for r in [request(doc, idx, repeats)] * repeats
    ]
    return listed + [listed[-1]] * (repeats * draw(st.integers(0, 2)))


def one_by_one(listed: list[Any]) -> tuple[list[list[int]], dict[int, int]]:
    """The plain form of the grouping: one request after the other."""
    seen: dict[int, list[int]] = defaultdict(list)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    copies = {}
    for position, one in enumerate(listed):
        earlier = seen[id(one)]
        if len(earlier) < one.repeats:
            groups[one.doc_id, len(earlier)].append(position)
            earlier.append(position)
        else:
            copies[position] = earlier[0]
    return list(groups.values()), copies


@given(requests())
def test_every_request_belongs_to_one_question_or_repeats_another(listed: list[Any]) -> None:
    """Groups, their order and the copies are those of a plain loop."""
    grouped = group(listed)
    groups, copies = one_by_one(listed)
    assert [grouped.positions(i) for i in range(len(grouped))] == groups
    assert grouped.copies == copies
    for i, positions in enumerate(groups):
        assert grouped.repeats[i] == sum(p < positions[0] and listed[p] is listed[positions[0]]
                                         for p in range(len(listed)))  # fmt: skip


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 10))
def test_blocks_are_all_questions_in_order_and_whole_documents(sizes: list[int], size: int) -> None:
    """A document is split only where it is larger than a block; no block is twice as large."""
    documents = [d for d, number in enumerate(sizes) for _ in range(number)]
    grouped = group([request(i, 0, 1) for i in range(len(documents))])
    blocks = list(grouped.blocks(size, lambda p: documents[p]))
    assert [i for block in blocks for i in block] == list(range(len(documents)))
    for block, after in pairwise(blocks):
        assert size <= len(block) <= 2 * size
        if documents[block[-1]] == documents[after[0]]:
            assert len(block) == 2 * size
            assert sizes[documents[after[0]]] > size


def test_an_empty_list_has_no_questions() -> None:
    """Nothing to group is nothing to ask."""
    grouped = group([])
    assert len(grouped) == 0
    assert list(grouped.blocks(4, lambda p: p)) == []
