"""``fail_on_error``: some questions may fail; they are named, excluded, and asked again."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_server import FaultyServer, asks, faulty, refused
from lm_eval.tasks import TaskManager
from processes import timeless
from scripted import REPO, gold_answers, knows, read_run, run_harness
from werkzeug import Response

from automix_eval.backends.servers import transport
from automix_eval.cascade.failures import TooManyFailedError
from automix_eval.records import schema as records
from automix_eval.records.runs import read_run as load_run
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Record

TASK = "coqa_demo"
LIMIT = 12


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """The sample's questions with their answers."""
    return gold_answers(TASK)


@pytest.fixture
def server(answers: dict[str, str]) -> Iterator[FaultyServer]:
    """A small model that knows half of the sample and a large one that knows nine tenths."""
    with faulty({"small": knows(answers, 0.5), "large": knows(answers, 0.9)}) as made:
        yield made


def validation(answers: dict[str, str]) -> list[str]:
    """The questions of the evaluation, in the order of their doc_ids."""
    loaded = TaskManager(include_path=str(REPO / "tasks"), include_defaults=False).load([TASK])
    return [doc["question"] for doc in loaded["tasks"][TASK].dataset["validation"]]


def args(server: FaultyServer, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A cascade that needs no fit, with a store of this test."""
    own = {"meta_verifier": "self_consistency", "store.path": str(tmp_path / "calls.sqlite")}
    return server.arguments(**{**own, **more})


def break_docs(
    server: FaultyServer, answers: dict[str, str], docs: dict[int, str], status: int = 400
) -> None:
    """Let calls on some documents fail: doc_id -> the model, or "verify" for verifications."""
    questions = validation(answers)

    def fault(model: str, prompt: str) -> Response | None:
        verifies = "AI Generated Answer" in prompt
        for doc_id, part in docs.items():
            fits = part == "verify" if verifies else part == model
            if fits and asks(questions[doc_id], prompt, answers):
                return refused(status)
        return None

    server.fault = fault


def evaluated(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """Manifest and evaluation records of the only run."""
    manifest, rows = read_run(folder)
    return manifest, [r for r in rows if r.phase == "evaluation"]


@pytest.mark.parametrize("status", [400, 429, 500])
def test_failed_questions_are_left_out_and_never_scored_as_wrong(
    status: int, server: FaultyServer, answers: dict[str, str], tmp_path: Path
) -> None:
    """Answer, verification and escalation: no record, named, and the mean is that of the others."""
    questions = validation(answers)
    up = next(i for i in range(LIMIT) if questions[i] in sorted(answers)[len(answers) // 2 + 1 :])
    rest = [i for i in range(LIMIT) if i != up][:2]
    broken = {rest[0]: "small", rest[1]: "verify", up: "large"}
    break_docs(server, answers, broken, status)
    made = run_harness(
        [TASK], args(server, tmp_path, fail_on_error=0.25), tmp_path / "out", limit=LIMIT
    )
    manifest, rows = evaluated(tmp_path / "out")
    assert {r.doc_id for r in rows} == set(range(LIMIT)) - set(broken)
    listed = {f["doc_id"]: (f["tier"], f["role"]) for f in manifest["failed"]}
    assert listed == {rest[0]: (0, "answer"), rest[1]: (0, "verify"), up: (1, "answer")}
    for failed in manifest["failed"]:
        assert (failed["task"], failed["phase"], failed["repeat"]) == (TASK, "evaluation", 0)
        assert f"http_{status}" in failed["reason"]
    scores = [t.score for r in rows for t in r.tiers if t.tier == r.final]
    mean = sum(s for s in scores if s is not None) / len(rows)
    assert made["results"][TASK]["f1,none"] == pytest.approx(mean)
    assert manifest["tasks"][TASK]["num_questions"] == len(rows)
    (text,) = [w["text"] for w in manifest["warnings"] if "failed" in w["text"]]
    assert f"3 of {LIMIT} questions failed" in text
    assert ", ".join(str(i) for i in sorted(broken)) in text


# ------------------------------------------------------------------- every k-th call


def every(server: FaultyServer, k: int, status: int = 400) -> None:
    """Let every k-th request fail."""
    number = itertools.count(1)
    server.fault = lambda model, prompt: refused(status) if next(number) % k == 0 else None


def undisturbed(server: FaultyServer, tmp_path: Path, **more: Any) -> list[Record]:
    """The records of a run of which nothing fails, with a store of its own."""
    own = {"store.path": str(tmp_path / "undisturbed.sqlite"), **more}
    run_harness([TASK], args(server, tmp_path, **own), tmp_path / "undisturbed", limit=LIMIT)
    return read_run(tmp_path / "undisturbed")[1]


def sums(manifest: dict[str, Any]) -> dict[tuple[Any, ...], int]:
    """Calls made and taken from the store, by phase, tier and role."""
    return {(c["phase"], c["tier"], c["role"]): c["made"] + c["stored"] for c in manifest["calls"]}


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "full": {"record": "full"},
    "early": {"verifier.num_samples": 6, "verifier.stop_early": 0},
    "ensemble": {
        "verifier": "ensemble",
        "verifier.members": [
            {"option": "few_shot", "num_samples": 2},
            {"option": "few_shot", "num_samples": 3, "name": "more"},
        ],
        "calibrator": "none",
    },
    "blocks": {"block_size": 3},
    "fitted": {"meta_verifier": "threshold", "calibration.num_docs": 20, "calibration.min_docs": 5},
    "samples": {"slm.n": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_below_the_share_the_run_goes_on_and_the_same_command_mends_it(
    variant: str, server: FaultyServer, tmp_path: Path
) -> None:
    """Every 9th call fails; the next run asks only what is missing, and ends as if undisturbed."""
    server_args = args(server, tmp_path, fail_on_error=0.9) | VARIANTS[variant]
    if variant == "ensemble":
        del server_args["verifier.num_samples"]
    every(server, 9)
    run_harness([TASK], server_args, tmp_path / "a", limit=LIMIT)
    manifest, rows = read_run(tmp_path / "a")
    lost = [f for f in manifest["failed"] if f["phase"] == "evaluation"]
    held = [r for r in rows if r.phase == "evaluation"]
    assert len(lost) > 0
    assert {f["doc_id"] for f in lost} | {r.doc_id for r in held} == set(range(LIMIT))
    assert len(lost) + len(held) == LIMIT
    assert sum(c["made"] for c in manifest["calls"]) == len(server.answered)
    before = Counter(server.answered)
    server.fault = lambda model, prompt: None
    server.calls.clear()
    run_harness([TASK], server_args, tmp_path / "b", limit=LIMIT)
    again, whole = read_run(tmp_path / "b")
    assert "failed" not in again
    asked = len(server.calls)
    assert 0 < asked < before.total()
    # no call that was answered is made again
    made = Counter(server.answered)
    server.answered.clear()
    server_args |= {"store.path": str(tmp_path / "other.sqlite")}
    run_harness([TASK], server_args, tmp_path / "c", limit=LIMIT)
    alone, expected = read_run(tmp_path / "c")
    assert timeless(whole) == timeless(expected)
    assert sums(again) == sums(alone)
    if variant not in ("early", "fitted"):
        assert made == Counter(server.answered)
    kept = [r for r in expected if (r.phase, r.doc_id) in {(s.phase, s.doc_id) for s in rows}]
    if variant != "fitted":  # the router was fitted on fewer questions
        assert timeless(rows) == timeless(kept)


def test_counts_are_those_of_the_records(server: FaultyServer, tmp_path: Path) -> None:
    """What is done again from the store after a failure is counted once."""
    every(server, 8)
    own = args(server, tmp_path, fail_on_error=0.9)
    run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    manifest, rows = read_run(tmp_path / "out")
    held: Counter[tuple[int, str]] = Counter()
    for row in rows:
        for tier in row.tiers:
            held[tier.tier, "answer"] += len(tier.answer.calls)
            held[tier.tier, "verify"] += len(tier.verification.calls) if tier.verification else 0
    for call in manifest["calls"]:
        key = call["tier"], call["role"]
        assert call["stored"] == 0
        # beside them only the finished calls of questions that failed
        assert held[key] <= call["made"] <= held[key] + 2 * len(manifest["failed"])
        if call["role"] == "answer" and call["tier"] == 1:
            assert call["made"] == held[key]


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_above_the_share_the_run_stops_and_resumes(
    share: float, server: FaultyServer, tmp_path: Path
) -> None:
    """The error names share, counts and reasons; everything finished is kept."""
    expected = undisturbed(server, tmp_path)
    server.answered.clear()
    every(server, 4)
    words = (
        r"coqa_demo, evaluation: \d+ of 12 questions failed, more than fail_on_error=0.1 allows: "
        r"doc_id \d+, tier 0, answer: http_400.*same command"
        if share
        else "slm .* gave no answer, asked once: http_400.*same command"
    )
    own = args(server, tmp_path, fail_on_error=share)
    with pytest.raises(AutoMixError, match=words) as stopped:
        run_harness([TASK], own, tmp_path / "a", limit=LIMIT)
    assert isinstance(stopped.value, TooManyFailedError) == bool(share)
    (path,) = [*(tmp_path / "a").rglob(records.MANIFEST_GLOB)] or [None]
    assert (path is not None) == bool(share)
    if path is not None:
        manifest = records.read_manifest(path)
        assert len(manifest["failed"]) >= 2
        assert manifest["unfinished"][TASK]["of"] == LIMIT
        assert len(load_run(path).failed) == len(manifest["failed"])
    server.fault = lambda model, prompt: None
    run_harness([TASK], own, tmp_path / "b", limit=LIMIT)
    assert timeless(read_run(tmp_path / "b")[1]) == timeless(expected)
    assert max(Counter(server.answered).values()) <= 2  # two samples of one prompt


def test_a_share_of_all_still_needs_one_answer(server: FaultyServer, tmp_path: Path) -> None:
    """Where everything fails there is nothing to score, whatever may fail."""
    server.fault = lambda model, prompt: refused(400)
    with pytest.raises(AutoMixError, match=r"all 5 questions of coqa_demo failed: .*http_400"):
        run_harness([TASK], args(server, tmp_path, fail_on_error=1), tmp_path / "out", limit=5)


# ------------------------------------------------------------------- an endpoint that is gone


def test_a_dead_endpoint_is_not_asked_for_every_question(
    server: FaultyServer, tmp_path: Path
) -> None:
    """Once more than the share is lost, nothing new is sent; requests in flight are finished."""
    server.fault = lambda model, prompt: refused(401)
    own = args(server, tmp_path, fail_on_error=0.1)
    with pytest.raises(AutoMixError, match=r"fail_on_error=0\.1"):
        run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    allowed, in_flight = 1, 4
    assert allowed < len(server.calls) <= allowed + in_flight


def test_a_server_that_is_gone_is_not_waited_for_by_every_request(
    server: FaultyServer, tmp_path: Path
) -> None:
    """Ten requests in a row that used up all attempts are enough, whatever the share allows."""
    server.fault = lambda model, prompt: refused(503)
    own = args(server, tmp_path, fail_on_error=1)
    words = "asked 2 times, and so did every request before it: http_503"
    with pytest.raises(AutoMixError, match=words):
        run_harness([TASK], own, tmp_path / "out", limit=30)
    assert len(server.calls) <= 2 * (10 + 4)


def test_an_outage_that_ends_is_bridged(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone for a while costs attempts, and no question."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.02)
    seen: list[float] = []

    def gone(_model: str, _prompt: str) -> Response | None:
        seen.append(time.monotonic())
        return refused(503) if seen[-1] < seen[0] + 0.5 else None

    server.fault = gone
    own = args(server, tmp_path, fail_on_error=0.1, **{"slm.max_retries": 6})
    run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    manifest, rows = read_run(tmp_path / "out")
    assert len(rows) == LIMIT
    assert "failed" not in manifest
    assert sum(c["events"].get("retry:http_503", 0) for c in manifest["calls"]) > 0


def test_answers_out_of_order_stay_with_their_questions(
    server: FaultyServer, tmp_path: Path
) -> None:
    """Slow and quick answers and failures in between: every record is the undisturbed one."""
    expected = undisturbed(server, tmp_path)
    server.pause = lambda prompt: (len(prompt) % 5) / 50
    every(server, 7)
    own = args(server, tmp_path, fail_on_error=0.9)
    run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    _, rows = read_run(tmp_path / "out")
    held = {r.doc_id for r in rows}
    assert 0 < len(held) < LIMIT
    assert timeless(rows) == timeless([r for r in expected if r.doc_id in held])


# ------------------------------------------------------------------- calibration and budget


def train(server: FaultyServer, number: int) -> None:
    """Let the answers of the LLM to some calibration questions fail, the first that it is asked."""
    lost: dict[str, None] = {}

    def fault(model: str, prompt: str) -> Response | None:
        if model == "large" and (prompt in lost or len(lost) < number):
            lost[prompt] = None
            return refused(500)
        return None

    server.fault = fault


def test_a_fit_does_without_what_failed(server: FaultyServer, tmp_path: Path) -> None:
    """The policy rests on the others and says on which; the warning names those left out."""
    train(server, 3)
    own = args(server, tmp_path, fail_on_error=0.2, meta_verifier="threshold")
    run_harness([TASK], own | {"calibration.num_docs": 20}, tmp_path / "out", limit=5)
    manifest, rows = read_run(tmp_path / "out")
    lost = {f["doc_id"] for f in manifest["failed"]}
    assert {f["phase"] for f in manifest["failed"]} == {"calibration"}
    fitted = [r.doc_id for r in rows if r.phase == "calibration"]
    assert (len(fitted), len(lost)) == (17, 3)
    assert lost.isdisjoint(fitted)
    (path,) = (tmp_path / "out").rglob("automix_policy_*.json")
    about = json.loads(path.read_text())["fitted_on"]
    assert about["doc_ids"] == fitted
    assert any(
        "calibration: 3 of 20 questions failed and are left out of the fit" in w["text"]
        for w in manifest["warnings"]
    )
    assert load_run(next((tmp_path / "out").rglob(records.MANIFEST_GLOB))).failed == ()


@pytest.mark.parametrize(("lost", "least", "share"), [(3, 10, 0.1), (3, 18, 0.9)])
def test_a_fit_on_too_few_is_refused(
    lost: int, least: int, share: float, server: FaultyServer, tmp_path: Path
) -> None:
    """More than the share, or fewer left than the least, is an error; the same command mends."""
    train(server, lost)
    own = args(server, tmp_path, fail_on_error=share, meta_verifier="threshold")
    own |= {"calibration.num_docs": 20, "calibration.min_docs": least}
    with pytest.raises(TooManyFailedError, match=r"calibration: 3 of 20 questions failed"):
        run_harness([TASK], own, tmp_path / "a", limit=5)
    (path,) = (tmp_path / "a").rglob(records.MANIFEST_GLOB)
    assert len(records.read_manifest(path)["failed"]) == lost
    server.fault = lambda model, prompt: None
    run_harness([TASK], own, tmp_path / "b", limit=5)
    assert len([r for r in read_run(tmp_path / "b")[1] if r.phase == "calibration"]) == 20


def test_a_budget_is_not_passed_for_what_failed(server: FaultyServer, tmp_path: Path) -> None:
    """A call that failed counts as one: the LLM is sent no more than it may be asked."""
    number = itertools.count()
    server.fault = lambda model, prompt: (
        refused(400) if model == "large" and next(number) == 0 else None
    )
    own = args(server, tmp_path, fail_on_error=0.5, **{"budget.max_llm_calls": 3})
    run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    manifest, rows = read_run(tmp_path / "out")
    assert sum(model == "large" for model, _ in server.calls) == 3
    assert sum(r.final for r in rows) == 2
    assert manifest["budget"]["llm_calls"] == 3
    assert len(rows) == LIMIT - 1


# ------------------------------------------------------------------- foreign tasks, secrets, bounds


def foreign(folder: Path, kind: str) -> str:
    """A task that is not ours: free answers, or choices."""
    rows = [{"q": f"{i} plus one?", "options": [str(i), str(i + 1)], "gold": 1} for i in range(6)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    form = (
        "output_type: multiple_choice\ndoc_to_choice: '{{options}}'\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc}]\n"
        if kind == "choice"
        else "output_type: generate_until\ndoc_to_target: '{{options[1]}}'\n"
        "metric_list: [{metric: exact_match}]\ngeneration_kwargs: {until: ['!']}\n"
    )
    (folder / "mine.yaml").write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs: {{data_files: {{validation: "
        f"{folder}/rows.jsonl}}}}\nvalidation_split: validation\ndoc_to_text: '{{{{q}}}}'\n" + form
    )
    return str(folder / "mine.yaml")


@pytest.mark.parametrize("kind", ["free", "choice"])
def test_a_task_that_is_not_ours_is_warned_of(kind: str, tmp_path: Path) -> None:
    """Its own mean may count the question; the warning says so and names the report."""
    from scripted import SCRIPTS, scripted_args

    def model(prompt: str, generation: dict[str, Any]) -> str:
        if prompt.startswith("2 "):
            raise ConnectionError("gone")
        right = str(int(prompt.split()[0]) + 1)
        if kind == "free":
            return right
        return "-0.5" if generation["continuation"].strip() == right else "-3"

    SCRIPTS["small"] = SCRIPTS["large"] = model
    own = scripted_args(meta_verifier="always_slm", fail_on_error=0.2)
    made = run_harness([foreign(tmp_path, kind)], own, tmp_path / "out")
    manifest, rows = read_run(tmp_path / "out")
    assert [f["doc_id"] for f in manifest["failed"]] == [2]
    assert (
        "scripted model" in manifest["failed"][0]["reason"]
        or "gone" in (manifest["failed"][0]["reason"])
    )
    assert [r.doc_id for r in rows] == [0, 1, 3, 4, 5]
    assert all(t.score == 1.0 for r in rows for t in r.tiers)
    texts = [w["text"] for w in manifest["warnings"]]
    assert sum("automix-eval report" in t for t in texts) == 1
    if kind == "free":
        assert made["results"]["mine"]["exact_match,none"] == pytest.approx(5 / 6)


def test_our_tasks_need_no_such_warning(
    server: FaultyServer, answers: dict[str, str], tmp_path: Path
) -> None:
    """The harness's samples hold the question without a score; nothing scores its placeholder."""
    break_docs(server, answers, {3: "small"})
    own = args(server, tmp_path, fail_on_error=0.2)
    made = run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    manifest, _ = read_run(tmp_path / "out")
    assert not any("automix-eval report" in w["text"] for w in manifest["warnings"])
    (sample,) = [s for s in made["samples"][TASK] if s["doc_id"] == 3]
    assert "f1" not in sample
    assert sample["filtered_resps"] == ["[call-failed]"]
    (path,) = (tmp_path / "out").rglob(records.MANIFEST_GLOB)
    from report_builder import build

    (task,) = build([path.parent]).tasks
    assert not any("no record" in w or "differ" in w for w in task.warnings)
    assert any(f"excluded: 1 question failed: {TASK}, doc_id 3" in w for w in task.warnings)


def test_reasons_are_bounded_and_hold_no_secret(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that repeats the key it was sent, at length, puts neither into the manifest."""
    monkeypatch.setenv("MY_API_KEY", "canary-51f0c2d9e8")
    number = itertools.count()
    server.fault = lambda model, prompt: (
        Response("your key canary-51f0c2d9e8 is bad " + "x" * 9000, status=401)
        if next(number) == 0
        else None
    )
    own = args(server, tmp_path, fail_on_error=0.2)
    run_harness([TASK], own, tmp_path / "out", limit=LIMIT)
    manifest, _ = read_run(tmp_path / "out")
    assert len(manifest["failed"][0]["reason"]) <= 300
    assert "canary" not in json.dumps(manifest)


@pytest.mark.parametrize("value", [-0.1, 1.5, True, "half", None, float("nan")])
def test_the_share_is_checked(value: Any, server: FaultyServer, tmp_path: Path) -> None:
    """What is no share is refused with the range, before anything is asked."""
    with pytest.raises(AutoMixError, match=r"fail_on_error=.* from 0 .* to 1"):
        run_harness([TASK], args(server, tmp_path, fail_on_error=value), limit=1)
    assert server.calls == []
