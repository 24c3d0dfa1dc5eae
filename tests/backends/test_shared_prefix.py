"""Laws of reading what prompts have in common once, on tiny random models of two families."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from transformers import AutoTokenizer

from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.shared_prefix import decode as shared_decoding
from automix_eval.backends.shared_prefix import pieces as tree_pieces
from automix_eval.backends.shared_prefix import reader as tree_reader
from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

# longer than the sliding window of the tiny Gemma 3, so that a start cannot be cropped carelessly
DOCUMENTS = [
    "The ferry leaves at seven. " * 6,
    "Decide whether the answer is right. " * 5,
    "The ferry leaves at seven. " * 3 + "Decide the question. " * 3,
]
# each begins with a token of its own
QUESTIONS = ["Question: where? Answer:", "pier? Answer:", "using the context and"]
PROMPTS = [d + q for q, d in itertools.product(QUESTIONS, DOCUMENTS)]
GREEDY = {"do_sample": False, "max_gen_toks": 10, "until": [" where"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8, "until": [" seven"]}


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; Gemma 3's has a sliding window of 16 tokens."""
    return save_tiny(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(autouse=True, params=["processor", "accelerator"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether each start has a tree of its own, or one tree holds all, as on an accelerator."""
    together = request.param == "accelerator"
    monkeypatch.setattr(tree_reader, "_pays_for_calls", lambda _: together)
    return str(request.param)


def backend(folder: Path, batch_size: int | str = 4, **more: Any) -> HFBackend:
    """The tier under test, in float32 so that rounding decides nothing."""
    return HFBackend(
        pretrained=str(folder), dtype="float32", device="cpu", batch_size=batch_size, **more
    )


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


def computed(results: list[Any]) -> int:
    """Prompt tokens that were computed."""
    return sum(r.prompt_tokens - r.cached_tokens for r in results)


def distinct(model: HFBackend, prompts: list[str]) -> int:
    """Tokens that differ in themselves or in what is before them: the size of the prompts' trie."""
    encoded = [tuple(model._metered().tok_encode(p)) for p in prompts]
    return len({ids[: i + 1] for ids in encoded for i in range(len(ids))})


@pytest.fixture(scope="module", params=[False, True])
def theirs(request: pytest.FixtureRequest, folder: Path) -> tuple[bool, list[Generation]]:
    """Greedy answers without sharing, with the probabilities of their tokens and without."""
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    return request.param, generate(backend(folder, 2, shared_prefix=False), requests, request.param)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_answers_are_those_of_the_harness(
    folder: Path, batch_size: int, theirs: tuple[bool, list[Generation]]
) -> None:
    """Sharing a document, in batches of any size, changes no answer and no probability."""
    token_probs, plain = theirs
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    ours = generate(backend(folder, batch_size), requests, token_probs)
    assert [g.text for g in ours] == [g.text for g in plain]
    for a, b in zip(ours, plain, strict=True):
        assert (a.prompt_tokens, a.generated_tokens) == (b.prompt_tokens, b.generated_tokens)
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-3)
        assert a.token_margins == pytest.approx(b.token_margins, abs=1e-3)


def test_samples_are_those_of_duplicated_prompts(folder: Path) -> None:
    """Whole samples equal those drawn from duplicates of the prompt, whatever the batch size."""
    requests = [GenerateRequest(p, SAMPLED, seed=s) for p in PROMPTS for s in range(5)]
    duplicated = [g.text for g in generate(backend(folder, 7, shared_prefix=False), requests)]
    for batch_size in (1, 4):
        shared = [g.text for g in generate(backend(folder, batch_size), requests)]
        assert shared == duplicated
    assert len(set(duplicated)) > len(PROMPTS)


def test_many_samples_have_the_distribution_of_duplicates(folder: Path) -> None:
    """Texts of two tokens drawn with other seeds come with the same frequencies (chi-square)."""
    from scipy.stats import chi2_contingency

    two = SAMPLED | {"max_gen_toks": 2, "temperature": 0.5}
    texts = []
    for shares, seeds in ((True, range(400)), (False, range(1000, 1400))):
        model = backend(folder, 64, shared_prefix=shares)
        texts.append(
            [g.text for g in generate(model, [GenerateRequest(PROMPTS[0], two, s) for s in seeds])]
        )
    common = [t for t in set(texts[0]) | set(texts[1]) if texts[0].count(t) + texts[1].count(t) > 9]
    table = [[drawn.count(t) for t in common] for drawn in texts]
    rest = [400 - sum(row) for row in table]
    if sum(rest) > 0:
        table = [[*row, left] for row, left in zip(table, rest, strict=True)]
    assert chi2_contingency(table).pvalue > 1e-4


@pytest.fixture
def _thrifty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator computes a few tokens twice where that saves a pass: here none."""
    for name in ("_WAITS", "_COPIES"):
        monkeypatch.setattr(tree_reader, name, (1, 1))


@pytest.mark.usefixtures("_thrifty")
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_distinct_token_is_computed_once(folder: Path, batch_size: int) -> None:
    """Answers, samples and scores of several documents cost the size of the prompts' trie."""
    size = distinct(backend(folder), PROMPTS)
    greedy = generate(backend(folder, batch_size), [GenerateRequest(p, GREEDY) for p in PROMPTS])
    sampled = generate(
        backend(folder, batch_size),
        [GenerateRequest(p, SAMPLED, seed=s) for s in range(3) for p in PROMPTS],
    )
    scored = score(backend(folder, batch_size), [ScoreRequest(p, (" a", " b")) for p in PROMPTS])
    assert computed(greedy) == computed(sampled) == computed(scored) == size
    assert all(r.seconds is not None and r.seconds >= 0 for r in greedy + sampled)


def test_a_second_call_finds_the_first_one_s_documents(folder: Path) -> None:
    """The cache outlives a call; with no memory for it every call starts anew."""
    for megabytes, known in ((256, True), (0, False)):
        model = backend(folder, prefix_cache_mb=megabytes)
        first = generate(model, [GenerateRequest(p, GREEDY) for p in PROMPTS])
        again = generate(model, [GenerateRequest(p, GREEDY) for p in PROMPTS])
        assert [g.text for g in first] == [g.text for g in again]
        assert (computed(again) < computed(first) / 3) is known


def test_a_prompt_is_read_in_one_pass_for_all_its_continuations(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verification by probability costs one forward pass a prompt, of several tokens or not."""
    model = backend(folder)
    model._sharing()
    passes = []
    forward = Reader.forward
    monkeypatch.setattr(Reader, "forward", lambda s, p: passes.append(p) or forward(s, p))
    (found,) = score(model, [ScoreRequest(PROMPTS[0], (" Correct", " Incorrect", " question the"))])
    assert len(passes) == 1
    assert found.prompt_tokens == model.count_tokens(PROMPTS[0])


def test_samples_outgrow_their_tree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for generated tokens is made while several samples are in progress."""
    requests = [GenerateRequest(PROMPTS[0], SAMPLED | {"until": []}, seed) for seed in range(4)]
    expected = [g.text for g in generate(backend(folder), requests)]
    monkeypatch.setattr(shared_decoding, "_ROOM", 0)
    assert [g.text for g in generate(backend(folder), requests)] == expected


def test_branches_read_at_once_are_those_read_one_by_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention of short branches over one tree's columns is that over copies of their prompts."""
    prompts = [DOCUMENTS[0] + end for end in ("pier?", "where?", "using?", "where? seven")]
    requests = [ScoreRequest(p, (" seven", " pier where")) for p in prompts]
    joins: list[int] = []
    real = tree_pieces._Branches.__init__

    def noting(self: Any, pieces: Any) -> None:
        joins.append(len(pieces))
        real(self, pieces)

    monkeypatch.setattr(tree_pieces._Branches, "__init__", noting)
    together = score(backend(folder), requests)
    assert max(joins) >= 4
    joins.clear()
    monkeypatch.setattr(tree_pieces, "_SHORT", 0)
    apart = score(backend(folder), requests)
    assert not joins
    for a, b in zip(together, apart, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.greedy == b.greedy


def test_prompts_read_side_by_side_are_those_read_alone(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention of prompts that are padded to one length is that of each by itself."""
    requests = [ScoreRequest(p, (" seven", " pier")) for p in PROMPTS]
    joins: list[int] = []
    real = tree_pieces._Beside.__init__

    def noting(self: Any, pieces: Any) -> None:
        joins.append(len(pieces))
        real(self, pieces)

    monkeypatch.setattr(tree_pieces._Beside, "__init__", noting)
    together = score(backend(folder, 16), requests)
    assert (max(joins, default=0) >= 3) is (kind == "accelerator")
    joins.clear()
    monkeypatch.setattr(tree_pieces, "_PADDED", 0)
    apart = score(backend(folder, 16), requests)
    assert not joins
    for a, b in zip(together, apart, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.greedy == b.greedy


def test_scores_do_not_depend_on_what_is_shared(folder: Path) -> None:
    """Log-probabilities are those of the harness's batches, whatever is read together."""
    requests = [ScoreRequest(p, (" Correct", " the question", "")[:2]) for p in PROMPTS]
    plain = score(backend(folder, shared_prefix=False), requests)
    for batch_size in (1, 4, 16):
        for a, b in zip(score(backend(folder, batch_size), requests), plain, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)


def test_a_sample_ends_at_what_it_was_to_end_with(folder: Path) -> None:
    """The text up to the match is a beginning of the whole sample, and fewer tokens are paid."""
    long = {"do_sample": True, "max_gen_toks": 30, "until": []}
    whole = generate(backend(folder), [GenerateRequest(PROMPTS[0], long, s) for s in range(8)])
    ended = generate(
        backend(folder),
        [GenerateRequest(PROMPTS[0], long, s, stop_after="THE|e") for s in range(8)],
    )
    for all_of_it, start in zip(whole, ended, strict=True):
        assert all_of_it.text.startswith(start.text)
        if "e" in all_of_it.text:
            assert start.text.lower().endswith(("the", "e"))
    assert sum(g.generated_tokens or 0 for g in ended) < sum(g.generated_tokens or 0 for g in whole)


def test_a_model_that_cannot_share_says_so_and_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model whose attention comes out differently falls back to the harness's batches, once."""
    monkeypatch.setattr(tree_reader, "tolerance", lambda *_: -1.0)
    model = backend(folder)
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    with caplog.at_level(logging.WARNING):
        answers = [g.text for g in generate(model, requests) + generate(model, requests)]
    monkeypatch.undo()
    assert answers == [g.text for g in generate(backend(folder), requests)] * 2
    assert caplog.text.count("cannot be shared") == 1


def test_settings_of_a_model_that_change_decoding_are_kept(folder: Path) -> None:
    """A repetition penalty in the model's own settings acts as in the harness's own run."""
    requests = [GenerateRequest(p, GREEDY | {"until": []}) for p in PROMPTS]
    plain = [g.text for g in generate(backend(folder), requests)]
    found = []
    for shares in (True, False):
        model = backend(folder, shared_prefix=shares)
        model._metered().model.generation_config.repetition_penalty = 3.0
        found.append([g.text for g in generate(model, requests)])
    assert found[0] == found[1] != plain


@pytest.mark.usefixtures("_thrifty")
def test_answers_are_the_harness_s_where_they_are_not_shared(folder: Path) -> None:
    """In low precision they may be others, so each way has its own key in the call store."""
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    low = {"pretrained": str(folder), "dtype": "bfloat16", "batch_size": 4}
    shared, apart = HFBackend(**low), HFBackend(**low, shared_answers=False)
    plain = generate(HFBackend(**low, shared_prefix=False), requests)
    found = generate(apart, requests)
    assert [g.text for g in found] == [g.text for g in plain]
    assert computed(found) == sum(g.prompt_tokens or 0 for g in found)
    assert computed(generate(shared, requests)) == distinct(shared, PROMPTS)
    assert shared.identity != apart.identity
    exact = [backend(folder, shared_answers=shares).identity for shares in (True, False)]
    assert exact[0] == exact[1]


def test_a_prompt_one_token_over_the_window_is_an_error(folder: Path) -> None:
    """Nothing is cut silently; exactly the window fits."""
    size = backend(folder).count_tokens(PROMPTS[0])
    assert size
    generate(backend(folder, max_length=size + 10), [GenerateRequest(PROMPTS[0], GREEDY)])
    tight = backend(folder, max_length=size + 9)
    with pytest.raises(AutoMixError, match=r"slm\.max_length"):
        generate(tight, [GenerateRequest(PROMPTS[0], GREEDY)])
    with pytest.raises(AutoMixError, match=r"slm\.max_length"):
        score(backend(folder, max_length=size), [ScoreRequest(PROMPTS[0], (" Correct",))])


def test_a_model_without_a_pad_token_needs_none(folder: Path, tmp_path: Path) -> None:
    """Prompts of different lengths are not padded, so nothing stands in for the pad token."""
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    tokenizer = AutoTokenizer.from_pretrained(bare)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(bare)
    requests = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    assert generate(backend(bare), requests)[0].text == generate(backend(folder), requests)[0].text


def test_a_batch_of_automatic_size_runs_without_a_gpu(folder: Path) -> None:
    """The harness's search for the largest batch needs a GPU; without one it is 8."""
    model = backend(folder, "auto")
    assert len(generate(model, [GenerateRequest(p, GREEDY) for p in PROMPTS])) == len(PROMPTS)
    assert model._batch_size() == 8


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("prefix_cache_mb", -1),
        ("prefix_cache_mb", "lots"),
        ("shared_prefix", "yes"),
        ("shared_answers", 1),
    ],
)
def test_unusable_settings_name_themselves(setting: str, value: object) -> None:
    """The error names the key of the tier."""
    with pytest.raises(AutoMixError, match=rf"llm\.{setting}"):
        HFBackend(pretrained="x", tier="llm", **{setting: value})  # type: ignore[arg-type]
