"""What takes the place of pixels that are hidden from a network.

All fills work on prepared images, the network's input: blurring, averaging and filling
holes are linear in the pixels, so they mean there what they mean on the picture.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.attribution.blurring import blur
from fiftyone_sfam.errors import DataError

Fill = Literal["blur", "mean", "inpaint"]
FILLS: tuple[Fill, ...] = ("blur", "mean", "inpaint")


def hide(image: Tensor, hidden: Tensor, fill: Fill = "blur") -> Tensor:
    """Hide pixels of one image in several ways."""
    if fill == "blur":
        other = blur(image[None])
    elif fill == "mean":
        other = image.mean((1, 2), keepdim=True)[None]
    elif fill == "inpaint":
        return inpaint(image.expand(len(hidden), -1, -1, -1), hidden)
    else:
        raise DataError(f"unknown fill {fill!r}; use one of {', '.join(FILLS)}.")
    return torch.where(hidden[:, None], other, image[None])


def inpaint(images: Tensor, hidden: Tensor) -> Tensor:
    """Fill holes smoothly from what is around them.

    Pull-push interpolation (S. Gortler et al., "The Lumigraph", 1996): known pixels are
    averaged over squares of 2, 4, 8, ... pixels, and a hole takes the value of the
    smallest squares that know anything.
    """
    known = (~hidden)[:, None].to(images)
    values, weights = [images * known], [known]
    while max(values[-1].shape[-2:]) > 1:
        value, weight = (_halved(one[-1]) for one in (values, weights))
        values.append(value / torch.where(weight > 0, weight, 1))
        weights.append((weight > 0).to(images))
        values[-1] = values[-1] * weights[-1]
    everything = images.mean((2, 3), keepdim=True)
    found = torch.where(weights[-1] > 0, values[-1], everything)
    for value, weight in zip(values[-2::-1], weights[-2::-1], strict=True):
        coarse = F.interpolate(
            found, size=value.shape[-2:], mode="bilinear", align_corners=False
        )
        found = torch.where(weight > 0, value, coarse)
    return found


def _halved(images: Tensor) -> Tensor:
    """Average squares of two pixels; the last row or column may stand alone."""
    return F.avg_pool2d(images, 2, ceil_mode=True)
