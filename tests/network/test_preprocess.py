"""What of an image reaches the network, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.preprocess import Preprocessing

PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}

# Red, green; blue, white.
COLORS = np.array(
    [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8
)


def colors() -> Image.Image:
    return Image.fromarray(COLORS)


def numbered(width: int, height: int) -> Image.Image:
    """An image whose red is the column and whose green is the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_channels_rows_and_columns_are_in_their_places() -> None:
    tensor = Preprocessing((2, 2), **PLAIN)(colors())
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [
        [[1.0, 0.0], [0.0, 1.0]],
        [[0.0, 1.0], [0.0, 1.0]],
        [[0.0, 0.0], [1.0, 1.0]],
    ]


def test_bgr_turns_the_channels_around() -> None:
    rgb = Preprocessing((2, 2), **PLAIN)(colors())
    bgr = Preprocessing((2, 2), **PLAIN, channels="BGR")(colors())
    assert torch.equal(bgr, rgb.flip(0))
    assert bgr.is_contiguous()


def test_gray_and_four_channels() -> None:
    image = Image.new("RGBA", (1, 1), (10, 20, 30, 40))
    options = {"scale": 1, "std": (2,), "mean": (1,), "channels": "L"}
    # The luma of ITU-R 601: 0.299 red, 0.587 green, 0.114 blue.
    assert Preprocessing((1, 1), **options)(image).flatten().tolist() == [8.5]
    four = Preprocessing(
        (1, 1), scale=1, mean=(0, 0, 0, 0), std=(1, 1, 1, 2), channels="RGBA"
    )
    assert four(image).flatten().tolist() == [10, 20, 30, 20]


def test_normalization_is_in_the_order_of_the_channels() -> None:
    # Channels 10, 20, 30 as blue, green, red: (30/2 - 1)/2, (20/2 - 2)/4, (10/2 - 3)/8.
    image = Image.new("RGB", (1, 1), (10, 20, 30))
    tensor = Preprocessing(
        (1, 1), mean=(1, 2, 3), std=(2, 4, 8), scale=2, channels="BGR"
    )(image)
    assert tensor.flatten().tolist() == [7.0, 2.0, 0.25]


def test_default_normalization_is_imagenets() -> None:
    tensor = Preprocessing((1, 1))(Image.new("RGB", (1, 1), (255, 0, 51)))
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(tensor.flatten(), expected, rtol=1e-6)


def test_size_is_height_and_width() -> None:
    assert Preprocessing((7, 3))(colors()).shape == (3, 7, 3)


def test_resizing_stretches() -> None:
    # Nearest neighbors of a column of 2 in a row of 4, and of both rows in one.
    tensor = Preprocessing((2, 4), **PLAIN, interpolation="nearest")(colors())
    assert tensor[0].tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]


def test_interpolation_is_the_one_asked_for() -> None:
    half = Image.fromarray(np.array([[0, 200]], dtype=np.uint8))
    rows = {
        name: Preprocessing((1, 4), **PLAIN, scale=1, interpolation=name)(half)[0, 0]
        for name in ("nearest", "bilinear", "bicubic", "lanczos")
    }
    assert rows["nearest"].tolist() == [0.0, 0.0, 200.0, 200.0]
    # Centers of the new pixels lie at 1/4 and 3/4 between those of the old ones.
    assert rows["bilinear"].tolist() == [0.0, 50.0, 150.0, 200.0]
    assert len({tuple(row.tolist()) for row in rows.values()}) == 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_images_of_any_mode(mode: str) -> None:
    tensor = Preprocessing((2, 2), **PLAIN)(Image.new("RGB", (5, 5)).convert(mode))
    assert tensor.shape == (3, 2, 2)
    assert tensor.abs().sum() == 0


def test_center_crop_and_the_box_that_it_covers() -> None:
    preprocessing = Preprocessing((2, 4), **PLAIN, scale=1, resize=(6, 10))
    tensor = preprocessing(numbered(10, 6))
    assert tensor[0, 0].tolist() == [3.0, 4.0, 5.0, 6.0]
    assert tensor[1, :, 0].tolist() == [2.0, 3.0]
    assert preprocessing.crop_box(10, 6) == (3.0, 2.0, 7.0, 4.0)
    # On an image of another size the same part: 3/10..7/10 and 2/6..4/6.
    assert preprocessing.crop_box(100, 30) == (30.0, 10.0, 70.0, 20.0)


def test_center_crop_of_an_odd_rest_leaves_the_smaller_part_before() -> None:
    preprocessing = Preprocessing((2, 2), **PLAIN, scale=1, resize=(5, 3))
    tensor = preprocessing(numbered(3, 5))
    assert tensor[0, 0].tolist() == [0.0, 1.0]
    assert tensor[1, :, 0].tolist() == [1.0, 2.0]
    assert preprocessing.crop_box(3, 5) == (0.0, 1.0, 2.0, 3.0)


