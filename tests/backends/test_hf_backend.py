"""Laws of the transformers tier, on tiny random models of two families."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny_models import save_tiny

from automix_eval.backends.hf.backend import HFBackend
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

PROMPTS = [
    "The ferry leaves at seven. Question: where? Answer:",
    "Question: where? Answer:",
    "Decide whether the answer is right, using nothing but the context. " * 3 + "Answer:",
    "pier",
    "the context and the question. The ferry",
]
GREEDY = {"do_sample": False, "max_gen_toks": 12, "until": [" where"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 6, "until": []}


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; Gemma 3's has a sliding window shorter than the prompts."""
    return save_tiny(tmp_path_factory.mktemp("tiny"), request.param)


def backend(folder: Path, batch_size: int = 4) -> HFBackend:
    """The tier under test, in float32 so that batching changes no digit that matters."""
    return HFBackend(pretrained=str(folder), dtype="float32", device="cpu", batch_size=batch_size)


def generate(
    model: HFBackend, requests: list[GenerateRequest], token_probs: bool = False
) -> list[Generation]:
    """Results in the order of the requests."""
    found: dict[int, Generation] = {}
    model.generate(requests, found.__setitem__, token_probs=token_probs)
    return [found[i] for i in range(len(requests))]


def score(model: HFBackend, requests: list[ScoreRequest]) -> list[Scores]:
    """Results in the order of the requests."""
    found: dict[int, Scores] = {}
    model.score(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


def harness_model(folder: Path) -> HFLM:
    """The harness's own model of the same folder."""
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=4)


@pytest.mark.parametrize("token_probs", [False, True])
def test_greedy_answers_are_the_harness_s(folder: Path, token_probs: bool) -> None:
    """Metering changes no answer."""
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    ours = [g.text for g in generate(backend(folder), requests, token_probs)]
    instances = [
        Instance("generate_until", {}, (p, dict(GREEDY)), i, ("t", i, 1))
        for i, p in enumerate(PROMPTS)
    ]
    assert ours == harness_model(folder).generate_until(instances, disable_tqdm=True)


def test_beams_have_no_token_probabilities(folder: Path) -> None:
    """Their rows are not those of the answers: refused, where they were read as if they were."""
    beams = {**GREEDY, "num_beams": 2}
    model = backend(folder)
    asked = [GenerateRequest(p, beams) for p in PROMPTS]
    with pytest.raises(AutoMixError, match=r"num_beams=2.*verifier=consistency"):
        generate(model, asked, token_probs=True)
    instances = [
        Instance("generate_until", {}, (p, dict(beams)), i, ("t", i, 1))
        for i, p in enumerate(PROMPTS)
    ]
    theirs = harness_model(folder).generate_until(instances, disable_tqdm=True)
    assert [g.text for g in generate(model, asked)] == theirs
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 5, "until": []}
    drawn = [
        [g.text for g in generate(model, [GenerateRequest(p, s, seed=1) for p in PROMPTS])]
        for s in (sampled, {**sampled, "num_beams": 2})
    ]
    assert drawn[0] == drawn[1]


def test_token_probabilities_are_those_of_the_answer(folder: Path) -> None:
    """Summed over an answer that was not stopped they are its log-likelihood."""
    plain = {"do_sample": False, "max_gen_toks": 5, "until": []}
    model = backend(folder)
    results = generate(model, [GenerateRequest(p, plain) for p in PROMPTS], token_probs=True)
    lm = harness_model(folder)
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert len(result.token_logprobs) == result.generated_tokens == 5
        assert all(0.0 <= m <= 1.0 for m in result.token_margins)
        ids = lm.tok_encode(prompt)
        generated = lm.tok_encode(result.text)
        if lm.tok_decode(generated) != result.text or len(generated) != 5:
            continue
        ((expected, greedy),) = lm._loglikelihood_tokens([(("", ""), ids, generated)])
        assert greedy
        assert math.fsum(result.token_logprobs) == pytest.approx(expected, abs=1e-3)


def test_tokens_are_counted_up_to_the_stop(folder: Path) -> None:
    """Padding after the end of an answer is neither counted nor scored."""
    model = backend(folder)
    alone = [generate(model, [GenerateRequest(p, GREEDY)], True)[0] for p in PROMPTS]
    batched = generate(model, [GenerateRequest(p, GREEDY) for p in PROMPTS], True)
    for prompt, one, many in zip(PROMPTS, alone, batched, strict=True):
        assert one.generated_tokens == many.generated_tokens <= 12
        assert one.prompt_tokens == many.prompt_tokens == model.count_tokens(prompt)
        assert one.token_logprobs == pytest.approx(many.token_logprobs, abs=1e-4)


