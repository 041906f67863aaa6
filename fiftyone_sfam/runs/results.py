"""What audits found out about a run, kept with it.

Each result is a FiftyOne custom run of its own, ``KEY_NAME``, so that FiftyOne lists
it; its arrays are a blob beside the run's maps. Deleting or renaming the run takes its
results along.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import fiftyone as fo

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.schema import delete_fields, rename_fields

METHOD_PREFIX = "fiftyone_sfam/result/"
"""Methods of results begin like this; the name of the result follows."""


@dataclass(frozen=True)
class Result:
    """What one audit found."""

    name: str  # kind of audit, as evaluation
    config: dict[str, Any]  # settings and figures, as plain data
    arrays: Arrays  # everything larger
    fields: tuple[str, ...]  # paths of the fields that it has written
    created: str  # when, in UTC, ISO 8601


class ResultStore:
    """The results of one run."""

    def __init__(self, dataset: fo.Dataset, key: str, uid: str) -> None:
        self.dataset = dataset
        self.key = key
        self.uid = uid
        self._blobs = BlobStore(str(dataset._doc.id), uid)

    def names(self) -> list[str]:
        """List the names of the results that there are, with all of their fields."""
        return sorted(
            name for name, (_, record) in self._found().items() if _is_finished(record)
        )

    def load(self, name: str) -> Result | None:
        """Read a result."""
        config = self._record(name)[1]
        if config is None or not _is_finished(config):
            return None
        return Result(
            name,
            json.loads(config.json),
            self._blobs.get(config.blob),
            tuple(config.fields),
            str(config.created),
        )

    def check_fields(self, name: str, fields: Iterable[str]) -> None:
        """Refuse fields that are not an earlier result's of this name."""
        key, (own, record) = self._key(name), self._record(name)
        if key in self.dataset.list_runs() and key != own:
            raise RunError(
                f"'{self.dataset.name}' has a run '{key}' of another kind; rename it."
            )
        written = set() if record is None else set(record.fields)
        for path in fields:
            if path not in written and self.dataset.get_field(path) is not None:
                raise RunError(
                    f"'{self.dataset.name}' has a field '{path}' that is not of this "
                    "audit; rename it."
                )

    def save(
        self,
        name: str,
        config: Mapping[str, Any],
        arrays: Arrays,
        fields: Iterable[str] = (),
        finished: bool = True,
    ) -> None:
        """Store a result in the place of an earlier one of its name."""
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
            # One document is replaced at once: the fields are never without an owner.
            self.dataset.update_run_config(key, record)
        else:
            self.dataset.register_run(key, record)
        if old is not None:
            if old_key != key:
                self.dataset.delete_run(old_key)
            self._blobs.delete_one(old.blob)

    def finish(self, name: str) -> None:
        """Say that the fields of a result are written."""
        key, config = self._record(name)
        config.finished = True
        self.dataset.update_run_config(key, config)

    def delete(self, name: str) -> None:
        """Delete a result with its fields, if there is one."""
        key, config = self._record(name)
        if config is not None:
            delete_fields(self.dataset, config.fields)
            self.dataset.delete_run(key)
            self._blobs.delete_one(config.blob)

    def delete_all(self) -> None:
        """Delete all results with their fields."""
        for name in list(self._found()):
            self.delete(name)

    def check_rename(self, new_key: str) -> None:
        """Refuse a new key of the run where a result or a field is in its way."""
        target = ResultStore(self.dataset, new_key, self.uid)
        for name, (_, record) in self._found().items():
            moves = self._moves(record, new_key)
            target.check_fields(name, moves.values())

    def rename(self, new_key: str) -> None:
        """Move all results and their fields to a run's new key.

        Fields that are named after the run (``KEY_...``, also inside labels) follow.
        Repeated after an interruption, it does what is left.
        """
        target = ResultStore(self.dataset, new_key, self.uid)
        for name, (key, record) in self._found().items():
            # A new key may begin like the old one, so names do not tell what is done.
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
        """Return the name of a finished result's blob, which is never used again."""
        config = self._record(name)[1]
        return str(config.blob) if config is not None and _is_finished(config) else None

    def _record(self, name: str) -> tuple[str | None, Any]:
        """Return the key of a result, and its record; None where there is none.

        The key is not that of the run's present key where the run was renamed by
        FiftyOne, which knows nothing of its results.
        """
        return self._found().get(name, (None, None))

    def _found(self) -> dict[str, tuple[str, Any]]:
        """Return the keys and the records of this run's results by their names."""
        found = {}
        for key in self.dataset.list_runs():
            config = self.dataset.get_run_info(key).config
            method = str(config.method)
            if method.startswith(METHOD_PREFIX) and config.run_uid == self.uid:
                found[method.removeprefix(METHOD_PREFIX)] = key, config
        return found


def _is_finished(config: Any) -> bool:
    """Tell whether a result has its fields; earlier versions did not say."""
    return bool(getattr(config, "finished", True))
