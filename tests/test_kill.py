"""Runs that are killed at any moment end, resumed, in the report of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from automix_eval.report.assemble import Settings, assemble
from automix_eval.report.load import PARTIAL
from automix_eval.types import AutoMixError

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AUTOMIX_KILLS", "12"))
CONCURRENT = 4
REPORTS = ("report.txt", "report.csv", "report.json")
HERE = Path(__file__).parent


class _Server(ThreadingHTTPServer):
    """A model of /v1/completions whose answer depends on the request alone; counts requests."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed leaves a broken connection: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(body).hexdigest()
        with self.server.lock:
            self.server.asked[digest] += 1
        time.sleep(0.01)
        asked = json.loads(body)
        choice = {"index": 0, "text": _text(asked, int(digest, 16)), "finish_reason": "stop"}
        usage = {"prompt_tokens": len(asked["prompt"][0]), "completion_tokens": 3}
        reply = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _text(asked: dict[str, Any], number: int) -> str:
    if "AI Generated Answer" in str(asked["prompt"]):
        verdict = ("Correct", "Incorrect")[number % 2]
        return f" Verification Decision: The AI generated answer is {verdict}."
    return f" answer {number % 7}" if asked["model"] == "small" else " yes"


@pytest.fixture
def server() -> Iterator[_Server]:
    """The server, running."""
    made = _Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


class Runner:
    """The process that forks runs, see kill_runner.py."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "kill_runner.py"), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, output: Path, store: Path, kill_after: float | None = None) -> tuple[int, float]:
        """Status (0 whole, 9 killed) and seconds of one run."""
        assert self._process.stdin
        assert self._process.stdout
        command = {"output": str(output), "store": str(store), "kill_after": kill_after}
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return int(answer["status"]), float(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _completions(server: _Server) -> dict[str, Any]:
    """The cascade's arguments: two models of the server, routed by a fitted policy."""
    tier = {
        "base_url": f"http://127.0.0.1:{server.server_port}/v1/completions",
        "num_concurrent": CONCURRENT,
    }
    args: dict[str, Any] = {
        "model": "killed",
        "slm": "local_completions",
        "llm": "local_completions",
        "slm.model": "small",
        "llm.model": "large",
        "verifier": "few_shot",
        "verifier.num_samples": 2,
        "meta_verifier": "threshold",
        "calibration.num_docs": 8,
        "block_size": 4,
        "record": "full",
    }
    for name in ("slm", "llm"):
        args |= {f"{name}.{key}": value for key, value in tier.items()}
    return args


# Differ by nature, and are blanked by name: the run's name, when it began, and which calls it found
# in the store; of these the sum with those it made is compared.
_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d{4}")
_JSON_CALLS = re.compile(r'made": (\d+),\s+"(?:calibration_)?stored": (\d+)')
_TEXT_CALLS = re.compile(r"^([SL]LM, \w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


def _text_calls(row: re.Match[str]) -> str:
    on_path, made, stored, fit_made, fit_stored = (int(n) for n in row.groups()[1:])
    return f"{row[1]} {on_path} {made + stored} {fit_made + fit_stored}"


def _reports(output: Path) -> dict[str, str]:
    """The reports' texts without what differs by nature."""
    found = {}
    for name in REPORTS:
        text = (output / "report" / name).read_text(encoding="utf-8")
        text = _CREATED.sub("CREATED", _RUN_ID.sub("RUN", text))
        text = _JSON_CALLS.sub(lambda m: f"calls {int(m[1]) + int(m[2])}", text)
        found[name] = _TEXT_CALLS.sub(_text_calls, text)
    return found


def _check_partial(output: Path) -> bool:
    """Whether what a killed run left is a run that says it is partial; it must be readable."""
    manifests = list(output.rglob("automix_run_*.json"))
    if not manifests:
        return False
    newest = max(manifests, key=lambda p: p.stat().st_mtime_ns)
    try:
        found = assemble([newest], Settings(resamples=20))
    except AutoMixError:
        # killed before the first answered block: there is no figure to show
        return False
    unfinished = "unfinished" in json.loads(newest.read_text())
    said = any(PARTIAL in w for task in found.report.tasks for w in task.warnings)
    assert said == unfinished
    return said


def _series(runner: Runner, folder: Path, kills: int, server: _Server | None) -> Counter[str]:
    """Kill runs at seeded moments and resume them; returns what was seen."""
    draw = random.Random(7)
    status, _ = runner.run(folder / "warm", folder / "warm.sqlite")
    assert status == 0, (folder / "warm" / "log.txt").read_text()[-3000:]
    if server:
        server.asked.clear()
    status, whole = runner.run(folder / "whole", folder / "whole.sqlite")
    assert status == 0
    wanted = _reports(folder / "whole")
    once = set(server.asked) if server else set()
    assert not server or set(server.asked.values()) == {1}
    seen: Counter[str] = Counter(seconds=round(whole))
    for number in range(10 * kills):
        if seen["kills"] >= kills:
            break
        output, store = folder / f"out{number}", folder / f"{number}.sqlite"
        if server:
            server.asked.clear()
        here = 0
        for _ in range(draw.choice((1, 1, 2))):
            status, _ = runner.run(output, store, draw.uniform(0, whole))
            assert status in (0, 9), (output / "log.txt").read_text()[-3000:]
            here += status == 9
            if status == 9:
                seen["partial"] += _check_partial(output)
        status, _ = runner.run(output, store)
        assert status == 0, (output / "log.txt").read_text()[-3000:]
        assert "Traceback" not in (output / "log.txt").read_text()
        assert _reports(output) == wanted
        if server:
            assert set(server.asked) == once
            repeated = sum(n - 1 for n in server.asked.values())
            assert repeated <= CONCURRENT * here
            seen["repeated"] += repeated
        seen["kills"] += here
    assert seen["kills"] >= kills
    return seen


def test_a_killed_run_resumes_to_the_same_report(server: _Server, tmp_path: Path) -> None:
    """Every resume ends in the undisturbed report and repeats at most the calls in flight."""
    settings = {
        "model_args": _completions(server),
        "tasks": ["coqa_demo"],
        "limit": 24,
        "resamples": 200,
    }
    runner = Runner(tmp_path, settings)
    try:
        seen = _series(runner, tmp_path, KILLS, server)
    finally:
        runner.close()
    print(f"\n{dict(seen)}")
    # a dozen moments may all miss the short time between the first and the last answered block
    assert seen["partial"] > 0 or KILLS < 100
