"""Layers that see an image several times: mirrored, in parts, or both.

Test-time flip runs a network on an image and on its mirror image, one after the other
or as one batch; some networks run one backbone on the upper and the lower half. The map
of each run is put back where it saw the image: mirror images are turned back and their
channels are stacked, parts are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Part = Literal["", "top", "bottom", "left", "right"]

# The quarters that are seen in a part: 0 and 1 are the upper ones, 0 and 2 the left.
_QUARTERS: dict[frozenset[int], Part] = {
    frozenset({0, 1, 2, 3}): "",
    frozenset({0, 1}): "top",
    frozenset({2, 3}): "bottom",
    frozenset({0, 2}): "left",
    frozenset({1, 3}): "right",
}
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))


@dataclass(frozen=True)
class View:
    """One run of a layer on an image, alone or as one of several blocks of a batch.

    Attributes
    ----------
    call : int
        Number of the run, from 1.
    block, blocks : int
        Which of how many equal blocks of the batch.
    flip : tuple of int
        Mirrored dimensions of a map (C, h, w): 1 if upside down, 2 if left to right.
    part : {"", "top", "bottom", "left", "right"}
        The half of the image that is seen; empty for the whole image.
    """

    call: int
    block: int
    blocks: int
    flip: tuple[int, ...] = ()
    part: Part = ""

    def rows(self, output: Tensor) -> Tensor:
        """Return the block of an output's batch."""
        return output.chunk(self.blocks)[self.block]


def join(views: Sequence[View], maps: Sequence[Tensor]) -> Tensor:
    """Put the maps (B, C, h, w) of all views together on the image."""
    placed = [
        tensor.flip([dim + 1 for dim in view.flip]) if view.flip else tensor
        for view, tensor in zip(views, maps, strict=True)
    ]
    return torch.cat([placed[place] for place in _order(views)], _dim(views))


def pieces(views: Sequence[View], joined: Tensor) -> list[Tensor]:
    """Take the maps of all views out of what :func:`join` has made of them."""
    parts = joined.chunk(len(views), _dim(views))
    taken = dict(zip(_order(views), parts, strict=True))
    return [
        taken[place].flip([dim + 1 for dim in view.flip]) if view.flip else taken[place]
        for place, view in enumerate(views)
    ]


def _dim(views: Sequence[View]) -> int:
    """Return the dimension in which views are put together."""
    part = views[0].part
    return 1 if not part else (2 if part in ("top", "bottom") else 3)


def _order(views: Sequence[View]) -> list[int]:
    """Return the places of views from the top left."""
    return sorted(
        range(len(views)), key=lambda place: views[place].part in ("bottom", "right")
    )


def joined_shape(
    views: Sequence[View], shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Return the shape of the joined maps of views that have one shape."""
    sizes = list(shape)
    sizes[_dim(views) - 1] *= len(views)
    return sizes[0], sizes[1], sizes[2]


def piece_shape(
    views: Sequence[View], shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Return the shape of the map of one of the views of a joined shape."""
    if not views:
        return shape
    sizes = list(shape)
    sizes[_dim(views) - 1] //= len(views)
    return sizes[0], sizes[1], sizes[2]


def fit_together(views: Sequence[View]) -> bool:
    """Return whether views are all of the whole image, or are its two halves."""
    parts = sorted(view.part for view in views)
    return set(parts) == {""} or parts in (["bottom", "top"], ["left", "right"])


def placed_view(
    view: View, change: Tensor, follows: Callable[[Tensor], bool]
) -> View | None:
    """Find where a view saw the image, by where the quarters change its map, (4, h, w).

    The result is None if the map follows them in no way.
    """
    totals = change.sum((1, 2))
    seen = frozenset((totals > 0.01 * totals.max()).nonzero().flatten().tolist())
    part = _QUARTERS.get(seen)
    if part is None:
        return None
    if part:
        # The halves that are not seen are made of those that are, at their places.
        change = _completed(change, part)
    for flip in _FLIPS:
        if follows(change.flip(flip) if flip else change):
            return View(view.call, view.block, view.blocks, flip, part)
    return None


def _completed(change: Tensor, part: Part) -> Tensor:
    """Put a map of a half beside an empty map, as a map of the whole image."""
    top, bottom = change[:2], change[2:]
    left, right = change[[0, 2]], change[[1, 3]]
    empty = torch.zeros_like
    if part in ("top", "bottom"):
        half = top if part == "top" else bottom
        above = torch.cat([half, empty(half)], 1)
        below = torch.cat([empty(half), half], 1)
        return torch.cat([above, below])
    half = left if part == "left" else right
    beside = torch.cat([half, empty(half)], 2), torch.cat([empty(half), half], 2)
    return torch.stack([beside[0][0], beside[1][0], beside[0][1], beside[1][1]])
