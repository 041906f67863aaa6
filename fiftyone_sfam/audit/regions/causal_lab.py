"""Change a region of images, and embed them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.fields import map_grids
from fiftyone_sfam.audit.regions.images import (
    Fills,
    RegionImage,
    RegionImages,
    changed,
    rolled,
)
from fiftyone_sfam.audit.regions.labels import Grid
from fiftyone_sfam.audit.regions.partitions import resample
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, similarity
from fiftyone_sfam.retrieval.embeddings import MISMATCH
from fiftyone_sfam.runs.run import Run


@dataclass(frozen=True)
class ChangedImage:
    """Embeddings of an image: as it is, with the region changed, with the control.

    ``controls`` are the controls' covers of the map's cells, shape (draws, h, w).
    """

    original: torch.Tensor
    changed: torch.Tensor
    control: torch.Tensor
    controls: NDArray[np.float64]


class RegionLab:
    """Changes images and embeds them."""

    def __init__(
        self,
        run: Run,
        model: EmbeddingModel,
        images: RegionImages,
        fills: Fills,
        draws: int,
        seed: int,
    ) -> None:
        self._run = run
        self._model = model
        self._images = images
        self._fills = fills
        self._draws = draws
        self._seed = seed
        self.found: dict[int, ChangedImage] = {}
        self.skipped: dict[int, str] = {}

    def change(
        self, items: Sequence[int], embeddings: torch.Tensor, batch_size: int
    ) -> Iterator[int]:
        """Change images; yield how many are done."""
        grids = map_grids(self._run, items)
        block = max(1, batch_size // (1 + 2 * self._draws))
        for start in range(0, len(items), block):
            chosen = list(items[start : start + block])
            for item, image in zip(chosen, self._images.read(chosen), strict=True):
                try:
                    if isinstance(image, str):
                        raise DataError(image)
                    self.found[item] = self._checked(
                        image, grids[item], embeddings[item]
                    )
                except DataError as error:
                    self.skipped[item] = str(error)
            yield start + len(chosen)

    def _checked(
        self, image: RegionImage, grid: Grid, stored: torch.Tensor
    ) -> ChangedImage:
        """Embed an image that is still the one that the run saw."""
        found = self._embedded(image, grid)
        metric: Metric = self._model.metric
        if not 1 - float(similarity(found.original, stored, metric)) <= MISMATCH:
            raise DataError(
                "its embedding is not the run's any more; the file has changed."
            )
        return found

    def _embedded(self, image: RegionImage, grid: Grid) -> ChangedImage:
        """Embed an image and its changed versions."""
        generator = np.random.default_rng((self._seed, image.item))
        identities = self._run.items.identities
        pictures = [changed(image.pixels, np.zeros_like(image.mask), image.pixels)]
        controls, moved = [], []
        for _ in range(self._draws):
            fill = self._fills.draw(image, identities, generator)
            pictures.append(changed(image.pixels, image.mask, fill))
            elsewhere = rolled(image.mask, generator)
            moved.append(changed(image.pixels, elsewhere, fill))
            controls.append(elsewhere)
        tensors = [self._model.prepare(one) for one in (*pictures, *moved)]
        found = self._model.embed(torch.stack(tensors)).cpu()
        middle = 1 + self._draws
        return ChangedImage(
            found[0],
            found[1:middle],
            found[middle:],
            resample(np.stack(controls), grid.height, grid.width, grid.crop),
        )
