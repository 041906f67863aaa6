"""Crops that are off, on patterns whose place, turn and size are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.audit.suspects.crops import (
    CropFigures,
    crop_reason,
    measure_crops,
)
from fiftyone_sfam.audit.suspects.pixels import small_copy

OFF = 7  # index of the image that is off
COUNT = 120


def scene(generator: np.random.Generator) -> Image.Image:
    """A disk with two dark spots and a bar, in front of random stripes."""
    rows, columns = np.mgrid[-2:2:256j, -2:2:256j]
    angle, waves = generator.uniform(0, np.pi), generator.uniform(2, 6)
    stripes = np.sin(waves * (rows * np.sin(angle) + columns * np.cos(angle)))
    gray = generator.uniform(60, 120) + 25 * stripes
    gray[rows**2 + (1.3 * columns) ** 2 < 0.6] = generator.uniform(150, 230)
    for side in (-0.25, 0.25):
        gray[(rows + 0.2) ** 2 + (columns - side) ** 2 < 0.012] = 30
    gray[(abs(rows - 0.4) < 0.06) & (abs(columns) < 0.25)] = 60
    gray += generator.normal(0, 8, gray.shape)
    return Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8)).convert("RGB")


def crop(
    image: Image.Image,
    down: float = 0.0,
    right: float = 0.0,
    angle: float = 0.0,
    size: float = 1.0,
) -> NDArray[np.float32]:
    """Cut the middle half out; the content is moved, turned or scaled in it."""
    side = 128 / size
    turned = image.rotate(angle, Image.Resampling.BICUBIC)
    left, top = 128 - side / 2 - right * side, 128 - side / 2 - down * side
    box = (left, top, left + side, top + side)
    return small_copy(turned.resize((128, 128), Image.Resampling.BICUBIC, box=box))


def framed(seed: int = 0) -> dict[int, NDArray[np.float32]]:
    """Small copies of scenes that are framed alike, up to 2 % of the side."""
    generator = np.random.default_rng(seed)
    return {
        image: crop(scene(generator), *generator.uniform(-0.02, 0.02, 2))
        for image in range(COUNT)
    }


def with_one(copy: NDArray[np.float32]) -> CropFigures:
    return measure_crops({**framed(), OFF: copy}, COUNT)


def other() -> Image.Image:
    return scene(np.random.default_rng(99))


def test_usual_crops_are_not_doubtful() -> None:
    figures = measure_crops(framed(), COUNT)
    assert figures.aligned
    assert figures.fit > 0.95
    assert not figures.is_doubtful.any()


@pytest.mark.parametrize(
    ("down", "right", "words"),
    [
        (0.18, 0.0, " % of the height lower than usual"),
        (0.0, 0.18, " % of the width further right than usual"),
        (0.0, -0.26, " % of the width further left than usual"),
    ],
)
def test_moved_content(down: float, right: float, words: str) -> None:
    figures = with_one(crop(other(), down, right))
    assert np.flatnonzero(figures.is_doubtful).tolist() == [OFF]
    assert figures.down[OFF] == pytest.approx(down, abs=0.03)
    assert figures.right[OFF] == pytest.approx(right, abs=0.03)
    assert figures.angle[OFF] == 0
    assert figures.size[OFF] == 1
    reason = crop_reason(figures, OFF)
    assert reason.startswith("its content lies ")
    assert words in reason


def test_content_between_the_learned_places() -> None:
    figures = with_one(crop(other(), 0.1, -0.12))
    assert figures.is_doubtful[OFF]
    assert figures.down[OFF] == pytest.approx(0.1, abs=0.04)
    assert figures.right[OFF] == pytest.approx(-0.12, abs=0.04)
    reason = crop_reason(figures, OFF)
    assert "of the height lower and " in reason
    assert reason.endswith("of the width further left than usual")


@pytest.mark.parametrize("angle", [-32.0, 25.0])
def test_turned_content(angle: float) -> None:
    figures = with_one(crop(other(), angle=angle))
    assert np.flatnonzero(figures.is_doubtful).tolist() == [OFF]
    assert figures.angle[OFF] == pytest.approx(angle, abs=8)
    assert figures.down[OFF] == figures.right[OFF] == 0
    assert crop_reason(figures, OFF).startswith("it is turned by about ")


@pytest.mark.parametrize(("size", "word"), [(0.7, "smaller"), (1.4, "larger")])
def test_content_of_another_size(size: float, word: str) -> None:
    figures = with_one(crop(other(), size=size))
    assert np.flatnonzero(figures.is_doubtful).tolist() == [OFF]
    assert figures.size[OFF] == pytest.approx(size, abs=0.12)
    assert f"% {word} than usual" in crop_reason(figures, OFF)


def test_a_second_framing_is_not_doubtful_in_a_collection_of_its_own() -> None:
    generator = np.random.default_rng(1)
    close = {image: crop(scene(generator), size=1.5) for image in range(COUNT)}
    figures = measure_crops(close, COUNT)
    assert figures.aligned
    assert not figures.is_doubtful.any()


def test_a_collection_without_a_usual_framing() -> None:
    generator = np.random.default_rng(2)
    copies = {
        image: np.roll(copy, tuple(generator.integers(0, 32, 2)), (0, 1))
        for image, copy in framed().items()
    }
    figures = measure_crops(copies, COUNT)
    assert not figures.aligned
    assert figures.fit < 0.2
    assert not figures.is_doubtful.any()


def test_brightness_and_contrast_do_not_matter() -> None:
    copies = framed()
    copies[OFF] = (copies[OFF] / 3 + 20).astype(np.float32)
    assert not measure_crops(copies, COUNT).is_doubtful.any()


def test_constant_images() -> None:
    plain = np.full((32, 32, 3), 200, dtype=np.float32)
    figures = with_one(plain)
    assert np.isfinite(figures.strength).all()
    assert np.isin(np.flatnonzero(figures.is_doubtful), [OFF]).all()
    same = measure_crops(dict.fromkeys(range(COUNT), plain), COUNT)
    assert np.isfinite(same.strength).all()
    assert not same.is_doubtful.any()


@pytest.mark.parametrize("images", [(), (3,), tuple(range(39))])
def test_too_few_images(images: tuple[int, ...]) -> None:
    copies = framed()
    figures = measure_crops({image: copies[image] for image in images}, 50)
    assert not figures.aligned
    assert np.flatnonzero(figures.strength == 0).tolist() == list(images)
    assert np.isnan(figures.strength).sum() == 50 - len(images)
    assert not figures.is_doubtful.any()


@pytest.mark.parametrize("count", [40, 41])
def test_few_images_suffice(count: int) -> None:
    copies = {**dict(list(framed().items())[:count]), OFF: crop(other(), 0.26)}
    figures = measure_crops(copies, count)
    assert figures.aligned
    assert figures.strength.argmax() == OFF
    assert figures.down[OFF] > 0.15


def test_images_without_pixels() -> None:
    copies = framed()
    copies[OFF] = crop(other(), 0.2)
    numbers = {3 * image: copy for image, copy in copies.items()}
    figures = measure_crops(numbers, 3 * COUNT)
    missing = np.arange(3 * COUNT) % 3 > 0
    for values in (figures.strength, figures.down, figures.angle, figures.gain):
        assert (np.isnan(values) == missing).all()
    assert np.flatnonzero(figures.is_doubtful).tolist() == [3 * OFF]


def test_a_sample_judges_the_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiftyone_sfam.audit.suspects.crops._SAMPLE", 80)
    monkeypatch.setattr("fiftyone_sfam.audit.suspects.crops._BLOCK", 32)
    copies, generator = framed(), np.random.default_rng(3)
    expected = list(range(0, COUNT, 20))
    for image in expected:
        copies[image] = crop(scene(generator), -0.2 if image % 40 else 0.2)
    figures = measure_crops(copies, COUNT)
    assert sorted(np.argsort(-figures.strength)[: len(expected)].tolist()) == expected
    assert (figures.down[expected] > 0.1).tolist() == [True, False] * 3


def test_words_for_changes() -> None:
    columns = np.array(
        [
            [6.0, 0.2, 0.01, 0.0, 1.0, 3.0],
            [6.0, -0.11, 0.26, 0.0, 1.0, 3.0],
            [6.0, 0.0, 0.0, -31.0, 1.0, 3.0],
            [6.0, 0.0, 0.0, 0.0, 1.4, 3.0],
            [6.0, 0.0, 0.0, 0.0, 0.7, 3.0],
            [6.0, 0.03, -0.03, 0.0, 1.0, 3.0],
        ]
    ).T
    strength, down, right, angle, size, gain = columns
    figures = CropFigures(
        strength, down, right, angle, size, gain, fit=0.9, aligned=True
    )
    assert [crop_reason(figures, image) for image in range(6)] == [
        "its content lies 20 % of the height lower than usual",
        "its content lies 11 % of the height higher and 26 % of the width further "
        "right than usual",
        "it is turned by about 30 degrees",
        "its content is 40 % larger than usual",
        "its content is 30 % smaller than usual",
        "its content is not where it usually is",
    ]


def test_figures_are_the_same_each_time() -> None:
    copies = framed()
    first, second = (measure_crops(copies, COUNT) for _ in range(2))
    assert (first.strength == second.strength).all()
    assert (first.gain == second.gain).all()
