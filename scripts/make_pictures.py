"""Make the pictures of the README: the real App over the demo people.

Usage: ``make pictures``. Draws the demo world into a database of its own, explains it,
serves the App and photographs it in headless Chromium.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from find_chromium import find_chromium

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PORT = 5177
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        served_demo(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        page = browser.new_page(viewport={"width": 1500, "height": 860})
        page.goto(url)
        photograph_app(page)
        browser.close()


def photograph_app(page: Page) -> None:
    """Photograph the grid with heatmaps beside the panel of pairs."""
    page.wait_for_selector('[data-cy="new-panel-btn"]', timeout=60_000)
    page.wait_for_timeout(3000)
    dismiss = page.get_by_text("Dismiss", exact=True)
    if dismiss.count():
        dismiss.first.click()
    page.click('[data-cy="new-panel-btn"]')
    page.get_by_text("SFAM pairs").first.click()
    page.wait_for_selector('img[alt="The query with its map"]', timeout=30_000)
    page.wait_for_timeout(6000)
    page.screenshot(path=IMAGES / "app.png")


@contextmanager
def served_demo(folder: Path) -> Iterator[str]:
    """Serve the demo with a database, plugins and images of its own."""
    environment = {
        **os.environ,
        "FIFTYONE_DATABASE_DIR": str(folder / "db"),
        "FIFTYONE_DATABASE_NAME": f"sfam_pictures_{os.getpid()}",
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "data"),
        "FIFTYONE_DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "fiftyone_sfam", "demo", "--port", str(PORT)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if "The App is at" in line:
                break
        else:
            raise RuntimeError("the demo ended before it served the App.")
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
