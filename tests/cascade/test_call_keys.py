"""What tells one call of a tier from another in the store, and which samples are drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automix_eval.backends.prompts import Parts
from automix_eval.cascade.route import Chain, _answer_and_verify, _Progress
from automix_eval.cascade.store import CallStore, call_key
from automix_eval.cascade.tier import Tier
from automix_eval.records.schema import to_json
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import (
    Answer,
    Call,
    GenerateRequest,
    Generation,
    Message,
    Prompt,
    Question,
    ScoreRequest,
    Scores,
    Verification,
)


class Backend:
    """A model that answers with the number of its call, and keeps what it was asked."""

    identity = {"model": "m"}  # noqa: RUF012 - as of the protocol
    label = "m"
    max_length = None
    gives_token_probs = False

    def __init__(self) -> None:
        self.asked: list[GenerateRequest] = []
        self.told: list[str] = []

    def render(self, prompt: Prompt) -> str:
        """The text."""
        return prompt.text

    def count_tokens(self, text: str) -> int | None:
        """Unknown."""
        return None

    def score(self, requests: Any, on_result: Any, kind: str = "score") -> None:
        """Each continuation is as likely as the others."""
        for i, request in enumerate(requests):
            self.told.append(kind)
            on_result(i, Scores((-1.0,) * len(request.continuations)))

    def loglikelihood(self, requests: Any, on_result: Any) -> None:
        """The same."""
        self.score(requests, on_result, "loglikelihood")

    def generate(self, requests: Any, on_result: Any, token_probs: bool = False) -> None:
        """Each request is answered and kept."""
        for i, request in enumerate(requests):
            self.asked.append(request)
            self.told.append("generate+probs" if token_probs else "generate")
            on_result(i, Generation(str(len(self.asked))))


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[Tier]:
    """A tier of that model with a store."""
    with CallStore(tmp_path / "calls.sqlite") as store:
        yield Tier(0, "slm", Backend(), store, seed=7, progress=False)  # type: ignore[arg-type]


def asked(tier: Tier) -> list[GenerateRequest]:
    """What the model was asked so far."""
    return tier.backend.asked  # type: ignore[attr-defined,no-any-return]


REQUEST = GenerateRequest("q", {"until": ["\n"]}, seed=1, stop_after="yes|no")


@pytest.mark.parametrize(
    "other",
    [
        GenerateRequest("r", {"until": ["\n"]}, seed=1, stop_after="yes|no"),
        GenerateRequest("q", {"until": []}, seed=1, stop_after="yes|no"),
        GenerateRequest("q", {"until": ["\n"]}, seed=2, stop_after="yes|no"),
        GenerateRequest("q", {"until": ["\n"]}, seed=None, stop_after="yes|no"),
        GenerateRequest("q", {"until": ["\n"]}, seed=1, stop_after="yes"),
        GenerateRequest("q", {"until": ["\n"]}, seed=1),
    ],
)
def test_requests_that_differ_are_calls_of_their_own(tier: Tier, other: GenerateRequest) -> None:
    """Prompt, arguments, seed and where to stop: each alone makes another call, and is kept."""
    for _ in range(2):
        assert [g.text for g, _ in tier.generate([REQUEST, other, REQUEST])] == ["1", "2", "1"]
    assert asked(tier) == [REQUEST, other]


def test_role_model_and_token_probabilities_tell_calls_apart(tier: Tier) -> None:
    """The phase and the task do not: what was asked for the fit is not asked again."""
    tier.generate([REQUEST])
    tier.working_on("calibration", "another task", "answer")
    tier.generate([REQUEST])
    assert len(asked(tier)) == 1
    tier.generate([REQUEST], token_probs=True)
    tier.working_on("evaluation", "t", "verify")
    tier.generate([REQUEST])
    tier.backend.identity = {"model": "n"}  # type: ignore[misc]
    tier.generate([REQUEST])
    assert len(asked(tier)) == 4


def test_a_call_without_an_early_end_has_the_key_of_earlier_releases(tier: Tier) -> None:
    """What a request leaves open is no part of its key."""
    request = GenerateRequest("q", {}, seed=1)
    old = {k: v for k, v in to_json(request).items() if k != "stop_after"}
    tier._store.put(
        call_key({"model": {"model": "m"}, "kind": "generate", "role": "answer", **old}),
        {"text": "kept"},
    )
    assert tier.generate([request])[0][0].text == "kept"


@pytest.mark.parametrize("kind", ["generate", "generate+probs", "score", "loglikelihood"])
def test_each_kind_of_call_has_its_key_and_its_numbers(tier: Tier, kind: str) -> None:
    """What an earlier release stored is found, and metered as stored; what it lacks is asked."""
    generated = kind.startswith("generate")
    request = {"prompt": "q", "generation": {}, "seed": 1}
    if not generated:
        request = {"prompt": "q", "continuations": [" a"]}
    numbers = {"prompt_tokens": 11, "seconds": 0.5, "cached_tokens": 3, "latency": 0.25}
    result = {"text": "kept", "generated_tokens": 7} if generated else {"logprobs": [-0.5]}
    tier._store.put(
        call_key({"model": {"model": "m"}, "kind": kind, "role": "answer", **request}),
        {**result, **numbers},
    )
    for prompt in ("q", "r"):
        if generated:
            asks = [GenerateRequest(prompt, {}, seed=1)]
            ((found, call),) = tier.generate(asks, token_probs=kind == "generate+probs")
            assert found.text == ("kept" if prompt == "q" else "1")
        elif kind == "score":
            ((scores, call),) = tier.score([ScoreRequest(prompt, (" a",))])
            assert scores.logprobs == (-0.5 if prompt == "q" else -1.0,)
        else:
            choice = (Prompt(prompt), " a")
            asked_for = Question("t", 0, Prompt(prompt), "", "q", choices=(choice,))
            (answer,) = tier.answer([asked_for], _parts)
            likely = -0.5 if prompt == "q" else -1.0
            assert (answer.text, answer.choice_logprobs) == ("a", ((likely, False),))
            (call,) = answer.calls
        if prompt == "q":
            assert call == Call(0, "answer", 11, 7 if generated else 0, 0.5, 3, 0.25)
    assert tier.backend.told == [kind]  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [(), ("left", "right", "ahead")])
def test_the_choice_that_is_picked_is_the_answer(
    tier: Tier, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """The most probable, the first of equals, unless the task picks; by its text or as it reads."""
    likely = {"a": (-3.0, -1.0, -2.0), "b": (-0.5, -0.5, -9.0)}

    def loglikelihood(requests: Any, on_result: Any) -> None:
        for i, request in reversed(list(enumerate(requests))):
            (continuation,) = request.continuations
            value = likely[request.prompt][" 123".index(continuation[1]) - 1]
            on_result(i, Scores((value,), greedy=(value == -3.0,)))

    monkeypatch.setattr(tier.backend, "loglikelihood", loglikelihood)
    questions = [
        Question("t", 0, Prompt(p), "", "q", options=options,
                 choices=tuple((Prompt(p), f" {k} ") for k in (1, 2, 3)))
        for p in likely
    ]  # fmt: skip
    for pick, best in ((None, (1, 0)), (lambda _, found: len(found) - 1, (2, 2))):
        answers = tier.answer(questions, _parts, pick=pick)
        assert [a.text for a in answers] == [options[k] if options else str(k + 1) for k in best]
        for answer, values in zip(answers, likely.values(), strict=True):
            assert answer.choice_logprobs == tuple((v, v == -3.0) for v in values)
            assert len(answer.calls) == 3
    assert tier.counts.made.total() == 6


@pytest.mark.parametrize(("repeats", "seeds"), [((0, 1, 2), 1), ((0,), 3)])
def test_every_repeat_is_a_sample_of_its_own(
    tier: Tier, repeats: tuple[int, ...], seeds: int
) -> None:
    """Routed alone or as a unit, the repeats of a question are drawn with seeds that follow."""
    questions = [
        Question("t", 0, Prompt("q"), "", "q", repeat=r, repeats=seeds,
                 generation={"do_sample": True})
        for r in repeats
    ]  # fmt: skip
    answers = tier.answer(questions, _parts)
    assert [r.seed for r in asked(tier)] == [7, 8, 9]
    assert [a.text for a in answers] == ["1", "2", "3"][: len(repeats)]
    if seeds == 3:
        assert answers[0].repeats == ("1", "2", "3")


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_repeat_that_is_picked_is_the_answer(tier: Tier, number: int, drawn: bool) -> None:
    """All that were drawn stand in it where there are several; greedy ones are one, repeated."""
    texts: list[tuple[str, ...]] = []

    def last(_question: Question, found: Any) -> int:
        texts.append(found)
        return len(found) - 1

    asked_for = Question(
        "t", 0, Prompt("q"), "", "q", repeats=number, generation={"do_sample": drawn}
    )
    (answer,) = tier.answer([asked_for], _parts, pick=last)
    expected = tuple(str(i + 1 if drawn else 1) for i in range(number))
    assert answer.repeats == (expected if number > 1 else ())
    assert answer.text == expected[-1]
    assert texts == [expected] * (number > 1)
    assert len(answer.calls) == (number if drawn else 1)


def test_an_answer_is_sampled_again_after_its_own_repeats(tier: Tier) -> None:
    """The same prompts as often as is said, hot, each with a seed that no answer has."""
    questions = [
        Question("t", i, Prompt(f"q{i}"), "", "q", repeat=i, repeats=2,
                 generation={"until": ["."], "temperature": 0.0})
        for i in range(2)
    ]  # fmt: skip
    tier.answer(questions, _parts)
    drawn = tier.answer_again(questions, 3, 0.7)
    hot = {"until": ["."], "temperature": 0.7, "do_sample": True}
    assert asked(tier)[2:] == [
        GenerateRequest(f"q{i}", hot, seed=7 + i + 2 + k) for i in range(2) for k in range(3)
    ]
    assert [[g.text for g, _ in some] for some in drawn] == [["3", "4", "5"], ["6", "7", "8"]]
    assert drawn[0][0][1] == Call(0, "answer", None, None, None)


def test_another_model_answers_on_the_account_of_the_tier(tmp_path: Path) -> None:
    """The same prompts; its calls count as the tier's, at a price of its own, as patiently."""
    other, question = Backend(), Question("t", 0, Prompt("q"), "", "q")
    other.identity = {"model": "other"}  # type: ignore[misc]
    numbers: Any = {Backend(): 2, other: 3}
    store, backend = CallStore(tmp_path / "calls.sqlite"), Backend()
    tier = Tier(0, "slm", backend, store, progress=False, beside=numbers)  # type: ignore[arg-type]
    tier.answer([question], _parts)
    tier.tolerate(3)
    (answer,) = tier.answer_by(other, [question])  # type: ignore[arg-type]
    assert [r.prompt for r in other.asked] == ["q"]
    assert other.patience == 3  # type: ignore[attr-defined]
    assert (answer.tier, answer.text, answer.calls[0].tier) == (3, "1", 3)
    assert tier.counts.made.total() == 2
    tier.answer([question], _parts)
    assert len(asked(tier)) == 1
    store.close()


