"""Identities, cameras, splits and detections as FiftyOne's users store them."""

from __future__ import annotations

import math

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam.data.images import pixel_box
from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError


def add(dataset, count=3, **columns):
    """Add samples without files; columns are lists of values."""
    samples = [fo.Sample(filepath=f"/images/{i}.png") for i in range(count)]
    for name, values in columns.items():
        for sample, value in zip(samples, values, strict=True):
            if value is not None:
                sample[name] = value
    dataset.add_samples(samples)
    return dataset


def identities(dataset, field):
    return collect_items(dataset, Protocol(identity_field=field)).identities


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "a"], ["a", "b", "a"]),
        (["a", None, ""], ["a", None, None]),
        ([7, -1, None], ["7", "-1", None]),
        ([7.0, 2.5, math.nan], ["7", "2.5", None]),
        ([True, False, None], ["True", "False", None]),
    ],
)
def test_identities_of_every_type(dataset, values, expected):
    assert identities(add(dataset, pid=values), "pid") == expected


def test_identities_in_classifications(dataset):
    labels = [fo.Classification(label="a"), fo.Classification(), None]
    add(dataset, pid=labels, other=[fo.Detection(label="d"), None, None])
    assert identities(dataset, "pid") == ["a", None, None]
    assert identities(dataset, "pid.label") == ["a", None, None]
    assert identities(dataset, "other") == ["d", None, None]


def test_columns_are_in_the_order_of_the_view(dataset):
    add(dataset, pid=["a", "b", "c"], cam=[2, 1, 1])
    view = dataset.sort_by("pid", reverse=True).limit(2)
    protocol = Protocol(identity_field="pid", camera_field="cam")
    items = collect_items(view, protocol)
    assert items.identities == ["c", "b"]
    assert items.cameras == ["1", "1"]
    assert [path[-5:] for path in items.filepaths] == ["2.png", "1.png"]
    assert items.sample_ids == items.ids == tuple(view.values("id"))
    assert items.boxes is None
    assert items.splits is None
    assert len(items) == 2


def test_splits_by_field_and_tags(dataset):
    add(dataset, part=["query", None, "gallery"])
    dataset.limit(2).tag_samples("probe")
    by_field = collect_items(dataset, Protocol(split_field="part")).splits
    assert by_field == [{"query"}, set(), {"gallery"}]
    tags = Protocol(split_field="tags", query_value="probe", gallery_value="probe")
    by_tag = collect_items(dataset, tags).splits
    assert by_tag == [{"probe"}, {"probe"}, set()]


def test_a_boolean_field_can_split(dataset):
    add(dataset, is_query=[True, False, False])
    protocol = Protocol(
        split_field="is_query",
        query_value=True,
        gallery_value=False,
    )
    splits = collect_items(dataset, protocol).splits
    assert splits is not None
    assert [protocol.query_value in split for split in splits] == [True, False, False]
    assert [protocol.gallery_value in split for split in splits] == [False, True, True]


# -- detections ------------------------------------------------------------------------


def detection(label, left=0.0, **attributes):
    return fo.Detection(label=label, bounding_box=[left, 0.25, 0.25, 0.5], **attributes)


def test_detections_are_the_items(dataset):
    add(
        dataset,
        cam=["x", "y", "z"],
        people=[
            fo.Detections(detections=[detection("a", 0.5), detection("b")]),
            None,
            fo.Detections(detections=[detection("c")]),
        ],
    )
    protocol = Protocol(identity_field="label", camera_field="cam")
    items = collect_items(dataset, protocol, "people")
    ids = dataset.values("id")
    assert items.sample_ids == (ids[0], ids[0], ids[2])
    labels = [one.id for s in dataset if s.people for one in s.people.detections]
    assert list(items.ids) == list(items.label_ids or ()) == labels
    assert items.identities == ["a", "b", "c"]
    assert items.cameras == ["x", "x", "z"]
    assert items.boxes is not None
    np.testing.assert_array_equal(
        items.boxes,
        [[0.5, 0.25, 0.25, 0.5], [0, 0.25, 0.25, 0.5], [0, 0.25, 0.25, 0.5]],
    )
    assert [path[-5] for path in items.filepaths] == ["0", "0", "2"]


