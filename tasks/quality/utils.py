"""QuALITY (Pang et al. 2022, arXiv 2112.08608): multiple choice on long articles, by letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, digest, load_rows, make_doc, pick, texts
from automix_eval.harness.tasks.scoring import with_routing
from automix_eval.metrics.answers import gold_option, option_letter, parse_letter

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("quality", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document; the question holds the options, the reference is the gold option's letter."""
    article = pick(row, "article", str)
    options = texts(row, "options")
    gold = gold_option(row.get("answer"), options)
    lines = [f"({option_letter(i)}) {option.strip()}" for i, option in enumerate(options)]
    question = "\n".join([pick(row, "question", str).strip(), *lines])
    answers = [option_letter(gold)]
    return [make_doc(digest(article), article, question, answers, options=options, gold=gold)]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score the option an answer names; no option, or several, is wrong."""
    answer = results[0]
    gold = gold_option(doc["gold"], doc["options"])
    correct = float(parse_letter(answer, doc["options"]) == gold)
    # The paper's "F1" of QuALITY compares parsed options, so it is 1 or 0 and equals the accuracy.
    return with_routing({"acc": correct, "f1": correct}, answer)
