"""Whether the positions of a layer's map are those of the image.

A tensor of four dimensions may be something else than a map of the image: the attention
matrix of a transformer, maps with their channels last, maps of a mirror image or of a
part of the image. So each quarter of an image is filled with something else in turn,
and the positions of the layer's output that change have to follow it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# Least agreement of a map. The last layers of the networks measured have 0.42 to 1.0,
# mirror images and other layouts at most 0.2. Coarse maps, where each position sees the
# whole image, lie anywhere below; on enlarged images they have 0.6 or more.
_LEAST = 0.35
# Share of the largest change that each quarter has to make.
_SEEN = 0.01
# Relative changes that are rounding.
_ROUNDING = 1e-5
# Least difference of two distributions, which differ by 2 at most.
_LEAST_CONTRAST = 1e-3

MOVES_OTHERWISE = (
    "does not show the image as it is: when a patch of the input moves, the positions "
    "that change do not move with it"
)
PARTIAL = (
    "carries only a part of the embedding in its last run, the one that is explained"
)
CONSTANT = "does not change with the image"


def patched(image: Tensor, enlarged: int = 1) -> Tensor:
    """Fill each quarter of an image's mean color with fine and with coarse noise.

    A photograph is a worse background: what it shows differs between the quarters.
    """
    values = image.float()
    low, high = values.aminmax()
    spread = high - low if high > low else torch.ones_like(low)
    height, width = (enlarged * side for side in values.shape[1:])
    generator = torch.Generator().manual_seed(0)

    def noise(cell: int) -> Tensor:
        size = (1, len(values), -(-height // cell), -(-width // cell))
        bits = torch.randint(0, 2, size, generator=generator).float()
        cells = F.interpolate(bits, scale_factor=cell)[0, :, :height, :width]
        return low + spread * cells.to(values)

    weak = torch.rand((len(values), height, width), generator=generator) - 0.5
    base = values.mean((1, 2), keepdim=True) + 0.1 * spread * weak.to(values)
    images = [base]
    for fill in (noise(1), noise(max(1, max(height, width) // 8))):
        for rows in (slice((height + 1) // 2), slice(height // 2, None)):
            for columns in (slice((width + 1) // 2), slice(width // 2, None)):
                images.append(base.clone())
                images[-1][:, rows, columns] = fill[:, rows, columns]
    return torch.stack(images).to(image.dtype)


def fault_of(output: Tensor, count: int) -> str:
    """Say what keeps a layer's output from being a map of the image."""
    if len(output) != count:
        return f"returns {len(output)} maps for {count} images"
    output = output.float()
    change = (output[1:] - output[:1]).abs().sum(1).nan_to_num(0, 0, 0)
    change = change.unflatten(0, (2, 4)).sum(0).cpu()
    totals = change.sum((1, 2))
    largest = float(totals.max())
    if largest <= _ROUNDING * float(output[0].abs().sum().nan_to_num(0, 0, 0)):
        return CONSTANT
    if float(totals.min()) < _SEEN * largest or _agreement(change) < _LEAST:
        return MOVES_OTHERWISE
    return ""


def _agreement(change: Tensor) -> float:
    """Compare where the four quarters change a map, (4, h, w), with where they are.

    1 where what changes moves down and right with the quarter, and no other way.
    """
    change = change / change.sum((1, 2), keepdim=True)
    quarters = change.unflatten(0, (2, 2))
    down = (quarters[1] - quarters[0]).mean(0)
    right = (quarters[:, 1] - quarters[:, 0]).mean(0)
    contrast = max(float(down.abs().sum()), float(right.abs().sum()))
    if contrast < _LEAST_CONTRAST:
        return 0.0
    along, across = [], []
    for dim, own, other in ((1, down, right), (0, right, down)):
        size = change.shape[2 - dim]
        if size == 1:
            # A map without this axis may not depend on places along it.
            across.append(float(own.abs().sum()))
            continue
        sides = torch.sign(2 * torch.arange(size) + 1 - size)
        along.append(float((own.sum(dim) * sides).sum()))
        across.append(abs(float((other.sum(dim) * sides).sum())))
    return (min(along) - max(across)) / contrast
