"""Take the screenshots of the README and the guide: the App with the demo people.

Usage: ``make pictures``. Draws the demo people into a separate database, explains and
audits them as the guide says, serves the App, and opens it in headless Chromium. Then
compares the demo network with one that has lost its shortcut, as ``docs/compare.md``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from find_chromium import find_chromium
from pictures import PICTURES, picture_compare
from train_demo_network import main as train_demo_network

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

MODEL = "shuffled"
FIELDS = ("--identity-field", "identity", "--camera-field", "camera")
COMPARISON = (
    ("explain", DATASET, "--model", MODEL, "--key", MODEL, *FIELDS),
    ("compare", DATASET, "sfam", MODEL, "--regions", "scene"),
)
"""Another network over the same people."""


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        weights = Path(name) / f"{MODEL}.pt"
        train_demo_network(["--lose-shortcut", "--output", str(weights)])
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        # A second run would be seen in the pictures of the first one.
        for commands, pictures in ((AUDITS, PICTURES), (COMPARISON, [picture_compare])):
            with served_demo(commands, weights.with_suffix(".json")) as url:
                for take_pictures in pictures:
                    page = browser.new_page(viewport=SIZE)
                    page.set_default_timeout(120_000)
                    page.goto(url)
                    page.locator('[data-cy="looker"]').first.wait_for()
                    page.get_by_role("button", name="Dismiss").click()
                    take_pictures(page, IMAGES)
                    page.close()
        browser.close()


@contextmanager
def served_demo(commands: Sequence[Sequence[str]], models: Path) -> Iterator[str]:
    """Serve the demo with its own database, plugins and images, and run commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **os.environ,
            "FIFTYONE_DATABASE_DIR": str(folder / "db"),
            "FIFTYONE_DATABASE_NAME": f"sfam_pictures_{os.getpid()}",
            "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
            "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "data"),
            "FIFTYONE_DO_NOT_TRACK": "true",
            "FIFTYONE_SFAM_MODELS": str(models),
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
            for words in commands:
                subprocess.run([*command, *words], env=environment, check=True)
            yield line.split()[-1]
        finally:
            # FiftyOne's server and database outlive a terminated process.
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait()
            for child in started:
                with suppress(psutil.NoSuchProcess):
                    child.terminate()
            psutil.wait_procs(started, timeout=30)


if __name__ == "__main__":
    main()
