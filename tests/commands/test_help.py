"""Help and completion: every command, group, option and key, from the files of hydra_conf/."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from automix_eval.commands import completion
from automix_eval.commands.main import COMMANDS, main
from automix_eval.config import described
from automix_eval.config.overrides import GROUPS
from automix_eval.paths import hydra_conf_dir

FILES = ("config", "evaluation", "run", "replay")
OF = {"run": FILES[:3], "fit": FILES[:3], "plan": ("evaluation", "config"), "replay": ("replay",)}
REPLAY_GROUPS = ("meta_verifier", "calibrator", "cost", "format")


def every_setting() -> list[described.Setting]:
    """All keys of all files and options."""
    found = [s for name in FILES for s in described.of_file(name)]
    for group in (*GROUPS, "format"):
        for option in described.options(group):
            found += described.of_option(group, option)
    return found


@pytest.mark.parametrize("setting", every_setting(), ids=lambda s: s.key)
def test_every_key_says_what_it_is(setting: described.Setting) -> None:
    """A meaning and a kind, or the key whose value it takes."""
    assert setting.meaning or setting.inherits
    assert setting.kind or setting.inherits


def test_no_key_of_a_file_is_left_out() -> None:
    """What Hydra composes is what is described."""
    text = (hydra_conf_dir() / "meta_verifier" / "pomdp.yaml").read_text()
    written = set(re.findall(r"^(\w+):", text, re.MULTILINE)) - {"_target_"}
    assert {
        s.key.partition(".")[2] for s in described.of_option("meta_verifier", "pomdp")
    } == written


@pytest.mark.parametrize("command", OF)
def test_help_lists_every_group_option_and_key(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With kind and default, and nothing of YAML, of Hydra or of markup."""
    with suppress(SystemExit):  # argparse's
        assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: automix-eval {command} ")
    words = set(said.split())
    groups = REPLAY_GROUPS if command == "replay" else GROUPS
    for group in groups:
        assert f"{group}=OPTION," in words
        assert words >= set(described.options(group))
        if group != "llm":
            for option in described.options(group):
                assert words >= {s.key for s in described.of_option(group, option)}
    for name in OF[command]:
        for setting in described.of_file(name):
            assert setting.key in words
    assert "`" not in said
    assert "_target_" not in said
    assert "default ${" not in said


def test_help_of_one_group_option_or_key_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is left out."""
    assert main(["run", "--help", "verifier"]) == 0
    group = capsys.readouterr().out
    assert main(["run", "verifier.num_samples=4", "--help"]) == 0
    key = capsys.readouterr().out
    assert "verifier.num_samples" in group
    assert "cost" not in group.split("\n")[0]
    assert key.split()[0] == "verifier.num_samples"
    assert "integer >= 1; default 8" in key
    assert main(["run", "--help", "greedy"]) == 0
    option = capsys.readouterr().out
    assert option.startswith("== meta_verifier=greedy: ")
    assert "meta_verifier.sigma" in option
    assert "pomdp" not in option


def test_help_of_the_program_groups_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """By what people want to do, without marks."""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "Run a cascade:" in said
    assert "`" not in said
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", said, re.MULTILINE)


def test_help_of_the_program_imports_no_command() -> None:
    """It takes the time of argparse, not that of the harness."""
    code = (
        "import sys\n"
        "from automix_eval.commands.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print(sorted({'numpy', 'lm_eval', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line after the usage."""
    with pytest.raises(SystemExit):
        main(["reprot"])
    assert "did you mean report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("automix-eval re", {"report", "replay"}),
        ("automix-eval run meta_verifier=pomdp", {"meta_verifier=pomdp", "meta_verifier=pomdp_v1"}),
        ("automix-eval fit verifier=few_shot verifier.num", {"verifier.num_samples="}),
        ("automix-eval replay missing=", {"missing=refuse", "missing=drop", "missing=zero"}),
        ("automix-eval report --ba", {"--baseline"}),
        ("automix-eval report ", set()),
        ("automix-eval outcomes x --as ", {"tables", "every-eval-ever"}),
        ("automix-eval experiment trans", {"transfer"}),
        ("automix-eval nothing x", set()),
        ('automix-eval run "open', set()),
    ],
)
def test_words_complete_at_every_level(line: str, found: set[str]) -> None:
    """Commands, their options, keys of what is chosen, and values that are words."""
    assert set(completion.words(line)) == found


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words", "found"),
    [
        ("automix-eval compl", ["automix-eval", "compl"], "completion"),
        (
            "automix-eval run objective=bu",
            ["automix-eval", "run", "objective", "=", "bu"],
            "budget",
        ),
        ("automix-eval run objective=", ["automix-eval", "run", "objective", "="], "assured"),
    ],
)
def test_bash_takes_the_script(line: str, words: list[str], found: str, tmp_path: Path) -> None:
    """The function, as bash calls it, leaves what stands behind the last break of a word."""
    script = (
        'eval "$(automix-eval completion bash)"; COMP_LINE=$1; COMP_POINT=${#1}; shift; '
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _automix_eval; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = _shell(["bash", "-c", script, "bash", line, *words], tmp_path)
    assert done.stdout.split()[0] == found, done.stderr


_ZPTY = """
zmodload zsh/zpty; zpty z zsh -f -i
zpty -w z 'autoload -Uz compinit; compinit -D; eval "$(automix-eval completion zsh)"; echo REA""DY'
zpty -r z out '*READY*'
zpty -n -w z "$1"$'\\t'
zpty -r z out "*$2*" && print -r -- "$2"
"""


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("fish", "automix-eval completion fish | source; complete -C $argv[1]"),
        ("zsh", _ZPTY),
    ],
)
@pytest.mark.parametrize(
    ("line", "found"),
    [("automix-eval compl", "completion"), ("automix-eval run verifier=tok", "token_profile")],
)
def test_other_shells_take_their_script(
    shell: str, script: str, line: str, found: str, tmp_path: Path
) -> None:
    """A line is completed as the shell itself does on a tabulator."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    name = [] if shell == "fish" else ["zsh"]
    done = _shell([shell, "-c", script, *name, line, found], tmp_path)
    assert found in done.stdout, done.stderr


def _shell(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = folder / "automix-eval"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m automix_eval "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
