"""What the browser tests of the audit panel share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app_support import until
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Response

PANEL = '[data-cy="panel-content-sfam_audit"]'


def close_panels(page: Page) -> None:
    """Close our panels: the App remembers which ones were open in a dataset."""
    tabs = page.locator('[data-cy^="panel-tab-sfam_"]')
    while tabs.count():
        tabs.first.click(button="middle")
        page.wait_for_timeout(200)


def open_audit(page: Page) -> Locator:
    """Open the panel from the menu."""
    close_panels(page)
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM audit").first.click()
    panel = page.locator(PANEL)
    panel.get_by_text("Rank of the nearest true match").wait_for()
    return panel


def turn_to(panel: Locator, name: str) -> None:
    panel.get_by_role("tab", name=name).click()


def figure(panel: Locator, title: str) -> Locator:
    """The figure below a title."""
    titled = panel.get_by_text(title, exact=True)
    found = titled.locator("xpath=following::*[contains(@class, 'js-plotly-plot')][1]")
    found.locator(".main-svg").first.wait_for()
    return found


def click_mark(page: Page, mark: Locator, **options: object) -> None:
    """Click the middle of something that Plotly has drawn."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    # Plotly takes a click to be on what the mouse is over.
    page.wait_for_timeout(200)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def wait_for_count(page: Page, count: int) -> None:
    """Wait until the App counts so many samples in its grid, behind the pairs."""
    page.locator('[data-cy="panel-tab-samples"]').click()
    entry = page.locator('[data-cy="entry-counts"]').first
    text = re.compile(rf"^\s*{count} samples?\s*$")
    until(
        page,
        lambda: bool(text.match(entry.inner_text())),
        f"{count} samples are in the grid, but {entry.inner_text()!r}",
    )


class Handed:
    """What a page was told to hand over to the panel of pairs, and whether it did."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.given: list[dict[str, Any]] = []
        page.on("response", self._read)

    def _read(self, response: Response) -> None:
        if not response.url.endswith("/operators/execute"):
            return
        for request in (response.json().get("executor") or {}).get("requests", []):
            if request["operator_uri"] == f"{PLUGIN}/view_pairs":
                self.given.append(request["params"])

    def listen(self) -> None:
        """Count what is handed over in the page that is open."""
        self.page.evaluate(
            "window.handed = 0;"
            "window.addEventListener('sfam-pairs', () => { window.handed += 1 })"
        )

    def take(self) -> dict[str, Any]:
        """Return the one thing that was handed over since the last time."""
        until(self.page, lambda: bool(self.given), "pairs were handed over")
        until(self.page, lambda: self.page.evaluate("window.handed") > 0, "they came")
        pairs = self.page.locator('[data-cy="panel-content-sfam_pairs"]')
        pairs.wait_for()
        assert len(self.given) == self.page.evaluate("window.handed") == 1
        self.page.evaluate("window.handed = 0")
        return self.given.pop()

    def pairs(self, run: Run) -> list[int]:
        """Return the pairs that were handed over, of a run."""
        given = self.take()
        assert (given["run"], given["uid"]) == (run.key, run.config.uid)
        return list(given["pairs"])
