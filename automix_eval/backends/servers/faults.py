"""What can go wrong between us and a server: each fault has a kind, and may be worth a retry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from automix_eval.safety.text import printable

CONTENT_FILTER = "content_filter"
_RETRIED_STATUS = {408, 409, 425, 429}
_FINAL_STATUS = {501, 505}
_NO_QUOTA = ("insufficient_quota", "quota_exceeded", "billing_hard_limit", "insufficient_balance")
_FILTERED = ("content_filter", "responsibleaipolicyviolation", "content_policy_violation")
# a server that asks for more patience than this is better asked again by another run
_LONGEST_RETRY_AFTER = 600.0


class RequestError(Exception):
    """A request that brought no usable answer.

    Attributes:
        kind: For counting: ``http_429``, ``timeout``, ``connection``, ``malformed``, ...
        retried: Whether another attempt may succeed.
        retry_after: Seconds the server asked to wait, None if it did not.
        attempts: How often the request was sent, once given up.
    """

    def __init__(
        self, kind: str, text: str, *, retried: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.retried = retried
        self.retry_after = retry_after
        self.attempts = 1


class FailedRequests:
    """What failed for good among the requests of one exchange, and when that is enough.

    Args:
        prompts: The prompts that a request carries, by its index.
        most: Different prompts that may fail; with one more nothing new is sent.
        in_a_row: Requests given up one after the other, each after all its attempts, that show
            that the server is gone: the others need not wait for it as long, one by one.

    Attributes:
        errors: Index of a request -> its failure.
        gone: The failure at which the server was taken for gone.
    """

    def __init__(
        self,
        prompts: Callable[[int], Collection[str]] = lambda _: (),
        most: int = 0,
        in_a_row: int = 10,
    ) -> None:
        self.errors: dict[int, RequestError] = {}
        self.gone: RequestError | None = None
        self._prompts = prompts
        self._most = most
        self._in_a_row = in_a_row
        self._row = 0
        self._lost: set[str] = set()

    def lost(self, index: int) -> bool:
        """Whether a request carries nothing but prompts that failed: it need not be sent."""
        prompts = self._prompts(index)
        return bool(prompts) and self._lost.issuperset(prompts)

    def answered(self) -> None:
        """Note that the server is there."""
        self._row = 0

    def tolerate(self, index: int, failure: RequestError) -> bool:
        """Note a failure; whether the others go on."""
        self.errors[index] = failure
        self._lost.update(self._prompts(index))
        self._row = self._row + 1 if failure.retried else 0
        if self._row >= self._in_a_row:
            self.gone = failure
        return self.gone is None and self._most > 0 and len(self._lost) <= self._most


def read_json(text: str) -> Mapping[str, Any]:
    """The JSON object of a reply.

    Raises:
        RequestError: Not JSON or no object (retried), or an error with the status of a success.
    """
    try:
        body = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as err:
        raise RequestError(
            "malformed", f"not JSON: {_short(text) or 'nothing'}", retried=True
        ) from err
    if not isinstance(body, dict):
        raise RequestError("malformed", f"not a JSON object: {_short(text)}", retried=True)
    error = body.get("error")
    if error:
        code = error.get("code") if isinstance(error, dict) else None
        digits = str(code) if isinstance(code, (int, str)) else ""
        status = int(digits) if digits.isdecimal() and len(digits) == 3 else 500
        raise classify(status, text, {})
    return body


def classify(status: int, text: str, headers: Mapping[str, str]) -> RequestError:
    """What an error status means, and whether another attempt may help."""
    lowered = text[:5000].lower()
    if status in (400, 403, 422) and any(word in lowered for word in _FILTERED):
        return RequestError(CONTENT_FILTER, _short(text), retried=False)
    if status == 402 or (status in (403, 429) and any(word in lowered for word in _NO_QUOTA)):
        return RequestError("quota", f"status {status}: {_short(text)}", retried=False)
    after = _retry_after(headers)
    patient = after is None or after <= _LONGEST_RETRY_AFTER
    may_help = status in _RETRIED_STATUS or (status >= 500 and status not in _FINAL_STATUS)
    note = "" if patient else f" (it asks to wait {after:.0f} s)"
    return RequestError(
        f"http_{status}",
        f"status {status}{note}: {_short(text)}",
        retried=may_help and patient,
        retry_after=after,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header: a number, or a date by the server's own clock."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if float(value) == float(value) else None
    except ValueError:
        pass  # then it is a date
    at, now = _moment(value), _moment(headers.get("Date", ""))
    return None if at is None else max(0.0, at - (time.time() if now is None else now))


def _moment(text: str) -> float | None:
    """A date of a header in seconds since 1970; None where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (OverflowError, TypeError, ValueError):
        return None


def _short(text: str) -> str:
    return printable(" ".join(text[:5000].split()))
