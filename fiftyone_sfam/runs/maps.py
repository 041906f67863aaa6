"""The stored maps of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.runs.blobs import Arrays, BlobStore, unpack_maps
from fiftyone_sfam.runs.run_table import shard_name


@dataclass(frozen=True)
class SideMaps:
    """The stored maps of one side of a pair.

    Attributes
    ----------
    maps : dict of str to ndarray
        Signed map per kind, float32, shape (h, w).
    score : float
        Similarity as this side's forward pass gave it.
    remainder : float
        ``score`` minus the sum of the evidence; NaN if that was not computed.
    crop : tuple of float
        Relative left, top, right and bottom of what the network saw of the image (or
        of the detection's crop).
    size : tuple of int
        Width and height of the whole image, in pixels.
    """

    maps: dict[str, NDArray[np.float32]]
    score: float
    remainder: float
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class PairMaps:
    """Both sides of a pair; None where the image could not be read."""

    query: SideMaps | None
    gallery: SideMaps | None


def read_sides(
    store: BlobStore,
    shards: NDArray[np.int64],
    rows: NDArray[np.int64],
    kinds: tuple[str, ...],
) -> list[SideMaps | None]:
    """Read sides by their shards and the rows in these, each shard once."""
    sides: list[SideMaps | None] = [None] * len(shards)
    used = np.unique(shards).tolist()
    blobs = store.get_many([shard_name(number) for number in used])
    for number, shard in zip(used, blobs, strict=True):
        for place in np.flatnonzero(shards == number).tolist():
            sides[place] = read_side(shard, int(rows[place]), kinds)
    return sides


def read_side(shard: Arrays, row: int, kinds: tuple[str, ...]) -> SideMaps | None:
    """Read one side from a shard; None if its image could not be read."""
    if np.isnan(shard["score"][row]):
        return None
    chosen = slice(row, row + 1)
    maps = {
        kind: unpack_maps(
            shard[f"{kind}_values"][chosen], shard[f"{kind}_scale"][chosen]
        )[0]
        for kind in kinds
    }
    image = shard["image"][row]
    left, top, right, bottom = (float(v) for v in shard["crop"][image])
    width, height = (int(v) for v in shard["size"][image])
    return SideMaps(
        maps,
        float(shard["score"][row]),
        float(shard["remainder"][row]),
        (left, top, right, bottom),
        (width, height),
    )
