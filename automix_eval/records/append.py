"""Records on their way to disk: appended block by block, put into order when processes meet.

A file holds ``size`` bytes of whole lines that are on disk; what lies behind them is a write that
was cut short and is overwritten by the next. In memory stand only the keys of the lines, and those
only where several processes have to put their lines into one order.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from automix_eval.records import schema as records
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Record

# Lines that one process hands to the others at a time.
CHUNK = 2048


@dataclass(slots=True)
class Keys:
    """Where each line of a file belongs: 40 bytes a line.

    Attributes:
        tasks: Names of the tasks, in the order of their first lines.
        columns: Task, phase (0 the calibration), doc_id, repeat, length in bytes.
    """

    tasks: list[str] = field(default_factory=list)
    columns: tuple[array[int], ...] = field(
        default_factory=lambda: tuple(array("q") for _ in range(5))
    )

    def add(self, record: Record, length: int) -> None:
        """Note the next line."""
        if record.task not in self.tasks:
            self.tasks.append(record.task)
        values = (
            self.tasks.index(record.task),
            int(record.phase == "evaluation"),
            record.doc_id,
            record.repeat,
            length,
        )
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)

    def __len__(self) -> int:
        return len(self.columns[0])


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a file and their keys, as one process hands them to another."""

    tasks: tuple[str, ...]
    keys: tuple[tuple[int, ...], ...]
    text: bytes


class RecordFile:
    """The records of one process, written as they are made.

    Args:
        keyed: Whether to keep the keys of the lines, for :meth:`chunks` and :meth:`reorder`.

    Attributes:
        path: The file; a temporary one, which ends with this object, until it is placed.
        size: Bytes of whole lines on disk.
    """

    def __init__(self, keyed: bool = False) -> None:
        self.path: Path | None = None
        self.size = 0
        self.keys = Keys() if keyed else None

    def place(self, path: Path) -> None:
        """Go on in another file, with what was written so far."""
        if path == self.path:
            return
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.path is not None:
                shutil.copyfile(self.path, path)
            else:
                path.touch()
        self.path = path

    def append(self, rows: Sequence[Record]) -> None:
        """Write records; they are on disk when this returns."""
        lines = [records.to_line(row) for row in rows]
        if self.keys is not None:
            for row, line in zip(rows, lines, strict=True):
                self.keys.add(row, len(line))
        self._write(b"".join(lines))

    def take(self, lines: Lines) -> None:
        """Write what another process handed over."""
        assert self.keys is not None
        for name in lines.tasks:
            if name not in self.keys.tasks:
                self.keys.tasks.append(name)
        for task, *rest in lines.keys:
            number = self.keys.tasks.index(lines.tasks[task])
            for column, value in zip(self.keys.columns, (number, *rest), strict=True):
                column.append(value)
        self._write(lines.text)

    def chunks(self) -> Iterator[Lines]:
        """All lines, some at a time."""
        if self.keys is None or self.path is None:
            return
        columns = self.keys.columns
        with explained(self.path), self.path.open("rb") as text:
            for start in range(0, len(self.keys), CHUNK):
                rows = tuple(zip(*(c[start : start + CHUNK] for c in columns), strict=True))
                length = sum(row[-1] for row in rows)
                yield Lines(tuple(self.keys.tasks), rows, text.read(length))

    def reorder(self) -> dict[str, int]:
        """Sort the lines by task, phase, document and repeat; of equal keys the first line stays.

        The file is written anew beside the old one and takes its place at once.

        Returns:
            Evaluation records of each task.
        """
        assert self.keys is not None
        if self.path is None:
            return {}
        task, phase, doc_id, repeat, length = (np.array(c) for c in self.keys.columns)
        starts = np.concatenate([[0], np.cumsum(length)])
        order = np.lexsort((np.arange(len(task)), repeat, doc_id, phase, task))
        keys = np.stack([task, phase, doc_id, repeat], axis=1)[order]
        again = np.zeros(len(order), dtype=bool)
        again[1:] = (keys[1:] == keys[:-1]).all(axis=1)
        order = order[~again]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with explained(self.path):
            try:
                with self.path.open("rb") as old, temporary.open("wb") as new:
                    for row in order.tolist():
                        old.seek(starts[row])
                        new.write(old.read(length[row]))
                    new.flush()
                    os.fsync(new.fileno())
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)
        self.size = int(length[order].sum())
        kept = (task, phase, doc_id, repeat, length)
        self.keys.columns = tuple(array("q", column[order].tolist()) for column in kept)
        counts = np.bincount(task[order][phase[order] == 1], minlength=len(self.keys.tasks))
        return dict(zip(self.keys.tasks, counts.tolist(), strict=True))

    def clear(self) -> None:
        """Forget all lines."""
        self.size = 0
        if self.keys is not None:
            self.keys = Keys()

    def _write(self, text: bytes) -> None:
        if self.path is None:
            self.path = self._temporary()
        with explained(self.path), self.path.open("r+b") as out:
            out.seek(self.size)
            out.truncate()
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        self.size += len(text)

    def _temporary(self) -> Path:
        handle, name = tempfile.mkstemp(prefix="automix_records_", suffix=".jsonl")
        os.close(handle)
        path = Path(name)
        weakref.finalize(self, path.unlink, missing_ok=True)
        return path


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an error of the file system into one that names the remedy.

    Args:
        path: The file of the run that is written.

    Raises:
        AutoMixError: In the place of an OSError.
    """
    try:
        yield
    except OSError as err:
        raise AutoMixError(
            f"{path} cannot be written ({err}): free the disk, or set records_dir or --output_path "
            "to a writable folder; finished calls are kept and the same command resumes"
        ) from err
