"""The component of the panel of pairs in the real App, by mouse and by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pandas as pd
import pytest

from app_support import Console, keep_screenshot, pixels_of, until
from fiftyone_sfam import Protocol, explain_pairs, explain_retrieval, load_model
from fiftyone_sfam.app.pairs.queue import Spec, build_queue
from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from viewer_support import SLOW, Viewer, delay_answers
from worlds import mislabel

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops whose names are wrong for some, so that there are false matches."""
    mislabel(crops, 6)
    return crops


@pytest.fixture
def run(crops: fo.Dataset, make_dataset: Callable[..., fo.Dataset]) -> Run:
    """Explain a dataset of its own: the App remembers what is open in each."""
    dataset = make_dataset("viewer")
    dataset.add_samples(
        [
            fo.Sample(one.filepath, identity=one.identity, camera=one.camera)
            for one in crops
        ],
        progress=False,
    )
    protocol = Protocol(identity_field="identity", camera_field="camera")
    return explain_retrieval(
        dataset, "demo", k=3, kinds=("sfam", "evidence"), protocol=protocol
    )


def neighbors_of(run: Run, pair: int) -> list[int]:
    return run.pairs.of_query(int(run.pairs.query[pair])).tolist()


def test_by_keys(run: Run, open_dataset: Open, page: Page) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    queue = build_queue(run, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])

    viewer.press("ArrowDown", "ArrowDown")
    viewer.shows(queue[2])
    viewer.press("ArrowUp")
    viewer.shows(queue[1])
    near = neighbors_of(run, queue[1])
    viewer.press("ArrowRight")
    viewer.shows(near[1])
    viewer.press("ArrowLeft")
    viewer.shows(queue[1])
    viewer.press("m")
    viewer.shows(queue[1], kind="evidence")

    before = pixels_of(viewer.one("query"))
    for _ in range(5):
        viewer.press("-")
    until(
        page,
        lambda: bool(np.abs(pixels_of(viewer.one("query")) - before).max() > 20),
        "the map is weaker",
    )

    # Verdicts by digits, the queue goes on, and undo comes back.
    viewer.press("2")
    viewer.shows(queue[2])
    until(page, lambda: list(get_verdicts(run)) == [queue[1]], "the verdict is stored")
    [given] = get_verdicts(run).values()
    viewer.press("u")
    viewer.shows(queue[1])
    until(page, lambda: not get_verdicts(run), "the verdict is taken back")
    viewer.press("3")
    until(page, lambda: list(get_verdicts(run)) == [queue[1]], "another one is stored")
    assert get_verdicts(run)[queue[1]].text != given.text

    viewer.press("?")
    page.get_by_text("Next and previous neighbor of the query").wait_for()
    keep_screenshot(page, "viewer_keys")
    assert console.errors == []


