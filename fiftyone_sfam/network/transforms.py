"""The part of an image that a transform shows to the network.

A map covers the network's input. If the input is a crop of the image, the map must be
drawn on that crop, whose place follows from the transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.image_processors import (
    ImageProcessorPreprocessing,
    image_processor_of,
    is_image_processor,
)
from fiftyone_sfam.network.preprocess import Box


@dataclass(frozen=True)
class TransformPreprocessing:
    """A torchvision transform as the preprocessing of a model."""

    transform: Callable[[Image.Image], Tensor]

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepare one image of any mode; return a (3, height, width) tensor."""
        return self.transform(image.convert("RGB"))

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees."""
        return crop_box_of(self.transform, width, height)


def with_crop_box(preprocess: Callable[[Image.Image], Tensor]) -> Any:
    """Add the method ``crop_box`` to a transform, or an image processor."""
    if hasattr(preprocess, "crop_box"):
        return preprocess
    if is_image_processor(preprocess):
        return ImageProcessorPreprocessing(image_processor_of(preprocess))
    if _is_torchvision(preprocess):
        return TransformPreprocessing(preprocess)
    return preprocess


def crop_box_of(transform: object, width: int, height: int) -> Box:
    """Return the part of an image that the output of a transform shows."""
    view = _View(0.0, 0.0, float(width), float(height), width, height)
    for step in _steps(transform):
        view = _seen_through(step, view)
    return (view.left, view.top, view.right, view.bottom)


@dataclass(frozen=True)
class _View:
    """A box of the original image, and the size in pixels at which it is shown."""

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int

    def resized(self, height: int, width: int) -> _View:
        """Show the same box at another size."""
        return _View(self.left, self.top, self.right, self.bottom, width, height)

    def cropped(self, top: int, left: int, height: int, width: int) -> _View:
        """Show a part, given in pixels of the current size."""
        x = (self.right - self.left) / self.width
        y = (self.bottom - self.top) / self.height
        return _View(
            self.left + left * x,
            self.top + top * y,
            self.left + (left + width) * x,
            self.top + (top + height) * y,
            width,
            height,
        )

    def center_cropped(self, height: int, width: int) -> _View:
        """Show the center as torchvision crops it, which pads small images."""
        return self.cropped(
            _crop_start(self.height, height),
            _crop_start(self.width, width),
            height,
            width,
        )


# Names of the transforms, classes or functions, that do not move pixels: those of
# torchvision, timm, open_clip and facenet-pytorch.
_POINTWISE = frozenset(
    {
        "_convert_to_rgb",
        "fixed_image_standardization",
        "float32",
        "prewhiten",
        "ColorJitter",
        "ConvertImageDtype",
        "GaussianBlur",
        "Grayscale",
        "Identity",
        "MaybeConvertMode",
        "MaybePILToTensor",
        "MaybeToTensor",
        "Normalize",
        "PILToTensor",
        "RGB",
        "ToDtype",
        "ToImage",
        "ToNumpy",
        "ToPILImage",
        "ToPureTensor",
        "ToTensor",
    }
)


def _is_torchvision(transform: object) -> bool:
    """Return whether a transform is one of torchvision's."""
    return type(transform).__module__.partition(".")[0] == "torchvision"


def _steps(transform: Any) -> Iterable[Any]:
    """Return the transforms of a composition, or the transform itself."""
    nested = getattr(transform, "transforms", None)
    if type(transform).__name__ in ("Compose", "Sequential"):
        nested = nested if nested is not None else list(transform.children())
        return [step for part in nested for step in _steps(part)]
    return [transform]


def _seen_through(step: Any, view: _View) -> _View:
    """Follow a view through one transform."""
    # Functions and types such as numpy.float32 have names of their own.
    name = getattr(step, "__name__", type(step).__name__)
    if name in _POINTWISE:
        return view
    geometry = _GEOMETRY.get(name)
    if geometry is None:
        raise ModelError(
            f"the transform {name} is not known to keep the image's geometry, so maps "
            "cannot be placed on the image; use Resize, CenterCrop, ToTensor and "
            "Normalize, or give the preprocessing a method crop_box(width, height)."
        )
    return geometry(step, view)


def _through_resize(step: Any, view: _View) -> _View:
    """Follow ``torchvision.transforms.Resize``."""
    return view.resized(
        *_resized_size(view, step.size, getattr(step, "max_size", None))
    )


def _through_center_crop(step: Any, view: _View) -> _View:
    """Follow ``torchvision.transforms.CenterCrop``."""
    return view.center_cropped(*_pair(step.size))


