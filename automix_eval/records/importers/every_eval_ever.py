"""Every Eval Ever (arXiv 2606.14516): the shared schema of lm-eval, inspect and HELM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automix_eval.records.importers.model_outcomes import (
    Long,
    ModelOutcomes,
    field_of,
    header,
    lacks,
    number_of,
    part_of,
)
from automix_eval.records.tables import TableError
from automix_eval.safety.untrusted import lines_of, parse_json

_MARKS = {"evaluation_id", "model_id", "sample_id", "evaluation_name"}


class EveryEvalEver:
    """Instance-level records, JSON lines; one file, or all of a folder (one a model).

    Questions are joined by evaluation and ``sample_id``; where models give one question different
    ``sample_hash``, the folder is refused. Rows with an ``error`` have no score. Repeats are
    averaged. There are tokens, and no costs.
    """

    def recognises(self, path: Path) -> bool:
        """By the keys of the first line."""
        return any(set(header(f, ".jsonl")) >= _MARKS for f in _files(path)[:1])

    def read(self, path: Path) -> ModelOutcomes:
        """Read a file or folder; a damaged line is refused."""
        files = _files(path)
        if not files:
            raise lacks(path, "Every Eval Ever", "JSON lines file")
        long, hashes = Long(str(path)), dict[str, str]()
        for file in files:
            for number, row in _rows(file):
                _add(long, hashes, file, number, row)
        return long.columns("mean")


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    try:
        for number, line in lines_of(path):
            if line.strip():
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise ValueError("expected an object")
                found.append((number, row))
    except (OSError, ValueError) as err:
        raise TableError(f"{path}, line {len(found) + 1}: damaged: {err}") from err
    return found


def _add(long: Long, hashes: dict[str, str], path: Path, number: int, row: dict[str, Any]) -> None:
    name = str(field_of(row, path, "evaluation_name"))
    question = f"{name}/{field_of(row, path, 'sample_id')}"
    model = str(field_of(row, path, "model_id"))
    seen = row.get("sample_hash")
    if seen is not None and hashes.setdefault(question, str(seen)) != seen:
        raise TableError(
            f"{path}, line {number}: {question} is another question here than in a file before "
            "(sample_hash differs): these models are not paired"
        )
    score = field_of(row, path, "evaluation", "score") if row.get("error") is None else None
    usage = part_of(row, "token_usage")
    place = f"line {number}"
    numbers = {
        "score": number_of(score, path, f"{place}: score"),
        "prompt_tokens": number_of(usage.get("input_tokens"), path, f"{place}: input_tokens"),
        "generated_tokens": number_of(usage.get("output_tokens"), path, f"{place}: output_tokens"),
    }
    output = row.get("output")
    texts = output.get("raw") if isinstance(output, dict) else None
    answer = str(texts[0]) if isinstance(texts, list) and texts else None
    long.add(question, model, numbers, answer)
    long.tell(question, questions=str(field_of(row, path, "input", "raw")), tasks=name)
