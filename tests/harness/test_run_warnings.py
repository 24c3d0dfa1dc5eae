"""What a run lost is said: empty answers, cut thoughts, a system message that a template drops."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from scripted import REPO, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.cascade.tier import Tier
from automix_eval.harness.run_warnings import PromptLosses
from automix_eval.types import (
    THINKING,
    Answer,
    GenerateRequest,
    Message,
    Prompt,
    Question,
    Record,
    TierRecord,
    Verification,
)

SYSTEM = 'Answer with "yes"\nor "no".'


class _Store:
    """Holds nothing."""

    def get_many(self, _: Any) -> dict[str, Any]:
        return {}

    def put(self, *_: Any) -> None:
        pass


def tier(render: Any = str) -> Tier:
    """A tier whose model answers nothing."""

    def generate(requests: list[GenerateRequest], done: Any, **_: Any) -> None:
        from automix_eval.types import Generation

        for i, _request in enumerate(requests):
            done(i, Generation("yes"))

    backend = SimpleNamespace(
        render=render,
        identity={},
        max_length=None,
        count_tokens=lambda _: None,
        generate=generate,
        gives_token_probs=True,
    )
    return Tier(0, "slm", backend, _Store(), progress=False)  # type: ignore[arg-type]


def notes(model: Tier, *answers: Answer) -> list[str]:
    """What is said of answers of one tier."""
    losses = PromptLosses(1)
    losses.take(
        [
            Record("t", i, 0, "evaluation", 0, (TierRecord(0, answer),))
            for i, answer in enumerate(answers)
        ]
    )
    losses.take_events("t", "evaluation", [model])
    return list(losses.notes("t", "evaluation", [model], False))


def test_empty_answers_and_cut_thoughts_are_counted() -> None:
    """Answers and repeats without a word, and those that end in a thought, whatever the marks."""
    said = notes(
        tier(),
        Answer(0, " \n"),
        Answer(0, "4"),
        Answer(0, "<think>2 and 2"),
        Answer(0, "<think>2 and 2</think>4"),
        Answer(0, "4", repeats=("4", "", "[THINK] so")),
    )
    assert any("2 of 7 answers are empty" in s for s in said)
    assert any("2 of 7 answers end while the model is still thinking" in s for s in said)
    assert notes(tier(), Answer(0, "4")) == []


def test_thoughts_that_begin_in_the_prompt_are_counted_when_they_are_cut() -> None:
    """No answer has a mark of them then, and the backend alone knows; processes are added up."""
    model = tier()
    model.counts.add(
        ("evaluation", "t", "answer"), ["a", "b"], [], {"a": (THINKING,), "b": ("length",)}
    )
    said = notes(model, Answer(0, "so 2 and 2"), Answer(0, "4"))
    assert any("1 of 2 answers end while the model is still thinking" in s for s in said)
    both = PromptLosses(1)
    for _ in range(2):
        part = PromptLosses(1)
        part.take_events("t", "evaluation", [model])
        both.absorb(part)
    assert any(
        ": 2 of 0 answers end while" in s for s in both.notes("t", "evaluation", [model], False)
    )


@pytest.mark.parametrize(
    ("outcome", "remedy", "not_this"),
    [
        ("empty_context", "that metadata.automix names", "p_true"),
        ("empty_question", "verifier=margin", "p_true"),
        ("empty_answer", "--num_fewshot 2", "p_true"),
        ("unparsable", "try verifier=p_true or verifier=margin", "metadata"),
    ],
)
def test_the_remedy_of_no_confidence_is_that_of_its_reason(
    outcome: Any, remedy: str, not_this: str
) -> None:
    """p_true judges by the same question and context, so that it is none where these are empty."""
    held = TierRecord(0, Answer(0, "4"), verification=Verification(0, None, outcome))
    losses = PromptLosses(1)
    losses.take([Record("t", i, 0, "calibration", 0, (held,)) for i in range(3)])
    (said,) = [s for s in losses.notes("t", "calibration", [tier()], False) if outcome in s]
    assert remedy in said
    assert not_this not in said


@pytest.mark.parametrize(
    ("confidences", "said"),
    [
        ([0.95] * 10, True),
        ([0.95] * 10 + [None], True),
        ([0.95] * 9, False),
        ([0.9] + [1.0] * 20, False),
    ],
)
def test_confidences_that_are_all_equal_are_said(
    confidences: list[float | None], said: bool
) -> None:
    """A server that returns one probability for all leaves the router nothing to tell by."""
    rows = [
        Record(
            "t",
            i,
            0,
            "calibration",
            0,
            (TierRecord(0, Answer(0, "4"), verification=Verification(0, c)),),
        )
        for i, c in enumerate(confidences)
    ]
    halves = PromptLosses(1), PromptLosses(1)
    for half, part in zip(halves, (rows[:5], rows[5:]), strict=True):
        half.take(part)
    halves[0].absorb(halves[1])
    found = halves[0].notes("t", "calibration", [tier()], False)
    assert any("confidences are 0.95, so" in s for s in found) == said


@pytest.mark.parametrize(
    ("render", "lost"),
    [
        (lambda p: "\n".join(m.content for m in p.messages), False),
        (lambda p: json.dumps([m.content for m in p.messages]), False),
        (lambda p: p.messages[-1].content, True),
    ],
)
def test_a_dropped_system_message_is_said(render: Any, lost: bool) -> None:
    """Whether the prompt is a text or a JSON list of turns."""
    model = tier(render)
    prompt = Prompt(messages=(Message("system", SYSTEM), Message("user", "2 and 2?")))
    model.working_on("evaluation", "t", "answer")
    question = Question("t", 0, prompt, "", "2 and 2?")
    model.answer([question], lambda _: None)  # type: ignore[arg-type,return-value]
    said = notes(model, Answer(0, "4"))
    assert any("no system role" in s for s in said) == lost


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.0] * 10, True),
        ([0.0] * 9, False),
        ([0.0] * 30 + [0.5], False),
        ([None] * 20, False),
    ],
)
def test_answers_that_all_score_0_are_named_with_the_likely_causes(
    scores: list[float | None], said: bool
) -> None:
    """Scoring that takes no answer for right would look like two models that know nothing."""
    rows = [
        Record("t", i, 0, "calibration", 0, (TierRecord(0, Answer(0, " 42\n"), score),),
               references=("42",))
        for i, score in enumerate(scores)
    ]  # fmt: skip
    losses = PromptLosses(1)
    losses.take(rows)
    found = [n for n in losses.notes("t", "calibration", [tier()], False) if "score 0" in n]
    assert bool(found) == said
    if said:
        assert "'42'" in found[0]
        assert "filter_list" in found[0]


def test_tasks_are_spoken_of_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of several tasks stands in their order, and not in that of hashed names."""
    SCRIPTS["small"] = SCRIPTS["large"] = knows(gold_answers("coqa_demo"), 0.5)
    names = [f"task_{word}" for word in ("six", "one", "five", "two", "four", "three")]
    for name in names:
        (tmp_path / f"{name}.yaml").write_text(
            f"include: {REPO}/tasks/coqa/coqa_demo.yaml\ntask: {name}\n"
            "generation_kwargs: {until: ['\\n'], max_gen_toks: 8}\n"
        )
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: manager)
    args = scripted_args(meta_verifier="always_slm")
    run_harness(names, args, tmp_path, limit=2)
    said = [w["task"] for w in read_run(tmp_path)[0]["warnings"] if "backslash" in w["text"]]
    assert said == names
