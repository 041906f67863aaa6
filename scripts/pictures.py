"""The steps of the pictures of the docs, on a page of the App that shows a dataset.

Each function opens a panel, waits for what it is to show, and saves it below a folder.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FRAMES = 24
"""Frames of the animation."""

FRAME_MS = 160


def picture_pairs(page: Page, folder: Path) -> None:
    """Take the grid next to the panel of pairs, and hovering over a false match."""
    viewer = open_viewer(page)
    save(page, folder / "app.png")
    viewer.get_by_role("button", name="Filters", exact=True).click()
    viewer.get_by_label("Outcome").select_option(label="false match")
    viewer.get_by_label("Map", exact=True).select_option(label="evidence")
    viewer.locator('[data-testid="sfam-shown"][data-kind="evidence"]').wait_for(
        state="attached"
    )
    viewer.get_by_role("button", name="Filters", exact=True).click()
    animate(page, viewer, folder / "hover.webp")


def picture_audit(page: Page, folder: Path) -> None:
    """Take pages of the audit panel."""
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM audit").first.click()
    page.get_by_text("Rank of the nearest true match").first.wait_for()
    save(page, folder / "audit.png")
    for tab, shown, name in (
        ("Scores", "Scores of all pairs", "scores"),
        ("Regions", "Share of the score by region", "regions"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(shown).first.wait_for()
        save(page, folder / f"{name}.png")
    page.get_by_role("tab", name="Suspects").click()
    findings = page.get_by_test_id("sfam-findings")
    findings.locator("article img").first.wait_for()
    save(page, folder / "suspects.png")
    # A finding with its pairs, and why the neighbor won.
    findings.get_by_label("Kind").select_option("mislabeled image")
    mislabeled = findings.locator("article").first
    mislabeled.get_by_text("Doubted image").wait_for()
    mislabeled.locator("[data-item]").first.click()
    viewer = page.get_by_test_id("sfam-viewer")
    wait_for_stage(viewer)
    viewer.get_by_label("Map", exact=True).select_option(
        label="contrast with the true match"
    )
    viewer.locator('[data-testid="sfam-shown"][data-kind="contrast"]').wait_for(
        state="attached"
    )
    save(page, folder / "why.png")


def picture_compare(page: Page, folder: Path) -> None:
    """Take the page of the audit panel that compares two runs, down to the regions."""
    size = page.viewport_size or {"width": 1500}
    page.set_viewport_size({"width": size["width"], "height": 1500})
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM audit").first.click()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_text("Regions", exact=True).last.wait_for()
    save(page, folder / "compare.png")


PICTURES: tuple[Callable[[Page, Path], None], ...] = (picture_pairs, picture_audit)
"""Pictures of one run; :func:`picture_compare` needs a second one."""


def open_viewer(page: Page) -> Locator:
    """Open the panel of pairs from the menu, and wait until it has painted a pair."""
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM pairs").first.click()
    viewer = page.get_by_test_id("sfam-viewer")
    wait_for_stage(viewer)
    return viewer


def wait_for_stage(viewer: Locator) -> None:
    """Wait until the images of a pair are painted."""
    viewer.locator('[data-testid="sfam-stage"][data-painted]').wait_for()
    viewer.get_by_test_id("sfam-queue-row").first.wait_for()


def animate(page: Page, viewer: Locator, path: Path) -> None:
    """Save an animation of the pointer moving down the query."""
    stage = viewer.get_by_test_id("sfam-stage")
    stage.evaluate("stage => stage.scrollIntoView({ block: 'start' })")
    box = viewer.get_by_test_id("sfam-query").bounding_box()
    if box is None:
        raise RuntimeError("the query is not there.")
    hover = viewer.get_by_test_id("sfam-hover")
    frames = []
    for step in range(FRAMES):
        share = step / (FRAMES - 1)
        across = 0.5 + 0.15 * (1 - abs(2 * ((2 * share) % 1) - 1))
        x = box["x"] + across * box["width"]
        y = box["y"] + (0.1 + 0.8 * share) * box["height"]
        page.mouse.move(x, y)
        hover.wait_for()
        frames.append(Image.open(io.BytesIO(stage.screenshot())).convert("RGB"))
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=FRAME_MS,
        loop=0,
        quality=70,
        method=4,
    )


def save(page: Page, path: Path) -> None:
    """Save a screenshot once the panels have finished loading."""
    size = page.viewport_size or {"height": 900}
    page.mouse.move(5, size["height"] - 5)
    page.locator('[data-cy^="panel-tab-"] [role="progressbar"]').first.wait_for(
        state="detached"
    )
    # Plotly's figures and FiftyOne's grid fade in.
    page.wait_for_timeout(2000)
    page.screenshot(path=path)
