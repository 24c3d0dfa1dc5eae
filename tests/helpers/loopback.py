"""Two models of /v1/completions on this machine, which count what they are asked."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripted import Script

CONCURRENT = 4


class Server(ThreadingHTTPServer):
    """Answers with what depends on the request alone; counts requests.

    Args:
        small: What the SLM says to a prompt.
        large: What the LLM says.

    Attributes:
        asked: How often each request came, by the hash of its body.
        seconds: What an answer takes.
        waits: The same of one model, by its name.
        took: What an answer took by the clock of this server, by its text.
        most: Requests that are answered at once; the others wait for ``more``.
        more: Set where they need wait no longer.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, small: Script, large: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripts = {"small": small, "large": large}
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.seconds = 0.01
        self.waits: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.most = float("inf")
        self.more = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed leaves a broken connection: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        begun = time.perf_counter()
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # its client was killed while it sent: nothing was asked
            return
        digest = hashlib.sha256(body).hexdigest()
        with self.server.lock:
            self.server.asked[digest] += 1
            waits = self.server.asked.total() > self.server.most
        if waits:
            self.server.more.wait(60)
        asked = json.loads(body)
        time.sleep(self.server.waits.get(asked["model"], self.server.seconds))
        prompt = asked["prompt"] if isinstance(asked["prompt"], str) else asked["prompt"][0]
        text = self.server.scripts[asked["model"]](prompt, {})
        if "AI Generated Answer" in prompt and int(digest, 16) % 5 == 0:
            text = " Verification Decision: The AI generated answer is Incorrect."
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 3}
        reply = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.server.took[text] = time.perf_counter() - begun
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def serving(small: Script, large: Script) -> Iterator[Server]:
    """A server, running."""
    made = Server(small, large)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


def cascade_of(server: Server) -> dict[str, Any]:
    """Arguments of a cascade of the server's two models, routed by a policy that is fitted."""
    args: dict[str, Any] = {
        "slm": "local_completions",
        "llm": "local_completions",
        "slm.model": "small",
        "llm.model": "large",
        "verifier": "few_shot",
        "verifier.num_samples": 2,
        "meta_verifier": "threshold",
        "calibration.num_docs": 8,
        "calibration.min_docs": 4,
        "block_size": 6,
        "record": "full",
    }
    for name in ("slm", "llm"):
        args[f"{name}.base_url"] = f"http://127.0.0.1:{server.server_port}/v1/completions"
        args[f"{name}.num_concurrent"] = CONCURRENT
    return args
