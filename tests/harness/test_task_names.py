"""Names that the harness has too: its own for other models, ours for the cascade and our groups."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from processes import environment

_SCRIPT = """
import json
import lm_eval.models
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

manager = TaskManager()
built = []

class Factory:
    def build(self, entry, overrides, registry):
        names = (entry.name, "coqa", "qasper")
        built.append([str(registry[n].yaml_path) for n in names if n in registry])
        return []

manager._factory = Factory()

def simple_evaluate(lm, name):
    manager.load([name])

class Other(LM):
    loglikelihood = loglikelihood_rolling = generate_until = None

Ours = type("Ours", (Other,), {"__module__": "automix_eval.harness.model"})
for lm, name in ((Other(), "coqa"), (Ours(), "coqa"), (Other(), "automix"), (Other(), "coqa"),
                 (Other(), "automix_coqa")):
    simple_evaluate(lm, name)
print(json.dumps(built))
"""


@pytest.fixture(scope="module")
def built() -> list[Any]:
    """Which files tasks and their registry were of, in five runs of one task manager."""
    run = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment())
    assert "overrides existing task" not in done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_other_models_keep_the_harnesss_tasks(built: list[Any]) -> None:
    """Before and after a run of ours, with the same task manager."""
    for run in (built[0], built[3]):
        assert "lm_eval/tasks/coqa" in run[0]


@pytest.mark.slow
def test_the_cascade_and_our_groups_mean_ours(built: list[Any]) -> None:
    """The cascade by the plain name; everybody by the group's or the name with our prefix."""
    assert built[1][0].endswith("tasks/coqa/coqa.yaml")
    assert "lm_eval/" not in built[1][0]
    assert built[2][0].endswith("tasks/automix.yaml")
    assert all("lm_eval/" not in path for path in built[2][1:])
    assert built[4][0].endswith("tasks/coqa/automix_coqa.yaml")