@pytest.mark.parametrize("declared", [True, False])
def test_attributes_of_detections(dataset, declared):
    first = [detection("x", pid=3, cam="l"), detection("x", cam="r")]
    add(dataset, 2, people=[fo.Detections(detections=first), fo.Detections()])
    if declared:
        dataset.add_dynamic_sample_fields()
    protocol = Protocol(identity_field="pid", camera_field="cam")
    items = collect_items(dataset, protocol, "people")
    assert items.identities == ["3", None]
    assert items.cameras == ["l", "r"]


def test_a_single_detection_per_sample(dataset):
    add(dataset, face=[detection("a"), None, detection("b")], cam=[1, 2, 3])
    protocol = Protocol(
        "label", camera_field="cam", split_field="cam", query_value=1, gallery_value=3
    )
    items = collect_items(dataset, protocol, "face")
    assert items.identities == ["a", "b"]
    assert items.cameras == ["1", "3"]
    assert items.splits == [{"1"}, {"3"}]
    assert items.ids == (dataset.first().face.id, dataset.last().face.id)


def test_a_filtered_view_gives_its_detections_only(dataset):
    both = fo.Detections(detections=[detection("a"), detection("b")])
    add(dataset, 1, people=[both])
    view = dataset.filter_labels("people", fo.ViewField("label") == "b")
    items = collect_items(view, Protocol(identity_field="label"), "people")
    assert items.identities == ["b"]


def test_a_detection_without_a_box_covers_nothing(dataset):
    both = fo.Detections(detections=[fo.Detection(label="a"), detection("b")])
    add(dataset, 1, people=[both])
    items = collect_items(dataset, Protocol(), "people")
    assert items.boxes is not None
    assert items.boxes.shape == (2, 4)
    with pytest.raises(DataError, match="not finite"):
        pixel_box(items.boxes[0], 100, 100)


# -- refusals --------------------------------------------------------------------------


def refusal(samples, protocol=None, patches_field=None) -> str:
    with pytest.raises(DataError) as error:
        collect_items(samples, protocol or Protocol(), patches_field)
    return str(error.value)


def test_grouped_dataset_is_refused_and_its_slice_is_not(dataset):
    dataset.add_group_field("group", default="left")
    group = fo.Group()
    dataset.add_samples(
        [
            fo.Sample(filepath=f"/images/{name}.png", group=group.element(name))
            for name in ("left", "right")
        ]
    )
    message = refusal(dataset)
    assert "is a grouped dataset; select one slice with select_group_slices" in message
    assert "'left', 'right'" in message
    items = collect_items(dataset.select_group_slices("right"), Protocol())
    assert items.filepaths == ("/images/right.png",)


def test_video_dataset_is_refused(dataset):
    dataset.media_type = "video"
    message = refusal(dataset)
    assert "holds video samples; images are needed" in message
    assert "to_frames(sample_frames=True).clone()" in message


def test_patches_view_is_refused_and_its_clone_is_not(dataset, tmp_path):
    add(dataset, 1, people=[fo.Detections(detections=[detection("a")] * 1)])
    patches = dataset.to_patches("people")
    assert "with patches_field for detections" in refusal(patches)
    clone = patches.clone()
    try:
        assert len(collect_items(clone, Protocol())) == 1
    finally:
        clone.delete()


def test_empty_dataset_and_empty_view(dataset):
    assert "has no samples; add images, or widen the view." in refusal(dataset)
    add(dataset)
    assert "'the view' has no samples" in refusal(dataset.limit(0))


