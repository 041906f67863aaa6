"""Check crops that are off, from pixels alone, on real images.

Two kinds of planted crops, in ten worlds each. *Planted* ones are those of
``suspects_planted.py``: images moved or turned, and continued beyond their edges.
*Windows* are cut from the middle of larger photos, and moved, turned or scaled inside
the photo, so that no continued edges help: 8 % of the images of each world. Prints the
average precision of the strengths, precision and recall of the images above the
threshold, and how many untouched images are above it. Writes nothing.

Usage: ``make check-crops``, or ``python benchmarks/check_crops.py [--assets DIR]``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score
from suspects_planted import CROP, plant
from suspects_pool import (
    COLLECTIONS,
    FORMS,
    SIDE,
    list_images,
    list_people,
    small_form,
)

from fiftyone_sfam.audit.suspects.crops import CropFigures, measure_crops

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(10)
# Photos with room around faces, and the share of each side that a window has.
PHOTOS = "lfw_subset"
SHARE = 0.48
BAD = 0.08

Crops = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # small copies, which are off


def main() -> int:
    """Check all sets of images; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    assets = parser.parse_args().assets
    if not assets.is_dir():
        print(f"no assets at {assets}; give --assets", file=sys.stderr)
        return 2
    folders = {each.folder: each for each in COLLECTIONS}
    for folder, collection in folders.items():
        paths = list_images(assets / "data" / folder)[0]
        people, cameras = list_people(collection, assets)
        untouched = np.stack([small_form(path, "original", 0) for path in paths])
        planted = [plant(people, cameras, seed) for seed in SEEDS]
        check(
            f"planted, {folder}",
            untouched,
            (
                (
                    np.stack(
                        [
                            small_form(
                                paths[row // len(FORMS)], FORMS[row % len(FORMS)], row
                            )
                            for row in world.rows.tolist()
                        ]
                    ),
                    world.truth[CROP] == 1,
                )
                for world in planted
            ),
        )
    paths = list_images(assets / "data" / PHOTOS)[0]
    photos = [Image.open(path).convert("RGB") for path in paths]
    untouched = np.stack([window(photo) for photo in photos])
    check(f"windows, {PHOTOS}", untouched, worlds_of(photos, untouched))
    return 0


def check(name: str, untouched: NDArray[np.uint8], worlds: Iterator[Crops]) -> None:
    """Measure untouched images and worlds, and print figures."""
    figures = measure(untouched)
    flagged = int(figures.is_doubtful.sum())
    print(
        f"{name}: {len(untouched)} images, {figures.fit:.0%} fit, "
        f"{'' if figures.aligned else 'not '}framed alike, {flagged} flagged untouched"
    )
    precisions, found, right, bad = [], 0, 0, 0
    for copies, is_off in worlds:
        figures = measure(copies)
        precisions.append(average_precision_score(is_off, figures.strength))
        found += int(figures.is_doubtful.sum())
        right += int((figures.is_doubtful & is_off).sum())
        bad += int(is_off.sum())
    print(
        f"  average precision {np.mean(precisions):.3f}, precision "
        f"{right / max(found, 1):.2f}, recall {right / bad:.2f} of {bad} planted",
        flush=True,
    )


def measure(small: NDArray[np.uint8]) -> CropFigures:
    """Measure small copies."""
    copies = {image: copy.astype(np.float32) for image, copy in enumerate(small)}
    return measure_crops(copies, len(small))


def worlds_of(
    photos: list[Image.Image], untouched: NDArray[np.uint8]
) -> Iterator[Crops]:
    """Replace windows by windows that are moved, turned or scaled, by turns."""
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        count = round(BAD * len(photos))
        chosen = generator.choice(len(photos), count, replace=False)
        copies, is_off = untouched.copy(), np.zeros(len(photos), dtype=bool)
        for number, image in enumerate(chosen.tolist()):
            copies[image] = window(photos[image], *draw_change(number % 5, generator))
            is_off[image] = True
        yield copies, is_off


def draw_change(
    kind: int, generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a move by 10 to 20 or 20 to 30 %, a turn, or a larger or smaller window."""
    if kind < 2:
        away, turn = generator.uniform(0.1, 0.2) + kind / 10, generator.uniform(0, 6.28)
        return away * float(np.cos(turn)), away * float(np.sin(turn)), 0.0, 1.0
    if kind == 2:
        return 0.0, 0.0, generator.choice([-1, 1]) * generator.uniform(20, 45), 1.0
    size = generator.uniform(1.3, 1.55) if kind == 3 else generator.uniform(0.55, 0.75)
    return 0.0, 0.0, 0.0, size


def window(
    photo: Image.Image,
    right: float = 0.0,
    down: float = 0.0,
    angle: float = 0.0,
    size: float = 1.0,
) -> NDArray[np.uint8]:
    """Cut a square window out of a photo, and shrink it."""
    side, pixels = SHARE * min(photo.size), 4 * SIDE
    center = photo.width / 2 + right * side, photo.height / 2 + down * side
    scale, turn = size * side / pixels, np.deg2rad(angle)
    cosine, sine = float(np.cos(turn)) * scale, float(np.sin(turn)) * scale
    half = pixels / 2
    matrix = (
        cosine,
        -sine,
        center[0] - (cosine - sine) * half,
        sine,
        cosine,
        center[1] - (sine + cosine) * half,
    )
    cut = photo.transform(
        (pixels, pixels), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8)


if __name__ == "__main__":
    sys.exit(main())
