"""Reading, cropping, and loading ahead."""

from __future__ import annotations

import threading

import fiftyone as fo
import fiftyone.utils.patches as foup
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fiftyone_sfam.data.images import load_in_background, pixel_box, read_image
from fiftyone_sfam.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def test_modes_become_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        path = tmp_path / f"{mode}.tif"
        Image.fromarray(PIXELS).convert(mode).save(path)
        image = read_image(path)
        assert (image.mode, image.size) == ("RGB", (4, 6))


def test_stored_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    path = tmp_path / "turned.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.rot90(PIXELS, -1))


def broken_files(folder):
    whole = folder / "whole.jpg"
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(whole)
    content = whole.read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("no image at all")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    return [folder / n for n in ("cut.jpg", "text.jpg", "empty.png", "folder.png")]


def test_broken_files_say_so(tmp_path):
    for path in broken_files(tmp_path):
        with pytest.raises(DataError, match="the file cannot be read as an image: "):
            read_image(path)
    with pytest.raises(DataError, match=r"the file does not exist: .*none\.jpg"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFF
@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "webp", "bmp", "avif"])
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    rng = np.random.default_rng(1)
    path = tmp_path / f"image.{kind}"
    Image.fromarray(PIXELS).save(path)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    outcomes = set()
    for trial in range(60):
        damaged = content.copy()
        places = rng.integers(0, len(damaged), size=4)
        damaged[places] = rng.integers(0, 256, size=4)
        path.write_bytes(damaged[: len(damaged) - 3 * (trial % 5)].tobytes())
        try:
            outcomes.add(read_image(path).mode)
        except DataError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"RGB", "refused"}


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(0, 1) for _ in range(4)]),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_boxes_cut_what_fiftyone_cuts(box, width, height):
    image = np.arange(width * height, dtype=np.int64).reshape(height, width)
    box = (box[0], box[1], min(box[2], 1 - box[0]), min(box[3], 1 - box[1]))
    expected = foup.extract_patch(image, fo.Detection(bounding_box=list(box)))
    try:
        left, top, right, bottom = pixel_box(box, width, height)
    except DataError:
        assert expected.size == 0
    else:
        np.testing.assert_array_equal(image[top:bottom, left:right], expected)


def test_boxes_end_at_the_border():
    assert pixel_box((-0.5, 0.5, 1.0, 2.0), 10, 20) == (0, 10, 5, 20)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.5, 0.5, 0, 0.5), "covers no pixel of the image of 10 x 20"),
        ((1.5, 0, 1, 1), "covers no pixel"),
        ((float("nan"), 0, 1, 1), "is not finite"),
        ((0, 0, float("inf"), 1), "is not finite"),
    ],
)
def test_boxes_of_nothing(box, message):
    with pytest.raises(DataError, match=message):
        pixel_box(box, 10, 20)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_loading_keeps_the_order_and_the_reasons(num_workers):
    def load(index: int) -> int:
        if index % 4 == 1:
            raise DataError(f"no {index}.")
        return index * index

    loaded = list(load_in_background(range(30), load, num_workers, ahead=5))
    assert [one.index for one in loaded] == list(range(30))
    for one in loaded:
        if one.index % 4 == 1:
            assert (one.value, one.reason) == (None, f"no {one.index}.")
        else:
            assert (one.value, one.reason) == (one.index**2, None)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_other_errors_end_the_loading(num_workers):
    def load(index: int) -> int:
        return 1 // (2 - index)

    loaded = load_in_background(range(9), load, num_workers, ahead=3)
    assert [next(loaded).index, next(loaded).index] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(loaded)


def test_no_more_is_loaded_ahead_than_asked_for():
    started: list[int] = []
    lock = threading.Lock()

    def load(index: int) -> int:
        with lock:
            started.append(index)
        return index

    loaded = load_in_background(range(100), load, 2, ahead=4)
    for expected in range(10):
        assert next(loaded).index == expected
        assert max(started) <= expected + 4
    loaded.close()
    assert len(started) <= 14
    assert not [t for t in threading.enumerate() if t.name.startswith("sfam-load")]
