"""Importers of tables and of samples as functions of bytes: one file of a format is the input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import public_tables as tables

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records.importers.lm_eval_samples import SampleReading, read_runs
from automix_eval.records.importers.model_outcomes import Importer

Parser = Callable[[bytes], None]
# Of a tree the file that is exchanged; of one file that file.
_FILES = {
    "llmrouterbench": "*20250202*.json",
    "every_eval_ever": "*.jsonl",
    "inspect_ai": "*.json",
    "inspect_ai_zip": "*.eval",
    "helm": "per_instance_stats.json",
    "routellm": "*.csv",
}


def importers(folder: Path) -> dict[str, tuple[Parser, bytes]]:
    """For each writer of a format: a parser of one of its files, and that file's bytes."""
    found = {}
    for option, writers in tables.WRITERS.items():
        values = config.compose_application("replay", {"format": option}).format
        made = parts.make_importer(option, values, folder)
        assert made is not None
        for write in writers:
            place = folder / write.__name__
            place.mkdir(parents=True)
            path = write(place)
            name = _FILES.get(write.__name__)
            file = path if name is None else sorted(path.rglob(name))[-1]
            found[f"format, {write.__name__}"] = (_parser(made[1], path, file), file.read_bytes())
    return found


def _parser(importer: Importer, path: Path, file: Path) -> Parser:
    def read(data: bytes) -> None:
        file.write_bytes(data)
        importer.recognises(path)
        importer.read(path)

    return read


def samples(folder: Path) -> tuple[Parser, bytes]:
    """Samples of one of two plain runs, and whole ones."""
    rows = [
        {
            "doc_id": i, "doc": {"question": f"{i}?"}, "doc_hash": f"d{i}", "prompt_hash": f"p{i}",
            "arguments": {f"gen_args_{c}": {"arg_0": f"{i}?", "arg_1": f" {c}"} for c in (0, 1)},
            "resps": [[["-1.5", "False"]], [["-0.5", "True"]]], "filtered_resps": [["-1.5", "a"]],
            "filter": "none", "metrics": ["acc"], "acc": 1.0,
        }
        for i in range(2)
    ]  # fmt: skip
    whole = "\n".join(map(json.dumps, rows)).encode()
    stamp = "2026-01-01T00-00-00"
    for name in ("a", "b"):
        run = folder / name
        run.mkdir(parents=True)
        about = {"config": {"model": "hf", "model_args": {"pretrained": name}}, "versions": {}}
        (run / f"results_{stamp}.json").write_text(json.dumps(about))
        (run / f"samples_t_{stamp}.jsonl").write_bytes(whole)

    def read(data: bytes) -> None:
        (folder / "b" / f"samples_t_{stamp}.jsonl").write_bytes(data)
        read_runs([folder / "a", folder / "b"], SampleReading())

    return read, whole
