"""Makes lm-evaluation-harness 0.4.13 find the model ``automix`` and this package's tasks.

That release has no plugin discovery. Python executes the line in ``automix_eval_bridge.pth`` when
an interpreter starts; it imports this module, as ``automix_eval`` does where no interpreter read
that line. The module waits for two of the harness's to be imported and completes them:
``lm_eval.models`` (the model's name, as a lazy string) and ``lm_eval.tasks.manager`` (the folder of
our tasks). A harness that reads entry points (they are in pyproject.toml) is left alone. The logs
of ``lm_eval.evaluator`` and ``lm_eval._cli.utils``, which show arguments before any model sees
them, get a filter that keeps secrets out of them.

It runs in every interpreter of the environment. So it imports nothing but ``sys`` until the harness
is imported, never raises, and writes to stderr only when something failed.

PYTEST_DONT_REWRITE: it holds no assertions, and it is there before pytest is, which would warn.
"""

import sys

TYPE_CHECKING = False  # typing's own constant would cost an import
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import FrameType
    from typing import Any

# False: the package, imported by its own command or by hand, brought the bridge with it.
AT_START = "automix_eval" not in sys.modules

_ALIAS = "automix"
_TARGET = "automix_eval.harness.model:AutoMixLM"
_TASKS_PACKAGE = "automix_eval.tasks"


def _register_model(_models: "Any") -> None:
    """Add the model's name once ``lm_eval.models`` has registered the built-in ones.

    Not earlier: the harness imports its own models only while the registry is empty.
    """
    from lm_eval.api import registry

    if hasattr(registry, "load_plugins"):
        return
    if _ALIAS not in registry.model_registry:
        registry.model_registry.register(_ALIAS, target=_TARGET)


def _complete_manager(manager: "Any") -> None:
    _blank_arguments("lm_eval.evaluator")
    _add_tasks(manager)


def _add_tasks(manager: "Any") -> None:
    """Make ``TaskManager`` scan our tasks after the built-in ones and before the user's.

    Where the harness has a task of the same name (coqa, qasper), ours is meant by runs of our
    models and as a member of our groups, the harness's by everybody else; ours are everybody's as
    automix_coqa and so on. What a user gives as ``include_path`` replaces both.
    ``include_defaults=False`` leaves out the built-in tasks only, as it does in a harness that
    discovers task plugins.
    """
    if hasattr(manager, "discover_plugin_task_paths"):
        return
    import functools
    import inspect

    original = manager.TaskManager.__init__
    signature = inspect.signature(original)
    if "include_path" not in signature.parameters:
        raise AttributeError("TaskManager has no include_path")

    @functools.wraps(original)
    def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:  # noqa: N807 - the method's
        ours = _tasks_dir()
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            ours = None  # a wrong call: the original's own error is the clear one
        if ours is None:
            original(self, *args, **kwargs)
            return
        given = bound.arguments.get("include_path")
        bound.arguments["include_path"] = _with_ours(ours, given)
        with _unsaid(ours):
            original(*bound.args, **bound.kwargs)
        self.include_path = given
        self.automix_names = {}
        if bound.arguments.get("include_defaults", True) and hasattr(self, "_index"):
            self.automix_names = _give_back(manager, self._index, ours)

    manager.TaskManager.__init__ = __init__
    if load := getattr(manager.TaskManager, "_load_spec", None):

        @functools.wraps(load)
        def _load_spec(self: "Any", spec: "Any") -> "Any":
            names = getattr(self, "automix_names", {})
            entry = self._index.get(spec) if isinstance(spec, str) else None
            group = entry is not None and "GROUP" in str(entry.kind) and _is_ours(entry)
            if not names or not (group or _runs_ours()):
                return load(self, spec)
            before = {name: self._index[name] for name in names}
            self._index.update(names)
            try:
                return load(self, spec)
            finally:
                self._index.update(before)

        manager.TaskManager._load_spec = _load_spec


def _give_back(manager: "Any", index: "dict[str, Any]", ours: "Path") -> "dict[str, Any]":
    """Put the harness's own tasks back under their names.

    Returns:
        Ours, by the names that they share with the harness's.
    """
    import os
    from pathlib import Path

    # by text: the parents of ten thousand paths would take seconds
    within = f"{ours}{os.sep}"
    names = {n: e for n, e in index.items() if str(e.yaml_path).startswith(within)}
    kept = {}
    for name, entry in names.items():
        folder = Path(manager.__file__).parent / name
        theirs = manager.TaskIndex.build([folder]).get(name) if folder.is_dir() else None
        if theirs is not None:
            index[name], kept[name] = theirs, entry
    return kept


def _is_ours(entry: "Any") -> bool:
    from pathlib import Path

    ours = _tasks_dir()
    return bool(ours and entry.yaml_path and ours in Path(entry.yaml_path).parents)


