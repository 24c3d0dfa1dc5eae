"""The doctor: what is missing is named with its remedy."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import sys
import types
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from automix_eval.backends.embedded import folder_of
from automix_eval.commands import doctor, doctor_tiers
from automix_eval.commands.doctor_tiers import Finding
from automix_eval.commands.main import main
from automix_eval.safety.errors import AutoMixError


def states(findings: list[Finding]) -> dict[str, str]:
    """Subject and state of each finding."""
    return {f.subject: f.state for f in findings}


def test_a_sound_installation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Here, where the tests run, nothing fails, and the command says so."""
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "Nothing fails." in out
    assert "FAIL" not in out
    for subject in ("plugin", "task names", "lm-eval", "configuration"):
        assert f"ok    {subject}: " in out


def test_a_missing_and_an_old_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions below the floor fail, and the remedy installs them."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"lm-eval": "0.4.9", "transformers": "5.4.0"}.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {f.subject: f for f in doctor._packages()}
    assert found["torch"].state == "FAIL"
    assert found["lm-eval"].remedy == "pip install 'lm-eval>=0.4.13'"
    assert found["transformers"].remedy == "pip install 'transformers>=5.5'"
    assert found["numpy"].state == "ok"


def test_what_another_release_converted_is_not_taken_for_this_ones() -> None:
    """Folders and locks of others lie beside it, and a run would convert anew."""
    own = folder_of("gemma3-270m")
    for name in ("gemma3-270m-000000000000", "gemma3-270m-ffffffffffff.lock", f"{own.name}.lock"):
        (own.parent / name).mkdir(parents=True)
    found = {f.subject: f for f in doctor._embedded()}
    assert "converted in" not in found["embedded gemma3"].detail
    own.mkdir()
    found = {f.subject: f for f in doctor._embedded()}
    assert found["embedded gemma3"].detail == f"converted in {own}"


def test_data_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file a task would look for in AUTOMIX_DATA_DIR is checked."""
    monkeypatch.setenv("AUTOMIX_DATA_DIR", str(tmp_path))
    (tmp_path / "coqa").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "coqa" / f"{split}.jsonl").write_text("{}\n")
    found = states(list(doctor._data()))
    assert found["data of coqa"] == "ok"
    assert found["data of cnli"] == "FAIL"


def test_the_cache_folder_must_be_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder below a file is no folder."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    (finding,) = doctor._cache()
    assert finding.state == "FAIL"
    assert "AUTOMIX_CACHE_DIR" in finding.remedy


@pytest.mark.parametrize(("free", "state"), [(doctor.DISK + 1, "ok"), (doctor.DISK, "note")])
def test_a_disk_that_is_nearly_full_is_named(
    monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    """As a note with its remedy, for a run may need less; a failure would be too much."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    (finding,) = doctor._cache()
    assert (finding.state, "AUTOMIX_CACHE_DIR" in finding.remedy) == (state, state == "note")


def test_the_tiers_of_a_run_are_looked_at() -> None:
    """A server that answers, one that does not, and a model that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = [
            "slm=local_completions", f"slm.base_url=http://127.0.0.1:{port}/v1/completions",
            "slm.model=m", "llm=hf", "llm.pretrained=/does/not/exist",
        ]  # fmt: skip
        found = states(list(doctor_tiers.examine_tiers(arguments)))
    assert found == {"configuration": "ok", "tier slm": "ok", "tier llm": "FAIL"}
    assert states(list(doctor_tiers.examine_tiers(arguments)))["tier slm"] == "FAIL"


def test_the_second_model_of_a_verifier_is_looked_at() -> None:
    """As the tiers are, of a member of an ensemble too; a tier in its place is one already."""
    second = "{option: hf, pretrained: /does/not/exist}"
    member = f"[margin, {{option: consistency, second: {second}}}]"
    for arguments, state in (
        (["verifier=consistency", f"verifier.second={second}"], "FAIL"),
        (["verifier=ensemble", f"verifier.members={member}"], "FAIL"),
        (["tiers=smollm2+gemma3+smollm2", "verifier=consistency", "verifier.second=tier0"], None),
    ):
        found = states(list(doctor_tiers.examine_tiers(arguments)))
        assert found.get("verifier.second") == state
        assert found["configuration"] == "ok"


def test_a_server_of_vllm_s_is_told_the_flag_for_cached_tokens(httpserver: HTTPServer) -> None:
    """Without it the price of cached tokens cannot be met; another server hears nothing of it."""
    url = httpserver.url_for("/v1/completions")
    arguments = ["slm=local_completions", f"slm.base_url={url}", "slm.model=m"]
    for owner, told in (("vllm", 1), ("llamacpp", 0)):
        httpserver.clear()
        httpserver.expect_request("/v1/models").respond_with_json({"data": [{"owned_by": owner}]})
        found = [f.remedy for f in doctor_tiers.examine_tiers(arguments)]
        assert sum("--enable-prompt-tokens-details" in remedy for remedy in found) == told


def test_overrides_are_checked_like_those_of_a_run() -> None:
    """A typo is the configuration's finding, with its nearest names; what is no override stops."""
    (finding,) = doctor_tiers.examine_tiers(["slm=smolm2"])
    assert finding.state == "FAIL"
    assert "did you mean smollm2" in finding.detail
    with pytest.raises(AutoMixError, match="KEY=VALUE"):
        list(doctor_tiers.examine_tiers(["smollm2"]))


