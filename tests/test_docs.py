"""What the documents promise is true."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scripted import REPO

from automix_eval.analysis.experiments import preset
from automix_eval.commands import main as cli
from automix_eval.commands.job import application
from automix_eval.config import command_line as hydra_app
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.types import Answer, Prompt, Question

README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
CONTRIBUTING = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]


def commands(path: Path) -> list[str]:
    """The lines of a document's shell blocks, continued ones joined."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return [
        line
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]


def of(pattern: str) -> list[Any]:
    """The documents' commands that match, each named by its document."""
    return [
        pytest.param(line, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, line in enumerate(commands(path))
        if re.search(pattern, line)
    ]


# by itself, or as the module that a launcher starts
@pytest.mark.parametrize("command", of(r"^lm_eval |-m lm_eval "))
def test_every_lm_eval_command_is_one(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's own parser takes it, the tasks exist and the configuration composes."""
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.utils import simple_parse_args_string

    words = shlex.split(command, comments=True)
    arguments = words[words.index("lm_eval") + 1 :]
    for name in re.findall(r"env:(\w+)", command):
        monkeypatch.setenv(name, f"http://127.0.0.1:8000/{name}")
    parsed = HarnessCLI()._parser.parse_args(["run", *arguments])
    assert parsed.model == "automix"
    given = parsed.model_args
    made = config.build(given if isinstance(given, dict) else simple_parse_args_string(given))
    assert config.name_of(made, "slm") == "hf"
    for task in arguments[arguments.index("--tasks") + 1].split(","):
        assert (REPO / "tasks" / task / f"{task}.yaml").exists()


@pytest.mark.parametrize("command", of("^make "))
def test_every_make_target_exists(command: str) -> None:
    """A newcomer's first command is a target."""
    target = command.split()[1]
    assert re.search(rf"^{target}:", (REPO / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", of("^automix-eval "))
def test_every_automix_eval_command_is_parsed(
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails for the missing folder only, never for its arguments; no model is loaded."""
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(command, comments=True)[1:]
    if name == "run":
        # a plugin of Hydra that is not installed here is not the command's fault
        monkeypatch.setattr(hydra_app, "_has_plugin", lambda module: True)
        assert hydra_app.read(application(), arguments).runs
        return
    if name == "experiment":  # it would run on the tables that the package holds
        assert set(arguments[:1]) <= set(preset.names())
        if arguments:
            preset.read(arguments[0], arguments[1:])
        return
    code = cli.main([name, *arguments])
    assert code == 2
    assert "usage" not in capsys.readouterr().err


def test_every_option_is_in_the_table_of_settings() -> None:
    """An option that is added is documented."""
    for group in config.GROUPS:
        for option in config.options(group):
            assert f"`{option}`" in README, (group, option)


def test_the_chain_of_the_readme_composes(tmp_path: Path) -> None:
    """A chain of three tiers as the README writes it."""
    block = next(block for kind, block in BLOCKS if kind == "yaml" and "tiers:" in block)
    (tmp_path / "chain.yaml").write_text(block)
    made = config.build({"config": str(tmp_path / "chain.yaml")})
    assert config.tier_names(made) == ["tier0", "middle", "large"]
    parts.make_cost(made).check(3)


def test_the_verifier_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code and the YAML of "Add a verifier" do what they say."""
    code = next(block for kind, block in BLOCKS if kind == "python" and "class Brevity" in block)
    settings = next(block for kind, block in BLOCKS if kind == "yaml" and "_target_" in block)
    (tmp_path / "brevity.py").write_text(code)
    name = "automix_eval.verifiers.brevity"
    spec = importlib.util.spec_from_file_location(name, tmp_path / "brevity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr("automix_eval.verifiers.brevity", module, raising=False)
    verifier: Any = instantiate(OmegaConf.create(settings))
    question = Question("t", 0, Prompt("p"), "context", "question")
    answers = [Answer(0, t) for t in ("pier", "the old wooden pier", " ")]

    class Ask:
        tier = 0

    found = verifier.verify([question] * 3, answers, Ask())
    assert found[0].confidence > found[1].confidence
    assert (found[2].confidence, found[2].outcome) == (None, "empty_answer")
    assert verifier.identity["name"] == "brevity"


@pytest.mark.parametrize("command", of("python -m pytest "))
def test_every_pytest_command_names_tests_that_exist(command: str) -> None:
    """The file is there, and the words after -k are in a test's name."""
    words = shlex.split(command, comments=True)
    file = REPO / words[words.index("pytest") + 1]
    assert file.is_file()
    if "-k" in words:
        assert re.search(rf"def test_\w*{words[words.index('-k') + 1]}", file.read_text())


def test_contributing_names_every_room_and_no_other() -> None:
    """The table of rooms is the folder, and every path that is written out exists."""
    rooms = {p.name for p in (REPO / "automix_eval").iterdir() if not p.name.startswith("__")}
    rows = re.findall(r"^\| `(\w+(?:/|\.py))` \|", CONTRIBUTING, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert {row.rstrip("/") for row in rows} == rooms - {"py.typed"}
    tops = "automix_eval|hydra_conf|tasks|tests|docs"
    paths = re.findall(rf"`((?:{tops})/[\w./]*)`", CONTRIBUTING)
    assert len(paths) > 20
    for path in paths:
        at = REPO / path
        assert (at.parent if "NAME" in at.name else at).exists() or "NAME" in at.parent.name, path


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of the machine it was written on is in the sources."""
    for path in [*REPO.glob("*.md"), *(REPO / "automix_eval").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "/root/" not in text, path
        assert "/home/" not in text, path
