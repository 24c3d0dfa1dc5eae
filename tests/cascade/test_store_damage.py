"""A damaged call store is detected, set aside and made anew, and this is said."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from automix_eval.cascade.store import CallStore

CALLS = {f"{i:064x}": {"text": f"answer {i} " * 30} for i in range(400)}


def fill(path: Path) -> None:
    """A store of some hundred pages, nothing left in its log."""
    with CallStore(path) as store:
        for key, value in CALLS.items():
            store.put(key, value)


def overwrite(path: Path, share: float, length: int, fill: bytes = b"\xa5") -> None:
    """Overwrite bytes at a share of the file's length."""
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share) // 4096 * 4096)
        file.write(fill * length)


def header(path: Path) -> None:
    """No data base any more."""
    overwrite(path, 0, 100)


def truncated(path: Path) -> None:
    """Half of the file is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def pages(path: Path) -> None:
    """Some pages in the middle are something else: opening does not show it."""
    overwrite(path, 0.5, 4096 * 6)


def schema(path: Path) -> None:
    """A table of the same name with other columns."""
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE calls (prompt TEXT, answer TEXT)")
    db.close()


@pytest.mark.parametrize("damage", [header, truncated, pages, schema])
def test_damage_is_set_aside_and_what_is_read_is_true(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every call that is still found has its own value, the others can be put again."""
    path = tmp_path / "s.sqlite"
    fill(path)
    damage(path)
    with CallStore(path) as store:
        found = store.get_many(list(CALLS))
        assert all(CALLS[key] == value for key, value in found.items())
        for key, value in CALLS.items():
            store.put(key, value)
        assert store.get_many(list(CALLS)) == CALLS
    assert len(list(tmp_path.glob("s.sqlite.damaged-*"))) >= 1
    assert "set aside as s.sqlite.damaged-" in caplog.text
    if damage is pages:
        assert len(found) > len(CALLS) // 2, "calls before and behind the damage are taken over"


def test_the_log_of_a_damaged_store_is_set_aside_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file must not be made to replay it."""
    # whoever reads what was set aside has SQLite mend its log
    monkeypatch.setattr(CallStore, "_salvaged", lambda *_: iter(()))
    path = tmp_path / "s.sqlite"
    fill(path)
    with CallStore(path) as store:
        store.close()
        held = {"": path.read_bytes(), "-wal": b"log", "-shm": b"index"}
        for ending, content in held.items():
            Path(f"{path}{ending}").write_bytes(content)
        store._renew(ValueError("damaged"))
        assert len(store) == 0
    (aside,) = (p for p in tmp_path.glob("s.sqlite.damaged-*") if p.name[-1].isdigit())
    assert {ending: Path(f"{aside}{ending}").read_bytes() for ending in held} == held


def test_damage_that_a_write_meets_is_no_end(tmp_path: Path) -> None:
    """A store that turns bad while it is open goes on with a new file."""
    path = tmp_path / "s.sqlite"
    fill(path)
    overwrite(path, 0.02, int(path.stat().st_size * 0.95))
    with CallStore(path) as store:
        for key, value in CALLS.items():
            store.put("new" + key, value)
        assert store.get_many(["new" + key for key in CALLS]) == {
            "new" + k: v for k, v in CALLS.items()
        }


def test_a_damaged_log_loses_at_most_its_tail(tmp_path: Path) -> None:
    """Calls of a damaged write-ahead log are missing, never wrong."""
    path = tmp_path / "s.sqlite"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from automix_eval.cascade.store import CallStore; sys.path.insert(0, sys.argv[2]);"
        "from test_store_damage import fill; import automix_eval.cascade.store as m;"
        "m.CallStore.close = lambda s: os.kill(os.getpid(), signal.SIGKILL); "
        "fill(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(Path(__file__).parent)], check=False)
    wal = path.with_name("s.sqlite-wal")
    assert wal.stat().st_size > 100_000
    overwrite(wal, 0.5, 4096)
    with CallStore(path) as store:
        found = store.get_many(list(CALLS))
        assert 0 < len(found) < len(CALLS)
        assert all(CALLS[key] == value for key, value in found.items())


def test_the_second_to_see_the_damage_takes_the_new_store(tmp_path: Path) -> None:
    """Of two users of a damaged store one sets it aside, the other goes on in the same new one."""
    path = tmp_path / "s.sqlite"
    fill(path)
    pages(path)
    with CallStore(path) as one, CallStore(path) as two:
        one.get_many(list(CALLS))
        one.put("of one", {"v": 1})
        two.get_many(list(CALLS))
        two.put("of two", {"v": 2})
    with CallStore(path) as store:
        assert len(store.get_many(["of one", "of two"])) == 2
    assert len(list(tmp_path.glob("s.sqlite.damaged-???????????????????"))) == 1


@pytest.mark.parametrize("value", ["{", "[1]", "7", b"\xff\xfe"])
def test_an_entry_that_is_no_object_is_repeated(value: object, tmp_path: Path) -> None:
    """A value edited by hand counts as missing, the others stay."""
    path = tmp_path / "s.sqlite"
    with CallStore(path) as store:
        store.put("k", {"v": 1})
        store.put("other", {"v": 2})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE calls SET value = CAST(? AS TEXT) WHERE key = 'k'", (value,))
    db.close()
    with CallStore(path) as store:
        assert store.get_many(["k", "other"]) == {"other": {"v": 2}}


def test_a_clock_that_goes_back_loses_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls kept before and after a jump of the clock are all found."""
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with CallStore(tmp_path / "s.sqlite") as store:
        for number in range(10):
            now[0] -= 3600
            store.put(str(number), {"n": number})
        assert store.get_many([str(n) for n in range(10)]) == {str(n): {"n": n} for n in range(10)}


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_put(tmp_path: Path) -> None:
    """The error says what to do, and calls put before are found afterwards."""
    path = tmp_path / "s.sqlite"
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from automix_eval.cascade.store import CallStore\n"
        "from automix_eval.safety.errors import AutoMixError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "n = 0\n"
        "try:\n"
        "    store = CallStore(Path(sys.argv[1]))\n"
        "    while True: store.put(str(n), {'text': 'x' * 500}); n += 1\n"
        "except AutoMixError as err: print(n, err)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    number, _, text = run.stdout.partition(" ")
    assert "free the disk" in text
    assert int(number) > 10
    with CallStore(path) as store:
        assert len(store.get_many([str(n) for n in range(int(number))])) == int(number)
