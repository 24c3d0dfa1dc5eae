"""The verifiers: one contract over all YAML files, and the laws of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.paths import hydra_conf_dir
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import (
    Answer,
    Call,
    GenerateRequest,
    Generation,
    Prompt,
    Question,
    ScoreRequest,
    Scores,
    Verifier,
)
from automix_eval.verifiers.ensemble import signal_names
from automix_eval.verifiers.few_shot import FewShot, parse_decision
from automix_eval.verifiers.margin import Margin
from automix_eval.verifiers.p_true import PTrue
from automix_eval.verifiers.prompt import DECISION, INSTRUCTION, build, demonstrations

FILES = sorted((hydra_conf_dir() / "verifier").glob("*.yaml"))


class FakeAsk:
    """A tier that says Correct to the answer "pier" and Incorrect to anything else."""

    tier = 0
    seed = 3

    def __init__(self, max_length: int | None = None, says: str | None = None) -> None:
        self.max_length = max_length
        self.says = says
        self.requests: list[Any] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def render(self, prompt: str) -> str:
        return prompt

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        self.requests += requests
        return [
            (Generation(self._verdict(r.prompt)), Call(0, "verify", 1, 1, 0.0)) for r in requests
        ]

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        del temperature
        self.requests += [q for q in questions for _ in range(number)]
        said = "pier" if self.says is None else self.says
        return [[(Generation(said), Call(0, "verify", 1, 1, 0.0))] * number for _ in questions]

    def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, Call]]:
        self.requests += requests
        right = [" Correct" if "Correct." in self._verdict(r.prompt) else "" for r in requests]
        return [
            (Scores((-0.1, -3.0) if r else (-3.0, -0.1)), Call(0, "verify", 1, 0, 0.0))
            for r in right
        ]

    def _verdict(self, prompt: str) -> str:
        if self.says is not None:
            return self.says
        answer = prompt.rsplit("AI Generated Answer:", 1)[1].split("\n")[0].strip()
        return f"The AI generated answer is {'Correct.' if answer == 'pier' else 'Incorrect.'}"


def question(context: str = "The ferry leaves the pier.", asked: str = "Where?") -> Question:
    """A question with its passage."""
    return Question("t", 0, Prompt("p"), context, asked)


def answer(text: str) -> Answer:
    """An answer with token probabilities."""
    sure = -0.1 if text == "pier" else -2.0
    return Answer(0, text, token_logprobs=(sure, sure), token_margins=(0.5, 0.1))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
class TestContract:
    """What every verifier keeps."""

    def make(self, file: Any) -> Verifier:
        """The verifier of a YAML file with its defaults."""
        made: Verifier = parts.make_verifier(config.build({"verifier": file.stem}))
        return made

    def test_one_verification_per_answer_in_order(self, file: Any) -> None:
        """Equal answers get equal confidence, and every confidence is a probability."""
        texts = ["pier", "the old barn", "pier", "the old barn"]
        found = self.make(file).verify([question()] * 4, [answer(t) for t in texts], FakeAsk())
        values = [v.confidence for v in found]
        assert all(v is not None and 0.0 <= v <= 1.0 for v in values)
        assert values[0] == values[2] != values[1] == values[3]

    def test_an_empty_answer_is_undefined_not_zero(self, file: Any) -> None:
        """An empty answer has its own outcome and costs no call."""
        (found,) = self.make(file).verify([question()], [Answer(0, "  ")], FakeAsk())
        assert (found.confidence, found.outcome, found.calls) == (None, "empty_answer", ())

    def test_nothing_in_nothing_out(self, file: Any) -> None:
        """No questions, no calls."""
        assert self.make(file).verify([], [], FakeAsk()) == []

    def test_the_signals_it_gives_are_those_it_names(self, file: Any) -> None:
        """A router that reads another is refused before a model is asked."""
        verifier = self.make(file)
        choice = Answer(0, "pier", choice_logprobs=((-0.1, True), (-2.0, False)))
        pick = replace(question(), choices=((Prompt("p"), "pier"), (Prompt("p"), "barn")))
        for asked, judged in ((question(), answer("pier")), (pick, choice)):
            (found,) = verifier.verify([asked], [judged], FakeAsk())
            assert sorted(found.signals) == sorted(signal_names(verifier, asked is pick))

    def test_its_identity_is_json_and_names_it(self, file: Any) -> None:
        """Policies are bound to a verifier by its identity."""
        import json

        identity = self.make(file).identity
        assert identity["name"] == file.stem
        json.dumps(dict(identity))

    def test_the_yaml_says_what_it_is(self, file: Any) -> None:
        """Each option is described in its own file."""
        assert file.read_text().startswith("# ")


@pytest.mark.parametrize("verifier", [FewShot(num_samples=2), PTrue(), Margin()])
def test_a_right_answer_gets_more_confidence(verifier: Verifier) -> None:
    """The judgement of the model, or its probabilities, arrive the right way round."""
    right, wrong = verifier.verify([question()] * 2, [answer("pier"), answer("barn")], FakeAsk())
    assert right.confidence is not None
    assert wrong.confidence is not None
    assert right.confidence > wrong.confidence


@pytest.mark.parametrize("verifier", [FewShot(num_samples=2), PTrue()])
def test_ungrounded_questions_are_outcomes_of_their_own(verifier: Verifier) -> None:
    """Neither an empty context nor an empty question is judged."""
    ask = FakeAsk()
    found = verifier.verify([question(context=" "), question(asked="")], [answer("pier")] * 2, ask)
    assert [v.outcome for v in found] == ["empty_context", "empty_question"]
    assert ask.requests == []


def test_samples_that_never_parse_are_unparsable() -> None:
    """Without a decision the confidence is undefined and all samples are counted."""
    (found,) = FewShot(num_samples=4).verify([question()], [answer("pier")], FakeAsk(says="hm"))
    assert (found.confidence, found.outcome, found.num_unparsable) == (None, "unparsable", 4)
    assert len(found.samples) == len(found.calls) == 4


def test_samples_have_seeds_of_their_own() -> None:
    """K samples are k draws, not one draw k times."""
    ask = FakeAsk()
    FewShot(num_samples=5).verify([question()], [answer("pier")], ask)
    assert len({r.seed for r in ask.requests}) == 5


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("... Verification Decision: The AI generated answer is Correct.", True),
        ("THE AI GENERATED ANSWER IS INCORRECT", False),
        ("The AI generated answer is correct? No. The AI generated answer is Incorrect.", False),
        ("The AI generated answer is **Correct**", True),
        ("The answer is correct.", None),
        ("The AI generated answer is partly right", None),
        ("The AI generated answer is correctly spelt", None),
        ("", None),
    ],
)
def test_decisions_are_read_from_the_phrase_alone(text: str, decision: bool | None) -> None:
    """The last decision phrase counts; anything else is no decision."""
    assert parse_decision(text) is decision


@given(st.floats(-50, 0), st.floats(-50, 0))
def test_p_true_is_the_share_of_correct(correct: float, incorrect: float) -> None:
    """P(Correct) / (P(Correct) + P(Incorrect)), without overflow."""

    class Ask(FakeAsk):
        def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, Call]]:
            return [(Scores((correct, incorrect)), Call(0, "verify", 1, 0, 0.0))]

    (found,) = PTrue().verify([question()], [answer("pier")], Ask())
    a, b = math.exp(correct), math.exp(incorrect)
    assert found.confidence == pytest.approx(a / (a + b), abs=1e-12)


def test_p_true_scores_what_the_demonstrations_say() -> None:
    """Each continuation completes the prompt's last words to a demonstrated verdict."""
    ask = FakeAsk()
    PTrue().verify([question()], [answer("pier")], ask)
    (request,) = ask.requests
    assert request.prompt.endswith(DECISION)
    for said in request.continuations:
        assert f"{DECISION}{said}.\n" in request.prompt


