"""The one browser of all tests here."""

import os

import pytest
from chromium import find_chromium, launch
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    path = find_chromium()
    if path is None:
        reason = "no Chromium on this machine: install the package chromium or set CHROMIUM to its path"
        (pytest.fail if os.environ.get("DISTILL_REQUIRE_BROWSER") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        yield browser
        browser.close()
