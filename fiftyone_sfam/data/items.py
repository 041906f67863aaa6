"""The images of a FiftyOne collection as plain columns: files, boxes, labels."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import label_text
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


def detections_prefix(dataset: fo.Dataset, patches_field: str | None) -> str:
    """Return the prefix of the paths of detections' attributes."""
    if patches_field is None:
        return ""
    field = dataset.get_field(patches_field)
    document = getattr(field, "document_type", None)
    if document is fo.Detections:
        return f"{patches_field}.detections."
    if document is fo.Detection:
        return f"{patches_field}."
    raise DataError(
        f"'{dataset.name}' no longer has a field '{patches_field}' with detections; "
        "rename the field back, or repeat the run with another field."
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
    return {str(i): box for i, box in zip(ids, boxes, strict=True) if i is not None}


# Types of fields whose values can be compared as text.
_LABEL_FIELDS = (
    fo.StringField,
    fo.IntField,
    fo.FloatField,
    fo.BooleanField,
    fo.ObjectIdField,
)
# Box of a detection that has none.
_NO_BOX = (math.nan,) * 4


@dataclass(frozen=True, kw_only=True)
class Items:
    """The N items that a run compares: whole images, or detections in them."""

    sample_ids: tuple[str, ...]  # sample of each item
    label_ids: tuple[str, ...] | None  # detection of each item; None for whole images
    filepaths: tuple[str, ...]  # image of each item
    boxes: NDArray[np.float64] | None  # (N, 4)
    identities: list[str | None]
    cameras: list[str | None]
    splits: list[frozenset[str]] | None
    # Arguments of the model beside the images, (N,) or (N, ...) each.
    inputs: Mapping[str, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Id of each item: that of its detection, or of its sample."""
        return self.sample_ids if self.label_ids is None else self.label_ids


def collect_items(
    samples: SampleCollection, protocol: Protocol, patches_field: str | None = None
) -> Items:
    """Read the columns of a collection that a run needs."""
    _check_media(samples)
    ids, filepaths = samples.values(["id", "filepath"])
    if len(set(ids)) < len(ids):
        raise DataError(
            "the view holds some samples more than once; give each sample once."
        )
    if not ids:
        raise DataError(
            f"'{samples.name or 'the view'}' has no samples; add images, or widen the "
            "view."
        )
    if patches_field is None:
        items = Items(
            sample_ids=tuple(ids),
            label_ids=None,
            filepaths=tuple(filepaths),
            boxes=None,
            identities=_labels(samples, ids, protocol.identity_field, "identity"),
            cameras=_labels(samples, ids, protocol.camera_field, "camera"),
            splits=_splits(samples, ids, protocol.split_field),
        )
    else:
        items = _collect_patches(samples, ids, filepaths, protocol, patches_field)
    if protocol.identity_field and not any(v is not None for v in items.identities):
        raise DataError(
            f"the identity field '{protocol.identity_field}' is empty on all "
            f"{len(items)} images; give another field, or leave it out."
        )
    identities = {value for value in items.identities if value is not None}
    for rule in ("junk", "distractors"):
        _check_values(
            rule, getattr(protocol, rule), items, protocol.identity_field, identities
        )
    if items.splits is not None:
        splits = frozenset[str]().union(*items.splits)
        for rule in ("query_value", "gallery_value"):
            _check_values(
                rule, [getattr(protocol, rule)], items, protocol.split_field, splits
            )
    return items


def all_samples(dataset: fo.Dataset) -> SampleCollection:
    """Return all samples of a dataset, including those of all group slices."""
    if dataset.media_type == fo.core.media.GROUP:
        return dataset.select_group_slices(_allow_mixed=True)
    return dataset


def values_by_id(samples: SampleCollection, ids: Iterable[str], path: str) -> list[Any]:
    """Read a field's values in a given order of the samples.

    The order of some views, such as ``group_by(..., flat=True)``, changes each time
    that they are read, so a column is read together with its ids.
    """
    wanted = list(ids)
    read, values = samples.values(["id", path])
    if read == wanted:
        return list(values)
    by_id = dict(zip(read, values, strict=True))
    if not by_id.keys() >= set(wanted):
        raise DataError(
            "the view holds different samples each time that it is read, or samples "
            "were deleted in the meantime; give a view that does not change, such as "
            "select(...) of ids."
        )
    return [by_id[sample_id] for sample_id in wanted]


def values_of_ids(samples: SampleCollection, ids: str, path: str) -> dict[str, Any]:
    """Read a field's values by the ids of samples, or of labels, at a path."""
    by_id: dict[str, Any] = {}
    for key, value in zip(*samples.values([ids, path]), strict=True):
        if isinstance(key, list):
            by_id.update(zip(key, value or [None] * len(key), strict=True))
        elif key is not None:
            by_id[key] = value
    return by_id


def label_path(
    samples: SampleCollection, field: str, what: str, prefix: str = ""
) -> str:
    """Return the path of a field's labels."""
    path = prefix + field
    declared = samples.get_field(path)
    if declared is None:
        names = ", ".join(f"'{name}'" for name in samples.get_field_schema())
        raise DataError(
            f"'{samples._dataset.name}' has no {what} field '{path}'; its fields are "
            f"{names}."
        )
    if isinstance(declared, fo.EmbeddedDocumentField):
        if issubclass(declared.document_type, (fo.Classification, fo.Detection)):
            return path + ".label"
    elif isinstance(declared, _LABEL_FIELDS):
        return path
    raise DataError(
        f"the {what} field '{path}' holds {_type_name(declared)}; text, numbers or a "
        "classification are needed."
    )


def _check_media(samples: SampleCollection) -> None:
    """Raise if a collection does not hold images."""
    if samples._is_generated:
        raise DataError(
            "the view holds patches, frames or clips, which FiftyOne generates again "
            "each time; give the samples themselves (with patches_field for "
            "detections), or make a dataset of the view with clone()."
        )
    if samples._is_dynamic_groups:
        raise DataError(
            "the view is grouped by a field, so it holds one sample of each group; "
            "give the samples themselves, or group with flat=True."
        )
    if samples.media_type == fo.core.media.GROUP:
        slices = ", ".join(f"'{name}'" for name in samples.group_slices)
        raise DataError(
            f"'{samples._dataset.name}' is a grouped dataset; select one slice with "
            f"select_group_slices(...); its slices are {slices}."
        )
    if samples.media_type not in (fo.core.media.IMAGE, None):
        raise DataError(
            f"'{samples._dataset.name}' holds {samples.media_type} samples; images are "
            "needed (for video, to_frames(sample_frames=True).clone() makes them)."
        )


def _check_values(
    rule: str,
    given: Sequence[str],
    items: Items,
    field: str | None,
    occurring: Set[str],
) -> None:
    """Raise if a rule of the protocol names values that occur in no image."""
    absent = [value for value in given if value not in occurring]
    if not absent:
        return
    more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
    what = "images" if items.label_ids is None else "detections"
    # "0000" and "0" are spelled differently, but are the same number.
    values = sorted(occurring)
    digits = absent[0].lstrip("0")
    nearest = [value for value in values if value.lstrip("0") == digits]
    nearest += difflib.get_close_matches(absent[0], values, 3, cutoff=0)
    shown = [repr(value) for value in list(dict.fromkeys(nearest))[:3]]
    known = f"{', '.join(shown)} ({len(shown)} of {len(values)} values)"
    raise DataError(
        f"the value {absent[0]!r}{more} of the rule {rule} occurs in none of the "
        f"{len(items)} {what}; values are compared as text, and the field '{field}' "
        f"has {known if shown else 'no values'}; give values that occur, or leave the "
        "rule out."
    )


def _collect_patches(
    samples: SampleCollection,
    ids: list[str],
    filepaths: list[str],
    protocol: Protocol,
    patches_field: str,
) -> Items:
    """Read the columns of a run that compares detections."""
    field = samples.get_field(patches_field)
    if field is None:
        raise DataError(
            f"'{samples._dataset.name}' has no field '{patches_field}' to take "
            "detections from."
        )
    document = getattr(field, "document_type", None)
    if document is fo.Detections:
        prefix, listed = f"{patches_field}.detections.", True
    elif document is fo.Detection:
        prefix, listed = f"{patches_field}.", False
    else:
        raise DataError(
            f"the field '{patches_field}' holds {_type_name(field)}; detections are "
            "needed."
        )
    boxes, label_ids = (
        values_by_id(samples, ids, prefix + name) for name in ("bounding_box", "id")
    )
    if not listed:
        boxes = [[] if box is None else [box] for box in boxes]
        label_ids = [[] if label is None else [label] for label in label_ids]
    boxes = [box or [] for box in boxes]
    counts = [len(box) for box in boxes]
    if not sum(counts):
        raise DataError(
            f"the field '{patches_field}' holds no detections in these samples; widen "
            "the view or name another field."
        )
    flat_boxes = [box or _NO_BOX for row in boxes for box in row]
    of_sample = [index for index, count in enumerate(counts) for _ in range(count)]

    def column(name: str | None, what: str) -> list[str | None]:
        if name is None:
            return [None] * len(of_sample)
        if samples.get_field(prefix + name) is not None:
            path = label_path(samples, name, what, prefix)
            values = values_by_id(samples, ids, path)
        elif samples.get_field(name) is not None:
            of_samples = _labels(samples, ids, name, what)
            return [of_samples[index] for index in of_sample]
        else:
            values = _undeclared(samples, ids, prefix, name, what)
        rows = values if listed else [[value] for value in values]
        return [
            label_text(value)
            for row, count in zip(rows, counts, strict=True)
            for value in (row or [None] * count)[:count]
        ]

    splits = _splits(samples, ids, protocol.split_field)
    return Items(
        sample_ids=tuple(ids[index] for index in of_sample),
        label_ids=tuple(label for row in label_ids for label in (row or [])),
        filepaths=tuple(filepaths[index] for index in of_sample),
        boxes=np.array(flat_boxes, dtype=np.float64),
        identities=column(protocol.identity_field, "identity"),
        cameras=column(protocol.camera_field, "camera"),
        splits=None if splits is None else [splits[index] for index in of_sample],
    )


def _labels(
    samples: SampleCollection, ids: list[str], field: str | None, what: str
) -> list[str | None]:
    """Read a field of labels as text."""
    if field is None:
        return [None] * len(ids)
    path = label_path(samples, field, what)
    values = values_by_id(samples, ids, path)
    if any(isinstance(value, list) for value in values):
        raise DataError(
            f"the {what} field '{path}' holds several values per sample; one is needed."
        )
    return [label_text(value) for value in values]


def _undeclared(
    samples: SampleCollection, ids: list[str], prefix: str, name: str, what: str
) -> list[Any]:
    """Read an attribute of labels that the dataset's schema does not list."""
    values = values_by_id(samples, ids, prefix + name)
    flat = [
        value
        for row in values
        for value in (row if isinstance(row, list) else [row])
        if value is not None
    ]
    if not flat:
        label_path(samples, name, what)  # raises, because there is no such field
    if not all(isinstance(value, (str, bool, int, float)) for value in flat):
        raise DataError(
            f"the {what} attribute '{prefix}{name}' holds neither text nor numbers."
        )
    return values


def _splits(
    samples: SampleCollection, ids: list[str], field: str | None
) -> list[frozenset[str]] | None:
    """Read the values of the field that separates queries from gallery images."""
    if field is None:
        return None
    if field == "tags":
        return [frozenset(tags or ()) for tags in values_by_id(samples, ids, "tags")]
    values = _labels(samples, ids, field, "split")
    return [frozenset(() if value is None else (value,)) for value in values]


def _type_name(field: fo.Field) -> str:
    """Return the name of a field's type."""
    document = getattr(field, "document_type", None)
    return document.__name__ if document is not None else type(field).__name__
