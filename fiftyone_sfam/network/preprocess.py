"""From an image to a network's input, and the part of the image that is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fiftyone_sfam.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Channels = Literal["RGB", "BGR", "L", "RGBA"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Box = tuple[float, float, float, float]

# Names of numbers of channels, for messages.
_COUNTS = {1: "single channel", 3: "three channels", 4: "four channels"}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, optionally crop the center, and normalize an image.

    The network receives ``(pixels / scale - mean) / std`` per channel, in the order of
    ``channels``. Resizing does not keep the aspect ratio: crops of persons and faces
    are stretched to the network's input, as is usual in re-identification. All options
    except ``size`` are keyword-only.

    Attributes
    ----------
    size : tuple of int
        Height and width of the network's input, in pixels.
    mean, std : tuple of float
        Normalization per channel, in the order of ``channels``.
    scale : float
        Divisor of the pixel values 0..255.
    channels : {"RGB", "BGR", "L", "RGBA"}
        Channels that the network expects, in their order; ``"L"`` is gray. ``mean`` and
        ``std`` must be given if their number is not three. Files are read in RGB, so
        the fourth channel of ``"RGBA"`` is opaque.
    resize : tuple of int, optional
        Height and width to resize to before the center is cropped to ``size``; None
        resizes to ``size`` directly.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        Resampling filter (Pillow's, which antialiases).

    Raises
    ------
    ModelError
        If an option has a value that cannot be used.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import Preprocessing
    >>> preprocess = Preprocessing((128, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> tensor = preprocess(Image.new("RGB", (30, 70), "white"))
    >>> tensor.shape, tensor.dtype, tensor.max().item()
    (torch.Size([3, 128, 64]), torch.float32, 1.0)
    """

    size: tuple[int, int]
    _: KW_ONLY
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scale: float = 255.0
    channels: Channels = "RGB"
    resize: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pixel_size("size", self.size))
        if self.resize is not None:
            object.__setattr__(self, "resize", _pixel_size("resize", self.resize))
            if self.resize[0] < self.size[0] or self.resize[1] < self.size[1]:
                raise ModelError(
                    f"preprocessing option 'resize' is {self.resize}, smaller than "
                    f"'size' {self.size} that is cropped from it; make it at least as "
                    "large."
                )
        if self.channels not in ("RGB", "BGR", "L", "RGBA"):
            raise ModelError(
                f"preprocessing option 'channels' is {self.channels!r}; use 'RGB', "
                "'BGR', 'L' or 'RGBA'."
            )
        for option in ("mean", "std"):
            values = getattr(self, option)
            count = len(self.channels)
            if np.shape(values) != (count,) or not all(map(_is_number, values)):
                raise ModelError(
                    f"preprocessing option '{option}' is {values!r}; give one number "
                    f"for each of the {_COUNTS[count]}."
                )
            object.__setattr__(self, option, tuple(float(v) for v in values))
        if not all(self.std):
            raise ModelError(
                f"preprocessing option 'std' is {self.std}; none of its numbers may "
                "be zero, because it divides."
            )
        if not _is_number(self.scale) or self.scale <= 0:
            raise ModelError(
                f"preprocessing option 'scale' is {self.scale!r}; it divides the pixel "
                "values, so it must be a number greater than zero."
            )
        if self.interpolation not in _RESAMPLING:
            raise ModelError(
                f"preprocessing option 'interpolation' is {self.interpolation!r}; use "
                f"one of {', '.join(_RESAMPLING)}."
            )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Preprocessing:
        """Build the preprocessing from a mapping, such as one in a registry file.

        Parameters
        ----------
        options : mapping
            Attributes of this class by name; lists are turned into tuples.

        Returns
        -------
        Preprocessing
            The preprocessing.

        Raises
        ------
        ModelError
            If ``size`` is missing, or an option is unknown or has a wrong value.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ModelError(
                f"unknown preprocessing option {unknown[0]!r}; known are "
                f"{', '.join(known)}."
            )
        if "size" not in options:
            raise ModelError(
                "preprocessing option 'size' is missing; give the height and width of "
                "the network's input."
            )
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        }
        return cls(**given)

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepare one image.

        Parameters
        ----------
        image : PIL.Image.Image
            Image of any mode and size.

        Returns
        -------
        Tensor
            Shape (channels, height, width), float32.
        """
        import torch

        height, width = self.resize or self.size
        mode = "RGB" if self.channels == "BGR" else self.channels
        resized = image.convert(mode).resize(
            (width, height), _RESAMPLING[self.interpolation]
        )
        if self.resize is not None:
            top, left = self._crop_offset()
            resized = resized.crop((left, top, left + self.size[1], top + self.size[0]))
        pixels = np.asarray(resized, dtype=np.float32)
        pixels = pixels.reshape(*self.size, len(self.channels))
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        mean = np.asarray(self.mean, dtype=np.float32)
        std = np.asarray(self.std, dtype=np.float32)
        normalized = (pixels / np.float32(self.scale) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(normalized.transpose(2, 0, 1)))

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees.

        Parameters
        ----------
        width, height : int
            Size of the original image in pixels.

        Returns
        -------
        tuple of float
            Left, top, right, bottom in pixels of the original image.
        """
        if self.resize is None:
            return (0.0, 0.0, float(width), float(height))
        top, left = self._crop_offset()
        x, y = width / self.resize[1], height / self.resize[0]
        return (
            left * x,
            top * y,
            (left + self.size[1]) * x,
            (top + self.size[0]) * y,
        )

    def _crop_offset(self) -> tuple[int, int]:
        """Return the top and left of the center crop in the resized image."""
        assert self.resize is not None
        return (
            (self.resize[0] - self.size[0]) // 2,
            (self.resize[1] - self.size[1]) // 2,
        )


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float, np.number)) and bool(np.isfinite(value))


def _pixel_size(option: str, value: Any) -> tuple[int, int]:
    """Return ``value`` as a height and a width, or raise."""
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(v, (int, np.integer)) and v > 0 for v in value)
    ):
        raise ModelError(
            f"preprocessing option '{option}' is {value!r}; give a height and a width "
            "in whole pixels."
        )
    return (int(value[0]), int(value[1]))
