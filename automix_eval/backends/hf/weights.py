"""Weights of a transformers model that wait for the first call that needs them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

# The names under which transformers looks for weights, in its order.
_WHOLE = ("model.safetensors", "pytorch_model.bin")
# What the harness's class makes of weights before its tokenizer is complete, or with all processes.
_AT_ONCE = ("autogptq", "delta", "gptqmodel", "peft", "tp_plan")


@dataclass(slots=True)
class Pending:
    """Stands in for a model until it is loaded.

    Attributes:
        load: Makes the model.
        config: What the model will be.
        device: Where it is to be moved once it is there; None: it is put there while it is loaded.
    """

    load: Callable[[], None]
    config: Any
    device: Any = None

    def to(self, device: Any) -> None:
        """Note the device."""
        self.device = device


def can_wait(pretrained: str, settings: Mapping[str, Any]) -> bool:
    """Whether loading later shows no error that loading now would have shown.

    So nothing that may be wrong is put off: neither a download, nor a damaged or missing file, nor
    arguments that only the model's own class can judge. Too little memory alone is found late.

    Args:
        pretrained: A folder, or a name on the hub.
        settings: The other arguments of the harness's ``_create_model``.
    """
    named = {"dtype", "gpus", "gguf_file", "max_cpu_memory", "max_memory_per_gpu",
             "offload_folder", "parallelize", "quantization_config", "revision", "subfolder",
             "trust_remote_code", *_AT_ONCE}  # fmt: skip
    if set(settings) - named or any(settings.get(name) for name in _AT_ONCE):
        return False
    if settings.get("quantization_config") is not None:
        return False  # it needs packages that only loading asks for
    folder = str(settings.get("subfolder") or "")
    prefix = f"{folder}/" if folder else ""
    if settings.get("gguf_file"):
        return _file(pretrained, prefix + str(settings["gguf_file"]), settings) is not None
    return any(_is_whole(pretrained, prefix, name, settings) for name in _WHOLE)


def commit_of(pretrained: str, settings: Mapping[str, Any]) -> str | None:
    """The commit that a hub's model has in this machine's cache; None for a folder.

    Args:
        pretrained: A folder, or a name on the hub whose configuration was loaded.
        settings: ``revision``, ``subfolder`` and ``gguf_file``, where they are set.
    """
    if Path(pretrained).is_dir():
        return None
    name = str(settings.get("gguf_file") or "config.json")
    if settings.get("subfolder"):
        name = f"{settings['subfolder']}/{name}"
    file = _file(pretrained, name, settings)
    found = file and re.search(r"snapshots/([0-9a-f]{40})/", file.as_posix())
    return found.group(1) if found else None


def _is_whole(pretrained: str, prefix: str, name: str, settings: Mapping[str, Any]) -> bool:
    """Whether the weights of this name are here, in one file or in every one of its parts."""
    file = _file(pretrained, prefix + name, settings)
    if file is not None:
        return _reads(file)
    index = _file(pretrained, f"{prefix}{name}.index.json", settings)
    if index is None:
        return False
    try:
        parts = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    found = [_file(pretrained, prefix + str(part), settings) for part in parts]
    return bool(found) and all(part is not None and _reads(part) for part in found)


def _file(pretrained: str, name: str, settings: Mapping[str, Any]) -> Path | None:
    """A model's file on this machine; None where it is not here."""
    folder = Path(pretrained)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    revision = str(settings.get("revision") or "main")
    try:
        found = try_to_load_from_cache(pretrained, name, revision=revision)
    except ValueError:  # no name of the hub: loading says so
        return None
    return Path(found) if isinstance(found, str) else None


def _reads(file: Path) -> bool:
    """Whether a file is complete; only the format safetensors tells."""
    if file.suffix != ".safetensors":
        return True
    try:
        with safe_open(file, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False