def test_a_model_without_token_probabilities_is_named_with_what_reads_them(tier: Tier) -> None:
    """Whichever of the verifiers it is, before a call."""
    for sampled in (False, True):
        with pytest.raises(AutoMixError, match=r"token_profile and auto read .* slm \(m\)"):
            tier.check_token_probs(sampled)
    tier.backend.gives_token_probs = True
    for sampled in (False, True):
        tier.check_token_probs(sampled)
    tier.backend.gives_sampled_probs = False  # type: ignore[attr-defined]
    tier.check_token_probs(sampled=False)
    with pytest.raises(AutoMixError, match=r"none of sampled answers.*do_sample=false"):
        tier.check_token_probs(sampled=True)
    assert asked(tier) == []


def test_greedy_repeats_are_one_call(tier: Tier) -> None:
    """They cannot differ, and have no seed."""
    questions = [Question("t", 0, Prompt("q"), "", "q", repeat=r) for r in range(3)]
    tier.answer(questions, _parts)
    assert [r.seed for r in asked(tier)] == [None]


@pytest.mark.parametrize(
    ("demonstrations", "context", "dropped", "cut"),
    [(1, 90, 0, 0), (2, 90, 1, 0), (2, 91, 2, 0), (2, 92, 2, 0), (1, 200, 1, 105)],
)
def test_an_answer_says_what_did_not_fit(
    tier: Tier,
    monkeypatch: pytest.MonkeyPatch,
    demonstrations: int,
    context: int,
    dropped: int,
    cut: int,
) -> None:
    """Up to the window without the answer's room a prompt goes out as it is."""
    monkeypatch.setattr(tier.backend, "max_length", 104)
    monkeypatch.setattr(tier.backend, "count_tokens", len)
    parts = Parts("h", ("d" * 5,) * demonstrations, "c" * context + "body", "c" * context)
    asks = Question("t", 0, Prompt(parts.text()), "", "q", generation={"max_gen_toks": 4})
    (answer,) = tier.answer([asks], lambda _: parts)
    (request,) = asked(tier)
    assert (answer.dropped_demonstrations, answer.cut_context_tokens) == (dropped, cut)
    assert len(request.prompt) == len(parts.text()) - 5 * dropped - cut
    assert len(request.prompt) <= 100


