"""Laws of the prefix cache."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.backends.shared_prefix.cache import Layers, PrefixCache, shared_length
from automix_eval.backends.shared_prefix.tree import Tree

PROMPT = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
_BYTES = 2 * 4 * 2 * 2  # keys and values, float32, two layers of one head of size two


def layers_of(tokens: tuple[int, ...]) -> Layers:
    """Keys that tell each prefix apart: position by position a number of all tokens so far."""
    codes = [hash(tokens[: i + 1]) % 100_003 for i in range(len(tokens))]
    keys = torch.tensor(codes, dtype=torch.float32)[None, :, None].expand(1, -1, 2)
    return [(keys + layer, keys - layer) for layer in range(2)]


@given(st.lists(PROMPT, max_size=12), PROMPT)
def test_what_is_found_is_what_was_put(
    prompts: list[tuple[int, ...]], asked: tuple[int, ...]
) -> None:
    """The longest start in common with anything held, with the keys and values of that start."""
    cache = PrefixCache(10**9)
    for prompt in prompts:
        cache.insert(prompt, layers_of(prompt))
    length, pieces = cache.match(asked)
    starts = {p[:i] for p in prompts for i in range(len(p) + 1)} | {()}
    assert length == max(i for i in range(len(asked) + 1) if asked[:i] in starts)
    for layer, (keys, values) in enumerate(layers_of(asked[:length])):
        if length:
            assert torch.equal(torch.cat([p[layer][0] for p in pieces], dim=1), keys)
            assert torch.equal(torch.cat([p[layer][1] for p in pieces], dim=1), values)
    assert cache.held == (len(starts) - 1) * _BYTES


@given(st.lists(PROMPT, max_size=20), st.integers(0, 20))
def test_the_budget_is_kept(prompts: list[tuple[int, ...]], tokens: int) -> None:
    """Whatever is put, no more bytes are held than allowed, and what is found is right."""
    cache = PrefixCache(tokens * _BYTES)
    for prompt in prompts:
        cache.insert(prompt, layers_of(prompt))
        assert cache.held <= tokens * _BYTES
        length, pieces = cache.match(prompt)
        if length:
            found = torch.cat([p[0][0] for p in pieces], dim=1)
            assert torch.equal(found, layers_of(prompt[:length])[0][0])


def test_the_least_recently_used_goes_first_and_stems_stay() -> None:
    """A start that is used again and again survives the documents that come and go."""
    cache = PrefixCache(10 * _BYTES)
    for document in range(3, 40):
        prompt = (1, 1, 1, 1, document, document, document)
        cache.insert(prompt, layers_of(prompt))
    assert cache.match((1, 1, 1, 1, 0))[0] == 4
    assert cache.match((1, 1, 1, 1, 39, 39, 39))[0] == 7
    assert cache.match((1, 1, 1, 1, 3))[0] == 4


def test_what_cannot_fit_drives_nothing_out() -> None:
    """A prompt larger than the whole budget leaves the cache as it is."""
    cache = PrefixCache(5 * _BYTES)
    cache.insert((1, 2), layers_of((1, 2)))
    long = (2, *range(10, 20))
    cache.insert(long, layers_of(long))
    assert cache.match((1, 2))[0] == 2
    assert cache.match(long)[0] == 0


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 99)), max_size=40))
def test_columns_of_a_tree_are_never_given_twice(steps: list[tuple[int, bool, int]]) -> None:
    """Whatever is taken and given back, no column has two owners, and none is lost."""
    tree, held = Tree(4), []
    for number, gives, which in steps:
        if gives and held:
            tree.give_back([held.pop(which % len(held))])
        else:
            held.append(tree.take(number, 7))
        columns = [c for start, end in held for c in range(start, end)]
        assert len(columns) == len(set(columns))
        assert tree.used == max(columns, default=-1) + 1 <= tree.capacity
        for start, end in held:
            assert tree.positions[start:end].tolist() == list(range(7, 7 + end - start))
    tree.give_back(held)
    assert tree.take(1, 0) == (0, 1)


@given(
    st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), max_size=30), st.data()
)
def test_the_common_start_is_the_longest(a: list[int], b: list[int], data: st.DataObject) -> None:
    """What halving finds is what comparing token by token finds."""
    start = data.draw(st.integers(0, len(b)))
    expected = 0
    for x, y in zip(a, b[start:], strict=False):
        if x != y:
            break
        expected += 1
    assert shared_length(tuple(a), tuple(b), start) == expected
