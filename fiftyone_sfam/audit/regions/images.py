"""Images of a run with one region changed: blurred, painted over, or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fiftyone_sfam.audit.regions.fields import RegionSet, read_regions
from fiftyone_sfam.audit.regions.labels import Grid
from fiftyone_sfam.audit.regions.partitions import WHOLE
from fiftyone_sfam.data.images import pixel_box, read_image
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

Change = Literal["replace", "mean", "blur"]
CHANGES: tuple[Change, ...] = ("replace", "mean", "blur")
"""What can be done to a region."""

# Blur: standard deviation as part of the image's longer side.
_BLUR = 1 / 12


@dataclass(frozen=True)
class RegionImage:
    """An image and the cover of one region."""

    item: int  # index into the run's items
    pixels: NDArray[np.float32]  # RGB, 0 to 255, shape (H, W, 3)
    mask: NDArray[np.float32]  # (H, W)


@dataclass(frozen=True)
class Fills:
    """What is put in the place of a region."""

    change: Change  # what is done
    donors: tuple[RegionImage, ...]  # images whose regions replace others
    color: NDArray[np.float32]  # mean color of the donors, shape (3,)

    def draw(
        self,
        image: RegionImage,
        identities: Sequence[str | None],
        generator: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Draw what replaces any part of an image."""
        height, width = image.mask.shape
        if self.change == "blur":
            radius = _BLUR * max(height, width)
            soft = _picture(image.pixels).filter(ImageFilter.GaussianBlur(radius))
            return np.asarray(soft, dtype=np.float32)
        if self.change == "mean":
            return np.broadcast_to(self.color, (height, width, 3))
        own = identities[image.item]
        others = [
            donor
            for donor in self.donors
            if donor.item != image.item
            and (own is None or identities[donor.item] != own)
        ]
        if not others:
            raise DataError("there is no image of another identity to take it from.")
        donor = others[int(generator.integers(len(others)))]
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
        """Read some images."""
        run = self._run
        samples = sorted({str(run.items.sample_ids[item]) for item in items})
        view = all_samples(run.dataset).select(samples)
        paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
        boxes = detection_boxes(view, run.config.patches_field)
        found: dict[int, NDArray[np.float32] | str] = {}
        grids: dict[int, Grid] = {}
        for item in items:
            try:
                pixels, size = _read(run, item, paths, boxes)
            except DataError as error:
                found[item] = str(error)
            else:
                found[item] = pixels
                height, width = pixels.shape[:2]
                grids[item] = Grid(height, width, WHOLE, size)
        divided = read_regions(run, grids, self._field, self._stripes)
        return [self._image(item, found[item], divided) for item in items]

    def _image(
        self, item: int, value: NDArray[np.float32] | str, divided: RegionSet
    ) -> RegionImage | str:
        """Put an image and its region together, or say what is missing."""
        if isinstance(value, str):
            return value
        if item in divided.missing:
            return divided.missing[item]
        regions = divided.regions[item]
        if self._region not in regions.names:
            return f"it has no region '{self._region}'."
        place = regions.names.index(self._region)
        return RegionImage(item, value, regions.weights[place])


def make_fills(
    images: RegionImages,
    change: Change,
    candidates: Sequence[int],
    generator: np.random.Generator,
    count: int = 32,
) -> Fills:
    """Read the images that regions are replaced from."""
    if change == "blur":
        return Fills(change, (), np.zeros(3, dtype=np.float32))
    size = min(count, len(candidates))
    drawn = generator.choice(np.asarray(candidates), size, replace=False)
    donors = tuple(
        one for one in images.read(drawn.tolist()) if isinstance(one, RegionImage)
    )
    if not donors:
        raise DataError("no image with the region can be read to take colors from.")
    colors = [donor.pixels.mean(axis=(0, 1)) for donor in donors]
    return Fills(change, donors, np.mean(colors, axis=0).astype(np.float32))


def changed(
    pixels: NDArray[np.float32], mask: NDArray[np.float32], fill: NDArray[np.float32]
) -> Image.Image:
    """Put something else in the place of a region."""
    cover = mask[:, :, None]
    return _picture(pixels * (1 - cover) + fill * cover)


def rolled(
    mask: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Move a region to a random place, around the borders; its area stays the same."""
    height, width = mask.shape
    down, right = int(generator.integers(height)), int(generator.integers(width))
    return np.roll(mask, (down, right), axis=(0, 1))


def region_only(image: RegionImage) -> NDArray[np.float32]:
    """Fill everything but an image's region with the region's mean color."""
    cover = image.mask[:, :, None]
    total = float(cover.sum())
    color = (image.pixels * cover).sum(axis=(0, 1)) / max(total, 1e-6)
    return image.pixels * cover + color * (1 - cover)


def _read(
    run: Run, item: int, paths: dict[str, str], boxes: dict[str, list[float]]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Read an item's pixels, and the size of the whole image."""
    path = paths.get(str(run.items.sample_ids[item]))
    if path is None:
        raise DataError("its sample was deleted.")
    image = read_image(path)
    size = image.size
    if run.items.label_ids is not None:
        box = boxes.get(str(run.items.label_ids[item]))
        if box is None:
            raise DataError("its detection was deleted.")
        image = image.crop(pixel_box(box, *size))
    return np.asarray(image, dtype=np.float32), size


def _picture(pixels: NDArray[np.float32]) -> Image.Image:
    """Turn pixels from 0 to 255 into an image."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
