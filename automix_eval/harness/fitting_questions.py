"""Which questions of a task a router is fitted on: none that its evaluation scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

from datasets import Dataset

from automix_eval.harness.demonstrations import document_id
from automix_eval.harness.templates import templates_compiled_once
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.records.evaluated_rows import bare_text
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, questions

_OTHER_WAYS = (
    "meta_verifier.policy=FILE.json with meta_verifier.transfer=true and a policy fitted "
    "elsewhere, or a meta-verifier that needs no fit (self_consistency, always_slm, always_llm)"
)
# what the harness calls its splits
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class FittingChoice:
    """Questions to fit on, as indices in their split.

    Attributes:
        doc_ids: Ascending.
        split: train, validation or test, whatever the data set calls it.
        notes: What the reader of the run must know of them.
    """

    doc_ids: tuple[int, ...]
    split: str
    notes: tuple[str, ...] = ()


class FittingQuestions:
    """Chooses among the questions of a task: of its train split, else of its validation split.

    What counts as evaluated is the whole split that the task evaluates, whatever part of it this
    run asks: a policy outlives its run.

    A task that has too few questions but the evaluated ones is parted by whole documents, if the
    user says so: one part is fitted on, and the evaluation does without it.

    Args:
        name: The task's name.
        task: The harness's task object.
        calibration: The settings of the fit; None where none is to be.
    """

    def __init__(self, name: str, task: Any, calibration: Any = None) -> None:
        self._name = name
        self._task = task
        self._settings = calibration
        self._fitted_documents: frozenset[str] = frozenset()
        earlier = getattr(task, "process_results", None)  # of an evaluation of the same object
        if scored := getattr(earlier, "scored", None):
            task.process_results = scored
        self._docs: dict[str, Any] = {}

    def docs(self, split: str) -> Any:
        """The questions of a split (train, validation, test); none where the task has no such."""
        if split not in self._docs:
            task, name = self._task, _SPLITS.get(split, "")
            known = name and getattr(task, f"has_{name}_docs")()
            # a task's file may name a split that its data lack: the harness reads the evaluated one
            declared = getattr(task.config, f"{name}_split", None)
            data = getattr(task, "dataset", None)
            known = known and (declared is None or data is None or declared in data)
            self._docs[split] = getattr(task, f"{name}_docs")() if known else ()
        return self._docs[split]

    def are_on(self, doc: Mapping[str, Any]) -> bool:
        """Whether an evaluated question is on a document of the part that is fitted on."""
        return self.has_fitted_documents and self._document(doc) in self._fitted_documents

    @property
    def has_fitted_documents(self) -> bool:
        """Whether some evaluated documents are fitted on."""
        return bool(self._fitted_documents)

    def reuse(self, split: str, doc_ids: Iterable[object]) -> str:
        """Take the fitting questions of a policy that was fitted on this task.

        Args:
            split: As the policy names it.
            doc_ids: Likewise.

        Returns:
            What the reader of the run must know: empty where none of them is evaluated.
        """
        docs = self.docs(split)
        known = [docs[i] for i in doc_ids if isinstance(i, int) and 0 <= i < len(docs)]
        again = list(compress(known, self._are_evaluated(known)))
        self._fitted_documents = frozenset(map(self._document, again))
        if not again:
            return ""
        return (
            f"the policy was fitted on {questions(len(again))} that task {self._name} evaluates: "
            f"those on their {len(self._fitted_documents)} documents are in no figure"
        )

    def leave_out_of_scores(self) -> None:
        """Let the harness's own figures do without questions that the router was fitted on."""
        scored = self._task.process_results
        if not self.has_fitted_documents or hasattr(scored, "scored"):
            return

        def unless_fitted(doc: Mapping[str, Any], results: Any) -> Any:
            return {} if self.are_on(doc) else scored(doc, results)

        unless_fitted.scored = scored  # type: ignore[attr-defined]
        self._task.process_results = unless_fitted

    @cached_property
    def choice(self) -> FittingChoice:
        """The questions to fit on; more of them repeat all of fewer.

        Raises:
            AutoMixError: No split has as many questions that are not evaluated as are needed, or
                fewer are asked for.
        """
        num_docs, min_docs = int(self._settings.num_docs), int(self._settings.min_docs)
        if num_docs < min_docs:
            raise AutoMixError(
                f"task {self._name} is to be fitted on calibration.num_docs={num_docs} questions "
                f"and calibration.min_docs is {min_docs}: lower calibration.min_docs"
            )
        lacking: list[str] = []
        for split in ("train", "validation"):
            if split == self._evaluated_split or not len(self.docs(split)):
                continue
            kept, evaluated = self._draw(split, num_docs)
            if len(kept) >= min_docs:
                notes = self._notes(split, num_docs, kept, evaluated)
                if split != "train":
                    why = f"calibration: the task has {listing(lacking) or 'no train split'}"
                    notes.insert(0, f"{why}: its {split} split is fitted on")
                return FittingChoice(tuple(kept), split, tuple(notes))
            few = f"{len(kept)} {split} questions that are not evaluated too"
            drawn = len(kept) + len(evaluated)
            few += f" ({len(evaluated)} of {drawn} are, by text and choices)" if evaluated else ""
            lacking.append(f"{few} for calibration.min_docs={min_docs}")
        why = listing(lacking) or "no train split and no validation split beside the evaluated one"
        if self._settings.split_documents is not None:
            return self._choose_documents(num_docs, min_docs, why)
        lower = "a lower calibration.min_docs; " if lacking else ""
        raise AutoMixError(
            f"task {self._name} has {why}, and nothing that is evaluated is fitted on. Ways out: "
            "calibration.split_documents=0.5, which parts the evaluated questions by document, "
            f"fits on half of them and scores the others; {lower}{_OTHER_WAYS}"
        )

    def _draw(self, split: str, num_docs: int) -> tuple[list[int], list[int]]:
        """Questions of a split to fit on, and those drawn that are evaluated; both ascending."""
        docs = self.docs(split)
        kept: list[int] = []
        evaluated: list[int] = []
        number = min(num_docs, len(docs))
        drawn = 0
        while len(kept) < num_docs and drawn < len(docs):
            # a larger sample begins with the smaller one
            sample = nested_sample(len(docs), number, int(self._settings.seed))
            more = sample[drawn:]
            for i, scored in zip(more, self._are_evaluated(docs[i] for i in more), strict=True):
                (evaluated if scored else kept).append(i)
            drawn = len(sample)
            number = min(len(docs), number + num_docs - len(kept))
        return sorted(kept), sorted(evaluated)

    def _notes(
        self, split: str, num_docs: int, kept: Sequence[int], evaluated: Sequence[int]
    ) -> list[str]:
        docs = self.docs(split)
        notes = []
        if evaluated:
            names = listing([str(i) for i in evaluated], 20)
            notes.append(
                f"calibration: {questions(len(evaluated))} of the {split} split are evaluated "
                f"too (the same text and choices) and left out of the fit: doc_id {names}"
            )
        if same := sum(document_id(docs[i]) in self._evaluated[1] for i in kept):
            notes.append(
                f"calibration: {same} of {len(kept)} fitting questions are on documents on which "
                "others are evaluated"
            )
        if len(kept) < num_docs:
            notes.append(
                f"calibration.num_docs={num_docs} but the {split} split has {len(docs)} questions: "
                f"fitted on all {len(kept)}"
            )
        return notes

    def _choose_documents(self, num_docs: int, min_docs: int, why: str) -> FittingChoice:
        """Fit on a share of the documents, and leave their questions out of the evaluation."""
        share, seed = float(self._settings.split_documents), int(self._settings.seed)
        read = self._read()
        keys = [key for key, _ in read]
        about = [document or key.hex() for key, document in read]
        names = sorted(set(about))
        number = min(max(1, round(share * len(names))), len(names) - 1)
        fitted = frozenset(names[i] for i in nested_sample(len(names), number, seed))
        on_them = [i for i, name in enumerate(about) if name in fitted]
        scored = {key for key, name in zip(keys, about, strict=True) if name not in fitted}
        usable = [i for i in on_them if keys[i] not in scored]
        kept = sorted(usable[i] for i in nested_sample(len(usable), num_docs, seed))
        part = f"{len(fitted)} of the {len(names)} documents of its evaluated questions"
        if len(kept) < min_docs:
            raise AutoMixError(
                f"task {self._name} has {why}, and calibration.split_documents={share:g} takes "
                f"{part}: {questions(len(kept))} for calibration.min_docs={min_docs}. Give a "
                f"larger share, or {_OTHER_WAYS}"
            )
        self._fitted_documents = fitted
        said = (
            f"calibration.split_documents={share:g}: the task has {why}; {part} are fitted on, "
            f"and the {questions(len(on_them))} on them are in no figure"
        )
        return FittingChoice(tuple(kept), self._evaluated_split, (said,))

    def _document(self, doc: Mapping[str, Any]) -> str:
        """What a question is about; where the task does not say, each is its own document."""
        return document_id(doc) or self._key(doc).hex()

    # ----------------------------------------------------------------- what is the same

    @property
    def _evaluated_split(self) -> str:
        return "test" if self._task.has_test_docs() else "validation"

    def _read(self) -> list[tuple[bytes, str]]:
        """Key and document of each evaluated question."""
        with templates_compiled_once():
            docs = _rows(self.docs(self._evaluated_split))
            return [(self._key(doc), document_id(doc)) for doc in docs]

    @cached_property
    def _evaluated(self) -> tuple[frozenset[bytes], frozenset[str]]:
        """Keys and documents of the evaluated questions."""
        read = self._read()
        return frozenset(key for key, _ in read), frozenset(name for _, name in read) - {""}

    def _are_evaluated(self, docs: Iterable[Mapping[str, Any]]) -> list[bool]:
        """Whether the same question as each is evaluated."""
        evaluated, _ = self._evaluated
        with templates_compiled_once():
            return [self._key(doc) in evaluated for doc in docs]

    def _key(self, doc: Mapping[str, Any]) -> bytes:
        """A hash of a question as its reader sees it: its text, context in it, and its choices."""
        task = self._task
        choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
        parts = [bare_text(str(task.doc_to_text(doc))), *sorted(bare_text(str(c)) for c in choices)]
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()


def _rows(docs: Any) -> Iterator[Mapping[str, Any]]:
    """The questions of a split; of a data set in batches: row by row takes five times as long."""
    if not isinstance(docs, Dataset):
        yield from docs
        return
    for columns in docs.iter(256):
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))
