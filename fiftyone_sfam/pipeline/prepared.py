"""Images of a run, read and prepared for the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fiftyone_sfam.data.images import Loaded, pixel_box
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Prepared:
    """An image prepared for the network."""

    tensor: torch.Tensor
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


def prepare_item(
    items: Items,
    model: EmbeddingModel,
    index: int,
    read: Callable[[str], Image.Image],
) -> Prepared:
    """Read and prepare an image."""
    image = read(items.filepaths[index])
    size = image.size
    if items.boxes is not None:
        image = image.crop(pixel_box(items.boxes[index], *size))
    width, height = image.size
    left, top, right, bottom = model.crop_box(width, height)
    crop = (left / width, top / height, right / width, bottom / height)
    return Prepared(model.prepare(image), crop, size)


def split_readable(
    block: list[Loaded[Prepared]],
) -> tuple[list[Loaded[Prepared]], dict[int, str]]:
    """Return the images that could be loaded, and the reasons of the others."""
    readable = [image for image in block if image.value is not None]
    reasons = {image.index: str(image.reason) for image in block if image.value is None}
    return readable, reasons


def stack(readable: list[Loaded[Prepared]], model: EmbeddingModel) -> torch.Tensor:
    """Stack prepared images into a batch."""
    tensors = [image.value.tensor for image in readable if image.value is not None]
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise DataError(
            f"the preprocessing of model '{model.name}' gives images of different "
            f"shapes ({', '.join(str(shape) for shape in shapes[:3])}); it must resize "
            "all images to one size."
        )
    return torch.stack(tensors)
