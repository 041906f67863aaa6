"""Several arrays as bytes that are quick to take apart.

Opening one pair reads three blobs of a dozen small arrays. With ``numpy.savez`` most of
that time goes into the zip file's directory and the arrays' headers. Here a header says
once where each array lies, and an array that compression would not make smaller (as
maps in eight bits are) is read in place.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_MAGIC = b"SFAM\x01"
_LENGTHS = struct.Struct("<QQ")
_LEVEL = 6
# Part of its size that compression has to save for an array to be kept compressed.
_WORTH = 0.1
# Bytes of a large array that tell whether compressing all of it can be worth while.
_PROBE = 2**13
_ALIGNED = 16


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Turn arrays into bytes; the same arrays always give the same."""
    entries, parts, offset = [], [], 0
    for name, array in arrays.items():
        array = np.ascontiguousarray(array).reshape(array.shape)
        if array.dtype.hasobject:
            raise ValueError(f"the array '{name}' holds Python objects.")
        raw = array.tobytes()
        part = _smaller(raw)
        is_small = len(part) < len(raw)
        entries.append(
            [name, array.dtype.str, list(array.shape), offset, len(part), is_small]
        )
        padding = -len(part) % _ALIGNED
        parts += [part, b"\0" * padding]
        offset += len(part) + padding
    header = json.dumps(entries).encode()
    header += b" " * (-(len(_MAGIC) + _LENGTHS.size + len(header)) % _ALIGNED)
    return b"".join([_MAGIC, _LENGTHS.pack(len(header), offset), header, *parts])


def _smaller(raw: bytes) -> bytes:
    """Compress bytes; return them as they are where that saves too little."""
    if len(raw) > 4 * _PROBE:
        middle = (len(raw) - _PROBE) // 2
        probe = raw[middle : middle + _PROBE]
        # Quick compression of a part does almost as well as a thorough one of it all.
        if len(zlib.compress(probe, 1)) > (1.02 - _WORTH) * len(probe):
            return raw
    small = zlib.compress(raw, _LEVEL)
    return small if len(small) <= (1 - _WORTH) * len(raw) else raw


def unpack_arrays(data: bytes) -> Arrays:
    """Restore arrays."""
    if data[:2] == b"PK":
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except zipfile.BadZipFile as error:
            raise ValueError(f"no arrays: {error}.") from error
    begin = len(_MAGIC) + _LENGTHS.size
    if data[: len(_MAGIC)] != _MAGIC or len(data) < begin:
        raise ValueError("no arrays: the bytes begin like something else.")
    header, length = _LENGTHS.unpack(data[len(_MAGIC) : begin])
    first = begin + header
    if len(data) != first + length:
        raise ValueError(f"{len(data)} of {first + length} bytes of arrays are there.")
    found: Arrays = {}
    for name, dtype, shape, offset, size, is_small in json.loads(data[begin:first]):
        part: Any = memoryview(data)[first + offset : first + offset + size]
        if is_small:
            part = zlib.decompress(part)
        found[name] = np.frombuffer(part, dtype=np.dtype(dtype)).reshape(shape)
    return found
