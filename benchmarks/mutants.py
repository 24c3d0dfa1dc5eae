"""A seeded sample of mutants of what figures, prices, keys and decisions come from.

mutmut (settings in pyproject.toml) makes all mutants. Each of the sample is judged in a fork of one
process that has collected the quick tests: those that call the function it is in, the nearest room
first, until one fails. A mutant that no test calls is alive; a test that fails without any mutant
is named and left out. mutants/judged.json keeps the verdicts until the function changes (for those
alive: or a test), so that a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing import Process
from pathlib import Path
from typing import Any

TREE = Path("mutants").absolute()
JUDGED, CALLED = TREE / "judged.json", TREE / "called.json"
LONGEST = 300.0  # seconds a mutant may take; a test that ends no more has noticed it
BAR = 0.9


def make_all(jobs: int) -> None:
    """Every mutant of every file, in a tree of its own; unchanged files are left as they are."""
    from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants

    TREE.mkdir(exist_ok=True)
    for folder in ("tests", "hydra_conf", "tasks"):
        shutil.rmtree(TREE / folder, ignore_errors=True)
    for old in (TREE / "automix_eval").rglob("*.py"):
        if not Path(old.relative_to(TREE)).exists():
            for path in old.parent.glob(f"{old.name}*"):
                path.unlink()
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(jobs)


def made() -> dict[str, str]:
    """The hash of its function, for each mutant there is."""
    found = {}
    for file in sorted((TREE / "automix_eval").rglob("*.py.meta")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        for name in kept["exit_code_by_key"]:
            function = function_of(name).rpartition(".")[2]
            found[name] = kept["hash_by_function_name"].get(function, "")
    return found


def function_of(mutant: str) -> str:
    """The mangled name of the function that a mutant is one of."""
    return mutant.partition("__mutmut_")[0]


def hash_of(*folders: str) -> str:
    """One hash of all Python that lies in some folders."""
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def read(path: Path) -> dict[str, Any]:
    """What a file of ours holds; nothing before the first run."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def keep(path: Path, what: dict[str, Any]) -> None:
    """Write a file of ours, whole or not at all."""
    path.with_suffix(".new").write_text(json.dumps(what, indent=0), encoding="utf-8")
    path.with_suffix(".new").replace(path)


class Judge:
    """A plug-in of pytest that judges mutants in the place of running what was collected.

    Args:
        mutants: Their names.
        hashes: The hash of its function, for each.
        jobs: How many are judged at once.
    """

    def __init__(self, mutants: Sequence[str], hashes: dict[str, str], jobs: int) -> None:
        self.mutants, self.hashes, self.jobs = mutants, hashes, jobs
        self.items: dict[str, Any] = {}
        self.calls: dict[str, Any] = {}

    def pytest_runtestloop(self, session: Any) -> bool:
        """Find out who calls what, then judge."""
        self.items = {item.nodeid: item for item in session.items}
        session.config.pluginmanager.unregister(name="terminalreporter")
        self.learn_calls(session)
        running: dict[int, tuple[str, float]] = {}
        waiting = iter(self.mutants)
        while True:
            while len(running) < self.jobs and (name := next(waiting, None)):
                pid = forked(partial(passes, session, self.chosen(name), name))
                running[pid] = name, time.monotonic()
            if not running:
                return True
            pid, verdict = ended(running)
            name, begun = running.pop(pid)
            keep(JUDGED, read(JUDGED) | {name: [self.hashes[name], verdict, hash_of("tests")]})
            print(f"{verdict:8}{time.monotonic() - begun:6.1f} s  {name}", flush=True)

    def chosen(self, mutant: str) -> list[Any]:
        """The tests that call a mutant: a file that is named like its own first, then its room."""
        room, module = mutant.split(".")[1], mutant.split(".")[-2].strip("_")

        def near(test: str) -> tuple[Any, ...]:
            file = file_of(test)
            cost = sum(seconds for seconds, _ in self.calls[file]["tests"].values())
            return module not in file, file.split("/")[1] != room, cost, file

        callers = (
            test
            for kept in self.calls.values()
            for test, (_, called) in kept["tests"].items()
            if function_of(mutant) in called
        )
        return [self.items[test] for test in sorted(callers, key=near)]

    def learn_calls(self, session: Any) -> None:
        """What each test calls and takes; run again where files, or names of functions, differ."""
        files: dict[str, list[Any]] = {}
        for item in session.items:
            files.setdefault(file_of(item.nodeid), []).append(item)
        functions = sorted({function_of(name) for name in self.hashes})
        shared = f"{hash_of('tests/helpers')}{Path('tests/conftest.py').read_text()}{functions}"
        known = {
            file: hashlib.sha256((shared + Path(file).read_text()).encode()).hexdigest()[:12]
            for file in files
        }
        before = read(CALLED)
        self.calls = {f: k for f, k in before.items() if known.get(f) == k["hash"]}
        new = [file for file in files if file not in self.calls]
        notes = [TREE / f"called.{part}" for part in range(min(self.jobs, len(new)))]
        pids = []
        for part, note in enumerate(notes):
            items = [item for file in new[part :: self.jobs] for item in files[file]]
            pids.append(forked(partial(noted, session, items, note)))
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        if any(codes):
            raise SystemExit("what the tests call could not be learned")
        tests: dict[str, Any] = {}
        for note in notes:
            tests |= read(note)
        for file in new:
            mine = {item.nodeid: tests[item.nodeid] for item in files[file]}
            if failed := [test for test, what in mine.items() if what is None]:
                print("left out, since they fail without any mutant:", *failed, flush=True)
            kept = {test: what for test, what in mine.items() if what is not None}
            self.calls[file] = {"hash": known[file], "tests": kept}
        keep(CALLED, self.calls)


