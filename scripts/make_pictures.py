"""Take the screenshots of the README and the guide: the App with the demo people.

Usage: ``make pictures``. Draws the demo people into a separate database, explains and
audits them as the guide says, serves the App, and opens it in headless Chromium.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

from find_chromium import find_chromium

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
DATASET = "sfam-demo"
PORT = 5177
SIZE = {"width": 1500, "height": 1000}
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AUDITS = (
    ("evaluate", DATASET, "--slice", "camera", "--pair-slice", "camera"),
    ("suspects", DATASET),
    ("regions", DATASET, "--field", "person"),
)
"""The audits that the guide starts with buttons of the panel."""


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        served_demo(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        for take_pictures in (picture_pairs, picture_audit):
            page = browser.new_page(viewport=SIZE)
            page.set_default_timeout(120_000)
            take_pictures(opened(page, url))
        browser.close()


def picture_pairs(page: Page) -> None:
    """Take the grid with heatmaps next to the panel of pairs."""
    open_panel(page, "SFAM pairs", "Rank 1")
    save(page, "app")


def picture_audit(page: Page) -> None:
    """Take the pages of the audit panel, and a finding with its pairs."""
    open_panel(page, "SFAM audit", "Rank of the nearest true match")
    save(page, "audit")
    for tab, shown, name in (
        ("Scores", "Scores of all pairs", "scores"),
        ("Regions", "Share of the score by region", "regions"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(shown).first.wait_for()
        save(page, name)
    page.get_by_role("tab", name="Suspects").click()
    page.get_by_test_id("sfam-findings").locator("article").first.wait_for()
    save(page, "suspects")
    page.locator("article").filter(has_text="mislabeled image").first.locator(
        "[data-item]"
    ).first.click()
    page.get_by_role("button", name="Why not the true match?").first.click()
    page.get_by_role("button", name="Leave the true match").wait_for()
    save(page, "why")


def opened(page: Page, url: str) -> Page:
    """Open the App and close the notice that covers it."""
    page.goto(url)
    page.wait_for_selector('[data-cy="new-panel-btn"]', timeout=60_000)
    page.wait_for_timeout(3000)
    dismiss = page.get_by_text("Dismiss", exact=True)
    if dismiss.count():
        dismiss.first.click()
    return page


def open_panel(page: Page, label: str, shown: str) -> None:
    """Open a panel from the menu, and wait until it shows a text."""
    page.click('[data-cy="new-panel-btn"]')
    page.get_by_text(label).first.click()
    page.get_by_text(shown).first.wait_for()


def save(page: Page, name: str) -> None:
    """Save a screenshot once the panels have finished loading."""
    page.mouse.move(5, SIZE["height"] - 5)
    page.wait_for_timeout(4000)
    spinner = page.locator('[data-cy^="panel-tab-"] [role="progressbar"]')
    for _ in range(100):
        if not spinner.count():
            break
        page.wait_for_timeout(300)
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"{name}.png")


@contextmanager
def served_demo(folder: Path) -> Iterator[str]:
    """Serve the demo with its own database, plugins and images."""
    environment = {
        **os.environ,
        "FIFTYONE_DATABASE_DIR": str(folder / "db"),
        "FIFTYONE_DATABASE_NAME": f"sfam_pictures_{os.getpid()}",
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "data"),
        "FIFTYONE_DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "fiftyone_sfam"]
    process = subprocess.Popen(
        [*command, "demo", "--port", str(PORT)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if "The App is at" in line:
                break
        else:
            raise RuntimeError("the demo ended before it served the App.")
        for audit in AUDITS:
            subprocess.run([*command, *audit], env=environment, check=True)
        yield line.split()[-1]
    finally:
        # FiftyOne's server and database outlive a terminated process.
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()


if __name__ == "__main__":
    main()
