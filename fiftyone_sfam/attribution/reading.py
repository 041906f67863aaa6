"""Read the images of a pair, in any of their forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fiftyone_sfam.data.images import as_shown, pixel_box, read_image
from fiftyone_sfam.data.inputs import sample_inputs
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.opaque import OpaqueModel

ImageLike = Any
"""A path, a Pillow image, a FiftyOne sample, or a tuple of such an image and a relative
bounding box."""


def prepare_images(
    model: EmbeddingModel | OpaqueModel, images: Sequence[ImageLike]
) -> tuple[torch.Tensor, list[tuple[float, float, float, float]]]:
    """Read images and turn them into the network's input."""
    tensors, crops = [], []
    for image in map(read_any, images):
        width, height = image.size
        left, top, right, bottom = model.crop_box(width, height)
        crops.append((left / width, top / height, right / width, bottom / height))
        tensors.append(model.prepare(image))
    if len({tensor.shape for tensor in tensors}) > 1:
        raise DataError(
            f"the preprocessing of model '{model.name}' gives images of different "
            "shapes; it must resize all of them to one size."
        )
    return torch.stack(tensors), crops


def read_any(image: ImageLike) -> Image.Image:
    """Read an image in any of its forms."""
    if isinstance(image, tuple):
        whole = read_any(image[0])
        return whole.crop(pixel_box(image[1], *whole.size))
    if isinstance(image, Image.Image):
        return as_shown(image)
    if isinstance(image, (str, Path)):
        return read_image(image)
    filepath = getattr(image, "filepath", None)
    if filepath is None:
        raise DataError(
            f"{type(image).__name__} is not an image; give a path, a Pillow image or a "
            "sample."
        )
    return read_image(filepath)


def with_inputs_of(
    model: EmbeddingModel, images: Sequence[ImageLike]
) -> EmbeddingModel:
    """Return a model with the further inputs of samples, if it takes any.

    Values that the model was already given stay.
    """
    if not model.inputs or model._given:
        return model
    samples = [image[0] if isinstance(image, tuple) else image for image in images]
    for sample in samples:
        if not hasattr(sample, "has_field"):
            fields = " and ".join(f"'{field}'" for field in model.inputs.values())
            raise DataError(
                f"model '{model.name}' needs the field {fields} of each image, which "
                f"{type(sample).__name__} has not; give FiftyOne samples."
            )
    return model.with_inputs(sample_inputs(samples, model.inputs))