def _runs_ours() -> bool:
    """Whether the evaluation in progress is of a model of this package."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "simple_evaluate":
            kinds = type(frame.f_locals.get("lm")).__mro__
            return any(k.__module__.split(".")[0] == "automix_eval" for k in kinds)
        frame = frame.f_back
    return False


def _unsaid(ours: "Path") -> "Any":
    """Without the harness's warning that ours override its own, which they do not."""
    import contextlib
    import logging

    class Ours(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return f"from {ours}" not in record.getMessage()

    @contextlib.contextmanager
    def quiet() -> "Any":
        log, one = logging.getLogger("lm_eval.tasks._index"), Ours()
        log.addFilter(one)
        try:
            yield
        finally:
            log.removeFilter(one)

    return quiet()


def _blank_arguments(name: str) -> None:
    """Keep secrets out of the lines with arguments that the harness logs before any model runs.

    The model refuses them afterwards. ``lm_eval.evaluator`` imports the task manager, so the filter
    is there before its first line, with which the package is imported; ``lm_eval._cli.utils`` warns
    of a key that is given twice while the command line is parsed.
    """
    import logging

    class Lazy(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            try:
                from automix_eval.safety.logs import ArgumentsFilter
            except ImportError:  # the package is gone: then its model cannot be run either
                return True
            return bool(ArgumentsFilter().filter(record))

    logging.getLogger(name).addFilter(Lazy())


def _with_ours(ours: "Path", given: "Any") -> "list[Any]":
    """Put our folder before the user's, unless one of those is or contains it already."""
    from pathlib import Path

    if not given:
        return [ours]
    users = list(given) if isinstance(given, (list, tuple)) else [given]
    for path in users:
        folder = Path(path).resolve()
        if folder == ours or folder in ours.parents:
            return users
    return [ours, *users]


def _tasks_dir() -> "Path | None":
    """Find our tasks by the rule of ``automix_eval/paths.py``, without importing the package.

    Returns None, after a warning, if they cannot be found.
    """
    import importlib.util
    from pathlib import Path

    try:
        package = importlib.util.find_spec("automix_eval")
        if package is None or package.origin is None:
            raise FileNotFoundError("the package automix_eval is not importable")
        file = Path(package.origin).with_name("paths.py")
        spec = importlib.util.spec_from_file_location("_automix_eval_paths", file)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{file} cannot be loaded")
        paths = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(paths)
        return Path(paths.tasks_dir()).resolve()
    except Exception as error:  # noqa: BLE001 - the harness must work without our tasks
        _warn("its tasks were not found", error)
        return None


def _warn(what: str, error: Exception) -> None:
    """Say what failed in one line; ``warnings`` would raise under ``-W error``."""
    if sys.stderr is not None:
        sys.stderr.write(
            f"automix-eval: {what} ({type(error).__name__}: {error}); "
            "reinstall automix-eval, or give its tasks folder with --include_path.\n"
        )


class _Completer:
    """A meta-path finder that runs a hook right after a module of the harness was executed."""

    def __init__(self, hooks: "dict[str, Callable[[Any], None]]") -> None:
        self.hooks = hooks  # module name -> function of the module; emptied as they run

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        """Let the other finders find the module, and have its loader call the hook."""
        if name not in self.hooks:
            return None
        for finder in sys.meta_path:
            # A finder without find_spec is legal: import itself skips it.
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                try:
                    self.wrap(name, spec.loader)
                except Exception as error:  # noqa: BLE001 - the harness must still import
                    _warn(f"{name} was not extended", error)
                return spec
        return None

    def wrap(self, name: str, loader: "Any") -> None:
        """Extend ``exec_module`` on this loader, so that the module keeps a genuine loader."""
        execute = loader.exec_module

        def exec_module(module: "Any") -> None:
            execute(module)  # its errors are the harness's own; a later import tries again
            del loader.exec_module
            self.run(name, module)

        loader.exec_module = exec_module

    def run(self, name: str, module: "Any") -> None:
        """Run a module's hook once, and leave the import machinery after the last one."""
        hook = self.hooks.pop(name, None)
        if hook is not None:
            try:
                hook(module)
            except Exception as error:  # noqa: BLE001 - the harness must still import
                _warn(f"{name} was not extended", error)
        if name == "lm_eval.tasks.manager":
            # the command line was parsed before this, or there is none
            self.hooks.pop("lm_eval._cli.utils", None)
        if not self.hooks:
            # A new list, since another thread may be walking the old one.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]


class _TasksPackage:
    """Answers for ``automix_eval.tasks`` in an editable install, where it lies beside the package.

    It is asked last, so a wheel's own folder comes first. Only a harness that resolves the entry
    point group ``lm_eval.tasks`` asks.
    """

    @staticmethod
    def find_spec(name: str, _path: "Any" = None, _target: "Any" = None) -> "ModuleSpec | None":
        """Describe the tasks folder as a namespace package."""
        if name != _TASKS_PACKAGE:
            return None
        folder = _tasks_dir()
        if folder is None:
            return None
        from importlib.machinery import ModuleSpec

        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


def _install() -> None:
    completer = _Completer(
        {
            "lm_eval.models": _register_model,
            "lm_eval.tasks.manager": _complete_manager,
            "lm_eval._cli.utils": lambda module: _blank_arguments(module.__name__),
        }
    )
    sys.meta_path.insert(0, completer)
    sys.meta_path.append(_TasksPackage)
    for name in list(completer.hooks):
        if name in sys.modules:  # when this module is imported by hand, after the harness
            completer.run(name, sys.modules[name])


try:
    _install()
except Exception as error:  # noqa: BLE001 - it must never stop an interpreter from starting
    _warn("the bridge to lm_eval was not installed", error)
