"""The results of audits, stored with the run.

Each result is a FiftyOne custom run ``KEY_NAME``, so that FiftyOne lists it; its arrays
are a blob of the run. Results are deleted and renamed with the run.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import fiftyone as fo

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.run_config import delete_fields, rename_fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

METHOD_PREFIX = "fiftyone_sfam/result/"
"""Prefix of the methods of results; the name of the result follows."""


@dataclass(frozen=True)
class Result:
    """The result of an audit."""

    name: str  # kind of audit, such as "evaluation"
    config: dict[str, Any]  # settings and figures, as plain data
    arrays: Arrays
    fields: tuple[str, ...]  # paths of the fields that the audit has written
    created: str  # time in UTC, ISO 8601


def restore(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of stored values, with tuples for lists.

    Values that an earlier version did not store have their defaults.
    """
    names = [
        column.name
        for column in fields(kind)
        if column.name in values
        or (column.default is MISSING and column.default_factory is MISSING)
    ]
    return kind(**{name: _frozen(values[name]) for name in names})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def list_results(
    dataset: fo.Dataset, prefix: str
) -> list[tuple[str, str, dict[str, Any]]]:
    """List all runs' finished results whose names begin so, without their arrays.

    Returns unique id of the run, name and settings of each.
    """
    records = (dataset.get_run_info(key).config for key in dataset.list_runs())
    return [
        (
            str(record.run_uid),
            str(record.method).removeprefix(METHOD_PREFIX),
            json.loads(record.json),
        )
        for record in records
        if str(record.method).startswith(METHOD_PREFIX + prefix)
        and _is_finished(record)
    ]


class ResultStore:
    """The results of one run."""

    def __init__(self, dataset: fo.Dataset, key: str, uid: str) -> None:
        self.dataset = dataset
        self.key = key
        self.uid = uid
        self._blobs = BlobStore(str(dataset._doc.id), uid)

    def names(self) -> list[str]:
        """List the names of the finished results."""
        records = self._records().items()
        return sorted(name for name, (_, record) in records if _is_finished(record))

    def load(self, name: str) -> Result | None:
        """Read a finished result; None if there is none."""
        record = self._record(name)[1]
        if record is None or not _is_finished(record):
            return None
        return Result(
            name,
            json.loads(record.json),
            self._blobs.get(record.blob),
            tuple(record.fields),
            str(record.created),
        )

    def check_fields(self, name: str, fields: Iterable[str]) -> None:
        """Raise if fields exist that do not belong to an earlier result of the name."""
        key, (old_key, record) = self._key(name), self._record(name)
        if key in self.dataset.list_runs() and key != old_key:
            raise RunError(
                f"'{self.dataset.name}' has a run '{key}' of another kind; rename it."
            )
        written = set() if record is None else set(record.fields)
        for path in fields:
            if path not in written and self.dataset.get_field(path) is not None:
                raise RunError(
                    f"'{self.dataset.name}' has a field '{path}' that does not belong "
                    "to this audit; rename it."
                )

    def save(
        self,
        name: str,
        config: Mapping[str, Any],
        arrays: Arrays,
        fields: Iterable[str] = (),
        finished: bool = True,
    ) -> None:
        """Store a result; replaces an earlier result of its name."""
        fields = list(fields)
        self.check_fields(name, fields)
        key, (old_key, old) = self._key(name), self._record(name)
        if old is not None:
            delete_fields(self.dataset, set(old.fields) - set(fields))
        blob = f"result-{name}-{uuid.uuid4().hex[:8]}"
        self._blobs.put(blob, arrays)
        record = self.dataset.init_run(
            method=METHOD_PREFIX + name,
            run_key_of=self.key,
            run_uid=self.uid,
            blob=blob,
            json=json.dumps(dict(config)),
            fields=fields,
            finished=finished,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        if old_key == key:
            # FiftyOne replaces one document: the fields always have an owner.
            self.dataset.update_run_config(key, record)
        else:
            self.dataset.register_run(key, record)
        if old is not None:
            if old_key != key:
                self.dataset.delete_run(old_key)
            self._blobs.delete_one(old.blob)

    def finish(self, name: str) -> None:
        """Record that the fields of a result are written."""
        key, record = self._record(name)
        record.finished = True
        self.dataset.update_run_config(key, record)

    def delete(self, name: str) -> None:
        """Delete a result with its fields, if it exists."""
        key, record = self._record(name)
        if record is not None:
            delete_fields(self.dataset, record.fields)
            self.dataset.delete_run(key)
            self._blobs.delete_one(record.blob)

    def delete_all(self) -> None:
        """Delete all results with their fields."""
        for name in list(self._records()):
            self.delete(name)

    def check_rename(self, new_key: str) -> None:
        """Raise if the run cannot get a new key because a result or a field exists."""
        target = ResultStore(self.dataset, new_key, self.uid)
        for name, (_, record) in self._records().items():
            moves = self._moves(record, new_key)
            target.check_fields(name, moves.values())

    def rename(self, new_key: str) -> None:
        """Rename all results, and their fields ``KEY_...``, for a new key of the run.

        Repeated after an interruption, this renames the remaining ones.
        """
        target = ResultStore(self.dataset, new_key, self.uid)
        for name, (key, record) in self._records().items():
            # The new key may begin with the old one, so names do not show what is done.
            if record.run_key_of != new_key:
                moves = self._moves(record, new_key)
                rename_fields(self.dataset, moves)
                record.run_key_of = new_key
                record.fields = [moves.get(path, path) for path in record.fields]
                self.dataset.update_run_config(key, record)
            if key != target._key(name):
                self.dataset.rename_run(key, target._key(name))

    def _key(self, name: str) -> str:
        return f"{self.key}_{name}"

    def _moves(self, record: Any, new_key: str) -> dict[str, str]:
        """Return the new paths of a result's fields by the old ones."""
        moves = {}
        for path in record.fields:
            head, dot, last = path.rpartition(".")
            if last.startswith(f"{self.key}_"):
                moves[path] = head + dot + new_key + last[len(self.key) :]
        return moves

    def blob_of(self, name: str) -> str | None:
        """Return the name of a finished result's blob, which is unique; else None."""
        record = self._record(name)[1]
        return str(record.blob) if record is not None and _is_finished(record) else None

    def _record(self, name: str) -> tuple[str | None, Any]:
        """Return the key of a result and its record; None if there is no result.

        The key does not follow from the run's key if FiftyOne itself renamed the run.
        """
        return self._records().get(name, (None, None))

    def _records(self) -> dict[str, tuple[str, Any]]:
        """Return the keys and the records of this run's results by name."""
        records = {}
        for key in self.dataset.list_runs():
            record = self.dataset.get_run_info(key).config
            method = str(record.method)
            if method.startswith(METHOD_PREFIX) and record.run_uid == self.uid:
                records[method.removeprefix(METHOD_PREFIX)] = key, record
        return records


def _is_finished(record: Any) -> bool:
    """Return whether the fields of a result are written; old records do not say."""
    return bool(getattr(record, "finished", True))
