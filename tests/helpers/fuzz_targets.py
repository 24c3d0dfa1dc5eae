"""Every parser of what others wrote, as a function of bytes; run by hypothesis and by atheris.

A target returns, or raises what its parser promises for bad input. Anything else is a finding.
"""

from __future__ import annotations

import atexit
import copy
import hashlib
import importlib.util
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_tables import importers, samples
from report_builder import PAPER, ROWS, build_run, harness, llm_scores, record

from automix_eval.backends.servers import faults, replies
from automix_eval.backends.servers.faults import RequestError
from automix_eval.cascade import tier as calls
from automix_eval.cascade.store import CallStore
from automix_eval.commands.outcomes import column_names
from automix_eval.commands.outcomes import table as table_of
from automix_eval.config import compose as config
from automix_eval.config import overrides, parts
from automix_eval.costs.from_config import cost_from, parse_costs
from automix_eval.harness.tasks import load as taskdata
from automix_eval.paths import tasks_dir
from automix_eval.records import from_run as stored
from automix_eval.records import policies as policy
from automix_eval.records import schema as records
from automix_eval.records.from_table import outcomes
from automix_eval.records.harness_results import ScoredBy, find_results, read_samples
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.runs import read_run
from automix_eval.records.stream import read_rows
from automix_eval.records.table_columns import Columns, parse_tiers
from automix_eval.records.tables import read_table
from automix_eval.report.formats import tex
from automix_eval.report.page.visible import visible
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import blank, blank_text, literal_secret, scrub
from automix_eval.safety.text import csv_cell, harmless_lines, printable
from automix_eval.safety.untrusted import parse_json, parse_yaml
from automix_eval.types import Generation, Scores

