"""The names that are read from the harness's frames, against stored interfaces of its releases."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from automix_eval.harness import evaluation_frames
from automix_eval.harness.evaluation_frames import READ, check_interface, variables_of
from automix_eval.safety.errors import AutoMixError

STORED = json.loads(
    (Path(__file__).parents[1] / "data" / "harness_interface.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("release", sorted(set(STORED) - {"0.5.0.dev1"}))
def test_stored_releases_have_what_is_read(release: str) -> None:
    """0.4.13 and what upstream has since: the variables are there under the same names."""
    check_interface(STORED[release])


def test_the_bound_stays_while_the_next_release_lacks_names() -> None:
    """When this fails, 0.5 has what is read: raise the upper bound in pyproject.toml."""
    with pytest.raises(AutoMixError, match="evaluate: "):
        check_interface(STORED["0.5.0.dev1"])


def test_the_installed_harness_has_what_is_read() -> None:
    """The check that a run begins with passes, and finds what the stored interface says."""
    check_interface()
    found = variables_of(evaluation_frames._evaluator())
    assert set(found) == set(READ)
    if importlib.metadata.version("lm-eval") == "0.4.13":
        for function, names in STORED["0.4.13"].items():
            assert set(names) <= set(found[function])
            if sys.version_info < (3, 12):  # since then variables of comprehensions are there too
                assert set(names) == set(found[function])


@pytest.mark.parametrize(("function", "name"), [(f, n) for f in READ for n in sorted(READ[f])])
def test_a_harness_without_a_name_is_refused_in_one_sentence(function: str, name: str) -> None:
    """Each name that is read is missed where it is gone, with its function and the remedy."""
    held = {f: [n for n in names if (f, n) != (function, name)] for f, names in READ.items()}
    with pytest.raises(AutoMixError, match=rf"{function}: {name}.*install lm-eval==0\.4\.13"):
        check_interface(held)
    with pytest.raises(AutoMixError, match="lacks what the cascade reads"):
        check_interface({f: n for f, n in READ.items() if f != function})


def test_no_other_file_reads_frames() -> None:
    """The call stack is walked in one file of the package, by one function."""
    package = Path(evaluation_frames.__file__).parents[1]
    users = {p.name for p in package.rglob("*.py") if "f_locals" in p.read_text(encoding="utf-8")}
    assert users == {"evaluation_frames.py"}
