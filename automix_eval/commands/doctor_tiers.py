"""What the doctor finds of the tiers of a run: packages, keys, ports, devices, chat templates."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

from automix_eval.backends import checks
from automix_eval.backends.checks import host_and_port
from automix_eval.backends.vllm import known_as_vllm
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import without_credentials

State = Literal["ok", "note", "FAIL"]

CONNECT_SECONDS = 3.0
# Models of the harness -> the module they need, and how it is installed.
_MODULES = {
    "vllm": ("vllm", "pip install vllm"),
    "sglang": ("sglang", "pip install sglang"),
    "litellm": ("litellm", "pip install litellm"),
}
_LLAMA_CPP = ("xllamacpp", "pip install xllamacpp")
_KEYS = {
    "openai-completions": "OPENAI_API_KEY",
    "openai-chat-completions": "OPENAI_API_KEY",
    "anthropic-completions": "ANTHROPIC_API_KEY",
    "anthropic-chat": "ANTHROPIC_API_KEY",
    "anthropic-chat-completions": "ANTHROPIC_API_KEY",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        subject: What was looked at.
        state: ``FAIL`` where a run would fail, ``note`` where it would do without something.
        detail: What was found.
        remedy: What to do about it; empty if nothing, which a failure never is.
    """

    subject: str
    state: State
    detail: str
    remedy: str = ""

    def __post_init__(self) -> None:
        """A failure without a remedy helps nobody."""
        if self.state == "FAIL" and not self.remedy:
            raise ValueError(f"{self.subject} fails and no remedy is named")


def examine_tiers(overrides: Sequence[str]) -> Iterator[Finding]:
    """Every finding of a run's configuration: tier by tier, and what its verifier asks beside them.

    Raises:
        AutoMixError: An override is not KEY=VALUE.
    """
    from automix_eval.config import compose as config
    from automix_eval.config import parts
    from automix_eval.config.command_line import bracketed

    arguments: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise AutoMixError(f"{override!r} is no override: write KEY=VALUE, such as slm=hf")
        arguments[key] = bracketed(override) if value[:1] in ("[", "{") else value
    try:
        built = config.build(arguments)
        parts.make_verifier(built)
        parts.live_meta_verifier(built)
    except AutoMixError as err:
        yield Finding("configuration", "FAIL", str(err), "mend the override it names")
        return
    yield Finding("configuration", "ok", "composes")
    nodes = built.tiers or [built[name] for name in config.TIERS]
    for name, node in zip(config.tier_names(built), nodes, strict=True):
        yield from _examine(f"tier {name}", node)
    for judge in (built.verifier, *(built.verifier.get("members") or {}).values()):
        if isinstance(judge.get("second"), Mapping):
            yield from _examine("verifier.second", judge.second)


def _examine(subject: str, node: Mapping[str, Any]) -> Iterator[Finding]:
    lm = str(node.get("lm") or "")
    local = str(node.get("_target_", "")).endswith("LlamaCppBackend")
    module = _LLAMA_CPP if local else _MODULES.get(lm)
    if module is not None:
        yield _installed(subject, *module, "" if local else lm)
    if lm in _KEYS and not node.get("auth_token") and not node.get("header"):
        yield _key(subject, _KEYS[lm])
    if node.get("device"):
        yield _device(subject, str(node["device"]))
    if node.get("base_url"):
        yield (found := _reachable(subject, str(node["base_url"])))
        if found.state == "ok" and _serves_vllm(str(node["base_url"])):
            yield Finding(
                subject, "note", "vLLM's server tells cached tokens only if it is asked to",
                "start it with --enable-prompt-tokens-details, or cached tokens are unknown",
            )  # fmt: skip
    chat = node.get("chat") is not False
    if local:
        if node.get("pretrained") and not node.get("embedded"):
            yield _gguf(subject, Path(str(node["pretrained"])).expanduser())
    elif node.get("tokenizer") or node.get("pretrained"):
        yield _template(subject, str(node.get("tokenizer") or node["pretrained"]), chat)


def _installed(subject: str, module: str, remedy: str, lm: str) -> Finding:
    """Whether a tier's package is there and both it and the harness's class can be imported."""
    if importlib.util.find_spec(module) is None:
        return Finding(subject, "FAIL", f"the package {module} is not installed", remedy)
    try:
        if module == "vllm":
            known_as_vllm()
        importlib.import_module(module)
        if lm:
            checks.class_of(lm)
    except Exception as err:  # noqa: BLE001  a package of others may fail in any way
        first = (str(err).splitlines() or [""])[0]
        return Finding(
            subject, "FAIL", f"{module} cannot be imported: {type(err).__name__}: {first}",
            "mend that package, or give it an environment of its own: docs/engines.md",
        )  # fmt: skip
    return Finding(subject, "ok", f"{module} can be imported")


def _key(subject: str, variable: str) -> Finding:
    if os.environ.get(variable):
        return Finding(subject, "ok", f"{variable} is set")
    return Finding(
        subject, "FAIL", f"{variable} is not set",
        f"export {variable}=..., or name another variable: auth_token=env:NAME",
    )  # fmt: skip


def _device(subject: str, device: str) -> Finding:
    from automix_eval.backends.hf.settings import why_no_device

    if not (why := why_no_device(device)):
        return Finding(subject, "ok", f"runs on {device}")
    remedy = "set its device to one that the lines above name, or to cpu"
    return Finding(subject, "FAIL", why, remedy)


def _reachable(subject: str, url: str) -> Finding:
    try:
        host, port = host_and_port(url)
    except ValueError:
        return Finding(
            subject, "FAIL", f"{without_credentials(url)} is not a URL",
            "write base_url as http://127.0.0.1:8000/v1/completions",
        )  # fmt: skip
    place = f"{host}:{port}"
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as err:
        remedy = "start the server, or mend base_url (with its port)"
        return Finding(subject, "FAIL", f"{place} does not answer: {err}", remedy)
    return Finding(subject, "ok", f"{place} answers")


def _serves_vllm(url: str) -> bool:
    """Whether a server says that it is vLLM's; one that wants a key for that says nothing."""
    import requests

    try:
        listed = requests.get(urljoin(url, "/v1/models"), timeout=CONNECT_SECONDS).json()
        return any(model.get("owned_by") == "vllm" for model in listed["data"])
    except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError):
        return False


def _gguf(subject: str, path: Path) -> Finding:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as err:
        return Finding(subject, "FAIL", str(err), "set pretrained to the path of a GGUF file")
    if head != b"GGUF":
        detail, remedy = f"{path} is not a GGUF file", "download it again, or name another file"
        return Finding(subject, "FAIL", detail, remedy)
    return Finding(subject, "ok", f"{path} is a GGUF file")


def _template(subject: str, pretrained: str, chat: bool) -> Finding:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(pretrained)
    except (ImportError, KeyError, OSError, TypeError, ValueError) as err:
        first = (str(err).splitlines() or [type(err).__name__])[0]
        remedy = "check the name or folder, log in for a gated model, or download it first"
        return Finding(subject, "FAIL", f"no tokenizer of {pretrained}: {first}", remedy)
    if tokenizer.chat_template or not chat:
        detail = "has a chat template" if tokenizer.chat_template else "takes plain text"
        return Finding(subject, "ok", f"{pretrained} {detail}")
    return Finding(
        subject, "note", f"{pretrained} has no chat template",
        "leave --apply_chat_template out, or set chat=false on this tier",
    )  # fmt: skip
