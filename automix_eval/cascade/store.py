"""The durable call store: what was asked of a model once is never asked again.

SQLite with JSON values. The key is the SHA-256 of everything the result depends on: model
identity and revision, prompt, generation arguments, role, sample seed. A run that was killed
finds every finished call again; several processes may use one store. A file found damaged, at the
start or later, is set aside; what can be read of it is taken over, the other calls are repeated.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from automix_eval.safety.errors import AutoMixError

log = logging.getLogger(__name__)

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created REAL NOT NULL
)
"""
# Stores of earlier releases have the same columns in a table without row ids, where every call is
# put in the middle of a page of large values; they are read and written as they are.
_CHECKPOINT_PAGES = 8000
_COLUMNS = ["key", "value", "created"]

_PUT = "INSERT OR REPLACE INTO calls VALUES (?, ?, ?)"
_KEEP = "INSERT OR IGNORE INTO calls VALUES (?, ?, ?)"
_PATIENCE = 60  # seconds to wait for another process
# Keys asked for in one query; SQLite takes 999 and more.
_MANY = 500

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _compact(value: Mapping[str, Any]) -> str:
    """The value as JSON; half a surrogate pair, which a model may return, as its escape.

    Raises:
        ValueError: A number is not finite.
    """
    with suppress(UnicodeEncodeError, OverflowError):
        text = msgspec.json.encode(value)
        # msgspec, five times as fast, writes NaN as null
        if text.count(b"null") == [*value.values()].count(None):
            return text.decode()
    return _encode(value).encode(errors="backslashreplace").decode()


def call_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``parts``."""
    return hashlib.sha256(_canonical(parts).encode(errors="surrogatepass")).hexdigest()


class CallStore:
    """A key-value table of finished model calls.

    Args:
        path: The data base file; its folder is created.

    Raises:
        AutoMixError: The folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # one process at a time: SQLite does not wait where a new file gets its log
            self._lock = FileLock(f"{path}.lock", timeout=_PATIENCE)
            with self._lock:
                self._db = self._open()
        except (OSError, sqlite3.OperationalError, Timeout) as err:
            raise AutoMixError(
                f"the call store {path} cannot be opened ({err}): set store.path to a writable "
                "file, or free the disk"
            ) from err

    def get(self, key: str) -> dict[str, Any] | None:
        """The value of a finished call, None if there is none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The values of those calls that are finished, by key.

        Raises:
            AutoMixError: The data base cannot be read: the disk fails, or is full.
        """
        return self._repaired(lambda: self._found(keys))

    def _found(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for start in range(0, len(keys), _MANY):
            some = keys[start : start + _MANY]
            marks = ",".join("?" * len(some))
            sql = f"SELECT key, value FROM calls WHERE key IN ({marks})"
            for raw, text in self._db.execute(sql, some):
                key = _key(raw)
                if (value := self._read(key, text)) is not None:
                    found[key] = value
        return found

    def _read(self, key: str, text: bytes) -> dict[str, Any] | None:
        try:
            value = json.loads(str(text, "utf-8"))
        except (RecursionError, TypeError, ValueError):
            log.warning("call store %s: entry %s is damaged; the call is repeated", self.path, key)
            return None
        return value if isinstance(value, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a finished call; durable when this returns."""
        row = (key, _compact(value), time.time())
        self._repaired(lambda: self._db.execute(_PUT, row))

    def _repaired(self, work: Callable[[], T]) -> T:
        """Do something with the data base; where that shows damage, with a new one."""
        try:
            try:
                return work()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as err:
                with self._lock:
                    self._renew(err)
                return work()
        except (OSError, sqlite3.DatabaseError, Timeout) as err:
            raise AutoMixError(
                f"the call store {self.path} cannot be used ({err}): free the disk or set "
                "store.path elsewhere; finished calls are kept, the same command resumes"
            ) from err

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def close(self) -> None:
        """Close the data base."""
        self._db.close()

    def __enter__(self) -> CallStore:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as err:
            return self._replaced(err)

    def _renew(self, err: Exception) -> None:
        """A new data base in the place of a damaged one."""
        with suppress(sqlite3.Error):  # it is damaged: closing may show that once more
            self._db.close()
        self._db = self._replaced(err)

    def _replaced(self, err: Exception) -> sqlite3.Connection:
        if _file_number(self.path) != self._file_number:
            return self._connect()  # another process has put a new one there
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        # the log belongs to the damaged file: a new one must not be made to replay it
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").replace(f"{aside}{ending}")
        db = self._connect()
        db.execute("BEGIN IMMEDIATE")
        number = db.executemany(_KEEP, self._salvaged(aside)).rowcount
        db.execute("COMMIT")
        log.warning(
            "call store %s is damaged (%s): set aside as %s, starting a new one with the %d calls "
            "that could be read; the others are repeated",
            self.path,
            err,
            aside.name,
            max(number, 0),
        )
        return db

    def _salvaged(self, aside: Path) -> Iterator[tuple[str, str, float]]:
        """Whole rows of a damaged file, from its beginning and its end up to the damage."""
        for order in ("", " ORDER BY rowid DESC"):
            with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(aside)) as db:
                db.text_factory = bytes
                for raw, text, created in db.execute(
                    f"SELECT key, value, created FROM calls{order}"
                ):
                    key = _key(raw)
                    if self._read(key, text) is not None and isinstance(created, float):
                        yield key, str(text, "utf-8"), created

    def _connect(self) -> sqlite3.Connection:
        # no isolation level: every statement is a transaction of its own
        self._file_number = _file_number(self.path)
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        # damaged text is no reason to stop: it is found where it is decoded
        db.text_factory = bytes
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            # the index is written all over; a page that changes often is copied back once
            db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            db.execute(_SCHEMA)
            columns = [_key(row[1]) for row in db.execute("PRAGMA table_info(calls)")]
            if columns != _COLUMNS:
                raise sqlite3.DatabaseError(f"a table of other columns: {', '.join(columns)}")
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            db.close()
            raise
        self._file_number = _file_number(self.path)
        return db


def _key(raw: Any) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _file_number(path: Path) -> int | None:
    """What tells a file from another that took its name; None if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
