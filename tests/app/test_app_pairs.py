"""Working with the panel of pairs in the real App: places, verdicts, the queue."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F

from app_support import Console, keep_screenshot, painted, pixels_of, until
from fiftyone_sfam import Protocol, explain_retrieval
from fiftyone_sfam.app.pairs.state import QueueSpec, build_queue
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from pairs_support import (
    NEIGHBOR,
    QUERY,
    assert_pair_index,
    choose_in_panel,
    open_pairs,
    press_access_key,
    source,
)
from worlds import fill, mislabel, tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]
NARROW = 480


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops whose names are wrong for some, so that there are false matches."""
    mislabel(crops, 6)
    return crops


@pytest.fixture
def run(
    crops: fo.Dataset, make_dataset: Callable[..., fo.Dataset]
) -> Callable[[], Run]:
    """Explain a dataset of its own: the App remembers what is open in each."""

    def run() -> Run:
        dataset = make_dataset("pairs")
        dataset.add_samples(
            [
                fo.Sample(one.filepath, identity=one.identity, camera=one.camera)
                for one in crops
            ],
            progress=False,
        )
        protocol = Protocol(identity_field="identity", camera_field="camera")
        return explain_retrieval(dataset, "demo", k=3, protocol=protocol)

    return run


def click_at(page: Page, image: Locator, x: float, y: float) -> None:
    """Click a place of an image, relative to its size."""
    box = image.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_places_contrast_and_channels(
    run: Callable[[], Run], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    explained = run()
    page.set_viewport_size({"width": 1400, "height": 1300})
    open_dataset(explained.dataset)
    panel = open_pairs(page)
    first = int(build_queue(explained, QueueSpec())[0])
    assert_pair_index(panel, explained, first)
    query = panel.get_by_alt_text(QUERY, exact=True)
    neighbor = panel.get_by_alt_text(NEIGHBOR, exact=True)
    shown = painted(page, neighbor)
    sfam = source(panel, NEIGHBOR)

    # A place of the query: what it is matched with appears on the neighbor.
    click_at(page, query, 0.45, 0.35)
    panel.get_by_role("button", name="Clear point").wait_for(timeout=60_000)
    panel.get_by_text("with the marked place").wait_for()
    until(page, lambda: source(panel, NEIGHBOR) != sfam, "the point map is there")
    page.mouse.move(5, 5)
    assert np.abs(painted(page, neighbor) - shown).max() > 20
    # The place is framed in white, where it was clicked: column 3 and row 5.
    drawn = pixels_of(query)
    assert drawn[5 * 420 // 16 + 8, 3 * 210 // 8].min() > 230
    keep_screenshot(page, "pairs_point")
    # And the other way round.
    before = source(panel, QUERY)
    click_at(page, neighbor, 0.55, 0.6)
    until(page, lambda: source(panel, QUERY) != before, "the query has the point map")
    panel.get_by_role("button", name="Clear point").click()
    until(page, lambda: source(panel, NEIGHBOR) == sfam, "the map is back")

    # A false match, and why it is not the true one.
    panel.get_by_role("button", name="Filter and order").click()
    choose_in_panel(page, panel, "Order", "most similar false matches first")
    false = int(build_queue(explained, QueueSpec(order="false matches"))[0])
    assert_pair_index(panel, explained, false)
    panel.get_by_role("button", name="Filter and order").click()
    panel.get_by_role("button", name="Why not the true match?").click()
    panel.get_by_alt_text("The true image with what sets it apart").wait_for()
    panel.get_by_text(re.compile("less than the neighbor shown")).wait_for()
    panel.get_by_text("margin per cell of the query").wait_for()
    page.wait_for_timeout(500)
    keep_screenshot(page, "pairs_why")
    panel.get_by_role("button", name="Leave the true match").click()
    panel.get_by_text("channel importance times activation").wait_for()

    # The channels, one of which is shown on both images.
    panel.get_by_role("button", name="Most important channels").click()
    bars = panel.locator(".js-plotly-plot").last.locator(".point path")
    until(page, lambda: bars.count() == 12, "twelve channels are listed")
    sfam = source(panel, QUERY)
    # By its place: the bars lie below what Plotly takes the pointer with.
    bars.nth(1).scroll_into_view_if_needed()
    page.wait_for_timeout(700)
    box = bars.nth(1).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    panel.get_by_role("button", name="Leave channel").wait_for()
    assert source(panel, QUERY) != sfam
    panel.get_by_text(re.compile("activation of channel")).wait_for()
    keep_screenshot(page, "pairs_channel")
    assert console.errors == []


def test_verdicts_and_the_queue(
    run: Callable[[], Run], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    explained = run()
    dataset = explained.dataset
    spec = QueueSpec(outcome="false match", ranks="k")
    queue = build_queue(explained, spec)
    assert len(queue) >= 6
    open_dataset(dataset)
    panel = open_pairs(page)
    panel.get_by_text("of 36", exact=True).wait_for()
    panel.get_by_role("button", name="Filter and order").click()
    choose_in_panel(page, panel, "Outcome", "false match")
    choose_in_panel(page, panel, "Ranks", "the k nearest")
    panel.get_by_text(f"0 of {len(queue)} reviewed").wait_for()
    assert_pair_index(panel, explained, int(queue[0]))

    panel.get_by_role("button", name="wrong label").click()
    assert_pair_index(panel, explained, int(queue[1]))
    panel.get_by_text(f"1 of {len(queue)} reviewed").wait_for()
    # By the keyboard, and in own words.
    press_access_key(page, "l")
    assert_pair_index(panel, explained, int(queue[2]))
    panel.get_by_placeholder("own words").fill("same <b>coat</b>")
    page.wait_for_timeout(400)
    panel.get_by_role("button", name="Give").click()
    assert_pair_index(panel, explained, int(queue[3]))
    panel.get_by_text(f"3 of {len(queue)} reviewed").wait_for()
    panel.get_by_role("button", name="◀ Pair").click()
    panel.get_by_text("Verdict: same <b>coat</b>").wait_for()
    assert panel.get_by_placeholder("own words").input_value() == ""
    keep_screenshot(page, "pairs_verdicts")

    # FiftyOne finds them, in the SDK and in the App.
    given = {pair: one.text for pair, one in get_verdicts(explained).items()}
    assert given == {
        int(queue[0]): "wrong label",
        int(queue[1]): "look-alike",
        int(queue[2]): "same <b>coat</b>",
    }
    dataset.reload()
    found = dataset.filter_labels("sfam_verdicts", F("label") == "wrong label")
    [sample_id] = found.values("id")
    item = int(explained.pairs.query[queue[0]])
    assert sample_id == explained.items.sample_ids[item]
    page.locator('[data-cy="checkbox-sfam_verdicts"]').wait_for()

    # Taken back, the last one first.
    panel.get_by_role("button", name="Undo").click()
    panel.get_by_text(f"2 of {len(queue)} reviewed").wait_for()
    assert_pair_index(panel, explained, int(queue[2]))
    press_access_key(page, "u")
    panel.get_by_text(f"1 of {len(queue)} reviewed").wait_for()
    assert set(get_verdicts(explained)) == {int(queue[0])}

    # The queue of what is left.
    choose_in_panel(page, panel, "Reviewed", "not reviewed yet")
    panel.get_by_text(f"of {len(queue) - 1}", exact=True).wait_for()
    assert_pair_index(panel, explained, int(queue[1]))

    # The pair in the grid, and the queue as it was.
    panel.get_by_role("button", name="Show in grid").click()
    page.get_by_text("2 samples").first.wait_for()
    panel.get_by_text(f"of {len(queue) - 1}", exact=True).wait_for()
    assert_pair_index(panel, explained, int(queue[1]))
    keep_screenshot(page, "pairs_queue")
    assert console.errors == []


def test_a_model_that_is_not_registered(
    make_dataset: Callable[..., fo.Dataset],
    open_dataset: Open,
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    dataset = fill(make_dataset("unregistered"), tmp_path)
    explained = explain_retrieval(
        dataset, tiny_model(), k=2, protocol=Protocol(identity_field="identity")
    )
    open_dataset(dataset)
    panel = open_pairs(page)
    queue = build_queue(explained, QueueSpec())
    assert_pair_index(panel, explained, int(queue[0]))
    choose_in_panel(page, panel, "Map", "difference")
    panel.get_by_text("This map needs the model 'tiny-0', which is not").wait_for()
    # The images are still there, and so are the stored maps.
    panel.get_by_alt_text(NEIGHBOR, exact=True).wait_for()
    keep_screenshot(page, "pairs_unregistered")
    bare = source(panel, QUERY)
    choose_in_panel(page, panel, "Map", "evidence")
    until(page, lambda: source(panel, QUERY) != bare, "the stored map is there")
    panel.get_by_role("button", name="Pair ▶").click()
    assert_pair_index(panel, explained, int(queue[1]))
    assert console.errors == []


def test_a_narrow_pane_in_both_themes(
    run: Callable[[], Run], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    explained = run()
    open_dataset(explained.dataset)
    panel = open_pairs(page)
    queue = build_queue(explained, QueueSpec())
    assert_pair_index(panel, explained, int(queue[0]))
    # The panes share what the sidebar leaves.
    wide = panel.bounding_box()
    assert wide is not None
    width = round(1400 - 2 * (wide["width"] - NARROW))
    page.set_viewport_size({"width": width, "height": 1500})
    until(page, lambda: abs(width_of(panel) - NARROW) < 4, "the pane is narrow")
    panel.get_by_role("button", name="Filter and order").click()
    panel.get_by_text("Neighbor's camera").wait_for()
    panel.get_by_role("button", name="Most important channels").click()
    panel.get_by_text("channels that matter most").wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    assert_nothing_is_clipped(panel)
    keep_screenshot(page, "pairs_narrow_dark")
    dark = pixels_of(panel).mean()
    page.get_by_test_id("LightModeIcon").click()
    until(page, lambda: pixels_of(panel).mean() > dark + 50, "the theme is light")
    page.wait_for_timeout(500)
    assert_nothing_is_clipped(panel)
    keep_screenshot(page, "pairs_narrow_light")
    # Scaled down, the images are clicked where they are seen.
    page.set_viewport_size({"width": width - 120, "height": 1500})
    until(page, lambda: width_of(panel) < NARROW - 40, "the pane is narrower")
    page.wait_for_timeout(500)
    query = panel.get_by_alt_text(QUERY, exact=True)
    box = query.bounding_box()
    assert box is not None
    assert box["width"] < 205
    click_at(page, query, 0.45, 0.35)
    panel.get_by_role("button", name="Clear point").wait_for(timeout=60_000)
    page.mouse.move(5, 5)
    page.wait_for_timeout(500)
    # The frame of column 3 and row 5, in the scaled image.
    drawn = pixels_of(query)
    height, across = drawn.shape[:2]
    column = round(3 / 8 * across)
    row = round(5.5 / 16 * height)
    assert drawn[row, column - 2 : column + 3].min(axis=1).max() > 230
    assert console.errors == []


def width_of(panel: Locator) -> float:
    box = panel.bounding_box()
    assert box is not None
    return box["width"]


def assert_nothing_is_clipped(panel: Locator) -> None:
    """Assert that no text and no input reaches out of the pane."""
    outside = panel.evaluate(
        """panel => {
            const edge = panel.getBoundingClientRect().right + 1;
            return [...panel.querySelectorAll('button, p, img, input, .main-svg')]
                .filter(one => one.getBoundingClientRect().right > edge)
                .map(one => one.tagName + ' ' + (one.innerText || one.alt || ''));
        }"""
    )
    assert outside == []
