"""The heatmaps of frames in the real App."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest

from app_support import (
    Console,
    keep_screenshot,
    open_sample,
    painted,
    pixels_of,
    ticked,
    until,
)
from fiftyone_sfam import Protocol, explain_retrieval
from worlds import small_frames

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]


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
