"""A fine-tuned text scorer: an encoder's last layers, and a logistic head on the mean token.

The trained weights do not fit a JSON policy. They are a safetensors file in a folder, named by its
own SHA-256; the policy holds that name and the SHA-256 of the encoder it belongs to, and both are
checked when the policy is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automix_eval.backends.encoder import Batch, Encoder, load, through
from automix_eval.meta_verifiers.baselines import common
from automix_eval.paths import cache_dir
from automix_eval.records.outcomes import FloatArray, IntArray
from automix_eval.safety.errors import AutoMixError

if TYPE_CHECKING:
    import torch

# A text's score depends in its last digits on the texts it shares a batch with.
DECIMALS = 5
# The head starts from nothing, and the layers from what they know.
HEAD_RATE = 10.0
WEIGHT_DECAY = 0.01
# Scores remembered, so that a sweep of policies runs the encoder once.
REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a scorer is trained.

    Attributes:
        encoder: Name of the encoder.
        train_layers: Last layers to train; those below are frozen.
        epochs: Passes over the data.
        learning_rate: Of AdamW, for the layers; falls linearly to 0.
        batch_size: Texts a step.
        max_length: Tokens of a text, or pair, at most.
        seed: Of the order of the batches.
    """

    encoder: str
    train_layers: int
    epochs: int
    learning_rate: float
    batch_size: int
    max_length: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("train_layers", "epochs", "batch_size"):
            common.check_count(name, getattr(self, name), 1)
        common.check_count("max_length", self.max_length, 8)
        common.check_positive("learning_rate", self.learning_rate)

    def batches(
        self, texts: Sequence[Sequence[str]], groups: IntArray | None = None
    ) -> list[Batch]:
        """Texts, through the frozen layers; no batch holds texts of two groups."""
        if groups is None:
            groups = np.zeros(len(texts[0]), dtype=np.intp)
        return load(self.encoder).batches(
            texts, groups, self.train_layers, self.max_length, self.batch_size
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Scores texts in [0, 1].

    Attributes:
        tuning: How it was trained, and so how texts are read.
        top: The trained layers, then the head.
        memory: Scores of texts seen before.
    """

    tuning: Tuning
    top: torch.nn.ModuleList
    memory: dict[tuple[str, ...], float] = field(default_factory=dict)

    def score(self, *texts: Sequence[str]) -> FloatArray:
        """(n,) scores of n texts, or of n pairs."""
        keys = list(zip(*texts, strict=True))
        fresh = sorted({key for key in keys if key not in self.memory})
        if len(self.memory) + len(fresh) > REMEMBERED:
            self.memory.clear()
            fresh = sorted(set(keys))
        if fresh:
            batches = self.tuning.batches(list(zip(*fresh, strict=True)))
            values = predict(self.top, batches, len(fresh)).tolist()
            self.memory.update(zip(fresh, values, strict=True))
        return np.array([self.memory[key] for key in keys])

    def save(self, folder: str | None) -> dict[str, Any]:
        """Write the weights, and say in JSON how to find them again."""
        from safetensors.torch import save

        data = save({k: v.contiguous() for k, v in self.top.state_dict().items()})
        digest = hashlib.sha256(data).hexdigest()
        path = _path(folder, digest)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.partial")
            part.write_bytes(data)
            part.replace(path)
        return {
            "weights_sha256": digest,
            "encoder_sha256": load(self.tuning.encoder).sha256,
            "train_layers": self.tuning.train_layers,
            "max_length": self.tuning.max_length,
        }

    @classmethod
    def restore(cls, tuning: Tuning, folder: str | None, saved: Any) -> Scorer:
        """The scorer of a policy.

        Raises:
            AutoMixError: The weights are missing or changed, or the encoder is another one.
            ValueError: The entry has another shape, or other hyper-parameters.
        """
        common.exactly(saved, "weights_sha256", "encoder_sha256", "train_layers", "max_length")
        for name in ("train_layers", "max_length"):
            if saved[name] != getattr(tuning, name):
                raise ValueError(f"{name}={saved[name]!r}, configured {getattr(tuning, name)}")
        encoder = load(tuning.encoder)
        if saved["encoder_sha256"] != encoder.sha256:
            raise AutoMixError(
                f"this policy was fine-tuned from an encoder with SHA-256 "
                f"{common.text(saved['encoder_sha256'])}, and meta_verifier.encoder="
                f"{tuning.encoder} has {encoder.sha256}: give the same encoder, or fit again"
            )
        top = _top(encoder, tuning)
        top.load_state_dict(_read(_path(folder, common.text(saved["weights_sha256"]))))
        return cls(tuning, top)


def train(tuning: Tuning, batches: Sequence[Batch], targets: FloatArray) -> torch.nn.ModuleList:
    """Train a top on batches, by the cross-entropy of (n,) targets in [0, 1].

    No layer drops anything out, so the order of the batches, which the seed fixes, is all the
    randomness there is.
    """
    import torch

    wanted = torch.tensor(targets, dtype=torch.float32)
    rows = np.concatenate([b.rows for b in batches])
    mean = float(np.clip(targets[rows].mean(), 0.01, 0.99))
    top = _top(load(tuning.encoder), tuning, float(np.log(mean / (1 - mean))))
    rate = tuning.learning_rate
    optimizer = torch.optim.AdamW(
        [
            {"params": top[:-1].parameters(), "lr": rate},
            {"params": top[-1].parameters(), "lr": rate * HEAD_RATE},
        ],
        weight_decay=WEIGHT_DECAY,
    )
    steps = tuning.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(tuning.seed)
    for _ in range(tuning.epochs):
        for i in torch.randperm(len(batches), generator=generator).tolist():
            batch = batches[i]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                _logits(top, batch), wanted[batch.rows]
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return top


def predict(top: torch.nn.ModuleList, batches: Sequence[Batch], size: int) -> FloatArray:
    """(size,) scores of the rows of some batches, NaN for other rows."""
    import torch

    made = np.full(size, np.nan)
    with torch.no_grad():
        for batch in batches:
            made[batch.rows] = torch.sigmoid(_logits(top, batch)).numpy()
    return np.round(made, DECIMALS)


def cross_fit(
    tuning: Tuning, texts: Sequence[Sequence[str]], targets: FloatArray, fold: IntArray
) -> tuple[FloatArray, Scorer]:
    """(n,) scores of each text by a scorer that never saw its fold, and a scorer trained on all."""
    batches = tuning.batches(texts, fold)
    of_batch = np.array([fold[b.rows[0]] for b in batches])
    held = np.full(len(fold), np.nan)
    for k in np.unique(fold):
        top = train(tuning, [b for b, f in zip(batches, of_batch, strict=True) if f != k], targets)
        out = predict(top, [b for b, f in zip(batches, of_batch, strict=True) if f == k], len(held))
        held = np.where(fold == k, out, held)
    return held, Scorer(tuning, train(tuning, batches, targets))


def _top(encoder: Encoder, tuning: Tuning, bias: float = 0.0) -> torch.nn.ModuleList:
    """A copy of the last layers, and a head that says the same of every text."""
    import torch

    layers = [deepcopy(layer).requires_grad_(True) for layer in encoder.top(tuning.train_layers)]
    head = torch.nn.Linear(encoder.width, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, bias)
    return torch.nn.ModuleList([*layers, head])


def _logits(top: torch.nn.ModuleList, batch: Batch) -> torch.Tensor:
    """(b,) the head on the mean of the tokens' hidden states."""
    hidden = through(top[:-1], batch)
    weight = batch.mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
    made: torch.Tensor = top[-1](mean).squeeze(-1)
    return made


def _path(folder: str | None, digest: str) -> Path:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"weights_sha256={digest!r:.80}")
    home = Path(folder).expanduser() if folder else cache_dir() / "encoders"
    return home / f"{digest}.safetensors"


def _read(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    try:
        data = path.read_bytes()
    except OSError as err:
        raise AutoMixError(
            f"the weights of this policy, {path}, cannot be read ({err.strerror}): copy the file "
            "there from where the policy was fitted, set meta_verifier.folder, or fit again"
        ) from err
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise AutoMixError(f"{path} was changed after it was written: delete it and fit again")
    try:
        weights: Mapping[str, Any] = read(data)
    except SafetensorError as err:
        raise AutoMixError(f"{path} holds no weights ({err}): delete it and fit again") from err
    return weights
