"""A person at the page, in an environment with Playwright; prints what the page showed as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

PROMPT = "the old cat"
DONE = ".status:visible:has-text('tokens in')"


def visit(
    browser: Browser, url: str, key: str, pictures: Path, width: int, scheme: Any
) -> dict[str, Any]:
    """Use everything that the page has, by keyboard where that is possible."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    messages: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#access:not([hidden])")
    found: dict[str, Any] = {"without a key": page.inner_text("#access label")}
    page.keyboard.type("another key")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    found["another key"] = page.inner_text("#problem")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#model option", state="attached")
    found["model"] = page.input_value("#model")
    found["access"] = page.is_visible("#access")
    found |= completed(page)
    page.screenshot(path=pictures / f"complete-{width}-{scheme}.png", full_page=True)
    found |= refusals(page) | chatted(page)
    page.screenshot(path=pictures / f"chat-{width}-{scheme}.png", full_page=True)
    found["overflow"] = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    found["ground"] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    found["messages"], found["asked"] = messages, asked
    context.close()
    return found


def completed(page: Page) -> dict[str, Any]:
    """Complete a text, and look at its tokens."""
    page.fill("#prompt", PROMPT)
    page.fill("[name=temperature]", "0")
    page.fill("[name=max_tokens]", "12")
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(DONE)
    found = {"text": page.text_content("#text"), "status": page.inner_text("#complete .status")}
    page.hover(".token >> nth=2")
    found["hovered"] = page.text_content(".token.current")
    found["token"] = page.inner_text("#token")
    page.focus("#text")
    page.keyboard.press("End")
    found["last"] = page.text_content(".token.current")
    page.keyboard.press("ArrowLeft")
    found["before"] = page.evaluate(
        "[...document.querySelectorAll('.token')].findIndex(t => t.matches('.current'))"
        " - document.querySelectorAll('.token').length"
    )
    return found


def refusals(page: Page) -> dict[str, Any]:
    """Ask for what can't be, and stop what runs."""
    found = {}
    for name, selector, value in (
        ("refused here", "[name=temperature]", "-1"),
        ("refused there", "[name=stop]", "\n".join("abcdef")),
    ):
        before = page.input_value(selector)
        page.fill(selector, value)
        page.click("#complete-form [type=submit]")
        page.wait_for_selector("#problem:not([hidden])")
        found[name] = page.inner_text("#problem")
        page.fill(selector, before)
    page.fill("[name=max_tokens]", "50")
    page.click("#complete-form [type=submit]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#complete-form .halt", state="hidden")
    found["stopped"] = page.inner_text("#complete .status")
    return found


def chatted(page: Page) -> dict[str, Any]:
    """Chat, with the answer to a first message before a second one."""
    page.fill("[name=max_tokens]", "8")
    page.focus("#tab-complete")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.focus("#message")
    for text in ("a bird", "over"):
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        page.wait_for_selector(DONE)
    return {
        "chat": [element.text_content() for element in page.query_selector_all(".message")],
        "shown": page.is_visible("#chat") and not page.is_visible("#complete"),
        "typed": page.input_value("#message"),
    }


def main(url: str, key: str, pictures: str) -> list[dict[str, Any]]:
    """Visit the page on a phone and on a desk, in the light and in the dark."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        found = []
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
            found.append(visit(browser, url, key, Path(pictures), width, scheme))
        browser.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201  # its answer
