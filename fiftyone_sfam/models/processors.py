"""The image processors of transformers, and the part of an image that they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.preprocess import Box

# Below this length of the shorter side, ConvNeXt's processor enlarges and crops.
_CONVNEXT_CROPS_BELOW = 384


@dataclass(frozen=True)
class ProcessorPreprocessing:
    """An image processor of transformers as the preprocessing of a model.

    ``options`` are the arguments that the processor is called with in addition to the
    image; they replace its own settings.
    """

    processor: Callable[..., Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepare one image of any mode; return a (3, height, width) tensor."""
        arguments = {"return_tensors": "pt", **self.options}
        inputs = self.processor(images=image.convert("RGB"), **arguments)
        others = sorted(set(inputs) - {"pixel_values"})
        if others or inputs["pixel_values"].ndim != 4:
            raise ModelError(
                f"the image processor {type(self.processor).__name__} gives "
                f"{', '.join(['pixel_values', *others])} instead of one image "
                "(3, height, width); a network that takes an image alone is needed."
            )
        return inputs["pixel_values"][0]

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees."""
        height_now, width_now = height, width
        if self._setting("do_resize"):
            height_now, width_now = self._resized(height, width)
        crop = self._crop()
        if crop is None:
            return (0.0, 0.0, float(width), float(height))
        top, left = _start(height_now, crop[0]), _start(width_now, crop[1])
        x, y = width / width_now, height / height_now
        return (left * x, top * y, (left + crop[1]) * x, (top + crop[0]) * y)

    def _setting(self, name: str) -> Any:
        """Return a setting, or None if the processor has none of this name."""
        processor = getattr(self.processor, "image_processor", self.processor)
        return self.options.get(name, getattr(processor, name, None))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing."""
        size = self._size("size")
        if {"height", "width"} == set(size):
            return size["height"], size["width"]
        if {"shortest_edge"} == set(size):
            edge = size["shortest_edge"]
            if self._setting("crop_pct"):
                if edge >= _CONVNEXT_CROPS_BELOW:
                    return edge, edge
                edge = int(edge / self._setting("crop_pct"))
            longer = int(edge * max(height, width) / min(height, width))
            return (edge, longer) if height <= width else (longer, edge)
        raise ModelError(
            f"the image processor {self._name()} resizes to {size}, so it is not known "
            "which part of an image the network sees; give a preprocessing with a "
            "method crop_box(width, height)."
        )

    def _crop(self) -> tuple[int, int] | None:
        """Return height and width of the center crop, or None if there is none."""
        if self._setting("do_pad"):
            raise ModelError(
                f"the image processor {self._name()} pads images, so it is not known "
                "where on its input an image lies; load it with do_pad=False, or give "
                "a preprocessing with a method crop_box(width, height)."
            )
        size = self._size("size")
        edge = size.get("shortest_edge", _CONVNEXT_CROPS_BELOW)
        if self._setting("crop_pct") and edge < _CONVNEXT_CROPS_BELOW:
            return edge, edge
        if not self._setting("do_center_crop"):
            return None
        crop = self._size("crop_size")
        return crop["height"], crop["width"]

    def _size(self, name: str) -> dict[str, int]:
        """Return the entries of a size that are set."""
        size = self._setting(name)
        if isinstance(size, int):
            return {"height": size, "width": size}
        return {key: int(value) for key, value in dict(size or {}).items() if value}

    def _name(self) -> str:
        return type(getattr(self.processor, "image_processor", self.processor)).__name__


def _start(length: int, crop: int) -> int:
    """Return where a center crop starts; negative where it pads."""
    return (length - crop) // 2 if length >= crop else -((crop - length) // 2)
