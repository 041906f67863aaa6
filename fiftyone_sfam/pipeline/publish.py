"""Write the fields of a run from its stored maps.

The fields depend only on what is stored, so an interrupted publication can be repeated
with the same result. Each shard is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId
from numpy.typing import NDArray
from pymongo import UpdateOne

from fiftyone_sfam.attribution.render import (
    FRAME_LONG_SIDE,
    LONG_SIDE,
    canvas_size,
    heatmap_document,
    inner_box,
    place,
    to_bytes,
)
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.pipeline.shards import heatmap_rows
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.app_config import show_fields
from fiftyone_sfam.runs.blobs import unpack_maps
from fiftyone_sfam.runs.map_check import heatmap_description
from fiftyone_sfam.runs.maps import path_map, paths_name
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import (
    PATH_KINDS,
    FieldOptions,
    add_fields,
    delete_fields,
    field_paths,
    fields_lock,
)
from fiftyone_sfam.runs.run_table import shard_name

# Samples per bulk write.
_WRITE_BATCH = 1000


def publish_fields(run: Run, full: float) -> None:
    """Write the heatmaps, scores, outcomes and neighbors of the queries.

    ``full`` is the value that heatmaps show at full strength.
    """
    patches_field = run.config.patches_field
    for field in {patches_field, *(field for _, field in run.config.replaces)}:
        delete_fields(run.dataset, field_paths(run.dataset, run.key, field))
    add_fields(run.dataset, _fields(run))
    with fields_lock(run.dataset):
        show_fields(
            run.dataset, run.key, field_paths(run.dataset, run.key, patches_field)
        )
    if patches_field is None:
        _write(run, _sample_values(run, full))
    else:
        _write(run, _frame_values(run, patches_field, full))
        _write_patch_labels(run, patches_field)


def _fields(run: Run) -> Mapping[str, FieldOptions]:
    """Describe the fields of a run."""
    patches_field = run.config.patches_field
    heatmap, score, outcome, *more = field_paths(run.dataset, run.key, patches_field)
    label, text = fo.EmbeddedDocumentField, fo.StringField
    fields: dict[str, dict[str, Any]] = {
        heatmap: {
            "ftype": label,
            "embedded_doc_type": fo.Heatmap,
            "description": heatmap_description(run.config),
        },
        score: {
            "ftype": fo.FloatField,
            "description": "similarity to the nearest neighbor",
        },
        outcome: {
            "ftype": text,
            "description": "whether the nearest neighbor matches",
        },
    }
    if patches_field is not None:
        descriptions = "identity of the nearest neighbor", "detection that is nearest"
        for path, description in zip(more, descriptions, strict=True):
            fields[path] = {"ftype": text, "description": description}
        return fields
    fields[more[0]] = {
        "ftype": label,
        "embedded_doc_type": fo.Classifications,
        "description": "the nearest neighbors, by identity and similarity",
    }
    for name, ftype, description in (
        ("rank", fo.IntField, "place among the neighbors of the query, from 1"),
        ("outcome", text, "whether the neighbor matches"),
        ("neighbor_id", text, "id of the neighbor's sample"),
        ("distance", fo.FloatField, "distance of query and neighbor"),
    ):
        fields[f"{more[0]}.classifications.{name}"] = {
            "ftype": ftype,
            "description": description,
        }
    return fields


# --------------------------------------------------------------------------------------
# Whole images
# --------------------------------------------------------------------------------------


def _sample_values(run: Run, full: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query's sample, and the documents of its fields by their paths.

    The documents are those that FiftyOne makes of its labels. Making ten million label
    objects first would take longer than the run.
    """
    heatmap, *paths = field_paths(run.dataset, run.key, None)
    left = dict.fromkeys(np.unique(run.pairs.query).tolist())
    for item, values, crop, size in _first_maps(run):
        canvas = np.zeros(canvas_size(*size, LONG_SIDE), dtype=np.float32)
        place(canvas, values, crop)
        labels = dict(zip(paths, _labels(run, item), strict=True))
        del left[item]
        yield (
            str(run.items.sample_ids[item]),
            {heatmap: heatmap_document(to_bytes(canvas, full)), **labels},
        )
    # The queries without a map.
    for item in left:
        labels = dict(zip(paths, _labels(run, item), strict=True))
        yield str(run.items.sample_ids[item]), labels


