"""Embeddings from every place that they are kept in."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.embeddings import (
    Embeddings,
    check_index_key,
    check_usable,
    keep_as_index,
    stored_embeddings,
)

VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def six(dataset):
    """Six samples without files."""
    dataset.add_samples(fo.Sample(filepath=f"/images/{i}.png") for i in range(6))
    return dataset


@pytest.fixture
def frames(dataset):
    """Two frames of three and one detections, and one of none between them."""
    for rows in (VECTORS[:3], [], VECTORS[3:4]):
        sample = fo.Sample(filepath=f"/images/frame-{len(rows)}.png")
        sample["people"] = fo.Detections(
            detections=[
                fo.Detection(label="p", bounding_box=[0, 0, 1, 1], vector=row.tolist())
                for row in rows
            ]
        )
        dataset.add_sample(sample)
    return dataset


def read(samples, source, patches_field=None) -> Embeddings:
    items = collect_items(samples, Protocol(), patches_field)
    return stored_embeddings(samples, items, source, patches_field)


def refusal(samples, source, patches_field=None) -> str:
    with pytest.raises(DataError) as error:
        read(samples, source, patches_field)
    return str(error.value)


def make_index(samples, **kwargs):
    return fob.compute_similarity(
        samples, brain_key="index", backend="sklearn", **kwargs
    )


# -- similarity indexes ----------------------------------------------------------------


def test_from_an_index(six):
    make_index(six, embeddings=VECTORS)
    found = read(six, "index")
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert found.vectors.dtype == np.float32
    assert found.usable.all()
    assert found.skipped == ()


def test_from_an_index_that_was_queried(six):
    # FiftyOne centers the embeddings of its index in place when it is queried.
    index = make_index(six, embeddings=VECTORS, metric="cosine")
    six.sort_by_similarity(six.first().id, k=3, brain_key="index").values("id")
    assert not np.allclose(index.get_embeddings()[0], VECTORS)
    np.testing.assert_array_equal(read(six, "index").vectors, VECTORS)


def test_from_an_index_in_the_order_of_the_view(six):
    make_index(six, embeddings=VECTORS)
    view = six.sort_by("filepath", reverse=True).limit(2)
    np.testing.assert_array_equal(read(view, "index").vectors, VECTORS[[5, 4]])


def test_images_that_an_index_has_not(six):
    make_index(six[:4], embeddings=VECTORS[:4])
    found = read(six, "index")
    assert found.usable.tolist() == [True] * 4 + [False] * 2
    np.testing.assert_array_equal(found.vectors[4:], 0)
    assert [one.index for one in found.skipped] == [4, 5]
    assert found.skipped[0].reason == (
        "it has no embedding in the similarity index 'index'."
    )
    assert found.skipped[0].id == six.values("id")[4]
    assert found.skipped[0].filepath.endswith("4.png")


def test_index_of_detections(frames):
    frames.add_dynamic_sample_fields()
    make_index(frames, patches_field="people", embeddings="vector")
    np.testing.assert_array_equal(read(frames, "index", "people").vectors, VECTORS[:4])
    message = refusal(frames, "index")
    assert "was made for 'people', but this run compares 'whole images'" in message


def test_index_of_whole_images_for_detections(frames):
    make_index(frames, embeddings=VECTORS[:3])
    message = refusal(frames, "index", "people")
    assert "was made for 'whole images', but this run compares 'people'" in message


def test_index_of_other_images(six, make_dataset):
    make_index(six[:3], embeddings=VECTORS[:3])
    assert "holds none of these images" in refusal(six[3:], "index")
    other = make_dataset()
    other.add_sample(fo.Sample(filepath="/images/0.png"))
    assert "has neither a field 'index' nor a similarity index" in refusal(
        other, "index"
    )


def test_brain_run_of_another_kind(six):
    fob.compute_visualization(
        six, embeddings=VECTORS, method="pca", brain_key="picture", verbose=False
    )
    assert "brain run 'picture' is not a similarity index" in refusal(six, "picture")


# -- fields and arrays -----------------------------------------------------------------


def test_from_a_field(six):
    six.set_values("vector", list(VECTORS))
    np.testing.assert_array_equal(read(six, "vector").vectors, VECTORS)
    six.set_values("listed", VECTORS.astype(float).tolist())
    np.testing.assert_array_equal(read(six[1:3], "listed").vectors, VECTORS[1:3])


def test_from_an_attribute_of_detections(frames):
    np.testing.assert_array_equal(read(frames, "vector", "people").vectors, VECTORS[:4])
    frames.add_dynamic_sample_fields()
    np.testing.assert_array_equal(read(frames, "vector", "people").vectors, VECTORS[:4])


def test_from_an_attribute_of_a_single_detection(dataset):
    for row in (0, None, 2):
        sample = fo.Sample(filepath=f"/images/{row}.png")
        if row is not None:
            sample["face"] = fo.Detection(bounding_box=[0, 0, 1, 1])
            sample["face"]["vector"] = VECTORS[row].tolist()
        dataset.add_sample(sample)
    np.testing.assert_array_equal(
        read(dataset, "vector", "face").vectors, VECTORS[[0, 2]]
    )


def test_detections_without_the_attribute_are_skipped(frames):
    sample = frames.first()
    sample.people.detections[1].vector = None
    sample.save()
    found = read(frames, "vector", "people")
    assert found.usable.tolist() == [True, False, True, True]
    assert found.skipped[0].id == sample.people.detections[1].id
    np.testing.assert_array_equal(found.vectors[[0, 2, 3]], VECTORS[[0, 2, 3]])


def test_from_an_array(six):
    np.testing.assert_array_equal(
        read(six, VECTORS.astype(np.float64)).vectors, VECTORS
    )
    assert read(six, np.arange(24).reshape(6, 4)).vectors[2].tolist() == [8, 9, 10, 11]


def test_what_cannot_be_used_is_skipped(six):
    vectors = [v.tolist() for v in VECTORS]
    vectors[1] = None
    vectors[2] = [0.0] * 4
    vectors[3][0] = float("nan")
    vectors[4][3] = float("inf")
    six.set_values("vector", vectors)
    found = read(six, "vector")
    assert found.usable.tolist() == [True, False, False, False, False, True]
    assert [one.reason for one in found.skipped] == [
        "it has no embedding in the field 'vector'.",
        "its embedding is zero.",
        "its embedding holds NaN or infinity.",
        "its embedding holds NaN or infinity.",
    ]
    np.testing.assert_array_equal(found.vectors[~found.usable], 0)


def test_check_usable():
    rows = np.array([[0, 1], [0, 0], [np.nan, 0], [np.inf, -np.inf]])
    reasons = check_usable(rows)
    assert [reason is None for reason in reasons] == [True, False, False, False]
    assert reasons[1] == "its embedding is zero."


def test_sources_that_do_not_fit(six):
    six.set_values("vector", [v.tolist() for v in VECTORS[:5]] + [[1.0, 2.0]])
    assert "holds embeddings of shapes (2,), (4,); all must be" in refusal(
        six, "vector"
    )
    assert "the field 'filepath' does not hold vectors of numbers" in refusal(
        six, "filepath"
    )
    six.set_values("number", [1.0] * 6)
    assert "holds embeddings of shapes (); all must be" in refusal(six, "number")
    six.add_sample_field("empty", fo.VectorField)
    assert "the field 'empty' holds no embeddings of these images" in refusal(
        six, "empty"
    )
    make_index(six, embeddings=VECTORS)
    message = refusal(six, "nope")
    assert "has neither a field 'nope' nor a similarity index 'nope'" in message
    assert "its brain keys: 'index'" in message


@pytest.mark.parametrize("shape", [(5, 4), (6,), (6, 2, 2)])
def test_arrays_of_a_wrong_shape(six, shape):
    assert "one row for each of the 6 images is needed" in refusal(six, np.ones(shape))


def test_attribute_that_no_detection_has(frames):
    assert "has neither a field 'people.detections.nope'" in refusal(
        frames, "nope", "people"
    )


# -- keeping them ----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_kept_index_holds_what_is_usable(six, metric):
    items = collect_items(six, Protocol())
    found = stored_embeddings(six, items, VECTORS, None)
    usable = np.array([True, True, False, True, True, True])
    kept = Embeddings(found.vectors, usable, ())
    keep_as_index(six, items, kept, metric, "kept", None)
    assert six.get_brain_info("kept").config.metric == metric
    again = read(six, "kept")
    assert again.usable.tolist() == usable.tolist()
    np.testing.assert_array_equal(again.vectors[usable], VECTORS[usable])
    # It is one of FiftyOne's own.
    ids = six.sort_by_similarity(six.first().id, k=2, brain_key="kept").values("id")
    assert ids[0] == six.first().id


def test_kept_index_of_detections(frames):
    items = collect_items(frames, Protocol(), "people")
    found = stored_embeddings(frames, items, "vector", "people")
    keep_as_index(frames, items, found, "cosine", "kept", "people")
    np.testing.assert_array_equal(read(frames, "kept", "people").vectors, VECTORS[:4])


def test_keys_that_cannot_be_kept_under(six):
    make_index(six, embeddings=VECTORS)
    with pytest.raises(DataError, match="brain key 'index' is in use; choose another"):
        check_index_key(six, "index")
    with pytest.raises(DataError, match="brain key 'my index' cannot be used"):
        check_index_key(six, "my index")
    check_index_key(six, "free")
