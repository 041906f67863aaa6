"""Models that prepare images by a function of the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.preprocess import Box
from fiftyone_sfam.network.transforms import with_crop_box

Preprocess = Callable[[Image.Image], Tensor]


class PreparesImages:
    """A model with a name and a preprocessing."""

    name: str
    preprocess: Any

    def prepare(self, image: Image.Image) -> Tensor:
        """Turn an image into the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Image of any mode and size.

        Returns
        -------
        Tensor
            Shape (3, H, W), or (1, H, W) or (4, H, W) for a network of such images.

        Raises
        ------
        ModelError
            If the preprocessing does not return such a tensor.
        """
        tensor = self.preprocess(image)
        if not isinstance(tensor, Tensor):
            raise ModelError(
                f"the preprocessing of model '{self.name}' returned "
                f"{type(tensor).__name__}; a (3, height, width) tensor is needed."
            )
        if tensor.ndim != 3 or len(tensor) not in (1, 3, 4):
            raise ModelError(
                f"the preprocessing of model '{self.name}' returned shape "
                f"{tuple(tensor.shape)}; (3, height, width) is needed, or 1 or 4 "
                "channels."
            )
        return tensor

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees.

        Parameters
        ----------
        width, height : int
            Size of the image in pixels.

        Returns
        -------
        tuple of float
            Left, top, right, bottom in pixels of the image.
        """
        crop_box = getattr(self.preprocess, "crop_box", None)
        if crop_box is None:
            return (0.0, 0.0, float(width), float(height))
        return tuple(crop_box(width, height))


def checked_preprocess(preprocess: Any) -> Any:
    """Return a preprocessing with the part of the image that it shows, if known."""
    if not callable(preprocess):
        raise ModelError(
            f"preprocess is {preprocess!r}; give a function from a Pillow image to "
            "a tensor, or a Preprocessing."
        )
    return with_crop_box(preprocess)
