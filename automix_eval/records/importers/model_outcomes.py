"""What an importer gives: what every model of a table did on its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from automix_eval.records.outcomes import FloatArray, IntArray
from automix_eval.records.tables import StoredTable, TableError, column_names, read_table
from automix_eval.safety.text import listing
from automix_eval.safety.untrusted import MIB, read_json

Texts = tuple[str, ...]
_MOST_JSON = 2048 * MIB


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutcomes:
    """n questions that M models were asked.

    Attributes:
        models: Names, in the order of the table.
        ids: (n,) identity of each question.
        scores: (n, M) of each answer; NaN where the table has none.
        costs: (n, M) of each answer, NaN where missing; None where the format has no costs.
        prompt_tokens: (n, M) likewise.
        generated_tokens: (n, M) likewise.
        confidences: (n, M) in [0, 1], NaN where undefined; None where the format has none.
        questions: (n,) texts.
        answers: ``answers[model][row]``, texts.
        splits: (n,) the table's own part of each question.
        tasks: (n,) the data set of each question.
        documents: (n,) questions about one document share it; None: each its own.
        parameters: (M,) of each model, None where only its name may tell.
        metric: What a score is.
        notes: What the reader should know, a sentence each.
    """

    models: Texts
    ids: Texts
    scores: FloatArray
    costs: FloatArray | None = None
    prompt_tokens: FloatArray | None = None
    generated_tokens: FloatArray | None = None
    confidences: FloatArray | None = None
    questions: Texts | None = None
    answers: tuple[Texts, ...] | None = None
    splits: Texts | None = None
    tasks: Texts | None = None
    documents: Texts | None = None
    parameters: tuple[float | None, ...] | None = None
    metric: str = "score"
    notes: Texts = ()

    def __post_init__(self) -> None:
        if len(set(self.models)) < len(self.models) or len(self.models) < 2:
            raise TableError(
                f"a chain needs at least two models, and the table has {listing(list(self.models))}"
            )


class Importer(Protocol):
    """A format of outcome tables; see hydra_conf/format."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is surely of this format; looks at names and headers only."""
        ...

    def read(self, path: Path) -> ModelOutcomes:
        """Read a file or folder.

        Raises:
            TableError: It is not of the format, or damaged; names file and place. Nothing of it
                is used then.
        """
        ...


def header(path: Path, *suffixes: str) -> list[str]:
    """The columns of a file with one of these suffixes; none for a folder or another file."""
    if not path.is_file() or not any(s in suffixes for s in path.suffixes):
        return []
    try:
        return column_names(path)
    except TableError:  # reading it tells what is wrong with it
        return []


def lacks(path: Path, name: str, what: str) -> TableError:
    """The error for a file that is not of the format it was said to be of."""
    return TableError(f"{path} is no table of {name}: it has no {what}")


def stack(table: StoredTable, columns: Sequence[str], least: float = -np.inf) -> FloatArray:
    """(n, columns) numbers, NaN for empty cells; a damaged cell is refused by row and column."""
    found = []
    rows = np.arange(len(table))
    for name in columns:
        values, empty = table.numbers(name)
        expected = "a finite number" + ("" if least == -np.inf else f" of at least {least:g}")
        bad = ~empty & ~(np.isfinite(values) & (values >= least))
        table.refuse(bad, name, rows, f"{expected}, or an empty cell")
        found.append(values)
    return np.stack(found, axis=1)