def _through_resize_keeping_ratio(step: Any, view: _View) -> _View:
    """Follow ``ResizeKeepRatio`` of timm and open_clip."""
    if step.random_scale_prob or step.random_aspect_prob:
        raise ModelError(
            "the transform ResizeKeepRatio changes the size of images at random, so "
            "maps cannot be placed on the image; use the transform for evaluation."
        )
    ratios = (view.height / step.size[0], view.width / step.size[1])
    ratio = max(ratios) * step.longest + min(ratios) * (1 - step.longest)
    return view.resized(round(view.height / ratio), round(view.width / ratio))


def _through_trim_border(step: Any, view: _View) -> _View:
    """Follow timm's ``TrimBorder``."""
    border = step.border_size
    return view.cropped(
        border, border, view.height - 2 * border, view.width - 2 * border
    )


def _through_max_size(step: Any, view: _View) -> _View:
    """Follow open_clip's ``ResizeMaxSize``, which pads to a square."""
    scale = step.max_size / max(view.height, view.width)
    resized = view.resized(round(view.height * scale), round(view.width * scale))
    return resized.center_cropped(step.max_size, step.max_size)


def _through_preset(step: Any, view: _View) -> _View:
    """Follow ``ImageClassification``, the preset of torchvision's weights."""
    resized = view.resized(*_resized_size(view, step.resize_size, None))
    return resized.center_cropped(*_pair(step.crop_size))


def _through_min_resize(step: Any, view: _View) -> _View:
    """Follow FiftyOne's ``MinResize``, which enlarges small images."""
    height, width = _pair(step.min_output_size)
    factor = max(height / view.height, width / view.width)
    return _scaled(view, factor) if factor > 1 else view


def _through_max_resize(step: Any, view: _View) -> _View:
    """Follow FiftyOne's ``MaxResize``, which shrinks large images."""
    height, width = _pair(step.max_output_size)
    factor = min(height / view.height, width / view.width)
    return _scaled(view, factor) if factor < 1 else view


def _through_patch_size(step: Any, view: _View) -> _View:
    """Follow FiftyOne's ``PatchSize``, which crops to a multiple of a size."""
    return view.center_cropped(
        view.height // step.patch_size * step.patch_size,
        view.width // step.patch_size * step.patch_size,
    )


_GEOMETRY: dict[str, Callable[[Any, _View], _View]] = {
    "CenterCrop": _through_center_crop,
    "CenterCropOrPad": _through_center_crop,
    "ImageClassification": _through_preset,
    "MaxResize": _through_max_resize,
    "MinResize": _through_min_resize,
    "PatchSize": _through_patch_size,
    "Resize": _through_resize,
    "ResizeKeepRatio": _through_resize_keeping_ratio,
    "ResizeMaxSize": _through_max_size,
    "TrimBorder": _through_trim_border,
}


def _scaled(view: _View, factor: float) -> _View:
    """Show the same box at a size multiplied by a factor."""
    return view.resized(
        max(round(factor * view.height), 1), max(round(factor * view.width), 1)
    )


def _pair(size: Any) -> tuple[int, int]:
    """Return a height and a width; one number is both."""
    if isinstance(size, int):
        return (size, size)
    values = tuple(int(value) for value in size)
    return (values[0], values[-1])


def _resized_size(view: _View, size: Any, max_size: int | None) -> tuple[int, int]:
    """Return height and width after torchvision's ``Resize``.

    One number is the length of the shorter side. The longer side keeps the aspect
    ratio, rounded down, and is at most ``max_size``.
    """
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return (int(size[0]), int(size[1]))
    if size is None and max_size is not None:
        return _at_most(view, max_size)
    shorter = int(size if isinstance(size, int) else size[0])
    longer = int(shorter * max(view.height, view.width) / min(view.height, view.width))
    if max_size is not None and longer > max_size:
        shorter, longer = int(max_size * shorter / longer), max_size
    return (shorter, longer) if view.height <= view.width else (longer, shorter)


def _at_most(view: _View, longer: int) -> tuple[int, int]:
    """Return height and width with a given longer side."""
    shorter = int(longer * min(view.height, view.width) / max(view.height, view.width))
    return (shorter, longer) if view.height <= view.width else (longer, shorter)


def _crop_start(size: int, crop: int) -> int:
    """Return where torchvision's center crop starts; negative where it pads."""
    return round((size - crop) / 2) if size >= crop else -((crop - size) // 2)
