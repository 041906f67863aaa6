"""Read the embeddings of a run from an array, a field or a similarity index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.data.items import Items, values_by_id
from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the items of a run."""

    vectors: NDArray[np.float32]  # shape (N, D)
    usable: NDArray[np.bool_]  # whether each item has an embedding, shape (N,)
    skipped: tuple[Skipped, ...]  # the items without one

    def take(self, chosen: NDArray[np.integer]) -> Embeddings:
        """Return the embeddings of some items."""
        place = {int(index): at for at, index in enumerate(chosen)}
        skipped = (
            replace(image, index=place[image.index])
            for image in self.skipped
            if image.index in place
        )
        return Embeddings(self.vectors[chosen], self.usable[chosen], tuple(skipped))


def stored_embeddings(
    samples: SampleCollection,
    items: Items,
    source: str | NDArray[np.floating],
    patches_field: str | None,
) -> Embeddings:
    """Read existing embeddings."""
    if not isinstance(source, str):
        rows = _rows_of_array(source, items)
        where = "the given array"
    elif source in samples._dataset.list_brain_runs():
        rows = _rows_of_index(samples, items, source, patches_field)
        where = f"the similarity index '{source}'"
    else:
        rows = _rows_of_field(samples, items, source, patches_field)
        where = f"the field '{source}'"
    return _stacked(rows, items, where)


def check_usable(vectors: NDArray[np.floating]) -> list[str | None]:
    """Return for each embedding why it cannot be used, or None."""
    reasons: list[str | None] = [None] * len(vectors)
    for row in np.flatnonzero(~np.any(vectors, axis=1)):
        reasons[row] = "its embedding is zero."
    for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
        reasons[row] = "its embedding holds NaN or infinity."
    return reasons


def check_index_key(samples: SampleCollection, brain_key: str) -> None:
    """Raise if an index cannot be saved under a brain key."""
    if not isinstance(brain_key, str) or not brain_key.isidentifier():
        raise DataError(
            f"the brain key {brain_key!r} cannot be used; give a name of letters, "
            "digits and underscores."
        )
    if brain_key in samples._dataset.list_brain_runs():
        raise DataError(
            f"the brain key '{brain_key}' is in use; choose another for the "
            "embeddings that are to be kept."
        )


def keep_as_index(
    samples: SampleCollection,
    items: Items,
    embeddings: Embeddings,
    metric: str,
    brain_key: str,
    patches_field: str | None,
) -> None:
    """Save embeddings as a similarity index of FiftyOne's built-in backend."""
    check_index_key(samples, brain_key)
    index = fob.compute_similarity(
        samples,
        embeddings=False,
        brain_key=brain_key,
        backend="sklearn",
        metric=metric,
        patches_field=patches_field,
    )
    chosen = np.flatnonzero(embeddings.usable)
    index.add_to_index(
        embeddings.vectors[chosen],
        [items.sample_ids[i] for i in chosen],
        None if items.label_ids is None else [items.label_ids[i] for i in chosen],
    )
    index.save()


def _rows_of_array(source: Any, items: Items) -> list[Any]:
    """Return the rows of an array."""
    try:
        array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the embeddings are not an array of numbers ({first_line(error)}); give "
            f"one of shape ({len(items)}, embedding size)."
        ) from error
    if array.ndim != 2 or len(array) != len(items):
        raise DataError(
            f"the embeddings have shape {array.shape}; one row for each of the "
            f"{len(items)} images is needed."
        )
    return list(array)


