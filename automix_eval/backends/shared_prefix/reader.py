"""A forward pass of a transformers model over pieces of prompt trees.

The new tokens of all pieces stand end to end, without padding: every layer but attention works
token by token, and attention looks each piece's past up in its tree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from automix_eval.backends.shared_prefix.cache import PrefixCache
from automix_eval.backends.shared_prefix.tree import Piece, Reading, Tree, TreeRow, TreeStep, joined

_NAME = "automix_tree"
_SELF_TEST = 20
#: Largest error of the self-test, as a part of the logits or of what the first half of the prompt
#: changes in them, whichever is less. Rounding gives 1e-5 in float32 and 0.06 to 0.1 in bfloat16
#: (hence the factor), attention to a wrong past 0.36 to 0.8 (Gemma 3 270M, SmolLM2-135M).
_TOLERANCE = 0.01
_LOW_PRECISION = 25.0


class UnsupportedModelError(ValueError):
    """The model's attention cannot be computed here; the message says why."""


class Reader:
    """A causal model of transformers that reads pieces of trees.

    Args:
        model: The model, in evaluation mode.
        budget: Bytes of the prefix cache.
        autocast: Arguments of torch.autocast.

    Raises:
        UnsupportedModelError: Its attention cannot be replaced; found by trying it.
    """

    def __init__(self, model: Any, budget: int, autocast: dict[str, Any] | None = None) -> None:
        self.model = model
        self.cache = PrefixCache(budget)
        self._autocast = autocast or {"device_type": "cpu", "enabled": False}
        self._configs = list(
            {
                id(m.config): m.config
                for m in model.modules()
                if hasattr(getattr(m, "config", None), "_attn_implementation")
            }.values()
        )
        AttentionInterface.register(_NAME, _attend)
        self._check()

    def open(self, tokens: Sequence[int], room: int, most: int) -> tuple[Tree, int]:
        """A tree whose first columns hold what is known of a start.

        Args:
            tokens: The start.
            room: Columns it will need at least.
            most: How many of the tokens may be taken as known.

        Returns:
            The tree and how many tokens were known.
        """
        known, pieces = self.cache.match(tokens[:most])
        tree = Tree(max(room, len(tokens)))
        tree.start_with(pieces)
        return tree, known

    @torch.inference_mode()
    def forward(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Read pieces in one pass; a piece may attend to those before it.

        Returns:
            For each piece the logits of its last ``keep`` tokens, [keep, vocabulary].
        """
        if not pieces:
            return []
        keep: list[int] = []
        at = 0
        for piece in pieces:
            at += len(piece.tokens)
            keep += range(at - piece.keep, at)
        device = self.model.device
        tokens = torch.tensor([[t for p in pieces for t in p.tokens]], device=device)
        positions = torch.tensor([[i for p in pieces for i in p.positions]], device=device)
        units = joined(pieces)
        with self._attending(units), torch.autocast(**self._autocast):
            output = self.model(
                input_ids=tokens,
                position_ids=positions,
                past_key_values=_Writer(units),
                use_cache=True,
                logits_to_keep=torch.tensor(keep, dtype=torch.long, device=device),
            )
        return list(output.logits[0].split([p.keep for p in pieces]))

    @contextlib.contextmanager
    def _attending(self, pieces: Sequence[Piece]) -> Iterator[None]:
        """Let the model's attention be ours for one pass; the harness's calls see their own."""
        before = [config._attn_implementation for config in self._configs]
        _reading.append(pieces)
        try:
            for config in self._configs:
                config._attn_implementation = _NAME
            yield
        finally:
            _reading.pop()
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation = name

    @torch.inference_mode()
    def _check(self) -> None:
        """Compare with the model's own attention on a few tokens, branches and a step included."""
        model = self.model
        if getattr(model.config, "is_encoder_decoder", False) or not self._configs:
            raise UnsupportedModelError("it is no decoder of transformers")
        size = int(model.get_input_embeddings().weight.shape[0])
        ids = [(7 * i * i + 11) % min(size, 1000) for i in range(_SELF_TEST)]
        half = _SELF_TEST // 2
        try:
            tree = Tree(_SELF_TEST)
            start = Reading(tree, ids[:half], [], 0)
            other = Reading(tree, ids[:3], [start.own], 1)
            rest = Reading(tree, ids[half:-1], [start.own], 1)
            self.forward([start, other, rest])
            rows = [TreeRow.after(tree, [start.own, piece.own]) for piece in (other, rest)]
            ours = self.forward([TreeStep(tree, rows, [ids[0], ids[-1]])])[0][1].float()
            with torch.autocast(**self._autocast):
                whole = torch.tensor([ids], device=model.device)
                theirs = model(input_ids=whole).logits[0, -1]
                blind = model(input_ids=whole[:, half:]).logits[0, -1].float()
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as err:
            raise UnsupportedModelError(f"{type(err).__name__}: {err}") from err
        tolerance = _TOLERANCE * (1.0 if theirs.dtype == torch.float32 else _LOW_PRECISION)
        theirs = theirs.float()
        scale = torch.minimum((blind - theirs).norm(), theirs.norm())
        error = float((ours - theirs).norm() / scale)
        if not error <= tolerance:
            raise UnsupportedModelError(
                f"its logits differ by {error:.2g} of their size or of what the past changes"
            )


class _Writer(Cache):
    """Stands in for the model's cache: hands a layer's keys and values to the pieces."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__(layers=[])
        self._pieces = pieces

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # The model believes that its cache is empty and reads one long prompt. Keys and values
        # come with their rotary positions applied, which depend on position_ids alone, and go
        # into the trees, where _attend finds them.
        at = 0
        for piece in self._pieces:
            end = at + len(piece.tokens)
            piece.store(layer_idx, key_states[0, :, at:end], value_states[0, :, at:end])
            at = end
        return key_states, value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        return 0


#: Pieces of the passes in progress, the innermost last.
_reading: list[Sequence[Piece]] = []


def _attend(
    module: Any,
    query: torch.Tensor,
    _key: torch.Tensor,
    _value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    for name in ("softcap", "s_aux", "position_bias"):
        if more.get(name) is not None:
            raise ValueError(f"attention with {name} is not supported")
    results, at = [], 0
    for piece in _reading[-1]:
        end = at + len(piece.tokens)
        results.append(piece.attend(module.layer_idx, query[0, :, at:end], scaling, sliding_window))
        at = end
    joined = torch.cat(results, dim=1) if len(results) > 1 else results[0]
    return joined.transpose(0, 1)[None].contiguous(), None
