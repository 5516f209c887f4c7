"""Make docs/pictures/report.png: the report of a finished run, as a browser shows it.

    .venv/bin/gpt2dsl run specs/quickstart.toml
    .venv/bin/python docs/pictures.py runs/quickstart-*

Chromium is that of `make judges` (tests/page/environment.sh); it runs in an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
BROWSER = DOCS.parent / ".browser" / "bin" / "python"
PICTURE = DOCS / "pictures" / "report.png"
WIDTH, HEIGHT = 960, 1020
COLORS = 128
"""Entries of the palette; keeps the picture small."""

INSIDE = """
import shutil, sys
from playwright.sync_api import sync_playwright

address, picture, width, height = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
    size = {"width": int(width), "height": int(height)}
    page = browser.new_page(viewport=size, color_scheme="light")
    page.goto(address)
    page.screenshot(path=picture)
    browser.close()
"""


def main(run: Path, browser: Path = BROWSER) -> None:
    """Photograph the first screen of a run's report."""
    address = (run / "report.html").resolve(strict=True).as_uri()
    PICTURE.parent.mkdir(exist_ok=True)
    command = [*map(str, (browser, "-c", INSIDE, address, PICTURE, WIDTH, HEIGHT))]
    subprocess.run(command, check=True)  # noqa: S603  # it is the code above
    with Image.open(PICTURE) as image:
        image.convert("RGB").quantize(COLORS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
