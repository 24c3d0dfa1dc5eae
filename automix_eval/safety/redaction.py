"""What must never be shown: how a secret is recognised, and texts without it.

A secret is known by the name it goes by (``auth_token``, ``header``, ``OPENAI_API_KEY``), by its
place (the credentials of a URL), or because this process has met its value: then every text that
leaves goes through :func:`scrub`, which finds the value plain, escaped, URL-encoded or in base64.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

MARK = "***"
# What may stand for a secret in a configuration: a variable of the environment. The short form is
# for --model_args, in which the harness takes a brace for JSON.
_REFERENCE = re.compile(
    r"((?:(?:bearer|basic|token)\s+)?)"
    r"(?:env:([A-Za-z_][A-Za-z0-9_]*)|\$\{oc\.env:[A-Za-z_][A-Za-z0-9_]*(?:,\s*null)?\})",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"token$|secret|passw|passphrase|credential|authorization|cookie|^headers?$|^extra_headers$"
    r"|(?:api|access|private|account|subscription|signing|master)[_-]?key",
    re.IGNORECASE,
)
# Tokens of a vocabulary, not of an account.
_VOCABULARY = re.compile(
    r"(?:bos|eos|eot|pad|unk|sep|cls|mask|start|begin|end|stop|prefix|special|image|new|last|per)"
    r"[_-]?token$",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"key$|_pass$", re.IGNORECASE)
_QUERY = re.compile(r"^(?:.*[_-])?(?:key|sig|signature|code|auth|pwd)$", re.IGNORECASE)
# Keys of well-known services, whatever they are called where they stand.
_LOOKS = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|xox[abprs]-[A-Za-z0-9-]{20,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,})"
)
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+")
_PAIR = re.compile(
    r"(['\"]?)([\w.-]{1,80})(\1\s*[=:]\s*)"
    r"('[^']*'|\"[^\"]*\"|\{[^{}]*\}|(?:bearer |basic )?[^\s,;'\"{}\[\]]+)",
    re.IGNORECASE,
)

# A secret in running text: the value of a header, or a pair whose name tells.
_SCHEME = re.compile(r"\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
# user:password@host, without the scheme that would make it a URL.
_USERINFO = re.compile(r"[^\s/@:]+:[^\s/@]+@[^\s/@]+")
# A variable that a configuration would set, for which no harmless use is known.
_SETS = re.compile(r"key|pass|pwd|auth|cred|token|secret", re.IGNORECASE)
_INSIDE = re.compile(r"\$\{([^{}]*)\}")
_HARMLESS_HEADER = re.compile(r"\.(?:accept|content-type|user-agent|[\w-]+-version)$", re.I)


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name (the last part of a dotted key) is taken for a secret."""
    last = name.rpartition(".")[2]
    return bool(_NAMED.search(last)) and not _VOCABULARY.search(last)


def is_reference(text: str) -> bool:
    """Whether a text names a variable of the environment and holds no secret itself."""
    return bool(_REFERENCE.fullmatch(text.strip()))