ROUTERS = (
    "pomdp", "threshold", "double_threshold", "greedy", "pomdp_v1", "union", "self_consistency",
    "logistic", "knn", "mlp", "token_margin", "random", "always_tier",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        run: Parses bytes.
        seeds: Inputs it takes.
        promised: What it raises for others.
        share: Of the inputs of a run; slow parsers get fewer.
    """

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    promised: tuple[type[Exception], ...] = (AutoMixError,)
    share: float = 1.0

    def __call__(self, data: bytes) -> None:
        """Parse; only an unpromised exception comes out."""
        try:
            self.run(data)
        except self.promised:
            return


@cache
def folder() -> Path:
    """One folder for all inputs of this process; it goes with the process."""
    scratch = tempfile.mkdtemp(prefix="automix-fuzz-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return Path(scratch)


def place(name: str, data: bytes) -> Path:
    """A file with these bytes."""
    path = folder() / name
    path.write_bytes(data)
    return path


def dumped(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


# --------------------------------------------------------------------------- files of runs


@cache
def run_folder() -> Path:
    """A run with records, a policy, samples and results."""
    path = folder() / "run"
    build_run(path, full=True)
    harness(path, llm_scores())
    return path


def first(pattern: str) -> bytes:
    """The bytes of a file of that run."""
    return sorted(run_folder().rglob(pattern))[0].read_bytes()


def read_manifest_and_records(data: bytes) -> None:
    """The manifest is the input, the records beside it are whole."""
    whole = sorted(run_folder().rglob("automix_records_*.jsonl"))[0]
    beside = folder() / "manifest" / whole.name
    beside.parent.mkdir(exist_ok=True)
    if not beside.exists():
        beside.write_bytes(b"\n".join(whole.read_bytes().splitlines()[:3]))
    (beside.parent / "automix_run_x.json").write_bytes(data)
    read_run(beside.parent / "automix_run_x.json")


def replay_manifest(data: bytes) -> None:
    """A run that is replayed: the manifest is the input."""
    read_beside(data, first("automix_records_*.jsonl"))


def replay_records(data: bytes) -> None:
    """A run that is replayed: one record is the input, the others are whole."""
    rest = first("automix_records_*.jsonl").splitlines()[1:4]
    read_beside(first("automix_run_*.json"), b"\n".join((data, *rest)))


def read_beside(manifest: bytes, lines: bytes) -> None:
    """Both files of a run, to outcomes as a table."""
    path = folder() / "replay"
    path.mkdir(exist_ok=True)
    (path / "automix_run_r1.json").write_bytes(manifest)
    (path / "automix_records_r1.jsonl").write_bytes(lines)
    stored._read.cache_clear()
    held = records.read_manifest(path / "automix_run_r1.json")
    cost = cost_from((held.get("config") or {}).get("cost") or {})
    source = stored.from_records(path, cost)
    table_of([("test", source.test)], column_names(source.test.names), source.grouped)


def read_results(data: bytes) -> None:
    """A results file of the harness; what is none is left out with a warning."""
    path = folder() / "results" / "results_2026-01-01T00-00-00.000000.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    for found in find_results([path.parent])[0]:
        assert all(found.samples_path(t) is None for t in found.tasks)


# --------------------------------------------------------------------------- policies


@cache
def fitted() -> Mapping[str, Any]:
    """What every meta-verifier learns from the same rows."""
    rows = [record(i, r, full=True) for i, r in enumerate(ROWS)]
    seen = Outcomes.from_records(rows, cost_from(PAPER))
    learned = {}
    for name in ROUTERS:
        router = parts.make_meta_verifier(config.build({"meta_verifier": name}))
        learned[name] = router.fit(seen).get_learned() if router.needs_fit else {}
    return learned


@cache
def unfitted(name: str) -> Any:
    """A router that has learned nothing."""
    return parts.make_meta_verifier(config.build({"meta_verifier": name}))


def json_or_none(data: bytes) -> Any:
    """A value that a policy file could hold."""
    try:
        return parse_json(data)
    except ValueError:
        return None


def restore_learned(data: bytes) -> None:
    """The learned part of a policy whose hash is right: deeper than damage is found."""
    value = json_or_none(data)
    if not isinstance(value, dict) or value.get("name") not in ROUTERS:
        return
    learned = value.get("learned")
    if isinstance(learned, dict):
        router = copy.deepcopy(unfitted(value["name"]))
        router.set_learned(learned)
        router.describe()


def restore_signed(data: bytes) -> None:
    """A whole policy whose hash is made right."""
    value = json_or_none(data)
    if isinstance(value, dict):
        body = {k: v for k, v in value.items() if k != "sha256"}
        text = json.dumps(body, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        path = place("policy.json", dumped(body | {"sha256": digest}))
        held = policy.load(path)
        parts.restore(held)
        policy.mismatches(held, "pomdp", {})


def policies() -> tuple[bytes, ...]:
    """Policies of every meta-verifier."""
    return tuple(
        dumped(policy.make(n, parts.router_parameters(config.build({"meta_verifier": n})), v, {}))
        for n, v in fitted().items()
    )


# --------------------------------------------------------------------------- tables


COLUMNS = Columns(
    parse_tiers(
        [
            {"name": "s", "score": "a", "confidence": "c", "cost": "p", "signals": {"x": "c"}},
            {"name": "l", "score": "b", "cost": 50, "answer": "t"},
        ]
    ),
    split_column="t",
)
CSV = b"a,b,c,p,t\n1,0,0.5,2,train\n0,1,,3,test\n"
LINES = b'{"a":1,"b":0,"c":0.5,"p":2,"t":"x"}\n{"a":0,"b":1,"c":null,"p":3,"t":"y"}\n'


TIERS = (
    b"- {name: s, score: a, confidence: c, cost: 1, verify_cost: p, signals: {x: c}}\n"
    b"- {name: l, score: b, cost: 50, answer: t}\n"
)


def read_tiers(data: bytes) -> None:
    """The user's description of a table's columns."""
    try:
        value = parse_yaml(data)
    except ValueError:
        return
    parse_tiers(value)


def table(suffix: str) -> Callable[[bytes], None]:
    """A table of outcomes."""

    def read(data: bytes) -> None:
        held = read_table(place(f"table{suffix}", data), COLUMNS.numbers(), COLUMNS.texts())
        outcomes(held, COLUMNS, np.arange(len(held)))

    return read


@cache
def parquet() -> bytes:
    """A small Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet as arrow

    path = folder() / "seed.parquet"
    columns = {"a": [1, 0], "b": [0, 1], "c": [0.5, None], "p": [2, 3], "t": ["x", "y"]}
    arrow.write_table(pa.table(columns), path)
    return path.read_bytes()


# --------------------------------------------------------------------------- the store


GENERATION = asdict(Generation("an answer", 7, 2, 0.1, (-0.5,), (0.5,), 3, ("retry:http_429",)))
SCORES = asdict(Scores((-0.5,), (True,), 7, 0.1))


def read_entry(data: bytes) -> None:
    """The value of a stored call."""
    with CallStore(folder() / "entries.sqlite") as store:
        value: Any = data.decode("utf-8", "replace")
        store._db.execute("INSERT OR REPLACE INTO calls VALUES ('k', ?, 0)", (value,))
        found = store.get("k")
        if found is not None:
            assert isinstance(calls._restore(found), (Generation, Scores, type(None)))


def open_store(data: bytes) -> None:
    """A file that may be a data base."""
    path = place("store.sqlite", data)
    for beside in path.parent.glob("store.sqlite?*"):
        beside.unlink()
    with CallStore(path) as store:
        store.put("k", GENERATION)
        assert store.get("k")


@cache
def database() -> bytes:
    """A store with one entry."""
    path = folder() / "seed.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE calls (key TEXT PRIMARY KEY, value TEXT, created REAL)")
        db.execute("INSERT INTO calls VALUES ('k', '{}', 0)")
    db.close()
    return path.read_bytes()