def remedies(*arguments: str) -> list[str]:
    """What is to be done about a run's failing tiers."""
    found = doctor_tiers.examine_tiers(arguments)
    return [f"{f.detail} -> {f.remedy}" for f in found if f.state == "FAIL"]


SERVER = ("llm=local_completions", "llm.model=m")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("llm=openai", "llm.model=m"), "OPENAI_API_KEY is not set -> export OPENAI_API_KEY"),
        (("llm=anthropic", "llm.model=m"), "ANTHROPIC_API_KEY is not set"),
        (("llm=hf", "llm.pretrained=/x", "llm.device=cuda:7"), "cuda:7 is not there"),
        (("llm=llama_cpp", "llm.pretrained=/no/such.gguf"), "No such file"),
        (("llm=llama_cpp", f"llm.pretrained={__file__}"), "is not a GGUF file"),
        ((*SERVER, "llm.base_url=http://127.0.0.1:99999/v1"), "is not a URL"),
        ((*SERVER, "llm.base_url=127.0.0.1:8000/v1"), "is not a URL -> write base_url as"),
        (("llm=sglang", "llm.pretrained=/x"), "package sglang is not installed -> pip install"),
    ],
)
def test_what_a_tier_lacks(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages, keys, devices, files and addresses, each with its remedy."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert any(words in line for line in remedies(*arguments)), remedies(*arguments)


def test_a_failure_names_its_remedy() -> None:
    """A finding that fails cannot be made without one."""
    with pytest.raises(ValueError, match="no remedy"):
        Finding("x", "FAIL", "broken")


def test_a_key_that_is_set_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor's output is meant to be sent to others."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary7f3a91")
    monkeypatch.setenv("SERVER", "http://me:canary7f3a91@127.0.0.1:9/v1?key=canary7f3a91")
    main(["doctor", "slm=openai", "slm.model=m", *SERVER, "llm.base_url=${oc.env:SERVER}"])
    out = capsys.readouterr().out
    assert "OPENAI_API_KEY is set" in out
    assert "127.0.0.1:9 does not answer" in out
    assert "canary7f3a91" not in out


def test_an_old_copy_of_the_bridge_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An editable install holds a copy."""
    (tmp_path / "old.py").write_text("")
    monkeypatch.setitem(
        sys.modules, "_automix_bridge", types.SimpleNamespace(__file__=str(tmp_path / "old.py"))
    )
    (finding,) = doctor._bridge()
    assert (finding.state, "pip install -e ." in finding.remedy) == ("note", True)


def test_a_hub_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the variable that moves it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    (finding,) = doctor._hub_cache()
    assert (finding.state, "HF_HOME" in finding.remedy) == ("note", True)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.13.0+cpu", (2, 13, 0)), ("1.3.5.1", (1, 3, 5, 1)), ("x", ())],
)
def test_versions_compare_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """Local labels do not count."""
    assert doctor._numbers(text)[: len(numbers)] == numbers


def test_a_package_that_cannot_be_imported_is_not_vouched_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that is there and fails on import, or fails the harness's class, is a failure."""
    (tmp_path / "sglang.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = doctor_tiers._installed("tier slm", "sglang", "pip install sglang", "sglang")
    assert finding.state == "FAIL"
    assert "RuntimeError: operator nms does not exist" in finding.detail
    (tmp_path / "sglang.py").write_text("")
    sys.modules.pop("sglang", None)
    finding = doctor_tiers._installed("tier slm", "sglang", "pip install sglang", "no such model")
    sys.modules.pop("sglang", None)
    assert finding.state == "FAIL"
    assert "no such model" in finding.detail
    assert doctor_tiers._installed("tier slm", "json", "", "").state == "ok"
