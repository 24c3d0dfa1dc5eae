"""What the documents promise is true."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scripted import REPO, SCRIPTS, gold_answers, knows, run_harness, scripted_args

from automix_eval.analysis.experiments import preset
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.commands import main as cli
from automix_eval.config import command_line as hydra_app
from automix_eval.config import compose as config
from automix_eval.config import described, parts, plugins
from automix_eval.config.command_line import RUN
from automix_eval.report.gate import GatedRuns, GateError
from automix_eval.types import Answer, Prompt, Question

README = (REPO / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
# Programs whose commands other tests hold, or that are not this project's.
_CHECKED_ELSEWHERE = ("make ", "pip ", "eval ", "python -m pytest ", ".venv/bin/python -m pytest ",
                      "pre-commit ", "git ", "cd ")  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block of a document.

    Attributes:
        kind: Its language.
        text: As it stands.
        reason: Why it is not run; empty where it is.
    """

    kind: str
    text: str
    reason: str


def _reference() -> Any:
    """The module that makes pages from the code, which lies beside them."""
    spec = importlib.util.spec_from_file_location("reference", REPO / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document, with the mark before them."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(
        r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?```(?P<kind>\w+)\n(?P<text>.*?)```",
        text,
        re.DOTALL,
    )
    return [Block(m["kind"], textwrap.dedent(m["text"]), m["reason"] or "") for m in found]


def write_files(path: Path, folder: Path) -> None:
    """Write the YAML blocks of a document that begin with the name of a file."""
    for block in blocks(path):
        if block.kind == "yaml" and (file := re.match(r"# ([\w./-]+\.yaml)", block.text)):
            (folder / file[1]).write_text(block.text)


def lines(block: Block) -> list[str]:
    """The commands of a shell block, continued ones joined."""
    joined = block.text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.startswith("#")]


def commands(path: Path, kinds: tuple[str, ...] = ("bash",)) -> list[str]:
    """The lines of a document's shell blocks, continued ones joined."""
    return [line for block in blocks(path) if block.kind in kinds for line in lines(block)]


