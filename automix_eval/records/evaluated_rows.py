"""Training rows that are scored too: the same question, on the same document, left out of a fit."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np

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
    scored = set(_keys(test, source.grouped)) - {None}
    same = np.array([key in scored for key in _keys(train, source.grouped)], dtype=bool)
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


def bare_text(text: str) -> str:
    """A text without what two copies of it may differ in: case, white space, forms of letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keys(rows: Outcomes, grouped: bool) -> list[tuple[str, str] | None]:
    """Document, where rows have some, and text of each question; None where it has no text."""
    documents = rows.documents if grouped and rows.documents else ("",) * len(rows)
    texts = map(bare_text, rows.questions or ())
    return [(d, text) if text else None for d, text in zip(documents, texts, strict=True)]