def test_hovering_says_what_a_place_adds(
    run: Run, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    pair = int(build_queue(run, Spec())[0])
    viewer = Viewer.open(page, pair)
    viewer.press("m")
    viewer.shows(pair, kind="evidence")
    sample, other = (
        run.dataset[str(run.items.sample_ids[item])].filepath
        for item in (run.pairs.query[pair], run.pairs.gallery[pair])
    )
    explained = explain_pair(load_model("demo"), sample, other)
    hover = viewer.one("hover")
    # Of 16 rows and 8 columns.
    for row, column in ((5, 3), (1, 1), (14, 4), (8, 6), (15, 0)):
        share = f"{explained.point(row, column).sum():+.4f}"
        viewer.point_at("query", (column + 0.5) / 8, (row + 0.5) / 16)
        hover.wait_for()
        until(
            page,
            lambda share=share: share in hover.inner_text(),
            f"the share is {share}",
        )
    keep_screenshot(page, "viewer_hover")
    # And the other way round.
    points = explained.point(9, 4, "gallery")
    viewer.point_at("neighbor", 4.5 / 8, 9.5 / 16)
    until(
        page,
        lambda: f"{points.sum():+.4f}" in hover.inner_text(),
        f"the share is {points.sum():+.4f}",
    )
    assert console.errors == []


PAINTED = """canvas => {
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  return data.filter((_, at) => at % 4 === 3 && data[at] > 100).length;
}"""
"""Counts the pixels of a canvas that are not transparent."""


def test_a_list_with_its_own_scores_and_maps_on_the_strip(
    crops: fo.Dataset,
    make_dataset: Callable[..., fo.Dataset],
    open_dataset: Open,
    page: Page,
) -> None:
    console = Console(page)
    dataset = make_dataset("listed")
    dataset.add_samples([fo.Sample(path) for path in crops.limit(4).values("filepath")])
    query, *others = dataset.values("id")
    scores = [0.25, float("nan"), -12.5]
    table = pd.DataFrame({"query": query, "gallery": others, "score": scores})
    run = explain_pairs(dataset, "demo", table)
    pairs = run.given.pair.tolist()
    open_dataset(dataset)
    viewer = Viewer.open(page, int(build_queue(run, Spec())[0]))
    for pair, said in zip(pairs, ("list 0.25", "", "list -12.5"), strict=True):
        row = viewer.root.locator(f'[data-testid="sfam-queue-row"][data-pair="{pair}"]')
        row.click()
        viewer.shows(pair)
        for place in (viewer.one("scores"), row):
            text = place.inner_text()
            assert f"{run.pairs.similarity[pair]:.3f}" in text
            assert ("score in the list" in text) == bool(said)
            assert said in text
    keep_screenshot(page, "viewer_list")

    cards = viewer.one("strip-item")
    assert cards.locator("canvas").count() == 0
    viewer.root.get_by_label("On the strip").check()
    maps = cards.locator("canvas")
    drawn = "each picture of the strip has a map"
    until(page, lambda: maps.count() == cards.count() == 3, drawn)
    for at in range(3):
        picture, own = cards.locator("img").nth(at), maps.nth(at)
        assert own.bounding_box() == picture.bounding_box()
        assert own.evaluate(PAINTED) > 100
    keep_screenshot(page, "viewer_strip")
    # Once the best map of the pair has been computed, all still have the stored one.
    viewer.one("map").get_by_text("path of several scales", exact=True).wait_for()
    assert min(maps.nth(at).evaluate(PAINTED) for at in range(3)) > 100
    # A threshold that next to nothing reaches leaves the pictures bare.
    threshold = viewer.root.get_by_label("Threshold")
    threshold.fill("100")
    until(page, lambda: maps.nth(0).evaluate(PAINTED) < 50, "the map is weaker")
    assert console.errors == []


def test_two_pages_do_not_disturb_each_other(
    run: Run, open_dataset: Open, page: Page, app_server: str
) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    queue = build_queue(run, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])
    other_page = page.context.new_page()
    other_page.goto(f"{app_server}/datasets/{run.dataset.name}")
    other_page.locator('[data-cy="looker"]').first.wait_for()
    other = Viewer.open(other_page, queue[0])
    viewer.press("ArrowDown", "ArrowDown", "ArrowDown")
    viewer.shows(queue[3])
    other.press("ArrowDown", "m")
    other.shows(queue[1], kind="evidence")
    viewer.press("ArrowDown")
    viewer.shows(queue[4])
    other.press("ArrowDown")
    other.shows(queue[2], kind="evidence")
    assert console.errors == []


def test_answers_that_overtake_each_other(
    run: Run, open_dataset: Open, page: Page
) -> None:
    page.add_init_script(SLOW)
    console = Console(page)
    open_dataset(run.dataset)
    queue = build_queue(run, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])
    delay_answers(page, (3.0, 0.1, 2.0, 0.0, 1.0))
    viewer.watch()
    viewer.press(*["ArrowDown"] * 9)
    viewer.shows(queue[9])
    # Everything that was on its way has come.
    page.wait_for_timeout(4000)
    seen = viewer.seen()
    assert seen[-1] == queue[9]
    places = [queue.index(pair) for pair in seen]
    assert places == sorted(places)
    assert console.errors == []


