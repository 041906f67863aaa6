"""The stored maps of a pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import shared_range, top_value
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, unpack_maps
from fiftyone_sfam.runs.run_config import PATH_KINDS
from fiftyone_sfam.runs.run_table import shard_name


@dataclass(frozen=True)
class SideMaps:
    """The stored maps of one side of a pair.

    Attributes
    ----------
    maps : dict of str to ndarray
        Signed map per kind that is stored of this pair, in the order of the run's
        kinds, float32, shape (h, w).
    score : float
        Similarity as this side's forward pass gave it.
    remainder : float
        ``score`` minus the sum of the evidence; NaN if that was not computed. What a
        map along a path leaves is ``score`` minus its own sum.
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

    @property
    def shown(self) -> str:
        """The kind that is shown first."""
        return next(iter(self.maps))


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
    wanted: dict[int, tuple[str, int]] = {}  # rows of maps along paths
    used = np.unique(shards).tolist()
    blobs = store.get_many([shard_name(number) for number in used])
    for number, shard in zip(used, blobs, strict=True):
        for place in np.flatnonzero(shards == number).tolist():
            row = int(rows[place])
            sides[place] = read_side(shard, row, kinds)
            path_row = int(shard["path_row"][row]) if "path_row" in shard else -1
            if path_row >= 0:
                wanted[place] = paths_name(number), path_row
    fine = [kind for kind in kinds if kind in PATH_KINDS]
    if not wanted or not fine:
        return sides
    stored = store.get_rows(list(wanted.values()))
    for place, arrays in zip(wanted, stored, strict=True):
        side = sides[place]
        if side is not None:
            maps = side.maps | {kind: path_map(arrays, kind) for kind in fine}
            maps = {kind: maps[kind] for kind in kinds}
            sides[place] = replace(side, maps=maps)
    return sides


def read_side(shard: Arrays, row: int, kinds: tuple[str, ...]) -> SideMaps | None:
    """Read what a shard holds of one side; None if its image could not be read."""
    if np.isnan(shard["score"][row]):
        return None
    chosen = slice(row, row + 1)
    maps = {
        kind: unpack_maps(
            shard[f"{kind}_values"][chosen], shard[f"{kind}_scale"][chosen]
        )[0]
        for kind in kinds
        if kind not in PATH_KINDS
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


def shown_ranges(pairs: Iterable[PairMaps], signed: bool = False) -> dict[str, float]:
    """Return the value that pictures of pairs show at full strength, by kind of map.

    Of each side, the kind that is shown first counts, with its absolute values if they
    are shown signed.
    """
    largest: dict[str, list[float]] = {}
    for pair in pairs:
        for side in (pair.query, pair.gallery):
            if side is not None:
                kind, values = side.shown, side.maps[side.shown]
                values = np.abs(values) if signed else values
                top = top_value(values) if kind in PATH_KINDS else float(values.max())
                largest.setdefault(kind, []).append(top)
    return {kind: shared_range(np.array(tops)) for kind, tops in largest.items()}


def path_map(row: Arrays, kind: str) -> NDArray[np.float32]:
    """Restore a map along a path from its row of a blob."""
    return unpack_maps(row[f"{kind}_values"], row[f"{kind}_scale"])[0]


def paths_name(number: int) -> str:
    """Name the blob of a shard's maps along paths."""
    return f"paths-{number:06d}"
