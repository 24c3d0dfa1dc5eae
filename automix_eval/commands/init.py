"""``automix-eval init``: write a task of your own, a pair of models and a gate, all working."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_text
from automix_eval.safety.text import printable

_FILES = Path(__file__).with_name("init_files")
_PAIRS = ("hf", "servers", "embedded")
_PEOPLE = ("Ada", "Bruno", "Carla", "Deniz", "Emil", "Farah", "Goran", "Hanna")
_THINGS = ("pens", "stamps", "shells", "marbles", "coins", "seeds", "beads", "cards")
_PLACES = ("a tin", "the top drawer", "a paper bag", "the shed", "a blue jar")
_NUM_ROWS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument("folder", type=Path, help="a new folder; its name is that of the task")
    parser.add_argument(
        "--models",
        choices=_PAIRS,
        default="hf",
        help="two models of the hub or of folders (the default), two servers, or the embedded pair",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and say what to do with them.

    Raises:
        AutoMixError: The folder holds something, or its name cannot be that of a task.
    """
    folder, name = args.folder, args.folder.resolve().name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise AutoMixError(
            f"{printable(name, 60)} cannot name a task: small letters, digits and underscores, "
            "a letter first"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AutoMixError(f"{folder} exists and is not empty: name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files(name, str(folder), args.models).items():
        write_text(folder / file, text)
    print(
        f"wrote {name}.yaml, utils.py, train.jsonl, test.jsonl, pair.yaml and test_gate.py to "
        f"{folder}\n\nput your questions into train.jsonl and test.jsonl, your models into "
        f"pair.yaml; then\n"
        f"  automix-eval plan tasks={name} include_path={folder} config={folder}/pair.yaml\n"
        f"  automix-eval run tasks={name} include_path={folder} config={folder}/pair.yaml "
        "output=out\n"
        f"  pytest --automix-results out {folder}/test_gate.py"
    )
    return 0


def files(name: str, folder: str, models: str) -> Mapping[str, str]:
    """File name -> text.

    Args:
        name: Of the task.
        folder: As the user named it.
        models: Which pair.
    """
    pair = _filled(f"pair_{models}.yaml", name, folder) + _filled("pair_common.yaml", name, folder)
    return {
        f"{name}.yaml": _filled("task.yaml", name, folder),
        "utils.py": _filled("utils.py.txt", name, folder),
        "pair.yaml": pair,
        "test_gate.py": _filled("test_gate.py.txt", name, folder),
        "train.jsonl": _lines(0),
        "test.jsonl": _lines(_NUM_ROWS),
    }


def _filled(file: str, name: str, folder: str) -> str:
    text = (_FILES / file).read_text(encoding="utf-8")
    return Template(text).substitute(name=name, folder=folder)


def _lines(first: int) -> str:
    return "\n".join(json.dumps(row) for row in _rows(first)) + "\n"


def _rows(first: int) -> Iterator[dict[str, object]]:
    """Three questions each on texts that tell how many things somebody keeps where."""
    for number in range(first // 3, (first + _NUM_ROWS) // 3):
        who, what = _PEOPLE[number % 8], _THINGS[(number + number // 8) % 8]
        where, have, more = _PLACES[number % 5], 11 + number * 7 % 53, 3 + number * 5 % 29
        text = (
            f"{who} keeps {have} {what} in {where}. On Sunday a neighbour brought {more} more, "
            f"and {who} put them there too."
        )
        asked = (
            (f"Where does {who} keep the {what}?", [where, f"in {where}"]),
            (f"How many {what} did the neighbour bring?", [str(more)]),
            (f"How many {what} does {who} have now?", [str(have + more)]),
        )
        for question, answers in asked:
            yield {
                "document_id": f"text {number}",
                "context": text,
                "question": question,
                "answers": answers,
            }
