"""Where the five data sets lie on the Hugging Face hub: the one place that names their paths.

datasets 4 and later refuse script-based data sets, hence the parquet branches and plain files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from automix_eval.harness.tasks.rows import (
    DATA_DIR,
    SPLITS,
    Located,
    Row,
    RowError,
    TaskDataError,
    pick,
)

__all__ = ["SOURCES", "HubSource", "raw_splits"]

#: Seconds to wait for any answer of the hub before giving up. Its client alone retries one path
#: five times with growing pauses, 23 s without a network.
PROBE_SECONDS = 10.0

# kiddothe2b/contract-nli's class order, as in its loading script.
_CONTRACT_NLI_LABELS = ("Contradiction", "Entailment", "Not mentioned")
_HUB = "https://huggingface.co"
_SCROLLS_CNLI = f"{_HUB}/datasets/tau/scrolls/resolve/main/contract_nli.zip"


def _unchanged(row: Row) -> Row:
    return row


def _stanford_coqa(row: Row) -> Row:
    return {**row, "questions": {"input_text": pick(row, "questions", list)}}


def _contract_nli_b(row: Row) -> Row:
    label = pick(row, "label", int)
    if label not in range(len(_CONTRACT_NLI_LABELS)):
        raise RowError(f"field 'label' is {label}, not a class of 0..2")
    hypothesis, contract = pick(row, "hypothesis", str), pick(row, "premise", str)
    return {
        "input": f"{hypothesis.strip()}\n\n{contract.strip()}",
        "output": _CONTRACT_NLI_LABELS[label],
    }


@dataclass(frozen=True, slots=True)
class HubSource:
    """One place on the hub that holds a data set.

    Attributes:
        path: First argument of ``datasets.load_dataset``.
        options: Its other arguments.
        shown: What error messages call it.
        adapt: Turns a row into the schema that the task's ``flatten`` reads.
    """

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""
    adapt: Callable[[Row], Row] = _unchanged

    def __str__(self) -> str:
        return self.shown or self.path

    def options_at(self, endpoint: str) -> dict[str, Any]:
        """The options at an address of the hub, which HF_ENDPOINT may set to a mirror's."""
        files: Mapping[str, str] = self.options.get("data_files", {})
        moved = {split: url.replace(_HUB, endpoint) for split, url in files.items()}
        return {**self.options, "data_files": moved} if moved else dict(self.options)


#: The places of each task's data set, the preferred one first.
SOURCES: Mapping[str, tuple[HubSource, ...]] = {
    "coqa": (
        HubSource("EleutherAI/coqa"),
        # No ids and no additional answers.
        HubSource("stanfordnlp/coqa", adapt=_stanford_coqa),
    ),
    "quality": (HubSource("emozilla/quality"),),
    # A configuration name fails on this branch.
    "qasper": (HubSource("allenai/qasper", {"revision": "refs/convert/parquet"}),),
    # The files are named because load_dataset otherwise downloads the test split's books too: each
    # row repeats the whole book.
    "narrativeqa": (
        HubSource(
            "parquet",
            {
                "data_files": {
                    split: f"hf://datasets/deepmind/narrativeqa/data/{split}-*.parquet"
                    for split in SPLITS
                }
            },
            shown="deepmind/narrativeqa",
        ),
    ),
    "cnli": (
        HubSource(
            "json",
            {
                "data_files": {
                    split: f"zip://contract_nli/{split}.jsonl::{_SCROLLS_CNLI}" for split in SPLITS
                }
            },
            shown="tau/scrolls (contract_nli.zip)",
        ),
        HubSource(
            "kiddothe2b/contract-nli",
            {"revision": "refs/convert/parquet", "data_dir": "contractnli_b"},
            adapt=_contract_nli_b,
        ),
    ),
}


def raw_splits(task: str) -> dict[str, Iterator[Located]]:
    """Load a task's raw rows from the first of its places on the hub that answers.

    Raises:
        TaskDataError: The hub cannot be reached, or none of the places can be loaded.
    """
    import datasets
    from aiohttp import ClientError
    from datasets.exceptions import DatasetsError
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's client is requests, httpx or httpx2, depending on its version; its own error derives
    # from that client's base error, and from OSError.
    client_errors = tuple(
        base
        for base in HfHubHTTPError.__mro__
        if issubclass(base, Exception) and base is not Exception
    )
    # ValueError: an unknown configuration or file pattern; RuntimeError: a script-based data set.
    errors = (*client_errors, ClientError, DatasetsError, OSError, ValueError, RuntimeError)
    try:
        _probe()
    except client_errors as error:
        raise _unreachable(task, [error]) from error
    failures: list[Exception] = []
    for source in SOURCES[task]:
        try:
            options = source.options_at(constants.ENDPOINT)
            loaded = datasets.load_dataset(source.path, **options)
            return {split: _located(source, split, loaded[split]) for split in SPLITS}
        except errors as error:
            failures.append(error)
    raise _unreachable(task, failures) from failures[-1]


def _probe() -> None:
    """Fail quickly where there is no hub; any HTTP answer will do."""
    from datasets import config
    from huggingface_hub import constants, get_session

    # In offline mode load_dataset reads its cache, or fails, at once.
    if not config.HF_HUB_OFFLINE:
        get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)


def _located(source: HubSource, split: str, rows: Any) -> Iterator[Located]:
    for number, row in enumerate(rows):
        where = f"{source} ({split}), row {number}"
        try:
            adapted = source.adapt(row)
        except RowError as error:
            raise TaskDataError(
                f"{where}: {error}. Has the data set changed its schema?"
            ) from error
        yield where, adapted


def _unreachable(task: str, failures: list[Exception]) -> TaskDataError:
    places = " or ".join(str(source) for source in SOURCES[task])
    causes = "; ".join(f"{type(error).__name__}: {error}" for error in failures)
    return TaskDataError(
        f"Task {task!r}: its data set cannot be loaded from the hub ({places}): {causes}. "
        "Connect this machine to the hub; or set "
        f"{DATA_DIR} to a folder that holds {task}/train.jsonl and {task}/validation.jsonl, one "
        "JSON object a line in the data set's own schema; or run the embedded sample: --tasks "
        f"{task}_demo, or automix_demo for all five."
    )
