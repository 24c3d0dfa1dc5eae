"""What a run shows on the terminal, and what its log keeps."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from automix_eval.harness.console import LOG, console
from automix_eval.safety.errors import AutoMixError

OURS = logging.getLogger("automix_eval.harness.model")
THEIRS = logging.getLogger("lm_eval.evaluator")


def said(folder: Path, verbose: bool = False) -> None:
    """Lines of every kind, some of them twice."""
    with console(folder, verbose):
        for _ in range(2):
            OURS.info("slm: small")
            OURS.warning("12 of 20 prompts lost demonstrations: set slm.max_length=4096")
            THEIRS.info("Setting random seed to 0")
            THEIRS.warning("coqa: Custom kwargs can be passed to `--metadata` in console")
            THEIRS.warning("no chat template")
            logging.getLogger("transformers.trainer").info("loading")
            warnings.warn("will change", FutureWarning, stacklevel=1)


def test_the_terminal_has_ours_and_warnings_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notices of other libraries, and what they say of every run, are not on the terminal.

    Two stages may say the same, as blocks do of which as many questions are escalated.
    """
    said(tmp_path)
    assert capsys.readouterr() == (
        "",
        "slm: small\n"
        "warning: 12 of 20 prompts lost demonstrations: set slm.max_length=4096\n"
        "warning: no chat template\n"
        "slm: small\n",
    )


def test_the_log_has_every_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost: each line stands in the log as often as it was said; -v shows the same."""
    said(tmp_path, verbose=True)
    log = (tmp_path / LOG).read_text()
    for text in ("slm: small", "Setting random seed", "Custom kwargs", "no chat template"):
        assert log.count(text) == 2
    assert "FutureWarning: will change" in log
    assert capsys.readouterr().err == log


def test_a_secret_reaches_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known to be secret is blanked in the log as on the terminal."""
    monkeypatch.setenv("MY_API_KEY", "Tq7-hunter2-9vXw")
    with console(tmp_path):
        OURS.warning("the server said Tq7-hunter2-9vXw")
    shown = (tmp_path / LOG).read_text() + capsys.readouterr().err
    assert shown.count("the server said") == 2
    assert "hunter2" not in shown


def test_logging_is_as_before(tmp_path: Path) -> None:
    """Handlers, levels and the capture of warnings end with the run, be it by an error."""
    root = logging.getLogger()
    before = root.level, list(root.handlers), warnings.showwarning
    with pytest.raises(KeyError), console(tmp_path):
        raise KeyError
    assert (root.level, root.handlers, warnings.showwarning) == before


def test_a_second_run_continues_the_log(tmp_path: Path) -> None:
    """A resumed run keeps what the first one said."""
    for text in ("first", "second"):
        with console(tmp_path):
            OURS.info(text)
    assert [line.split()[-1] for line in (tmp_path / LOG).read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_a_log_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    """A file in the place of the folder is named."""
    (tmp_path / "out").write_text("")
    with pytest.raises(AutoMixError, match=r"out.*cannot be written"), console(tmp_path / "out"):
        pass
