"""Rows of the same question: left out of a fit where one is scored too, else one document."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np

from automix_eval.metrics.noninferiority import MIN_DOCUMENTS
from automix_eval.records.from_table import Source
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable


def without_evaluated(source: Source) -> Source:
    """Training and test rows of which no training row is a test row, as far as their texts tell.

    Raises:
        AutoMixError: No training row is left.
    """
    train, test = source.train, source.test
    if train is None or train.questions is None or test.questions is None:
        return source
    grouped = source.grouped and train.documents is not None and test.documents is not None
    scored = set(_keys(test, grouped)) - {None}
    same = np.array([key in scored for key in _keys(train, grouped)], dtype=bool)
    if not same.any():
        return source
    names = listing([printable(train.ids[i]) for i in np.flatnonzero(same)], 20)
    said = f"{int(same.sum())} of {len(train)} training rows are scored too (the same question)"
    if same.all():
        raise AutoMixError(
            f"{said}: nothing that is scored is fitted on. Name other rows to fit on, or fit and "
            "score in folds (folds=5) of one table without a split"
        )
    note = f"{said} and left out of the fit: {names}"
    return replace(source, train=train.take(~same), notes=(*source.notes, note))


def repeats_together(rows: Outcomes) -> tuple[Outcomes, str]:
    """Rows of one identity, or of one text, as one document; and a note where there are such.

    A question that stands in several rows is no new evidence, and a policy that was fitted on one
    of them has seen the others. Where rows have documents, these tell what belongs together. Fewer
    than :data:`MIN_DOCUMENTS` different texts are what all are asked alike, no questions.
    """
    if rows.documents is not None:
        return rows, ""
    root = list(range(len(rows)))

    def first_of(i: int) -> int:
        while root[i] != i:
            root[i] = i = root[root[i]]
        return i

    texts = [bare_text(text) for text in rows.questions or ()]
    for names in (rows.ids, texts if len(set(texts)) >= MIN_DOCUMENTS else ()):
        seen: dict[str, int] = {}
        for i, name in enumerate(names):
            if name and (before := seen.setdefault(name, i)) != i:
                a, b = sorted((first_of(before), first_of(i)))
                root[b] = a
    found = [first_of(i) for i in range(len(rows))]
    repeated = len(rows) - len(set(found))
    if not repeated:
        return rows, ""
    note = (
        f"{repeated} of {len(rows)} rows repeat the identity or the text of another: the rows of "
        "one question are one document, so that they are resampled, and left out of a fit, together"
    )
    return replace(rows, documents=tuple(f"row {i + 1}" for i in found)), note


def bare_text(text: str) -> str:
    """A text without what two copies of it may differ in: case, white space, forms of letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keys(rows: Outcomes, grouped: bool) -> list[tuple[str, str] | None]:
    """Document, where rows have some, and text of each question; None where it has no text."""
    documents = rows.documents if grouped and rows.documents else ("",) * len(rows)
    texts = map(bare_text, rows.questions or ())
    return [(d, text) if text else None for d, text in zip(documents, texts, strict=True)]
