"""What the browser tests of the component of pairs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairs_support import open_pairs

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WATCH = """
() => {
  const shown = () => document.querySelector('[data-testid="sfam-shown"]');
  window.sfamShown = [];
  const note = () => {
    const pair = shown()?.dataset.pair;
    const seen = window.sfamShown;
    if (pair !== undefined && seen[seen.length - 1] !== pair) seen.push(pair);
  };
  note();
  new MutationObserver(note).observe(
    document.querySelector('[data-testid="sfam-viewer"]'),
    { subtree: true, childList: true, attributes: true });
}
"""
"""Notes every pair that is shown, in order."""


class Viewer:
    """The component of pairs on a page of the App."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.get_by_test_id("sfam-viewer")

    @classmethod
    def open(cls, page: Page, pair: int | None = None) -> Viewer:
        """Open the panel beside the grid, and wait for a pair."""
        open_pairs(page)
        viewer = cls(page)
        if pair is not None:
            viewer.shows(pair)
        return viewer

    def one(self, name: str) -> Locator:
        """Find an element by the end of its test id."""
        return self.root.get_by_test_id(f"sfam-{name}")

    def shows(self, pair: int, **others: str) -> None:
        """Wait until a pair is shown, painted, and described by its scores."""
        rules = "".join(f'[data-{name}="{value}"]' for name, value in others.items())
        for part in (f'"sfam-shown"]{rules}', '"sfam-scores"]'):
            self.root.locator(f'[data-testid={part}[data-pair="{pair}"]').wait_for(
                state="attached"
            )

    def shown(self, name: str) -> str:
        """Read what is said to be shown."""
        return self.one("shown").get_attribute(f"data-{name}") or ""

    def press(self, *keys: str) -> None:
        """Press keys while the images have the focus."""
        self.one("stage").focus()
        for key in keys:
            self.page.keyboard.press(key)

    def painted(self) -> int:
        """Return how often the images were painted."""
        return int(self.one("stage").get_attribute("data-painted") or 0)

    def point_at(self, side: str, x: float, y: float) -> None:
        """Move the pointer to a place of an image, relative to its size."""
        box = self.one(side).bounding_box()
        assert box is not None
        at = box["x"] + x * box["width"], box["y"] + y * box["height"]
        # Two steps: a pointer that comes from elsewhere has to move inside once.
        self.page.mouse.move(at[0] + 1, at[1] + 1)
        self.page.mouse.move(*at)

    def watch(self) -> None:
        """Begin to note every pair that is shown."""
        self.page.evaluate(WATCH)

    def seen(self) -> list[int]:
        """Return the pairs that were shown since :meth:`watch`, in order."""
        return [int(one) for one in self.page.evaluate("window.sfamShown")]


SLOW = """
window.sfamSeconds = [];
let count = 0;
const original = window.fetch;
window.fetch = async (...given) => {
  const url = String(given[0]?.url ?? given[0]);
  const seconds = window.sfamSeconds;
  if (!url.includes('operators/execute') || !seconds.length) return original(...given);
  const wait = seconds[count++ % seconds.length];
  const answer = await original(...given);
  await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
  return answer;
};
"""
"""Delays answers in the page, so that they overtake each other."""


def delay_answers(page: Page, seconds: tuple[float, ...]) -> None:
    """Delay the next answers by these times, in turn; :data:`SLOW` is needed."""
    page.evaluate("seconds => { window.sfamSeconds = seconds }", list(seconds))
