"""The images of a FiftyOne collection as plain columns: files, boxes, labels."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol, Within
from fiftyone_sfam.data.terms import DATES, read_term
from fiftyone_sfam.data.text import label_text, number_text
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
    # Of the other terms of the protocol's rules, see terms.py; (N,) each.
    terms: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()  # fields that hold numbers

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Id of each item: that of its detection, or of its sample."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    def resolve(self, protocol: Protocol) -> Protocol:
        """Spell the values of a protocol as the columns do.

        In a field of numbers, ``"0000"`` and ``"-1.0"`` are 0 and -1.
        """
        given: dict[str, Any] = {}
        if protocol.identity_field in self.numbers:
            for rule in ("junk", "distractors"):
                given[rule] = tuple(map(number_text, getattr(protocol, rule)))
        if protocol.split_field in self.numbers:
            for rule in ("query_value", "gallery_value"):
                given[rule] = number_text(getattr(protocol, rule))
        return replace(protocol, **given)

    def take(self, chosen: Sequence[int]) -> Items:
        """Return some of the items, before they have inputs."""
        labels, splits = self.label_ids, self.splits
        return Items(
            sample_ids=tuple(self.sample_ids[index] for index in chosen),
            label_ids=None
            if labels is None
            else tuple(labels[index] for index in chosen),
            filepaths=tuple(self.filepaths[index] for index in chosen),
            boxes=None if self.boxes is None else self.boxes[list(chosen)],
            identities=[self.identities[index] for index in chosen],
            cameras=[self.cameras[index] for index in chosen],
            splits=None if splits is None else [splits[index] for index in chosen],
            terms={name: codes[list(chosen)] for name, codes in self.terms.items()},
            numbers=self.numbers,
        )


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
    columns = _Columns(samples, ids)
    label_ids = boxes = None
    if patches_field is not None:
        columns, label_ids, boxes = _read_patches(samples, ids, patches_field)
    numbers: set[str] = set()
    items = Items(
        sample_ids=tuple(columns.of_samples(ids)),
        label_ids=label_ids,
        filepaths=tuple(columns.of_samples(filepaths)),
        boxes=boxes,
        identities=_texts(columns, protocol.identity_field, "identity", numbers),
        cameras=_texts(columns, protocol.camera_field, "camera", numbers),
        splits=_splits(columns, protocol, numbers),
        terms=_terms(columns, protocol),
        numbers=frozenset(numbers),
    )
    _check_rules(items, protocol)
    return items


def _check_rules(items: Items, protocol: Protocol) -> None:
    """Raise if a rule of the protocol fits none of the items."""
    if protocol.identity_field and not any(v is not None for v in items.identities):
        raise DataError(
            f"the identity field '{protocol.identity_field}' is empty on all "
            f"{len(items)} images; give another field, or leave it out."
        )
    resolved = items.resolve(protocol)
    identities = {value for value in items.identities if value is not None}
    for rule in ("junk", "distractors"):
        _check_values(rule, resolved, items, protocol.identity_field, identities)
    if items.splits is not None:
        splits = frozenset[str]().union(*items.splits)
        for role in ("query", "gallery"):
            field = getattr(protocol, f"{role}_field")
            if protocol.split_field is not None:
                rule = f"{role}_value"
                _check_values(rule, resolved, items, protocol.split_field, splits)
            elif field is not None and getattr(protocol, f"{role}_value") not in splits:
                raise DataError(
                    f"the {role} field '{field}' is true for none of the {len(items)} "
                    f"images; set it, or leave {role}_field out."
                )


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
    samples: SampleCollection,
    field: str,
    what: str,
    prefix: str = "",
    more: tuple[type[fo.Field], ...] = (),
) -> str:
    """Return the path of a field's labels, or of values of the types ``more``."""
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
    elif isinstance(declared, (*_LABEL_FIELDS, *more)):
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
    rule: str, protocol: Protocol, items: Items, field: str | None, occurring: Set[str]
) -> None:
    """Raise if a rule of the protocol names values that occur in no image."""
    given = getattr(protocol, rule)
    given = (given,) if isinstance(given, str) else given
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
    kind = "numbers" if field in items.numbers else "text"
    raise DataError(
        f"the value {absent[0]!r}{more} of the rule {rule} occurs in none of the "
        f"{len(items)} {what}; values are compared as {kind}, and the field '{field}' "
        f"has {known if shown else 'no values'}; give values that occur, or leave the "
        "rule out."
    )


