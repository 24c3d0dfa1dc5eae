"""Providers that LiteLLM reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automix_eval.backends.servers.faults import classify
from automix_eval.backends.servers.transport import Send
from automix_eval.safety.logs import harmless
from automix_eval.safety.redaction import scrub, scrub_values

if TYPE_CHECKING:
    from aiohttp import ClientSession


def through_litellm(lm: Any) -> Send:
    """A sender that leaves provider and key to LiteLLM, and retries to us."""

    async def send(_session: ClientSession, payload: Any) -> Mapping[str, Any]:
        try:
            response = await lm._litellm.acompletion(**payload, timeout=lm.timeout, num_retries=0)
        except Exception as err:  # noqa: BLE001  each provider's own; all become one of our kinds
            response = getattr(err, "response", None)
            headers = getattr(response, "headers", None) or {}
            status = int(getattr(err, "status_code", 0) or 500)
            raise classify(status, scrub(str(err)), headers) from harmless(err)
        body: Mapping[str, Any] = scrub_values(response.model_dump())
        return body

    return send
