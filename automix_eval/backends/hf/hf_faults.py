"""What a model in this process can fail with while it is asked, as errors the user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.logs import harmless
from automix_eval.safety.redaction import scrub
from automix_eval.safety.text import printable


@contextmanager
def named(tier: str, label: str) -> Iterator[None]:
    """Turn what PyTorch raises in the middle of a call into an error that names the tier.

    A fault is never an answer: the call is not stored, and the same command asks it again.

    Args:
        tier: As in the configuration, "slm" or "llm".
        label: The model's own name.

    Raises:
        AutoMixError: The memory did not suffice, or the model failed on a prompt.
    """
    try:
        yield
    except AutoMixError:
        raise
    except torch.cuda.OutOfMemoryError as err:
        raise AutoMixError(
            f"{tier} ({label}) ran out of GPU memory: {_short(err)}. Remedy: lower "
            f"{tier}.batch_size or {tier}.max_length, or put the tiers on different GPUs by "
            f"{tier}.device. Finished calls are kept: run the same command to resume"
        ) from harmless(err)
    except RuntimeError as err:
        raise AutoMixError(
            f"{tier} ({label}) failed on a prompt: {type(err).__name__}: {_short(err)}. Remedy: "
            f"try {tier}.dtype=float32, {tier}.shared_prefix=false or a smaller "
            f"{tier}.batch_size. Finished calls are kept: run the same command to resume"
        ) from harmless(err)


def _short(err: BaseException) -> str:
    """The first line, without secrets: PyTorch appends pages of advice."""
    lines = scrub(str(err)).strip().splitlines()
    return printable(lines[0][:400]).rstrip(".") if lines else "no reason given"
