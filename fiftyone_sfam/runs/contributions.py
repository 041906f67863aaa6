"""The position contributions that a run keeps, and the pairs that they explain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution import contributions as maps_of
from fiftyone_sfam.attribution.contributions import (
    ContributionMap,
    Contributions,
    pack_contributions,
    unpack_contributions,
)
from fiftyone_sfam.attribution.template_vectors import template_vectors
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.run_table import contributions_name

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.maps import Side
    from fiftyone_sfam.network.metric import Metric
    from fiftyone_sfam.runs.blobs import Arrays
    from fiftyone_sfam.runs.run import Run

BASIS = "basis"
"""Blob of the directions that contributions are projected to."""


@dataclass(frozen=True)
class KeptImage:
    """What a run keeps of an image."""

    contributions: Contributions
    crop: tuple[float, float, float, float]  # of the image, what the network saw
    size: tuple[int, int]  # width and height of the whole image, in pixels


@dataclass(frozen=True)
class StoredSide(ContributionMap):
    """One image's side of a pair, explained from stored contributions.

    Attributes
    ----------
    crop : tuple of float
        Relative left, top, right and bottom of what the network saw of the image (or
        of the detection's crop).
    size : tuple of int
        Width and height of the whole image, in pixels.
    """

    crop: tuple[float, float, float, float]
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class StoredPair(NotebookResult):
    """Where the similarity of two images comes from, without their network.

    Returned by :meth:`fiftyone_sfam.Run.explain_stored`.

    Attributes
    ----------
    score : float
        Similarity, in [-1, 1].
    query, gallery : StoredSide
        The two sides; their ``evidence`` and ``remainder`` add up to the score, up to
        the ``error`` of storing the contributions in fewer bytes.
    contrast : StoredSide, optional
        The query's side, with the margin between the gallery image and an impostor as
        its ``score``. Positive evidence speaks for the gallery image.
    metric, layer : str
        Metric, and name of the layer of the maps.
    """

    score: float
    query: StoredSide
    gallery: StoredSide
    contrast: StoredSide | None
    metric: Metric
    layer: str
    _images: tuple[KeptImage, KeptImage] = field(repr=False)
    # The run and its two images, which a notebook reads.
    _of: tuple[Run, tuple[int, int]] | None = field(default=None, repr=False)

    @property
    def embeddings(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of the query and the gallery image, shape (D,) each."""
        query, gallery = (kept.contributions.embedding for kept in self._images)
        return query, gallery

    def contributions(self) -> tuple[Contributions, Contributions]:
        """Return what each place of either image adds to its embedding.

        Returns
        -------
        tuple of Contributions
            Those of the query and of the gallery image.
        """
        query, gallery = self._images
        return query.contributions, gallery.contributions

    def point(self, row: int, column: int, side: Side = "query") -> NDArray[np.float32]:
        """Map which places of the other image a place of one image is matched with.

        Parameters
        ----------
        row, column : int
            Place in the map of the image on ``side``.
        side : {"query", "gallery"}
            The image of the place.

        Returns
        -------
        ndarray of float32
            Map of the other image, shape (h, w).

        Raises
        ------
        ValueError
            If the place lies outside the map, or the side is unknown.
        """
        if side not in ("query", "gallery"):
            raise ValueError(f"unknown side {side!r}; use one of query, gallery.")
        image, other = (kept.contributions for kept in self._images)
        if side == "gallery":
            image, other = other, image
        return maps_of.point(image, (row, column), other, self.metric)

    def points(self) -> NDArray[np.float32]:
        """Compute how much each pair of places contributes to the similarity.

        Returns
        -------
        ndarray of float32
            Shape (h, w, h', w').
        """
        query, gallery = (kept.contributions for kept in self._images)
        return maps_of.points(query, gallery, self.metric)

    def difference(self) -> tuple[StoredSide, StoredSide]:
        """Explain the squared distance of the two images.

        Returns
        -------
        tuple of StoredSide
            The query's side and the gallery image's. The score of the first minus that
            of the second is the squared distance: for the cosine that of the unit
            vectors, for the euclidean similarity that of the embeddings, divided by
            the normalizer of the pair.
        """
        query, gallery = self._images
        sides = maps_of.difference(
            query.contributions, gallery.contributions, self.metric
        )
        return _side(sides[0], query), _side(sides[1], gallery)

    def decision(self, threshold: float) -> tuple[StoredSide, StoredSide]:
        """Explain why the pair is accepted or rejected at a threshold.

        Parameters
        ----------
        threshold : float
            Similarity from which pairs are accepted.

        Returns
        -------
        tuple of StoredSide
            Both sides, with the similarity minus the threshold as their score. Positive
            evidence speaks for acceptance.
        """
        query, gallery = self._images
        first, second = (
            maps_of.decision(
                image.contributions, other.contributions, threshold, self.metric
            )
            for image, other in ((query, gallery), (gallery, query))
        )
        return _side(first, query), _side(second, gallery)


@dataclass(frozen=True, kw_only=True)
class StoredTemplate:
    """Where the similarity of two sets of images comes from, without their network.

    Returned by :meth:`fiftyone_sfam.Run.explain_template`.

    Attributes
    ----------
    score : float
        Similarity of the probe and the template, in [-1, 1].
    distance : float
        The metric's distance of the two.
    probe, members : tuple of StoredSide
        The n images of the probe and the m of the template, each with its share of the
        similarity as its ``score``; the shares of each side add up to the similarity.
    shares : ndarray of float64
        Share of each image of the probe with each member, shape (n, m).
    metric, layer : str
        Metric, and name of the layer of the maps.
    """

    score: float
    distance: float
    probe: tuple[StoredSide, ...]
    members: tuple[StoredSide, ...]
    shares: NDArray[np.float64]
    metric: Metric
    layer: str


def stored_template(
    run: Run,
    probe_ids: str | Sequence[str],
    member_ids: Sequence[str],
    normalize_members: bool,
) -> StoredTemplate:
    """Explain two sets of images of a run."""
    ids = [probe_ids] if isinstance(probe_ids, str) else list(probe_ids)
    if isinstance(member_ids, str) or not ids or not len(member_ids):
        raise RunError(
            f"the ids of the template are {member_ids!r} and of the probe {ids!r}; "
            "give a list with at least one id each."
        )
    images = read_images(run, [*ids, *member_ids])
    probe, members = images[: len(ids)], images[len(ids) :]
    first, second = (
        np.stack([image.contributions.embedding for image in side])
        for side in (probe, members)
    )
    metric = run.config.metric
    vectors = template_vectors(first, second, metric, normalize_members)
    sides = [
        tuple(
            _side(maps_of.toward(image.contributions, vector), image)
            for image, vector in zip(side, toward, strict=True)
        )
        for side, toward in ((probe, vectors.probe), (members, vectors.gallery))
    ]
    return StoredTemplate(
        score=vectors.score,
        distance=vectors.distance,
        probe=sides[0],
        members=sides[1],
        shares=vectors.shares,
        metric=metric,
        layer=run.config.layer,
    )


def stored_pair_of(
    run: Run, query_id: str, gallery_id: str, impostor_id: str | None
) -> StoredPair:
    """Explain two images of a run, which the pair knows by name."""
    more = [] if impostor_id is None else [impostor_id]
    pair = stored_pair(read_images(run, [query_id, gallery_id, *more]), run)
    ends = run.items.index(query_id), run.items.index(gallery_id)
    return replace(pair, _of=(run, ends))


def stored_pair(images: Sequence[KeptImage], run: Run) -> StoredPair:
    """Explain the first two images of a run; the third is an impostor."""
    metric = run.config.metric
    query, gallery, *impostors = images
    first, second = (
        _side(maps_of.evidence(image.contributions, other.contributions, metric), image)
        for image, other in ((query, gallery), (gallery, query))
    )
    contrast = None
    for impostor in impostors:
        margin = maps_of.contrast(
            query.contributions,
            gallery.contributions,
            impostor.contributions,
            metric,
        )
        contrast = _side(margin, query)
    return StoredPair(
        score=first.score,
        query=first,
        gallery=second,
        contrast=contrast,
        metric=metric,
        layer=run.config.layer,
        _images=(query, gallery),
    )


def _side(explained: ContributionMap, image: KeptImage) -> StoredSide:
    return StoredSide(**vars(explained), crop=image.crop, size=image.size)


# --------------------------------------------------------------------------------------
# Rows of a blob
# --------------------------------------------------------------------------------------


def pack_image(kept: KeptImage, dtype: str) -> Arrays:
    """Turn what is kept of an image into a row of arrays."""
    values, scale = pack_contributions(kept.contributions.values, dtype)
    remainder, remainder_scale = pack_contributions(
        kept.contributions.remainder, "float16"
    )
    return {
        "values": values,
        "scale": scale,
        "remainder": remainder,
        "remainder_scale": np.asarray(remainder_scale),
        "embedding": kept.contributions.embedding,
        "crop": np.array(kept.crop, dtype=np.float32),
        "size": np.array(kept.size, dtype=np.int32),
    }


def unpack_image(row: Arrays, basis: NDArray[np.float32] | None) -> KeptImage:
    """Restore what is kept of an image from :func:`pack_image`."""
    left, top, right, bottom = row["crop"].tolist()
    width, height = row["size"].tolist()
    return KeptImage(
        Contributions(
            unpack_contributions(row["values"], row["scale"]),
            unpack_contributions(row["remainder"], row["remainder_scale"]),
            row["embedding"],
            basis,
        ),
        (left, top, right, bottom),
        (width, height),
    )


def read_images(run: Run, ids: Sequence[str]) -> list[KeptImage]:
    """Read what a run keeps of some images, with one query to the database."""
    items = run.items
    if run.config.contributions is None or items.places is None:
        raise RunError(
            f"the run '{run.key}' has no stored contributions; run explain_retrieval "
            "again with contributions='int8' and overwrite=True."
        )
    places: list[tuple[str, int]] = []
    for item_id in ids:
        index = items.index(item_id)
        shard, row = (-1, -1) if index < 0 else items.places[index].tolist()
        if shard < 0:
            raise RunError(_missing(run, item_id, index))
        places.append((contributions_name(shard), row))
    rows = run.store.get_rows(places)
    for item_id, stored in zip(ids, rows, strict=True):
        if not stored:
            raise RunError(_missing(run, item_id, items.index(item_id)))
    return [unpack_image(stored, run.contribution_basis) for stored in rows]


def find_images(run: Run, items: Iterable[int]) -> dict[int, KeptImage]:
    """Read what a run keeps of some items; of others it keeps nothing."""
    places = run.items.places
    if run.config.contributions is None or places is None:
        return {}
    wanted = [item for item in dict.fromkeys(items) if places[item, 0] >= 0]
    if not wanted:
        return {}
    rows = run.store.get_rows(
        [(contributions_name(shard), row) for shard, row in places[wanted].tolist()]
    )
    basis = run.contribution_basis
    return {
        item: unpack_image(row, basis)
        for item, row in zip(wanted, rows, strict=True)
        if row
    }


def _missing(run: Run, item_id: str, index: int) -> str:
    """Say why there are no contributions of an image."""
    kind = "image" if run.items.label_ids is None else "detection"
    if index < 0:
        return (
            f"the run '{run.key}' has no {kind} {item_id!r}; give the id of one of its "
            f"{len(run.items)} {kind}s."
        )
    reasons = {skipped.index: skipped.reason for skipped in run.skipped}
    reason = reasons.get(index, "the protocol leaves it out.")
    return f"the run '{run.key}' explains nothing of the {kind} {item_id!r}: {reason}"