def of(pattern: str) -> list[Any]:
    """The documents' commands that match, each named by its document."""
    return [
        pytest.param(line, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, line in enumerate(commands(path))
        if re.search(pattern, line)
    ]


# --------------------------------------------------------------------------- what is run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scripted run with record=full, for every document to read."""
    folder = tmp_path_factory.mktemp("finished")
    gold = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(gold, 0.5), knows(gold, 0.95)
    args = scripted_args(meta_verifier="threshold", record="full", model="demo")
    run_harness(["coqa_demo"], args, folder, limit=20, log_samples=True)
    return folder


def runnable() -> list[Any]:
    """The documents with a block that is run."""
    return [
        pytest.param(path, id=path.name)
        for path in DOCUMENTS
        if any(b.kind in ("bash", "python") and not b.reason for b in blocks(path))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", runnable())
def test_every_block_runs_or_says_why_not(
    path: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands and Python of one document, in its order, in a folder with a finished run.

    A YAML block that begins with the name of a file is that file.
    """
    monkeypatch.chdir(tmp_path)
    write_files(path, tmp_path)
    (tmp_path / "results").symlink_to(REPO / "results")
    shutil.copytree(finished, tmp_path / "out")
    shutil.copy(REPO / "results" / "reference_real" / "narrativeqa.csv", tmp_path / "mine.csv")
    names: dict[str, Any] = {}
    for block in blocks(path):
        if block.reason:
            continue
        if block.kind == "python":
            exec(compile(block.text, path.name, "exec"), names)
        elif block.kind == "bash":
            for line in lines(block):
                if line.startswith(_CHECKED_ELSEWHERE):
                    continue
                program, *arguments = shlex.split(line, comments=True)
                assert program == "automix-eval", (
                    f"{line}: mark the block with <!-- not run: ... -->"
                )
                assert cli.main(arguments) == 0, capsys.readouterr().err


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
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it is run: its settings and options exist; no model is loaded."""
    monkeypatch.chdir(tmp_path)
    for path in DOCUMENTS:
        write_files(path, tmp_path)
    name, *arguments = shlex.split(command, comments=True)[1:]
    if name in ("run", "fit"):
        # a plugin of Hydra that is not installed here is not the command's fault
        monkeypatch.setattr(plugins, "_has_plugin", lambda module: True)
        assert hydra_app.read(RUN, arguments).runs or "--help" in arguments
    elif name == "replay":
        assert hydra_app.read(hydra_app.REPLAY, arguments).runs
    elif name == "plan" and not any(a.startswith("--detect") for a in arguments):
        hydra_app.read(RUN, arguments)
    elif name == "experiment":
        assert set(arguments[:1]) <= set(preset.names())
        if arguments:
            preset.read(arguments[0], arguments[1:])
    else:
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"automix_eval.{cli.COMMANDS[name]}").add_arguments(parser)
        parser.parse_args(arguments)


@pytest.mark.parametrize("command", of("^(automix-eval|lm_eval) "))
def test_no_command_needs_quotes_in_zsh(command: str) -> None:
    """Zsh takes brackets, braces, stars and question marks for patterns, and ends there."""
    bare = re.sub(r"""'[^']*'|"[^"]*"|#.*$""", "", command)
    assert not re.search(r"[][{}*?()]", bare)


def test_every_option_and_key_is_in_the_reference_of_settings() -> None:
    """The generated page names every option and key."""
    text = reference.pages()["settings.md"]
    for group in config.GROUPS:
        for option in config.options(group):
            assert f"`{option}`" in text, (group, option)
            for setting in described.of_option(group, option):
                key = setting.key.replace("llm.", "slm.", 1)
                assert f"`{key}`" in text, (option, key)


def test_the_chain_of_the_documentation_composes(tmp_path: Path) -> None:
    """A chain of three tiers as it is written there."""
    path = REPO / "docs" / "own-pair.md"
    block = next(b.text for b in blocks(path) if b.kind == "yaml" and "tiers:" in b.text)
    (tmp_path / "chain.yaml").write_text(block)
    made = config.build({"config": str(tmp_path / "chain.yaml")})
    assert config.tier_names(made) == ["tier0", "middle", "large"]
    parts.make_cost(made).check(3)


def test_the_verifier_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code and the YAML of "Your own verifier" do what they say."""
    found = blocks(REPO / "docs" / "own-verifier.md")
    code = next(b.text for b in found if b.kind == "python")
    values = next(b.text for b in found if b.kind == "yaml")
    (tmp_path / "brevity.py").write_text(code)
    name = "automix_eval.verifiers.brevity"
    spec = importlib.util.spec_from_file_location(name, tmp_path / "brevity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr("automix_eval.verifiers.brevity", module, raising=False)
    verifier: Any = instantiate(OmegaConf.create(values))
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


def test_the_gates_of_the_documentation_name_figures_that_exist(finished: Path) -> None:
    """They pass or fail by a figure, never by a name."""
    code = next(b.text for b in blocks(REPO / "docs" / "gate.md") if b.kind == "python")
    names: dict[str, Any] = {}
    exec(code.replace('"coqa"', '"coqa_demo"'), names)
    run = GatedRuns.of(assemble([finished], Settings(resamples=100))).runs[0]
    gates = [value for name, value in names.items() if name.startswith("test_")]
    assert len(gates) >= 3
    for gate in gates:
        said = ""
        try:
            gate(run)
        except (AssertionError, GateError) as err:
            said = str(err)
        assert not re.search("has no (task|method|figure)", said), said


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPO / "docs").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_notebook_runs(path: Path) -> None:
    """Its cells, in order, without a model; each that ends in a value shows it."""
    shown = [printed for _, printed in reference.run_notebook(path) if printed]
    assert len(shown) >= 2


def test_the_reference_names_every_key_of_a_run_s_files(finished: Path) -> None:
    """What a run writes is what the page says."""
    text = reference.pages()["files.md"]
    (manifest,) = finished.rglob("automix_run_*.json")
    (policy,) = finished.rglob("automix_policy_*.json")
    for path in (manifest, policy):
        for key in json.loads(path.read_text()):
            assert f"`{key}`" in text, key
    for key in json.loads(policy.read_text())["fitted_on"]:
        assert f"`{key}`" in text, key


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of the machine it was written on is in the sources."""
    for path in [*REPO.glob("*.md"), *(REPO / "automix_eval").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "/root/" not in text, path
        assert "/home/" not in text, path
