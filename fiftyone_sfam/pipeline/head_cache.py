"""Linearized images that the first pass of a run keeps for the second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead

if TYPE_CHECKING:
    from fiftyone_sfam.network.preprocess import Box


@dataclass(frozen=True)
class LinearizedImage:
    """An image in a linearized batch."""

    head: LinearizedHead  # of the batch
    row: int  # of the image in the batch
    crop: Box
    size: tuple[int, int]  # width and height of the whole image, in pixels


class HeadCache:
    """Linearized images by index, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._bytes_per_image: int | None = None
        self._images: dict[int, LinearizedImage] = {}

    def reserve(self, images: torch.Tensor, model: EmbeddingModel) -> bool:
        """Reserve space for a batch; return whether it fits."""
        if self._left > 0 and self._bytes_per_image is None:
            model.find_layer(images)
            self._bytes_per_image = bytes_of_head(model._of_image(0), images[:1])
        needed = len(images) * (self._bytes_per_image or 1)
        if needed > self._left:
            self._left = 0
            return False
        self._left -= needed
        return True

    def add(self, index: int, image: LinearizedImage) -> None:
        """Add an image for which space is reserved."""
        self._images[index] = image

    def pop(self, indices: Iterable[int]) -> dict[int, LinearizedImage]:
        """Remove the images of some indices from the cache, and return them."""
        return {
            index: self._images.pop(index) for index in indices if index in self._images
        }


def bytes_of_head(model: EmbeddingModel, images: torch.Tensor) -> int:
    """Measure the memory that a linearized batch keeps allocated."""
    # Finding the layer needs memory of its own, which must not count.
    model.find_layer(images)
    of_model = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.network.parameters(), *model.network.buffers())
    }
    sizes: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_model:
            sizes[storage.data_ptr()] = storage.nbytes()
        # Detached: its graph would hold a reference to itself.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        head = model.linearize(images)
    record(head.leaf)
    record(head.output)
    return sum(sizes.values())
