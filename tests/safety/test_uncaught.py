"""Errors that end the program of another are one line."""

from __future__ import annotations

import sys

import pytest

from automix_eval.safety import errors as uncaught
from automix_eval.safety.errors import AutoMixError


@pytest.fixture(autouse=True)
def own_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own way of showing errors, put back afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


def show(error: BaseException) -> None:
    """What the interpreter does with an error that nobody catches."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - whatever it is
        sys.excepthook(type(raised), raised, raised.__traceback__)


def test_our_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Cause and remedy, without escapes of the terminal; other errors keep their traceback."""
    uncaught.show_in_one_line()
    uncaught.show_in_one_line()
    show(AutoMixError("a cause\x1b[31m\nand a remedy"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("automix-eval: error: a cause")
    assert "\x1b" not in said
    show(ValueError("of another"))
    assert "Traceback" in capsys.readouterr().err


def test_debugging_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMEVAL_LOG_LEVEL=DEBUG lowers the harness's own logger."""
    monkeypatch.setattr(uncaught, "_is_debugging", lambda: True)
    uncaught.show_in_one_line()
    show(AutoMixError("a cause"))
    assert "Traceback" in capsys.readouterr().err


def test_only_an_explained_interrupt_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """One that comes where nothing can be resumed looks as ever."""
    uncaught.show_in_one_line()
    show(uncaught.explained(KeyboardInterrupt()))
    assert capsys.readouterr().err == f"automix-eval: {uncaught.SAID}\n"
    show(KeyboardInterrupt())
    assert "Traceback" in capsys.readouterr().err


def test_the_hook_of_another_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reports errors elsewhere must see ours as well."""
    theirs = lambda *_: None  # noqa: E731
    monkeypatch.setattr(sys, "excepthook", theirs)
    uncaught.show_in_one_line()
    assert sys.excepthook is theirs
