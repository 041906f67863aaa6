"""What the browser tests of the panel of pairs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from app_support import painted
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

QUERY, NEIGHBOR = "The query with its map", "The neighbor with its map"


def queries_of(run: Run) -> np.ndarray:
    """Return the items that are queries, in the order of the run."""
    return np.unique(run.pairs.query)


def open_pairs(page: Page) -> Locator:
    """Open the panel of pairs beside the grid, from the menu; return what is in it."""
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM pairs").first.click()
    return page.locator('[data-cy="panel-content-sfam_pairs"]')


def source(root: Page | Locator, alt: str) -> str:
    """Return the picture of an image."""
    return root.get_by_alt_text(alt, exact=True).get_attribute("src") or ""


def assert_pair(root: Page | Locator, run: Run, query: int, place: int) -> None:
    """Wait until the panel shows a pair, by its rank and its numbers."""
    pair = int(run.pairs.of_query(int(queries_of(run)[query]))[place])
    assert_pair_index(root, run, pair)


def assert_pair_index(root: Page | Locator, run: Run, pair: int) -> None:
    """Wait until the panel shows a pair of the run."""
    pairs = run.pairs
    root.get_by_text(
        f"similarity {pairs.similarity[pair]:.4f}, distance {pairs.distance[pair]:.4f}"
    ).wait_for()
    root.get_by_text(f"Rank {pairs.rank[pair]}", exact=True).wait_for()


def choose_in_panel(page: Page, panel: Locator, label: str, option: str) -> None:
    """Choose from the drop-down list of the panel below a label."""
    path = f'xpath=.//p[text()="{label}"]/following::*[@role="combobox"][1]'
    panel.locator(path).click()
    page.get_by_role("option", name=option, exact=True).click()


def pixels_once_there(page: Page, locator: Locator) -> np.ndarray:
    """Return what is drawn of an element that the App may be replacing."""
    from playwright.sync_api import Error

    for _ in range(20):
        try:
            return painted(page, locator)
        except Error:
            page.wait_for_timeout(500)
    raise AssertionError("the App never kept the picture")


def press_access_key(page: Page, key: str) -> None:
    """Press a key with Alt, as the browser takes it from a keyboard.

    Playwright's own keys never are what Chromium calls a system key, which is what
    access keys are made of.
    """
    session = page.context.new_cdp_session(page)
    shared = {"modifiers": 1, "key": key, "isSystemKey": True}
    code = {"code": f"Key{key.upper()}", "windowsVirtualKeyCode": ord(key.upper())}
    for event in (
        {"type": "rawKeyDown", **code},
        {"type": "char", "text": key, "unmodifiedText": key},
        {"type": "keyUp", **code},
    ):
        session.send("Input.dispatchKeyEvent", {**shared, **event})
    session.detach()
