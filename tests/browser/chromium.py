"""A real Chromium without a window, driven by Playwright; it comes with the machine, not with the environment."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """Returns the browser's path: the variable CHROMIUM, else the first of the usual names on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright: Playwright, path: str) -> Browser:
    """Starts the browser."""
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


@contextmanager
def watched(browser: Browser, address: str, **options) -> Iterator[Page]:
    """Yields a page in a fresh tab; whatever is done there, nothing may be asked for, logged or thrown."""
    page = browser.new_page(**options)
    page.set_default_timeout(5000)
    asked, told = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.goto(address)
    yield page
    page.close()
    assert {*asked} == {address} and told == []