def file_of(test: str) -> str:
    """The file of a test."""
    return test.partition("::")[0]


def ended(running: dict[int, tuple[str, float]]) -> tuple[int, str]:
    """The next fork that ends, by itself or because it takes too long, and the verdict."""
    while True:
        for pid, (_, begun) in running.items():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return pid, "killed" if status else "alive"
            if time.monotonic() - begun > LONGEST:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return pid, "timeout"
        time.sleep(0.02)


def forked(work: Any) -> int:
    """Do it in a process of its own, which says nothing; 0 is its code where it returns True."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        code = 0 if work() else 1
    finally:
        os._exit(code)


def passes(session: Any, items: Sequence[Any], mutant: str) -> bool:
    """Whether no test fails; the first that does ends it."""
    from mutmut.mutation.trampoline import set_mutant_under_test

    set_mutant_under_test(mutant)
    for item, after in zip(items, [*items[1:], None], strict=False):  # there may be no item
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.testsfailed:
            return False
    return True


def noted(session: Any, items: Sequence[Any], note: Path) -> bool:
    """Run each test on the code as it is, and note what it calls and takes."""
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state

    set_mutant_under_test("stats")
    found: dict[str, Any] = {}
    for item, after in zip(items, [*items[1:], None], strict=True):
        state()._stats.clear()
        begun = time.monotonic()
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        found[item.nodeid] = (time.monotonic() - begun, sorted(state()._stats))
        if session.testsfailed:
            found[item.nodeid], session.testsfailed = None, 0
    keep(note, found)
    return True


def judge(mutants: Sequence[str], hashes: dict[str, str], jobs: int) -> None:
    """A process's work: collect the tests beside the mutants, and judge."""
    import pytest
    from mutmut.configuration import config

    os.chdir(TREE)
    # the tests' processes import the mutants too
    sys.path.insert(0, str(TREE))
    os.environ |= {"PYTHONPATH": str(TREE), "MUTANT_UNDER_TEST": "", "OMP_NUM_THREADS": "1"}
    asked = [*config().pytest_add_cli_args_test_selection, *config().pytest_add_cli_args]
    options = ["-q", "--rootdir=.", "--hypothesis-profile=ci"]
    sys.exit(int(pytest.main([*options, *asked], plugins=[Judge(mutants, hashes, jobs)])))


def main() -> int:
    """Make, draw, judge and count."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--equivalent", type=Path, default=Path("tests/equivalent_mutants.txt"))
    asked = parser.parse_args()
    making = Process(target=make_all, args=(asked.jobs,))
    making.start()
    making.join()
    if making.exitcode:
        return making.exitcode
    hashes = made()
    sample = random.Random(asked.seed).sample(sorted(hashes), min(asked.mutants, len(hashes)))
    tests = hash_of("tests")
    waiting = [
        name
        for name in sample
        if (found := read(JUDGED).get(name)) is None
        or found[0] != hashes[name]
        or (found[1] == "alive" and found[2] != tests)
    ]
    if waiting:
        judging = Process(target=judge, args=(waiting, hashes, asked.jobs))
        judging.start()
        judging.join()
        if judging.exitcode:
            return judging.exitcode
    equivalent = {
        line.split()[0]
        for line in asked.equivalent.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    rooms: dict[str, Counter[str]] = {}
    alive = []
    for name in sample:
        what = read(JUDGED)[name][1]
        if what == "alive" and name in equivalent:
            what = "equivalent"
        elif what == "alive":
            alive.append(name)
        rooms.setdefault(name.split(".")[1], Counter())[what] += 1
    for name in alive:
        print(f"\nalive: {name}")
        print(get_diff_for_mutant(name))
    for room, counts in sorted(rooms.items()):
        print(f"{room:16}", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    judged = len(sample) - sum(c["equivalent"] for c in rooms.values())
    score = 1 - len(alive) / judged
    print(f"{score:.1%} of {judged} mutants killed ({len(hashes)} there are; seed {asked.seed})")
    return int(score < BAR)


if __name__ == "__main__":
    sys.exit(main())
