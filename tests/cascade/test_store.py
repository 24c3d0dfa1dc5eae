"""Laws of the durable call store."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples

from automix_eval.cascade.store import CallStore, call_key
from automix_eval.safety.errors import AutoMixError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(50))
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_what_is_put_is_got(value: dict[str, object]) -> None:
    """Any JSON value survives."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "s.sqlite") as store:
        assert store.get("k") is None
        store.put("k", value)
        assert store.get("k") == value


@pytest.mark.parametrize("value", [math.nan, [0.5, math.inf], {"a": math.nan}, ["null", math.nan]])
def test_a_number_without_an_end_is_not_put(value: object, tmp_path: Path) -> None:
    """It would read as null."""
    with CallStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.put("k", {"text": "null", "seconds": None, "value": value})
        assert store.get("k") is None


def test_keys_tell_every_part_apart_and_ignore_order() -> None:
    """A key depends on all of its parts and not on the order they are named in."""
    base = {"model": {"a": 1}, "prompt": "p", "seed": 0}
    assert call_key(base) == call_key(dict(reversed(base.items())))
    for change in ({"model": {"a": 2}}, {"prompt": "q"}, {"seed": 1}, {"seed": None}):
        assert call_key(base | change) != call_key(base)


def test_a_killed_writer_loses_nothing_it_put(tmp_path: Path) -> None:
    """What was put before SIGKILL is there for the next process."""
    path = tmp_path / "s.sqlite"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from automix_eval.cascade.store import CallStore;"
        "s = CallStore(Path(sys.argv[1])); [s.put(str(i), {'i': i}) for i in range(20)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    with CallStore(path) as store:
        assert [store.get(str(i)) for i in range(20)] == [{"i": i} for i in range(20)]


def test_two_processes_share_one_store(tmp_path: Path) -> None:
    """Concurrent writers neither fail nor lose rows."""
    path = tmp_path / "s.sqlite"
    code = (
        "import sys; from pathlib import Path; from automix_eval.cascade.store import CallStore;"
        "s = CallStore(Path(sys.argv[1]));"
        "[s.put(f'{sys.argv[2]}-{i}', {'i': i}) for i in range(100)]"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b")
    ]
    assert [w.wait() for w in workers] == [0, 0]
    with CallStore(path) as store:
        assert len(store) == 200


def test_a_file_that_is_no_data_base_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage is said, kept for inspection, and does not stop the run."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is not a data base" * 100)
    with CallStore(path) as store:
        store.put("k", {"v": 1})
        assert store.get("k") == {"v": 1}
    assert "set aside" in caplog.text
    assert len(list(tmp_path.glob("s.sqlite.damaged-*"))) == 1


def test_damage_that_shows_late_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A page overwritten in the middle: the run goes on with the calls that can still be read."""
    path = tmp_path / "s.sqlite"
    with CallStore(path) as store:
        for i in range(400):
            store.put(f"k{i:03}", {"v": i, "text": "x" * 200})
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2 // 4096 * 4096
    damaged[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(damaged)
    with CallStore(path) as store:
        keys = [f"k{i:03}" for i in range(400)]
        found = store.get_many(keys)
        assert all(found[k]["v"] == int(k[1:]) for k in found)
        assert 100 < len(found) < 400
        store.put("new", {"v": -1})
        assert store.get("new") == {"v": -1}
    assert "set aside" in caplog.text
    (aside,) = tmp_path.glob("s.sqlite.damaged-*[0-9]")
    assert aside.read_bytes()[middle : middle + 8192] == b"\xff" * 8192
    with CallStore(path) as store:
        assert store.get_many(keys) == found


@pytest.mark.parametrize("part", ["-wal", ""])
def test_a_truncated_file_is_no_traceback(tmp_path: Path, part: str) -> None:
    """Half of the file, or of its journal: what is lost is asked again."""
    path = tmp_path / "s.sqlite"
    code = (
        "import os, sys; from pathlib import Path;"
        "from automix_eval.cascade.store import CallStore;"
        "s = CallStore(Path(sys.argv[1]));"
        "[s.put(f'k{i}', {'v': i, 'text': 'x' * 500}) for i in range(100)]; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    if not part:
        CallStore(path).close()  # the journal goes into the file
    file = path.with_name(path.name + part)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with CallStore(path) as store:
        found = store.get_many([f"k{i}" for i in range(100)])
        assert all(found[f"k{v['v']}"] == v for v in found.values())
        store.put("new", {"v": -1})
        assert store.get("new") == {"v": -1}


def test_a_full_disk_names_the_remedy(tmp_path: Path) -> None:
    """What was put before is there; the error says how to go on."""
    path = tmp_path / "s.sqlite"
    with CallStore(path) as store:
        store.put("k", {"v": 1})
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(AutoMixError, match="free the disk"):
            store.put("large", {"text": "x" * 200_000})
        assert store.get("k") == {"v": 1}


def test_a_damaged_entry_is_repeated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An entry that is no JSON counts as missing, with a warning."""
    path = tmp_path / "s.sqlite"
    with CallStore(path) as store:
        store.put("k", {"v": 1})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE calls SET value = '{'")
    with CallStore(path) as store:
        assert store.get("k") is None
    assert "damaged" in caplog.text


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """The error names store.path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoMixError, match=r"store\.path"):
        CallStore(tmp_path / "file" / "s.sqlite")
