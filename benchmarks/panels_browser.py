"""Measure the panel of pairs in the browser: from a key to painted pixels.

Part of ``make bench-panels``. The real App is opened in headless Chromium on a large
run. Each action is timed in the page: from the event that the key or the mouse makes to
the end of the frame in which the component has painted what belongs to it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from app_server import start_app, stop_app

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

CLIENT_MS, AHEAD_MS, SERVER_MS = 16.0, 50.0, 150.0
"""Bounds of medians: on the client, fetched ahead, and with a question in between."""

NEIGHBORS = ["ArrowRight"] * 9 + ["ArrowLeft"] * 9
OPACITIES = ["-"] * 5 + ["+"] * 5
"""Keys that each change something: over all neighbors and opacities, and back."""

WATCH = """
([kind, turns]) => {
  const stage = document.querySelector('[data-testid="sfam-stage"]');
  const shown = () => document.querySelector('[data-testid="sfam-shown"]').dataset.pair;
  window.sfamTimes = new Promise((resolve) => {
    const start = (event) => {
      const [painted, pair] = [stage.dataset.painted, shown()];
      const { port1, port2 } = new MessageChannel();
      const next = () => requestAnimationFrame(() => port2.postMessage(0));
      port1.onmessage = () => {
        const now = performance.now();
        const there = !turns || (shown() !== undefined && shown() !== pair);
        if (there && stage.dataset.painted !== painted) resolve(now - event.timeStamp);
        else if (now - event.timeStamp > 10000) resolve(null);
        else next();
      };
      next();
    };
    window.addEventListener(kind, start, { capture: true, once: true });
  });
}
"""
"""Waits for an event, and then for the end of the frame in which the stage is painted.

A message that is posted in a frame's first callback arrives when that frame is done:
whatever was painted before or in it is then with the compositor. What turns to another
pair counts once that pair is shown.
"""

OPEN = """
window.sfamOpen = 0;
const original = window.fetch;
window.fetch = async (...given) => {
  const url = String(given[0]?.url ?? given[0]);
  if (!url.includes('operators/execute')) return original(...given);
  window.sfamOpen += 1;
  try { return await original(...given); } finally { window.sfamOpen -= 1; }
};
"""
"""Counts the questions that are not answered yet."""


def measure(url: str, dataset: str, run: str, repeats: int) -> dict[str, Any]:
    """Measure every action; return milliseconds by action."""
    from playwright.sync_api import sync_playwright

    from find_chromium import find_chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(120_000)
        page.add_init_script(OPEN)
        received: list[int] = []
        page.on("requestfinished", lambda request: _count(request, received))
        page.goto(f"{url}/datasets/{dataset}")
        page.locator('[data-cy="looker"]').first.wait_for()
        page.get_by_role("button", name="Dismiss").click()
        page.locator('[data-cy="new-panel-btn"]').first.click()
        page.get_by_text("SFAM pairs").first.click()
        stage = page.get_by_test_id("sfam-stage")
        stage.wait_for()
        page.get_by_label("Run", exact=True).select_option(label=run)
        _settle(page)
        stage.focus()
        # The model computes the best map of each pair that is looked at, and others.
        _choose_stored(page, stage)
        report = {"map kind": _keys(page, ["m"], repeats)}
        _choose_stored(page, stage)
        report |= {
            "next neighbor": _keys(page, NEIGHBORS, repeats),
            "opacity": _keys(page, OPACITIES, repeats),
            "hover": _hover(page, stage, repeats),
            "next query, fetched ahead": _keys(
                page, ["ArrowDown"], repeats, before=lambda: _settle(page)
            ),
            "next query, not fetched": _keys(page, ["ArrowDown"], repeats),
        }
        browser.close()
    return {
        name: {
            "median": float(np.median(times)),
            "p95": float(np.quantile(times, 0.95)),
            "count": len(times),
        }
        for name, times in report.items()
    } | {"largest answer": {"bytes": max(received, default=0)}}


def serve_and_measure(
    folder: Path, dataset: str, run: str, repeats: int
) -> dict[str, Any]:
    """Serve the App on the benchmark's database, and measure in it."""
    process, url = start_app(folder / "app.log")
    try:
        return measure(url, dataset, run, repeats)
    finally:
        stop_app(process)


def broken(report: dict[str, Any]) -> list[str]:
    """List the bounds that do not hold."""
    bounds = {
        "next neighbor": CLIENT_MS,
        "map kind": CLIENT_MS,
        "opacity": CLIENT_MS,
        "hover": CLIENT_MS,
        "next query, fetched ahead": AHEAD_MS,
        "next query, not fetched": SERVER_MS,
    }
    return [
        f"{name}: {report[name]['median']:.1f} ms, over {bound:.0f} ms"
        for name, bound in bounds.items()
        if report[name]["median"] > bound
    ]


def _choose_stored(page: Page, stage: Locator) -> None:
    """Show a map that the run has stored."""
    page.get_by_label("Map", exact=True).select_option(value="evidence")
    _settle(page)
    stage.focus()


def _keys(
    page: Page,
    keys: list[str],
    repeats: int,
    before: Callable[[], None] | None = None,
) -> list[float]:
    """Press keys in turn, again and again."""
    found = []
    for key in itertools.islice(itertools.cycle(keys), repeats):
        if before is not None:
            before()
        page.evaluate(WATCH, ["keydown", key.startswith("Arrow")])
        page.keyboard.press(key)
        found.append(page.evaluate("window.sfamTimes"))
    return _times(found, keys[0])


def _hover(page: Page, stage: Locator, repeats: int) -> list[float]:
    """Move the pointer from place to place of the query."""
    box = page.get_by_test_id("sfam-query").bounding_box()
    if box is None:
        raise RuntimeError("the query is not there.")
    found = []
    for step in range(repeats):
        page.evaluate(WATCH, ["mousemove", False])
        x, y = (0.2 + 0.6 * (step % 7) / 7, 0.2 + 0.6 * (step % 5) / 5)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        found.append(page.evaluate("window.sfamTimes"))
    return _times(found, "the pointer")


def _times(found: list[float | None], name: str) -> list[float]:
    times = [one for one in found if one is not None]
    if not times:
        raise RuntimeError(f"nothing was painted after {name}.")
    return times


def _settle(page: Page) -> None:
    """Wait until no question is open, and the best map would have been asked for."""
    page.wait_for_timeout(700)
    page.wait_for_function("window.sfamOpen === 0")


def _count(request: Any, received: list[int]) -> None:
    if "operators/execute" in request.url:
        received.append(request.sizes()["responseBodySize"])
