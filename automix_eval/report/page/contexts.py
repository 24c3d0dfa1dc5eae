"""The passages questions were asked about, from the harness's samples; each distinct one once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from automix_eval.records.harness_results import find_results, samples_of
from automix_eval.records.runs import Run
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.untrusted import lines_of


class _Doc(msgspec.Struct):
    context: Any = None


class _Sample(msgspec.Struct):
    """What is needed of a line; the harness's prompts in it are never built."""

    doc_id: int
    doc: _Doc


class Contexts:
    """Numbered texts, and which question has which.

    Records hold no passages, because many questions share one; the harness writes them into
    ``samples_<task>_<time>.jsonl`` when it is run with ``--log_samples``.

    Attributes:
        texts: The distinct passages.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._by_question: dict[tuple[str, str, int], int] = {}

    @classmethod
    def of(cls, runs: tuple[Run, ...]) -> Contexts:
        """The passages of all evaluation questions of some runs.

        Raises:
            AutoMixError: A samples file cannot be read.
        """
        contexts = cls()
        for run in runs:
            for task, path in _samples_files(run):
                contexts.read(run.run_id, task, path)
        return contexts

    def read(self, run_id: str, task: str, path: Path) -> None:
        """Take the passages of one samples file."""
        decoder = msgspec.json.Decoder(_Sample)
        try:
            for _, line in lines_of(path):
                try:
                    self._add(run_id, task, decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    # The comparison of samples and records names damaged lines; here they
                    # only mean that a question has no passage to show.
                    continue
        except (OSError, ValueError) as err:
            raise AutoMixError(f"cannot read {path}: {err}") from err

    def find(self, run_id: str, task: str, doc_id: int) -> int | None:
        """Number of a question's passage; None where the harness kept none."""
        return self._by_question.get((run_id, task, doc_id))

    def _add(self, run_id: str, task: str, sample: _Sample) -> None:
        text = sample.doc.context
        if not isinstance(text, str) or not text.strip():
            return
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        self._by_question[run_id, task, sample.doc_id] = number


def _samples_files(run: Run) -> Iterator[tuple[str, Path]]:
    results, _ = find_results([run.path])
    for task in run.records:
        if (path := samples_of(results, run.run_id, task)) is not None:
            yield task, path
