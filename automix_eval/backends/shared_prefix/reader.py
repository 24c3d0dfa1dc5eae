"""A forward pass of a transformers model over pieces of prompt trees.

The new tokens of all pieces stand end to end, without padding: every layer but attention works
token by token, and attention looks each piece's past up in its tree. Whether that gives the model's
own numbers is found out before it is used: by a probe of what each layer sees at any length
(:mod:`.probe`), and by comparing logits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from automix_eval.backends.shared_prefix.cache import PrefixCache
from automix_eval.backends.shared_prefix.pieces import Piece, Reading, TreeStep, joined, place
from automix_eval.backends.shared_prefix.probe import (
    UnsupportedModelError,
    Windows,
    reach,
    tolerance,
)
from automix_eval.backends.shared_prefix.tree import Span, Tree, TreeRow

_NAME = "automix_tree"
#: Tokens of the self-test, and most of them where the smallest window is to be crossed.
_SELF_TEST, _LONGEST_TEST = 20, 96
#: Prompt tokens after which a pass takes no further prompt, and samples drawn side by side whatever
#: the batch size, since they share their prompt's memory: on a processor and on an accelerator.
_PASS_TOKENS, _SAMPLES = (1024, 8192), (16, 64)
#: Fewest tokens of a common start for whose sake a prompt waits for the next pass, and fewest that
#: are copied from what was read: a pass, and a copy in each layer, cost as much as so many.
_WAITS, _COPIES = (1, 512), (1, 64)


class Reader:
    """A causal model of transformers that reads pieces of trees.

    Args:
        model: The model, in evaluation mode.
        budget: Bytes of the prefix cache.
        window: Most tokens of a prompt and its answer.
        autocast: Arguments of torch.autocast.

    Attributes:
        reach: Most tokens of a prompt and its answer that are read as the model itself reads them.
        together: Whether one tree holds all prompts in progress, as on an accelerator.

    Raises:
        UnsupportedModelError: Its attention cannot be replaced; found by trying it.
    """

    def __init__(
        self, model: Any, budget: int, window: int, autocast: dict[str, Any] | None = None
    ) -> None:
        self.model = model
        self.cache = PrefixCache(budget)
        self.reach = window
        self.together = _pays_for_calls(model.device)
        self._autocast = autocast or {"device_type": "cpu", "enabled": False}
        self._configs = list(
            {
                id(m.config): m.config
                for m in model.modules()
                if hasattr(getattr(m, "config", None), "_attn_implementation")
            }.values()
        )
        self._windows: Windows = {}
        AttentionInterface.register(_NAME, _attend)
        self._check(window)

    @property
    def pass_tokens(self) -> int:
        """Prompt tokens after which a pass takes no further prompt."""
        return _PASS_TOKENS[self.together]

    @property
    def samples(self) -> int:
        """Samples that are drawn side by side whatever the batch size."""
        return _SAMPLES[self.together]

    def known(self, tokens: Sequence[int], tree: Tree) -> list[Span]:
        """Put what is known of a start into a tree, and say which columns hold it."""
        length, pieces = self.cache.match(tokens)
        return tree.hold(pieces) if length >= _COPIES[self.together] else []

    def is_worth_a_pass(self, tokens: int) -> bool:
        """Whether so many tokens of a common start are worth waiting for."""
        return tokens >= _WAITS[self.together]

    def remember(self, tokens: Sequence[int], tree: Tree, spans: Sequence[Span]) -> None:
        """Hold a start that was read, whose keys and values stand in some columns of a tree."""
        self.cache.insert(tokens, [tree.of(layer, spans) for layer in sorted(tree.layers)])

    @torch.inference_mode()
    def forward(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Read pieces in one pass; a piece may attend to those before it.

        Returns:
            For each piece the logits of its last ``keep`` tokens, [keep, vocabulary].
        """
        if not pieces:
            return []
        order = list(range(len(pieces)))
        if self.together:  # those whose attention is computed at once stand side by side
            order.sort(key=lambda i: place(pieces[i]))
        pieces = [pieces[i] for i in order]
        keep: list[int] = []
        at = 0
        for piece in pieces:
            at += len(piece.tokens)
            keep += range(at - piece.keep, at)
        device = self.model.device
        tokens = torch.tensor([[t for p in pieces for t in p.tokens]], device=device)
        positions = torch.tensor([[i for p in pieces for i in p.positions]], device=device)
        units = joined(pieces, self.together)
        _reading.append((units, self._windows))
        try:
            with self._attending(_NAME), torch.autocast(**self._autocast):
                output = self.model(
                    input_ids=tokens,
                    position_ids=positions,
                    past_key_values=_Writer(units),
                    use_cache=True,
                    logits_to_keep=torch.tensor(keep, dtype=torch.long, device=device),
                )
        finally:
            _reading.pop()
        logits = output.logits[0].split([p.keep for p in pieces])
        return [found for _, found in sorted(zip(order, logits, strict=True), key=lambda x: x[0])]

    @contextlib.contextmanager
    def _attending(self, name: str) -> Iterator[None]:
        """Let the model use an attention for one pass; the harness's calls see its own."""
        before = [config._attn_implementation for config in self._configs]
        try:
            for config in self._configs:
                config._attn_implementation = name
            yield
        finally:
            for config, own in zip(self._configs, before, strict=True):
                config._attn_implementation = own

    @torch.inference_mode()
    def _check(self, window: int) -> None:
        """See what the layers attend to, and compare logits with the model's own."""
        model = self.model
        if getattr(model.config, "is_encoder_decoder", False) or not self._configs:
            raise UnsupportedModelError("it is no decoder of transformers")
        try:
            weights = model.get_input_embeddings().weight
            allowed = tolerance(
                weights.dtype, self._autocast["dtype"] if self._autocast["enabled"] else None
            )
            with torch.autocast(**self._autocast):
                found, self._windows = reach(model, self._attending, window, allowed)
            layers = getattr(model.config.get_text_config(), "num_hidden_layers", 1)
            if len(self._windows) < layers:  # in low precision their logits may not tell
                raise UnsupportedModelError(
                    f"{layers - len(self._windows)} of its {layers} layers have no attention of "
                    "transformers"
                )
            self.reach = found or window
            error = self._error(min(int(weights.shape[0]), 1000))
        except UnsupportedModelError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as err:
            raise UnsupportedModelError(
                f"it cannot be read in pieces, {type(err).__name__}: {str(err)[:120]}"
            ) from err
        if not error <= allowed:
            raise UnsupportedModelError(
                f"its logits differ by {error:.2g} of their size or of what the past changes"
            )

    def _error(self, tokens: int) -> float:
        """Largest relative error of a pass with branches, of a step, and of a prompt beside them.

        Relative to the logits or to what the first half of the prompt changes in them, whichever is
        less, so that a model that hardly heeds its past is not trusted for that.
        """
        least = min([w for w in self._windows.values() if w] or [0])
        crossing = least + _SELF_TEST // 2
        size = min(crossing if _SELF_TEST < crossing <= _LONGEST_TEST else _SELF_TEST, self.reach)
        ids = [(7 * i * i + 11) % tokens for i in range(size)]
        half = size // 2
        beside = ids[3 : 3 + size // 3]
        tree = Tree(size)
        alone = tree if self.together else Tree(size)
        start = Reading(tree, ids[:half], [], 0)
        other = Reading(tree, ids[:3], [start.own], 1)
        rest = Reading(tree, ids[half:-1], [start.own], 1)
        first = self.forward([start, other, rest, Reading(alone, beside, [], 1)])
        rows = [TreeRow.after(tree, [start.own, piece.own]) for piece in (other, rest)]
        step = self.forward([TreeStep(tree, rows, [ids[0], ids[-1]])])[0]
        pairs = [(step[1], ids), (first[2][0], ids[:-1]), (first[3][0], beside)]
        return max(self._difference(logits, whole) for logits, whole in pairs)

    def _difference(self, logits: torch.Tensor, ids: Sequence[int]) -> float:
        with torch.autocast(**self._autocast):
            whole = torch.tensor([list(ids)], device=self.model.device)
            # logits of one token: with a large vocabulary they cost more than all the rest
            own, blind = (
                self.model(input_ids=part, logits_to_keep=1).logits[0, -1].float()
                for part in (whole, whole[:, len(ids) // 2 :])
            )
        scale = torch.minimum((blind - own).norm(), own.norm())
        return float((logits.float() - own).norm() / scale)


def _pays_for_calls(device: torch.device) -> bool:
    """Whether a pass costs its calls rather than its arithmetic."""
    return device.type != "cpu"


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
        """None: positions are given with each pass."""
        return 0


#: Pieces of the passes in progress and the windows of their model, the innermost last.
_reading: list[tuple[Sequence[Piece], Windows]] = []


def _attend(
    module: Any,
    query: torch.Tensor,
    _key: torch.Tensor,
    _value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001
    **more: Any,
) -> tuple[torch.Tensor, None]:
    for name in ("softcap", "s_aux", "position_bias"):
        if more.get(name) is not None:
            raise ValueError(f"attention with {name} is not supported")
    results, at = [], 0
    pieces, windows = _reading[-1]
    # The window that the model's own mask has: some models tell their attention of none, or of one
    # in layers that have none.
    layer, window = module.layer_idx, windows[module.layer_idx]
    for piece in pieces:
        end = at + len(piece.tokens)
        results.append(piece.attend(layer, query[0, :, at:end], scaling, window))
        at = end
    joined = torch.cat(results, dim=1) if len(results) > 1 else results[0]
    return joined.transpose(0, 1)[None].contiguous(), None
