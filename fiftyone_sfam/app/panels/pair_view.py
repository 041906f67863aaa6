"""What the panel of pairs shows of one query: texts and pictures, without the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.images import pixel_box, read_image
from fiftyone_sfam.items import all_samples
from fiftyone_sfam.records import OUTCOMES, TRUE_MATCH
from fiftyone_sfam.render import data_url, fitted, overlay, shared_limit
from fiftyone_sfam.runs import PairMaps, Run, SideMaps

CONTRAST = "contrast"
"""Kind of map made of two stored ones: what speaks for the true match (positive) and
what for the neighbor."""

LARGE_BOX = (300, 420)
SMALL_BOX = (96, 128)
"""Largest width and height of a picture, in pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture of the panel.

    Attributes
    ----------
    url : str
        The image with its map, as a ``data:`` URL; empty where there is none.
    width, height : int
        Size in pixels.
    problem : str or None
        Why there is no image or no map.
    """

    url: str
    width: int
    height: int
    problem: str | None


@dataclass(frozen=True)
class NeighborView:
    """One neighbor of the query.

    Attributes
    ----------
    pair : int
        Index of the pair in the run.
    rank : int
        Rank, from 1.
    similarity, distance : float
        Of the pair.
    outcome : str
        One of :data:`fiftyone_sfam.records.OUTCOMES`.
    identity : str or None
        Its label.
    sample_id : str
        Its sample.
    thumbnail : Picture
        Its image with its side's map.
    """

    pair: int
    rank: int
    similarity: float
    distance: float
    outcome: str
    identity: str | None
    sample_id: str
    thumbnail: Picture


@dataclass(frozen=True)
class Share:
    """A part of a similarity, as the receipt lists it.

    Attributes
    ----------
    name : str
        Region of the image, or what no region carries.
    value : float
        In units of the similarity.
    area : float
        Share of the map's area, 0 for what no region carries.
    """

    name: str
    value: float
    area: float


@dataclass(frozen=True)
class QueryView:
    """One query with its neighbors, one of them chosen.

    Attributes
    ----------
    sample_id : str
        The query's sample.
    identity : str or None
        Its label.
    query, neighbor : Picture
        The two images of the chosen pair, each with its side's map.
    neighbors : tuple of NeighborView
        All pairs of the query, nearest first; a last one of a rank above k is the
        nearest true match.
    chosen : int
        Index into ``neighbors``.
    limit : float
        Value of the maps that is shown at full strength: one for all pairs of the
        query.
    query_remainder, neighbor_remainder : float
        What the evidence maps of the chosen pair cannot carry; NaN where there is no
        map.
    receipt : tuple of Share
        The chosen pair's similarity by thirds of the query, and the remainder; empty
        where the run stores no evidence of it.
    margin : float or None
        Similarity of the nearest true match minus that of the chosen neighbor; None
        where either is missing.
    """

    sample_id: str
    identity: str | None
    query: Picture
    neighbor: Picture
    neighbors: tuple[NeighborView, ...]
    chosen: int
    limit: float
    query_remainder: float
    neighbor_remainder: float
    receipt: tuple[Share, ...]
    margin: float | None


def kinds_of(run: Run) -> tuple[str, ...]:
    """Return the kinds of map that can be shown of a run."""
    labeled = any(identity is not None for identity in run.items.identities)
    derived = (CONTRAST,) if labeled and "evidence" in run.config.kinds else ()
    return run.config.kinds + derived


def queries_of(run: Run) -> NDArray[np.int64]:
    """Return the items that are queries, in the order of the run."""
    return np.unique(run.pairs.query).astype(np.int64)


def view_query(
    run: Run,
    item: int,
    chosen: int,
    kind: str,
    opacity: float = 0.6,
    *,
    signed: bool = False,
    colors: str | None = None,
) -> QueryView:
    """Draw one query of a run beside its neighbors.

    Parameters
    ----------
    run : Run
        The run.
    item : int
        The query, an index into the run's items.
    chosen : int
        Which of its pairs is shown large; bounded to those that there are.
    kind : str
        Kind of map, one of :func:`kinds_of`.
    opacity : float
        Of the maps, from 0 to 1.
    signed : bool
        Show negative values too; a contrast is always signed.
    colors : str, optional
        Color map, see :mod:`fiftyone_sfam.render`; by default the first that fits.

    Returns
    -------
    QueryView
        What to show.

    Raises
    ------
    DataError
        If the run has no such query or no maps of this kind.
    """
    if kind not in kinds_of(run):
        raise DataError(
            f"the run '{run.key}' has no '{kind}' maps; choose one of "
            f"{', '.join(kinds_of(run))}."
        )
    pairs = run.pairs.of_query(item)
    if len(pairs) == 0:
        raise DataError("this image is no query of the run.")
    chosen = min(max(chosen, 0), len(pairs) - 1)
    maps = run.many_maps(pairs)
    true = _nearest_true(run, pairs)
    if kind == CONTRAST and true is None:
        raise DataError(
            "this query has no true match to contrast its neighbors with; choose "
            "another map."
        )
    sides = [_sides(one, kind, maps[true or 0]) for one in maps]
    signed = signed or kind == CONTRAST
    shown = [side for pair in sides for side in pair if side is not None]
    limit = shared_limit(shown if signed else [np.maximum(one, 0) for one in shown])
    images = _Images(run, [item, *(int(other) for other in run.pairs.gallery[pairs])])
    style = _Style(limit, opacity, signed, colors)
    other = int(run.pairs.gallery[pairs[chosen]])
    return QueryView(
        str(run.items.sample_ids[item]),
        run.items.identities[item],
        images.picture(item, maps[chosen].query, sides[chosen][0], style, LARGE_BOX),
        images.picture(other, maps[chosen].gallery, sides[chosen][1], style, LARGE_BOX),
        tuple(
            _neighbor(run, images, int(pair), one.gallery, side[1], style)
            for pair, one, side in zip(pairs, maps, sides, strict=True)
        ),
        chosen,
        limit,
        _remainder(maps[chosen].query),
        _remainder(maps[chosen].gallery),
        _receipt(maps[chosen].query),
        None
        if true is None
        else float(
            run.pairs.similarity[pairs[true]] - run.pairs.similarity[pairs[chosen]]
        ),
    )


@dataclass(frozen=True)
class _Style:
    """How maps are drawn: the same for all pictures of a query."""

    limit: float
    opacity: float
    signed: bool
    colors: str | None


def _nearest_true(run: Run, pairs: NDArray[np.int64]) -> int | None:
    """Return the place of the nearest true match among a query's pairs."""
    true = np.flatnonzero(run.pairs.outcome[pairs] == TRUE_MATCH)
    return int(true[0]) if len(true) else None