def expand_references(key: str, value: Any, secret: bool = False) -> Any:
    """The value with ``env:NAME`` as ``${oc.env:NAME}``, where a secret or an address belongs."""
    secret = secret or is_secret_name(key) or key.rpartition(".")[2] == "base_url"
    if isinstance(value, Mapping):
        return {k: expand_references(str(k), v, secret) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [expand_references(key, v, secret) for v in value]
    if not secret or not isinstance(value, str):
        return value
    match = _REFERENCE.fullmatch(value.strip())
    return f"{match[1]}${{oc.env:{match[2]}}}" if match and match[2] else value


# --------------------------------------------------------------------------- what is known

_MET: dict[str, None] = {}


def know(value: Any, key: str = "") -> None:
    """Remember every secret below a value, so that :func:`scrub` finds it in any text.

    Args:
        value: A configuration or a part of it, references resolved.
        key: Its name.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            know(inner, key if is_secret_name(key) else str(name))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            know(inner, key)
    elif isinstance(value, str) and value:
        if is_secret_name(key):
            scheme, _, rest = value.partition(" ")
            secret = rest if scheme.lower() in ("bearer", "basic", "token") and rest else value
            if _is_telling(secret, 6, 12):
                _MET[secret] = None
        for url in _URL.findall(value):
            _MET.update(dict.fromkeys(_url_secrets(url)))


def scrub(text: str) -> str:
    """The text with every known secret blanked; the same object where it holds none."""
    found = [n for n in _needles() if n in text]
    for needle in found:
        text = text.replace(needle, MARK)
    if "%" in text:  # URLs are encoded more or less thoroughly
        plain = unquote_plus(text)
        for secret in [s for s in _secrets() if s in plain or s in unquote(text)]:
            text = _encoded(secret).sub(MARK, text)
    return text


def scrub_values(value: Any) -> Any:
    """Plain data with every known secret blanked in its texts, keys of mappings included."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {scrub(k) if isinstance(k, str) else k: scrub_values(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub_values(v) for v in value]
    return value


def _secrets() -> list[str]:
    environment = dict.fromkeys(
        secret for name, value in os.environ.items() for secret in _of_variable(name, value)
    )
    return sorted({**_MET, **environment}, key=len, reverse=True)


@lru_cache(maxsize=256)
def _encoded(secret: str) -> re.Pattern[str]:
    """Matches a secret of whose characters any are percent-encoded."""
    parts = []
    for character in secret:
        code = "".join(f"%{b:02x}" for b in character.encode("utf-8", "surrogatepass"))
        either = [re.escape(character), f"(?i:{code})", *([r"\+"] if character == " " else [])]
        parts.append(f"(?:{'|'.join(either)})")
    return re.compile("".join(parts))


def _needles() -> list[str]:
    """All known secrets in all their forms, the longest first."""
    return sorted({n for s in _secrets() for n in _forms(s)}, key=len, reverse=True)


@lru_cache(maxsize=1024)
def _of_variable(name: str, value: str) -> tuple[str, ...]:
    named = is_secret_name(name) or _VARIABLE.search(name)
    found = [value] if named and _is_telling(value, 8, 20) and "/" not in value[:1] else []
    return (*found, *(s for u in _URL.findall(value) for s in _url_secrets(u)))


def _is_telling(text: str, mixed: int, plain: int) -> bool:
    """Whether a secret is unlike any word: ``EMPTY`` or ``not-needed`` may stand in an answer."""
    has_digit = any(c.isdigit() for c in text)
    return len(text) >= (mixed if has_digit else plain)


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    escaped = json.dumps(secret)[1:-1]
    twice = json.dumps(escaped)[1:-1]  # an answer may quote JSON
    encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    lower = {re.sub("%..", lambda m: m[0].lower(), e) for e in encoded}
    forms = {secret, escaped, twice, escaped.replace("/", r"\/"), *encoded, *lower}
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        # the characters that depend on nothing but the secret, wherever it begins
        whole = base64.b64encode(b"\0" * before + raw).decode()
        start, end = (0, 2, 3)[before], (before + len(raw)) * 8 // 6
        core = whole[start:end]
        if len(core) >= 8:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return tuple(forms)


# --------------------------------------------------------------------------- URLs


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        return parts._replace(
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()
    except ValueError:  # no URL: brackets that do not close
        return re.sub(r"//[^/]*@", "//", url).partition("?")[0]


def split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """A URL without user and password, and the header that says them."""
    parts = urlsplit(url)
    userinfo, _, host = parts.netloc.rpartition("@")
    if not userinfo:
        return url, {}
    basic = base64.b64encode(unquote(userinfo).encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {basic}"}


def _url_secrets(url: str) -> list[str]:
    """Passwords and keys that a URL itself carries; references are none."""
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
        query = parse_qsl(parts.query)
    except ValueError:
        return []
    found = [v for k, v in query if v and (is_secret_name(k) or _QUERY.match(k))]
    userinfo = parts.netloc.rpartition("@")[0]
    if password or (userinfo and _is_telling(userinfo, 8, 20)):
        found += [userinfo, base64.b64encode(unquote(userinfo).encode()).decode()]
        found += [v for v in (password, unquote(password)) if _is_telling(v, 6, 12)]
        found += [user] if not password else []
    return [v for v in found if "${" not in v and v]


# --------------------------------------------------------------------------- blanking by name


def blank(value: Any, key: str = "") -> Any:
    """Plain data for the reader: secrets blanked by name, URLs without credentials.

    A reference to a variable of the environment stays: it tells where the secret comes from.
    """
    if isinstance(value, Mapping):
        if is_secret_name(key):
            return MARK
        return {k: blank(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [blank(v, key) for v in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret_name(key):
        return value if isinstance(value, str) and is_reference(value) else MARK
    return _blank_urls(value) if isinstance(value, str) else value


def blank_text(text: str) -> str:
    """A text that may show arguments: ``key=value`` and ``'key': value`` blanked by name."""

    def blanked(match: re.Match[str]) -> str:
        if is_secret_name(match[2]) and not is_reference(match[4].strip("'\"")):
            return f"{match[1]}{match[2]}{match[3]}{MARK}"
        value = match[4]
        inner = f"{{{_PAIR.sub(blanked, value[1:-1])}}}" if value[:1] == "{" else value
        return f"{match[1]}{match[2]}{match[3]}{inner}"

    return _blank_urls(_PAIR.sub(blanked, text))


def _blank_urls(text: str) -> str:
    """The text without credentials of URLs, keys of services and known secrets."""

    def stripped(match: re.Match[str]) -> str:
        return without_credentials(match[0]) if _url_secrets(match[0]) else match[0]

    return scrub(_LOOKS.sub(MARK, _URL.sub(stripped, text)))


# --------------------------------------------------------------------------- written out


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
    if _blank_urls(text) != text or any(_is_telling(t, 8, 20) for t in _SCHEME.findall(text)):
        return True
    pairs = ((m[2], m[4].strip("'\"")) for m in _PAIR.finditer(text))
    return any(
        is_secret_name(name) and _is_telling(value, 8, 20) and not is_reference(value)
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
    variable = inside.strip().startswith("oc.env:") and _VARIABLE.search(name)
    return is_secret_name(name) or bool(variable)


def _is_harmless_header(key: str) -> bool:
    return bool(_HARMLESS_HEADER.search(key))