def test_padding_that_a_model_generates_is_counted(folder: Path) -> None:
    """It ends no answer: only what stands behind the end of one is left out."""
    model = backend(folder)
    lm = model._metered()
    model.load_weights()
    pad, end = lm.tokenizer.pad_token_id, min(lm.end_tokens)
    (word,) = lm.tok_encode("ferry", add_special_tokens=False)[:1]
    assert pad not in lm.end_tokens
    assert lm._lengths([word, pad, word], []) == (3, 3)
    assert lm._lengths([word, pad, word, pad], []) == (4, 4)
    assert lm._lengths([word, pad, end, pad, pad], []) == (2, 3)
    assert lm._lengths([word, pad, word, pad], [lm.tok_decode([word])]) == (1, 1)


def test_samples_depend_on_their_seed_alone(folder: Path) -> None:
    """A sample is the same whatever shares its batch, and other seeds give other samples."""
    requests = [GenerateRequest(p, SAMPLED, seed=s) for p in PROMPTS for s in range(4)]
    small = [g.text for g in generate(backend(folder, 1), requests)]
    large = [g.text for g in generate(backend(folder, 7), requests)]
    backwards = generate(backend(folder, 3), requests[::-1])[::-1]
    assert small == large == [g.text for g in backwards]
    assert all(len(set(small[i : i + 4])) > 1 for i in range(0, len(small), 4))


def test_samples_follow_the_model_s_distribution(folder: Path) -> None:
    """First tokens drawn by seed have the frequencies of the softmax (chi-square)."""
    from scipy.stats import chisquare

    model = backend(folder, 64)
    one = SAMPLED | {"max_gen_toks": 1}
    drawn = [
        g.text for g in generate(model, [GenerateRequest(PROMPTS[0], one, s) for s in range(600)])
    ]
    vocabulary = sorted(set(drawn))
    lm = harness_model(folder)
    ids = lm.tok_encode(PROMPTS[0])
    logits = lm._model_call(lm_tensor(ids))[0, -1].float().softmax(-1)
    by_text: dict[str, float] = {}
    for token, probability in enumerate(logits.tolist()):
        text = lm.tok_decode([token])
        by_text[text] = by_text.get(text, 0.0) + probability
    common = [t for t in vocabulary if by_text[t] * 600 >= 5]
    observed = [drawn.count(t) for t in common]
    expected = [by_text[t] * 600 for t in common]
    observed.append(600 - sum(observed))
    expected.append(600 - sum(expected))
    assert chisquare(observed, expected).pvalue > 1e-4


def lm_tensor(ids: list[int]) -> object:
    """One row of token ids."""
    import torch

    return torch.tensor([ids])


def test_scores_equal_the_harness_s_log_likelihoods(folder: Path) -> None:
    """Reading a prompt once and reusing its cache gives the same numbers, whatever the batch."""
    continuations = (" Correct", " Incorrect", " the question")
    requests = [ScoreRequest(p, continuations) for p in PROMPTS]
    lm = harness_model(folder)
    for size in (1, 3):
        for request, scored in zip(requests, score(backend(folder, size), requests), strict=True):
            expected = lm.loglikelihood(
                [
                    Instance("loglikelihood", {}, (request.prompt, c), 0, ("t", 0, 1))
                    for c in continuations
                ],
                disable_tqdm=True,
            )
            assert scored.logprobs == pytest.approx([e[0] for e in expected], abs=1e-3)


def test_a_folder_is_known_by_its_files(folder: Path, tmp_path: Path) -> None:
    """The same weights under another path are the same model; other weights are not."""
    import shutil

    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert backend(folder).identity == backend(copy).identity
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert backend(folder).identity != backend(copy).identity


def test_an_embedded_model_is_the_same_before_and_after_loading() -> None:
    """Calls stored by one run are found by the next, loaded or not."""
    named = HFBackend(embedded="smollm2-135m-instruct", max_length=64)
    loaded = HFBackend(embedded="smollm2-135m-instruct", max_length=64)
    loaded._args["pretrained"] = "/a/converted/folder"
    assert named.identity == loaded.identity
    assert named.identity != HFBackend(embedded="gemma3-270m", max_length=64).identity


