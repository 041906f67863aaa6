"""Arrays stored as blobs in FiftyOne's database, next to the datasets.

FiftyOne stores the results of a run as one document that is read whole. The maps of a
run are many and are viewed one pair at a time, so they are separate blobs in a GridFS
bucket of the same database: opening a pair reads two small blobs.
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

from fiftyone_sfam.errors import DataError, RunError

Arrays = dict[str, NDArray[Any]]

_MAGIC = b"SFAM\x01"
_LENGTHS = struct.Struct("<QQ")
_LEVEL = 6
# An array is stored compressed if that saves at least this part of its size.
_WORTH = 0.1
# Bytes of a large array that are compressed first, to estimate the saving.
_PROBE = 2**13
_ALIGNED = 16


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Turn arrays into bytes; the same arrays always give the same bytes."""
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
    """Compress bytes; return them unchanged if that saves too little."""
    if len(raw) > 4 * _PROBE:
        middle = (len(raw) - _PROBE) // 2
        probe = raw[middle : middle + _PROBE]
        # Fast compression of a part predicts the saving well enough.
        if len(zlib.compress(probe, 1)) > (1.02 - _WORTH) * len(probe):
            return raw
    small = zlib.compress(raw, _LEVEL)
    return small if len(small) <= (1 - _WORTH) * len(raw) else raw


def unpack_arrays(data: bytes) -> Arrays:
    """Restore the arrays from :func:`pack_arrays`."""
    if data[:2] == b"PK":
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except zipfile.BadZipFile as error:
            raise ValueError(f"not packed arrays: {error}.") from error
    begin = len(_MAGIC) + _LENGTHS.size
    if data[: len(_MAGIC)] != _MAGIC or len(data) < begin:
        raise ValueError("not packed arrays: the first bytes are wrong.")
    header, length = _LENGTHS.unpack(data[len(_MAGIC) : begin])
    first = begin + header
    if len(data) != first + length:
        raise ValueError(f"only {len(data)} of {first + length} bytes are present.")
    arrays: Arrays = {}
    for name, dtype, shape, offset, size, is_small in json.loads(data[begin:first]):
        part: Any = memoryview(data)[first + offset : first + offset + size]
        if is_small:
            part = zlib.decompress(part)
        arrays[name] = np.frombuffer(part, dtype=np.dtype(dtype)).reshape(shape)
    return arrays


def json_array(values: Any) -> NDArray[np.uint8]:
    """Turn plain data into an array, to be stored with others."""
    return np.frombuffer(json.dumps(values).encode(), dtype=np.uint8)


def from_json_array(array: NDArray[Any]) -> Any:
    """Restore the data from :func:`json_array`."""
    return json.loads(array.tobytes().decode())


BUCKET = "fiftyone_sfam"
"""Name of the GridFS bucket, the prefix of its two collections."""

# Order of the index of the chunks.
_ORDER = [("files_id", 1), ("n", 1)]
_BYTES = {"_id": 0, "files_id": 1, "data": 1}
# Blobs that one query reads.
_AT_ONCE = 128
# A document of MongoDB holds 16 MiB; a larger summary is not stored.
_MAX_SUMMARY = 2**23
_ROW = struct.Struct("<Q")

LARGEST_ROW = 15 * 2**20
"""Largest size of a row, in bytes: a document of MongoDB."""


