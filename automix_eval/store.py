"""The durable call store: what was asked of a model once is never asked again.

SQLite with JSON values. The key is the SHA-256 of everything the result depends on: model
identity and revision, prompt, generation arguments, role, sample seed. A run that was killed
finds every finished call again; several processes may use one store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from automix_eval.types import AutoMixError

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


# Keys asked for in one query; SQLite takes 999 and more.
_MANY = 500

_PUT = "INSERT OR REPLACE INTO calls VALUES (?, ?, ?)"
_PATIENCE = 60  # seconds to wait for another process

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def call_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``parts``."""
    return hashlib.sha256(_canonical(parts).encode("utf-8", "surrogatepass")).hexdigest()


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
            # one process at a time: SQLite does not wait where a new file gets its journal
            self._lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_PATIENCE)
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

        A data base that proves damaged is set aside; what can still be read of it is kept.

        Raises:
            AutoMixError: The data base cannot be read.
        """
        return self._surely(lambda: self._found(keys), "read")

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a finished call; durable when this returns.

        Raises:
            AutoMixError: The data base cannot be written.
        """
        row = (key, _compact(value), time.time())
        self._surely(lambda: self._db.execute(_PUT, row), "written")

    def _surely(self, work: Callable[[], T], verb: str) -> T:
        """Do something with the data base, once more if it had to be set aside."""
        try:
            try:
                return work()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as err:
                self._db.close()
                with self._lock:
                    self._db = self._open(err)
                return work()
        except (sqlite3.DatabaseError, OSError, Timeout) as err:
            raise AutoMixError(
                f"the call store {self.path} cannot be {verb} ({err}): free the disk or set "
                "store.path elsewhere; finished calls are kept, the same command resumes"
            ) from err

    def _found(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = {}
        for start in range(0, len(keys), _MANY):
            some = keys[start : start + _MANY]
            marks = ",".join("?" * len(some))
            sql = f"SELECT key, value FROM calls WHERE key IN ({marks})"
            for key, text in self._db.execute(sql, some):
                if (value := self._read(key, text)) is not None:
                    found[key] = value
        return found

    def _read(self, key: str, text: str) -> dict[str, Any] | None:
        try:
            value = json.loads(text)
        except (RecursionError, TypeError, ValueError):
            log.warning("call store %s: entry %s is damaged; the call is repeated", self.path, key)
            return None
        return value if isinstance(value, dict) else None

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def close(self) -> None:
        """Close the data base."""
        self._db.close()

    def __enter__(self) -> CallStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, doubt: sqlite3.DatabaseError | None = None) -> sqlite3.Connection:
        """The data base; set aside first if it is none, or if a doubt proves right."""
        try:
            db = self._connect()
            if doubt is None or _is_sound(db):  # another process may have mended it
                return db
            db.close()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as err:
            doubt = doubt or sqlite3.DatabaseError(str(err))
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        for part in ("", "-wal", "-shm"):
            if (file := self.path.with_name(self.path.name + part)).exists():
                file.replace(aside.with_name(aside.name + part))
        db = self._connect()
        log.warning(
            "call store %s is no sound data base (%s): set aside as %s, a new one begins with the "
            "%d calls that could be read; the others are repeated",
            self.path,
            doubt,
            aside.name,
            _salvage(aside, db),
        )
        return db

    def _connect(self) -> sqlite3.Connection:
        # no isolation level: every statement is a transaction of its own
        db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            # the index is written all over; a page that changes often is copied back once
            db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            db.execute(_SCHEMA)
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            db.close()
            raise
        return db


def _is_sound(db: sqlite3.Connection) -> bool:
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def _salvage(aside: Path, db: sqlite3.Connection) -> int:
    """Copy what can be read of a damaged data base, from its start and from its end."""
    try:
        old = sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as err:
        log.debug("%s: %s", aside, err)
        return 0
    db.execute("BEGIN")
    for order in ("ASC", "DESC"):
        try:
            for row in old.execute(f"SELECT key, value, created FROM calls ORDER BY rowid {order}"):
                db.execute(_PUT, row)
        except (sqlite3.DatabaseError, OverflowError) as err:  # here the damage begins
            log.debug("%s: %s", aside, err)
    db.execute("COMMIT")
    old.close()
    return int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
