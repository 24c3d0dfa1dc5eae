"""Makes ``results/reference_demo`` and the README's pictures from one run of the demo.

``make reference`` runs the demo and then this. The records are kept without the questions and
references of the data set, which are not ours to copy. It needs playwright and Debian's chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import sync_playwright

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.schema import MANIFEST_GLOB, from_line, to_line
from automix_eval.report import output
from automix_eval.safety.files import write_json

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference_demo"
SIZE = {"width": 1280, "height": 1420}
PICTURES = {"light": "report.png", "dark": "report-dark.png"}


def main() -> None:
    """Keep the newest run of a folder, and take the pictures of its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder that `make demo` wrote")
    manifest = newest(parser.parse_args().run)
    shutil.rmtree(REFERENCE, ignore_errors=True)
    REFERENCE.mkdir(parents=True)
    keep(manifest)
    assembled = assemble([REFERENCE], Settings())
    for form in ("text", "json"):
        (REFERENCE / output.NAMES[form]).write_text(output.render(assembled, form))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(output.render(assemble([manifest], Settings()), "html"))
        photograph(page, json.loads(manifest.read_text())["run_id"])


def newest(folder: Path) -> Path:
    """The manifest of the last run of a folder."""
    return max(folder.glob(MANIFEST_GLOB), key=lambda path: path.stat().st_mtime)


def keep(manifest: Path) -> None:
    """Copy manifest and policies, and the records without the texts of the data set."""
    held = json.loads(manifest.read_text())
    held["config"]["store"]["path"] = None  # where the calls lay on one machine
    write_json(REFERENCE / manifest.name, held)
    for name in held["policies"].values():
        shutil.copy(manifest.with_name(name), REFERENCE / name)
    lines = manifest.with_name(held["records"]).read_bytes().splitlines()
    bare = (replace(from_line(line), question="", references=()) for line in lines)
    (REFERENCE / held["records"]).write_bytes(b"".join(map(to_line, bare)))


def photograph(page: Path, run_id: str) -> None:
    """Take what a reader sees first, in light and in dark; the run is named inside the pictures."""
    about = PngImagePlugin.PngInfo()
    about.add_text("run", run_id)
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme, name in PICTURES.items():
            tab = browser.new_page(viewport=SIZE, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.wait_for_selector("#samples[data-ready]", state="attached")
            path = ROOT / "docs" / name
            tab.screenshot(path=path)
            Image.open(path).convert("RGB").quantize(128).save(path, pnginfo=about, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
