"""Blobs in the database, and maps made small."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.blobs import (
    BUCKET,
    BlobStore,
    pack_maps,
    unfinished_uids,
    unpack_maps,
)


@pytest.fixture
def store():
    store = BlobStore(uuid.uuid4().hex, uuid.uuid4().hex)
    yield store
    store.delete()


def chunks(store):
    prefix = {"files_id": {"$regex": f"^{store.uid}/"}}
    return get_db_conn()[f"{BUCKET}.chunks"].count_documents(prefix)


def test_arrays_come_back(store):
    arrays = {
        "maps": np.arange(24, dtype=np.int8).reshape(2, 3, 4),
        "scale": np.array([0.5, np.nan], dtype=np.float32),
        "ids": np.array([b"a", b"bc"]),
        "nothing": np.zeros((0, 4)),
    }
    store.put("one", arrays)
    back = store.get("one")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_blob_is_never_changed(store):
    store.put("one", {"x": np.zeros(2)})
    store.put("one", {"x": np.ones(3)})
    np.testing.assert_array_equal(store.get("one")["x"], [0, 0])


def test_what_a_killed_writer_left_is_written_again(store):
    # What GridFS leaves behind when the process ends within a write: bytes in no list.
    get_db_conn()[f"{BUCKET}.chunks"].insert_one(
        {"files_id": f"{store.uid}/one", "n": 0, "data": b"half"}
    )
    assert store.names() == set()
    with pytest.raises(RunError, match=r"\(no 'one'\)"):
        store.get("one")
    store.put("one", {"x": np.arange(3)})
    assert store.names() == {"one"}
    np.testing.assert_array_equal(store.get("one")["x"], [0, 1, 2])


def test_names_and_size_are_of_one_run(store):
    other = BlobStore(store.dataset_id, uuid.uuid4().hex)
    noise = np.random.default_rng(0).integers(0, 255, 300_000, dtype=np.uint8)
    try:
        store.put("a", {"x": noise})
        store.put("b", {"x": noise[:1000]})
        other.put("c", {"x": noise[:1000]})
        assert store.names() == {"a", "b"}
        assert 301_000 < store.size() < 303_000
        assert other.names() == {"c"}
        store.delete()
        assert (store.names(), store.size(), chunks(store)) == (set(), 0, 0)
        assert other.names() == {"c"}
        np.testing.assert_array_equal(other.get("c")["x"], noise[:1000])
    finally:
        other.delete()


def test_another_dataset_reads_but_does_not_delete(store):
    store.put("a", {"x": np.ones(1)})
    clone = BlobStore(uuid.uuid4().hex, store.uid)
    clone.delete()
    assert clone.get("a")["x"].tolist() == [1]
    assert chunks(store) == 1


def test_blobs_of_several_chunks_are_read_together_in_the_order_asked_for(store):
    noise = np.random.default_rng(0).integers(0, 255, (4, 700_000), dtype=np.uint8)
    for number, values in enumerate(noise):
        store.put(str(number), {"x": values})
    assert chunks(store) == 4 * 3
    names = ["2", "0", "3", "0"]
    found = [blob["x"] for blob in store.get_many(names)]
    np.testing.assert_array_equal(found, noise[[2, 0, 3, 0]])
    # A chunk that is not there is noticed.
    get_db_conn()[f"{BUCKET}.chunks"].delete_one({"files_id": f"{store.uid}/3", "n": 1})
    with pytest.raises(RunError, match=r"\(no '3'\)"):
        list(store.get_many(names))


def test_missing_blob_says_what_to_do(store):
    with pytest.raises(RunError, match=r"\(no 'maps-000001'\); run explain_retrieval"):
        store.get("maps-000001")


def test_same_work_is_found_by_its_fingerprint(store):
    store = BlobStore(store.dataset_id, store.uid, "f1")
    store.put("a", {"x": np.ones(1)})
    store.put("b", {"x": np.ones(1)})
    assert unfinished_uids(store.dataset_id, "f1") == [store.uid]
    assert unfinished_uids(store.dataset_id, "f2") == []
    assert unfinished_uids("another", "f1") == []


def test_summaries_are_read_without_their_blobs(store):
    store.put("a", {"x": np.ones(1)}, {"y": np.arange(3)})
    store.put("b", {"x": np.ones(1)})
    # Incompressible, and larger than a document of the database may be.
    noise = np.frombuffer(np.random.default_rng(0).bytes(2**24), dtype=np.uint8)
    store.put("c", {"x": np.ones(1)}, {"y": noise})
    get_db_conn()[f"{BUCKET}.chunks"].delete_many({"files_id": f"{store.uid}/a"})
    first, *rest = store.summaries(["a", "b", "c", "d"])
    assert first["y"].tolist() == [0, 1, 2]
    assert rest == [None, None, None]


# -- compact maps ----------------------------------------------------------------------

MAPS = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
MAPS *= np.array([1, 1e-3, 1e6, 1e-30, 0], dtype=np.float32)[:, None, None]


@pytest.mark.parametrize(
    ("dtype", "bound"), [("int8", 1 / 254), ("float16", 2**-11), ("float32", 0)]
)
def test_packed_maps_come_back(dtype, bound):
    packed = pack_maps(MAPS, dtype)
    assert packed["values"].dtype == dtype
    assert packed["scale"].dtype == np.float32
    back = unpack_maps(packed["values"], packed["scale"])
    assert back.dtype == np.float32
    largest = np.abs(MAPS).max(axis=(1, 2))
    apart = np.abs(back - MAPS).max(axis=(1, 2))
    assert (apart <= largest * bound * 1.0001).all()
    np.testing.assert_array_equal(back[4], 0)


def test_eight_bits_by_hand():
    maps = np.array([[[-2.0, 1.0], [0.0, 0.004]]], dtype=np.float32)
    packed = pack_maps(maps, "int8")
    # One step is 2 / 127: 1 is 63.5 of them, to even 64; 0.004 is a quarter of one.
    assert packed["values"].tolist() == [[[-127, 64], [0, 0]]]
    assert packed["scale"] == pytest.approx(2 / 127)


def test_smallest_numbers_do_not_overflow():
    maps = np.full((1, 2, 2), 1e-44, dtype=np.float32)
    assert np.abs(unpack_maps(**pack_maps(maps, "int8"))).max() <= 1e-40


def test_no_maps():
    packed = pack_maps(np.zeros((0, 4, 3), dtype=np.float32), "int8")
    assert unpack_maps(**packed).shape == (0, 4, 3)