def test_few_shot_draws_samples_and_shows_each_tier_its_own() -> None:
    """At the temperature that was asked for, with the demonstrations of the tier that judges."""
    ask = FakeAsk()
    ask.tier = 1
    own = [[("c", "q", f"of tier {tier}", "r", "Correct")] for tier in range(2)]
    verifier = FewShot(num_samples=2, temperature=0.7, demonstrations="calibration")
    verifier.with_examples(own).verify([question()], [answer("pier")], ask)
    for request in ask.requests:
        assert (request.generation["do_sample"], request.generation["temperature"]) == (True, 0.7)
        assert "of tier 1" in request.prompt
        assert "of tier 0" not in request.prompt


def test_margin_statistics() -> None:
    """Each statistic is what its name says."""
    given_answer = Answer(
        0, "x", token_logprobs=(math.log(0.9), math.log(0.4)), token_margins=(0.8, 0.2)
    )
    expected = {
        "mean_probability": math.sqrt(0.36),
        "min_probability": 0.4,
        "first_margin": 0.8,
        "mean_margin": 0.5,
    }
    for statistic, value in expected.items():
        (found,) = Margin(statistic).verify([question()], [given_answer], FakeAsk())
        assert found.confidence == pytest.approx(value)


def test_margin_of_choices_is_their_softmax() -> None:
    """A multiple-choice answer needs no tokens: its choices have probabilities."""
    choices = Answer(
        0,
        "x",
        choice_logprobs=((math.log(0.2), False), (math.log(0.6), True), (math.log(0.2), False)),
    )
    assert Margin().verify([question()], [choices], FakeAsk())[0].confidence == pytest.approx(0.6)
    lead = Margin("first_margin").verify([question()], [choices], FakeAsk())[0].confidence
    assert lead == pytest.approx(0.4)


