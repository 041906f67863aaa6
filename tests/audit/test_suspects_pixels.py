"""Suspects from pixels: pictures that are one picture, pictures of nothing."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from fiftyone_sfam.audit.suspects.pixels import (
    ALIKE,
    DULL,
    SIDE,
    detail,
    dullness,
    groups_of,
    likeness,
    read_small,
    small_copy,
)
from fiftyone_sfam.errors import DataError


def picture(seed: int, width: int = 128, height: int = 256) -> Image.Image:
    """Patches of color, as large as limbs and bricks."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (32, 16, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda image: image,
    "compressed": as_jpeg,
    "cut": lambda image: image.crop((1, 2, 127, 254)),
    "smaller": lambda image: image.resize((48, 96)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_same_picture(change: str) -> None:
    one = picture(1)
    values, details = likeness(small_copy(one), small_copy(CHANGES[change](one)))
    assert min(values, details) > ALIKE


def test_two_pictures_of_one_scene_are_two() -> None:
    """Shapes and colors agree, what is in front of them does not."""
    generator = np.random.default_rng(0)
    scene = np.asarray(picture(1).filter(ImageFilter.GaussianBlur(12)), dtype=float)
    shots = [
        small_copy(
            Image.fromarray(
                np.clip(
                    scene
                    + np.kron(generator.normal(0, 4, (32, 16, 1)), np.ones((8, 8, 1))),
                    0,
                    255,
                ).astype(np.uint8)
            )
        )
        for _ in range(2)
    ]
    values, details = likeness(*shots)
    assert values > 0.9
    assert details < 0.5


def test_two_pictures_are_two() -> None:
    values, details = likeness(small_copy(picture(1)), small_copy(picture(2)))
    assert max(values, details) < 0.3


def test_blank_pictures_are_no_copies_of_each_other() -> None:
    blank = small_copy(Image.new("RGB", (40, 80), (90, 120, 30)))
    assert likeness(blank, blank) == (0.0, 0.0)
    assert detail(blank) == 0


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
