"""Rows of the leaderboard: what a method is made of, and its figures from one bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from automix_eval.analysis.bootstrap_table import (
    Array,
    BootstrapTable,
    RoutingColumns,
    Vector,
    first_undefined,
    pooled,
    seed_weights,
)
from automix_eval.analysis.curve_figures import (
    Curve,
    EndPoints,
    FittedCurve,
    benefit,
    lift,
    random_quality,
    spread_of,
)
from automix_eval.analysis.figures import (
    GAP_SHARES,
    NO_VERIFIER,
    QUALITY_SHARES,
    THE_SLM,
    CurvePoint,
    Figure,
    MethodFigures,
    Region,
    Spread,
    TierShare,
)
from automix_eval.analysis.references import References, ScoredQuestions, VerifierQuality
from automix_eval.analysis.replayed import NUM_REGIONS, replayed
from automix_eval.analysis.routed_paths import Method, MethodOnRun
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes

NO_CHAIN = Undefined("a run of one model alone: there is no SLM and no LLM to compare it with")
_NOT_IN_EVERY_RUN = Undefined("the first tier was not verified in every run")
_ONE_POINT = Undefined("the method has one operating point, which lies outside this region")


@dataclass(slots=True)
class _OnRun:
    part: MethodOnRun
    routing: RoutingColumns
    references: References | None
    curve: list[RoutingColumns]
    regions: list[RoutingColumns | Undefined]
    path: list[RoutingColumns]

    def alone(self, name: str) -> Vector:
        """A figure of this seed alone."""
        if name == "delta_ibc":
            if self.references is None:
                return NO_CHAIN
            gained = self.references.gained(self.routing)
            return lift(gained, self.routing.mean("cost"), self.references.ends())
        if name != "escalation_rate":
            return self.routing.mean(name)
        if "final 0" not in self.routing.places:
            return NO_CHAIN
        return _rest(self.routing.mean("final 0"))

    def start(self) -> int:
        """The tier whose confidence is read first: that before the last which is asked most."""
        last = self.references.tiers.last if self.references else 0
        names = [n for t in range(last) if (n := f"asked {t}") in self.routing.places]
        means = (self.routing.mean(name) for name in names)
        shares = [0.0 if isinstance(m, Undefined) else float(m[0]) for m in means]
        return int(np.argmax(shares)) if shares else 0


@dataclass(slots=True)
class MethodScore:
    """A method's columns, registered before the bootstrap and read after it.

    Attributes:
        method: The method.
        weights: (1 + B, S) of its seeds.
        table: Holds its columns.
    """

    method: Method
    weights: Array
    table: BootstrapTable
    _parts: list[_OnRun] = field(default_factory=list)
    _figures: MethodFigures | None = None

    @classmethod
    def of(
        cls, table: BootstrapTable, method: Method, references: Sequence[References | None]
    ) -> MethodScore:
        """Register a method, with what each of its parts is compared with."""
        weights = seed_weights(max(1, len(method.parts)), table.resamples, table.seed)
        row = cls(method, weights, table)
        point, on_curve = ("quality", "cost"), ("quality", "cost", "final 0")
        # where there is a path, no figure with an interval is one of the curve
        undrawn = on_curve if method.has_path else on_curve[2:]
        for part, own in zip(method.parts, references, strict=True):
            tiers = range(own.tiers.last + 1) if own and part.in_chain else ()
            names = [*point, *(f"{k} {t}" for t in tiers for k in ("asked", "final"))]
            curve = [RoutingColumns.of(table, r, on_curve, undrawn) for _, r in part.curve]
            regions = [
                c if isinstance(c, Undefined) else RoutingColumns.of(table, c[1], point)
                for c in part.regions
            ]
            routing = RoutingColumns.of(table, part.routing, names)
            steps = [RoutingColumns.of(table, r, (*point, "calls")) for r in part.path]
            row._parts.append(_OnRun(part, routing, own, curve, regions, steps))
        return row

    @classmethod
    def of_routers(
        cls,
        routers: Sequence[MetaVerifier],
        test: Outcomes,
        seed: int,
        resamples: int,
        label: str = "",
        whole_range: bool = True,
        fitting: Sequence[Outcomes | None] = (),
    ) -> MethodScore:
        """Score a router on outcomes of every tier; no model is called.

        Args:
            routers: Fitted, or of a kind that learns nothing; one a seed.
            test: The questions; those of one document are resampled together.
            seed: Of the bootstrap.
            resamples: Number of resamples.
            label: The router's name.
            whole_range: Whether to follow the policies of its range too.
            fitting: The questions each was fitted on; empty or None where they are unknown.
        """
        questions = ScoredQuestions.of(test)
        references = References.of_questions(questions, resamples, seed)
        parts = []
        for router, rows in zip(routers, fitting or [None] * len(routers), strict=True):
            one = replayed(router, test, questions.tiers, rows, whole_range)
            parts += [MethodOnRun(w, None, "", -1, one.curve, (), one.path) for w in one.ways]
        method = Method(label, "replay", label, "", tuple(parts))
        return cls.of(references.table, method, [references] * len(parts))

    # ------------------------------------------------------------- vectors

    def mean(self, name: str) -> Vector:
        """A figure of the method as a vector."""
        return self._pooled(lambda p: p.routing.mean(name))

    def gained(self) -> Vector:
        """The mean score for what is gained by it: :meth:`References.gained`."""
        return self._pooled(lambda p: p.references.gained(p.routing) if p.references else NO_CHAIN)

    def each(self, name: str) -> list[Vector]:
        """``quality``, ``cost``, ``escalation_rate`` or ``delta_ibc`` of every seed alone."""
        return [p.alone(name) for p in self._parts]

    def ends(self) -> EndPoints:
        """Quality and cost of the SLM and of the LLM on the same questions."""

        def of(name: str) -> Vector:
            return self._pooled(
                lambda p: NO_CHAIN if p.references is None else getattr(p.references.ends(), name)
            )

        return EndPoints(*map(of, EndPoints._fields))

    def delta_ibc(self) -> Vector:
        """Delta IBC as a vector."""
        ends = self.ends()
        return first_undefined(*ends) or lift(self.gained(), self.mean("cost"), ends)

    def oracle(self) -> list[tuple[Array, Array, Array]] | Undefined:
        """(quality, cost, escalation) vectors of the oracle's corners."""
        sets = [p.references for p in self._parts]
        reason = next((NO_CHAIN if e is None else e.no_oracle for e in sets
                       if e is None or e.no_oracle), None)  # fmt: skip
        if reason or not sets:
            return reason or NO_CHAIN
        oracles = [e.oracle for e in sets if e]
        corners = []
        for i in range(max(map(len, oracles))):  # a seed stays at its last, the cheapest
            held = self._means([o[: i + 1][-1] for o in oracles], "quality", "cost", "final 0")
            if reason := first_undefined(*held):
                return reason
            q, c, f = map(np.asarray, held)
            corners.append((q, c, 1 - f))
        return corners

    def curve(self) -> list[tuple[float | None, Vector, Vector, Vector]]:
        """(parameter, quality, cost, escalation) of the range, where all seeds share it."""
        lists = [[c for c, _ in p.part.curve] for p in self._parts]
        if not lists or any(one != lists[0] for one in lists):
            return []
        found = []
        curves = zip(*(p.curve for p in self._parts), strict=True)
        for parameter, one in zip(lists[0], curves, strict=True):
            q, c, f = self._means(one, "quality", "cost", "final 0")
            found.append((parameter, q, c, _rest(f)))
        return found

    def _means(self, one: Sequence[RoutingColumns], *names: str) -> list[Vector]:
        """Figures of a routing that every part has."""
        return [pooled([columns.mean(n) for columns in one], self.weights) for n in names]

    def _pooled(self, value: Callable[[_OnRun], Vector]) -> Vector:
        if self.method.missing:
            return self.method.missing
        return pooled([value(p) for p in self._parts], self.weights)

    # ------------------------------------------------------------- figures

    def figures(self) -> MethodFigures:
        """The row of the leaderboard; the first call of any row draws the bootstrap."""
        self._figures = self._figures or self._compute()
        return self._figures

    def _compute(self) -> MethodFigures:
        figure = self.table.figure
        method, ends = self.method, self.ends()
        quality, cost = self.mean("quality"), self.mean("cost")
        curve = self.curve() or [(None, quality, cost, self._escalation())]
        along = self._along(ends)
        shown: Curve | FittedCurve | Undefined = along
        if not method.has_path:
            shown = Curve.of([*((c, q) for _, q, c, _ in curve), (cost, quality)], ends)

        def cost_of(share: float) -> Figure:
            return figure(shown if isinstance(shown, Undefined) else shown.cost_of_share(share))

        def calls_of(share: float) -> Figure:
            return figure(along if isinstance(along, Undefined) else along.calls_of_gap(share))

        benefit_area, correlation = self._benefit()
        gain, delta = benefit(self.gained(), cost, *ends[:2]), self.delta_ibc()
        if method.name == "replay:always_slm":
            gain = delta = THE_SLM
        return MethodFigures(
            name=method.name,
            kind=method.kind,
            label=method.label,
            verifier=method.verifier,
            runs=tuple(p.run_id for p in method.runs),
            seeds=tuple(p.seed for p in method.runs),
            quality=figure(quality),
            cost=figure(cost),
            escalation_rate=figure(self._escalation()),
            tiers=self._tiers(),
            ibc=figure(gain),
            delta_ibc=figure(delta),
            random_quality=figure(random_quality(cost, ends)),
            oracle_quality=figure(self.oracle_quality()),
            regions=self._regions(ends),
            regions_mean=self._regions_mean(ends),
            cost_at=tuple((share, cost_of(share)) for share in QUALITY_SHARES),
            area=figure(shown if isinstance(shown, Undefined) else shown.area()),
            apgr=figure(along if isinstance(along, Undefined) else along.recovered()),
            cpt=tuple((share, calls_of(share)) for share in GAP_SHARES),
            calls_saved=figure(self._calls_saved()),
            **self._verifier()._asdict(),
            benefit_auroc=benefit_area,
            benefit_correlation=correlation,
            curve=_points(curve, quality, cost),
            by_seed=self._by_seed(),
            note=method.note,
        )

    def _along(self, ends: EndPoints) -> FittedCurve | Undefined:
        """The way from the SLM to the LLM; through the method's own point where it has no range."""
        if not self.method.has_path:
            calls = _rest(self._calls_saved())
            return FittedCurve.of([(self.mean("cost"), self.mean("quality"), calls)], ends)
        paths = zip(*(p.path for p in self._parts), strict=True)
        steps = [self._means(one, "cost", "quality", "calls") for one in paths]
        return FittedCurve.of([(c, q, u) for c, q, u in steps], ends)

    def _escalation(self) -> Vector:
        return _rest(self._share("final", 0))

    def _calls_saved(self) -> Vector:
        last = next((p.references.tiers.last for p in self._parts if p.references), None)
        return _rest(
            self.method.missing or (NO_CHAIN if last is None else self._share("asked", last))
        )

    def _share(self, kind: str, tier: int) -> Vector:
        name = f"{kind} {tier}"
        if any(name not in p.routing.places for p in self._parts):
            return NO_CHAIN
        return self.mean(name)

    def _tiers(self) -> tuple[TierShare, ...]:
        figure = self.table.figure
        last = next((p.references.tiers.last for p in self._parts if p.references), -1)
        shares = []
        for tier in range(last + 1):
            asked, final = self._share("asked", tier), self._share("final", tier)
            if isinstance(asked, Undefined) or isinstance(final, Undefined):
                shares.append(TierShare(tier, figure(asked), figure(final), figure(asked)))
                continue
            reached = asked > 0
            on = np.where(reached, 1 - final / np.where(reached, asked, 1), np.nan)
            reason = None if reached[0] else Undefined("this tier was never asked")
            if tier == last:
                reason = Undefined("there is no tier after the last")
            shares.append(TierShare(tier, figure(asked), figure(final), figure(reason or on)))
        return tuple(shares)

    def oracle_quality(self) -> Vector:
        """Quality of an oracle at the same cost."""
        corners, cost = self.oracle(), self.mean("cost")
        if isinstance(corners, Undefined):
            return corners
        curve = Curve.of([(c, q) for q, c, _ in corners], self.ends())
        if isinstance(cost, Undefined):
            return cost
        return curve if isinstance(curve, Undefined) else curve.quality(cost)

    def _read(self) -> list[tuple[References, int]]:
        """What holds the confidences of each seed, and the tier of those read first; alike once."""
        ends = [(p.references, p.start()) for p in self._parts if p.references]
        if not self.method.verifier or len(ends) < len(self._parts):
            return []
        return ends[:1] if len({(id(e), start) for e, start in ends}) == 1 else ends

    def _verifier(self) -> VerifierQuality:
        ends = self._read()
        if len(ends) < 2:
            return ends[0][0].verifier(ends[0][1]) if ends else VerifierQuality.without(NO_VERIFIER)
        seeds = [e.cells[start].vectors() for e, start in ends if start in e.cells]
        if len(seeds) < len(ends):
            return VerifierQuality.without(_NOT_IN_EVERY_RUN)
        figures = (self.table.figure(pooled(v, self.weights)) for v in zip(*seeds, strict=True))
        return VerifierQuality(*figures)

    def _benefit(self) -> tuple[Figure, Figure]:
        if not (ends := self._read()):
            return Figure(NO_VERIFIER), Figure(NO_VERIFIER)
        each = [e.benefit(start) for e, start in ends]
        (area, correlation), values = each[0], [c.value for _, c in each]
        if len(ends) == 1 or any(isinstance(v, Undefined) for v in values):
            return area, correlation
        vectors = [e.benefit_cells[start].vectors()[0] for e, start in ends]
        mean = float(np.mean(np.asarray(values, dtype=np.float64)))
        return self.table.figure(pooled(vectors, self.weights)), Figure(mean)

    # ------------------------------------------------------------- regions and seeds

    def _region_lift(self, index: int, ends: EndPoints) -> Vector:
        """Delta IBC of the policies chosen for one region."""
        low, high = ends.regions(NUM_REGIONS)[index : index + 2]
        cost = self.mean("cost")
        if not all(p.regions for p in self._parts):
            if isinstance(cost, Undefined) or not low < cost[0] <= high:
                return first_undefined(cost) or _ONE_POINT
            return self.delta_ibc()

        chosen = [(p.references, p.regions[index]) for p in self._parts]
        pairs = [(c, c) if isinstance(c, Undefined) else (r.gained(c), c.mean("cost"))
                 for r, c in chosen if r]  # fmt: skip
        quality, cost = (pooled(same, self.weights) for same in zip(*pairs, strict=True))
        return lift(quality, cost, ends)

    def _regions(self, ends: EndPoints) -> tuple[Region, ...]:
        if first_undefined(*ends) or self.method.missing:
            return ()
        at, figure = ends.regions(NUM_REGIONS), self.table.figure
        return tuple(
            Region(at[i], at[i + 1], figure(self._region_lift(i, ends)), self._parameter(i))
            for i in range(NUM_REGIONS)
        )

    def _parameter(self, region: int) -> float | None:
        chosen = [p.part.regions[region] if p.part.regions else None for p in self._parts]
        values = {c[0] for c in chosen if c is not None and not isinstance(c, Undefined)}
        return values.pop() if len(values) == 1 else None

    def _regions_mean(self, ends: EndPoints) -> Figure:
        if reason := first_undefined(*ends) or self.method.missing:
            return Figure(reason)
        lifts = [self._region_lift(i, ends) for i in range(NUM_REGIONS)]
        empty = [i for i, one in enumerate(lifts) if isinstance(one, Undefined)]
        if empty:
            which = ", ".join(str(i + 1) for i in empty)
            number = f"{len(empty)} of the {NUM_REGIONS} cost regions"
            return Figure(Undefined(f"delta IBC is undefined in {number} ({which})"))
        return self.table.figure(np.mean([np.asarray(v) for v in lifts], axis=0))

    def _by_seed(self) -> dict[str, Spread]:
        """Mean, std (ddof 0), minimum and maximum over seeds: the paper's first protocol."""
        if len(self.method.runs) < 2:
            return {}
        found = {}
        for name in ("quality", "cost", "escalation_rate", "delta_ibc"):
            each = self.each(name)
            known = np.array([float(v[0]) for v in each if not isinstance(v, Undefined)])
            reasons = tuple(
                f"seed {p.part.seed} (run {p.part.run_id}): {v.reason}"
                for p, v in zip(self._parts, each, strict=True)
                if isinstance(v, Undefined)
            )
            if len(known):
                found[name] = Spread(*spread_of(known), len(known), reasons)
        return found


def _rest(share: Vector) -> Vector:
    """The share of all others."""
    return share if isinstance(share, Undefined) else 1 - share


def _points(
    curve: list[tuple[float | None, Vector, Vector, Vector]], quality: Vector, cost: Vector
) -> tuple[CurvePoint, ...]:
    found = []
    known = not isinstance(cost, Undefined) and not isinstance(quality, Undefined)
    point = (float(np.asarray(cost)[0]), float(np.asarray(quality)[0])) if known else None
    for parameter, q, c, up in curve:
        if isinstance(q, Undefined) or isinstance(c, Undefined):
            continue
        rate = None if isinstance(up, Undefined) else float(up[0])
        chosen = (float(c[0]), float(q[0])) == point
        found.append(CurvePoint(float(c[0]), float(q[0]), rate, parameter, chosen))
    return tuple(sorted(found, key=lambda p: (p.cost, p.quality, p.parameter or 0.0)))
