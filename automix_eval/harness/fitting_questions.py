"""Which questions of the train split a router is fitted on: none that the task evaluates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
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
        split: What was done where the train split is the evaluated one; else empty.
    """

    doc_ids: tuple[int, ...]
    evaluated: tuple[int, ...]
    same_document: int
    split: str = ""

    def notes(self) -> list[str]:
        """What the reader of the run must know of them."""
        found = [self.split] if self.split else []
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

    A task that has no other questions than the evaluated ones is parted by whole documents, if the
    user says so: one part is fitted on, and the evaluation does without it.

    Args:
        name: The task's name.
        task: The harness's task object.
        share: Of the documents to fit on, in that case; None refuses such a task.

    Raises:
        AutoMixError: The share is not between 0 and 1.
    """

    def __init__(self, name: str, task: Any, share: float | None = None) -> None:
        if share is not None and not 0 < share < 1:
            raise AutoMixError(f"calibration.split_documents={share} must lie between 0 and 1")
        self._name = name
        self._task = task
        self._share = share
        self._fitted_documents: frozenset[str] = frozenset()
        earlier = getattr(task, "process_results", None)  # of an evaluation of the same object
        if scored := getattr(earlier, "scored", None):
            task.process_results = scored
        self._chosen: dict[tuple[int, int, int], FittingChoice] = {}

    def size(self) -> int:
        """Questions in the train split."""
        return len(self._task.training_docs()) if self._task.has_training_docs() else 0

    def are_on(self, doc: Mapping[str, Any]) -> bool:
        """Whether an evaluated question is on a document of the part that is fitted on."""
        return self.has_fitted_documents and self._document(doc) in self._fitted_documents

    @property
    def has_fitted_documents(self) -> bool:
        """Whether some evaluated documents are fitted on."""
        return bool(self._fitted_documents)

    def reuse(self, doc_ids: Iterable[object]) -> str:
        """Take the fitting questions of a policy that was fitted on this task.

        Args:
            doc_ids: As the policy names them.

        Returns:
            What the reader of the run must know: empty where none of them is evaluated.
        """
        size = self.size()
        known = [i for i in doc_ids if isinstance(i, int) and 0 <= i < size]
        docs = self._task.training_docs() if known else []
        again = [docs[i] for i in known if self._key(docs[i]) in self._evaluated]
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
        if len(kept) < min_docs and self._share is not None:
            return self._choose_documents(num_docs, min_docs, seed, self._share)
        if len(kept) < min_docs:
            raise AutoMixError(
                f"task {self._name} has {len(kept)} train questions that are not evaluated too "
                f"({len(evaluated)} of {drawn} are, by text and choices), and calibration.min_docs "
                f"is {min_docs}: nothing that is evaluated is fitted on. Ways out: "
                "calibration.split_documents=0.5, which parts the evaluated questions by document; "
                "a copy of the task's file whose training_split is another split, "
                f"or a slice that its evaluation leaves out; {_OTHER_WAYS}"
            )
        names = [document_id(docs[i]) for i in kept]
        same = sum(name in self._documents for name in names if name)
        return FittingChoice(tuple(sorted(kept)), tuple(sorted(evaluated)), same)

    def _choose_documents(
        self, num_docs: int, min_docs: int, seed: int, share: float
    ) -> FittingChoice:
        """Fit on a share of the documents, and leave their questions out of the evaluation."""
        names = sorted({self._document(doc) for doc in self._task.eval_docs})
        number = min(max(1, round(share * len(names))), len(names) - 1)
        fitted = frozenset(names[i] for i in nested_sample(len(names), number, seed))
        rest = [doc for doc in self._task.eval_docs if self._document(doc) not in fitted]
        evaluated = frozenset(map(self._key, rest))
        docs = self._task.training_docs()
        usable = [
            i
            for i, doc in enumerate(docs)
            if self._document(doc) in fitted and self._key(doc) not in evaluated
        ]
        kept = sorted(usable[i] for i in nested_sample(len(usable), num_docs, seed))
        said = (
            f"calibration.split_documents={share:g}: task {self._name} has its evaluated questions "
            f"alone to fit on; {len(fitted)} of their {len(names)} documents are fitted on"
        )
        if len(kept) < min_docs:
            raise AutoMixError(
                f"{said}, which gives {len(kept)} questions, and calibration.min_docs is "
                f"{min_docs}: give a larger share, or {_OTHER_WAYS}"
            )
        self._fitted_documents = fitted
        left = len(self._task.eval_docs) - len(rest)
        said += f", and the {questions(left)} on them are in no figure"
        return FittingChoice(tuple(kept), (), 0, said)

    def _document(self, doc: Mapping[str, Any]) -> str:
        """What a question is about; where the task does not say, each is its own document."""
        return document_id(doc) or self._key(doc).hex()

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
