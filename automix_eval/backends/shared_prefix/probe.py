"""What each layer of a model attends to at any length, found with a handful of tokens.

A model is shown a few tokens behind a past that does not exist: its cache says that it holds some
thousand tokens, so the model makes the masks and rotary angles of that place, and attention that
only takes notes costs nothing. So windows, chunks and angles that change with the length of a
prompt are seen as they are, whatever their settings are called and however long they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from automix_eval.safety.numbers import is_number

_NAME = "automix_probe"
_TOKENS = 4
#: Where the short prompt of a probe begins.
_NEAR = 16
#: Tokens that a pass may hold before those of the longest prompt.
_COMPANY = 2048

#: Largest relative error by type: what rounding gives, and far from what another past gives
#: (logits of Gemma 3 270M and SmolLM2-135M: 1e-5 in float32, .06 to .1 in bfloat16; attention to a
#: wrong past .36 to .8).
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}

#: Window of a layer in tokens, None where it sees all that is before.
Windows = dict[int, int | None]


class UnsupportedModelError(ValueError):
    """The model's attention cannot be computed here; the message says why.

    Attributes:
        by_length: Whether its numbers depend on how long a prompt or its company is.
    """

    def __init__(self, why: str, by_length: bool = False) -> None:
        super().__init__(why)
        self.by_length = by_length


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one layer was given in one pass: queries and keys [heads, tokens, size]."""

    query: torch.Tensor
    key: torch.Tensor
    mask: Any
    window: int | None


class _FarPast(Cache):
    """A cache that claims a past it does not hold."""

    def __init__(self, past: int) -> None:
        super().__init__(layers=[])
        self._past = past

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """Tokens that are said to have come before."""
        return self._past

    def get_query_offset(self, *_: Any, **__: Any) -> int:
        return self._past

    def get_mask_sizes(self, query_length: int, *_: Any, **__: Any) -> tuple[int, int]:
        return self._past + query_length, 0


def tolerance(*types: torch.dtype | None) -> float:
    """The error that the coarsest of these types may bring."""
    return max(_TOLERANCES.get(t, _TOLERANCES[torch.float32]) for t in types if t is not None)


def reach(
    model: Any, using: Callable[[str], Any], window: int, allowed: float
) -> tuple[int | None, Windows]:
    """How long a prompt may be for the model to read it in pieces, in any company.

    Args:
        model: A decoder of transformers.
        using: A context in which the model uses the attention of a name.
        window: Tokens that a prompt and its answer may have in all.
        allowed: Largest relative error of queries and keys.

    Returns:
        The length in tokens, None where it is the whole window; and what each layer sees.

    Raises:
        UnsupportedModelError: It may have no length.
    """
    AttentionInterface.register(_NAME, _look)
    AttentionMaskInterface.register(_NAME, eager_mask)
    with using(_NAME):
        if (found := _attempt(model, window, allowed)) is not None:
            return None, found
        # lengths at which something may change, by any setting of the model
        lengths = sorted(
            {n for n in _numbers(model.config) if _NEAR + 2 * _TOKENS <= n < window}
            | {2**n for n in range(5, window.bit_length()) if 2**n < window}
        )
        least, most, windows = -1, len(lengths), None
        while most - least > 1:
            middle = (least + most) // 2
            if (found := _attempt(model, lengths[middle], allowed)) is None:
                most = middle
            else:
                least, windows = middle, found
    if windows is None:
        raise UnsupportedModelError(
            "its layers see their past in a way that depends on the length", by_length=True
        )
    return lengths[least], windows


def _attempt(model: Any, length: int, allowed: float) -> Windows | None:
    """What each layer sees of a prompt of this length, None where pieces read otherwise."""
    far = max(length - _TOKENS, _NEAR + _TOKENS)
    ids = [3 + i for i in range(_TOKENS)]
    near_alone = _pass(model, ids, range(_NEAR, _NEAR + _TOKENS), _NEAR)
    far_alone = _pass(model, ids, range(far, far + _TOKENS), far)
    both = [*range(_NEAR, _NEAR + _TOKENS), *range(far, far + _TOKENS)]
    # Both at once, as a pass over pieces reads them, and again as its last tokens.
    together = _pass(model, ids + ids, both, 0)
    late = _pass(model, ids + ids, both, length + _COMPANY)
    windows: Windows = {}
    for layer, seen in far_alone.items():
        window, regular = _window(seen, far)
        pairs = [
            (together[layer], slice(_TOKENS), near_alone[layer]),
            (together[layer], slice(_TOKENS, None), far_alone[layer]),
            (late[layer], slice(None), together[layer]),
        ]
        if not regular or not all(_alike(a, part, b, allowed) for a, part, b in pairs):
            return None
        windows[layer] = window
    return windows


def _pass(model: Any, ids: Sequence[int], positions: Sequence[int], past: int) -> dict[int, _Seen]:
    """What the layers are given in one pass, by their number."""
    _notes.clear()
    try:
        model(
            input_ids=torch.tensor([ids], device=model.device),
            position_ids=torch.tensor([list(positions)], device=model.device),
            past_key_values=_FarPast(past),
            use_cache=True,
            logits_to_keep=1,
        )
        return dict(_notes)
    finally:
        _notes.clear()


#: What the layers of the pass in progress were given.
_notes: dict[int, _Seen] = {}


def _look(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    _notes[module.layer_idx] = _Seen(query[0], key[0], mask, sliding_window)
    # Nothing is attended to, so that what the next layer is given depends on the tokens alone and
    # passes can be compared layer by layer.
    return value.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None


def _window(seen: _Seen, past: int) -> tuple[int | None, bool]:
    """The window of a layer, and whether it is one: a stretch of one length up to each token."""
    if seen.mask is None:
        return seen.window, True
    mask = seen.mask
    if mask.dim() != 4 or mask.shape[1] != 1:
        return None, False
    rows = mask[0, 0]
    if rows.dtype != torch.bool:
        if bool(((rows != 0) & (rows > -1e4)).any()):  # a bias of positions
            return None, False
        rows = rows == 0
    full: set[int] = set()
    cut: set[int] = set()
    for end, row in enumerate(rows, past + 1):
        columns = row.nonzero()[:, 0].tolist()
        if not columns or columns != list(range(columns[0], end)):
            return None, False
        (cut if columns[0] else full).add(len(columns))
    if not cut:
        return None, True
    return max(cut), len(cut) == 1 and max(full, default=0) <= max(cut)


def _alike(seen: _Seen, part: slice, other: _Seen, allowed: float) -> bool:
    """Whether queries and keys are the same but for rounding."""
    for a, b in ((seen.query[:, part], other.query), (seen.key[:, part], other.key)):
        if a.shape != b.shape:
            return False
        error, size = (a.float() - b.float()).norm(dim=-1), b.float().norm(dim=-1)
        if not bool((error <= allowed * size + 1e-6).all()):
            return False
    return True


def _numbers(config: Any) -> Iterator[int]:
    """All whole numbers in a configuration."""
    waiting = [config.to_dict()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif is_number(value):
            yield int(value)
