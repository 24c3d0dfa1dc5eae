"""The POMDP's exact solution: against brute force, against pomdp-py, and its family of policies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from automix_eval.meta_verifiers.pomdp.costs import Levels, one_level
from automix_eval.meta_verifiers.pomdp.density import Axis
from automix_eval.meta_verifiers.pomdp.family import family, play, replay
from automix_eval.meta_verifiers.pomdp.problem import PomdpCells, Problem
from automix_eval.meta_verifiers.pomdp.solve import Solver, StateReward, subsets


def problem(num_tiers, num_symbols, rng, num_levels=1):
    """A random problem."""
    shape = (num_symbols,) * (num_tiers - 1)
    axis = Axis(np.linspace(0, 1, num_symbols)[1:-1], np.zeros(num_symbols), np.zeros(num_symbols))
    pairs = num_tiers - 1
    return Problem(
        (axis,) * pairs,
        rng.dirichlet(np.ones(num_symbols**pairs)).reshape(shape),
        rng.random((num_tiers, *shape)),
        np.moveaxis(rng.dirichlet(np.ones(3), size=(pairs, *shape)), -1, 1),
        np.ones((pairs, 3), dtype=int),
        np.zeros((pairs, 3, 2)),
        np.cumsum(rng.random(num_tiers)),
        tuple(levels(t, num_tiers, num_levels, rng) for t in range(pairs)),
    )


def levels(tier, num_tiers, number, rng):
    """Random cost levels; dearer ones make every tier ahead dearer, and means are kept."""
    if number == 1:
        return one_level(num_tiers)
    shares = rng.dirichlet(np.ones(number))
    ratios = np.ones((number, num_tiers))
    ahead = np.cumsum(rng.random((number, num_tiers - tier - 1)), axis=0)
    ratios[:, tier + 1 :] = ahead / (shares @ ahead)
    return Levels(np.arange(1.0, number), shares, ratios)


def grid_cells(p):
    """Every type, at every level of its first tier, as a question of its own weight, to play on."""
    pairs = p.num_tiers - 1
    both = np.indices((*p.mass.shape, len(p.levels[0]))).reshape(pairs + 1, -1).T
    symbols, level = both[:, :pairs], both[:, pairs]
    at = tuple(symbols.T)
    mass = p.mass[at] * p.levels[0].shares[level]
    scores = mass[:, None] * np.stack([table[at] for table in p.scores], axis=1)
    costs = mass[:, None] * p.costs * p.levels[0].ratios[level]
    return PomdpCells(symbols, np.stack([level] * pairs, axis=1), mass, scores, costs)


def every_policy(num_tiers, num_symbols, num_levels=1):
    """All deterministic policies, as tables of actions."""
    shapes = {s: (num_levels,) * bool(s) + (num_symbols,) * len(s) for s in subsets(num_tiers)}
    nodes = [(s, i) for s, shape in shapes.items() for i in np.ndindex(shape)]
    options = [range(max(s[-1] if s else 0, 0), num_tiers) for s, _ in nodes]
    for choice in itertools.product(*options):
        tables = {s: np.zeros(shape, dtype=np.uint8) for s, shape in shapes.items()}
        for (s, i), a in zip(nodes, choice, strict=True):
            tables[s][i] = a
        yield tables


@pytest.mark.parametrize(
    ("num_tiers", "num_symbols", "num_levels"), [(2, 3, 1), (3, 2, 1), (2, 3, 3), (2, 2, 4)]
)
def test_no_policy_is_worth_more(num_tiers, num_symbols, num_levels):
    """Brute force over all deterministic policies finds none better, at any lambda."""
    rng = np.random.default_rng(3)
    p = problem(num_tiers, num_symbols, rng, num_levels)
    cells, solver = grid_cells(p), Solver(p)
    points = np.array(
        [replay(t, cells)[:2] for t in every_policy(num_tiers, num_symbols, num_levels)]
    )
    for x in (0.0, 0.05, 0.2, 0.5, 2.0):
        found = solver.solve(x)
        assert found.fixed + x * found.slope == pytest.approx((points @ [1.0, -x]).max())
        score, cost, _ = replay(found.actions, cells)
        assert (score, cost) == pytest.approx((found.fixed, -found.slope))


def test_pomdp_py_and_the_exact_solver_agree():
    """Value iteration takes the same action, at the start and after every observation."""
    model = pytest.importorskip("automix_eval.meta_verifiers.pomdp.pomdp_py_model")
    rng = np.random.default_rng(7)
    for _ in range(6):
        p, x = problem(2, 2, rng), rng.random() / 2
        actions = Solver(p).solve(x).actions
        assert model.plan(model.make_agent(p, x), 2) == int(actions[()])
        for symbol in range(2):
            agent = model.make_agent(p, x)
            model.observe(agent, 0, symbol)
            to = model.plan(agent, 1)
            assert (0 if to is None else to) == int(actions[0,][0, symbol])


@pytest.mark.slow
def test_pomdp_py_agrees_on_three_tiers():
    """Two steps ahead, from the first tier of three."""
    model = pytest.importorskip("automix_eval.meta_verifiers.pomdp.pomdp_py_model")
    rng = np.random.default_rng(8)
    for _ in range(3):
        p, x = problem(3, 2, rng), rng.random() / 2
        actions = Solver(p).solve(x).actions
        for symbol in range(2):
            agent = model.make_agent(p, x)
            model.observe(agent, 0, symbol)
            to = model.plan(agent, 2)
            assert (0 if to is None else to) == int(actions[0,][0, symbol])


def test_a_tie_keeps():
    """Equal scores and no cost: the answer is kept, and the start is the first tier."""
    p = problem(3, 4, np.random.default_rng(0))
    flat = Problem(
        p.axes, p.mass, np.full_like(p.scores, 0.1), p.states, p.state_counts, p.state_scores,
        np.zeros(3), p.levels,
    )  # fmt: skip
    actions = Solver(flat).solve(0.0).actions
    assert int(actions[()]) == 0
    assert (actions[0,] == 0).all()
    assert (actions[0, 1] == 1).all()


@pytest.mark.parametrize("rule", ["escalate", "keep"])
def test_a_rule_for_undefined_confidences_binds(rule):
    """The last symbol of the tier reached has its action fixed, whatever it is worth."""
    p = problem(3, 4, np.random.default_rng(1))
    for x in (0.0, 10.0):
        actions = Solver(p, undefined=rule).solve(x).actions
        for subset in ((0,), (1,), (0, 1)):
            kept = actions[subset][..., -1] == subset[-1]
            assert kept.all() if rule == "keep" else not kept.any()


def test_the_table_of_the_first_version_has_its_closed_form():
    """Escalate iff p_N (r - 100) > 100 p_G + 99 p_H, for every r."""
    p = problem(2, 40, np.random.default_rng(5))
    table = StateReward(
        keep=((0, 0, -1), (0, -1, -1)), escalate=((-100, -100, -100), (0, 0, -1))
    )  # fmt: skip  # columns Simple, Complex, Unsolvable
    good, needy, hopeless = p.states[0]
    solver = Solver(p, table)
    for r in (0.0, 50.0, 150.0, 400.0, 3000.0):
        actions = solver.solve(r).actions
        assert int(actions[()]) == 0
        expected = needy * (r - 100) > 100 * good + 99 * hopeless
        assert (actions[0,] == expected).all()


# --------------------------------------------------------------------------- the family


@pytest.mark.parametrize("num_tiers", [2, 3, 4])
def test_the_family_is_the_whole_frontier(num_tiers):
    """At any lambda some member is worth as much as the optimum there."""
    p = problem(num_tiers, 4, np.random.default_rng(2))
    solver = Solver(p)
    members = family(solver, 1e4, mixtures=False)
    points = np.array([(m.low.fixed, m.low.slope) for m in members])
    for x in np.geomspace(1e-3, 1e3, 60):
        best = solver.solve(x)
        value = best.fixed + x * best.slope
        assert (points @ [1.0, x]).max() == pytest.approx(value, abs=2e-3 * (1 + x))


def test_mixtures_fill_the_gaps_in_a_line():
    """Between neighbours score and cost are those of a draw, and no gap is wide."""
    solver = Solver(problem(2, 3, np.random.default_rng(4)))
    members = family(solver, 1e4, mixtures=True)
    mixed = [m for m in members if m.share]
    assert mixed
    assert all(0 < m.share < 1 for m in mixed)
    for m in mixed:
        tie = m.x
        worth = [s.fixed + tie * s.slope for s in (m.low, m.high)]
        assert worth[0] == pytest.approx(worth[1])
        assert solver.solve(tie).fixed + tie * solver.solve(tie).slope == pytest.approx(worth[0])


def test_play_pays_for_every_tier_on_the_way():
    """Tier 0, then 2 of 3: both are paid, the one skipped is not."""
    tables = {
        (): np.array(0, dtype=np.uint8),
        (0,): np.array([[2, 0]], dtype=np.uint8),
        (1,): np.array([[1, 1]], dtype=np.uint8),
        (0, 1): np.ones((1, 2, 2), dtype=np.uint8),
    }
    symbols = np.array([[0, 1], [1, 1]])
    final, cost = play(tables, symbols, np.zeros_like(symbols), np.array([[1.0, 10, 100]] * 2))
    assert final.tolist() == [2, 0]
    assert cost.tolist() == [101.0, 1.0]
