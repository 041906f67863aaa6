"""Image processors of transformers as the preprocessing of a model.

Many of their classes resize and crop in ways of their own. So the part of an image that
they show is measured, on images whose values are their own coordinates. Where a class
inherits these steps, its settings tell, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.preprocess import Box

# Largest distance from a straight line, and from the border of an image, that is an
# error of the measurement, relative to the size of the image.
_BENT = 0.02
_AT_BORDER = 0.004
# Modules of transformers with the steps that classes inherit.
_INHERITED = (
    "transformers.image_processing_backends",
    "transformers.image_processing_utils",
)


@dataclass(frozen=True, eq=False)
class ImageProcessorPreprocessing:
    """An image processor of transformers, or a processor that has one.

    ``options`` are the arguments that the processor is called with in addition to the
    image; they replace its own settings.
    """

    processor: Callable[..., Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    _boxes: dict[tuple[int, int], Box] = field(
        default_factory=dict, init=False, repr=False
    )

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepare one image of any mode; return a (3, height, width) tensor."""
        arguments = {"return_tensors": "pt", **self.options}
        inputs = self.processor(images=image.convert("RGB"), **arguments)
        others = sorted(set(inputs) - {"pixel_values"})
        if others or inputs["pixel_values"].ndim != 4:
            raise ModelError(
                f"the image processor {self._name()} gives "
                f"{', '.join(['pixel_values', *others])} instead of one image "
                "(3, height, width); a network that takes an image alone is needed."
            )
        tensor: Tensor = inputs["pixel_values"][0]
        return tensor

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees."""
        size = (width, height)
        if size not in self._boxes:
            stated = _stated_box(self.processor, width, height, self.options)
            self._boxes[size] = stated or self._measured_box(width, height)
        return self._boxes[size]

    def _measured_box(self, width: int, height: int) -> Box:
        try:
            return measured_box(self, width, height)
        except ModelError:
            raise
        # The processor may raise any error.
        except Exception as error:
            raise ModelError(
                f"the image processor {self._name()} failed on an image of {width} x "
                f"{height} pixels ({first_line(error)}); load it with settings that it "
                "takes."
            ) from error

    def _name(self) -> str:
        return type(image_processor_of(self.processor)).__name__


def is_image_processor(preprocess: object) -> bool:
    """Return whether a preprocessing is one of transformers."""
    names = {kind.__name__ for kind in type(preprocess).__mro__}
    return bool(names & {"ImageProcessingMixin", "ProcessorMixin"})


def image_processor_of(processor: Any) -> Any:
    """Return the image processor of a processor of texts and images, or itself."""
    return getattr(processor, "image_processor", processor)


def _stated_box(
    processor: Any, width: int, height: int, options: Mapping[str, Any] | None = None
) -> Box | None:
    """Return what the settings of a processor say; None if its class may differ."""
    processor = image_processor_of(processor)
    steps = ("preprocess", "_preprocess", "resize", "center_crop")
    functions = [getattr(type(processor), step, None) for step in steps]
    if any(getattr(f, "__module__", "") not in _INHERITED for f in functions):
        return None

    def setting(name: str) -> Any:
        return (options or {}).get(name, getattr(processor, name, None))

    if setting("do_pad"):
        return None
    shown = (height, width)
    if setting("do_resize"):
        size = _entries(setting("size"))
        if set(size) == {"height", "width"}:
            shown = (size["height"], size["width"])
        elif set(size) == {"shortest_edge"}:
            shorter = size["shortest_edge"]
            longer = int(shorter * max(shown) / min(shown))
            shown = (shorter, longer) if height <= width else (longer, shorter)
        else:
            return None
    sides = [(0.0, float(width)), (0.0, float(height))]
    if setting("do_center_crop"):
        crop = _entries(setting("crop_size"))
        if set(crop) != {"height", "width"}:
            return None
        sides = [
            _cropped(shown[1], crop["width"], width),
            _cropped(shown[0], crop["height"], height),
        ]
    (left, right), (top, bottom) = sides
    return (left, top, right, bottom)


def _entries(size: Any) -> dict[str, int]:
    """Return the entries of a size that are set; one number is both sides."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in dict(size or {}).items() if value}


def _cropped(size: int, crop: int, length: int) -> tuple[float, float]:
    """Return where a center crop begins and ends in an image of a length."""
    start = (size - crop) // 2 if size >= crop else -((crop - size) // 2)
    return (start * length / size, (start + crop) * length / size)


def measured_box(
    prepare: Callable[[Image.Image], Tensor], width: int, height: int
) -> Box:
    """Measure which part of an image a function from images to tensors shows.

    The function may resize, crop, pad, and change values linearly.
    """

    def prepared(values: NDArray[np.float64]) -> NDArray[np.float64]:
        pixels = np.broadcast_to(np.rint(values.clip(0, 255)), (height, width, 3))
        tensor = prepare(Image.fromarray(pixels.astype(np.uint8)))
        return tensor.numpy().astype(np.float64)

    black = prepared(np.zeros(3))
    span = prepared(np.full(3, 255.0)) - black
    # What is padded has one value whatever the image is.
    inside = np.abs(span) > 1e-6
    if not inside.any():
        raise ModelError(
            "the preprocessing returns the same values for black and white images, so "
            "the part of an image that it shows cannot be measured; give it a method "
            "crop_box(width, height)."
        )
    sides = []
    for axis, length in ((2, width), (1, height)):
        ramp = np.linspace(0, 255, length)
        ramp = ramp[None, :, None] if axis == 2 else ramp[:, None, None]
        # The channels differ by parts of a level, which makes the average finer.
        shown = prepared(ramp + np.array([-1, 0, 1]) / 3) - black
        shown = np.divide(shown, span, out=np.full_like(span, np.nan), where=inside)
        others = tuple({0, 1, 2} - {axis})
        known = inside.any(axis=others)
        profile = np.nanmean(
            shown[:, :, known] if axis == 2 else shown[:, known], axis=others
        )
        sides.append(_side(profile, np.flatnonzero(known), known.size, length))
    (left, right), (top, bottom) = sides
    return (left, top, right, bottom)


def _side(
    profile: NDArray[np.float64],
    places: NDArray[np.intp],
    size: int,
    length: int,
) -> tuple[float, float]:
    """Return where one axis of the output begins and ends in the image.

    ``profile`` is the relative coordinate that is shown at each of the ``places`` of an
    axis with ``size`` positions.
    """
    if length == 1:
        return (0.0, 1.0)
    centers = profile * (length - 1) + 0.5
    # Interpolation repeats the outermost pixels.
    clear = (centers > 1) & (centers < length - 1)
    if np.count_nonzero(clear) < 2:
        clear = np.ones_like(clear)
    slope, start = np.polyfit(places[clear] + 0.5, centers[clear], 1)
    line = slope * (places[clear] + 0.5) + start
    if slope <= 0 or np.abs(line - centers[clear]).max() > max(1, _BENT * length):
        raise ModelError(
            "the preprocessing does more to the geometry of images than resizing and "
            "cropping, so maps cannot be placed on the image; give it a method "
            "crop_box(width, height)."
        )
    end = slope * size + start
    near = _AT_BORDER * length
    start = 0.0 if abs(start) < near else start
    end = length if abs(end - length) < near else end
    return (float(start), float(end))
