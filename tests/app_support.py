"""The App in a browser: its console, its grid, and the forms of operators."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from paths import ARTIFACTS

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Error, Locator, Page

FIFTYONE_RACES = (
    # Its router, when a dataset is reloaded while its page loads.
    "entry is loading",
    # Its grid, when masks are painted anew while they are on their way to a worker,
    # which happens when a dataset is reloaded beside a panel; they are painted later.
    "Cannot perform Construct on a detached ArrayBuffer",
    "An ArrayBuffer is detached and could not be cloned",
)
"""What is in exceptions of FiftyOne's own pages that leave no trace."""


class Console:
    """What went wrong in a page, apart from the internet that it may not have."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        page.on("console", self._message)
        page.on("pageerror", self._exception)

    def _exception(self, error: Error) -> None:
        self._add(str(error))

    def _message(self, message: ConsoleMessage) -> None:
        source = message.location.get("url", "")
        elsewhere = source.startswith("http") and "//127.0.0.1" not in source
        if message.type == "error" and not elsewhere:
            self._add(f"{message.text} {source}")

    def _add(self, text: str) -> None:
        if not any(race in text for race in FIFTYONE_RACES):
            self.errors.append(text)


def keep_screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page for people to look at."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def form_field(page: Page, label: str) -> Locator:
    """The input below a label of an operator's form."""
    return page.locator(f'xpath=//p[text()="{label}"]/following::input[1]')


def choose(page: Page, label: str, value: str) -> None:
    """Choose from a drop-down list of an operator's form."""
    form_field(page, label).fill(value)
    page.get_by_role("option").filter(has_text=re.compile(f"^{value}( |$)")).click()


def open_operator(page: Page, label: str) -> None:
    """Open an operator's form from the operator browser."""
    page.keyboard.press("`")
    page.get_by_placeholder("Search operations by name...").fill(label)
    page.get_by_text(label, exact=True).click()


def until(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait until the App has caught up."""
    for _ in range(300):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the App never showed that {what}")


def pixels_of(locator: Locator) -> np.ndarray:
    """What is drawn of an element, float64, shape (h, w, 3)."""
    shot = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return np.asarray(shot, np.float64)


def painted(page: Page, locator: Locator) -> np.ndarray:
    """What is drawn of an element once it shows a picture that stays the same."""
    found = pixels_of(locator)
    for _ in range(100):
        page.wait_for_timeout(300)
        previous, found = found, pixels_of(locator)
        if found.std() > 10 and np.array_equal(previous, found):
            return found
    raise AssertionError("the App never showed the picture")


def ticked(page: Page, field: str) -> bool:
    """Tell whether a field is active in the sidebar."""
    return page.locator(f'[data-cy="checkbox-{field}"] input').is_checked()


def select(page: Page, looker: Locator) -> None:
    """Select a sample of the grid, or take its selection back."""
    counter = page.locator('[data-cy="action-manage-selected"]')
    before = counter.all_inner_texts()
    selector = looker.locator('[class*="lookerThumbnailSelector"]')
    box = selector.locator("input")
    wanted = not box.is_checked()
    for _ in range(10):
        looker.hover()
        # A grid that is being drawn anew does not take clicks; where it is only slow, a
        # second one would take the first one back.
        if box.is_checked() != wanted:
            selector.locator("label").click()
        for _ in range(50):
            if counter.all_inner_texts() != before:
                return
            page.wait_for_timeout(100)
    raise AssertionError(f"the App never counted the selection anew: {before!r}")


def open_sample(page: Page, looker: Locator) -> None:
    """Open a sample of the grid in the modal."""
    from playwright.sync_api import TimeoutError as TooLate

    modal = page.locator('[data-cy="modal"]')
    for _ in range(5):
        box = looker.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        try:
            modal.wait_for(timeout=10_000)
        except TooLate:
            # A grid that is being drawn anew does not take clicks.
            continue
        return
    raise AssertionError("the App never opened the sample")
