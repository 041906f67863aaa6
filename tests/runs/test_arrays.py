"""Arrays as bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fiftyone_sfam.runs.blobs import pack_arrays, unpack_arrays

NOISE = np.random.default_rng(0).integers(0, 256, size=4096, dtype=np.uint8)

arrays = st.dictionaries(
    st.text(max_size=8),
    hnp.arrays(
        st.sampled_from(["<i1", "<f2", "<f4", "<f8", "<i8", "?", "S5", "<U3"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(arrays)
def test_arrays_come_back_as_they_were(arrays):
    data = pack_arrays(arrays)
    found = unpack_arrays(data)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert pack_arrays(found) == data


def test_what_can_be_made_smaller_is_and_noise_is_read_in_place():
    assert len(pack_arrays({"x": np.zeros(100_000)})) < 1000
    data = pack_arrays({"x": np.zeros(8), "noise": NOISE})
    assert 4096 < len(data) < 4096 + 250
    assert NOISE.tobytes() in data
    found = unpack_arrays(data)["noise"]
    assert not found.flags.owndata
    assert found.ctypes.data % 16 == np.frombuffer(data, np.uint8).ctypes.data % 16


def test_not_contiguous():
    array = np.arange(12).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(unpack_arrays(pack_arrays({"x": array}))["x"], array)


def test_archives_of_earlier_versions_are_read():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=NOISE, y=np.array([b"a", b"bc"]))
    found = unpack_arrays(stream.getvalue())
    np.testing.assert_array_equal(found["x"], NOISE)
    assert found["y"].tolist() == [b"a", b"bc"]
    with pytest.raises(ValueError, match="not packed arrays: "):
        unpack_arrays(stream.getvalue()[:-40])


def test_what_is_not_all_there_is_refused():
    data = pack_arrays({"x": NOISE})
    with pytest.raises(ValueError, match=f"{len(data) - 1} of {len(data)} bytes"):
        unpack_arrays(data[:-1])
    for wrong in (b"", b"SFAM\x01", b"something else"):
        with pytest.raises(ValueError, match="the first bytes are wrong"):
            unpack_arrays(wrong)


def test_python_objects_are_refused():
    with pytest.raises(ValueError, match="'x' holds Python objects"):
        pack_arrays({"x": np.array([{}], dtype=object)})
