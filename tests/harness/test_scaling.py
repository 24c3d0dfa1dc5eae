"""Laws of the simulation of benchmarks/bench_scaling.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulation() -> Iterator[Any]:
    """The module, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import simulation

        yield simulation


@given(number=st.integers(1, 300), ranks=st.integers(1, 5), block=st.integers(1, 64))
def test_without_escalation_the_largest_share_decides(
    simulation: Any, number: int, ranks: int, block: int
) -> None:
    """The wall time is the own model's for the rank that has most questions."""
    site = simulation.Site(
        slm=0.5, own=0.1, llm=9.0, slots=2, in_flight=2, escalated=0.0, block=block, ready=3.0
    )
    found = simulation.simulate(number, ranks, site)
    assert found.wall == pytest.approx(3.0 + 0.6 * -(-number // ranks))
    assert found.server == 0.0


@given(number=st.integers(1, 300), ranks=st.integers(1, 5), slots=st.integers(1, 8))
def test_a_server_is_never_faster_than_its_rate(
    simulation: Any, number: int, ranks: int, slots: int
) -> None:
    """With a model that takes no time it works at its rate, up to the last round."""
    site = simulation.Site(
        slm=0.0, own=0.0, llm=2.0, slots=slots, in_flight=300, escalated=1.0, block=300
    )
    found = simulation.simulate(number, ranks, site)
    assert found.wall == pytest.approx(2.0 * -(-number // slots))
    assert found.server == pytest.approx(number * 2.0 / slots / found.wall)


def test_in_flight_bounds_what_one_rank_gets(simulation: Any) -> None:
    """A rank with two requests in flight uses two of eight slots; more of them, or ranks, help."""
    site = simulation.Site(
        slm=0.0, own=0.0, llm=1.0, slots=8, in_flight=2, escalated=1.0, block=1000
    )
    assert simulation.simulate(80, 1, site).wall == pytest.approx(40.0)
    assert simulation.simulate(80, 1, replace(site, in_flight=8)).wall == pytest.approx(10.0)
    assert simulation.simulate(80, 4, site).wall == pytest.approx(10.0)


def test_a_rank_waits_for_its_block_and_for_no_other_rank(simulation: Any) -> None:
    """One rank takes model and server in turn; two ranks use both at once."""
    site = simulation.Site(slm=1.0, own=0.0, llm=1.0, slots=1, in_flight=9, escalated=1.0, block=10)
    alone = simulation.simulate(40, 1, site)
    assert alone.wall == pytest.approx(80.0)
    assert alone.bottleneck == "ranks and server in turn"
    both = simulation.simulate(40, 2, site)
    assert both.wall < 60.0
    assert both.bottleneck == "server"


def test_the_same_seed_gives_the_same_run(simulation: Any) -> None:
    """What is drawn is drawn from the seed alone."""
    site = simulation.Site(
        slm=0.1, own=0.0, llm=1.0, slots=3, in_flight=4, escalated=0.4, block=16, spread=0.5
    )
    walls = [simulation.simulate(200, 3, site, seed=seed).wall for seed in (1, 1, 2)]
    assert walls[0] == walls[1] != walls[2]
