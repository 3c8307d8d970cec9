"""Writes a picture of a report: python tests/browser/screenshot.py results/report.html docs/report.png."""

import sys
from pathlib import Path

from chromium import find_chromium, launch
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 1800


def main(report: str, picture: str) -> None:
    """Writes the top of the page, 1280 pixels wide."""
    path = find_chromium()
    if path is None:
        sys.exit("error: expected a Chromium, found none; install the package chromium or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(Path(report).resolve().as_uri())
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
