"""Records that go to disk block by block: the same run, and readable at any moment."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import timeless
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.commands.main import main
from automix_eval.harness.run_warnings import PromptLosses
from automix_eval.records import append as recordfile
from automix_eval.records import schema as records
from automix_eval.records.append import RecordFile
from automix_eval.records.runs import read_run as load_run
from automix_eval.records.schema import to_json
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Decision, Phase, Record, TierRecord, Verification

TASK = "coqa_demo"


def cascade(**more: Any) -> dict[str, Any]:
    """A small model that knows half of the sample and a large one that knows nine tenths."""
    answers = gold_answers(TASK)
    SCRIPTS["small"] = knows(answers, 0.5)
    SCRIPTS["large"] = knows(answers, 0.9)
    return scripted_args(**{"calibration.num_docs": 12, **more})


# ------------------------------------------------------------------- blocks


@pytest.mark.parametrize("router", ["self_consistency", "threshold", "pomdp", "random", "knn"])
def test_blocks_change_nothing(router: str, tmp_path: Path) -> None:
    """Records, scores, warnings and counts of calls are those of a run in one block."""
    runs = []
    for name, size in (("one", 2048), ("many", 3)):
        args = cascade(meta_verifier=router, record="full", block_size=size)
        args["store.path"] = str(tmp_path / f"{name}.sqlite")
        results = run_harness([TASK], args, tmp_path / name, limit=11)
        manifest, rows = read_run(tmp_path / name)
        runs.append(
            (timeless(rows), results["results"], manifest["warnings"], manifest["calls"],
             manifest["tasks"])
        )  # fmt: skip
    assert runs[0] == runs[1]


def test_a_limited_budget_is_shared_out_over_all_questions(tmp_path: Path) -> None:
    """With a limit a task is one block, so that the same questions are escalated."""
    runs = []
    for name, size in (("one", 2048), ("many", 3)):
        args = cascade(meta_verifier="self_consistency", block_size=size)
        args |= {"store.path": str(tmp_path / f"{name}.sqlite"), "budget.max_cost": 150}
        run_harness([TASK], args, tmp_path / name, limit=11)
        runs.append(timeless(read_run(tmp_path / name)[1]))
    assert runs[0] == runs[1]


# ------------------------------------------------------------------- a run that ends in the middle


def stopped(output: Path) -> Path:
    """A run whose LLM goes away in its third block; the path of its manifest."""
    args = cascade(meta_verifier="self_consistency", block_size=3)
    with pytest.raises(AutoMixError, match="went away"):
        run_harness([TASK], args | {"llm.fail_after": 3}, output, limit=11)
    (path,) = output.rglob(records.MANIFEST_GLOB)
    return path


def test_a_killed_run_is_readable_and_says_that_it_is_partial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole blocks are kept; manifest and report name how many questions of how many."""
    path = stopped(tmp_path)
    manifest, rows = read_run(tmp_path)
    done = manifest["unfinished"][TASK]["questions"]
    assert 0 < done == len(rows) < 11
    assert manifest["unfinished"] == {TASK: {"questions": done, "of": 11}}
    assert any(f"PARTIAL: the run answered {done} of 11" in text for _, text in
               load_run(path).warnings)  # fmt: skip
    assert main(["report", str(tmp_path)]) == 0
    assert "PARTIAL" in capsys.readouterr().out


def test_a_finished_run_does_not_say_so(tmp_path: Path) -> None:
    """Neither of the two fields is left, and no trace of the blocks."""
    run_harness([TASK], cascade(meta_verifier="self_consistency", block_size=3), tmp_path, limit=7)
    manifest, rows = read_run(tmp_path)
    assert "unfinished" not in manifest
    assert "records_bytes" not in manifest
    assert manifest["tasks"][TASK]["num_questions"] == len(rows) == 7
    assert sorted(p.suffix for p in tmp_path.rglob("*automix_r*")) == [".json", ".jsonl"]


def test_the_next_run_is_whole_and_repeats_no_call(tmp_path: Path) -> None:
    """The command again answers all, and its record is that of an undisturbed run."""
    stopped(tmp_path / "a")
    args = cascade(meta_verifier="self_consistency", block_size=3)
    run_harness([TASK], args, tmp_path / "b", limit=11)
    other = args | {"store.path": str(tmp_path / "other.sqlite"), "block_size": 2048}
    run_harness([TASK], other, tmp_path / "c", limit=11)
    assert timeless(read_run(tmp_path / "b")[1]) == timeless(read_run(tmp_path / "c")[1])


def test_a_write_that_was_cut_short_is_not_read(tmp_path: Path) -> None:
    """What lies behind the bytes that the manifest vouches for does not exist for a reader."""
    path = stopped(tmp_path)
    manifest, rows = read_run(tmp_path)
    file = records.records_path(path, manifest)
    with file.open("ab") as out:
        out.write(b'{"task": "coqa_demo", "doc_')
    run = load_run(path)
    assert len(run.records[TASK].doc_ids) == len(rows)
    assert not any("damaged" in text for _, text in run.warnings)
    read = list(records.read_records(file, records.records_bytes(manifest)))
    assert timeless(read) == timeless(rows)


@pytest.mark.parametrize("field", [{"records_bytes": -1}, {"unfinished": {"coqa_demo": 3}},
                                   {"unfinished": ["coqa_demo"]}])  # fmt: skip
def test_a_damaged_manifest_names_itself(field: dict[str, Any], tmp_path: Path) -> None:
    """Fields of the wrong type are an error with the file's name."""
    path = stopped(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | field))
    with pytest.raises(AutoMixError, match=path.name):
        load_run(path)


# ------------------------------------------------------------------- the file