def test_filters_rows_and_verdicts_on_several(
    run: Run, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    viewer = Viewer.open(page, int(build_queue(run, Spec())[0]))
    viewer.press("f")
    viewer.root.get_by_label("Outcome").select_option(label="false match")
    viewer.root.get_by_label("Ranks").select_option(label="the k nearest")
    queue = build_queue(run, Spec(outcome="false match", ranks="k")).tolist()
    viewer.one("place").filter(has_text=f"1 of {len(queue)}").wait_for()
    viewer.shows(queue[0])
    rows = viewer.one("queue-row")
    until(page, lambda: rows.count() >= min(3, len(queue)), "the rows are there")
    rows.nth(1).click()
    viewer.shows(queue[1])
    rows.nth(2).click(modifiers=["Shift"])
    viewer.one("verdict-look-alike").click()
    until(page, lambda: len(get_verdicts(run)) == 2, "two verdicts are stored")
    assert set(get_verdicts(run)) == {queue[1], queue[2]}
    keep_screenshot(page, "viewer_queue")
    viewer.press("u")
    until(page, lambda: not get_verdicts(run), "both are taken back")
    assert console.errors == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_sizes(run: Run, open_dataset: Open, page: Page, theme: str) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    if theme == "light":
        page.get_by_test_id("LightModeIcon").click()
    viewer = Viewer.open(page, int(build_queue(run, Spec())[0]))
    for width in (1600, 800, 480, 360):
        box = viewer.root.bounding_box()
        size = page.viewport_size
        assert box is not None
        assert size is not None
        # The panes share what the sidebar leaves.
        wider = 2 * (width - box["width"])
        page.set_viewport_size({"width": round(size["width"] + wider), "height": 1000})
        until(
            page,
            lambda width=width: (
                abs((viewer.root.bounding_box() or {"width": 0})["width"] - width) < 8
            ),
            f"the pane is {width} pixels wide",
        )
        page.wait_for_timeout(500)
        outside = viewer.root.evaluate(
            """root => {
                const edge = root.getBoundingClientRect().right + 1;
                const all = root.querySelectorAll('button, select, input, canvas, p');
                return [...all]
                    .filter(one => one.getBoundingClientRect().right > edge)
                    .map(one => one.tagName + ' ' + (one.innerText || ''));
            }"""
        )
        assert outside == []
        keep_screenshot(page, f"viewer_{theme}_{width}")
    assert console.errors == []


def test_hostile_names(
    make_dataset: Callable[..., fo.Dataset],
    crops: fo.Dataset,
    open_dataset: Open,
    page: Page,
) -> None:
    console = Console(page)
    names = (
        "<img src=x onerror=document.title='gone'>",
        "\u202eright to left",
        "שם ארוך " * 40,
        "**bold** [link](javascript:alert(1))",
    )
    dataset = make_dataset("hostile")
    dataset.add_samples(
        [
            fo.Sample(one.filepath, identity=names[place % 4], camera=names[place % 3])
            for place, one in enumerate(crops[:12])
        ],
        progress=False,
    )
    found = explain_retrieval(
        dataset, "demo", k=3, protocol=Protocol(identity_field="identity")
    )
    open_dataset(dataset)
    queue = build_queue(found, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])
    for pair in queue[1:5]:
        viewer.press("ArrowDown")
        viewer.shows(pair)
    assert viewer.root.locator("img[src='x']").count() == 0
    assert page.title() != "gone"
    keep_screenshot(page, "viewer_hostile")
    assert console.errors == []


def test_no_run_and_two_selected(
    make_dataset: Callable[..., fo.Dataset],
    crops: fo.Dataset,
    open_dataset: Open,
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    dataset = make_dataset("without")
    dataset.add_samples([fo.Sample(one.filepath) for one in crops[:4]], progress=False)
    open_dataset(dataset)
    viewer = Viewer.open(page)
    viewer.root.get_by_text("No explained run yet").wait_for()
    keep_screenshot(page, "viewer_empty")
    assert console.errors == []