def _rows_of_field(
    samples: SampleCollection, items: Items, field: str, patches_field: str | None
) -> list[Any]:
    """Read the vectors of a field of the samples or of the detections."""
    path, prefix, listed = field, "", False
    if patches_field is not None:
        listed = samples.get_field(patches_field).document_type is fo.Detections
        prefix = f"{patches_field}.detections." if listed else f"{patches_field}."
        path = prefix + field
    if samples.get_field(path) is None and not _has_values(samples, prefix, path):
        keys = samples._dataset.list_brain_runs()
        known = ", ".join(f"'{key}'" for key in keys) or "none"
        raise DataError(
            f"'{samples._dataset.name}' has neither a field '{path}' nor a similarity "
            f"index '{field}' to take embeddings from (its brain keys: {known})."
        )
    ids = dict.fromkeys(items.sample_ids)
    values = values_by_id(samples, ids, path)
    if not prefix:
        return values
    present = values_by_id(samples, ids, prefix + "id")
    if not listed:
        pairs = zip(values, present, strict=True)
        return [vector for vector, label_id in pairs if label_id is not None]
    return [
        vector
        for row, label_ids in zip(values, present, strict=True)
        for vector in (row or [None] * len(label_ids or []))
    ]


def _has_values(samples: SampleCollection, prefix: str, path: str) -> bool:
    """Return whether detections have an attribute that the schema does not list."""
    return bool(prefix) and any(
        value is not None
        for row in samples.values(path)
        for value in (row if isinstance(row, list) else [row])
    )


def _rows_of_index(
    samples: SampleCollection, items: Items, key: str, patches_field: str | None
) -> list[Any]:
    """Read the vectors of a similarity index."""
    index = load_index(samples, key, patches_field)
    vectors, sample_ids, label_ids = index.get_embeddings()
    ids = sample_ids if label_ids is None else label_ids
    row_of = {str(item_id): row for row, item_id in enumerate(ids)}
    rows = [vectors[row_of[i]] if i in row_of else None for i in items.ids]
    if all(row is None for row in rows):
        raise DataError(
            f"the similarity index '{key}' holds none of these images; give an index "
            "of this dataset or view."
        )
    return rows


def load_index(
    samples: SampleCollection, key: str, patches_field: str | None
) -> fob.SimilarityIndex:
    """Load a similarity index of any backend, with its stored embeddings."""
    # A query changes the embeddings of FiftyOne's built-in index in place, so a cached
    # index may hold centered vectors.
    index = samples._dataset.load_brain_results(key, cache=False)
    if not isinstance(index, fob.SimilarityIndex):
        raise DataError(
            f"the brain run '{key}' is not a similarity index; give the key of one "
            "that compute_similarity made."
        )
    if index.config.patches_field != patches_field:
        made_for = index.config.patches_field or "whole images"
        raise DataError(
            f"the similarity index '{key}' was made for '{made_for}', but this run "
            f"compares '{patches_field or 'whole images'}'."
        )
    return index


def _stacked(rows: list[Any], items: Items, where: str) -> Embeddings:
    """Stack vectors of one length; skip the items that have none."""
    try:
        vectors = [None if row is None else _as_vector(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where} does not hold vectors of numbers ({error}); give embeddings."
        ) from error
    shapes = {vector.shape for vector in vectors if vector is not None}
    if not shapes:
        raise DataError(f"{where} holds no embeddings of these images.")
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise DataError(
            f"{where} holds embeddings of shapes "
            f"{', '.join(str(shape) for shape in sorted(shapes))}; all must be vectors "
            "of one length."
        )
    stacked = np.zeros((len(items), next(iter(shapes))[0]), dtype=np.float32)
    for row, vector in enumerate(vectors):
        if vector is not None:
            stacked[row] = vector
    reasons = [
        f"it has no embedding in {where}." if vector is None else reason
        for vector, reason in zip(vectors, check_usable(stacked), strict=True)
    ]
    usable = np.array([reason is None for reason in reasons], dtype=bool)
    stacked[~usable] = 0
    return Embeddings(
        stacked,
        usable,
        tuple(
            Skipped(row, items.ids[row], items.filepaths[row], reason)
            for row, reason in enumerate(reasons)
            if reason is not None
        ),
    )


def _as_vector(row: Any) -> NDArray[np.float32]:
    """Return a row as float32; values out of its range become infinite."""
    vector = np.asarray(row)
    if vector.dtype.kind not in "fiubO":
        raise TypeError(f"they are of type {vector.dtype}")
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)
