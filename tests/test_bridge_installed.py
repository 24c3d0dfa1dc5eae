"""The bridge as an environment meets it: installed beside the real lm-evaluation-harness."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from fake_harness import ROOT, TARGET, TASKS

BRIDGE_FILES = ("_automix_bridge.py", "automix_eval_bridge.pth")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the bridge installed, which sees this one's packages and the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    for name in BRIDGE_FILES:
        shutil.copy(ROOT / name, site)
    # A plain path in a .pth file does not run the .pth files over there.
    lines = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (site / "parent.pth").write_text("\n".join(lines), encoding="utf-8")
    # What an editable install of another layout may leave; it has no __init__.py.
    (site / "automix_eval/tasks/coqa").mkdir(parents=True)
    (site / "automix_eval/tasks/coqa/coqa.yaml").write_text("task: stale\n", encoding="utf-8")
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("flag", "expected"), [("-S", False), ("-I", True), ("-E", True), ("-Werror", True)]
)
def test_interpreter_flags(installed: Path, flag: str, expected: bool) -> None:
    """Without site the bridge is absent; isolated or strict interpreters load it in silence."""
    script = "import sys; print('_automix_bridge' in sys.modules)"
    done = subprocess.run(
        [installed, flag, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def test_a_line_left_behind_without_its_module_is_silent(tmp_path: Path) -> None:
    """Where only the .pth file is left of an uninstalled package, interpreters start in silence."""
    venv.create(tmp_path, symlinks=True, with_pip=False)
    (site,) = (tmp_path / "lib").glob("python*/site-packages")
    shutil.copy(ROOT / "automix_eval_bridge.pth", site)
    script = "import sys; print('_automix_bridge' in sys.modules)"
    run = [tmp_path / "bin" / "python", "-I", "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
    # and the same line, beside its module, imports it
    shutil.copy(ROOT / "_automix_bridge.py", site)
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.slow
def test_the_real_harness(installed: Path, tmp_path: Path) -> None:
    """lm_eval lists our model and tasks beside all of its own, and the user's folder wins."""
    pytest.importorskip("lm_eval")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/coqa.yaml").write_text("task: coqa\ndataset_path: none\n", encoding="utf-8")
    script = f"""
import json, sys, lm_eval.models
from pathlib import Path
from lm_eval.api.registry import model_registry
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
import lm_eval.tasks
builtin = TaskIndex().build([Path(lm_eval.tasks.__file__).parent])
everything = TaskManager()
ours = TaskManager(include_defaults=False)
again = TaskManager(include_defaults=False, include_path={str(TASKS)!r})
mine = TaskManager(include_defaults=False, include_path={str(tmp_path / "mine")!r})
print(json.dumps(dict(
    target=dict(model_registry.items()).get("automix"),
    models_lost=sorted(set(lm_eval.models.MODEL_MAPPING) - set(model_registry)),
    tasks_lost=sorted(set(builtin) - set(everything.all_tasks)),
    ours=ours.all_tasks,
    ours_lost=sorted(set(ours.all_tasks) - set(everything.all_tasks)),
    again=again.all_tasks,
    coqa=[str(m.task_index["coqa"].yaml_path) for m in (everything, ours, again, mine)],
    mine=mine.include_path,
    heavy=[n for n in ("automix_eval", "automix_eval.harness.model") if n in sys.modules],
)))
"""
    # the helpers spare the parsing of the harness's files
    kept = os.environ | {"PYTHONPATH": str(Path(__file__).parent / "helpers")}
    run = [installed, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=kept)
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["target"] == TARGET
    assert facts["models_lost"] == facts["tasks_lost"] == facts["ours_lost"] == facts["heavy"] == []
    assert {"coqa", "qasper"} <= set(facts["ours"])
    assert facts["again"] == facts["ours"]
    own = str(TASKS / "coqa/coqa.yaml")
    theirs, *rest = facts["coqa"]
    assert theirs.endswith("lm_eval/tasks/coqa/default.yaml")
    assert rest == [own, own, str(tmp_path / "mine/coqa.yaml")]
    assert {"automix_coqa", "automix_qasper"} <= set(facts["ours"])
    assert facts["mine"] == str(tmp_path / "mine")
    # Nothing of the harness's is replaced, and so nothing said.
    assert "overrides existing task" not in done.stderr


@pytest.mark.slow
def test_the_package_brings_the_bridge_where_no_site_folder_does() -> None:
    """From a folder of ``pip install --target`` commands run; the doctor says what does not."""
    pytest.importorskip("lm_eval")
    folders = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    script = f"""
import sys
sys.path += {folders}
from automix_eval.commands import doctor
from lm_eval.tasks import TaskManager
print([f.state for f in doctor._plugin()], "coqa_demo" in TaskManager().all_tasks)
"""
    run = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == "['note'] True\n"
