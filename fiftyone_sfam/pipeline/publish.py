"""Writing the fields of a run, out of its stored maps.

Everything written here follows from what is stored already, so an interrupted
publication is repeated and ends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
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
    shared_range,
    to_bytes,
)
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import delete_fields, field_paths
from fiftyone_sfam.runs.run_table import shard_name
from fiftyone_sfam.runs.schema import FieldOptions, add_fields

# Samples per bulk write.
_WRITE_BATCH = 1000


def publish_fields(run: Run) -> None:
    """Write a run's heatmaps, scores, outcomes and neighbors on its queries."""
    patches_field = run.config.patches_field
    for of in {patches_field, *(of for _, of in run.config.replaces)}:
        delete_fields(run.dataset, run.key, of)
    if patches_field is None:
        add_fields(run.dataset, _sample_fields(run))
        _write(run, _sample_values(run))
    else:
        add_fields(run.dataset, _patch_fields(run, patches_field))
        _write(run, _frame_values(run, patches_field))
        _write_patch_labels(run, patches_field)


# --------------------------------------------------------------------------------------
# Whole images
# --------------------------------------------------------------------------------------


def _sample_fields(run: Run) -> dict[str, FieldOptions]:
    """Describe the fields of a run on whole images."""
    heatmap, score, outcome, neighbors = field_paths(run.dataset, run.key, None)
    kind = run.config.kinds[0]
    below = f"{neighbors}.classifications"
    return {
        heatmap: {
            "ftype": fo.EmbeddedDocumentField,
            "embedded_doc_type": fo.Heatmap,
            "description": f"{kind} map towards the nearest neighbor; one range for "
            "the run",
        },
        score: {
            "ftype": fo.FloatField,
            "description": "similarity to the nearest neighbor",
        },
        outcome: {
            "ftype": fo.StringField,
            "description": "whether the nearest neighbor matches",
        },
        neighbors: {
            "ftype": fo.EmbeddedDocumentField,
            "embedded_doc_type": fo.Classifications,
            "description": "the nearest neighbors, by identity and similarity",
        },
        f"{below}.rank": {"ftype": fo.IntField},
        f"{below}.outcome": {"ftype": fo.StringField},
        f"{below}.neighbor_id": {"ftype": fo.StringField},
        f"{below}.distance": {"ftype": fo.FloatField},
    }


