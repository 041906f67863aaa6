"""Compute the position contributions that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.contributions import (
    CONTRIBUTION_TYPES,
    Contributions,
    leading_directions,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.contributions import (
    BASIS,
    KeptImage,
    pack_image,
    unpack_image,
)


def check_contributions(contributions: str | None, dims: int | None) -> None:
    """Raise if contributions cannot be stored in this way."""
    if contributions is not None and contributions not in CONTRIBUTION_TYPES:
        raise DataError(
            f"unknown contributions {contributions!r}; use one of "
            f"{', '.join(CONTRIBUTION_TYPES)}, or None to store none."
        )
    if dims is None:
        return
    if contributions is None:
        raise DataError(
            f"contribution_dims is {dims!r}, but no contributions are stored; give "
            "contributions='int8' too."
        )
    if not isinstance(dims, (int, np.integer)) or dims < 1:
        raise DataError(
            f"contribution_dims is {dims!r}; a whole number from 1 is needed."
        )


def keep_basis(
    store: BlobStore, embeddings: Embeddings, dims: int | None
) -> NDArray[np.float32] | None:
    """Store the directions that contributions are projected to, and return them.

    They are read if an interrupted run has stored them.
    """
    if dims is None or dims >= embeddings.vectors.shape[1]:
        return None
    if BASIS not in store.names():
        usable = embeddings.vectors[embeddings.usable]
        store.put(BASIS, {"directions": leading_directions(usable, dims)})
    return store.get(BASIS)["directions"]


def kept_rows(
    head: LinearizedHead,
    row_of: NDArray[np.int64],
    shard: Arrays,
    dtype: str,
    basis: NDArray[np.float32] | None,
) -> list[Arrays]:
    """Return what is stored of the images of a shard; nothing of unusable ones.

    ``row_of`` has the row of each image in the head, or -1.
    """
    rows: list[Arrays] = [{} for _ in row_of]
    if (row_of < 0).all():
        return rows
    directions = None if basis is None else torch.tensor(basis)
    values = head.position_contributions(directions).cpu().numpy()
    embeddings = head.embedding.float().cpu().numpy()
    shape = tuple(head.feature_map.shape[2:])
    for place in np.flatnonzero(row_of >= 0).tolist():
        of_image, embedding = values[row_of[place]], embeddings[row_of[place]]
        if not np.isfinite(of_image).all():
            continue
        whole = embedding if basis is None else basis @ embedding
        contributions = Contributions(
            of_image.reshape(*shape, -1), whole - of_image.sum(0), embedding, basis
        )
        crop, size = (tuple(shard[name][place].tolist()) for name in ("crop", "size"))
        rows[place] = pack_image(KeptImage(contributions, crop, size), dtype)
    return rows


def add_agreement(
    shard: Arrays,
    rows: Sequence[Arrays],
    basis: NDArray[np.float32] | None,
    sides: NDArray[np.int64],
    partners: NDArray[np.float32],
    evidence: NDArray[np.float32],
) -> None:
    """Correlate evidence from stored contributions with the maps of some sides.

    Parameters
    ----------
    sides : ndarray of int64
        Rows of the sides in the shard, shape (S,).
    partners : ndarray of float32
        Embedding of each side's partner, shape (S, D).
    evidence : ndarray of float32
        Evidence of each side, shape (S, h, w).
    """
    image = shard["image"][sides]
    for place in np.unique(image).tolist():
        if not rows[place]:
            continue
        chosen = np.flatnonzero(image == place)
        stored = unpack_image(rows[place], basis).contributions
        vectors = partners[chosen]
        vectors = vectors if basis is None else vectors @ basis.T
        maps = vectors @ stored.values.reshape(-1, stored.values.shape[-1]).T
        live = evidence[chosen].reshape(len(chosen), -1)
        shard["agreement"][sides[chosen]] = correlations(maps, live)


def correlations(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Correlate maps row by row; NaN where a map is constant."""
    ends = [
        values.astype(np.float64) - values.mean(1, keepdims=True, dtype=np.float64)
        for values in (first, second)
    ]
    products = (ends[0] * ends[1]).sum(1)
    lengths = np.linalg.norm(ends[0], axis=1) * np.linalg.norm(ends[1], axis=1)
    result = np.full(len(products), np.nan, dtype=np.float32)
    np.divide(products, lengths, out=result, where=lengths > 0, casting="same_kind")
    return result


def row_bytes(rows: Sequence[Arrays]) -> NDArray[np.int64]:
    """Return the bytes of each stored row; 0 for images without contributions."""
    return np.array(
        [sum(array.nbytes for array in row.values()) for row in rows], dtype=np.int64
    )


def agreement_of(values: Sequence[NDArray[np.float32]]) -> tuple[float, float] | None:
    """Return the least and the median of correlations; None if there are none."""
    every = np.concatenate([np.zeros(0, dtype=np.float32), *values])
    known = every[~np.isnan(every)].astype(np.float64)
    return (float(known.min()), float(np.median(known))) if len(known) else None
