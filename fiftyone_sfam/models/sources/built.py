"""A network of another library, and the preprocessing of its own configuration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.network.outputs import EmbeddingKey
from fiftyone_sfam.network.preprocess import Interpolation, Preprocessing

Channels3 = tuple[float, ...]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class InputConfig:
    """How a library prepares images for a network; None where it does not say."""

    size: tuple[int, int] | None = None  # height and width
    mean: Channels3 | None = None
    std: Channels3 | None = None
    interpolation: str = "bilinear"
    # Builds the library's own transform with a mean and a std.
    transform: Callable[[Channels3, Channels3], Any] | None = None


@dataclass(frozen=True)
class Built:
    """A network, and how its images are prepared."""

    network: nn.Module
    config: InputConfig
    embedding: EmbeddingKey | None = None  # key or index of the embedding
    weights_into: nn.Module | None = None  # part whose state dict checkpoints hold


def preprocessing_of(
    config: InputConfig,
    label: str,
    *,
    size: tuple[int, int] | None = None,
    mean: Channels3 | None = None,
    std: Channels3 | None = None,
) -> Any:
    """Return the preprocessing of a configuration, with what is given instead.

    A given size is resized to without keeping the aspect ratio, as is usual for crops
    of persons and faces. Otherwise images are prepared as the library does.
    """
    assumed, missing = [], []
    if config.mean is None and (mean is None or std is None):
        assumed.append("the mean and std of ImageNet")
        missing.append("mean and std")
    if config.size is None and size is None:
        assumed.append("the size 224 x 224")
        missing = ["mean, std and size" if missing else "size"]
    if assumed:
        warnings.warn(
            f"model '{label}' does not say how its images are prepared: "
            f"{' and '.join(assumed)} are used; give {missing[0]}.",
            SfamWarning,
            stacklevel=2,
        )
    mean = mean or config.mean or _IMAGENET[0]
    std = std or config.std or _IMAGENET[1]
    if size is None and config.transform is not None:
        return config.transform(mean, std)
    return Preprocessing(
        size or config.size or (224, 224),
        mean=mean,
        std=std,
        interpolation=_interpolation(config.interpolation),
    )


def _interpolation(name: str) -> Interpolation:
    """Return a resampling filter by the name that a library gives it."""
    known: tuple[Interpolation, ...] = get_args(Interpolation)
    return next((known_name for known_name in known if known_name == name), "bilinear")
