"""The detections that a run has compared: where they are now, if they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fiftyone as fo

from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


def detections_prefix(dataset: fo.Dataset, patches_field: str | None) -> str:
    """Return the path below which the attributes of detections lie."""
    if patches_field is None:
        return ""
    field = dataset.get_field(patches_field)
    document = getattr(field, "document_type", None)
    if document is fo.Detections:
        return f"{patches_field}.detections."
    if document is fo.Detection:
        return f"{patches_field}."
    raise DataError(
        f"'{dataset.name}' has no field '{patches_field}' with detections any more; "
        "give it its name back, or repeat the run with another field."
    )


def detection_boxes(
    samples: SampleCollection, patches_field: str | None
) -> dict[str, list[float]]:
    """Read the boxes of detections."""
    if patches_field is None:
        return {}
    try:
        prefix = detections_prefix(samples._root_dataset, patches_field)
    except DataError:
        return {}
    listed = prefix.endswith(".detections.")
    path = prefix[:-1] + ("[]" if listed else "")
    ids, boxes = samples.values([f"{path}.id", f"{path}.bounding_box"])
    return {
        str(one): box for one, box in zip(ids, boxes, strict=True) if one is not None
    }
