"""Which questions of the train split a router is fitted on: none that the task evaluates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from lm_eval import utils

from automix_eval.harness.demonstrations import document_id
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.records.evaluated_rows import bare_text
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, questions

_OTHER_WAYS = (
    "meta_verifier.policy=FILE.json with meta_verifier.transfer=true and a policy fitted "
    "elsewhere, or a meta-verifier that needs no fit (self_consistency, always_slm, always_llm)"
)


@dataclass(frozen=True, slots=True)
class FittingChoice:
    """Questions of the train split, as indices in it.

    Attributes:
        doc_ids: Those to fit on, ascending.
        evaluated: Those that were drawn and left out because the task evaluates them, ascending.
        same_document: Number of the fitting questions on a document that is evaluated too.
    """

    doc_ids: tuple[int, ...]
    evaluated: tuple[int, ...]
    same_document: int

    def notes(self) -> list[str]:
        """What the reader of the run must know of them."""
        found = []
        if self.evaluated:
            names = listing([str(i) for i in self.evaluated], 20)
            found.append(
                f"calibration: {questions(len(self.evaluated))} of the train split are evaluated "
                f"too (the same text and choices) and left out of the fit: doc_id {names}"
            )
        if self.same_document:
            found.append(
                f"calibration: {self.same_document} of {len(self.doc_ids)} fitting questions are "
                "on documents on which others are evaluated"
            )
        return found


class FittingQuestions:
    """Chooses among the questions of a task's train split.

    What counts as evaluated is the whole split that the task evaluates, whatever part of it this
    run asks: a policy outlives its run.

    Args:
        name: The task's name.
        task: The harness's task object.
    """

    def __init__(self, name: str, task: Any) -> None:
        self._name = name
        self._task = task
        self._chosen: dict[tuple[int, int, int], FittingChoice] = {}

    def size(self) -> int:
        """Questions in the train split."""
        return len(self._task.training_docs()) if self._task.has_training_docs() else 0

    def choose(self, num_docs: int, min_docs: int, seed: int) -> FittingChoice:
        """The questions to fit on; more of them repeat all of fewer.

        Raises:
            AutoMixError: There is no train split, or it has fewer questions that are not evaluated
                than are needed, or fewer are asked for.
        """
        key = num_docs, min_docs, seed
        if key not in self._chosen:
            self._chosen[key] = self._choose(*key)
        return self._chosen[key]

    def _choose(self, num_docs: int, min_docs: int, seed: int) -> FittingChoice:
        available = self._available(num_docs, min_docs)
        docs = self._task.training_docs()
        kept: list[int] = []
        evaluated: list[int] = []
        number = min(num_docs, available)
        drawn = 0
        while len(kept) < num_docs and drawn < available:
            # a larger sample begins with the smaller one
            sample = nested_sample(available, number, seed)
            for i in sample[drawn:]:
                (evaluated if self._key(docs[i]) in self._evaluated else kept).append(i)
            drawn = len(sample)
            number = min(available, number + num_docs - len(kept))
        if len(kept) < min_docs:
            raise AutoMixError(
                f"task {self._name} has {len(kept)} train questions that are not evaluated too "
                f"({len(evaluated)} of {drawn} are, by text and choices), and calibration.min_docs "
                f"is {min_docs}: nothing that is evaluated is fitted on. Ways out: "
                "a copy of the task's file whose training_split is another split, "
                f"or a slice that its evaluation leaves out; {_OTHER_WAYS}"
            )
        names = [document_id(docs[i]) for i in kept]
        same = sum(name in self._documents for name in names if name)
        return FittingChoice(tuple(sorted(kept)), tuple(sorted(evaluated)), same)

    def _available(self, num_docs: int, min_docs: int) -> int:
        if not self._task.has_training_docs():
            raise AutoMixError(
                f"task {self._name} has no train split to fit the meta-verifier on. Two ways out: "
                + _OTHER_WAYS
            )
        available = self.size()
        if min(available, num_docs) < min_docs:
            why = (
                f"has {available} train questions"
                if available < min_docs
                else f"is to be fitted on calibration.num_docs={num_docs} questions"
            )
            raise AutoMixError(
                f"task {self._name} {why} and calibration.min_docs is {min_docs}: lower "
                "calibration.min_docs, give meta_verifier.policy=FILE.json, or use a meta-verifier "
                "that needs no fit"
            )
        return available

    # ----------------------------------------------------------------- what is the same

    @cached_property
    def _evaluated(self) -> frozenset[bytes]:
        with _templates_compiled_once():
            return frozenset(map(self._key, self._task.eval_docs))

    @cached_property
    def _documents(self) -> frozenset[str]:
        return frozenset(document_id(doc) for doc in self._task.eval_docs)

    def _key(self, doc: Mapping[str, Any]) -> bytes:
        """A hash of a question as its reader sees it: its text, context in it, and its choices."""
        task = self._task
        choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
        parts = [bare_text(str(task.doc_to_text(doc))), *sorted(bare_text(str(c)) for c in choices)]
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()


@contextmanager
def _templates_compiled_once() -> Iterator[None]:
    """The harness compiles a template for each document, which takes 20 times the filling in."""
    utils.env.from_string = cache(utils.env.from_string)
    try:
        yield
    finally:
        del utils.env.from_string
