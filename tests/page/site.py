"""A reader of the manual, in an environment with Playwright; prints what is too wide, as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import sync_playwright

WIDER = """() => [document.documentElement, ...document.querySelectorAll("pre, pre code")]
  .filter(element => element.scrollWidth > element.clientWidth + 1)
  .map(element => element.tagName + " " + element.innerText.slice(0, 60))"""


def main(folder: str) -> dict[str, list[str]]:
    """Look at every page on a phone and on a desk; return what is too wide for it."""
    wide: dict[str, list[str]] = {}
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 844})
            for file in sorted(Path(folder).rglob("index.html")):
                page.goto(f"{address}/{file.parent.relative_to(folder)}/")
                if elements := page.evaluate(WIDER):
                    wide[f"{file.parent.name} at {width}"] = elements
        browser.close()
        server.shutdown()
    return wide


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))  # noqa: T201  # its answer
