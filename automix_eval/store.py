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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from automix_eval.types import AutoMixError

log = logging.getLogger(__name__)

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
            self._db = self._open()
        except (OSError, sqlite3.OperationalError) as err:
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
            AutoMixError: The data base is damaged.
        """
        found = {}
        try:
            for start in range(0, len(keys), _MANY):
                some = keys[start : start + _MANY]
                marks = ",".join("?" * len(some))
                sql = f"SELECT key, value FROM calls WHERE key IN ({marks})"
                for key, text in self._db.execute(sql, some):
                    if (value := self._read(key, text)) is not None:
                        found[key] = value
        except sqlite3.DatabaseError as err:
            raise AutoMixError(
                f"the call store {self.path} cannot be read ({err}): set it aside, or set "
                "store.path elsewhere; its calls are repeated then"
            ) from err
        return found

    def _read(self, key: str, text: str) -> dict[str, Any] | None:
        try:
            value = json.loads(text)
        except (RecursionError, TypeError, ValueError):
            log.warning("call store %s: entry %s is damaged; the call is repeated", self.path, key)
            return None
        return value if isinstance(value, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a finished call; durable when this returns."""
        text = _compact(value)
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", (key, text, time.time())
            )
        except sqlite3.DatabaseError as err:
            raise AutoMixError(
                f"the call store {self.path} cannot be written ({err}): free the disk or set "
                "store.path elsewhere; finished calls are kept, the same command resumes"
            ) from err

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

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as err:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
            log.warning(
                "call store %s is not a data base (%s): set aside as %s, starting a new one",
                self.path,
                err,
                aside.name,
            )
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        # no isolation level: every statement is a transaction of its own
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
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