def _sides(
    maps: PairMaps, kind: str, true: PairMaps
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return the maps of a pair's two sides; None where an image has none."""
    if kind != CONTRAST:
        one, other = (
            None if side is None else side.maps[kind]
            for side in (maps.query, maps.gallery)
        )
        return one, other
    if maps.query is None or true.query is None:
        return None, None
    contrast = true.query.maps["evidence"] - maps.query.maps["evidence"]
    if maps.gallery is None:
        return contrast, None
    # On the neighbor, what makes it similar speaks against the true match; on the true
    # match itself it speaks for it.
    sign = 1 if maps is true else -1
    return contrast, sign * maps.gallery.maps["evidence"]


def _receipt(side: SideMaps | None) -> tuple[Share, ...]:
    """Split a side's similarity into thirds of the image and the remainder."""
    if side is None or "evidence" not in side.maps:
        return ()
    evidence = side.maps["evidence"]
    rows = np.array_split(np.arange(len(evidence)), 3)
    names = ("upper third", "middle third", "lower third")
    shares = [
        Share(name, float(evidence[part].sum()), len(part) / len(evidence))
        for name, part in zip(names, rows, strict=True)
        if len(part)
    ]
    total = sum(share.value for share in shares)
    # What the stored bits do not add up to belongs to the remainder as well.
    return (*shares, Share("not on the map", side.score - total, 0.0))


class _Images:
    """The images of some items of a run, read once each."""

    def __init__(self, run: Run, items: Sequence[int]) -> None:
        self._run = run
        sample_ids = list({str(run.items.sample_ids[item]) for item in items})
        view = all_samples(run.dataset).select(sample_ids)
        self._paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
        self._boxes = _boxes(run, view)
        self._read: dict[int, Image.Image | str] = {}

    def picture(
        self,
        item: int,
        side: SideMaps | None,
        values: NDArray[np.float32] | None,
        style: _Style,
        box: tuple[int, int],
    ) -> Picture:
        """Draw an item with its map; without one, or without image, say why."""
        image = self._image(item)
        if isinstance(image, str):
            return Picture("", *box, image)
        small = fitted(image, *box)
        problem = None
        if side is None or values is None:
            problem = self._reason(item)
        else:
            small = overlay(
                small,
                values,
                style.limit,
                signed=style.signed,
                colors=style.colors,
                opacity=style.opacity,
                crop=side.crop,
            )
        return Picture(data_url(small), small.width, small.height, problem)

    def _image(self, item: int) -> Image.Image | str:
        """Read an item's image, or say why it cannot be read."""
        if item not in self._read:
            try:
                self._read[item] = self._open(item)
            except DataError as error:
                self._read[item] = str(error)
        return self._read[item]

    def _open(self, item: int) -> Image.Image:
        items = self._run.items
        path = self._paths.get(str(items.sample_ids[item]))
        if path is None:
            raise DataError("the sample was deleted.")
        image = read_image(path)
        if items.label_ids is None:
            return image
        box = self._boxes.get(str(items.label_ids[item]))
        if box is None:
            raise DataError("the detection was deleted.")
        return image.crop(pixel_box(box, *image.size))

    def _reason(self, item: int) -> str:
        for one in self._run.skipped:
            if one.index == item:
                return one.reason
        return "there is no map of this image."


def _boxes(run: Run, view: fo.DatasetView) -> dict[str, list[float]]:
    """Read the boxes of the detections of some samples by their ids."""
    patches_field = run.config.patches_field
    if patches_field is None:
        return {}
    document = run.dataset.get_field(patches_field).document_type
    prefix = patches_field + (".detections[]" if document is fo.Detections else "")
    ids, boxes = view.values([f"{prefix}.id", f"{prefix}.bounding_box"])
    return dict(zip(ids, boxes, strict=True))


def _neighbor(
    run: Run,
    images: _Images,
    pair: int,
    side: SideMaps | None,
    values: NDArray[np.float32] | None,
    style: _Style,
) -> NeighborView:
    """Describe one neighbor."""
    pairs, other = run.pairs, int(run.pairs.gallery[pair])
    return NeighborView(
        pair,
        int(pairs.rank[pair]),
        float(pairs.similarity[pair]),
        float(pairs.distance[pair]),
        OUTCOMES[pairs.outcome[pair]],
        run.items.identities[other],
        str(run.items.sample_ids[other]),
        images.picture(other, side, values, style, SMALL_BOX),
    )


def _remainder(side: SideMaps | None) -> float:
    return float("nan") if side is None else side.remainder
