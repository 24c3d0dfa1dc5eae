"""A real browser for tests of the page: Debian's chromium through Playwright."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def launch() -> Iterator[Any]:
    """A browser, closed afterwards; skips the test where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as play:
        # Containers run as root, where chromium's own sandbox refuses to start.
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page in a browser, and everything it did that it must not do."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def rows(self) -> Any:
        """The questions listed."""
        return self.page.locator("#questions tr.item")

    def expect(self, selector: str) -> Any:
        """Playwright's assertions, which wait; its other waiting evaluates texts in the page."""
        from playwright.sync_api import expect

        return expect(self.page.locator(selector))

    def expect_count(self, pattern: str) -> None:
        """The line above the questions begins like this."""
        self.expect("#count").to_have_text(re.compile(f"^{pattern}"))

    def open_row(self, number: int = 0) -> Any:
        """Unfold a question and return what it shows."""
        self.rows().nth(number).locator("button.fold").click()
        self.page.wait_for_selector("#questions tr.more")
        return self.page.locator("#questions tr.more").first


@contextmanager
def open_page(browser: Any, path: Path, **options: Any) -> Iterator[Opened]:
    """Open a file from disk; afterwards it must have complained and asked for nothing."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        opened = Opened(page)
        page.on("console", lambda m: opened.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: opened.complaints.append(f"error: {e}"))
        page.on("dialog", lambda d: (opened.complaints.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: opened.requests.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#samples[data-ready]", state="attached")
        yield opened
        assert opened.complaints == []
        # The empty icon is part of the file.
        assert [url for url in opened.requests if not url.startswith("data:,")] == [path.as_uri()]
    finally:
        context.close()