FAULTS = {
    "ran out of GPU memory: CUDA out of memory. Remedy: lower llm.batch_size": (
        torch.cuda.OutOfMemoryError("CUDA out of memory.\nSee the documentation")
    ),
    "failed on a prompt: RuntimeError: shapes do not match. Remedy: try llm.dtype": (
        RuntimeError("shapes do not match\nat some line")
    ),
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("said", FAULTS)
def test_a_fault_in_the_middle_of_a_call_names_tier_and_remedy(
    folder: Path, said: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers, choices and scores: none is made up, and the pages PyTorch adds are left out."""
    model = HFBackend(
        tier="llm", pretrained=str(folder), dtype="float32", device="cpu", shared_prefix=shared
    )
    model.load()

    def fail(*_: object, **__: object) -> None:
        raise FAULTS[said]

    monkeypatch.setattr(model.lm.model, "forward", fail)
    scored = ScoreRequest("pier", (" where",))
    for call in (
        lambda: generate(model, [GenerateRequest("pier", GREEDY)]),
        lambda: generate(model, [GenerateRequest("pier", SAMPLED, seed=1)]),
        lambda: score(model, [scored]),
        lambda: model.loglikelihood([scored], lambda *_: None),
    ):
        with pytest.raises(AutoMixError) as caught:
            call()
        assert said in str(caught.value)
        assert str(caught.value).startswith("llm (")
        assert str(caught.value).endswith("run the same command to resume")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shared", [True, False])
def test_no_token_of_a_stop_sequence_is_in_the_probabilities(folder: Path, shared: bool) -> None:
    """It may be several tokens; the last token of the answer may hold its beginning."""
    model = HFBackend(pretrained=str(folder), dtype="float32", device="cpu", shared_prefix=shared)
    lm = harness_model(folder)
    tried = 0
    for word in ("the", "leaves", "at", "where", "pier"):
        (whole,) = generate(
            model, [GenerateRequest(word, {**GREEDY, "until": []})], token_probs=True
        )
        ids = torch.tensor([lm.tok_encode(word)])
        made = lm.model.generate(ids, max_new_tokens=len(whole.token_logprobs), do_sample=False)
        starts = [len(lm.tok_decode(made[0, ids.shape[1] :][:k])) for k in range(made.shape[1])]
        for k in range(1, len(whole.token_logprobs) - 2):
            stop = whole.text[starts[k] : starts[k + 2]]  # two tokens
            whole_characters = starts[k] < starts[k + 1] < starts[k + 2] and stop.isascii()
            if not whole_characters or whole.text.find(stop) != starts[k]:
                continue
            ended = GenerateRequest(word, {**GREEDY, "until": [stop]})
            (cut,) = generate(model, [ended], token_probs=True)
            assert cut.text == whole.text[: starts[k]]
            assert cut.token_logprobs == pytest.approx(whole.token_logprobs[:k], abs=1e-4)
            tried += 1
    assert tried


@pytest.mark.parametrize("shared", [True, False])
def test_an_answer_that_is_nothing_but_its_end_has_a_probability(
    folder: Path, shared: bool
) -> None:
    """Where the end is no special token the harness leaves it in the answer, which is judged."""
    model = HFBackend(pretrained=str(folder), dtype="float32", device="cpu", shared_prefix=shared)
    model.load_weights()
    lm: Any = model.lm
    lm.model.generation_config.eos_token_id = [*range(2, len(lm.tokenizer))]
    asked = [GenerateRequest(p, {**GREEDY, "until": []}) for p in PROMPTS]
    for made in generate(model, asked, token_probs=True):
        assert made.generated_tokens == 1
        assert len(made.token_logprobs) == len(made.token_margins) == bool(made.text.strip())


@pytest.mark.parametrize("shared", [True, False])
def test_thinking_is_in_no_token_probability(folder: Path, shared: bool) -> None:
    """The probabilities are those of the text after the last end of thinking, on both paths."""
    kind = {"dtype": "float32", "device": "cpu", "batch_size": 4, "shared_prefix": shared}
    asked = [GenerateRequest(PROMPTS[0], {**GREEDY, "until": []})]
    (whole,) = generate(HFBackend(pretrained=str(folder), **kind), asked, token_probs=True)
    half = whole.text[: len(whole.text) // 2 + 1]
    thinker = HFBackend(pretrained=str(folder), think_end_token=half, **kind)
    (after,) = generate(thinker, asked, token_probs=True)
    assert after.text == whole.text.split(half)[-1].lstrip()
    number = len(after.token_logprobs)
    assert 0 < number < len(whole.token_logprobs)
    assert after.token_logprobs == pytest.approx(whole.token_logprobs[-number:], abs=1e-4)
    assert after.token_margins == pytest.approx(whole.token_margins[-number:], abs=1e-4)
    never = HFBackend(pretrained=str(folder), think_end_token="</never>", **kind)
    (endless,) = generate(never, asked, token_probs=True)
    assert len(endless.token_logprobs) == len(whole.token_logprobs)
    assert [g.events for g in (whole, after, endless)] == [(), (), ("thinking",)]
