"""Nearest questions: what they cost and scored at every tier picks the one tier to ask."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from automix_eval.backends.embeddings import HalfArray, embed
from automix_eval.backends.encoder import DEFAULT, load
from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.base import require_chain, require_fitted, require_rows
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.pricing import single_points
from automix_eval.meta_verifiers.baselines.texts import require_texts
from automix_eval.meta_verifiers.objectives import ONE_SIDED, Ends, select
from automix_eval.metrics.bootstrap import sorted_codes
from automix_eval.metrics.curves import envelope
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation

# Numbers of neighbours that are tried; all fitting questions are tried too.
NEIGHBORS = (5, 10, 20, 40, 80, 160)
# Questions looked up at a time, to bound memory.
BATCH = 500
# Decimals of a similarity: equal texts are equally near, however the product was rounded.
DECIMALS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """Fitting questions in the space of an encoder.

    Attributes:
        encoder: Its name.
        max_length: Tokens of a question at most.
        vectors: (m, width) unit vectors.
        scores: (m, N) score of each tier.
        costs: (m, N) cost of each tier's answer.
        neighbors: How many of them are averaged.
    """

    encoder: str
    max_length: int
    vectors: HalfArray
    scores: FloatArray
    costs: FloatArray
    neighbors: int
    _last: list[tuple[tuple[str, ...], FloatArray]] = field(default_factory=list)

    def expect(self, questions: tuple[str, ...]) -> FloatArray:
        """(2, n, N) expected score and cost of each tier; the last call is remembered."""
        if not self._last or self._last[0][0] != questions:
            table = np.concatenate([self.scores, self.costs], axis=1)
            own = embed(self.encoder, questions, self.max_length)
            means = nearest_means(own, self.vectors, table, (self.neighbors,))[0]
            made = np.stack(np.split(means, 2, axis=1))
            self._last[:] = [(questions, made)]
        return self._last[0][1]


def nearest_means(
    queries: HalfArray,
    vectors: HalfArray,
    table: FloatArray,
    sizes: Sequence[int],
    apart: tuple[IntArray, IntArray] | None = None,
) -> FloatArray:
    """Means of a table over the nearest rows by cosine.

    Args:
        queries: (n, d) unit vectors.
        vectors: (m, d) unit vectors.
        table: (m, f) numbers of each.
        sizes: Numbers of neighbours; of fewer rows all are taken.
        apart: (n,) and (m,) documents: no row of a query's own document is near it.

    Returns:
        (len(sizes), n, f) means, of equally near rows the first.
    """
    number = len(vectors)
    most = max((min(size, number) for size in sizes if size < number), default=0)
    made = np.empty((len(sizes), len(queries), table.shape[1]))
    held = vectors.astype(np.float32).T
    for start in range(0, len(queries), BATCH):
        part = slice(start, start + BATCH)
        far = -np.round(queries[part].astype(np.float32) @ held, DECIMALS).astype(np.float64)
        known = np.full(far.shape, True)
        if apart is not None:
            known = apart[0][part, None] != apart[1]
            far[~known] = 2.0
        if most:
            far += np.arange(number) * (0.1**DECIMALS / number / 2)  # of equals the first
            order = np.argpartition(far, most - 1, axis=1)[:, :most]
            rank = np.argsort(np.take_along_axis(far, order, axis=1), axis=1)
            order = np.take_along_axis(order, rank, axis=1)
            near = np.take_along_axis(known, order, axis=1)
            totals = np.cumsum(np.where(near[:, :, None], table[order], 0.0), axis=1)
            numbers = np.cumsum(near, axis=1)
        for k, size in enumerate(sizes):
            if size < number:
                counts, sums = numbers[:, size - 1], totals[:, size - 1]
            else:
                counts, sums = known.sum(axis=1), known @ table
            made[k, part] = sums / np.maximum(counts, 1)[:, None]
    return made


@dataclass(eq=False)
class KnnQuery(ChoosingRouter):
    """Ask the one tier whose score - price * cost is best in the mean of the nearest questions.

    The standard opponent of routers that read the question alone (RouterBench, arXiv 2403.12031;
    arXiv 2505.12601): nothing is trained, nothing is verified, and the choice is made before the
    first tier. Nearness is the cosine of a sentence encoder's embeddings; what the encoder costs is
    not metered, as for the other routers that read texts.

    The number of neighbours is the one that predicts the fitting questions' scores best (least
    squares), and the price is chosen by the objective; both on predictions for each question by the
    others, without those of its own document. Where they do not predict better than all questions
    do, at the one-sided level of 5 %, all are averaged: what is left are single tiers. The cheapest
    policy asks the first tier always, the dearest the last.

    Args:
        encoder: ``all-minilm-l6-v2`` (packaged), or a name or folder that transformers loads.
        neighbors: Questions to average; None: chosen on the fitting data.
        max_length: Tokens of a question that are read, its last ones.
        max_fit_rows: At most so many questions are fitted on.

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        near_: The fitting questions; None before fitting.
        price_: Score that a unit of cost must buy.
        prices_: Those of the sweep, falling.
        held_: (2, n, N) scores and costs of the fitting questions as the others predict them.
        points_: (3, prices) mean score, cost and share above the first tier, by these predictions.
    """

    name: ClassVar[str] = "knn_query"
    needs_fit = True
    needs_texts = True

    encoder: str = DEFAULT
    neighbors: int | None = None
    max_length: int = 128
    max_fit_rows: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbors is not None:
            common.check_count("neighbors", self.neighbors, 1)
        common.check_count("max_length", self.max_length, 8)
        common.check_count("max_fit_rows", self.max_fit_rows, 2)
        self.near_: Neighbourhood | None = None
        self.price_ = 0.0
        self.prices_: FloatArray = np.array([])
        self.held_: FloatArray = np.empty((2, 0, 0))
        self.points_: FloatArray = np.empty((3, 0))

    def _fit(self, outcomes: Outcomes) -> KnnQuery:
        """Keep the questions; choose how many to average, and the price."""
        require_rows(outcomes, self.name)
        rows = common.thin(outcomes, self.max_fit_rows)
        vectors = embed(self.encoder, require_texts(rows.questions, self.name), self.max_length)
        held, neighbors = self._held_out(rows, vectors)
        self.near_ = Neighbourhood(
            self.encoder, self.max_length, vectors, rows.scores, rows.answer_costs, neighbors
        )
        self.prices_ = _prices(held)
        chosen = [_route(held, price, self.prices_) for price in self.prices_.tolist()]
        score, cost, above = self.points_ = single_points(chosen, rows)
        self.held_, taken = held, select(score, cost, above, Ends.of(rows), self)
        # no index: the objective exists for no price, and the first keeps to the first tier
        self.price_, self.note_ = float(self.prices_[taken.index or 0]), taken.note
        return self

    def choose(self, seen: Seen) -> IntArray:
        """The tier that is best at the price; then its answer is kept."""
        require_fitted(self.near_, self.name)
        if seen.tier >= 0 or not len(seen):
            return np.full(len(seen), max(seen.tier, 0))
        return _route(self.expect(seen), self.price_, self.prices_)

    def expect(self, seen: Seen) -> FloatArray:
        """(2, n, N) score and cost of each tier on the nearest questions.

        Raises:
            AutoMixError: Not fitted, on another chain, or the questions have no texts.
        """
        near: Neighbourhood = require_fitted(self.near_, self.name)
        require_chain(f"meta_verifier={self.name}", near.scores.shape[1], seen.num_tiers)
        return near.expect(require_texts(seen.questions, self.name))

    def sweep(self) -> list[tuple[float | None, Any]]:
        """One policy a price, cheap to dear; all share the questions."""
        require_fitted(self.near_, self.name)
        return [(price, self._at(price)) for price in self.prices_.tolist()]

    def describe(self) -> str:
        """How many questions are averaged, and the price."""
        near: Neighbourhood = require_fitted(self.near_, self.name)
        number = len(near.vectors)
        which = f"{near.neighbors} questions nearest to it, of {number}"
        if self.neighbors is None and near.neighbors == number:
            which = f"{number} fitting questions, of which the nearest are not shown to tell more"
        said = (
            f"Ask the tier with the best mean score - {self.price_:.6g} x cost of the {which}, "
            f"and keep its answer; nearness is the cosine of {self.encoder}'s embeddings."
        )
        if self.price_ in (self.prices_[0], self.prices_[-1]):
            which = "first" if self.price_ == self.prices_[0] else "last"
            said = f"Ask the {which} tier always."
        return said + (f" Note: {self.note_}." if self.note_ else "")

    def get_learned(self) -> dict[str, Any]:
        """The questions' embeddings, scores and costs; the prices."""
        near: Neighbourhood = require_fitted(self.near_, self.name)
        return {
            "encoder_sha256": load(self.encoder).sha256,
            "max_length": near.max_length,
            "neighbors": near.neighbors,
            "vectors": base64.b64encode(near.vectors.astype("<f2").tobytes()).decode(),
            "scores": near.scores.tolist(),
            "costs": near.costs.tolist(),
            "price": self.price_,
            "prices": self.prices_.tolist(),
            "note": self.note_,
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the questions and the prices.

        Raises:
            AutoMixError: Another shape, or fitted with another encoder.
        """
        with common.reading(self.name):
            common.exactly(
                learned, "encoder_sha256", "max_length", "neighbors", "vectors", "scores", "costs",
                "price", "prices", "note",
            )  # fmt: skip
            scores = common.table(learned["scores"], None, None)
            costs = common.table(learned["costs"], *scores.shape)
            common.check_count("neighbors", learned["neighbors"], 1)
            common.check_count("max_length", learned["max_length"], 8)
            prices, price = common.table(learned["prices"], None), common.number(learned["price"])
            note, sha256 = common.text(learned["note"]), common.text(learned["encoder_sha256"])
            encoder = load(self.encoder)
            if sha256 != encoder.sha256:
                raise AutoMixError(
                    f"this policy was fitted with an encoder of SHA-256 {sha256:.64}, and "
                    f"meta_verifier.encoder={self.encoder} has {encoder.sha256}: give the same "
                    "encoder, or fit again"
                )
            vectors = _vectors(learned["vectors"], len(scores), encoder.width)
        self.near_ = Neighbourhood(
            self.encoder, learned["max_length"], vectors, scores, costs, learned["neighbors"]
        )
        self.price_, self.prices_, self.note_ = price, prices, note

    def _held_out(self, rows: Outcomes, vectors: HalfArray) -> tuple[FloatArray, int]:
        """(2, n, N) scores and costs of each question as the others predict them, and by how many.

        Of equals the larger number; all where that is not shown to predict better.
        """
        documents = sorted_codes(rows.documents or rows.ids)
        if documents.max() == 0:  # one document: each question is its own
            documents = np.arange(len(rows))
        sizes = (*(k for k in NEIGHBORS if k < len(rows)), len(rows))
        if self.neighbors is not None:
            sizes = (self.neighbors,)
        table = np.concatenate([rows.scores, rows.answer_costs], axis=1)
        means = nearest_means(vectors, vectors, table, sizes, (documents, documents))
        held = np.stack(np.split(means, 2, axis=2), axis=1)
        squares = ((held[:, 0] - rows.scores) ** 2).mean(axis=2)
        errors = squares.mean(axis=1)
        best = int(np.flatnonzero(errors <= errors.min() + 1e-12)[-1])
        better = np.bincount(documents, squares[-1] - squares[best])
        if better.sum() <= ONE_SIDED * np.sqrt((better**2).sum()):
            best = len(sizes) - 1
        return held[best], sizes[best]

    def _take(self, chosen: Any, value: float, note: str) -> None:  # noqa: ARG002 - not kept
        self.price_, self.note_ = chosen.price_, note

    def _at(self, price: float) -> KnnQuery:
        other = copy(self)
        other.price_, other.note_ = price, ""
        return other

    def _reason(self, observation: Observation, to: int) -> str:
        if observation.tier < 0:
            return f"questions like it go to tier {to}"
        return super()._reason(observation, to)


def _route(expected: FloatArray, price: float, prices: FloatArray) -> IntArray:
    """(n,) the tier that is best at a price, the first of equals; at an end one tier for all."""
    score, cost = expected
    if price >= prices[0]:
        return np.zeros(len(score), dtype=np.intp)
    if price <= prices[-1]:
        return np.full(len(score), score.shape[1] - 1)
    # what differs by rounding is equal
    worth = np.round(score - price * cost, 9)
    return np.asarray(worth.argmax(axis=1))


def _prices(expected: FloatArray) -> FloatArray:
    """Falling prices: between those at which a question's tier changes, and one beyond each end."""
    edges = []
    for own_score, own_cost in zip(*expected.tolist(), strict=True):
        corners = envelope(list(zip(own_cost, own_score, strict=True)))
        edges += [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(corners)]
    unit = max(edges, default=1.0)
    # expectations that differ by rounding change together: no price may lie between them
    worth = np.unique(np.round(np.array([0.0, *edges]) / unit, 9)) * unit
    between = common.thinned((worth[:-1] + worth[1:]) / 2, common.SWEEP - 2)
    return np.concatenate([[worth[-1] + unit], between[::-1], [-unit]])


def _vectors(text: Any, rows: int, width: int) -> HalfArray:
    try:
        data = base64.b64decode(common.text(text), validate=True)
    except binascii.Error as err:
        raise ValueError(f"vectors: {err}") from err
    if len(data) != 2 * rows * width or not rows:
        raise ValueError(f"vectors of {len(data)} bytes for {rows} questions of width {width}")
    made = np.frombuffer(data, dtype="<f2").reshape(rows, width).astype(np.float16)
    if not np.isfinite(made).all():
        raise ValueError("a vector is not finite")
    return made
