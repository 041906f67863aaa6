"""Plant copies among real images and count which are found, by their pixels alone.

Ten times, fifty images of each collection of the private assets get a copy in one of
five forms. Counts how many copies are found, and which pairs are found that were not
planted; those may be copies, too, and are printed with ``--names``. Uses no embeddings:
with them, the nearest images are candidates as well. Then the search among hashes is
timed on random ones.

Usage: ``python benchmarks/check_duplicates.py [--assets DIR] [--names] [--hashes N]``.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from tabulate import tabulate

from fiftyone_sfam.audit.duplicates.bands import near_hashes
from fiftyone_sfam.audit.duplicates.candidates import RADIUS
from fiftyone_sfam.audit.duplicates.find import find_copies

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = {
    "faces": "lfw_subset_chips150",
    "persons": "market1501_subset",
    "lions": "lions/train",
}
SEEDS = range(10)
PER_FORM = 10
Generator = np.random.Generator


def as_jpeg(image: Image.Image, quality: int = 90) -> Image.Image:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def recompressed(image: Image.Image, generator: Generator) -> Image.Image:
    return as_jpeg(image, int(generator.integers(30, 81)))


def resized(image: Image.Image, generator: Generator) -> Image.Image:
    scale = generator.uniform(0.4, 0.8)
    if generator.random() < 0.3:
        scale = generator.uniform(1.2, 2)
    return as_jpeg(image.resize([max(8, round(side * scale)) for side in image.size]))


def cropped(image: Image.Image, generator: Generator) -> Image.Image:
    sides = [round(side * generator.uniform(0.9, 0.97)) for side in image.size]
    left, top = (
        int(generator.integers(0, whole - side + 1))
        for whole, side in zip(image.size, sides, strict=True)
    )
    return as_jpeg(image.crop((left, top, left + sides[0], top + sides[1])))


def mirrored(image: Image.Image, generator: Generator) -> Image.Image:
    return as_jpeg(ImageOps.mirror(image))


def recolored(image: Image.Image, generator: Generator) -> Image.Image:
    """Make a quarter of the copies gray; change gamma and colors of the others."""
    if generator.random() < 0.25:
        return as_jpeg(image.convert("L"))
    values = (np.asarray(image) / 255) ** generator.uniform(0.7, 1.4)
    values = np.clip(values * generator.uniform(0.75, 1.25, 3), 0, 1)
    changed = Image.fromarray((values * 255).astype(np.uint8))
    changed = ImageEnhance.Color(changed).enhance(generator.uniform(0.4, 1.6))
    return as_jpeg(ImageEnhance.Contrast(changed).enhance(generator.uniform(0.7, 1.3)))


FORMS: dict[str, Callable[[Image.Image, Generator], Image.Image]] = {
    "recompressed": recompressed,
    "resized": resized,
    "cropped": cropped,
    "mirrored": mirrored,
    "recolored": recolored,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--assets", type=Path, default=ROOT.parent / "shared" / "assets"
    )
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--hashes", type=int, default=100_000)
    args = parser.parse_args()
    rows = []
    for name, folder in COLLECTIONS.items():
        paths = sorted(
            path
            for path in (args.assets / "data" / folder).rglob("*")
            if path.suffix in (".jpg", ".png")
        )
        if not paths:
            print(f"{name}: no images in {args.assets / 'data' / folder}")
            continue
        rows.append([name, len(paths), *check(paths, args.names)])
    head = ["collection", "images", *FORMS, "planted of found", "seconds"]
    print(tabulate(rows, head))
    time_search(args.hashes)
    return 0


def _whole(files: list[str], image: int) -> tuple[str, None]:
    """Return an image's file, which has no box."""
    return files[image], None


def check(paths: list[Path], names: bool) -> list[str]:
    """Return the found copies of each form, of all found, and the time of a search."""
    found: Counter[str] = Counter()
    others: Counter[tuple[str, ...]] = Counter()
    total, seconds = 0, 0.0
    for seed in SEEDS:
        with TemporaryDirectory() as folder:
            planted = plant(paths, seed, Path(folder))
            files = [*map(str, paths), *(str(copy) for copy, _, _ in planted)]
            truth = {
                (original, len(paths) + row): form
                for row, (_, original, form) in enumerate(planted)
            }
            started = time.perf_counter()
            copies = find_copies(len(files), partial(_whole, files))
            seconds += time.perf_counter() - started
        for copy in copies.pairs:
            total += 1
            pair = (copy.first, copy.second)
            if pair in truth:
                found[truth[pair]] += 1
            else:
                names_of_pair = [Path(files[image]).name for image in pair]
                others[(*names_of_pair, copy.form)] += 1
    if names:
        for other, times in others.most_common():
            print(times, *other)
    planted_each = len(SEEDS) * PER_FORM
    return [
        *(f"{found[form]} of {planted_each}" for form in FORMS),
        f"{found.total()} of {total}",
        f"{seconds / len(SEEDS):.1f}",
    ]


def plant(paths: list[Path], seed: int, folder: Path) -> list[tuple[Path, int, str]]:
    """Write copies of different images; return the files, the originals and forms."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(paths))[: PER_FORM * len(FORMS)].tolist()
    planted = []
    for row, original in enumerate(chosen):
        form = [*FORMS][row // PER_FORM]
        path = folder / f"{row:02}_{form}.png"
        with Image.open(paths[original]) as image:
            FORMS[form](image.convert("RGB"), generator).save(path)
        planted.append((path, original, form))
    return planted


def time_search(count: int) -> None:
    """Search one layout of random hashes among as many others."""
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    started = time.perf_counter()
    pairs = sum(len(left) for left, _ in near_hashes(hashes, hashes, RADIUS))
    seconds = time.perf_counter() - started
    print(f"{count:,} hashes, one layout: {seconds:.1f} s, {pairs:,} pairs")


if __name__ == "__main__":
    raise SystemExit(main())
