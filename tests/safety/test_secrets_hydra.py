"""No key reaches what Hydra saves of a command: refused where written out, unseen by reference."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from loopback import cascade_of, serving
from scripted import SCRIPTS, gold_answers, knows
from test_secrets import CANARY, assert_absent, search

from automix_eval.commands.main import main
from automix_eval.safety import redaction
from automix_eval.safety.logs import LogFilter

TASK = "coqa_demo"
# no character that Hydra's grammar wants quoted
WORD = "canary7f3a91xyz"
CODED = base64.b64encode(b"me:" + WORD.encode()).decode()
CASCADE = [
    "slm=harness", "slm.lm=scripted", "slm.script=small", "llm=local_completions", "llm.model=m",
    "llm.base_url=http://127.0.0.1:9/v1", "verifier=few_shot", "verifier.num_samples=1",
    "meta_verifier=always_slm", "progress=false", f"tasks=[{TASK}]", "limit=2", "bootstrap_iters=0",
    "hydra.output_subdir=.hydra",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of earlier tests; a working folder of the test's own."""
    monkeypatch.setattr(redaction, "_MET", {})
    monkeypatch.chdir(tmp_path)
    answers = gold_answers(TASK)
    SCRIPTS["small"] = SCRIPTS["large"] = knows(answers, 0.5)
    yield
    for logger in (logging.getLogger(), logging.getLogger("lm_eval")):
        for handler in logger.handlers:
            for one in [f for f in handler.filters if isinstance(f, LogFilter)]:
                handler.removeFilter(one)


@pytest.mark.parametrize("command", [["run"], ["run", "-m"], ["fit"]], ids=" ".join)
@pytest.mark.parametrize(
    "override",
    [
        f"llm.api_key={WORD}",
        f"+llm.auth_token={WORD}",
        f"++llm.header.X-Own={WORD}",
        f"llm.header={{Authorization: {WORD}}}",
        f"llm.extra.extra_body.api_key={WORD}",
        f"llm.auth_token={WORD},{WORD}2",
        f"llm.auth_token=choice({WORD},{WORD}2)",
        f"llm.base_url='http://me:{WORD}@127.0.0.1:9/v1'",
        f"llm.base_url='http://127.0.0.1:9/v1?api_key={WORD}'",
        f"llm.base_url='{quote(f'http://me:{WORD}@127.0.0.1:9/v1', safe='')}'",
        f"llm.base_url='me:{WORD}@127.0.0.1:9/v1'",
        f"llm.extra.note='Authorization: Bearer {WORD}'",
        f"llm.extra.note='Basic {CODED}'",
        f"model='api_key={WORD}'",
        f"output='out/api_key={WORD}'",
        f"system_instruction='the password: {WORD}'",
        f"gen_kwargs={{extra_headers: {{Authorization: {WORD}}}}}",
        f"metadata={{token: {WORD}}}",
        f"tiers=[smollm2,{{option: hf,pretrained: x,token: {WORD}}}]",
        f"hydra.job.env_set.MY_API_KEY={WORD}",
        f"hydra.job.env_set={{PGPASS: {WORD}}}",
        f"--llm.auth_token={WORD}",
        f"llm.auth_token={WORD} ][",
    ],
    ids=lambda o: o.replace(WORD, "W")[:45],
)
def test_a_secret_on_the_command_line_is_refused(
    command: list[str], override: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before Hydra or anything else keeps it; the error does not repeat it."""
    output = [] if override.startswith("output") else ["output=out"]
    swept = ["seed=0,1"] if "-m" in command else []
    assert main([*command, *CASCADE, *swept, *output, override]) == 2
    said = "".join(capfd.readouterr())
    assert "would show a secret" in said or "special characters" in said
    assert_absent("screen", said, WORD)
    assert CODED not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override",
    ["llm.extra.note='the key is under the mat'", "system_instruction='Token: one word of a text'",
     "+hydra.job.env_set.OMP_NUM_THREADS=1", "llm.base_url=http://localhost:8000/v1",
     "++llm.header.Accept=text/plain"],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_is_taken(override: str) -> None:
    """Words, vocabulary, harmless variables and plain addresses."""
    assert main(["run", *CASCADE, override, "output=out", "--cfg", "job"]) == 0


@pytest.mark.parametrize("swept", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
@pytest.mark.parametrize("form", ["env:{}", "${{oc.env:{}}}"])
def test_a_secret_by_reference_is_in_no_file_of_a_run(
    form: str, swept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Neither in Hydra's saved configurations nor in notes, tables, records and reports."""
    with serving(SCRIPTS["small"], SCRIPTS["large"]) as server:
        args = {k: v for k, v in cascade_of(server).items() if not k.endswith("base_url")}
        coded = quote(CANARY, safe="")
        address = f"127.0.0.1:{server.server_port}/v1/completions?api_key={coded}"
        monkeypatch.setenv("MY_SERVER", f"http://me:{coded}@{address}")
        monkeypatch.setenv("MY_WORD", CANARY)
        where = [f"{t}.base_url='{form.format('MY_SERVER')}'" for t in ("slm", "llm")]
        line = ["run", *(f"{k}={v}" for k, v in args.items()), *where, *CASCADE[9:], *swept]
        line += [f"llm.header={{X-Own: '{form.format('MY_WORD')}'}}", "output=out"]
        assert main([*line, f"store.path={tmp_path}/s.sqlite"]) == 0
        assert server.asked
    saved = {p.name for p in tmp_path.rglob("*.yaml")}
    assert {"config.yaml", "overrides.yaml"} <= saved
    assert ("multirun.yaml" in saved) is bool(swept)
    assert search(tmp_path) > 10
    assert_absent("screen", "".join(capfd.readouterr()))


def test_a_job_that_fails_by_surprise_keeps_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its traceback, its note, the table of jobs and the screen."""
    monkeypatch.setenv("MY_API_KEY", CANARY)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"a library said {CANARY} and {quote(CANARY, safe='')}")

    monkeypatch.setattr("automix_eval.harness.evaluate.evaluate", fail)
    assert main(["run", "-m", *CASCADE, "seed=0,1", "output=out"]) == 2
    assert len(list(tmp_path.rglob("traceback.txt"))) == 2
    assert search(tmp_path) > 5
    said = "".join(capfd.readouterr())
    assert "RuntimeError: a library said ***" in said
    assert_absent("screen", said)