def test_margin_without_token_probabilities_names_the_way_out() -> None:
    """A backend that gives no probabilities is an error, not a confidence."""
    with pytest.raises(AutoMixError, match="verifier=few_shot"):
        Margin().verify([question()], [Answer(0, "pier")], FakeAsk())


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_samples": 0},
        {"num_samples": "8x"},
        {"temperature": 0},
        {"temperature": float("inf")},
        {"max_tokens": -1},
    ],
)
def test_unusable_hyper_parameters_are_refused(arguments: dict[str, Any]) -> None:
    """The error names the key."""
    with pytest.raises(AutoMixError, match=next(iter(arguments))):
        FewShot(**arguments)
    with pytest.raises(AutoMixError, match="mean_probability"):
        Margin("median")


def test_demonstrations_come_in_the_paper_s_order() -> None:
    """Correct, Incorrect, Incorrect, Correct, each closed by the separator."""
    verdicts = [parse_decision(d) for d in demonstrations()]
    assert verdicts == [True, False, False, True]
    assert all(d.rstrip().endswith("---") and INSTRUCTION in d for d in demonstrations())


@given(st.integers(120, 900))
def test_a_verification_prompt_keeps_question_answer_and_instruction(window: int) -> None:
    """Whatever the window, only demonstrations and context are lost, and both are counted."""
    context = " ".join(f"w{i}" for i in range(400))
    ask = FakeAsk(max_length=window)
    fitted = build(question(context, "Where is it?"), answer("pier"), ask, reserve=20)
    assert ask.count_tokens(fitted.text) <= window - 20
    block = fitted.text.rsplit("Question:", 1)[1]
    assert "Where is it?" in block
    assert "AI Generated Answer: pier" in block
    assert INSTRUCTION in block
    if fitted.cut_context_tokens:
        assert fitted.dropped_demonstrations == 4


class Reasons(FakeAsk):
    """A tier that reasons without a verdict but for the samples whose number is even."""

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        made = super().generate(requests, token_probs)
        return [
            (g, call)
            if i % 2 == 0
            else (Generation(" The pier is named. Verification Decision: I"), call)
            for i, (g, call) in enumerate(made)
        ]


def test_samples_without_a_decision_are_scored_where_that_is_asked_for() -> None:
    """form=scored judges every sample; the verdicts are scored after the sample's reasoning."""
    ask = Reasons()
    (found,) = FewShot(num_samples=4, form="scored").verify([question()], [answer("pier")], ask)
    scored = [r for r in ask.requests if isinstance(r, ScoreRequest)]
    assert (found.num_unparsable, len(found.calls), len(scored)) == (0, 6, 2)
    assert all(r.prompt.endswith(f"The pier is named. {DECISION}") for r in scored)
    share = 1 / (1 + math.exp(-2.9))
    assert found.confidence == pytest.approx((2 + 2 * share) / 4)
    (paper,) = FewShot(num_samples=4).verify([question()], [answer("pier")], Reasons())
    assert (paper.num_unparsable, paper.confidence, len(paper.calls)) == (2, 1.0, 4)


def test_a_form_is_part_of_the_policy_and_known() -> None:
    """Judgements of another form are another verifier; the paper's keeps its identity."""
    assert "form" not in FewShot().identity
    assert FewShot(form="scored").identity["form"] == "scored"
    with pytest.raises(AutoMixError, match=r"verifier\.form"):
        FewShot(form="free")
    with pytest.raises(AutoMixError, match="stop_early"):
        FewShot(form="scored", stop_early=0.0)
