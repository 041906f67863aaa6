"""Writing the fields of a run, out of its stored maps.

Everything written here follows from what is stored already, so an interrupted
publication is repeated and ends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId
from numpy.typing import NDArray

from fiftyone_sfam.arrays import Arrays
from fiftyone_sfam.heatmaps import (
    FRAME_LONG_SIDE,
    LONG_SIDE,
    canvas_size,
    inner_box,
    place,
    shared_range,
    to_bytes,
)
from fiftyone_sfam.items import all_samples
from fiftyone_sfam.records import OUTCOMES
from fiftyone_sfam.run_config import delete_fields, field_paths
from fiftyone_sfam.run_table import shard_name
from fiftyone_sfam.runs import Run
from fiftyone_sfam.storage import unpack_maps

# Samples per bulk write.
_WRITE_BATCH = 1000


def publish_fields(run: Run) -> None:
    """Write a run's heatmaps, scores, outcomes and neighbors on its queries.

    Parameters
    ----------
    run : Run
        The run, whose maps and table are stored. Fields that an earlier run left
        under its key are removed first.
    """
    patches_field = run.config.patches_field
    for of in {patches_field, *(of for _, of in run.config.replaces)}:
        delete_fields(run.dataset, run.key, of)
    if patches_field is None:
        _declare_sample_fields(run)
        _write(run, run.key, _sample_heatmaps(run))
        _write_sample_labels(run)
    else:
        _declare_patch_fields(run, patches_field)
        _write(run, run.key, _frame_heatmaps(run, patches_field))
        _write_patch_labels(run, patches_field)


# --------------------------------------------------------------------------------------
# Whole images
# --------------------------------------------------------------------------------------


def _declare_sample_fields(run: Run) -> None:
    """Add the fields of a run on whole images to the schema."""
    heatmap, score, outcome, neighbors = field_paths(run.dataset, run.key, None)
    kind = run.config.kinds[0]
    add = run.dataset.add_sample_field
    add(
        heatmap,
        fo.EmbeddedDocumentField,
        embedded_doc_type=fo.Heatmap,
        description=f"{kind} map towards the nearest neighbor; one range for the run",
    )
    add(score, fo.FloatField, description="similarity to the nearest neighbor")
    add(outcome, fo.StringField, description="whether the nearest neighbor matches")
    add(
        neighbors,
        fo.EmbeddedDocumentField,
        embedded_doc_type=fo.Classifications,
        description="the nearest neighbors, by identity and similarity",
    )
    for name, kind_of_field in (
        ("rank", fo.IntField),
        ("outcome", fo.StringField),
        ("neighbor_id", fo.StringField),
        ("distance", fo.FloatField),
    ):
        add(f"{neighbors}.classifications.{name}", kind_of_field)


def _write_sample_labels(run: Run) -> None:
    """Write scores, outcomes and neighbors."""
    _, score, outcome, neighbors = field_paths(run.dataset, run.key, None)
    pairs, items = run.pairs, run.items
    first = np.flatnonzero(pairs.rank == 1)
    ids = [str(items.sample_ids[item]) for item in pairs.query[first]]
    scores = [float(value) for value in pairs.similarity[first]]
    outcomes = [OUTCOMES[value] for value in pairs.outcome[first]]
    _write(run, score, zip(ids, scores, strict=True))
    _write(run, outcome, zip(ids, outcomes, strict=True))
    _write(run, neighbors, _neighbors_of_queries(run), documents=True)


def _neighbors_of_queries(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the neighbors of each query, the extra true match not among them.

    They are the documents of ``fo.Classifications``: making ten million objects to
    turn them into these would take longer than the run.
    """
    pairs, items = run.pairs, run.items
    one = fo.Classification(label="", confidence=0.0).to_mongo().to_dict()
    several = fo.Classifications().to_mongo().to_dict()
    listed = np.flatnonzero(pairs.rank <= run.config.k)
    starts = np.flatnonzero(np.diff(pairs.query[listed], prepend=-1))
    for rows in np.split(listed, starts[1:]):
        if len(rows) == 0:
            continue
        neighbors = [{**one, **_neighbor(run, int(pair))} for pair in rows]
        yield (
            str(items.sample_ids[pairs.query[rows[0]]]),
            {**several, "classifications": neighbors},
        )


