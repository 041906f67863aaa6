"""How a layer's output is arranged, and whether it is a map of the image.

A map is a set of positions on the image with a vector each. It may be a tensor
``(B, C, h, w)``, ``(B, h, w, C)``, or tokens ``(B, prefix + h w, C)``, of which the
first, such as a class token, have no place on the image. A tensor of such a
shape need not be a map: it may be the attention matrix of a transformer, or a map of a
mirror image or of a part of the image. So each quarter of an image is replaced by noise
in turn, and the positions of the layer's output that change must follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.data.text import counted
from fiftyone_sfam.network.views import View, piece_shape

Layout = Literal["NCHW", "NHWC", "tokens"]

LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC", "tokens")

# Least agreement of a map. The last layers of the measured networks have 0.42 to 1.0,
# mirror images and other layouts at most 0.2. Coarse maps, where each position sees the
# whole image, may have any value below; on enlarged images they have 0.6 or more.
_LEAST = 0.35
# Least agreement of a map that each quarter changes nearly equally everywhere: one of
# 0.36 did not follow a patch, those of 0.53 and 0.58 did.
_LEAST_IF_EQUAL = 0.5
# Difference of two distributions below which a map changes nearly equally everywhere.
# Of 77 measured networks two are explained at such a map, the others have 0.06 or more.
_NEARLY_EQUAL = 0.05
# Share of the largest change that each quarter must cause.
_SEEN = 0.01
# Relative changes that are rounding.
_ROUNDING = 1e-5
# Least difference of two distributions, which differ by 2 at most.
_LEAST_CONTRAST = 1e-3
# Most tokens that stand before those of the image.
MOST_PREFIX = 32
# Largest quotient of the aspect ratios of a grid of tokens and of the image.
_ASPECT = 1.2

MOVES_OTHERWISE = (
    "does not show the image as it is: when a patch of the input moves, the positions "
    "that change do not move with it"
)
CHANGES_EQUALLY = (
    "says next to nothing about places: wherever a patch of the input is, all "
    "positions change nearly equally"
)
PADDED = "is padded, so its positions reach beyond the image"
CONSTANT = "does not change with the image"


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose output the embedding can be explained at.

    Attributes
    ----------
    name : str
        Name of the module, as ``network.get_submodule`` takes it.
    shape : tuple of int
        Channels, height and width of its map.
    calls : int
        How often one forward pass runs the module; the last run is the one used.
    layout : {"NCHW", "NHWC", "tokens"}
        Arrangement of its output: ``(B, C, h, w)``, ``(B, h, w, C)`` or
        ``(B, prefix_tokens + h w, C)``.
    prefix_tokens : int
        Number of tokens before those of the image, such as a class token.
    views : tuple of View
        The runs that are put together, of a layer that sees mirror images or parts of
        the image too; empty if the last run is used alone.
    """

    name: str
    shape: tuple[int, int, int]
    calls: int
    layout: Layout = "NCHW"
    prefix_tokens: int = 0
    views: tuple[View, ...] = field(default=(), repr=False)

    @property
    def positions(self) -> int:
        """Number of positions of the map."""
        return self.shape[1] * self.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the map of one view."""
        return piece_shape(self.views, self.shape)[1:]

    def maps(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the maps (B, C, h, w) and the prefix tokens (B, P, C) of an output."""
        if self.layout == "NCHW":
            return output, None
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2), None
        tokens = output[:, self.prefix_tokens :]
        maps = tokens.mT.unflatten(2, self.grid)
        return maps, output[:, : self.prefix_tokens] if self.prefix_tokens else None

    def output(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """Arrange maps and prefix tokens as the layer does; a new tensor."""
        if self.layout == "NCHW":
            return maps.clone()
        if self.layout == "NHWC":
            return maps.permute(0, 2, 3, 1).clone()
        tokens = maps.flatten(2).mT
        return tokens.clone() if prefix is None else torch.cat([prefix, tokens], 1)


@dataclass(frozen=True)
class SeenLayer:
    """A run of a module on patched images, and whether its output is a map.

    Attributes
    ----------
    info : LayerInfo
        The module, with the arrangement that fits best.
    problem : str
        Why the output is not a map of the image; empty if it is one.
    is_local : bool
        Whether nothing of a quarter has reached the position farthest from it, nor the
        prefix tokens, as where tokens enter the first block of a transformer.
    change : Tensor or None
        How much each position of the map changes with each quarter, (4, h, w).
    """

    info: LayerInfo
    problem: str
    is_local: bool = False
    change: Tensor | None = field(default=None, repr=False, compare=False)


def is_map(shape: Sequence[int]) -> bool:
    """Return whether a shape is that of feature maps with several positions."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def arrangements(
    shape: Sequence[int],
    grids: Sequence[tuple[int, int]],
    image: tuple[int, int],
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> list[LayerInfo]:
    """List how an output of some shape may be arranged, without name and calls.

    Parameters
    ----------
    shape : sequence of int
        Shape of the output.
    grids : sequence of tuple of int
        Heights and widths of maps that the network is known to have.
    image : tuple of int
        Height and width of the image.
    layout, prefix_tokens : optional
        What the user says of it.
    """
    listed: list[LayerInfo] = []
    if len(shape) == 4:
        _, first, second, third = shape
        listed.append(LayerInfo("", (first, second, third), 1))
        if third > 1:
            listed.append(LayerInfo("", (third, first, second), 1, "NHWC"))
    elif len(shape) == 3:
        _, tokens, channels = shape
        listed += [
            LayerInfo("", (channels, *grid), 1, "tokens", tokens - math.prod(grid))
            for grid in _grids_of_tokens(tokens, grids, image, prefix_tokens)
        ]
    return [
        info
        for info in listed
        if info.positions > 1
        and layout in (None, info.layout)
        and (info.layout != "tokens" or prefix_tokens in (None, info.prefix_tokens))
    ]


def _grids_of_tokens(
    tokens: int,
    grids: Sequence[tuple[int, int]],
    image: tuple[int, int],
    prefix_tokens: int | None,
) -> list[tuple[int, int]]:
    """List grids that tokens may have: known ones, or else ones shaped as the image."""
    fitting = [
        grid
        for grid in dict.fromkeys(grids)
        if 0 <= tokens - math.prod(grid) <= MOST_PREFIX
        and prefix_tokens in (None, tokens - math.prod(grid))
    ]
    if fitting:
        return sorted(fitting, key=math.prod, reverse=True)
    aspect = image[0] / image[1]
    prefixes = range(10) if prefix_tokens is None else (prefix_tokens,)
    for prefix in prefixes:
        count = tokens - prefix
        fitting += [
            (rows, count // rows)
            for rows in range(2, count // 2 + 1)
            if count % rows == 0
            and 1 / _ASPECT < rows * rows / count / aspect < _ASPECT
        ]
    return fitting


# --------------------------------------------------------------------------------------
# Whether an output is a map of the image
# --------------------------------------------------------------------------------------


def patched(image: Tensor, enlarged: int = 1) -> Tensor:
    """Return an image's mean color, and copies with noise in one quarter; nine images.

    Each quarter is filled with fine noise, then with coarse noise. The image itself
    would be a worse background, because what it shows differs between the quarters.
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


def seen_layer(
    name: str, calls: int, output: Tensor, count: int, options: Sequence[LayerInfo]
) -> SeenLayer:
    """Arrange a layer's output on patched images as it follows the patches best."""
    options = [replace(info, name=name, calls=calls) for info in options]
    if len(output) != count:
        problem = f"returns {counted(len(output), 'map')} for {counted(count, 'image')}"
        return SeenLayer(options[0], problem)
    output = output.float()
    # Channels come first unless they cannot; then the one that follows best.
    scores: list[tuple[tuple[bool, bool, float, int], SeenLayer]] = []
    for place, info in enumerate(options):
        problem, agreement, is_local, change = _followed(info, output)
        usual = info.layout != "NHWC"
        key = not problem, usual, agreement, -place
        scores.append((key, SeenLayer(info, problem, is_local, change)))
    return max(scores, key=lambda item: item[0])[1]


def _followed(info: LayerInfo, output: Tensor) -> tuple[str, float, bool, Tensor]:
    """Return a fault or ``""``, the agreement, whether change is local, the change."""
    maps, prefix = info.maps(output)
    change = (maps[1:] - maps[:1]).abs().sum(1).nan_to_num(0, 0, 0)
    change = change.unflatten(0, (2, 4)).sum(0).cpu()
    totals = change.sum((1, 2))
    largest = float(totals.max())
    if largest <= _ROUNDING * float(maps[0].abs().sum().nan_to_num(0, 0, 0)):
        return CONSTANT, 0.0, False, change
    problem, agreement = MOVES_OTHERWISE, 0.0
    if float(totals.min()) >= _SEEN * largest:
        problem, agreement = _compared(change)
    opposite = [change[i, -(i < 2), -(i % 2 == 0)] for i in range(4)]
    reached = float(torch.stack(opposite).max())
    if prefix is not None:
        reached = max(reached, float((prefix[1:] - prefix[:1]).abs().max()))
    is_local = reached <= _ROUNDING * float(change.max())
    return problem, agreement, is_local, change


def follows(change: Tensor) -> bool:
    """Return whether a map changes where each quarter is, (4, h, w)."""
    return not _compared(change)[0]


def _compared(change: Tensor) -> tuple[str, float]:
    """Compare where the four quarters change a map, (4, h, w), with where they are.

    Returns a fault or ``""``, and the agreement, which is 1 if the change moves down
    and right exactly as the quarter does.
    """
    change = change / change.sum((1, 2), keepdim=True)
    quarters = change.unflatten(0, (2, 2))
    down = (quarters[1] - quarters[0]).mean(0)
    right = (quarters[:, 1] - quarters[:, 0]).mean(0)
    contrast = max(float(down.abs().sum()), float(right.abs().sum()))
    if contrast < _LEAST_CONTRAST:
        return CHANGES_EQUALLY, 0.0
    along, across = [], []
    for dim, parallel, orthogonal in ((1, down, right), (0, right, down)):
        size = change.shape[2 - dim]
        if size == 1:
            # A map without this axis may not depend on places along it.
            across.append(float(parallel.abs().sum()))
            continue
        sides = torch.sign(2 * torch.arange(size) + 1 - size)
        along.append(float((parallel.sum(dim) * sides).sum()))
        across.append(abs(float((orthogonal.sum(dim) * sides).sum())))
    agreement = (min(along) - max(across)) / contrast
    if agreement < _LEAST:
        return MOVES_OTHERWISE, agreement
    if contrast < _NEARLY_EQUAL and agreement < _LEAST_IF_EQUAL:
        return CHANGES_EQUALLY, agreement
    return "", agreement
