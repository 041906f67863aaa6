"""What is computed on the first readable image of a run."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.data.images import read_image
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.pipeline.prepared import prepare_item


def sample_input(items: Items, model: EmbeddingModel) -> NDArray[Any] | None:
    """Prepare the first readable image; None if there is none."""
    first = _first_image(items, model)
    return None if first is None else first[1].float().cpu().numpy()


def fullest_layer(items: Items, model: EmbeddingModel) -> tuple[str, float] | None:
    """Return the stage that carries the most of an image's similarity with itself.

    With its share; None if no image is readable.
    """
    first = _first_image(items, model)
    if first is None:
        return None
    index, image = first
    if items.inputs is not None:
        values = {name: column[[index]] for name, column in items.inputs.items()}
        model = model.with_inputs(values)
    return model.fullest_layer(image[None])


def _first_image(items: Items, model: EmbeddingModel) -> tuple[int, Tensor] | None:
    """Return the index of the first readable image, and the image as prepared."""
    for index in range(len(items)):
        try:
            image = prepare_item(items, model, index, read_image)
        except DataError:
            continue
        return index, image.tensor.detach()
    return None
