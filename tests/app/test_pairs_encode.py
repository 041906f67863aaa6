"""Arrays as JSON for the component of pairs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from fiftyone_sfam.app.pairs.encode import encode
from pairs_component import decode


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [
        (np.uint8, "u1"),
        (np.int8, "i1"),
        (np.int32, "i4"),
        (np.int64, "i4"),
        (">i4", "i4"),
        (np.uint16, "i4"),
        (np.float16, "f2"),
        (np.float32, "f4"),
        (np.float64, "f4"),
        (">f8", "f4"),
    ],
)
def test_values_come_back(dtype: Any, sent: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    encoded = encode(values.T)
    assert (encoded["shape"], encoded["dtype"], encoded["scale"]) == ([3, 2], sent, 1)
    assert decode(encoded).tolist() == values.T.tolist()


def test_little_endian_bytes() -> None:
    assert base64.b64decode(encode([1, -2])["data"]) == b"\1\0\0\0\xfe\xff\xff\xff"
    assert base64.b64decode(encode([1.0])["data"]) == b"\0\0\x80\x3f"


def test_floats_as_bytes() -> None:
    encoded = encode([-0.5, 0.25, 0.0], "i1")
    assert encoded["scale"] == 0.5 / 127
    assert base64.b64decode(encoded["data"]) == b"\x81\x40\0"
    assert np.abs(decode(encoded) - [-0.5, 0.25, 0]).max() <= encoded["scale"] / 2
    # Without values or with zeros only there is nothing to scale.
    assert encode(np.zeros((2, 2)), "i1")["scale"] == 1
    assert decode(encode(np.zeros((0, 4), np.float32), "i1")).shape == (0, 4)


def test_half_floats_that_would_be_infinite() -> None:
    assert encode([65504.0], "f2")["dtype"] == "f2"
    encoded = encode([70000.0], "f2")
    assert encoded["dtype"] == "f4"
    assert decode(encoded).tolist() == [70000]


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([np.nan], None, "not finite"),
        ([np.inf, 1.0], "i1", "not finite"),
        ([256], "u1", "not u1"),
        ([0.5], "i4", "not i4"),
        ([2**31], None, "not i4"),
        ([1], "f8", "unknown dtype 'f8'"),
    ],
)
def test_what_cannot_be_sent(values: Any, dtype: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(values, dtype)
