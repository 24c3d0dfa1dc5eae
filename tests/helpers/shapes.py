"""Shapes of tasks: one small task for each way in which tasks of the harness differ.

Each is a configuration of the harness over the same sums, so that a script can answer them all.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import datasets
import numpy as np
import torch
from lm_eval.api.task import ConfigurableTask

NUMBERS = range(12)
SECRET = "gold-of-{}"  # stands in every document, and in no prompt


def rows(split: str) -> list[dict[str, Any]]:
    """Documents of a split."""
    return [
        {
            "id": i,
            "question": f"What is {i} plus {2 if split == 'test' else 3}?",
            "answer": str(i + (2 if split == "test" else 3)),
            "answers": [f"{i} apples", f"{i} pears", f"{i} plums"],
            "label": i % 3,
            "gold": SECRET.format(i),
            "first": f"{i} apples are",
            "second": f"{i} pears are",
            "document_id": None,
        }
        for i in NUMBERS
    ]


def data(**_: Any) -> datasets.DatasetDict:
    """Train and test split."""
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows(split)) for split in ("train", "test")}
    )


def small(prompt: str, generation: dict[str, Any]) -> str:
    """Answers a sum right where its first number is even; chooses the first option."""
    return _answer(prompt, generation, lambda n: n % 2 == 0)


def large(prompt: str, generation: dict[str, Any]) -> str:
    """Answers all but every fifth sum right."""
    return _answer(prompt, generation, lambda n: n % 5 != 4)


def _answer(prompt: str, generation: dict[str, Any], right: Callable[[int], bool]) -> str:
    if "continuation" in generation:
        text = f"{prompt}{generation['continuation']}"
        return str(-0.1 * (sum(map(ord, text)) % 17) - 0.05)
    if "AI Generated Answer" in prompt:
        return " Verification Decision: The AI generated answer is Correct."
    words = prompt.rsplit("What is ", 1)[1].split("?")[0].split()
    one, two = int(words[0]), int(words[2])
    return f" I say #### {one + two if right(one) else one - two}"


def _last(text: Any) -> str:
    return str(text).split()[-1] if str(text).split() else ""


def scored(value: Callable[[bool, dict[str, Any]], Any], *more: str) -> Callable[..., Any]:
    """A ``process_results`` that gives ``hit`` in some form, and others before it."""

    def process_results(doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        texts = results[0] if isinstance(results[0], list) else [results[0]]
        hit = any(_last(t) == doc["answer"] for t in texts)
        return {name: (doc["answer"], _last(texts[0])) for name in more} | {"hit": value(hit, doc)}

    return process_results


def _metric(name: str = "hit", **more: Any) -> list[dict[str, Any]]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True, **more}]


_TEXT = {"doc_to_text": "{{question}}\nAnswer:", "doc_to_target": "{{answer}}"}
_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_choice": "answers",
    "doc_to_target": "label",
}
_REGEX = {"function": "regex", "regex_pattern": "#### (-?\\d+)"}
_FIRST = {"function": "take_first"}


def _hit(value: Callable[[bool, dict[str, Any]], Any], **more: Any) -> dict[str, Any]:
    return _TEXT | {"process_results": scored(value), "metric_list": _metric()} | more


def accuracy_of(pairs: list[tuple[str, str]]) -> float:
    """A corpus metric: how many answers agree with their references."""
    return sum(a == b for a, b in pairs) / len(pairs)


SHAPES: dict[str, dict[str, Any]] = {
    "float": _hit(lambda hit, _: float(hit)),
    "bool": _hit(lambda hit, _: hit),
    "int": _hit(lambda hit, _: int(hit)),
    "numpy_bool": _hit(lambda hit, _: np.bool_(hit)),
    "numpy_int": _hit(lambda hit, _: np.int64(hit)),
    "numpy_float32": _hit(lambda hit, _: np.float32(hit)),
    "numpy_array": _hit(lambda hit, _: np.array(float(hit))),
    "torch": _hit(lambda hit, _: torch.tensor(float(hit))),
    "torch_bool": _hit(lambda hit, _: torch.tensor(hit)),
    "numpy_float16": _hit(lambda hit, _: np.float16(hit)),
    "numpy_uint8": _hit(lambda hit, _: np.uint8(hit)),
    "fraction": _hit(lambda hit, _: Fraction(int(hit), 3)),
    "decimal": _hit(lambda hit, _: Decimal(int(hit))),
    "percent": _hit(lambda hit, _: 100.0 * hit),
    "lower_is_better": _hit(lambda hit, _: 1.0 - hit)
    | {"metric_list": _metric(higher_is_better=False)},
    "exact_match": _TEXT
    | {
        "metric_list": _metric("exact_match"),
        "filter_list": [{"name": "strict", "filter": [_REGEX, _FIRST]}],
    },
    "no_metric_list": _TEXT
    | {
        "process_results": scored(lambda hit, _: float(hit)),
        "metric_list": None,
    },
    "two_filters_of_one_name": _TEXT
    | {
        "metric_list": _metric("exact_match"),
        "filter_list": [
            {"name": "strict", "filter": [_FIRST]},
            {"name": "strict", "filter": [_REGEX, _FIRST]},
        ],
    },
    "first_filter_of_two": _TEXT
    | {
        "metric_list": _metric("exact_match"),
        "filter_list": [
            {"name": "strict", "filter": [_REGEX, _FIRST]},
            {"name": "loose", "filter": [_FIRST]},
        ],
    },
    "repeats_first": _hit(lambda hit, _: float(hit), repeats=3),
    "repeats_take_first_k": _hit(
        lambda hit, _: float(hit),
        repeats=4,
        filter_list=[{"name": "some", "filter": [{"function": "take_first_k", "k": 2}]}],
    ),
    "repeats_share": _TEXT
    | {
        "process_results": lambda doc, results: {
            "hit": sum(_last(t) == doc["answer"] for t in results[0]) / len(results[0])
        },
        "metric_list": _metric(),
        "repeats": 3,
        "filter_list": [{"name": "all", "filter": [{"function": "take_first_k", "k": 3}]}],
    },
    "repeats_majority": _hit(
        lambda hit, _: float(hit),
        repeats=4,
        filter_list=[
            {"name": "first", "filter": [_REGEX, _FIRST]},
            {"name": "vote", "filter": [_REGEX, {"function": "majority_vote"}, _FIRST]},
        ],
    ),
    "corpus_before": _TEXT
    | {
        "process_results": scored(lambda hit, _: float(hit), "agreement"),
        "metric_list": [
            {"metric": "agreement", "aggregation": accuracy_of, "higher_is_better": True},
            *_metric(),
        ],
    },
    "multiple_targets": _TEXT
    | {
        "doc_to_target": lambda doc: [doc["answer"], "nothing"],
        "metric_list": _metric("exact_match"),
        "filter_list": [{"name": "strict", "filter": [_REGEX, _FIRST]}],
    },
    "described": _hit(lambda hit, _: float(hit), description="Add the numbers.\n\n"),
    "first_n_shots": _hit(
        lambda hit, _: float(hit),
        num_fewshot=2,
        fewshot_split="train",
        fewshot_config={"sampler": "first_n"},
    ),
    "drawn_shots": _hit(lambda hit, _: float(hit), num_fewshot=2, fewshot_split="train"),
    "shots_of_all_others": _hit(
        lambda hit, _: float(hit), num_fewshot=len(NUMBERS) - 1, fewshot_split="test"
    ),
    "first_metric_of_some": _TEXT
    | {
        "process_results": lambda doc, results: (
            {"hit": float(_last(results[0]) == doc["answer"])}
            | ({"hard": float(_last(results[0]) == doc["answer"])} if doc["id"] % 3 == 0 else {})
        ),
        "metric_list": [*_metric("hard"), *_metric()],
    },
    "acc": _CHOICE | {"metric_list": _metric("acc")},
    "acc_norm_first": _CHOICE | {"metric_list": [*_metric("acc_norm"), *_metric("acc")]},
    "acc_bytes": _CHOICE | {"metric_list": _metric("acc_bytes")},
    "acc_mutual_info": _CHOICE | {"metric_list": [*_metric("acc_mutual_info"), *_metric("acc")]},
    "choice_default_metrics": _CHOICE,
    "f1_of_all_and_acc": _CHOICE
    | {
        "metric_list": [
            {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True},
            *_metric("acc"),
        ]
    },
    "gold_lists": _CHOICE
    | {"doc_to_target": lambda doc: [doc["label"], 2], "metric_list": _metric("acc")},
    "gold_texts": _CHOICE
    | {"doc_to_target": lambda doc: doc["answers"][doc["label"]], "metric_list": _metric("acc")},
    "choices_repeated": _CHOICE | {"metric_list": _metric("acc"), "repeats": 2},
    "winogrande": {
        "output_type": "multiple_choice",
        "doc_to_text": lambda doc: doc["label"] % 2,
        "doc_to_choice": lambda doc: [doc["first"], doc["second"]],
        "doc_to_target": lambda doc: "ripe in autumn",
        "metric_list": _metric("acc"),
    },
}


def task(name: str, shape: dict[str, Any], **more: Any) -> ConfigurableTask:
    """The harness's task of a shape."""
    config = {
        "task": name,
        "custom_dataset": data,
        "training_split": "train",
        "test_split": "test",
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 16},
    }
    made = ConfigurableTask(config=config | shape | more)
    made.set_fewshot_seed(1234)
    return made
