"""Arrays kept in FiftyOne's database, beside the datasets that they belong to.

FiftyOne stores the results of a run as one document that is read whole. The maps of a
run are many and are looked at one pair at a time, so they are kept as blobs of their
own in a GridFS bucket of the same database: a pair costs the reading of two small ones.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gridfs
import numpy as np
from fiftyone.core.odm import get_db_conn
from numpy.typing import NDArray

from fiftyone_sfam.errors import RunError

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


BUCKET = "fiftyone_sfam"
"""Name of the GridFS bucket, the prefix of its two collections."""

# Order in which the index of the chunks gives them.
_ORDER = [("files_id", 1), ("n", 1)]
_BYTES = {"_id": 0, "files_id": 1, "data": 1}
# Blobs whose bytes are asked for at once.
_AT_ONCE = 128


class BlobStore:
    """The blobs of one run of one dataset."""

    def __init__(self, dataset_id: str, uid: str) -> None:
        self.dataset_id = dataset_id
        self.uid = uid
        self._bucket = gridfs.GridFS(get_db_conn(), collection=BUCKET)
        _files().create_index("metadata.uid")

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]], **facts: Any) -> None:
        """Store arrays under a name that is not in use yet.

        A name that is in use is left alone: blobs are never changed, and two workers
        that do the same work write the same.
        """
        data = pack_arrays(arrays)
        facts = {"dataset_id": self.dataset_id, "uid": self.uid, **facts}
        try:
            self._bucket.put(data, _id=self._id(name), metadata=facts)
        except gridfs.errors.FileExists:
            if self._bucket.exists(self._id(name)):
                return
            # A process that was killed while it wrote has left a part of the blob,
            # which nothing can read: a blob exists once it is listed.
            _chunks().delete_many({"files_id": self._id(name)})
            try:
                self._bucket.put(data, _id=self._id(name), metadata=facts)
            except gridfs.errors.FileExists:
                # It was not killed, only slow, and has written the same meanwhile.
                if not self._bucket.exists(self._id(name)):
                    raise

    def get(self, name: str) -> Arrays:
        """Read the arrays of a blob."""
        return next(self.get_many([name]))

    def get_many(self, names: Sequence[str]) -> Iterator[Arrays]:
        """Read the arrays of blobs, many with one question to the database."""
        for start in range(0, len(names), _AT_ONCE):
            some = [self._id(name) for name in names[start : start + _AT_ONCE]]
            chunks: dict[str, list[bytes]] = {one: [] for one in some}
            # Not through GridFS, which asks twice for each blob. That all of its bytes
            # are there is known from themselves.
            query = {"files_id": {"$in": some}}
            for chunk in _chunks().find(query, _BYTES).sort(_ORDER):
                chunks[chunk["files_id"]].append(chunk["data"])
            for one in some:
                parts = chunks[one]
                try:
                    data = parts[0] if len(parts) == 1 else b"".join(parts)
                    yield unpack_arrays(data)
                except ValueError as error:
                    raise RunError(
                        "the stored maps of this run are incomplete (no "
                        f"'{one[len(self.uid) + 1 :]}'); run explain_retrieval again "
                        "with overwrite=True."
                    ) from error

    def names(self) -> set[str]:
        """List the names of the run's blobs."""
        prefix = len(self.uid) + 1
        found = _files().find({"metadata.uid": self.uid}, {"_id": 1})
        return {document["_id"][prefix:] for document in found}

    def size(self) -> int:
        """Return the bytes that the run's blobs take."""
        found = _files().find({"metadata.uid": self.uid}, {"length": 1})
        return sum(document["length"] for document in found)

    def delete(self) -> None:
        """Delete the run's blobs, if they belong to this dataset.

        A cloned dataset's runs refer to the blobs of the original.
        """
        query = {"metadata.uid": self.uid, "metadata.dataset_id": self.dataset_id}
        # First what lists them: half a deletion must not leave names without blobs.
        _files().delete_many(query)
        if not _files().count_documents({"metadata.uid": self.uid}, limit=1):
            # Also what an interrupted deletion, or a killed process, has left of them.
            _chunks().delete_many({"files_id": {"$regex": f"^{re.escape(self.uid)}/"}})

    def delete_one(self, name: str) -> None:
        """Delete one blob of the run, if it exists and belongs to this dataset."""
        query = {"_id": self._id(name), "metadata.dataset_id": self.dataset_id}
        if _files().delete_many(query).deleted_count:
            _chunks().delete_many({"files_id": self._id(name)})

    def _id(self, name: str) -> str:
        return f"{self.uid}/{name}"


def unfinished_uids(dataset_id: str, fingerprint: str) -> list[str]:
    """Find the unfinished or finished runs that did the same work."""
    return sorted(
        _files().distinct(
            "metadata.uid",
            {
                "metadata.dataset_id": dataset_id,
                "metadata.fingerprint": fingerprint,
            },
        )
    )


def _files() -> Any:
    """Return the collection that describes the blobs."""
    return get_db_conn()[f"{BUCKET}.files"]


def _chunks() -> Any:
    """Return the collection that holds the blobs' bytes."""
    return get_db_conn()[f"{BUCKET}.chunks"]


# --------------------------------------------------------------------------------------
# Compact maps
# --------------------------------------------------------------------------------------

MAP_TYPES = ("int8", "float16", "float32")
"""How stored maps may be kept."""


def pack_maps(maps: NDArray[np.float32], dtype: str) -> Arrays:
    """Make maps compact."""
    if dtype == "float32":
        return {"values": maps, "scale": np.ones(len(maps), dtype=np.float32)}
    largest = np.abs(maps).max(axis=(1, 2), initial=0.0)
    steps = 127 if dtype == "int8" else 1
    tiny = np.finfo(np.float32).tiny
    scale = np.maximum(largest / steps, tiny).astype(np.float32)
    values = maps / scale[:, None, None]
    if dtype == "int8":
        values = np.rint(values)
    return {"values": values.astype(dtype), "scale": scale}


def unpack_maps(
    values: NDArray[Any], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Restore maps from :func:`pack_maps`."""
    return values.astype(np.float32) * scale[:, None, None]
