"""What can be known of a tier before its model is made: its name, its arguments, its address."""

from __future__ import annotations

import difflib
import inspect
import socket
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import without_credentials

if TYPE_CHECKING:
    from lm_eval.api.model import LM

# what does not change a model's answers, or must never reach a file
NOT_IDENTITY = {
    "auth_token",
    "batch_size",
    "ca_cert_path",
    "data_parallel_size",
    "device",
    "device_map",
    "gpu_memory_utilization",
    "header",
    "max_batch_size",
    "max_cpu_memory",
    "max_memory_per_gpu",
    "max_retries",
    "num_concurrent",
    "offload_folder",
    "parallelize",
    "tensor_parallel_size",
    "timeout",
    "token",
    "verify_certificate",
}
# what a class of the harness may raise while it loads, or applies a template
LOADING = (
    *(OSError, ValueError, RuntimeError, ImportError, TypeError, LookupError),
    *(AttributeError, AssertionError, ArithmeticError),
)


def name(tier: str, lm: str) -> None:
    """Raise AutoMixError unless the harness has a model of this name that can be a tier."""
    import lm_eval.models  # noqa: F401  registers the harness's models
    from lm_eval.api.registry import model_registry

    names = sorted(model_registry)
    if lm not in names:
        near = difflib.get_close_matches(lm, names, 3)
        raise AutoMixError(
            f"{tier}: the harness has no model {lm!r}; "
            f"nearest: {', '.join(near) or ', '.join(names)}"
        )
    if lm == "automix":
        raise AutoMixError(f"{tier}: a cascade cannot be a tier of itself")


def class_of(lm: str) -> type[LM]:
    """The harness's class of a model, imported with what it needs."""
    import lm_eval.models  # noqa: F401  registers the harness's models
    from lm_eval.api.registry import get_model

    found: type[LM] = get_model(lm)
    return found


def arguments_of(cls: type) -> set[str]:
    """Arguments that a model's class and those it passes ``**kwargs`` on to have by name."""
    return set(_parameters(cls))


def own(lm: Any, name: str) -> Any:
    """A property of a harness's model; None where it has none."""
    try:
        return getattr(lm, name, None)
    except NotImplementedError:
        return None


def counts_tokens(lm: Any) -> bool:
    """Whether a harness's model has a tokenizer, which it may load now, and counts by it."""
    if own(lm, "tokenizer") is None or not hasattr(lm, "tok_encode"):
        return False
    try:
        return len(lm.tok_encode("any")) > 0
    except NotImplementedError:
        return False


def arguments(tier: str, lm: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise AutoMixError for the first argument that the model's class does not have."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), 3)
            raise AutoMixError(
                f"{tier}.{key} is not an argument of the harness's {lm!r}"
                + (f"; nearest: {', '.join(f'{tier}.{n}' for n in near)}" if near else "")
                + f". Arguments it passes on unnamed go into {tier}.extra (JSON or YAML)"
            )


def listening(tier: str, url: str) -> None:
    """See whether anything listens at a tier's address; nothing is sent.

    Raises:
        AutoMixError: The address is none, or nothing answers there.
    """
    shown = f"{tier}.base_url={without_credentials(url)}"
    try:
        host, port = host_and_port(url)
    except ValueError:
        raise AutoMixError(
            f"{shown} is not a URL such as http://127.0.0.1:8000/v1/completions"
        ) from None
    try:
        socket.create_connection((host, port), timeout=10).close()
    except (OSError, UnicodeError) as err:
        raise AutoMixError(
            f"{tier}: nothing answers at {host}:{port} ({err}). Start the server, or "
            f"correct {shown}"
        ) from err


def host_and_port(url: str) -> tuple[str, int]:
    """Where a server listens.

    Raises:
        ValueError: Not the URL of a server, or its port is none.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ValueError("not an address of the web")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _parameters(cls: type) -> Iterator[str]:
    """Named constructor arguments along the classes that pass ``**kwargs`` on."""
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind in (
                parameter.POSITIONAL_OR_KEYWORD,
                parameter.KEYWORD_ONLY,
            ):
                yield parameter.name
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return
