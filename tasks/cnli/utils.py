"""ContractNLI (Koreeda and Manning 2021, arXiv 2110.01799), as packed by SCROLLS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, RowError, digest, load_rows, make_doc, pick
from automix_eval.harness.tasks.scoring import with_routing
from automix_eval.metrics.answers import gold_label, parse_label, token_f1

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["LABELS", "flatten", "load", "process_results"]

LABELS = ("Entailment", "Contradiction", "Not mentioned")


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("cnli", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document; ``input`` is the hypothesis, a blank line and the contract."""
    hypothesis, *rest = re.split(r"\n[ \t]*\n", pick(row, "input", str).strip(), maxsplit=1)
    if not rest:
        raise RowError("field 'input' has no blank line between hypothesis and contract")
    label = gold_label(pick(row, "output", str), LABELS)
    # A row's id names the contract and the hypothesis; the contract has none of its own.
    pair = row.get("pid") or row.get("id")
    name = str(pair) if pair else None
    return [make_doc(digest(rest[0]), rest[0], hypothesis, [label], id=name)]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score the label an answer names; no label, or several, is wrong."""
    answer = results[0]
    (reference,) = doc["answers"]
    correct = float(parse_label(answer, LABELS) == gold_label(reference, LABELS))
    # The paper scores CNLI by token F1 of the answer against the label's text.
    return with_routing({"acc": correct, "f1": token_f1(answer, [reference])}, answer)