@pytest.mark.parametrize(
    ("form", "lost"),
    [("{system}{user}", 0), ("{user}", 1), ("{escaped}", 0), ("{user} be brief", 1)],
)
def test_a_system_message_that_a_template_drops_is_counted(
    tier: Tier, monkeypatch: pytest.MonkeyPatch, form: str, lost: int
) -> None:
    """Wherever it stands, in JSON too, it is there; a prompt without one loses none."""
    system, user = ' Say "yes"\nor no. ', "q"
    shown = {"system": system.strip(), "user": user, "escaped": json.dumps([system.strip()])}
    monkeypatch.setattr(tier.backend, "render", lambda _: form.format(**shown))
    for messages in ((Message("system", system), Message("user", user)), (Message("user", user),)):
        tier.answer([Question("t", 0, Prompt(messages=messages), "", "q")], _parts)
    assert tier.counts.lost_system_of("evaluation", "") == lost
    assert tier.counts.lost_system_of("calibration", "") == 0


def test_calls_that_are_repeated_for_a_purpose_count_once(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls, lost system messages and events; what is made the second time counts as any does."""
    monkeypatch.setattr(tier.backend, "render", lambda prompt: prompt.messages[-1].content)
    messages = [(Message("system", "be brief"), Message("user", name)) for name in "abc"]
    asks = [Question("t", i, Prompt(messages=m), "", "q") for i, m in enumerate(messages)]

    def counts() -> tuple[int, int, int]:
        held = tier.counts
        return held.made.total(), held.stored.total(), held.lost_system.total()

    tier.answer(asks[:2], _parts)
    assert counts() == (2, 0, 2)
    with tier.counts.repeating(("evaluation", "", "answer")):
        tier.answer(asks, _parts)
    assert counts() == (3, 0, 2)
    tier.answer(asks, _parts)
    assert counts() == (3, 3, 5)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.parametrize("routed", [True, False])
def test_answers_are_asked_for_then_judged(verify: bool, needs: bool, routed: bool) -> None:
    """Under their titles; token probabilities are asked for only where a verifier reads them."""
    questions = [Question("t", i, Prompt(f"q{i}"), "", "q", phase="calibration") for i in range(3)]
    said: list[Any] = []
    model: Any = SimpleNamespace(working_on=lambda *w: said.append(w), tolerate=lambda _: None)

    def answer(asked: Any, split: Any, token_probs: bool, pick: Any) -> list[Answer]:
        said.append((len(asked), split, token_probs, pick))
        return [Answer(1, q.prompt.text) for q in asked]

    def judge(asked: Any, answers: Any, by: Any) -> list[Verification]:
        assert [a.text for a in answers] == [q.prompt.text for q in asked]
        assert by is model
        said.append(by.decide and by.decide(2, 0.5))
        return [Verification(1, q.doc_id / 4) for q in asked]

    model.answer = answer
    verifier: Any = SimpleNamespace(needs_token_probs=needs, verify=judge)
    chain = Chain((model, model), verifier, _parts, pick=len)  # type: ignore[arg-type]
    choose = (lambda place, got, sure: (place, got.text, sure)) if routed else None
    found = _answer_and_verify(questions, chain, 1, verify, "stage", choose, 10)  # type: ignore[arg-type]
    expected = [("calibration", "t", "answer", "stage"), (3, _parts, verify and needs, len)]
    if verify:
        expected += [("calibration", "t", "verify"), (12, "q2", 0.5) if routed else None]  # type: ignore[list-item]
    assert said == expected
    judged = [Verification(1, i / 4) if verify else None for i in range(3)]
    assert found == [(Answer(1, f"q{i}"), v) for i, v in enumerate(judged)]


def test_a_verification_prompt_is_a_user_turn_where_templates_apply(tier: Tier) -> None:
    """Elsewhere it is the text itself."""
    seen: list[Prompt] = []
    backend: Any = SimpleNamespace(render=lambda prompt: seen.append(prompt) or "in turns")
    chat = Tier(0, "slm", backend, tier._store, chat=True)
    assert chat.render("judge this") == "in turns"
    assert seen == [Prompt(messages=(Message("user", "judge this"),))]
    assert tier.render("judge this") == "judge this"
    assert Tier(0, "slm", backend, tier._store).render("judge this") == "judge this"
    assert chat.seed == 0


@pytest.mark.parametrize(
    ("asked_for", "title"),
    [
        (("evaluation", "coqa", "answer"), "coqa: answering (slm)"),
        (("calibration", "coqa", "verify"), "coqa: verifying (slm, calibration)"),
        (("evaluation", "t", "answer", "escalating 2 of 3"), "t: escalating 2 of 3 (slm)"),
    ],
)
def test_a_stage_has_a_title(
    tier: Tier, capsys: pytest.CaptureFixture[str], asked_for: Any, title: str
) -> None:
    """Task, work, tier, and whether a router is being fitted; and what the store had."""
    tier._progress = True
    tier.generate([REQUEST])
    assert capsys.readouterr().err == "slm: 1/1, 00:00\n"
    tier.working_on(*asked_for)
    other = GenerateRequest("other", {})
    tier.generate([other, REQUEST, other])
    stored = ", 1 more from the store" if asked_for[2] == "answer" else ""
    number = 1 if stored else 2
    assert capsys.readouterr().err == f"{title}: {number}/{number}, 00:00{stored}\n"


@pytest.mark.parametrize(
    ("direct", "escalated", "failed", "said"),
    [
        (0, 2, 0, "t: escalating 2 of 6 to llm; 4 calls saved"),
        (3, 1, 0, "t: escalating 1 of 6 (and 3 directly) to llm; 2 calls saved"),
        (1, 0, 2, "t: escalating 0 of 6 (and 1 directly) to llm; 3 calls saved"),
    ],
)
def test_a_stage_says_who_goes_on_and_what_is_saved(
    direct: int, escalated: int, failed: int, said: str
) -> None:
    """Of those asked at once nobody was asked before; a question that failed saves no call."""
    lines: list[str] = []
    tiers: Any = (SimpleNamespace(name="slm"), SimpleNamespace(name="llm"))
    chain = Chain(tiers, verifier=None, split=_parts, announce=lines.append)  # type: ignore[arg-type]
    progress = _Progress([Question("t", i, Prompt("q"), "", "q") for i in range(6)], chain)
    progress.record(range(direct, 6), 0, [(Answer(0, "a"), None)] * (6 - direct - failed))
    progress.record(range(6 - failed, 6), 0, [None] * failed)
    for i in range(direct + escalated):
        progress._at[i] = 1
    assert progress.announce(progress.at(1), 1, False) == said[3:].partition(" to ")[0]
    progress.announce(progress.at(1), 1, True)  # with record=full nothing is saved
    assert lines == [said, said.replace("calls saved", "more for the record alone")]


def _parts(question: Question) -> Parts:
    raise AssertionError("nothing is too long")
