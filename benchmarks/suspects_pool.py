"""Embeddings of real images and of altered copies of them, for suspects_planted.py.

Each image of a collection has a row in a pool for itself and for each of its
:data:`FORMS`: copies as they occur in real collections, and crops that are off. The
rows that any world needs are computed once per network, so that a world of planted
defects only selects rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

COPIES = ("exact", "recompressed", "resized", "cropped", "mirrored", "color shifted")
"""Forms of duplicates."""

CROPS = ("shifted", "shifted far", "rotated")
"""Crops that are off: shifted by 10 to 20 %, by 20 to 30 %, rotated by 20 to 45
degrees."""

FORMS = ("original", *COPIES[1:], *CROPS)
"""Forms that an image has in a pool; an exact copy is the original."""

SIDE = 32
# Face views of the lions: ears, teeth and bodies cannot be compared with one another.
_LION_PARTS = ("portrait", "left_face", "right_face", "whiskers")
_BATCH = 32


@dataclass(frozen=True)
class Collection:
    """Real images with their identities, and the network that embeds them."""

    name: str
    network: str  # title in check_real.CASES
    folder: str  # of the assets' data


COLLECTIONS = (
    Collection("faces, hse_faceres", "hse_faceres", "lfw_subset_chips150"),
    Collection("faces, mobilefacenet", "mobilefacenet", "lfw_subset_chips112x96"),
    Collection("faces, dlib", "dlib", "lfw_subset_chips150"),
    Collection("faces, edgeface", "edgeface", "lfw_subset_chips112x96"),
    Collection("persons, osnet", "osnet", "market1501_subset"),
    Collection("lions, osnet", "osnet", "lions"),
)


@dataclass(frozen=True)
class Pool:
    """N images, some of them in other forms; image i in form f is ``i * F + f``.

    ``embeddings``, not normalized, and ``small``, small copies of the pixels, have
    zeros in the rows that were not asked for.
    """

    name: str
    metric: str
    people: NDArray[np.int64]  # identity of each image, shape (N,)
    cameras: NDArray[np.int64]  # shape (N,), -1 if unknown
    embeddings: NDArray[np.float32]  # shape (N * F, D)
    small: NDArray[np.uint8]  # shape (N * F, 32, 32, 3)


def row_of(image: int, form: str = "original") -> int:
    """Return the row of an image in a form."""
    return image * len(FORMS) + FORMS.index("original" if form == "exact" else form)


def list_people(
    collection: Collection, assets: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the identity and the camera of each image of a collection."""
    from fiftyone_sfam.retrieval.search import encode

    _, people, cameras = list_images(assets / "data" / collection.folder)
    return encode([*people]), encode(cameras)


def make_pool(collection: Collection, assets: Path, rows: set[int]) -> Pool:
    """Embed the images of a collection, and the altered copies that are asked for."""
    import torch

    model = _load_model(collection.network, assets)
    paths = list_images(assets / "data" / collection.folder)[0]
    people, cameras = list_people(collection, assets)
    count = len(paths) * len(FORMS)
    needed = sorted(rows | set(range(0, count, len(FORMS))))
    small = np.zeros((count, SIDE, SIDE, 3), dtype=np.uint8)
    parts = []
    for start in range(0, len(needed), _BATCH):
        batch = []
        for row in needed[start : start + _BATCH]:
            image = _image(paths[row // len(FORMS)], FORMS[row % len(FORMS)], row)
            small[row] = _small(image)
            batch.append(model.prepare(image))
        with torch.inference_mode():
            parts.append(model.embed(torch.stack(batch)).numpy())
    found = np.concatenate(parts).astype(np.float32)
    embeddings = np.zeros((count, found.shape[1]), dtype=np.float32)
    embeddings[needed] = found
    return Pool(collection.name, model.metric, people, cameras, embeddings, small)


def alter(image: Image.Image, form: str, generator: np.random.Generator) -> Image.Image:
    """Make an altered copy of an image, of the same size."""
    width, height = image.size
    if form == "recompressed":
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=int(generator.integers(30, 70)))
        return Image.open(stored).convert("RGB")
    if form == "resized":
        share = generator.uniform(0.5, 0.75)
        smaller = image.resize((round(width * share), round(height * share)))
        return smaller.resize((width, height), Image.Resampling.BILINEAR)
    if form == "cropped":
        left, top = generator.uniform(0, 0.05, 2)
        box = (left * width, top * height, (left + 0.95) * width, (top + 0.95) * height)
        return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    if form == "mirrored":
        return ImageOps.mirror(image)
    if form == "color shifted":
        gains = generator.uniform(0.85, 1.15, 3)
        shifted = np.asarray(image, dtype=np.float32) * gains
        result = Image.fromarray(np.clip(shifted, 0, 255).astype(np.uint8))
        return ImageEnhance.Color(result).enhance(generator.uniform(0.6, 1.4))
    if form == "rotated":
        angle = generator.choice([-1, 1]) * generator.uniform(20, 45)
        return _padded(
            image, lambda large: large.rotate(angle, Image.Resampling.BICUBIC)
        )
    least, most = {"shifted": (0.1, 0.2), "shifted far": (0.2, 0.3)}[form]
    direction = generator.uniform(0, 2 * np.pi)
    away = generator.uniform(least, most)
    x, y = away * np.cos(direction) * width, away * np.sin(direction) * height
    matrix = (1, 0, x, 0, 1, y)
    return _padded(
        image,
        lambda large: large.transform(large.size, Image.Transform.AFFINE, matrix),
    )


def _padded(
    image: Image.Image, change: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Change an image that is continued beyond its edges."""
    width, height = image.size
    rows, columns = height // 2, width // 2
    pixels = np.pad(
        np.asarray(image), ((rows, rows), (columns, columns), (0, 0)), mode="edge"
    )
    changed = change(Image.fromarray(pixels))
    return changed.crop((columns, rows, columns + width, rows + height))


def _image(path: Path, form: str, seed: int) -> Image.Image:
    """Read an image and alter it, the same way each time."""
    from fiftyone_sfam.data.images import read_image

    image = read_image(str(path)).convert("RGB")
    if form == "original":
        return image
    return alter(image, form, np.random.default_rng(seed))


def small_form(path: Path, form: str, seed: int) -> NDArray[np.uint8]:
    """Read an image in a form as a small copy."""
    return _small(_image(path, form, seed))


def _small(image: Image.Image) -> NDArray[np.uint8]:
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def list_images(
    folder: Path,
) -> tuple[list[Path], list[str], list[str | None]]:
    """List the images of a folder, their identities and their cameras."""
    from check_real_rank1 import MARKET_NAME

    paths, people, cameras = [], [], []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".jpg", ".png"):
            continue
        person, camera = path.parent.name, None
        if folder.name == "lions":
            part = path.stem.lower().removeprefix(f"{person.lower()}_")
            if part not in _LION_PARTS:
                continue
        elif found := MARKET_NAME.match(path.name):
            person, camera = found["identity"], found["camera"]
        paths.append(path)
        people.append(person)
        cameras.append(camera)
    return paths, people, cameras


def _load_model(title: str, assets: Path) -> Any:
    """Load a network of check_real.py by its title."""
    from check_real import CASES, load_case

    case = next(case for case in CASES if case.title == title and case.layer is None)
    return load_case(case, assets)[0]
