"""What the browser tests of the panel of pairs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def open_pairs(page: Page) -> Locator:
    """Open the panel of pairs beside the grid, from the menu; return what is in it."""
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM pairs").first.click()
    return page.locator('[data-cy="panel-content-sfam_pairs"]')
