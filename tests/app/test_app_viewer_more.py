"""The component of pairs: the modal, odd images, a server that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest
from app_server import start_app, stop_app
from PIL import Image

from app_support import Console, keep_screenshot, open_sample, pixels_of, until
from fiftyone_sfam import Protocol, explain_retrieval
from fiftyone_sfam.app.pairs.maps import limits_of
from fiftyone_sfam.app.pairs.queue import Spec, build_queue
from fiftyone_sfam.attribution.render import color_table
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from viewer_support import Viewer
from worlds import fill, tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]


@pytest.fixture
def run(crops: fo.Dataset, make_dataset: Callable[..., fo.Dataset]) -> Run:
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


def test_pins_zoom_and_swipe_by_mouse(run: Run, open_dataset: Open, page: Page) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    pair = int(build_queue(run, Spec())[0])
    viewer = Viewer.open(page, pair)
    viewer.press("m")
    viewer.shows(pair, kind="evidence")
    viewer.point_at("query", 0.45, 0.35)
    viewer.one("hover").wait_for()
    plain = pixels_of(viewer.one("stage"))
    page.mouse.down()
    page.mouse.up()
    viewer.point_at("query", 0.55, 0.65)
    page.mouse.down()
    page.mouse.up()
    until(
        page,
        lambda: bool(np.abs(pixels_of(viewer.one("stage")) - plain).max() > 60),
        "pins and lines are drawn",
    )
    keep_screenshot(page, "viewer_pins")
    viewer.press("Escape")

    # The wheel zooms both images.
    before = {side: size_of(viewer, side) for side in ("query", "neighbor")}
    viewer.point_at("query", 0.5, 0.3)
    page.mouse.wheel(0, -400)
    until(
        page,
        lambda: all(size_of(viewer, side) > 1.2 * before[side] for side in before),
        "both images are larger",
    )
    keep_screenshot(page, "viewer_zoom")
    viewer.press("0", "s")
    viewer.one("swipe").wait_for()
    keep_screenshot(page, "viewer_swipe")
    viewer.press("s")
    check_loupe_and_drag(viewer)
    check_colors(viewer, run, pair)
    assert console.errors == []


def check_loupe_and_drag(viewer: Viewer) -> None:
    """The loupe shows what is there three times as large; dragging moves both."""
    page = viewer.page
    choose_value(viewer, "Opacity", 0)
    page.mouse.move(1, 1)
    query = viewer.one("query")
    until(page, lambda: not viewer.one("hover").inner_text(), "nothing is pointed at")
    plain = pixels_of(query)
    height, width, _ = plain.shape
    x, y = width // 2, height // 3
    offsets = np.arange(-45, 46, 6)
    rows, columns = np.meshgrid(offsets, offsets, indexing="ij")
    thirds = [np.rint(one / 3).astype(int) for one in (y * 3 + rows, x * 3 + columns)]
    expected = plain[thirds[0], thirds[1]]
    viewer.press("l")
    viewer.point_at("query", x / width, y / height)

    def distance() -> float:
        found = pixels_of(query)[y + rows, x + columns]
        return float(np.abs(found - expected).mean())

    apart = float(np.abs(plain[y + rows, x + columns] - expected).mean())
    until(page, lambda: distance() < apart / 3, "the loupe magnifies three times")
    keep_screenshot(page, "viewer_loupe")
    viewer.press("l")

    page.mouse.wheel(0, -200)
    until(page, lambda: size_of(viewer, "query") > 1.9 * width, "it is zoomed")
    before = [left_of(viewer, side) for side in ("query", "neighbor")]
    box = query.bounding_box()
    assert box is not None
    page.mouse.down()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.up()
    until(page, lambda: left_of(viewer, "query") < before[0] - 20, "it is dragged")
    after = [left_of(viewer, side) for side in ("query", "neighbor")]
    assert after[1] - before[1] == pytest.approx(after[0] - before[0], abs=1)
    viewer.press("0")


def check_colors(viewer: Viewer, run: Run, pair: int) -> None:
    """Sign, color map and threshold: pixels are those of the tables of Python."""
    maps = run.many_maps(run.pairs.of_query(int(run.pairs.query[pair])).tolist())
    limit = limits_of(maps)["evidence"]
    side = run.maps(pair).query
    assert side is not None
    values = side.maps["evidence"]
    viewer.root.get_by_label("Shown").select_option(label="maps only")
    viewer.root.get_by_label("Smooth").uncheck()
    viewer.page.mouse.move(1, 1)

    def shown() -> np.ndarray:
        """Pixels in the middle of each cell."""
        pixels = pixels_of(viewer.one("query"))
        rows, columns = (
            ((np.arange(cells) + 0.5) * size / cells).astype(int)
            for cells, size in zip(values.shape, pixels.shape[:2], strict=True)
        )
        return pixels[np.ix_(rows, columns)]

    def expect(places: np.ndarray, table: str) -> np.ndarray:
        """Maps are sent as bytes: a place is off by up to 1/254 of the limit."""
        colors = color_table(table)[np.rint(255 * places).astype(int)].astype(float)
        until(
            viewer.page,
            lambda: float(np.abs(shown() - colors).max()) < 12,
            f"the map is drawn in {table}",
        )
        return colors

    positive = np.clip(values / limit["positive"], 0, 1)
    expect(positive, "Viridis")
    viewer.root.get_by_label("Colors", exact=True).select_option(label="Inferno")
    colors = expect(positive, "Inferno")
    choose_value(viewer, "Threshold", 30)
    strong, weak = positive > 0.32, positive < 0.28
    assert strong.any()
    assert weak.any()

    def only_strong() -> bool:
        pixels = shown()
        empty = np.ptp(pixels[weak], axis=0).max() < 1
        return bool(empty and np.abs(pixels - colors)[strong].max() < 12)

    until(viewer.page, only_strong, "what is weak is not drawn")
    choose_value(viewer, "Threshold", 0)
    viewer.root.get_by_label("Signed").check()
    signed = (np.clip(values / limit["signed"], -1, 1) + 1) / 2
    assert signed.min() < 0.49
    expect(signed, "RdBu_r")
    keep_screenshot(viewer.page, "viewer_signed")


def choose_value(viewer: Viewer, label: str, percent: int) -> None:
    viewer.root.get_by_label(label, exact=True).fill(str(percent))


def left_of(viewer: Viewer, side: str) -> float:
    box = viewer.one(side).bounding_box()
    assert box is not None
    return box["x"]


def test_in_the_modal(run: Run, open_dataset: Open, page: Page) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    open_sample(page, page.locator('[data-cy="looker"]').nth(4))
    modal = page.locator('[data-cy="modal"]')
    tab = modal.locator('[data-cy="panel-tab-sfam_pairs"]')
    more = modal.locator('[data-cy="new-panel-btn"]')
    tab.or_(more).first.wait_for()
    if not tab.count():
        more.first.click()
        page.get_by_text("SFAM pairs").last.click()
    else:
        tab.click()
    viewer = Viewer(page)
    viewer.root = modal.get_by_test_id("sfam-viewer")
    # The pair is of the sample that is open.
    sample = str(run.dataset.values("id")[4])
    item = run.items.index(sample)
    pairs = run.pairs.of_query(item).tolist()
    viewer.shows(pairs[0])
    viewer.one("stage").click(position={"x": 5, "y": 5})
    viewer.press("ArrowRight")
    viewer.shows(pairs[1])
    keep_screenshot(page, "viewer_modal")
    assert console.errors == []


def test_stored_maps_along_paths_are_shown_without_the_model(
    make_dataset: Callable[..., fo.Dataset],
    open_dataset: Open,
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    found = explain_retrieval(
        fill(make_dataset("paths"), tmp_path),
        tiny_model(),  # is not registered, so nothing can be computed
        k=2,
        kinds=("best", "evidence"),
        protocol=Protocol(identity_field="identity"),
    )
    open_dataset(found.dataset)
    pair = int(build_queue(found, Spec())[0])
    first, second = found.pairs.of_query(int(found.pairs.query[pair]))[:2].tolist()
    assert (first, found.pairs.rank[second]) == (pair, 2)
    viewer = Viewer.open(page, pair)
    viewer.shows(pair, kind="scales")
    keep_screenshot(page, "viewer_stored_path")
    viewer.press("ArrowRight")
    viewer.shows(second, kind="evidence")
    viewer.press("ArrowLeft")
    viewer.shows(first, kind="scales")
    assert console.errors == []


def test_odd_images_and_many_neighbors(
    make_dataset: Callable[..., fo.Dataset],
    open_dataset: Open,
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    random = np.random.default_rng(0)
    sizes = [(2, 1), (20_000, 20), (250, 250)] + [(24, 48)] * 53
    samples = []
    for number, (width, height) in enumerate(sizes):
        small = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(small).resize((width, height)).save(path)
        samples.append(fo.Sample(str(path), identity=f"person {number % 3}"))
    dataset = make_dataset("odd")
    dataset.add_samples(samples, progress=False)
    found = explain_retrieval(
        dataset, "demo", k=50, protocol=Protocol(identity_field="identity")
    )
    Path(samples[3].filepath).unlink()
    open_dataset(dataset)
    queue = build_queue(found, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])
    keep_screenshot(page, "viewer_2x1")
    assert viewer.one("strip-item").count() >= 50
    viewer.press("ArrowDown")
    viewer.shows(queue[1])
    keep_screenshot(page, "viewer_20000x20")
    viewer.press("ArrowDown")
    viewer.shows(queue[2])
    keep_screenshot(page, "viewer_250x250")
    # An image that is gone is said to be, and the next one is shown.
    viewer.press("ArrowDown")
    viewer.shows(queue[3])
    viewer.root.get_by_text("the file does not exist").first.wait_for()
    keep_screenshot(page, "viewer_gone")
    viewer.press("ArrowDown")
    viewer.shows(queue[4])
    # The grid asks for the image that is gone.
    assert [one for one in console.errors if "media?filepath" not in one] == []


def test_a_server_that_does_not_answer(
    run: Run, open_dataset: Open, page: Page
) -> None:
    open_dataset(run.dataset)
    queue = build_queue(run, Spec()).tolist()
    viewer = Viewer.open(page, queue[0])
    page.route("**/operators/execute", lambda route: route.abort())
    # Far enough that it was not fetched ahead.
    viewer.press(*["ArrowDown"] * 6)
    page.wait_for_timeout(1000)
    assert viewer.shown("pair") != str(queue[6])
    page.unroute("**/operators/execute")
    viewer.shows(queue[6])
    # Nothing was lost on the way: the place in the queue is the component's.
    viewer.press("ArrowUp")
    viewer.shows(queue[5])


def test_another_server(run: Run, browser: Browser, tmp_path: Path) -> None:
    queue = build_queue(run, Spec()).tolist()
    port = None
    for place in range(2):
        process, url = start_app(tmp_path / f"{place}.log", port)
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.set_default_timeout(60_000)
        try:
            page.goto(f"{url}/datasets/{run.dataset.name}")
            page.locator('[data-cy="looker"]').first.wait_for()
            page.get_by_role("button", name="Dismiss").click()
            viewer = Viewer.open(page, queue[0])
            # What the last server knew, this one does not need.
            viewer.press(*["ArrowDown"] * (place + 1), "1")
            until(
                page,
                lambda place=place: set(get_verdicts(run)) >= {queue[place + 1]},
                "the verdict is stored",
            )
        finally:
            context.close()
            stop_app(process)
        port = int(url.rsplit(":", 1)[1])
    assert set(get_verdicts(run)) == {queue[1], queue[2]}


def size_of(viewer: Viewer, side: str) -> float:
    box = viewer.one(side).bounding_box()
    assert box is not None
    return box["width"]
