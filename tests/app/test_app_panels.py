"""The panel of pairs and the heatmaps of frames in the real App."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest

from app_support import (
    Console,
    choose,
    keep_screenshot,
    open_sample,
    painted,
    pixels_of,
    select,
    ticked,
    until,
)
from fiftyone_sfam import Protocol, explain_pair, explain_retrieval, list_runs, load_run
from fiftyone_sfam.runs.run import Run
from pairs_support import (
    NEIGHBOR,
    QUERY,
    assert_pair,
    choose_in_panel,
    open_pairs,
    pixels_once_there,
    press_access_key,
    source,
)
from worlds import small_frames

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]


@pytest.fixture
def samples(
    crops: fo.Dataset, make_dataset: Callable[..., fo.Dataset]
) -> Callable[[int], fo.Dataset]:
    """Make a dataset of some crops: the App remembers what is open in each."""

    def samples(count: int) -> fo.Dataset:
        dataset = make_dataset("panel")
        dataset.add_samples(
            [
                fo.Sample(one.filepath, identity=one.identity, camera=one.camera)
                for one in crops[:count]
            ],
            progress=False,
        )
        return dataset

    return samples


def explain(dataset: fo.Dataset) -> Run:
    return explain_retrieval(
        dataset, "demo", k=3, protocol=Protocol(identity_field="identity")
    )


def test_the_panel_in_the_grid(
    samples: Callable[[int], fo.Dataset], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = samples(30)
    run = explain(dataset)
    open_dataset(dataset)
    panel = open_pairs(page)
    assert_pair(panel, run, 0, 0)
    first = source(panel, QUERY), source(panel, NEIGHBOR)
    # The browser has decoded them, and shows them as large as they are.
    sizes = panel.locator('img[alt$="with its map"]').evaluate_all(
        "all => all.map(i => [i.naturalWidth, i.naturalHeight, i.width, i.height])"
    )
    assert sizes == [[210, 420, 210, 420]] * 2 + [[64, 128, 64, 128]] * 3
    keep_screenshot(page, "panel_grid")

    panel.get_by_role("button", name="Neighbor ▶").click()
    assert_pair(panel, run, 0, 1)
    second = source(panel, QUERY), source(panel, NEIGHBOR)
    assert second[0] != first[0]
    assert second[1] != first[1]
    panel.get_by_role("button", name="◀ Neighbor").click()
    assert_pair(panel, run, 0, 0)
    until(
        page,
        lambda: (source(panel, QUERY), source(panel, NEIGHBOR)) == first,
        "the first pair is back",
    )

    panel.get_by_alt_text("Neighbor 3 with its map").click()
    assert_pair(panel, run, 0, 2)
    assert source(panel, NEIGHBOR) not in (first[1], second[1])

    panel.get_by_role("button", name="Pair ▶").click()
    assert_pair(panel, run, 1, 0)
    assert source(panel, QUERY) != first[0]
    # By the keyboard.
    press_access_key(page, "n")
    assert_pair(panel, run, 2, 0)
    press_access_key(page, "p")
    assert_pair(panel, run, 1, 0)

    # Kind, opacity and colors change what is drawn.
    large = panel.get_by_alt_text(QUERY, exact=True)
    shown = painted(page, large)
    for label, option in (
        ("Map", "evidence"),
        ("Opacity", "100 %"),
        ("Colors", "Inferno"),
    ):
        choose_in_panel(page, panel, label, option)
        until(
            page,
            lambda before=shown: np.abs(pixels_of(large) - before).max() > 20,
            f"{option} was drawn",
        )
        shown = painted(page, large)
    assert_pair(panel, run, 1, 0)

    # The sample that is selected becomes the query.
    select(page, page.locator('[data-cy="looker"]').nth(7))
    assert_pair(panel, run, 7, 0)
    keep_screenshot(page, "panel_selected")
    assert console.errors == []


def test_the_panel_in_the_modal(
    samples: Callable[[int], fo.Dataset], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = samples(12)
    run = explain(dataset)
    open_dataset(dataset)
    open_sample(page, page.locator('[data-cy="looker"]').nth(4))
    modal = page.locator('[data-cy="modal"]')
    tab = modal.locator('[data-cy="panel-tab-sfam_pairs"]')
    more = modal.locator('[data-cy="new-panel-btn"]')
    tab.or_(more).first.wait_for()
    if not tab.count():
        more.click()
        page.get_by_text("SFAM pairs").last.click()
    else:
        tab.click()
    assert_pair(modal, run, 4, 0)
    keep_screenshot(page, "panel_modal")
    modal.get_by_role("button", name="Neighbor ▶").click()
    assert_pair(modal, run, 4, 1)
    # The neighbor is opened from the panel, which keeps its pair.
    modal.get_by_role("button", name="Open neighbor").click()
    page.wait_for_timeout(1500)
    assert_pair(modal, run, 4, 1)
    page.keyboard.press("Escape")
    assert console.errors == []


def test_the_panel_without_a_run(
    samples: Callable[[int], fo.Dataset], open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = samples(8)
    open_dataset(dataset)
    panel = open_pairs(page)
    panel.get_by_text("No explained run yet").wait_for()
    keep_screenshot(page, "panel_no_run")

    # Two selected samples are explained at once, by a model that is chosen.
    lookers = page.locator('[data-cy="looker"]')
    select(page, lookers.nth(0))
    select(page, lookers.nth(3))
    panel.get_by_text("Choose the model").wait_for()
    panel.get_by_role("combobox").first.click()
    page.get_by_role("option", name="demo", exact=True).click()
    panel.get_by_text("First selected").wait_for(timeout=60_000)
    panel.get_by_alt_text(NEIGHBOR, exact=True).wait_for()
    explained = explain_pair(
        "demo", *(dataset.values("filepath")[place] for place in (0, 3))
    )
    panel.get_by_text(f"similarity {explained.score:.4f},").wait_for()
    keep_screenshot(page, "panel_two_selected")
    for place in (0, 3):
        select(page, lookers.nth(place))

    panel.get_by_role("button", name="Explain retrieval").click()
    choose(page, "Model", "demo")
    execute = page.get_by_role("button", name="Execute").first
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.get_by_text("Pairs explained").wait_for(timeout=90_000)
    page.get_by_role("button", name="Close").click()
    looker = page.locator('[data-cy="looker"]').first
    until(page, lambda: ticked(page, "sfam"), "the heatmap is active")
    assert_drawn_when_ticked(page, "sfam", looker)
    # The panel has found the new run by itself.
    dataset.reload()
    assert list_runs(dataset) == ["sfam"]
    assert_pair(panel, load_run(dataset, "sfam"), 0, 0)
    keep_screenshot(page, "panel_after_run")
    assert console.errors == []


def assert_drawn_when_ticked(page: Page, field: str, looker: Locator) -> None:
    """Turn a field off and on until that changes what is drawn."""
    # The App may draw a field that is new only after it has told that it is active.
    for _ in range(4):
        shown = pixels_once_there(page, looker)
        page.locator(f'[data-cy="checkbox-{field}"]').click()
        for _ in range(50):
            if np.abs(pixels_of(looker) - shown).max() > 40:
                return
            page.wait_for_timeout(100)
    raise AssertionError(f"'{field}' was never drawn")


def test_the_panel_names_a_broken_image(
    samples: Callable[[int], fo.Dataset],
    open_dataset: Open,
    page: Page,
    tmp_path: Path,
) -> None:
    dataset = samples(6)
    vectors = explain(dataset).embeddings()
    dataset.set_values("vectors", list(vectors))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    sample = dataset.skip(1).first()
    sample.filepath = str(broken)
    sample.save()
    run = explain_retrieval(dataset, "demo", k=3, embeddings="vectors", overwrite=True)
    assert len(run.skipped) == 1
    open_dataset(dataset)
    panel = open_pairs(page)
    # At once, while the App is still being answered what opening the panel has asked.
    panel.get_by_role("button", name="Pair ▶").click()
    assert_pair(panel, run, 1, 0)
    panel.get_by_text("cannot be read as an image").first.wait_for()
    page.wait_for_timeout(1500)
    assert_pair(panel, run, 1, 0)
    keep_screenshot(page, "panel_broken")


# --------------------------------------------------------------------------------------
# Frames
# --------------------------------------------------------------------------------------


def test_heat_lies_in_the_boxes_of_the_frame(
    tmp_path_factory: pytest.TempPathFactory, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    explain_retrieval(
        dataset,
        "demo",
        k=2,
        patches_field="detections",
        protocol=Protocol(identity_field="identity"),
    )
    counts = [len(one) for one in dataset.values("detections.detections.label")]
    place = int(np.argmax(counts))
    assert counts[place] >= 3
    sample = dataset.skip(place).first()
    heat = sample.sfam.map
    assert heat.shape == (270, 480)
    boxes = box_mask(sample, heat.shape, margin=1)
    assert boxes.mean() < 0.5
    assert not heat[~boxes].any()
    for one in sample.detections.detections:
        assert heat[box_mask(sample, heat.shape, 0, one.id)].max() > 50

    open_dataset(dataset)
    if ticked(page, "detections"):
        page.locator('[data-cy="checkbox-detections"]').click()
    looker = page.locator('[data-cy="looker"]').nth(place)
    box = page.locator('[data-cy="checkbox-sfam"]')
    change = change_by(page, box, looker, "frames_grid")
    assert_in_boxes(change, sample)

    box.click()
    until(page, lambda: not ticked(page, "sfam"), "the heatmap is off")
    open_sample(page, looker)
    canvas = page.locator('[data-cy="modal-looker-container"] canvas').first
    canvas.wait_for()
    box = page.locator('[data-cy="modal"] [data-cy="checkbox-sfam"]')
    change = change_by(page, box, canvas, "frames_modal")
    # The frame fills the width of the modal, or else its height.
    height, width = change.shape
    scale = min(width / 640, height / 360)
    top, left = round((height - 360 * scale) / 2), round((width - 640 * scale) / 2)
    frame = change[top : height - top, left : width - left].copy()
    # Arrows that come and go lie over both of its edges.
    frame[:, :100] = frame[:, -100:] = 0
    assert_in_boxes(frame, sample)
    page.keyboard.press("Escape")
    assert console.errors == []
    dataset.delete()


def change_by(page: Page, box: Locator, drawn: Locator, name: str) -> np.ndarray:
    """Tick a box of the sidebar; return the change of each pixel, shape (h, w)."""
    page.mouse.move(700, 895)
    before = painted(page, drawn)
    box.click()
    page.mouse.move(700, 895)
    until(
        page,
        lambda: np.abs(pixels_of(drawn) - before).max() > 60,
        "the heatmap is drawn",
    )
    change = np.abs(painted(page, drawn) - before).max(axis=2)
    keep_screenshot(page, name)
    return change


def assert_in_boxes(change: np.ndarray, sample: fo.Sample) -> None:
    """Assert that pixels of a frame change in each box, and only there."""
    assert change[~box_mask(sample, change.shape, margin=3)].max() < 5
    for one in sample.detections.detections:
        assert change[box_mask(sample, change.shape, 0, one.id)].max() > 40


def box_mask(
    sample: fo.Sample,
    shape: tuple[int, ...],
    margin: int,
    label: str | None = None,
) -> np.ndarray:
    """Mark the pixels of one box or all, wider by a margin in pixels."""
    height, width = shape
    mask = np.zeros((height, width), bool)
    for one in sample.detections.detections:
        if label in (None, one.id):
            left, top, box_width, box_height = one.bounding_box
            x0, x1 = round(left * width), round((left + box_width) * width)
            y0, y1 = round(top * height), round((top + box_height) * height)
            rows = slice(max(0, y0 - margin), y1 + margin)
            mask[rows, max(0, x0 - margin) : x1 + margin] = True
    return mask
