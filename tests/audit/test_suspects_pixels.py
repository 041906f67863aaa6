"""Suspects from pixels: pictures of nothing, and groups of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fiftyone_sfam.audit.suspects.pixels import (
    DULL,
    SIDE,
    detail,
    dullness,
    groups_of,
    read_small,
    small_copy,
)
from fiftyone_sfam.errors import DataError


def picture(seed: int, width: int = 128, height: int = 256) -> Image.Image:
    """Patches of color, as large as limbs and bricks."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (32, 16, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_detail_is_the_mean_difference_to_the_neighbors() -> None:
    copy = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    copy[10, 10] = 100
    # The pixel differs from its neighbors by 100, and each of them by a quarter.
    assert detail(copy) == pytest.approx((100 + 4 * 25) / SIDE**2, rel=1e-5)


def test_dull_pictures_stand_out() -> None:
    usual = np.array([detail(small_copy(picture(seed))) for seed in range(40)])
    one = picture(50)
    found = dullness(
        {
            0: detail(small_copy(one)),
            1: detail(small_copy(one.filter(ImageFilter.GaussianBlur(30)))),
            2: detail(small_copy(Image.new("RGB", (30, 30)))),
            3: detail(small_copy(one.point(lambda value: value // 16))),
        },
        usual,
    )
    assert found[0] < 2
    assert min(found[1], found[2], found[3]) > DULL
    assert found[2] > found[1]


def test_pairs_that_share_an_image_are_one_group() -> None:
    assert groups_of([(4, 9), (1, 2), (7, 4), (2, 3)]) == [[1, 2, 3], [4, 7, 9]]
    assert groups_of([]) == []


def test_unreadable_pictures_are_named() -> None:
    def read(item: int) -> Image.Image:
        if item == 2:
            raise DataError("the sample was deleted.")
        return picture(item)

    copies, missing = read_small([1, 2, 3], read)
    assert sorted(copies) == [1, 3]
    assert copies[1].shape == (SIDE, SIDE, 3)
    assert missing == {2: "the sample was deleted."}
