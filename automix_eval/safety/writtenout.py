"""Secrets that somebody has written out: in a command, a file of settings or an override."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from automix_eval.safety.redaction import (
    PAIR,
    VARIABLE,
    blank_urls,
    is_reference,
    is_secret_name,
    is_telling,
)

# A secret in running text: the value of a header, or a pair whose name tells.
_SCHEME = re.compile(r"\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
# user:password@host, without the scheme that would make it a URL.
_USERINFO = re.compile(r"[^\s/@:]+:[^\s/@]+@[^\s/@]+")
# A variable that a configuration would set, for which no harmless use is known.
_SETS = re.compile(r"key|pass|pwd|auth|cred|token|secret", re.IGNORECASE)
_INSIDE = re.compile(r"\$\{([^{}]*)\}")
_HARMLESS_HEADER = re.compile(r"\.(?:accept|content-type|user-agent|[\w-]+-version)$", re.I)


def literal_secret(key: str, value: Any, secret: bool = False) -> str | None:
    """Where at or below ``key`` a secret is written out, None where none is.

    Args:
        key: A dotted key of the configuration.
        value: What was given for it, at any depth.
        secret: Whether it stands below the name of a secret.
    """
    secret = secret or _names_secret(key) or _sets_secret(key)
    if isinstance(value, Mapping):
        inner = [(f"{key}.{name}", v) for name, v in value.items()]
        if secret:
            inner = [(k, v) for k, v in inner if not _is_harmless_header(k)]
        return next((f for k, v in inner if (f := literal_secret(k, v, secret))), None)
    if isinstance(value, (list, tuple)):
        return next((f for v in value if (f := literal_secret(key, v, secret))), None)
    if value is None or isinstance(value, bool) or value == "":
        return None
    text = str(value)
    if secret:
        return None if is_reference(text) else key
    address = key.endswith("base_url")
    carries = not address and any(map(_is_secret_reference, _INSIDE.findall(text)))
    carries |= address and bool(_USERINFO.match(unquote(text)))
    return key if carries or _tells(text) or _tells(unquote(text)) else None


def _tells(text: str) -> bool:
    """Whether a text holds a secret, by what is known, by its looks or by what stands before it."""
    if blank_urls(text) != text or any(is_telling(t, 8, 20) for t in _SCHEME.findall(text)):
        return True
    pairs = ((m[2], m[4].strip("'\"")) for m in PAIR.finditer(text))
    return any(
        is_secret_name(name) and is_telling(value, 8, 20) and not is_reference(value)
        for name, value in pairs
    )


def _names_secret(key: str) -> bool:
    """Whether a part of a dotted key is the name of a secret: all below ``header`` may be one."""
    above = any(map(is_secret_name, key.split(".")[:-1])) and not _is_harmless_header(key)
    return above or is_secret_name(key)


def _sets_secret(key: str) -> bool:
    """Whether a key of Hydra's would put a secret into the environment of its jobs."""
    name = key.partition("hydra.job.env_set.")[2]
    return bool(name and _SETS.search(name))


def _is_secret_reference(inside: str) -> bool:
    """Whether ``oc.env:OPENAI_API_KEY`` or ``llm.auth_token`` would bring a secret to its place."""
    name = re.split(r"[.:]", inside.partition(",")[0])[-1].strip()
    variable = inside.strip().startswith("oc.env:") and VARIABLE.search(name)
    return is_secret_name(name) or bool(variable)


def _is_harmless_header(key: str) -> bool:
    return bool(_HARMLESS_HEADER.search(key))