def record(doc_id: int, task: str = "t", phase: Phase = "evaluation", repeat: int = 0) -> Record:
    """One question, answered, verified and kept."""
    call = Call(0, "answer", 7, 2, 0.25)
    answer = Answer(0, f"pier {doc_id}", (call,), ((-0.5, True),), (-0.25,), (0.5,))
    verification = Verification(0, 0.5, calls=(call,), signals={"margin": 0.5})
    tier = TierRecord(0, answer, 0.5, {"f1": 0.5}, verification, Decision(0, 0, "v=0.5"))
    return Record(task, doc_id, repeat, phase, 0, (tier,), references=("a", "b"))


def test_json_of_a_record_is_that_of_asdict() -> None:
    """Field by field, in their order, but for a field that is written only where it is used."""
    whole = asdict(record(3))
    tier = whole["tiers"][0]
    assert tier["answer"].pop("repeats") == ()
    assert tier["decision"].pop("abstains") is False
    for call in (*tier["answer"]["calls"], *tier["verification"]["calls"]):
        assert call.pop("latency") is None
    assert json.dumps(to_json(record(3))) == json.dumps(whole)


def test_a_run_with_half_a_surrogate_pair_ends_and_resumes(tmp_path: Path) -> None:
    """Such an answer stands in call store, samples and records; no call is made again."""
    args = cascade(meta_verifier="self_consistency")
    SCRIPTS["small"] = knows(gold_answers(TASK), 0.5, wrong=" x\ud83d")
    args["store.path"] = str(tmp_path / "calls.sqlite")
    for name in ("first", "again"):
        CALLS.clear()
        run_harness([TASK], args, tmp_path / name, limit=6)
    assert CALLS == []
    texts = [t.answer.text for row in read_run(tmp_path / "again")[1] for t in row.tiers]
    assert " x\ud83d" in texts


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    """A model may return one; the record is written and read."""
    file = RecordFile()
    file.place(tmp_path / "r.jsonl")
    row = Record("t", 0, 0, "evaluation", 0, (TierRecord(0, Answer(0, "x\ud83d")),))
    file.append([row])
    assert list(records.read_records(tmp_path / "r.jsonl")) == [row]


def test_a_file_goes_on_where_its_last_whole_write_ended(tmp_path: Path) -> None:
    """Half a line of a write that failed is overwritten."""
    file = RecordFile()
    file.place(tmp_path / "r.jsonl")
    file.append([record(0)])
    with (tmp_path / "r.jsonl").open("ab") as out:
        out.write(b'{"task": ')
    file.append([record(1)])
    assert [r.doc_id for r in records.read_records(tmp_path / "r.jsonl")] == [0, 1]


def test_a_file_takes_its_lines_along(tmp_path: Path) -> None:
    """Another folder gets what was written so far, and the first keeps it."""
    file = RecordFile()
    file.place(tmp_path / "a" / "r.jsonl")
    file.append([record(0)])
    file.place(tmp_path / "b" / "r.jsonl")
    file.append([record(1)])
    assert [r.doc_id for r in records.read_records(tmp_path / "a" / "r.jsonl")] == [0]
    assert [r.doc_id for r in records.read_records(tmp_path / "b" / "r.jsonl")] == [0, 1]


def test_a_folder_that_cannot_be_written_names_the_remedy(tmp_path: Path) -> None:
    """The error says where to write instead."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoMixError, match="records_dir"):
        RecordFile().place(tmp_path / "file" / "r.jsonl")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 9)), max_size=30),
       st.integers(1, 4))  # fmt: skip
def test_processes_put_their_lines_into_one_order(
    rows: list[tuple[str, bool, int]], number: int
) -> None:
    """Sorted by task, phase and document; of equal keys the first process's line stays."""
    import tempfile

    made = [record(d, t, "evaluation" if e else "calibration") for t, e, d in rows]
    shares = [made[i::number] for i in range(number)]
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(recordfile, "CHUNK", 4):
        first = RecordFile(keyed=True)
        first.place(Path(folder) / "r.jsonl")
        for share in shares:
            if share is shares[0]:
                first.append(share)
            else:
                other = RecordFile(keyed=True)
                other.append(share)
                for lines in other.chunks():
                    first.take(lines)
        counts = first.reorder()
        assert first.path is not None
        read = list(records.read_records(first.path, first.size))
        assert first.size == first.path.stat().st_size
    order = list(dict.fromkeys(r.task for share in shares for r in share))
    keys = {(r.task, r.phase, r.doc_id): r for share in shares[::-1] for r in share[::-1]}
    assert read == sorted(
        keys.values(), key=lambda r: (order.index(r.task), r.phase != "calibration", r.doc_id)
    )
    assert {t: n for t, n in counts.items() if n} == {
        t: n for t in order if (n := sum(r.task == t and r.phase == "evaluation" for r in read))
    }


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), max_size=20),
       st.integers(1, 4))  # fmt: skip
def test_losses_of_shares_add_up(rows: list[tuple[bool, bool, int]], number: int) -> None:
    """Counted by several processes they are those counted by one."""
    made = []
    for i, (spent, undefined, cut) in enumerate(rows):
        verification = Verification(
            0, None if undefined else 0.5, "unparsable", cut_context_tokens=1
        )
        decision = Decision(0, 0, f"budget spent ({i})" if spent else "v")
        answer = Answer(0, "x", cut_context_tokens=cut)
        tier = TierRecord(0, answer, verification=verification, decision=decision)
        made.append(Record("t", i, 0, "evaluation", 0, (tier,)))
    whole, parts = PromptLosses(2), PromptLosses(2)
    whole.take(made)
    for i in range(number):
        share = PromptLosses(2)
        share.take(made[i::number])
        parts.absorb(share)
    assert parts == whole