# --------------------------------------------------------------------------- servers, rows, texts


REPLIES = (
    {"choices": [{"index": 0, "text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": [-1],
     "top_logprobs": [{"a": -1, "b": -2}]}}], "usage": {"prompt_tokens": 3}},
    {"choices": [{"message": {"content": "x"}, "finish_reason": "length", "logprobs": {"content":
     [{"token": "a", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": -1}]}]}}]},
    {"content": [{"text": "x"}], "usage": {"input_tokens": 3, "cache_read_input_tokens": 1}},
    {"text": "x", "meta_info": {"prompt_tokens": 3, "finish_reason": {"type": "length"}}},
    {"error": {"code": "429", "message": "slow down"}},
)  # fmt: skip


def read_reply(data: bytes) -> None:
    """A server's reply, as far as it is read."""
    body = faults.read_json(data.decode("utf-8", "replace"))
    replies.check(body)
    for choice in replies.choices_of(body):
        text = replies.text_of(choice) or ""
        replies.probabilities(replies.tokens_of(choice), text)
        replies.end_of(choice)
    usage = replies.usage_of(body)
    json.dumps([usage.prompt, usage.cached, usage.generated], allow_nan=False)


def read_refusal(data: bytes) -> None:
    """A status with its text, and the header that asks to wait."""
    text = data.decode("utf-8", "replace")
    error = faults.classify(429, text, {"Retry-After": text[:40]})
    assert error.retry_after is None or error.retry_after >= 0


@cache
def flattens() -> tuple[Any, ...]:
    """``flatten`` of every task."""
    found = []
    for file in sorted(tasks_dir().glob("*/utils.py")):
        spec = importlib.util.spec_from_file_location(f"fuzz_{file.parent.name}", file)
        assert spec is not None and spec.loader is not None  # noqa: PT018
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "flatten"):
            found.append(module.flatten)
    return tuple(found)


def read_task_rows(data: bytes) -> None:
    """Rows of a data set, for every task."""
    path = place("rows.jsonl", data)
    for flatten in flattens():
        try:
            taskdata._documents("x", taskdata._read_jsonl("x", path), flatten)
        except AutoMixError:
            continue


def row_seeds() -> tuple[bytes, ...]:
    """First lines of the embedded samples."""
    files = sorted(tasks_dir().glob("*/demo/train.jsonl"))
    return tuple(f.read_bytes().split(b"\n")[0] for f in files)


def show_text(data: bytes) -> None:
    """No output form of a text holds what a terminal, a spreadsheet or a page obeys."""
    text = data.decode("utf-8", "replace")
    for shown in (printable(text), harmless_lines(text), visible(text), str(csv_cell(text))):
        assert "\x1b" not in shown and "\u202e" not in shown and "\x9b" not in shown  # noqa: PT018
    assert str(csv_cell(text)).lstrip()[:1] not in ("=", "+", "-", "@")
    tex(text)
    assert isinstance(scrub(blank_text(text)), str)
    literal_secret("llm.model", text)
    blank({"llm": {"header": text, "base_url": text, "x": [text]}})
    str(AutoMixError(text))


def read_config(data: bytes) -> None:
    """The keys and values of config=FILE, before Hydra sees them."""
    dict(overrides.flatten(overrides.read_file(place("config.yaml", data))))


def build_config(data: bytes) -> None:
    """A whole configuration."""
    config.build({"config": str(place("config.yaml", data))})


def read_prices(data: bytes) -> None:
    """A file of prices."""
    parse_costs(f"tokens:{place('prices.yaml', data)}")


CONFIGS = (
    b"slm: hf\nslm.pretrained: x\nverifier: {option: few_shot, num_samples: 4}\n",
    b"tiers:\n  - smollm2\n  - {option: hf, pretrained: x, name: &n large}\n",
    b"meta_verifier: threshold\nfixed_answer.answers: [a, b]\ncost: paper\ncost.tiers: [1, 50]\n",
)
PRICES = b"- {prompt: 0.1, generated: 0.4}\n- &a {prompt: 1, generated: 4, cached: 0.5}\n"


@cache
def targets() -> Mapping[str, Target]:
    """Every parser by name."""
    line = first("automix_records_*.jsonl").splitlines()[0]
    sample = first("samples_*.jsonl").splitlines()[0]
    learned = tuple(dumped({"name": n, "learned": v}) for n, v in fitted().items())
    tasks = {"coqa": {}}
    formats = {**importers(folder() / "formats"), "samples, chain": samples(folder() / "plain")}
    return {
        **{name: Target(read, (seed,), share=0.25) for name, (read, seed) in formats.items()},
        "json": Target(parse_json, (line, b'{"a": [1, 2.5, null]}'), (ValueError,)),
        "yaml": Target(parse_yaml, (*CONFIGS, PRICES), (ValueError,)),
        "config": Target(read_config, CONFIGS),
        "config, composed": Target(build_config, CONFIGS, share=0.02),
        "manifest": Target(read_manifest_and_records, (first("automix_run_*.json"),)),
        "records": Target(lambda d: list(records.read_records(place("r.jsonl", d))), (line,)),
        "records, columns": Target(lambda d: read_rows(place("c.jsonl", d), tasks, 2), (line,)),
        "replay, manifest": Target(replay_manifest, (first("automix_run_*.json"),), share=0.25),
        "replay, records": Target(replay_records, (line,), share=0.25),
        "policy": Target(lambda d: policy.load(place("p.json", d)), policies()),
        "policy, signed": Target(
            restore_signed, policies(), share=0.02
        ),
        "policy, learned": Target(
            restore_learned, learned, share=0.5
        ),
        "samples": Target(lambda d: read_samples(place("s.jsonl", d), ScoredBy()), (sample,)),
        "results": Target(read_results, (first("results_*.json"),)),
        "prices": Target(read_prices, (PRICES,)),
        "csv": Target(table(".csv"), (CSV,)),
        "jsonl": Target(table(".jsonl"), (LINES,)),
        "parquet": Target(table(".parquet"), (parquet(),)),
        "tiers": Target(read_tiers, (TIERS,)),
        "store entry": Target(read_entry, (dumped(GENERATION), dumped(SCORES)), share=0.25),
        "store": Target(open_store, (database(),), share=0.05),
        "reply": Target(read_reply, tuple(map(dumped, REPLIES)), (RequestError,)),
        "refusal": Target(read_refusal, (b"120", b"Wed, 21 Oct 2026 07:28:00 GMT")),
        "task rows": Target(read_task_rows, row_seeds()),
        "text": Target(show_text, (b"=cmd|' /C'!A0", "\x1b[2J\u202e".encode(), b"http://u:p@h/")),
    }  # fmt: skip


# --------------------------------------------------------------------------- mutation


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**6, 2**53, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "a", "../../x", "/etc/passwd", "\x00", "\x1b[31m", "=1+1", "${oc.env:HOME}",
    "nan", "1e999", "\ud800", [], {}, [[]], [None], {"": None}, {"_target_": "os.system"},
    {"name": "pomdp"}, [0, 1], ["a"], [[0.5, 0.5]], {"a": 1}, [[[[[[1]]]]]], "x" * 5000,
)  # fmt: skip


def mutate(seed: bytes, rng: random.Random) -> bytes:
    """A neighbour of an input: values of its JSON exchanged, or its bytes."""
    try:
        value = json.loads(seed)
    except (RecursionError, ValueError):
        return mutate_bytes(seed, rng)
    if rng.random() < 0.15:
        return mutate_bytes(seed, rng)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            value = mutate_value(value, rng)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except RecursionError:
        return mutate_bytes(seed, rng)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """The value with one inner value exchanged, left out or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.05:
            return {**value, rng.choice(("_target_", "x", "", "name")): rng.choice(ODD)}
        return {**value, key: mutate_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place_ = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            return value[:place_] + value[place_ + 1 :]
        if kind < 0.2:
            return [*value, value[place_]]
        return [*value[:place_], mutate_value(value[place_], rng), *value[place_ + 1 :]]
    return copy.deepcopy(rng.choice(ODD))


PIECES = (
    b"\x00", b"\xff", b'"', b"{", b"[" * 300, b"&a *a ", b"!!python/none ", b"\xef\xbb\xbf",
    b"9" * 50, b"e999", b"\n", b": ", b"- ", b"nan", b"inf", b"\x1b[2J", b"<<: *n\n",
)  # fmt: skip


def mutate_bytes(seed: bytes, rng: random.Random) -> bytes:
    """The bytes with a few exchanged, left out, doubled or put in."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.random()
        if kind < 0.4 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind < 0.6:
            del data[at : at + rng.randint(1, 8)]
        elif kind < 0.8:
            data[at:at] = rng.choice(PIECES)
        else:
            data[at:at] = data[at : at + rng.randint(1, 30)]
    return bytes(data)
