"""Takes the README's pictures of a report's page: ``docs/report.png`` and ``docs/report-dark.png``.

Run it on the demo's report, so that the pictures show figures that anyone can reproduce::

    make demo
    automix-eval report results/demo --format html --out report.html
    python docs/screenshot.py report.html

It needs playwright and Debian's chromium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 1600}


def main() -> None:
    """Open the page in light and in dark and keep what a reader sees first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="a file written by automix-eval report")
    parser.add_argument("--task", help="the task to show (default: the first)")
    args = parser.parse_args()
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(args.page.resolve().as_uri())
            page.wait_for_selector("#samples[data-ready]", state="attached")
            if args.task:
                page.get_by_role("button", name=f"Show {args.task}", exact=True).click()
                page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
                page.mouse.move(0, 0)
            page.screenshot(path=Path(__file__).with_name(name))
        browser.close()


if __name__ == "__main__":
    main()