def test_samples_given_twice(dataset):
    add(dataset)
    assert "more than once" in refusal(dataset.concat(dataset))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("pidd", "has no identity field 'pidd'; its fields are 'id', 'filepath'"),
        ("vector", "identity field 'vector' holds VectorField; text, numbers or a"),
        ("tags", "identity field 'tags' holds ListField"),
        ("people", "identity field 'people' holds Detections"),
        ("people.detections.label", "holds several values per sample"),
        ("empty", "the identity field 'empty' is empty on all 3 images"),
    ],
)
def test_identity_fields_that_do_not_fit(dataset, field, message):
    people = fo.Detections(detections=[detection("a"), detection("b")])
    add(dataset, pid=["a"] * 3, people=[people, None, None])
    dataset.add_sample_field("vector", fo.VectorField)
    dataset.add_sample_field("empty", fo.StringField)
    assert message in refusal(dataset, Protocol(identity_field=field))


@pytest.mark.parametrize("rule", ["camera", "split"])
def test_other_missing_fields(dataset, rule):
    add(dataset)
    protocol = Protocol(**{f"{rule}_field": "nope"})
    assert f"has no {rule} field 'nope'" in refusal(dataset, protocol)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("nope", "has no field 'nope' to take detections from."),
        ("pid", "the field 'pid' holds StringField; detections are needed."),
        ("none", "the field 'none' holds no detections in these samples"),
    ],
)
def test_patches_fields_that_do_not_fit(dataset, field, message):
    add(dataset, pid=["a"] * 3)
    dataset.add_sample_field(
        "none", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections
    )
    assert message in refusal(dataset, patches_field=field)


def test_missing_attribute_of_detections(dataset):
    add(dataset, 1, people=[fo.Detections(detections=[detection("a")])])
    message = refusal(dataset, Protocol(identity_field="pid"), "people")
    assert "has no identity field 'pid'" in message
    vectors = [detection("a", pid=[1, 2])]
    add(dataset, 1, people=[fo.Detections(detections=vectors)])
    message = refusal(dataset, Protocol(identity_field="pid"), "people")
    assert "'people.detections.pid' holds neither text nor numbers" in message


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"junk": ["-1"], "distractors": ["0000"]},
            "the value '0000' of the rule distractors occurs in none of the 6 images; "
            "values are compared as text, and the field 'pid' has '0', '1000', '1001' "
            "(3 of 5 values); give values that occur, or leave the rule out.",
        ),
        (
            # Whole numbers have no point, and a missing label is not a value.
            {"junk": [7.0, "None", "0"]},
            "the value 'None' of the rule junk occurs in none of the 6 images; values "
            "are compared as text, and the field 'pid' has ",
        ),
        (
            {"split_field": "part", "gallery_value": "Gallery"},
            "the value 'Gallery' of the rule gallery_value occurs in none of the 6 "
            "images; values are compared as text, and the field 'part' has 'gallery', "
            "'query' (2 of 2 values); give values that occur, or leave the rule out.",
        ),
        (
            {"split_field": "tags"},
            "the value 'query' of the rule query_value occurs in none of the 6 images; "
            "values are compared as text, and the field 'tags' has no values; give",
        ),
    ],
)
def test_protocol_values_that_occur_in_no_image(dataset, rules, message):
    add(
        dataset,
        6,
        pid=[-1, 0, 7, 1000, 1001, None],
        part=["query", "gallery"] * 3,
    )
    assert message in refusal(dataset, Protocol(identity_field="pid", **rules))
    right = Protocol("pid", junk=[-1, 7], distractors=[0, 1000], split_field="part")
    assert len(collect_items(dataset, right)) == 6


def test_protocol_values_of_detections_and_of_a_view(dataset):
    first = [detection("a"), detection("b")]
    rest = [None, fo.Detections(detections=[detection("c")])]
    add(dataset, people=[fo.Detections(detections=first), *rest])
    protocol = Protocol(identity_field="label", junk=("c",))
    assert len(collect_items(dataset, protocol, "people")) == 3
    assert (
        "the value 'c' of the rule junk occurs in none of the 2 detections; values are "
        "compared as text, and the field 'label' has 'b', 'a' (2 of 2 values);"
    ) in refusal(dataset.limit(1), protocol, "people")
