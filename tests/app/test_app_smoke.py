"""The real App opens a dataset and draws a heatmap field over its image."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def test_app_draws_heatmap(
    open_dataset: Callable[[fo.Dataset], Page],
    make_dataset: Callable[..., fo.Dataset],
    tmp_path: Path,
) -> None:
    path = tmp_path / "gray.png"
    Image.new("RGB", (128, 128), (120, 120, 120)).save(path)
    heat = np.zeros((64, 64), np.uint8)
    heat[:, :32] = 255
    dataset = make_dataset("smoke")
    dataset.add_sample(fo.Sample(str(path), sfam=fo.Heatmap(map=heat)))

    page = open_dataset(dataset)
    looker = page.locator('[data-cy="looker"]')
    before = halves(looker)
    page.locator('[data-cy="checkbox-sfam"]').click()
    page.mouse.move(700, 800)
    for _ in range(50):
        after = halves(looker)
        if np.abs(after[0] - before[0]).max() > 20:
            break
        page.wait_for_timeout(100)

    assert np.abs(before - 120).max() < 2
    # The heat is on the left half and nowhere else.
    assert np.abs(after[0] - 120).max() > 20
    assert np.abs(after[1] - 120).max() < 2


def halves(looker: Locator) -> np.ndarray:
    """Mean color of the middle of the left and of the right half, (2, 3)."""
    shot = Image.open(io.BytesIO(looker.screenshot())).convert("RGB")
    pixels = np.asarray(shot, np.float64)
    height, width, _ = pixels.shape
    rows = slice(height // 3, 2 * height // 3)
    left = pixels[rows, width // 8 : 3 * width // 8]
    right = pixels[rows, 5 * width // 8 : 7 * width // 8]
    return np.stack([left.mean(axis=(0, 1)), right.mean(axis=(0, 1))])
