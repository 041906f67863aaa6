"""Images of a run with one region blurred, painted over or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fiftyone_sfam.audit.regions.fields import Grid, read_regions
from fiftyone_sfam.audit.regions.partitions import WHOLE
from fiftyone_sfam.data.images import pixel_box, read_image
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

Change = Literal["replace", "mean", "blur"]
CHANGES: tuple[Change, ...] = ("replace", "mean", "blur")

# Standard deviation of the blur, as a fraction of the image's longer side.
_BLUR = 1 / 12


@dataclass(frozen=True)
class RegionImage:
    """An image and the cover of one region."""

    item: int  # index into the run's items
    pixels: NDArray[np.float32]  # RGB, 0 to 255, shape (H, W, 3)
    mask: NDArray[np.float32]  # (H, W)


@dataclass(frozen=True)
class Fills:
    """The source of the pixels that replace a region."""

    change: Change
    donors: tuple[RegionImage, ...]  # images whose regions replace others
    color: NDArray[np.float32]  # mean color of the donors, shape (3,)

    def draw(
        self,
        image: RegionImage,
        identities: Sequence[str | None],
        generator: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Draw replacement pixels for a whole image, shape (H, W, 3)."""
        height, width = image.mask.shape
        if self.change == "blur":
            radius = _BLUR * max(height, width)
            blurred = _picture(image.pixels).filter(ImageFilter.GaussianBlur(radius))
            return np.asarray(blurred, dtype=np.float32)
        if self.change == "mean":
            return np.broadcast_to(self.color, (height, width, 3))
        identity = identities[image.item]
        donors = [
            donor
            for donor in self.donors
            if donor.item != image.item
            and (identity is None or identities[donor.item] != identity)
        ]
        if not donors:
            raise DataError(
                "no other identity has an image to take the region from; change the "
                "region in another way."
            )
        donor = donors[int(generator.integers(len(donors)))]
        fill = _picture(region_only(donor)).resize((width, height))
        return np.asarray(fill, dtype=np.float32)


class RegionImages:
    """Reads images of a run with one region."""

    def __init__(self, run: Run, field: str | None, stripes: int, region: str) -> None:
        self._run = run
        self._field = field
        self._stripes = stripes
        self._region = region

    def read(self, items: Sequence[int]) -> list[RegionImage | str]:
        """Read images; a string says why an image cannot be used."""
        read = item_reader(self._run, items)
        pixels: dict[int, NDArray[np.float32]] = {}
        grids: dict[int, Grid] = {}
        reasons: dict[int, str] = {}
        for item in items:
            try:
                image, size = read(item)
            except DataError as error:
                reasons[item] = str(error)
            else:
                pixels[item] = np.asarray(image, dtype=np.float32)
                grids[item] = Grid(image.height, image.width, WHOLE, size)
        divided = read_regions(self._run, grids, self._field, self._stripes)
        reasons |= divided.missing
        images: list[RegionImage | str] = []
        for item in items:
            if item in reasons:
                images.append(reasons[item])
                continue
            regions = divided.regions[item]
            if self._region in regions.names:
                mask = regions.weights[regions.names.index(self._region)]
                images.append(RegionImage(item, pixels[item], mask))
            else:
                images.append(f"it has no region '{self._region}'.")
        return images


def item_reader(
    run: Run, items: Iterable[int]
) -> Callable[[int], tuple[Image.Image, tuple[int, int]]]:
    """Return a function that reads an item's image, and the size of its whole image."""
    images = ItemImages(run, items)

    def read(item: int) -> tuple[Image.Image, tuple[int, int]]:
        path, box = images.source(item)
        image = read_image(path)
        part = image if box is None else image.crop(pixel_box(box, *image.size))
        return part, image.size

    return read


def make_fills(
    images: RegionImages,
    change: Change,
    candidates: Sequence[int],
    generator: np.random.Generator,
    count: int = 32,
) -> Fills:
    """Draw and read the donor images."""
    if change == "blur":
        return Fills(change, (), np.zeros(3, dtype=np.float32))
    size = min(count, len(candidates))
    drawn = generator.choice(np.asarray(candidates), size, replace=False).tolist()
    donors = tuple(
        image for image in images.read(drawn) if isinstance(image, RegionImage)
    )
    if not donors:
        raise DataError("no image with the region can be read to take colors from.")
    colors = [donor.pixels.mean(axis=(0, 1)) for donor in donors]
    return Fills(change, donors, np.mean(colors, axis=0).astype(np.float32))


def changed(
    pixels: NDArray[np.float32], mask: NDArray[np.float32], fill: NDArray[np.float32]
) -> Image.Image:
    """Replace a region of an image by fill pixels."""
    cover = mask[:, :, None]
    return _picture(pixels * (1 - cover) + fill * cover)


def rolled(
    mask: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Move a region to a random place, wrapping around; its area stays the same."""
    height, width = mask.shape
    down, right = int(generator.integers(height)), int(generator.integers(width))
    return np.roll(mask, (down, right), axis=(0, 1))


def region_only(image: RegionImage) -> NDArray[np.float32]:
    """Fill everything but an image's region with the region's mean color."""
    cover = image.mask[:, :, None]
    total = float(cover.sum())
    color = (image.pixels * cover).sum(axis=(0, 1)) / max(total, 1e-6)
    return image.pixels * cover + color * (1 - cover)


def _picture(pixels: NDArray[np.float32]) -> Image.Image:
    """Turn pixels from 0 to 255 into an image."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