def test_without_a_crop_the_network_sees_everything() -> None:
    assert Preprocessing((8, 8)).crop_box(31, 17) == (0.0, 0.0, 31.0, 17.0)
    same = Preprocessing((8, 8), resize=(8, 8))
    assert same.crop_box(32, 16) == (0.0, 0.0, 32.0, 16.0)


SIZES = st.integers(1, 40)


@settings(max_examples=50, deadline=None, database=None)
@given(SIZES, SIZES, st.integers(0, 20), st.integers(0, 20), SIZES, SIZES)
def test_the_crop_box_is_centered_and_inside(
    height: int, width: int, more_rows: int, more_columns: int, w: int, h: int
) -> None:
    resize = (height + more_rows, width + more_columns)
    preprocessing = Preprocessing((height, width), resize=resize)
    left, top, right, bottom = preprocessing.crop_box(w, h)
    assert -1e-9 <= left < right <= w + 1e-9
    assert -1e-9 <= top < bottom <= h + 1e-9
    assert right - left == pytest.approx(w * width / resize[1])
    assert bottom - top == pytest.approx(h * height / resize[0])
    assert abs((left + right) - w) <= w / resize[1] + 1e-9
    assert abs((top + bottom) - h) <= h / resize[0] + 1e-9
    assert preprocessing(Image.new("RGB", (w, h))).shape == (3, height, width)


# --------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------


def test_from_dict_takes_lists_for_tuples() -> None:
    options = {
        "size": [8, 6],
        "mean": [1, 2, 3],
        "std": [1, 1, 2],
        "scale": 1,
        "channels": "BGR",
        "resize": [16, 12],
        "interpolation": "bicubic",
    }
    found = Preprocessing.from_dict(options)
    assert found == Preprocessing(
        (8, 6),
        mean=(1.0, 2.0, 3.0),
        std=(1.0, 1.0, 2.0),
        scale=1.0,
        channels="BGR",
        resize=(16, 12),
        interpolation="bicubic",
    )
    assert hash(found) == hash(Preprocessing.from_dict(options))
    assert Preprocessing.from_dict({"size": (8, 6)}) == Preprocessing((8, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"'size' is missing; give the height and width"),
        ({"size": [8, 6], "std_": 1}, r"unknown .* 'std_'; known are size, mean, std,"),
        ({"size": 8}, r"'size' is 8; give a height and a width in whole pixels"),
        ({"size": "88"}, r"'size' is '88'; give a height and a width"),
        ({"size": [8, 6, 3]}, r"'size' is \(8, 6, 3\); give a height and a width"),
        ({"size": [8, 0]}, r"'size' is \(8, 0\)"),
        ({"size": [8.5, 6]}, r"'size' is \(8.5, 6\)"),
        ({"resize": [9]}, r"'resize' is \(9,\); give a height and a width"),
        ({"resize": [16, 5]}, r"'resize' is \(16, 5\), smaller than 'size' \(8, 6\)"),
        ({"resize": [7, 6]}, r"'resize' is \(7, 6\), smaller .* make it at least"),
        ({"mean": 0.5}, r"'mean' is 0.5; give one number for each of the three"),
        ({"mean": [0.5, 0.5]}, r"'mean' is \(0.5, 0.5\); give one number"),
        ({"std": [[1, 1, 1]]}, r"'std' is .* give one number"),
        ({"mean": ["a", "b", "c"]}, r"'mean' is \('a', 'b', 'c'\); give one number"),
        ({"mean": [1, 2, None]}, r"'mean' is \(1, 2, None\); give one number"),
        ({"std": [1, float("nan"), 1]}, r"'std' is \(1, nan, 1\); give one number"),
        ({"std": [1, 0, 1]}, r"'std' is \(1.0, 0.0, 1.0\); none of its"),
        ({"scale": 0}, r"'scale' is 0; it divides .* greater than zero"),
        ({"scale": "255"}, r"'scale' is '255'; it divides .* greater than zero"),
        ({"scale": float("inf")}, r"'scale' is inf; it divides"),
        ({"channels": "rgb"}, r"'channels' is 'rgb'; use 'RGB', 'BGR', 'L' or"),
        (
            {"channels": "L"},
            r"'mean' is \(0.485, .*; give one number for each of the si",
        ),
        ({"channels": "RGBA"}, r"'mean' is .* one number for each of the four"),
        ({"interpolation": "area"}, r"'interpolation' is 'area'; use one of nearest,"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    if options and "size" not in options:
        options = {"size": [8, 6], **options}
    with pytest.raises(ModelError, match=message):
        Preprocessing.from_dict(options)
