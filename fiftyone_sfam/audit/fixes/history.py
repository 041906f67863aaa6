"""The record of applied fixes: what every change of a field has replaced."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from fiftyone_sfam.audit.fixes.columns import Column
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

METHOD = "fiftyone_sfam/fixes"
"""Method under which FiftyOne lists the records of applied fixes."""


def applied_fields(samples: SampleCollection) -> list[str]:
    """List the fields whose applied fixes can be taken back."""
    return sorted(_records(samples._root_dataset))


def make_record(run: Run, target: Column) -> Any:
    """Return the record of a column, new where there is none."""
    dataset = run.dataset
    key = _record_key(target)
    if key not in dataset.list_runs():
        columns = [
            target.root,
            target.path,
            target.ids,
            target.of_labels,
            target.kind,
        ]
        dataset.register_run(key, dataset.init_run(method=METHOD, column=columns))
    config = dataset.get_run_info(key).config
    if config.method != METHOD:
        raise DataError(
            f"'{dataset.name}' has a run '{key}' of another kind; rename it."
        )
    return config


def _record_key(column: Column) -> str:
    """Name the record of a column."""
    name = re.sub(r"\W", "_", column.path)
    if name != column.path:
        name += "_" + hashlib.sha256(column.path.encode()).hexdigest()[:8]
    return f"sfam_fixes_{name}"


def find_record(dataset: fo.Dataset, field: str | None) -> Any:
    """Return the record of a field, or the only one."""
    known = _records(dataset)
    if not known:
        raise DataError(f"no fixes were applied in '{dataset.name}'.")
    if field is None and len(known) == 1:
        field = next(iter(known))
    if field not in known:
        listed = ", ".join(f"'{one}'" for one in sorted(known))
        raise DataError(
            f"fixes were applied to {listed} of '{dataset.name}'; name one of these "
            "fields."
        )
    return known[field]


def _records(dataset: fo.Dataset) -> dict[str, Any]:
    """Return the records of applied fixes, by the paths of their fields."""
    records = (
        dataset.get_run_info(key).config for key in dataset.list_runs(method=METHOD)
    )
    return {Column(*one.column).path: one for one in records}


def load_history(dataset: fo.Dataset, record: Any) -> list[dict[str, Any]]:
    """Read what was applied to a column, the last one last."""
    key = _record_key(Column(*record.column))
    results = dataset.load_run_results(key, cache=False)
    return [] if results is None else json.loads(results.history)


def save_history(
    dataset: fo.Dataset, record: Any, history: list[dict[str, Any]]
) -> None:
    """Write what was applied to a column; nothing deletes its record."""
    key = _record_key(Column(*record.column))
    if not history:
        dataset.delete_run(key)
        return
    results = dataset.init_run_results(key, history=json.dumps(history))
    dataset.save_run_results(key, results, overwrite=True, cache=False)
