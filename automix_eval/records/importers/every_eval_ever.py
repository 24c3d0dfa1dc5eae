"""Every Eval Ever (arXiv 2606.14516): the shared schema of lm-eval, inspect and HELM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automix_eval.records.importers.model_outcomes import (
    Long,
    ModelOutcomes,
    field_of,
    header,
    json_of,
    lacks,
    number_of,
    part_of,
    tokens_of,
)
from automix_eval.records.tables import TableError
from automix_eval.safety.text import listing
from automix_eval.safety.untrusted import lines_of, parse_json

_MARKS = {"evaluation_id", "model_id", "sample_id", "evaluation_name"}


class EveryEvalEver:
    """Instance-level records, JSON lines; one file, or all of a folder (one a model).

    Questions are joined by evaluation and ``sample_id``; where models give one question different
    ``sample_hash``, the folder is refused. Questions whose ``metadata`` name one ``document``, as
    those of ``automix-eval outcomes`` do, belong together. Rows with an ``error`` have no score.
    Where the JSON beside the lines says that lower is better, scores get a minus. Repeats are
    averaged; several results of one sample (``evaluation_result_id``, a line a metric)
    are refused unless one is chosen. There are tokens, and no costs.

    Args:
        result: The result that is the score, a whole ``evaluation_result_id`` or a part of it
            between colons; None: the only one.
    """

    def __init__(self, result: str | None = None) -> None:
        self.result = result

    def recognises(self, path: Path) -> bool:
        """By the keys of the first line."""
        return any(set(header(f, ".jsonl")) >= _MARKS for f in _files(path)[:1])

    def read(self, path: Path) -> ModelOutcomes:
        """Read a file or folder; a damaged line is refused."""
        files = _files(path)
        if not files:
            raise lacks(path, "Every Eval Ever", "JSON lines file")
        long, hashes = Long(str(path)), dict[str, str]()
        lower, turned = _lower(files), set[str]()
        results: dict[tuple[str, ...], str] = {}
        for file in files:
            for number, row in _rows(file):
                if self._chosen(row, results, file, number):
                    if is_lower := _is_of(row, lower):
                        turned.add(str(row.get("evaluation_name")))
                    _add(long, hashes, file, number, row, is_lower)
        if not long.questions:
            raise TableError(f"{path} has no result {self.result!r} (format.result)")
        notes = [f"the score is {self.result}"] if self.result else []
        said = f"scores of {listing(sorted(turned))} have a minus, since lower is better"
        return long.columns("mean", [*notes, said] if turned else notes)

    def _chosen(
        self, row: dict[str, Any], results: dict[tuple[str, ...], str], path: Path, number: int
    ) -> bool:
        """Whether a row is read; two results of one sample are no repeats of each other."""
        name = str(row.get("evaluation_result_id") or "")
        if self.result is not None and self.result not in (name, *re.split("[:#]+", name)):
            return False
        keys = ("evaluation_id", "evaluation_name", "model_id", "sample_id")
        before = results.setdefault(tuple(str(row.get(k)) for k in keys), name)
        if before != name:
            raise TableError(
                f"{path}, line {number}: sample {row.get('sample_id')} has the results {before!r} "
                f"and {name!r} (evaluation_result_id): choose one with format.result=NAME (whatif "
                "--metric NAME)"
            )
        return True


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]


def _lower(files: Sequence[Path]) -> set[tuple[str, str]]:
    """(evaluation_id, name of the evaluation or result) of which lower scores are better."""
    found: dict[tuple[str, str], list[bool]] = {}
    for file in files:
        about = file.with_name(re.sub(r"(_samples)?\.jsonl$", ".json", file.name))
        value = json_of(about) if about.suffix == ".json" and about.is_file() else {}
        results = value.get("evaluation_results") if isinstance(value, dict) else None
        for one in results if isinstance(results, list) else []:
            is_lower = isinstance(one, dict) and part_of(one, "metric_config").get(
                "lower_is_better"
            )
            for name in ("evaluation_name", "evaluation_result_id"):
                if isinstance(one, dict) and one.get(name):
                    key = str(value.get("evaluation_id")), str(one[name])
                    found.setdefault(key, []).append(is_lower is True)
    return {key for key, told in found.items() if all(told)}


def _is_of(row: dict[str, Any], held: set[tuple[str, str]]) -> bool:
    names = (row.get("evaluation_result_id"), row.get("evaluation_name"))
    return any((str(row.get("evaluation_id")), str(name)) in held for name in names if name)


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


def _add(
    long: Long, hashes: dict[str, str], path: Path, number: int, row: dict[str, Any], lower: bool
) -> None:
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
    place = f"line {number}"
    value = number_of(score, path, f"{place}: score")
    numbers = {
        "score": 0.0 - value if lower and value is not None else value,
        **tokens_of(part_of(row, "token_usage"), path, place),
    }
    output = row.get("output")
    texts = output.get("raw") if isinstance(output, dict) else None
    answer = str(texts[0]) if isinstance(texts, list) and texts else None
    long.add(question, model, numbers, answer)
    document = part_of(row, "metadata").get("document")
    long.tell(
        question,
        questions=str(field_of(row, path, "input", "raw")),
        tasks=name,
        documents=None if document is None else f"{name}/{document}",
    )
