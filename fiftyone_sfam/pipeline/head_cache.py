"""Feature maps and heads kept from the first pass over the images, while they fit.

A run that computes its embeddings needs every image twice: for its embedding, and,
once the neighbors are known, for its maps. What the first pass has found at the layer
is all that the second one needs, and is kept for as many images as a number of bytes
allows; the rest is computed again.
"""

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
class Seen:
    """Where an image is among linearized ones."""

    head: LinearizedHead  # A batch of images
    row: int  # the image's row in it
    crop: Box
    size: tuple[int, int]  # width and height of the whole image, in pixels


class HeadCache:
    """Linearized images by their index, up to a number of bytes."""

    def __init__(self, model: EmbeddingModel, limit: int) -> None:
        self._model = model
        self._left = limit
        self._each: int | None = None
        self._seen: dict[int, Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def has_room(self, images: torch.Tensor) -> bool:
        """Tell whether a batch fits, and count it as kept if so."""
        if self._left > 0 and self._each is None:
            self._model.find_layer(images)
            self._each = bytes_of_head(self._model, images[:1])
        needed = len(images) * (self._each or 1)
        if needed > self._left:
            self._left = 0
            return False
        self._left -= needed
        return True

    def keep(self, index: int, seen: Seen) -> None:
        """Keep an image for which there was room."""
        self._seen[index] = seen

    def take(self, indices: Iterable[int]) -> dict[int, Seen]:
        """Hand over the images that were kept, and keep them no longer."""
        return {
            index: self._seen.pop(index) for index in indices if index in self._seen
        }


def bytes_of_head(model: EmbeddingModel, images: torch.Tensor) -> int:
    """Measure what a linearized batch keeps alive."""
    # Otherwise what finding it needs would be counted.
    model.find_layer(images)
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.network.parameters(), *model.network.buffers())
    }
    found: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        # Without its own graph, which would then hold on to itself.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        head = model.linearize(images)
    note(head.leaf)
    note(head.output)
    return sum(found.values())