class BlobStore:
    """The blobs of one run of one dataset.

    With a ``fingerprint``, every blob that is stored carries it, so that an interrupted
    run can be found again.
    """

    def __init__(
        self, dataset_id: str, uid: str, fingerprint: str | None = None
    ) -> None:
        self.dataset_id = dataset_id
        self.uid = uid
        self.fingerprint = fingerprint
        self._bucket = gridfs.GridFS(get_db_conn(), collection=BUCKET)
        blob_files().create_index("metadata.uid")

    def put(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        summary: Arrays | None = None,
    ) -> None:
        """Store arrays under a name, and a summary of them in the blob's metadata.

        If the name is in use, nothing changes: two workers that do the same work store
        the same bytes.
        """
        more: dict[str, Any] = {}
        if summary is not None and len(packed := pack_arrays(summary)) <= _MAX_SUMMARY:
            more["summary"] = packed
        self._put(name, pack_arrays(arrays), more)

    def put_rows(self, name: str, rows: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Store arrays in numbered rows, each of which is read by itself.

        Each row is a chunk of the blob.
        """
        packed = [pack_arrays(row) for row in rows]
        packed = [_ROW.pack(len(data)) + data for data in packed]
        size = max(map(len, packed))
        if size > LARGEST_ROW:
            raise DataError(
                f"the contributions of one image take {size} bytes, more than the "
                f"database can store as one piece ({LARGEST_ROW}); give "
                "contribution_dims, or name a later layer."
            )
        data = b"".join(data.ljust(size, b"\0") for data in packed)
        self._put(name, data, {}, chunk_size=size)

    def _put(
        self, name: str, data: bytes, more: dict[str, Any], **options: int
    ) -> None:
        """Store bytes under a name that is not in use."""
        metadata = {"dataset_id": self.dataset_id, "uid": self.uid, **more}
        if self.fingerprint is not None:
            metadata["fingerprint"] = self.fingerprint
        file: dict[str, Any] = {"_id": self._id(name), "metadata": metadata, **options}
        try:
            self._bucket.put(data, **file)
        except gridfs.errors.FileExists:
            if self._bucket.exists(self._id(name)):
                return
            # A killed process has left chunks of a blob that is not listed, so that
            # nothing can read it.
            blob_chunks().delete_many({"files_id": self._id(name)})
            try:
                self._bucket.put(data, **file)
            except gridfs.errors.FileExists:
                # The other process was slow, not killed, and has stored the same bytes.
                if not self._bucket.exists(self._id(name)):
                    raise

    def get(self, name: str) -> Arrays:
        """Read the arrays of a blob."""
        return next(self.get_many([name]))

    def get_many(self, names: Sequence[str]) -> Iterator[Arrays]:
        """Read the arrays of blobs, many with one query."""
        for start in range(0, len(names), _AT_ONCE):
            ids = [self._id(name) for name in names[start : start + _AT_ONCE]]
            chunks: dict[str, list[bytes]] = {blob_id: [] for blob_id in ids}
            # GridFS would send two queries per blob. The bytes themselves say how many
            # there must be.
            query = {"files_id": {"$in": ids}}
            for chunk in blob_chunks().find(query, _BYTES).sort(_ORDER):
                chunks[chunk["files_id"]].append(chunk["data"])
            for blob_id in ids:
                parts = chunks[blob_id]
                try:
                    data = parts[0] if len(parts) == 1 else b"".join(parts)
                    yield unpack_arrays(data)
                except ValueError as error:
                    name = blob_id[len(self.uid) + 1 :]
                    raise self._incomplete(name) from error

    def get_rows(self, places: Sequence[tuple[str, int]]) -> list[Arrays]:
        """Read rows of blobs, all with one query."""
        wanted = [{"files_id": self._id(name), "n": row} for name, row in places]
        stored = {
            (chunk["files_id"], chunk["n"]): chunk["data"]
            for chunk in blob_chunks().find({"$or": wanted})
        }
        rows = []
        for name, row in places:
            data = stored.get((self._id(name), row), b"")
            length = _ROW.unpack_from(data)[0] if len(data) >= _ROW.size else 0
            try:
                rows.append(unpack_arrays(data[_ROW.size : _ROW.size + length]))
            except ValueError as error:
                raise self._incomplete(f"{name}, row {row}") from error
        return rows

    def _incomplete(self, name: str) -> RunError:
        return RunError(
            f"the stored maps of this run are incomplete (no '{name}'); run "
            "explain_retrieval again with overwrite=True."
        )

    def summaries(self, names: Sequence[str]) -> Iterator[Arrays | None]:
        """Read the summaries of blobs; None for a blob that has none."""
        for start in range(0, len(names), _AT_ONCE):
            ids = [self._id(name) for name in names[start : start + _AT_ONCE]]
            query = {"_id": {"$in": ids}}
            packed = {
                file["_id"]: file["metadata"].get("summary")
                for file in blob_files().find(query, {"metadata.summary": 1})
            }
            for blob_id in ids:
                data = packed.get(blob_id)
                yield None if data is None else unpack_arrays(data)

    def names(self) -> set[str]:
        """List the names of the run's blobs."""
        prefix = len(self.uid) + 1
        files = blob_files().find({"metadata.uid": self.uid}, {"_id": 1})
        return {file["_id"][prefix:] for file in files}

    def size(self) -> int:
        """Return the size of the run's blobs in bytes."""
        files = blob_files().find({"metadata.uid": self.uid}, {"length": 1})
        return sum(file["length"] for file in files)

    def delete(self) -> None:
        """Delete the run's blobs, if they belong to this dataset.

        The runs of a cloned dataset refer to the blobs of the original.
        """
        query = {"metadata.uid": self.uid, "metadata.dataset_id": self.dataset_id}
        # The listing first: an interrupted deletion must not leave names without bytes.
        blob_files().delete_many(query)
        if not blob_files().count_documents({"metadata.uid": self.uid}, limit=1):
            # Includes chunks left by an interrupted deletion or a killed process.
            blob_chunks().delete_many(
                {"files_id": {"$regex": f"^{re.escape(self.uid)}/"}}
            )

    def delete_one(self, name: str) -> None:
        """Delete one blob of the run, if it exists and belongs to this dataset."""
        query = {"_id": self._id(name), "metadata.dataset_id": self.dataset_id}
        if blob_files().delete_many(query).deleted_count:
            blob_chunks().delete_many({"files_id": self._id(name)})

    def _id(self, name: str) -> str:
        return f"{self.uid}/{name}"


def unfinished_uids(dataset_id: str, fingerprint: str) -> list[str]:
    """List the runs of a fingerprint that have blobs, finished or not."""
    return sorted(
        blob_files().distinct(
            "metadata.uid",
            {
                "metadata.dataset_id": dataset_id,
                "metadata.fingerprint": fingerprint,
            },
        )
    )


def blob_files() -> Any:
    """Return the collection that describes the blobs."""
    return get_db_conn()[f"{BUCKET}.files"]


def blob_chunks() -> Any:
    """Return the collection that holds the blobs' bytes."""
    return get_db_conn()[f"{BUCKET}.chunks"]


# --------------------------------------------------------------------------------------
# Compact maps
# --------------------------------------------------------------------------------------

MAP_TYPES = ("int8", "float16", "float32")
"""Types in which maps can be stored."""


def pack_maps(maps: NDArray[np.float32], dtype: str) -> Arrays:
    """Convert maps of shape (S, h, w) to a smaller type, with one scale per map."""
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