def _labels(run: Run, item: int) -> tuple[float, str, dict[str, Any]]:
    """Return a query's score, outcome, and neighbors without the extra true match."""
    pairs, items = run.pairs, run.items
    rows = pairs.of_query(item)
    rows = rows[pairs.rank[rows] <= run.config.k]
    columns = (
        pairs.gallery[rows].tolist(),
        pairs.similarity[rows].tolist(),
        pairs.rank[rows].tolist(),
        [OUTCOMES[code] for code in pairs.outcome[rows].tolist()],
        pairs.distance[rows].tolist(),
    )
    neighbors = [
        {
            "_id": ObjectId(),
            "_cls": "Classification",
            "tags": [],
            "label": items.identities[neighbor],
            "confidence": similarity,
            "rank": rank,
            "outcome": outcome,
            "neighbor_id": str(items.ids[neighbor]),
            "distance": distance,
        }
        for neighbor, similarity, rank, outcome, distance in zip(*columns, strict=True)
    ]
    document = {"_cls": "Classifications", "classifications": neighbors}
    return columns[1][0], columns[3][0], document


# --------------------------------------------------------------------------------------
# Detections
# --------------------------------------------------------------------------------------


def _write_patch_labels(run: Run, patches_field: str) -> None:
    """Write scores, outcomes and nearest neighbors on the detections."""
    _, *paths = field_paths(run.dataset, run.key, patches_field)
    pairs, items = run.pairs, run.items
    assert items.label_ids is not None
    first = np.flatnonzero(pairs.rank == 1)
    label_ids = [str(items.label_ids[item]) for item in pairs.query[first]]
    nearest = pairs.gallery[first]
    columns: tuple[list[Any], ...] = (
        [float(value) for value in pairs.similarity[first]],
        [OUTCOMES[value] for value in pairs.outcome[first]],
        [items.identities[item] for item in nearest],
        [str(items.ids[item]) for item in nearest],
    )
    samples = all_samples(run.dataset)
    for path, column in zip(paths, columns, strict=True):
        samples.set_label_values(path, dict(zip(label_ids, column, strict=True)))


def _frame_values(
    run: Run, patches_field: str, full: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each frame, and the document of its heatmap by its path."""
    ids, sample_ids = run.items.ids, run.items.sample_ids
    boxes = detection_boxes(all_samples(run.dataset), patches_field)
    # A detection may have been deleted during the run.
    maps = (row for row in _first_maps(run) if str(ids[row[0]]) in boxes)
    for sample_id, group in groupby(maps, lambda row: str(sample_ids[row[0]])):
        of_frame = list(group)
        shape = canvas_size(*of_frame[0][3], FRAME_LONG_SIDE)
        canvas = np.zeros(shape, dtype=np.float32)
        for item, values, crop, _ in of_frame:
            place(canvas, values, inner_box(boxes[str(ids[item])], crop))
        yield sample_id, {run.key: heatmap_document(to_bytes(canvas, full))}


# --------------------------------------------------------------------------------------
# Both
# --------------------------------------------------------------------------------------


def _first_maps(
    run: Run,
) -> Iterator[
    tuple[int, NDArray[np.float32], tuple[float, float, float, float], tuple[int, int]]
]:
    """Yield item, map, crop and image size of each query's first pair, as stored."""
    kind = run.config.heatmap_kind
    for number in range(run.plan.num_shards):
        sides, _ = run.plan.sides_of(number)
        rows = heatmap_rows(sides, run.pairs)
        if len(rows) == 0:
            continue
        shard = run.store.get(shard_name(number))
        rows = rows[~np.isnan(shard["score"][rows])]
        if len(rows) == 0:
            continue
        if kind in PATH_KINDS:
            rows = rows[shard["path_row"][rows] >= 0]
            maps: Iterable[NDArray[np.float32]] = _path_maps(
                run, number, shard["path_row"][rows], kind
            )
        else:
            values, scale = shard[f"{kind}_values"], shard[f"{kind}_scale"]
            maps = unpack_maps(values[rows], scale[rows])
        for row, values in zip(rows, maps, strict=True):
            image = shard["image"][row]
            left, top, right, bottom = (float(v) for v in shard["crop"][image])
            width, height = (int(v) for v in shard["size"][image])
            item = int(run.pairs.query[sides[row] // 2])
            yield item, values, (left, top, right, bottom), (width, height)


def _path_maps(
    run: Run, number: int, rows: NDArray[np.int32], kind: str
) -> list[NDArray[np.float32]]:
    """Read maps along paths of a shard."""
    if len(rows) == 0:
        return []
    name = paths_name(number)
    stored = run.store.get_rows([(name, row) for row in rows.tolist()])
    return [path_map(arrays, kind) for arrays in stored]


def _write(run: Run, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Write fields by sample id, in batches; deleted samples stay deleted."""
    operations: dict[str, UpdateOne] = {}

    def flush() -> None:
        # All fields of a sample at once; ``set_values`` writes one field at a time.
        run.dataset._bulk_write(list(operations.values()), ids=list(operations))
        operations.clear()

    for sample_id, values in rows:
        changes = {**values, "last_modified_at": datetime.now(timezone.utc)}
        operations[sample_id] = UpdateOne(
            {"_id": ObjectId(sample_id)}, {"$set": changes}
        )
        if len(operations) >= _WRITE_BATCH:
            flush()
    if operations:
        flush()
