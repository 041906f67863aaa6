"""Arrays as JSON: base64 of their values, as the component decodes them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

DTYPES = ("f4", "f2", "i4", "i1", "u1")
"""Types of values that the component can decode, see ``Encoded`` in ``types.ts``."""

_LARGEST = 127  # of a signed byte
_LARGEST_HALF = float(np.finfo(np.float16).max)


def encode(array: ArrayLike, dtype: str | None = None) -> dict[str, Any]:
    """Encode an array for the component.

    Parameters
    ----------
    array : array-like
        Finite numbers of any shape.
    dtype : str, optional
        One of :data:`DTYPES`; by default ``"u1"``, ``"i1"`` and ``"f2"`` for arrays of
        these types, ``"i4"`` for other whole numbers and ``"f4"`` for the rest. Floats
        become ``"i1"`` by division by a scale, so that the largest absolute value is
        127. Values too large for ``"f2"`` are sent as ``"f4"``.

    Returns
    -------
    dict
        Shape, dtype, scale and little-endian base64 data, in C order.

    Raises
    ------
    ValueError
        If the dtype is unknown, a value is not finite, or does not fit the dtype.
    """
    values = np.asarray(array)
    if dtype is None:
        dtype = f"{values.dtype.kind}{values.dtype.itemsize}"
        if dtype not in DTYPES:
            dtype = "i4" if values.dtype.kind in "iub" else "f4"
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; use one of {', '.join(DTYPES)}.")
    largest = float(np.abs(values.astype(np.float64)).max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError("an array for the component has values that are not finite.")
    scale = 1.0
    if dtype == "i1" and values.dtype.kind == "f":
        scale = largest / _LARGEST or 1.0
        values = np.rint(values / scale)
    if dtype == "f2" and largest > _LARGEST_HALF:
        dtype = "f4"
    stored = values.astype(np.dtype(dtype).newbyteorder("<"))
    if dtype in ("i4", "i1", "u1") and not np.array_equal(stored, values):
        raise ValueError(f"an array for the component has values that are not {dtype}.")
    return {
        "shape": list(values.shape),
        "dtype": dtype,
        "scale": scale,
        "data": base64.b64encode(stored.tobytes()).decode(),
    }
