"""Gates in pytest: ``pytest --automix-results DIR`` gives the fixtures of finished runs.

A team that evaluates a change of prompt or model in CI writes what must hold::

    def test_the_cascade_still_pays(automix_run):
        assert automix_run.delta_ibc("qasper").low > 0
        assert automix_run.holds("qasper", share=0.95, confidence=0.9)

``low`` and ``high`` are the ends of the 95 % interval; ``holds`` asks whether the questions show,
at that confidence, that 95 % of the LLM's quality is kept. A figure that is undefined fails the
test with its reason. Without ``--automix-results`` tests that ask for the fixtures are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # pytest loads this module in every project that has the package: nothing slow up here
    from automix_eval.report.gate import GatedRun, GatedRuns


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("automix", "automix-eval: gates on the figures of finished runs")
    group.addoption(
        "--automix-results",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder with results of the cascade; may be repeated",
    )
    group.addoption(
        "--automix-baseline",
        action="append",
        default=[],
        metavar="NAME",
        help="also replay this meta-verifier, as automix-eval report --baseline",
    )
    group.addoption(
        "--automix-costs", metavar="PRICES", help="prices, as automix-eval report --costs"
    )


@pytest.fixture(scope="session")
def automix_runs(request: pytest.FixtureRequest) -> GatedRuns:
    """All runs below the folders of ``--automix-results``, oldest first."""
    folders = request.config.getoption("--automix-results")
    if not folders:
        pytest.skip("no --automix-results DIR was given")
    from automix_eval.analysis.gather import Settings, assemble
    from automix_eval.costs.from_config import parse_costs
    from automix_eval.report.gate import GatedRuns
    from automix_eval.safety.errors import AutoMixError

    costs = request.config.getoption("--automix-costs")
    try:
        settings = Settings(
            costs=parse_costs(costs) if costs else None,
            baselines=tuple(request.config.getoption("--automix-baseline")),
        )
        return GatedRuns.of(assemble(folders, settings))
    except AutoMixError as err:
        pytest.fail(f"--automix-results: {err}", pytrace=False)


@pytest.fixture(scope="session")
def automix_run(automix_runs: GatedRuns) -> GatedRun:
    """The only run below the folders; with several, ask ``automix_runs`` for one by its label."""
    if len(automix_runs) != 1:
        names = ", ".join(f"{r.run_id} ({r.label})" for r in automix_runs)
        pytest.fail(
            f"automix_run needs one run, and there are {len(automix_runs)}: {names}. Use "
            "automix_runs['RUN_ID'], a label that one of them has, or automix_runs[-1], the newest",
            pytrace=False,
        )
    return automix_runs.runs[0]