def wide_table(
    path: Path, names: Sequence[str], numbers: Mapping[str, Sequence[str]],
    texts: Mapping[str, str], answers: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Fields of :class:`ModelOutcomes` from a table with a row a question and columns a model.

    Args:
        path: The table.
        names: Its columns.
        numbers: Field -> its column of every model; all but scores are at least 0.
        texts: Field -> its column, which may be missing.
        answers: The column of every model's answers; there are none unless all of them exist.
    """
    answers = answers if set(answers) <= set(names) else ()
    known = {field: name for field, name in texts.items() if name in names}
    columns = [name for some in numbers.values() for name in some]
    table = read_table(path, columns, [*known.values(), *answers])
    found: dict[str, Any] = {"ids": tuple(str(i + 1) for i in range(len(table)))}
    for name, some in numbers.items():
        found[name] = stack(table, some, -np.inf if name == "scores" else 0.0)
    found |= {field: tuple(table.texts(name)) for field, name in known.items()}
    found["answers"] = tuple(tuple(table.texts(a)) for a in answers) or None
    return found


@dataclass(slots=True)
class Long:
    """Rows of a long table, one a question and model, on their way to columns.

    Attributes:
        what: The file or folder, for messages.
        questions: Of each row, the question's identity.
        models: Of each row, the model's name.
        numbers: Column by name (``score``, ``cost``, ``prompt_tokens``, ``generated_tokens``),
            each a number a row, NaN where missing.
        answers: Of each row, the answer's text.
        of_question: Column of texts by name (``questions``, ``splits``, ``tasks``,
            ``documents``), each a mapping from question to text. A question without a document
            is one of its own.
    """

    what: str
    questions: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    of_question: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(
        self, question: str, model: str, numbers: Mapping[str, float | None], answer: str | None
    ) -> None:
        """One row; every row has the same keys of numbers, None where one is missing."""
        self.questions.append(question)
        self.models.append(model)
        for name, value in numbers.items():
            self.numbers.setdefault(name, []).append(np.nan if value is None else float(value))
        self.answers.append(answer or "")

    def tell(self, question: str, **texts: str | None) -> None:
        """What is known of a question; the first to tell is kept."""
        for name, text in texts.items():
            if text is not None:
                self.of_question.setdefault(name, {}).setdefault(question, text)

    def columns(self, repeats: str = "refuse", notes: Sequence[str] = ()) -> ModelOutcomes:
        """One row a question.

        Args:
            repeats: What several rows of a question and model are: ``mean`` (the figures are
                averaged, the first answer is kept) or ``refuse``.
            notes: Sentences for the reader.
        """
        ids, row = _factorize(self.questions)
        models, column = _factorize(self.models)
        cell = row * len(models) + column
        count = np.bincount(cell, minlength=len(ids) * len(models))
        if repeats == "refuse" and count.max(initial=0) > 1:
            twice = int(np.argmax(count))
            raise TableError(
                f"{self.what}: question {ids[twice // len(models)]!r} has {count[twice]} rows of "
                f"the model {models[twice % len(models)]!r}"
            )
        tables = {name: _mean(np.array(v), cell, count) for name, v in self.numbers.items()}
        shaped = {name: v.reshape(len(ids), len(models)) for name, v in tables.items()}
        answers = None
        if any(self.answers):
            texts = [[""] * len(ids) for _ in models]
            for at in range(len(cell) - 1, -1, -1):  # backwards: the first one stays
                texts[column[at]][row[at]] = self.answers[at]
            answers = tuple(map(tuple, texts))
        known = {
            name: tuple(texts.get(i, i if name == "documents" else "") for i in ids)
            for name, texts in self.of_question.items()
        }
        return ModelOutcomes(
            models=tuple(models),
            ids=tuple(ids),
            scores=shaped["score"],
            costs=_some(shaped.get("cost")),
            prompt_tokens=_some(shaped.get("prompt_tokens")),
            generated_tokens=_some(shaped.get("generated_tokens")),
            questions=known.get("questions"),
            answers=answers,
            splits=known.get("splits"),
            tasks=known.get("tasks"),
            documents=known.get("documents"),
            notes=tuple(notes),
        )


def json_of(path: Path) -> Any:
    """A JSON file, strictly read but for NaN, which is None; TableError where it is damaged."""
    try:
        return read_json(path, _MOST_JSON, nan_is_none=True)
    except (OSError, ValueError) as err:
        raise TableError(f"{path} is damaged: {err}") from err


def field_of(value: Any, path: Path, *keys: str) -> Any:
    """A value inside objects; TableError names the key that lacks."""
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise TableError(f"{path} has no {'.'.join(keys)} where one is expected")
        value = value[key]
    return value


def list_of(value: Any, path: Path, key: str) -> list[Any]:
    """A list inside an object; TableError where there is none."""
    found = field_of(value, path, key)
    if not isinstance(found, list):
        raise TableError(f"{path}: {key} is no list")
    return found


def part_of(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An optional object inside an object; empty where there is none."""
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def number_of(value: Any, path: Path, what: str) -> float | None:
    """A finite number or None; TableError for anything else."""
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise TableError(f"{path}: {what} is {value!r}, expected a finite number")
    return float(value)


def tokens_of(usage: Mapping[str, Any], path: Path, place: str) -> dict[str, float | None]:
    """``prompt_tokens`` and ``generated_tokens`` of inspect's usage, cached ones included.

    Its ``input_tokens`` leave out what a cache held or took, as its providers count them now; where
    they add up to ``total_tokens`` already, nothing was left out.
    """
    names = ("input_tokens", "output_tokens", "total_tokens", "input_tokens_cache_read",
             "input_tokens_cache_write")  # fmt: skip
    read, made, total, *cached = (number_of(usage.get(n), path, f"{place}: {n}") for n in names)
    if read is not None and (not total or total != read + (made or 0.0)):
        read += sum(c or 0.0 for c in cached)
    return {"prompt_tokens": read, "generated_tokens": made}


def _factorize(values: Sequence[str]) -> tuple[list[str], IntArray]:
    """Different values in the order of their first row, and each row's number among them."""
    import pyarrow as pa  # type: ignore[import-untyped]

    found: Any = pa.array(values, pa.large_string()).dictionary_encode()
    return found.dictionary.to_pylist(), found.indices.to_numpy().astype(np.intp)


def _mean(values: FloatArray, cell: IntArray, count: IntArray) -> FloatArray:
    sums = np.bincount(cell, values, minlength=len(count))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, sums / count, np.nan))


def _some(table: FloatArray | None) -> FloatArray | None:
    """None where nothing is known."""
    return None if table is None or np.isnan(table).all() else table
