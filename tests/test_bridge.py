"""The bridge: what it adds to a harness without plugin discovery, and that it is inert elsewhere.

Scripts run in interpreters of their own, because the bridge acts on import. The fake harness needs
the standard library only, so those runs use ``-S`` and take milliseconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_harness import (
    DISCOVERS_TASKS,
    LOADS_PLUGINS,
    MANAGER,
    MODELS,
    REGISTRY,
    ROOT,
    TARGET,
    TASKS,
    answer,
    run,
    write_harness,
)


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bridge's module, with this process's import machinery restored afterwards."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, "_automix_bridge", raising=False)
    monkeypatch.syspath_prepend(str(ROOT))
    import _automix_bridge

    return _automix_bridge


def test_importing_the_bridge_imports_nothing_else() -> None:
    """Every interpreter of the environment pays for it, so it must import no other module."""
    script = f"""
import sys, json
sys.path.insert(0, {str(ROOT)!r})
before = set(sys.modules)
import _automix_bridge
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["_automix_bridge"]


def test_registers_after_the_builtin_models(tmp_path: Path) -> None:
    """The model joins the built-in ones under a lazy string target, and the finder is gone."""
    script = """
import json, lm_eval.models, lm_eval.tasks.manager
from lm_eval.api.registry import model_registry
left = [f for f in sys.meta_path if type(f).__name__ == "_Completer"]
print(json.dumps([list(model_registry.items()), len(left), "automix_eval" in sys.modules]))
"""
    models, left, imported = answer(run(script, write_harness(tmp_path), ROOT))
    assert models == [["hf", "builtin"], ["automix", TARGET]]
    assert left == 0
    assert not imported


@pytest.mark.parametrize(
    ("arguments", "scanned"),
    [
        ("", ["builtin", str(TASKS)]),
        ("include_defaults=False", [str(TASKS)]),
        ("include_path='/mine'", ["builtin", str(TASKS), "/mine"]),
        ("None, ('/mine', '/yours'), False", [str(TASKS), "/mine", "/yours"]),
        (f"include_path={str(TASKS)!r}", ["builtin", str(TASKS)]),
        (f"include_path=['/mine', {str(ROOT)!r}]", ["builtin", "/mine", str(ROOT)]),
    ],
)
def test_scans_our_tasks_once_and_the_users_last(
    tmp_path: Path, arguments: str, scanned: list[str]
) -> None:
    """Our tasks come after the built-in ones and before the user's, and never twice."""
    script = f"""
import json
from lm_eval.tasks.manager import TaskManager
print(json.dumps(TaskManager({arguments}).scanned))
"""
    assert answer(run(script, write_harness(tmp_path), ROOT)) == scanned


def test_arguments_are_logged_without_secrets(tmp_path: Path) -> None:
    """The harness's line with all arguments comes before any model; the value is not in it."""
    script = """
import io, json, logging, lm_eval.tasks.manager
logger, said = logging.getLogger("lm_eval.evaluator"), io.StringIO()
logger.addHandler(logging.StreamHandler(said))
logger.warning("Initializing %s, with arguments: %s", "x", {"llm.auth_token": "hunter2", "slm": 1})
logger.warning("Initializing x, with arguments: {'llm.auth_token':\\n 'hun\\nter2', 'slm': 1}")
logger.warning("generation_kwargs: %s", {"extra_headers": {"Key": "hunter2"}})
print(json.dumps(said.getvalue().splitlines()))
"""
    lines = answer(run(script, write_harness(tmp_path), ROOT))
    assert lines == [
        "Initializing x, with arguments: {'llm.auth_token': '***', 'slm': 1}",
        "Initializing x, with arguments: {'llm.auth_token':***, 'slm': 1}",
        "generation_kwargs: {'extra_headers': '***'}",
    ]


def test_task_manager_keeps_its_face(tmp_path: Path) -> None:
    """The user's include_path, the signature and the error of a wrong call stay the harness's."""
    script = """
import inspect, json
from lm_eval.tasks.manager import TaskManager
class Sub(TaskManager):
    def __init__(self): super().__init__(include_path="/mine", metadata={"a": 1})
try:
    TaskManager(nonsense=1)
except TypeError as error:
    wrong = str(error)
sub = Sub()
print(json.dumps([sub.include_path, sub.metadata, list(inspect.signature(TaskManager).parameters),
                  TaskManager().include_path, wrong]))
"""
    mine, metadata, names, nothing, wrong = answer(run(script, write_harness(tmp_path), ROOT))
    assert (mine, metadata, nothing) == ("/mine", {"a": 1}, None)
    assert names == ["verbosity", "include_path", "include_defaults", "metadata"]
    assert "unexpected keyword argument 'nonsense'" in wrong


@pytest.mark.parametrize("registry_aware", [False, True])
@pytest.mark.parametrize("manager_aware", [False, True])
def test_inert_where_the_harness_discovers(
    tmp_path: Path, registry_aware: bool, manager_aware: bool
) -> None:
    """Models and tasks are each left to a harness that discovers them itself."""
    harness = write_harness(
        tmp_path,
        registry=REGISTRY + LOADS_PLUGINS * registry_aware,
        manager=MANAGER + DISCOVERS_TASKS * manager_aware,
    )
    script = """
import json, lm_eval.models
from lm_eval.tasks.manager import TaskManager
from lm_eval.api.registry import model_registry
print(json.dumps(["automix" in model_registry, TaskManager().scanned]))
"""
    registered, scanned = answer(run(script, harness, ROOT))
    assert registered is not registry_aware
    assert scanned == (["builtin"] if manager_aware else ["builtin", str(TASKS)])


