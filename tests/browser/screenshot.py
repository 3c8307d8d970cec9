"""Writes pictures of a report's first screen: python tests/browser/screenshot.py results/report.html docs/report.

Each is WIDTH-SCHEME.png, of 64 colours, at the widths of a desk, a small window and a telephone, light and dark.
"""

import sys
from io import BytesIO
from itertools import product
from pathlib import Path

from chromium import find_chromium, launch, watched
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

SIZES = {1400: 900, 1024: 768, 390: 844}
SCHEMES = ("light", "dark")


def write_pictures(browser: Browser, report: Path, folder: Path) -> list[Path]:
    """Returns the pictures, which it writes; a page that asks for something or says something is an error."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (width, height), scheme in product(SIZES.items(), SCHEMES):
        viewport = {"width": width, "height": height}
        with watched(browser, report.resolve().as_uri(), viewport=viewport, color_scheme=scheme) as page:
            picture = Image.open(BytesIO(page.screenshot()))
        written.append(folder / f"{width}-{scheme}.png")
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(written[-1], optimize=True)
    return written


def main(report: str, folder: str) -> None:
    """Writes the pictures of a report to a folder."""
    path = find_chromium()
    if path is None:
        sys.exit("error: expected a Chromium, found none; install the package chromium or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        write_pictures(browser, Path(report), Path(folder))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