def _neighbor(run: Run, pair: int) -> dict[str, Any]:
    """Return what the label of one neighbor holds."""
    pairs = run.pairs
    other = int(pairs.gallery[pair])
    return {
        "_id": ObjectId(),
        "tags": [],
        "label": run.items.identities[other],
        "confidence": float(pairs.similarity[pair]),
        "rank": int(pairs.rank[pair]),
        "outcome": OUTCOMES[pairs.outcome[pair]],
        "neighbor_id": str(run.items.ids[other]),
        "distance": float(pairs.distance[pair]),
    }


def _sample_heatmaps(run: Run) -> Iterator[tuple[str, fo.Heatmap]]:
    """Yield each query sample's heatmap."""
    full = _range_of_run(run)
    for item, values, crop, size in _first_maps(run):
        canvas = np.zeros(canvas_size(*size, LONG_SIDE), dtype=np.float32)
        place(canvas, values, crop)
        yield (
            str(run.items.sample_ids[item]),
            fo.Heatmap(map=to_bytes(canvas, full), range=[0, 255]),
        )


# --------------------------------------------------------------------------------------
# Detections
# --------------------------------------------------------------------------------------


def _declare_patch_fields(run: Run, patches_field: str) -> None:
    """Add the fields of a run on detections to the schema."""
    heatmap, score, outcome, neighbor, neighbor_id = field_paths(
        run.dataset, run.key, patches_field
    )
    add = run.dataset.add_sample_field
    add(
        heatmap,
        fo.EmbeddedDocumentField,
        embedded_doc_type=fo.Heatmap,
        description=f"{run.config.kinds[0]} maps of the detections in their boxes",
    )
    add(score, fo.FloatField, description="similarity to the nearest neighbor")
    add(outcome, fo.StringField, description="whether the nearest neighbor matches")
    add(neighbor, fo.StringField, description="identity of the nearest neighbor")
    add(neighbor_id, fo.StringField, description="detection that is nearest")


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


def _frame_heatmaps(run: Run, patches_field: str) -> Iterator[tuple[str, fo.Heatmap]]:
    """Yield each frame's heatmap, with the maps of all its detections."""
    full = _range_of_run(run)
    boxes = _boxes(run, patches_field)
    sample_id: str | None = None
    canvas = np.zeros((1, 1), dtype=np.float32)
    for item, values, crop, size in _first_maps(run):
        if str(run.items.ids[item]) not in boxes:
            continue  # the detection was deleted while the run was made
        if run.items.sample_ids[item] != sample_id:
            if sample_id is not None:
                yield sample_id, fo.Heatmap(map=to_bytes(canvas, full), range=[0, 255])
            sample_id = str(run.items.sample_ids[item])
            canvas = np.zeros(canvas_size(*size, FRAME_LONG_SIDE), dtype=np.float32)
        place(canvas, values, inner_box(boxes[str(run.items.ids[item])], crop))
    if sample_id is not None:
        yield sample_id, fo.Heatmap(map=to_bytes(canvas, full), range=[0, 255])


def _boxes(run: Run, patches_field: str) -> dict[str, list[float]]:
    """Read the boxes of the detections by their ids."""
    document = run.dataset.get_field(patches_field).document_type
    prefix = patches_field + (".detections[]" if document is fo.Detections else "")
    paths = [f"{prefix}.id", f"{prefix}.bounding_box"]
    ids, boxes = all_samples(run.dataset).values(paths)
    return {
        str(one): box for one, box in zip(ids, boxes, strict=True) if one is not None
    }


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


def _write(
    run: Run,
    field: str,
    values: Iterable[tuple[str, Any]],
    documents: bool = False,
) -> None:
    """Write values by sample id, in batches; samples deleted meanwhile are left out.

    Documents are stored as they are; everything else is checked by FiftyOne.
    """
    batch: dict[str, Any] = {}
    samples = all_samples(run.dataset)

    def flush() -> None:
        present = samples.select(list(batch)).values("id")
        samples.select(present, ordered=True).set_values(
            field,
            [batch[one] for one in present],
            validate=not documents,
            expand_schema=not documents,
        )
        batch.clear()

    for sample_id, value in values:
        batch[sample_id] = value
        if len(batch) >= _WRITE_BATCH:
            flush()
    if batch:
        flush()