def test_a_taken_alias_is_left_alone(tmp_path: Path) -> None:
    """A harness that has an automix of its own keeps it, without an error."""
    models = MODELS + 'model_registry.register("automix", target="theirs")\n'
    script = """
import json, lm_eval.models
from lm_eval.api.registry import model_registry
print(json.dumps(model_registry["automix"]))
"""
    assert answer(run(script, write_harness(tmp_path, models=models), ROOT)) == "theirs"


def test_a_failed_import_is_tried_again(tmp_path: Path) -> None:
    """An error of the harness's own module passes through, and the next import is extended."""
    models = "import sys\nif not hasattr(sys, 'second'): raise ImportError('first')\n" + MODELS
    script = """
import json
try:
    import lm_eval.models
except ImportError as error:
    first = str(error)
sys.second = True
import lm_eval.models
from lm_eval.api.registry import model_registry
print(json.dumps([first, list(model_registry)]))
"""
    assert answer(run(script, write_harness(tmp_path, models=models), ROOT)) == [
        "first",
        ["hf", "automix"],
    ]


def test_modules_keep_a_genuine_loader(tmp_path: Path) -> None:
    """The harness's modules can be inspected as if there were no bridge."""
    script = """
import inspect, json, lm_eval.models, lm_eval.tasks.manager as manager
print(json.dumps([type(manager.__loader__).__name__, "exec_module" in vars(manager.__loader__),
                  "register" in inspect.getsource(lm_eval.models)]))
"""
    harness = write_harness(tmp_path)
    assert answer(run(script, harness, ROOT)) == ["SourceFileLoader", False, True]


@pytest.mark.parametrize(
    "changed",
    [
        {"registry": "class Registry: pass\n", "models": ""},
        {"manager": "OtherManager = None\n"},
        {"manager": "class TaskManager:\n    def __init__(self, folders=()): pass\n"},
    ],
)
def test_an_unknown_harness_gets_one_warning(tmp_path: Path, changed: dict[str, str]) -> None:
    """A harness of another shape still imports, even under -W error, with one line on stderr."""
    harness = write_harness(tmp_path, **changed)
    script = "import lm_eval.models, lm_eval.tasks.manager"
    done = run(script, harness, ROOT, flags=("-S", "-W", "error"))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("automix-eval: lm_eval.")
    assert "--include_path" in line


def test_missing_tasks_cost_one_warning(tmp_path: Path) -> None:
    """A TaskManager works without our tasks, and the warning says what is missing."""
    harness = write_harness(tmp_path / "harness")
    site = tmp_path / "site"
    (site / "automix_eval").mkdir(parents=True)
    (site / "automix_eval/__init__.py").touch()
    shutil.copy(ROOT / "automix_eval/paths.py", site / "automix_eval")
    shutil.copy(ROOT / "_automix_bridge.py", site)
    script = "from lm_eval.tasks.manager import TaskManager; print(TaskManager('INFO').scanned)"
    done = run(script, harness, site)
    assert (done.returncode, done.stdout) == (0, "['builtin']\n")
    (line,) = done.stderr.splitlines()
    assert "its tasks were not found (FileNotFoundError: automix-eval's folder 'tasks'" in line


def test_without_stderr_nothing_is_raised(tmp_path: Path) -> None:
    """A program without a console, where sys.stderr is None, survives a failing hook."""
    harness = write_harness(tmp_path, manager="")
    done = run("sys.stderr = None; import lm_eval.tasks.manager; print('on')", harness, ROOT)
    assert (done.returncode, done.stdout) == (0, "on\n")


def test_without_the_harness_nothing_happens() -> None:
    """Where lm_eval is absent, its import fails as it always did."""
    script = "import importlib.util; print(repr(importlib.util.find_spec('lm_eval')))"
    done = run(script, ROOT)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_late_import_completes_what_is_there(tmp_path: Path) -> None:
    """Imported by hand after the harness, the bridge still registers model and tasks."""
    script = f"""
import sys, json
sys.path[:0] = {[str(write_harness(tmp_path)), str(ROOT)]!r}
import lm_eval.models
from lm_eval.tasks.manager import TaskManager
import _automix_bridge
from lm_eval.api.registry import model_registry
print(json.dumps([list(model_registry), TaskManager().scanned]))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False
    )
    assert answer(done) == [["hf", "automix"], ["builtin", str(TASKS)]]


def test_tasks_package_resolves_in_a_checkout() -> None:
    """The value of the entry point lm_eval.tasks leads to tasks/ although no package is there."""
    script = """
import importlib.util, json
print(json.dumps(list(importlib.util.find_spec("automix_eval.tasks").submodule_search_locations)))
"""
    assert answer(run(script, ROOT)) == [str(TASKS)]


def test_a_failing_finder_warns_and_leaves_the_spec(
    bridge: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loader that cannot be wrapped is handed on untouched, with one warning."""
    found = object()

    class Spec:
        loader = found  # it has no exec_module

    class Finder:
        @staticmethod
        def find_spec(name: str, _path: object, _target: object) -> type[Spec]:
            assert name == "lm_eval.models"
            return Spec

    completer = bridge._Completer({"lm_eval.models": print})
    sys.meta_path[:] = [completer, Finder]
    assert completer.find_spec("other") is None
    assert completer.find_spec("lm_eval.models") is Spec
    assert "lm_eval.models was not extended" in capsys.readouterr().err