# --------------------------------------------------------------------------------------
# Columns
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Reads fields of samples, or of detections in them, with one value per item."""

    samples: SampleCollection
    ids: list[str]  # of the samples
    prefix: str = ""  # of the detections' attributes
    counts: list[int] | None = None  # detections of each sample
    listed: bool = True  # whether the detections are lists

    def of_samples(self, values: Sequence[Any]) -> list[Any]:
        """Return the value of each item's sample."""
        if self.counts is None:
            return list(values)
        rows = zip(values, self.counts, strict=True)
        return [value for value, count in rows for _ in range(count)]

    def read(
        self, field: str | None, what: str, more: tuple[type[fo.Field], ...] = ()
    ) -> list[Any]:
        """Read a field of labels, or of the types ``more``; None for missing values."""
        samples, ids, prefix = self.samples, self.ids, self.prefix
        if field is None:
            return self.of_samples([None] * len(ids))
        if self.counts is None or (
            samples.get_field(prefix + field) is None
            and samples.get_field(field) is not None
        ):
            return self.of_samples(_values(samples, ids, field, what, more))
        if samples.get_field(prefix + field) is not None:
            path = label_path(samples, field, what, prefix, more)
            values = values_by_id(samples, ids, path)
        else:
            values = _undeclared(samples, ids, prefix, field, what)
        rows = values if self.listed else [[value] for value in values]
        return [
            value
            for row, count in zip(rows, self.counts, strict=True)
            for value in (row or [None] * count)[:count]
        ]


def _read_patches(
    samples: SampleCollection, ids: list[str], patches_field: str
) -> tuple[_Columns, tuple[str, ...], NDArray[np.float64]]:
    """Find the detections of a field; return their ids and boxes."""
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
    return (
        _Columns(samples, ids, prefix, counts, listed),
        tuple(label for row in label_ids for label in (row or [])),
        np.array(flat_boxes, dtype=np.float64),
    )


def _values(
    samples: SampleCollection,
    ids: list[str],
    field: str,
    what: str,
    more: tuple[type[fo.Field], ...] = (),
) -> list[Any]:
    """Read a field of samples that holds one value each."""
    path = label_path(samples, field, what, more=more)
    values = values_by_id(samples, ids, path)
    if any(isinstance(value, list) for value in values):
        raise DataError(
            f"the {what} field '{path}' holds several values per sample; one is needed."
        )
    return values


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


def _texts(
    columns: _Columns, field: str | None, what: str, numbers: set[str]
) -> list[str | None]:
    """Read a field of labels as text; enter it into ``numbers`` if it holds those."""
    values = columns.read(field, what)
    if field is not None and {type(v) for v in values if v is not None} <= {int, float}:
        numbers.add(field)
    return [label_text(value) for value in values]


def _splits(
    columns: _Columns, protocol: Protocol, numbers: set[str]
) -> list[frozenset[str]] | None:
    """Read what separates queries from gallery images."""
    field = protocol.split_field
    if field == "tags":
        tags = values_by_id(columns.samples, columns.ids, "tags")
        return columns.of_samples([frozenset(row or ()) for row in tags])
    if field is not None:
        of_samples = _Columns(columns.samples, columns.ids)
        values = _texts(of_samples, field, "split", numbers)
        splits = [frozenset(() if value is None else (value,)) for value in values]
        return columns.of_samples(splits)
    if protocol.query_field is None and protocol.gallery_field is None:
        return None
    roles = [
        [value if flag else None for flag in _flags(columns, name, what)]
        for name, what, value in (
            (protocol.query_field, "query", protocol.query_value),
            (protocol.gallery_field, "gallery", protocol.gallery_value),
        )
    ]
    return [frozenset(filter(None, pair)) for pair in zip(*roles, strict=True)]


def _flags(columns: _Columns, field: str | None, what: str) -> list[bool]:
    """Read a boolean field; without a field, every item has the role."""
    if field is None:
        return columns.of_samples([True] * len(columns.ids))
    values = columns.read(field, what)
    wrong = next((v for v in values if v is not None and type(v) is not bool), None)
    if wrong is not None:
        raise DataError(
            f"the {what} field '{field}' has the value {wrong!r}; a boolean field is "
            "needed, or split_field with the value of that role."
        )
    return [value is True for value in values]


def _terms(columns: _Columns, protocol: Protocol) -> dict[str, NDArray[np.int64]]:
    """Read what the rules compare beside the identity and the camera."""
    known = (protocol.identity_field, protocol.camera_field)
    return {
        str(term): read_term(
            term,
            columns.read(
                term.field if isinstance(term, Within) else term, "rule", DATES
            ),
        )
        for rule in (*protocol.exclude, protocol.gallery_per)
        for term in rule
        if term not in known
    }


def _type_name(field: fo.Field) -> str:
    """Return the name of a field's type."""
    document = getattr(field, "document_type", None)
    return document.__name__ if document is not None else type(field).__name__
