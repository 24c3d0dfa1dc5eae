"""Log lines and tracebacks without secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

from automix_eval.safety.redaction import MARK, blank, blank_text, is_secret_name, scrub
from automix_eval.safety.text import harmless_lines

_REPLACED = re.compile(r"([\w.-]+): (.*?) -> (.*?)(?=, [\w.-]+: |$)", re.DOTALL)


class LogFilter(logging.Filter):
    """Takes known secrets out of log lines and of the tracebacks below them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is never dropped."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return True  # logging itself says that a line cannot be made
        clean = scrub(message)
        if record.name.startswith("automix_eval"):  # texts of models and servers stand in our lines
            clean = harmless_lines(clean)
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info:
            shown = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_text = scrub(shown)
        return True


class ArgumentsFilter(logging.Filter):
    """For the harness's own logger, which writes all arguments before a model sees them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is never dropped."""
        if isinstance(record.args, Mapping):
            record.args = blank(record.args)
        elif record.args and "Overwriting" in str(record.msg):
            # a key given twice: its name and both values are arguments of their own, or one text
            key, *values = record.args
            named = (key, *(blank(v, str(key)) for v in values))
            record.args = tuple(_overwritten(a) if isinstance(a, str) else a for a in named)
        elif record.args:
            record.args = tuple(blank(a) if isinstance(a, Mapping) else a for a in record.args)
        elif "arguments:" in str(record.msg):
            # long values are broken into lines, in which no secret would be found
            whole = re.sub(r"\s*\n\s*", "", record.msg)
            if (clean := blank_text(whole)) != whole:
                record.msg = clean
        return True


def _overwritten(text: str) -> str:
    """``key: old -> new`` without the values of secrets."""

    def one(match: re.Match[str]) -> str:
        secret = is_secret_name(match[1])
        return f"{match[1]}: {MARK} -> {MARK}" if secret else blank_text(match[0])

    return _REPLACED.sub(one, text)


def guard_logs() -> None:
    """Put a :class:`LogFilter` on every handler that lines of this process may reach; once each."""
    loggers = [logging.getLogger(), *(_loggers())]
    handlers = {h for logger in loggers for h in logger.handlers}
    if logging.lastResort is not None:
        handlers.add(logging.lastResort)
    for handler in handlers:
        if not any(isinstance(f, LogFilter) for f in handler.filters):
            handler.addFilter(LogFilter())


def _loggers() -> Iterator[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return (logger for logger in known if isinstance(logger, logging.Logger))


def harmless(err: BaseException) -> BaseException | None:
    """The error as the cause of another, or None where its traceback would show a secret."""
    seen: set[int] = set()
    cause: BaseException | None = err
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if scrub(str(cause)) != str(cause):
            return None
        cause = cause.__cause__ or cause.__context__
    return err
