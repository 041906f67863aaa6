"""A dataset of the pairs of a run: a group per pair, its two images as slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import (
    FRAME_LONG_SIDE,
    LONG_SIDE,
    canvas_size,
    inner_box,
    place,
    to_bytes,
)
from fiftyone_sfam.data.pair_list import NO_FOLD
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.retrieval.pairs import GALLERY, OUTCOMES, QUERY
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.maps import shown_ranges

if TYPE_CHECKING:
    from fiftyone_sfam.runs.maps import PairMaps, SideMaps
    from fiftyone_sfam.runs.run import Run

SLICES = ("query", "neighbor")
"""Names of the slices."""

# Pairs whose maps are in memory at the same time.
_BATCH = 500


def make_pairs_dataset(
    run: Run, selection: Iterable[int] | None = None, name: str | None = None
) -> fo.Dataset:
    """Make the dataset of :meth:`fiftyone_sfam.Run.to_pairs_dataset`."""
    chosen = _chosen(run, selection)
    if name is not None and fo.dataset_exists(name):
        raise RunError(f"a dataset '{name}' exists already; choose another name.")
    ranges = _ranges(run, chosen)
    images = ItemImages(
        run, np.unique(run.pairs.sides().reshape(-1, 2)[chosen]).tolist()
    )
    dataset = fo.Dataset(name)
    try:
        dataset.add_group_field("group", default=SLICES[QUERY])
        for start in range(0, len(chosen), _BATCH):
            pairs = chosen[start : start + _BATCH]
            dataset.add_samples(
                [
                    sample
                    for pair, maps in zip(pairs, run.many_maps(pairs), strict=True)
                    for sample in _group(run, images, pair, maps, ranges)
                ],
                progress=False,
            )
        dataset.info = {"sfam_run": run.key, "sfam_dataset": run.dataset.name}
        dataset.save()
    except BaseException:
        dataset.delete()
        raise
    return dataset


def _chosen(run: Run, selection: Iterable[int] | None) -> list[int]:
    """Return the indices of the selected pairs."""
    if selection is None:
        return list(range(len(run.pairs)))
    chosen: NDArray[Any] = np.asarray(list(selection))
    if chosen.dtype == bool:
        if len(chosen) != len(run.pairs):
            raise RunError(
                f"the selection marks {len(chosen)} pairs, but the run '{run.key}' has "
                f"{len(run.pairs)}."
            )
        chosen = np.flatnonzero(chosen)
    return [int(pair) for pair in chosen]


def _ranges(run: Run, pairs: list[int]) -> dict[str, float]:
    """Return the value that heatmaps show at full strength, by kind of map."""
    starts = range(0, len(pairs), _BATCH)
    return shown_ranges(
        maps
        for start in starts
        for maps in run.many_maps(pairs[start : start + _BATCH])
    )


def _group(
    run: Run, images: ItemImages, pair: int, maps: PairMaps, ranges: dict[str, float]
) -> Iterator[fo.Sample]:
    """Yield the two samples of a pair; none if one of its images was deleted."""
    group = fo.Group()
    items, pairs = run.items, run.pairs
    sides = (
        (QUERY, pairs.query[pair], maps.query),
        (GALLERY, pairs.gallery[pair], maps.gallery),
    )
    try:
        sources = [images.source(item) for _, item, _ in sides]
    except DataError:
        # One of the images was deleted.
        return
    for (side, item, explained), (path, box) in zip(sides, sources, strict=True):
        sample_id = str(items.sample_ids[item])
        sample = fo.Sample(
            filepath=path,
            group=group.element(SLICES[side]),
            pair=pair,
            rank=int(pairs.rank[pair]),
            similarity=float(pairs.similarity[pair]),
            distance=float(pairs.distance[pair]),
            outcome=OUTCOMES[pairs.outcome[pair]],
            identity=items.identities[item],
            camera=items.cameras[item],
            source_id=sample_id,
        )
        if run.given is not None:
            listed, row = run.given.listed, int(run.given.row[pair])
            score, fold = float(listed.score[row]), int(listed.fold[row])
            sample["list_row"] = row
            sample["list_fold"] = None if fold == NO_FOLD else fold
            sample["list_score"] = None if math.isnan(score) else score
        if items.label_ids is not None:
            sample["source_label_id"] = str(items.label_ids[item])
            sample["detection"] = fo.Detection(
                label=items.identities[item], bounding_box=box
            )
        if explained is not None:
            sample["heatmap"] = fo.Heatmap(
                map=_canvas(explained, box, ranges[explained.shown]), range=[0, 255]
            )
            if run.config.path_kinds:
                sample["map_kind"] = explained.shown
        yield sample


def _canvas(side: SideMaps, box: list[float] | None, full: float) -> NDArray[np.uint8]:
    """Draw the map of a side on a canvas of its image."""
    values = side.maps[side.shown]
    width, height = side.size
    if box is None:
        canvas = np.zeros(canvas_size(width, height, LONG_SIDE), dtype=np.float32)
        place(canvas, values, side.crop)
    else:
        canvas = np.zeros(canvas_size(width, height, FRAME_LONG_SIDE), dtype=np.float32)
        place(canvas, values, inner_box(box, side.crop))
    return to_bytes(canvas, full)
