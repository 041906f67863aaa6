"""Partitions of an image on the grid of its maps, by hand and under hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fiftyone_sfam.audit.regions.partitions import (
    BACKGROUND,
    Regions,
    from_classes,
    from_covers,
    nearest_points,
    resample,
    split,
    stripes,
)
from fiftyone_sfam.errors import DataError

# --------------------------------------------------------------------------------------
# Stripes
# --------------------------------------------------------------------------------------


def test_thirds_of_four_rows_share_cells() -> None:
    found = stripes(4, 2)
    assert found.names == ("upper third", "middle third", "lower third")
    expected = np.array([[1, 1 / 3, 0, 0], [0, 2 / 3, 2 / 3, 0], [0, 0, 1 / 3, 1]])
    np.testing.assert_allclose(found.weights[:, :, 0], expected, atol=1e-7)
    np.testing.assert_array_equal(found.weights[:, :, 0], found.weights[:, :, 1])
    np.testing.assert_allclose(found.area, [1 / 3] * 3, atol=1e-7)


def test_more_stripes_than_rows() -> None:
    found = stripes(1, 3, 2)
    assert found.names == ("stripe 1 of 2", "stripe 2 of 2")
    np.testing.assert_allclose(found.weights, np.full((2, 1, 3), 0.5))


def test_no_stripes() -> None:
    with pytest.raises(DataError, match="stripes is 0; use a whole number from 1"):
        stripes(4, 4, 0)


# --------------------------------------------------------------------------------------
# Splitting
# --------------------------------------------------------------------------------------


def test_a_map_is_split_by_hand() -> None:
    weights = np.array([[[1.0, 0.5]], [[0.0, 0.5]]], dtype=np.float32)
    evidence = np.array([[[4.0, -2.0]], [[0.5, 3.0]]], dtype=np.float32)
    parts = split(evidence, Regions(("a", "b"), weights))
    np.testing.assert_allclose(parts, [[3.0, -1.0], [2.0, 1.5]])
    assert parts.dtype == np.float64


def test_another_grid_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(3, 2\), but its regions have"):
        split(np.zeros((3, 2)), stripes(2, 2))


@given(
    masks=hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3)),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    corner=st.tuples(st.floats(-0.3, 0.6), st.floats(-0.3, 0.6)),
    size=st.tuples(st.floats(0.05, 1.2), st.floats(0.05, 1.2)),
    seed=st.integers(0, 99),
)
def test_parts_add_up_to_the_map(masks, height, width, corner, size, seed) -> None:
    box = (*corner, corner[0] + size[0], corner[1] + size[1])
    covers = resample(masks, height, width, box)
    assert covers.min() >= 0
    assert covers.max() <= 1 + 1e-9
    regions = from_covers([f"r{number}" for number in range(len(masks))], covers)
    np.testing.assert_allclose(regions.weights.sum(axis=0), 1, atol=1e-6)
    assert regions.area.sum() == pytest.approx(1, abs=1e-6)
    evidence = np.random.default_rng(seed).normal(size=(height, width))
    assert split(evidence, regions).sum() == pytest.approx(evidence.sum(), abs=1e-5)


# --------------------------------------------------------------------------------------
# Masks
# --------------------------------------------------------------------------------------


def test_cells_average_the_pixels_under_them() -> None:
    mask = np.zeros((1, 5, 2))
    mask[0, :3] = 1
    # Cells are 2.5 pixels high: the first is covered, the second by half a pixel.
    np.testing.assert_allclose(resample(mask, 2, 1)[0], [[1.0], [0.2]])


def test_small_pixels_under_large_cells_and_the_other_way_round() -> None:
    mask = np.arange(12.0).reshape(1, 3, 4) / 11
    np.testing.assert_allclose(resample(mask, 1, 1), mask.mean().reshape(1, 1, 1))
    fine = resample(mask, 6, 8)
    np.testing.assert_allclose(fine, mask.repeat(2, axis=1).repeat(2, axis=2))


def test_a_map_of_a_part_of_the_image() -> None:
    mask = np.zeros((1, 8, 8))
    mask[0, 2:4, 4:8] = 1
    found = resample(mask, 2, 2, (0.25, 0.25, 0.75, 0.75))
    # Pixels 2 to 6 of both axes; the mask lies in its upper right quarter.
    np.testing.assert_allclose(found[0], [[0, 1], [0, 0]])


def test_nothing_covers_what_lies_beyond_the_image() -> None:
    found = resample(np.ones((1, 4, 4)), 2, 2, (0.0, -0.5, 1.0, 0.5))
    np.testing.assert_allclose(found[0], [[0, 0], [1, 1]])
    assert resample(np.ones((1, 4, 4)), 1, 1, (2.0, 2.0, 3.0, 3.0)).item() == 0


def test_a_mask_that_lies_in_a_box() -> None:
    found = resample(np.ones((1, 2, 2)), 4, 2, placed=(0.0, 0.25, 0.5, 0.5))
    np.testing.assert_allclose(found[0], [[0, 0], [1, 0], [0, 0], [0, 0]])
    assert not resample(np.ones((1, 2, 2)), 4, 2, placed=(0.5, 0.5, 0.5, 0.9)).any()


def test_overlapping_parts_share() -> None:
    covers = np.array([[[1.0, 0.5, 0.0]], [[1.0, 0.25, 0.0]]])
    found = from_covers(["left", "right"], covers)
    assert found.names == ("left", "right", BACKGROUND)
    np.testing.assert_allclose(
        found.weights[:, 0], [[0.5, 0.5, 0], [0.5, 0.25, 0], [0, 0.25, 1]]
    )


def test_parts_of_one_name_are_one_region() -> None:
    covers = np.array([[[0.5, 0.75]], [[0.5, 0.75]], [[0.0, 0.0]]])
    found = from_covers(["hand", "hand", BACKGROUND], covers)
    assert found.names == ("hand", BACKGROUND)
    np.testing.assert_allclose(found.weights[:, 0], [[1, 1], [0, 0]])


def test_no_part_at_all() -> None:
    found = from_covers([], np.zeros((0, 2, 2)))
    assert found.names == (BACKGROUND,)
    np.testing.assert_allclose(found.weights, 1)


def test_classes_of_a_mask() -> None:
    mask = np.array([[0, 255], [7, 255]])
    found = from_classes(mask, {255: "person", 3: "bag"}, 1, 2)
    assert found.names == ("person", "bag", BACKGROUND)
    np.testing.assert_allclose(found.weights[:, 0], [[0, 1], [0, 0], [1, 0]])
    assert from_classes(mask, {}, 1, 1).names == (BACKGROUND,)


# --------------------------------------------------------------------------------------
# Points
# --------------------------------------------------------------------------------------


def test_places_belong_to_the_nearest_point() -> None:
    points = np.array([[0.1, 0.5], [0.4, 0.5]])
    found = nearest_points(points, 1, 4)
    # The border is at x = 0.25, where the first cell ends.
    np.testing.assert_allclose(found[:, 0], [[1, 0, 0, 0], [0, 1, 1, 1]])
    half = nearest_points(points, 1, 2)
    np.testing.assert_allclose(half[:, 0], [[0.5, 0], [0.5, 1]])


def test_distances_are_those_of_the_image() -> None:
    # A corner of a wide image is nearer to the point below it.
    points = np.array([[0.0, 0.9], [0.5, 0.0]])
    corner = (0.0, 0.0, 0.01, 0.01)
    assert nearest_points(points, 1, 1, corner, aspect=1.0)[:, 0, 0].tolist() == [0, 1]
    assert nearest_points(points, 1, 1, corner, aspect=4.0)[:, 0, 0].tolist() == [1, 0]


def test_points_outside_of_the_map_own_it_too() -> None:
    points = np.array([[0.0, 0.0], [0.0, 1.0]])
    found = nearest_points(points, 2, 1, (0.5, 0.4, 1.0, 0.6))
    np.testing.assert_allclose(found[:, :, 0], [[1, 0], [0, 1]])


# --------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------


def test_names_have_to_differ_and_to_fit() -> None:
    with pytest.raises(DataError, match="names of the regions are not unique"):
        Regions(("a", "a"), np.zeros((2, 1, 1), dtype=np.float32))
    with pytest.raises(DataError, match=r"of 1 region have shape \(2, 1, 1\)"):
        Regions(("a",), np.zeros((2, 1, 1), dtype=np.float32))
