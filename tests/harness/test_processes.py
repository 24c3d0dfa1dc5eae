"""Several processes: the same records as one, whatever each of them had to escalate."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import bare, launch

from automix_eval.harness.ranks import Ranks, interleave


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("ranks") / "one"
    done = launch(output, 1)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def demonstrations(output: Path) -> list[Any]:
    """Those of each task's policy."""
    found = [json.loads(p.read_text()) for p in sorted(output.rglob("automix_policy_*.json"))]
    assert len(found) == 2
    return [policy["fitted_on"]["demonstrations"] for policy in found]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_give_the_records_of_one(
    alone: Path, tmp_path: Path, processes: int
) -> None:
    """Scores, decisions, records and counts are equal row for row; no call is made twice.

    So are the demonstrations of the verification, chosen of what all processes have answered.

    Two processes start as a user starts them, and leave no process group to the interpreter's end;
    four are forks, which import everything once.
    """
    output = tmp_path / "many"
    done = launch(output, processes, torchrun=processes == 2)
    assert done.returncode == 0, done.stderr[-3000:]
    (one, rows), (many, others) = bare(alone), bare(output)
    assert others == rows
    assert many == one
    assert demonstrations(output) == demonstrations(alone)
    made = [Counter(json.loads(p.read_text())) for p in sorted(output.glob("made_*.json"))]
    assert len(made) == processes
    assert sum(made, Counter()) == Counter(json.loads((alone / "made_0.json").read_text()))
    assert all(sum(m.values()) < sum(made, Counter()).total() for m in made)
    samples = sorted(output.rglob("samples_*.jsonl"))
    assert [sum(1 for _ in p.open()) for p in samples] == [7, 7]
    left = [json.loads(p.read_text()) for p in output.glob("left_*.json")]
    assert left == [False] * (processes if processes == 2 else 0)


@pytest.mark.slow
def test_several_processes_fit_on_the_same_documents(tmp_path: Path) -> None:
    """Where documents are parted every process parts them alike, and leaves the same ones out."""
    for number in (1, 2):
        done = launch(tmp_path / str(number), number, SPLIT="0.5")
        assert done.returncode == 0, done.stderr[-3000:]
    (one, rows), (many, others) = (bare(tmp_path / n) for n in "12")
    assert others == rows
    assert many == one
    assert any("are in no figure" in w["text"] for w in one["warnings"])


@pytest.mark.slow
def test_two_nodes_give_the_records_of_one_process(alone: Path, tmp_path: Path) -> None:
    """The rank is the global one: on both nodes the local rank is 0, and each has its own share."""
    output = tmp_path / "nodes"
    done = launch(output, 2, nodes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    (one, rows), (many, others) = bare(alone), bare(output)
    assert others == rows
    assert many == one
    assert len(list(output.glob("made_*.json"))) == 2


@pytest.mark.slow
def test_a_process_that_fails_stops_them_all(tmp_path: Path) -> None:
    """The error is the failing process's own; nobody waits for it."""
    done = launch(tmp_path / "broken", 2, FAIL_RANK="1")
    assert done.returncode != 0
    assert "the scripted model went away" in done.stderr
    assert "another process of this run failed" in done.stderr


def test_one_process_needs_no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, every exchange is the identity, and nothing of accelerate is imported."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks()
    assert (ranks.index, ranks.number) == (0, 1)
    assert ranks.gather("x") == ["x"]
    assert ranks.first("x") == "x"
    assert ranks.together(lambda: 3) == [3]
    with pytest.raises(ZeroDivisionError):
        ranks.together(lambda: 1 // 0)


@given(st.lists(st.tuples(st.integers(), st.booleans())), st.integers(1, 5))
def test_shares_put_together_are_the_whole(items: list[tuple[int, bool]], number: int) -> None:
    """Interleaving what is kept of the strided shares restores the order."""
    ranks = Ranks()
    ranks.number = number
    shares = []
    for index in range(number):
        ranks.index = index
        shares.append([item for item in ranks.share(items) if item[1]])
    assert interleave(shares, [keeps for _, keeps in items]) == [i for i in items if i[1]]
