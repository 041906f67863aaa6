"""Maps as FiftyOne draws them."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.core.utils as fou
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import (
    canvas_size,
    heatmap_document,
    inner_box,
    place,
    shared_range,
    to_bytes,
    upsample,
)


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


# --------------------------------------------------------------------------------------
# Upsampling
# --------------------------------------------------------------------------------------


def test_upsampling_is_bilinear_between_centers() -> None:
    # The centers of the new pixels lie at 1/4 and 3/4 between those of the old ones.
    assert upsample(floats([0, 4]), 1, 4).tolist() == [[0.0, 1.0, 3.0, 4.0]]
    assert upsample(floats([0], [-4]), 4, 1).tolist() == [[0.0], [-1.0], [-3.0], [-4.0]]


def test_upsampling_keeps_signs_sizes_and_constants() -> None:
    constant = upsample(np.full((2, 3), -0.7, np.float32), 11, 7)
    assert (constant.shape, constant.dtype) == ((11, 7), np.dtype(np.float32))
    np.testing.assert_allclose(constant, -0.7, rtol=1e-6)


def test_upsampling_to_the_same_size_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(upsample(values, 5, 4), values)


def test_upsampling_of_a_map_that_is_not_contiguous() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(upsample(values, 4, 3), values)


# --------------------------------------------------------------------------------------
# Canvas
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (64, 128, (96, 48)),
        (128, 64, (48, 96)),
        (10, 10, (96, 96)),
        (1920, 1080, (54, 96)),
        (1000, 1, (1, 96)),
    ],
)
def test_canvas_size_is_height_and_width(
    width: int, height: int, size: tuple[int, int]
) -> None:
    assert canvas_size(width, height, 96) == size


def test_place_fills_its_box_and_nothing_else() -> None:
    canvas = np.zeros((4, 8), np.float32)
    place(canvas, floats([5.0]), (0.25, 0.5, 0.75, 1.0))
    expected = np.zeros((4, 8), np.float32)
    expected[2:4, 2:6] = 5
    np.testing.assert_array_equal(canvas, expected)


def test_place_on_the_whole_canvas_is_upsampling() -> None:
    canvas = np.full((6, 4), -np.inf, np.float32)
    values = floats([1, 2], [3, 5])
    place(canvas, values, (0, 0, 1, 1))
    np.testing.assert_array_equal(canvas, upsample(values, 6, 4))


def test_where_maps_overlap_the_larger_value_stays() -> None:
    canvas = np.zeros((1, 6), np.float32)
    place(canvas, floats([2.0]), (0, 0, 4 / 6, 1))
    place(canvas, floats([3.0]), (3 / 6, 0, 5 / 6, 1))
    place(canvas, floats([1.0]), (0, 0, 1, 1))
    assert canvas.tolist() == [[2.0, 2.0, 2.0, 3.0, 3.0, 1.0]]


def test_what_lies_outside_the_canvas_is_cut_off() -> None:
    # The box is 8 wide and begins 4 before the canvas: its right half is seen.
    values = np.arange(8, dtype=np.float32)[None]
    canvas = np.zeros((1, 8), np.float32)
    place(canvas, values, (-0.5, 0, 0.5, 1))
    assert canvas.tolist() == [[4.0, 5.0, 6.0, 7.0, 0.0, 0.0, 0.0, 0.0]]
    canvas = np.zeros((1, 8), np.float32)
    place(canvas, values, (0.5, 0, 1.5, 1))
    assert canvas.tolist() == [[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]]
    canvas = np.zeros((8, 1), np.float32)
    place(canvas, values.T, (0, -0.25, 1, 0.75))
    assert canvas[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "box", [(1.2, 0, 1.6, 1), (-0.6, 0, -0.2, 1), (0, 1.1, 1, 2), (0, -2, 1, -1)]
)
def test_a_box_beside_the_canvas_draws_nothing(box: tuple[float, ...]) -> None:
    canvas = np.zeros((8, 8), np.float32)
    place(canvas, floats([1.0]), box)
    assert not canvas.any()


def test_a_tiny_box_is_one_pixel() -> None:
    canvas = np.zeros((8, 8), np.float32)
    place(canvas, floats([1, 1], [1, 1]), (0.5, 0.25, 0.501, 0.251))
    assert np.argwhere(canvas).tolist() == [[2, 4]]


def test_inner_box_turns_a_size_into_corners() -> None:
    assert inner_box((0.2, 0.4, 0.5, 0.25), (0, 0, 1, 1)) == pytest.approx(
        (0.2, 0.4, 0.7, 0.65)
    )
    assert inner_box((0.2, 0.4, 0.5, 0.25), (0.5, 0.2, 0.75, 0.6)) == pytest.approx(
        (0.45, 0.45, 0.575, 0.55)
    )


# --------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------


def test_shared_range_is_the_98th_percentile_of_the_maps() -> None:
    assert shared_range(np.arange(1.0, 102.0)) == 99.0
    # Maps without anything positive have no say.
    assert shared_range(np.array([-5.0, 0.0, 3.0])) == 3.0


@pytest.mark.parametrize("largest", [[], [0.0], [-1.0, -2.0]])
def test_shared_range_without_any_positive_map(largest: list[float]) -> None:
    assert shared_range(np.array(largest)) == 1.0


def test_to_bytes() -> None:
    values = to_bytes(floats([-1, 0, 0.001], [1, 2, 9]), 2.0)
    assert values.tolist() == [[0, 0, 0], [128, 255, 255]]
    assert values.dtype == np.uint8
    # FiftyOne stores the bytes as they lie in memory.
    assert to_bytes(floats([1, 2], [3, 4]).T, 4.0).flags.c_contiguous


@settings(max_examples=50, deadline=None, database=None)
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20),
    st.floats(0.125, 8, width=32),
)
def test_bytes_are_monotonic_and_transparent_below_zero(
    values: list[float], full: float
) -> None:
    row = np.sort(np.array([values], dtype=np.float32))
    found = to_bytes(row, full)
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[row <= 0] == 0).all()
    assert (found[row >= full] == 255).all()
    np.testing.assert_allclose(
        found, np.clip(row, 0, full) / full * 255, atol=0.5 + 1e-4
    )


def test_the_document_is_what_fiftyone_makes_of_a_heatmap() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = heatmap_document(values)
    expected = fo.Heatmap(map=values, range=[0, 255]).to_mongo().to_dict()
    assert list(found) == list(expected)
    assert found["_id"] != expected["_id"]
    for name in ("_cls", "tags", "range"):
        assert found[name] == expected[name]
    np.testing.assert_array_equal(fou.deserialize_numpy_array(found["map"]), values)
