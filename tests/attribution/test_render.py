"""Pictures of maps, checked pixel by pixel."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam.attribution.render import (
    DIVERGING,
    SEQUENTIAL,
    color_table,
    data_url,
    fitted,
    overlay,
    shared_limit,
)

GRAY = Image.new("RGB", (40, 20), (100, 100, 100))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int32)


def test_color_tables() -> None:
    # First and last colors as the color maps' authors define them.
    viridis = color_table("Viridis")
    assert viridis[0].tolist() == [68, 1, 84]
    assert viridis[255].tolist() == [253, 231, 37]
    red_blue = color_table("RdBu_r")
    assert red_blue[0].tolist() == [5, 48, 97]
    assert red_blue[255].tolist() == [103, 0, 31]
    for name in (*SEQUENTIAL, *DIVERGING):
        table = color_table(name)
        assert (table.shape, table.dtype) == ((256, 3), np.uint8)
        assert not table.flags.writeable
    for name in DIVERGING:
        # Nearly white in the middle: zero takes no side.
        assert color_table(name)[127:129].min() > 225
    with pytest.raises(ValueError, match="unknown color map 'Jet'; use one of Viridis"):
        color_table("Jet")


def test_shared_limit() -> None:
    one = np.array([[0.5, -2.0]], np.float32)
    assert shared_limit([one, np.ones((3, 3), np.float32)]) == 2.0
    assert shared_limit([np.zeros((2, 2), np.float32)]) == 1.0
    assert shared_limit([]) == 1.0


def test_zero_leaves_the_image_alone() -> None:
    for signed in (False, True):
        drawn = overlay(GRAY, np.zeros((2, 4), np.float32), 1.0, signed=signed)
        assert drawn.size == GRAY.size
        assert (pixels(drawn) == 100).all()


def test_strength_is_color_and_opacity() -> None:
    full = overlay(GRAY, np.full((2, 4), 3.0, np.float32), 3.0, opacity=0.6)
    expected = 100 * 0.4 + np.array([253, 231, 37]) * 0.6
    assert np.abs(pixels(full) - expected).max() <= 1

    quarter = overlay(GRAY, np.full((2, 4), 0.75, np.float32), 3.0, opacity=0.6)
    # The square root: a quarter of the limit has half of the opacity.
    color = color_table("Viridis")[64].astype(float)
    assert np.abs(pixels(quarter) - (100 * 0.7 + color * 0.3)).max() <= 1

    over = overlay(GRAY, np.full((2, 4), 30.0, np.float32), 3.0, opacity=0.6)
    assert np.array_equal(pixels(over), pixels(full))


def test_negative_values_show_only_in_signed_maps() -> None:
    values = np.full((2, 4), -1.0, np.float32)
    assert (pixels(overlay(GRAY, values, 1.0)) == 100).all()
    signed = pixels(overlay(GRAY, values, 1.0, signed=True, opacity=1.0))
    assert np.array_equal(signed[5, 5], [5, 48, 97])
    other = pixels(overlay(GRAY, -values, 1.0, signed=True, opacity=1.0))
    assert np.array_equal(other[5, 5], [103, 0, 31])


def test_the_map_lies_in_its_crop() -> None:
    values = np.ones((3, 3), np.float32)
    drawn = pixels(overlay(GRAY, values, 1.0, crop=(0.5, 0.25, 1.0, 0.75)))
    changed = (drawn != 100).any(axis=2)
    expected = np.zeros((20, 40), bool)
    expected[5:15, 20:40] = True
    assert np.array_equal(changed, expected)


def test_a_crop_that_is_larger_than_the_image() -> None:
    # What a padding preprocessing sees: the map's middle half lies on the image.
    values = np.zeros((4, 4), np.float32)
    values[:, 0] = values[:, 3] = 1.0
    drawn = pixels(overlay(GRAY, values, 1.0, crop=(-0.5, 0.0, 1.5, 1.0)))
    # The hot columns' centers lie a quarter of the width outside, so the heat fades
    # towards the middle of the image from both sides, alike.
    changed = np.abs(drawn - 100).sum(axis=(0, 2))
    assert changed[0] > 0
    assert changed[20] == 0
    assert np.array_equal(changed, changed[::-1])


def test_top_left_is_top_left() -> None:
    values = np.zeros((2, 2), np.float32)
    values[0, 1] = 1.0
    drawn = pixels(overlay(GRAY, values, 1.0))
    assert (drawn[0, 39] != 100).any()
    assert (drawn[19, 0] == 100).all()
    assert (drawn[0, 0] == 100).all()
    assert (drawn[19, 39] == 100).all()


def test_gray_and_transparent_images_are_drawn_on() -> None:
    for mode in ("L", "RGBA", "P", "1"):
        image = Image.new("L", (6, 6), 255).convert(mode)
        drawn = overlay(image, np.zeros((1, 1), np.float32), 1.0)
        assert drawn.mode == "RGB"
        assert (pixels(drawn) == 255).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 128), (210, 420)),
        ((128, 64), (300, 150)),
        ((640, 360), (300, 169)),
        ((300, 420), (300, 420)),
        ((5000, 1), (300, 1)),
    ],
)
def test_fitted(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = fitted(Image.new("L", size, 7), 300, 420)
    assert (small.size, small.mode) == (expected, "RGB")
    assert (pixels(small) == 7).all()


def test_data_url() -> None:
    image = overlay(GRAY, np.ones((2, 2), np.float32), 1.0)
    head, _, body = data_url(image, "PNG").partition(",")
    assert head == "data:image/png;base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(body)))
    assert np.array_equal(pixels(decoded), pixels(image))
    for name in ("WEBP", "JPEG"):
        head, _, body = data_url(image, name).partition(",")
        assert head == f"data:image/{name.lower()};base64"
        lossy = Image.open(io.BytesIO(base64.b64decode(body)))
        assert lossy.format == name
        assert np.abs(pixels(lossy.convert("RGB")) - pixels(image)).mean() < 6