def _sample_values(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query's sample, and the documents of its fields by their paths.

    They are what FiftyOne would make of its labels: making ten million objects to turn
    them into these would take longer than the run.
    """
    heatmap, *paths = field_paths(run.dataset, run.key, None)
    left = dict.fromkeys(np.unique(run.pairs.query).tolist())
    full = _range_of_run(run)
    for item, values, crop, size in _first_maps(run):
        canvas = np.zeros(canvas_size(*size, LONG_SIDE), dtype=np.float32)
        place(canvas, values, crop)
        labels = dict(zip(paths, _labels(run, item), strict=True))
        del left[item]
        yield (
            str(run.items.sample_ids[item]),
            {heatmap: heatmap_document(to_bytes(canvas, full)), **labels},
        )
    # The images of which there is no map.
    for item in left:
        labels = dict(zip(paths, _labels(run, item), strict=True))
        yield str(run.items.sample_ids[item]), labels


def _labels(run: Run, item: int) -> tuple[float, str, dict[str, Any]]:
    """Return a query's score, outcome, and neighbors without the extra true match."""
    pairs, items = run.pairs, run.items
    found = pairs.of_query(item)
    found = found[pairs.rank[found] <= run.config.k]
    columns = (
        pairs.gallery[found].tolist(),
        pairs.similarity[found].tolist(),
        pairs.rank[found].tolist(),
        [OUTCOMES[code] for code in pairs.outcome[found].tolist()],
        pairs.distance[found].tolist(),
    )
    neighbors = [
        {
            "_id": ObjectId(),
            "_cls": "Classification",
            "tags": [],
            "label": items.identities[other],
            "confidence": similarity,
            "rank": rank,
            "outcome": outcome,
            "neighbor_id": str(items.ids[other]),
            "distance": distance,
        }
        for other, similarity, rank, outcome, distance in zip(*columns, strict=True)
    ]
    document = {"_cls": "Classifications", "classifications": neighbors}
    return columns[1][0], columns[3][0], document


# --------------------------------------------------------------------------------------
# Detections
# --------------------------------------------------------------------------------------


def _patch_fields(run: Run, patches_field: str) -> dict[str, FieldOptions]:
    """Describe the fields of a run on detections."""
    heatmap, score, outcome, neighbor, neighbor_id = field_paths(
        run.dataset, run.key, patches_field
    )
    kind = run.config.kinds[0]
    return {
        heatmap: {
            "ftype": fo.EmbeddedDocumentField,
            "embedded_doc_type": fo.Heatmap,
            "description": f"{kind} maps of the detections in their boxes",
        },
        score: {
            "ftype": fo.FloatField,
            "description": "similarity to the nearest neighbor",
        },
        outcome: {
            "ftype": fo.StringField,
            "description": "whether the nearest neighbor matches",
        },
        neighbor: {
            "ftype": fo.StringField,
            "description": "identity of the nearest neighbor",
        },
        neighbor_id: {
            "ftype": fo.StringField,
            "description": "detection that is nearest",
        },
    }


def _write_patch_labels(run: Run, patches_field: str) -> None:
    """Write scores, outcomes and nearest neighbors on the detections."""
    _, *paths = field_paths(run.dataset, run.key, patches_field)
    pairs, items = run.pairs, run.items
    assert items.label_ids is not None
    first = np.flatnonzero(pairs.rank == 1)
    label_ids = [str(items.label_ids[item]) for item in pairs.query[first]]
    others = pairs.gallery[first]
    columns: tuple[list[Any], ...] = (
        [float(value) for value in pairs.similarity[first]],
        [OUTCOMES[value] for value in pairs.outcome[first]],
        [items.identities[other] for other in others],
        [str(items.ids[other]) for other in others],
    )
    samples = all_samples(run.dataset)
    for path, column in zip(paths, columns, strict=True):
        samples.set_label_values(path, dict(zip(label_ids, column, strict=True)))


def _frame_values(run: Run, patches_field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each frame, and its heatmap's document by its path."""
    for sample_id, canvas in _frame_heatmaps(run, patches_field):
        yield sample_id, {run.key: heatmap_document(canvas)}


def _frame_heatmaps(
    run: Run, patches_field: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield each frame's heatmap, with the maps of all its detections."""
    full = _range_of_run(run)
    boxes = detection_boxes(all_samples(run.dataset), patches_field)
    sample_id: str | None = None
    canvas = np.zeros((1, 1), dtype=np.float32)
    for item, values, crop, size in _first_maps(run):
        if str(run.items.ids[item]) not in boxes:
            continue  # the detection was deleted while the run was made
        if run.items.sample_ids[item] != sample_id:
            if sample_id is not None:
                yield sample_id, to_bytes(canvas, full)
            sample_id = str(run.items.sample_ids[item])
            canvas = np.zeros(canvas_size(*size, FRAME_LONG_SIDE), dtype=np.float32)
        place(canvas, values, inner_box(boxes[str(run.items.ids[item])], crop))
    if sample_id is not None:
        yield sample_id, to_bytes(canvas, full)


# --------------------------------------------------------------------------------------
# Both
# --------------------------------------------------------------------------------------


def _range_of_run(run: Run) -> float:
    """Find the one range of all heatmaps of the run."""
    largest = [values.max() for _, values, _, _ in _first_maps(run)]
    return shared_range(np.array(largest))


def _first_maps(
    run: Run,
) -> Iterator[
    tuple[int, NDArray[np.float32], tuple[float, float, float, float], tuple[int, int]]
]:
    """Yield item, map, crop and image size of each query's first pair, as stored."""
    kind = run.config.kinds[0]
    for number in range(run.plan.num_shards):
        sides, _ = run.plan.sides_of(number)
        rows = np.flatnonzero((sides % 2 == 0) & (run.pairs.rank[sides // 2] == 1))
        if len(rows) == 0:
            continue
        shard: Arrays = run.store.get(shard_name(number))
        rows = rows[~np.isnan(shard["score"][rows])]
        if len(rows) == 0:
            continue
        maps = unpack_maps(shard[f"{kind}_values"][rows], shard[f"{kind}_scale"][rows])
        for row, values in zip(rows, maps, strict=True):
            image = shard["image"][row]
            left, top, right, bottom = (float(v) for v in shard["crop"][image])
            width, height = (int(v) for v in shard["size"][image])
            item = int(run.pairs.query[sides[row] // 2])
            yield item, values, (left, top, right, bottom), (width, height)


def _write(run: Run, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Write fields by sample id, in batches; samples deleted meanwhile stay so."""
    operations: dict[str, UpdateOne] = {}

    def flush() -> None:
        # All fields of a sample at once; ``set_values`` takes one field at a time.
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
