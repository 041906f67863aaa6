"""Write fixes to a field of the dataset, and undo them.

By default this is a new field, ``IDENTITY_FIELD_fixed``: a copy of the identity field
of the whole dataset, with the fixes. An existing field is changed only with
``overwrite``. Replaced values are first recorded in a FiftyOne custom run of the
dataset. Fixes can therefore be undone after the run was deleted, and after a process
was killed while it wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from fiftyone_sfam.audit.fixes.columns import (
    Column,
    digest_of,
    identity_column,
    read_column,
    same_value,
    target_column,
    write_column,
)
from fiftyone_sfam.audit.fixes.find import Fix, Fixes, find_fixes
from fiftyone_sfam.audit.fixes.rules import BY_MERGE, quoted
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.data.text import label_text
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import delete_fields

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

METHOD = "fiftyone_sfam/fixes"
"""Method under which FiftyOne lists the records of applied fixes."""

FIXED_ENDING = "_fixed"
"""Ending of the default field, after the name of the identity field."""


@dataclass(frozen=True)
class LeftOut:
    """A value that was not written."""

    id: str  # id of the sample, or of the detection
    reason: str


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The result of :func:`apply_verdicts`.

    Attributes
    ----------
    field : str
        Path of the field with the fixes.
    created : bool
        Whether the field is new.
    fixed : int
        Number of images with a fixed label in the field.
    changed : int
        Number of values that were replaced in an existing field.
    left_out : tuple of LeftOut
        Fixes that were not applied.
    open, conflicts : int
        Number of open fixes, and of contradictions.
    """

    field: str
    created: bool
    fixed: int
    changed: int
    left_out: tuple[LeftOut, ...]
    open: int
    conflicts: int


@dataclass(frozen=True)
class Undone:
    """The result of :func:`undo_fixes`.

    Attributes
    ----------
    field : str
        Path of the field.
    deleted : bool
        Whether the field was deleted, because applying the fixes had created it.
    restored : int
        Number of values that were restored.
    left_out : tuple of LeftOut
        Values that were changed in the meantime and were not restored.
    """

    field: str
    deleted: bool
    restored: int
    left_out: tuple[LeftOut, ...]


# --------------------------------------------------------------------------------------
# Records
# --------------------------------------------------------------------------------------


def applied_fields(samples: SampleCollection) -> list[str]:
    """List the fields whose applied fixes can be undone."""
    return sorted(_records(samples._root_dataset))


def make_record(run: Run, target: Column) -> Any:
    """Return the record of a column, and create it if necessary."""
    dataset = run.dataset
    key = _record_key(target)
    if key not in dataset.list_runs():
        column = list(astuple(target))
        dataset.register_run(key, dataset.init_run(method=METHOD, column=column))
    config = dataset.get_run_info(key).config
    if config.method != METHOD:
        raise DataError(
            f"'{dataset.name}' has a run '{key}' of a different kind; rename it."
        )
    return config


def _record_key(column: Column) -> str:
    """Return the key of a column's record."""
    name = re.sub(r"\W", "_", column.path)
    if name != column.path:
        name += "_" + hashlib.sha256(column.path.encode()).hexdigest()[:8]
    return f"sfam_fixes_{name}"


def find_record(dataset: fo.Dataset, field: str | None) -> Any:
    """Return the record of a field, or the only one."""
    records = _records(dataset)
    if not records:
        raise DataError(f"no fixes were applied in '{dataset.name}'.")
    if field is None and len(records) == 1:
        field = next(iter(records))
    if field not in records:
        listed = ", ".join(f"'{path}'" for path in sorted(records))
        raise DataError(
            f"fixes were applied to {listed} of '{dataset.name}'; use one of these "
            "fields."
        )
    return records[field]


def _records(dataset: fo.Dataset) -> dict[str, Any]:
    """Return the records of applied fixes, by the paths of their fields."""
    records = (
        dataset.get_run_info(key).config for key in dataset.list_runs(method=METHOD)
    )
    return {Column(*record.column).path: record for record in records}


def load_history(dataset: fo.Dataset, record: Any) -> list[dict[str, Any]]:
    """Read the applications of fixes to a column, in order."""
    key = _record_key(Column(*record.column))
    results = dataset.load_run_results(key, cache=False)
    return [] if results is None else json.loads(results.history)


def save_history(
    dataset: fo.Dataset, record: Any, history: list[dict[str, Any]]
) -> None:
    """Write the applications of fixes to a column; an empty list deletes the record."""
    key = _record_key(Column(*record.column))
    if not history:
        dataset.delete_run(key)
        return
    results = dataset.init_run_results(key, history=json.dumps(history))
    dataset.save_run_results(key, results, overwrite=True, cache=False)


# --------------------------------------------------------------------------------------
# Applying and undoing
# --------------------------------------------------------------------------------------


def apply_verdicts(
    run: Run,
    fixes: Fixes | None = None,
    *,
    field: str | None = None,
    overwrite: bool = False,
) -> Applied:
    """Write the identities, with fixes from verdicts, to a field.

    The field contains the current identities of all images of the dataset, except for
    images with a fix. A fix is left out and reported if its image was deleted, or if
    the image's label has changed since the run was made.

    Parameters
    ----------
    run : Run
        The run.
    fixes : Fixes, optional
        The fixes, as read from a file. By default, they are derived from the run's
        verdicts.
    field : str, optional
        Name of the field, which is next to the identity field (on the detections, if
        the identity field is). By default, the name of the identity field and
        :data:`FIXED_ENDING`. It can be the identity field itself.
    overwrite : bool
        Change an existing field. :func:`undo_fixes` restores its values.

    Returns
    -------
    Applied
        What was written.

    Raises
    ------
    DataError
        If the fixes are for a different field or contradict each other, there are none
        to apply, or the field exists or cannot be written.
    """
    fixes = find_fixes(run) if fixes is None else fixes
    _check_origin(run, fixes)
    dataset = run.dataset
    source = identity_column(run)
    target = target_column(dataset, source, field or fixes.field + FIXED_ENDING)
    created = dataset.get_field(target.root) is None
    if not created and not overwrite:
        raise DataError(
            f"'{dataset.name}' has a field '{target.root}' already; use a new name, or "
            "overwrite this field."
        )
    if created and not fixes.agreed:
        raise DataError(
            f"the verdicts of the run '{run.key}' agree on no fix, so there is nothing "
            "to apply; add verdicts, or check the open fixes and the conflicts."
        )
    identities = read_column(dataset, source)
    values, left_out = _fixed(identities, fixes.agreed, source)
    current = identities if created else read_column(dataset, target)
    changes = {
        key: (current.get(key), value)
        for key, value in {**identities, **values}.items()
        if not same_value(current.get(key), value)
    }
    changes, unwritable = _writable(dataset, source if created else target, changes)
    unwritten = [value for value in unwritable if value.id in values]
    _apply(run, source, target, created, changes)
    return Applied(
        field=target.path,
        created=created,
        fixed=len(values) - len(unwritten),
        changed=0 if created else len(changes),
        left_out=(*left_out, *unwritten),
        open=len(fixes.open),
        conflicts=len(fixes.conflicts),
    )


def undo_fixes(
    samples: Run | SampleCollection, field: str | None = None, *, force: bool = False
) -> Undone:
    """Undo the last application of fixes to a field.

    A field that it created is deleted. In an existing field, replaced values are
    restored, except for values that were changed in the meantime. ``force`` deletes
    and restores regardless of such changes.
    """
    dataset = samples.dataset if isinstance(samples, Run) else samples._root_dataset
    record = find_record(dataset, field)
    history = load_history(dataset, record)
    last, column = history[-1], Column(*record.column)
    restored, left_out = 0, []
    if dataset.get_field(column.root) is None:
        pass  # already deleted
    elif last["created"]:
        digest = digest_of(read_column(dataset, column))
        if last["digest"] not in (None, digest) and not force:
            raise DataError(
                f"the field '{column.root}' was changed since the fixes were applied; "
                "keep it, or use force to delete it."
            )
        delete_fields(dataset, [column.root])
    else:
        current = read_column(dataset, column)
        values: dict[str, Any] = {}
        for key, before, after in last["changes"]:
            if key not in current:
                left_out.append(LeftOut(key, "the image is no longer in the dataset."))
            elif same_value(current[key], before):
                continue
            elif same_value(current[key], after) or force:
                values[key] = before
            else:
                left_out.append(LeftOut(key, "its label was changed in the meantime."))
        write_column(dataset, column, values)
        restored = len(values)
    save_history(dataset, record, history[:-1])
    return Undone(column.path, bool(last["created"]), restored, tuple(left_out))


def check_target(run: Run, field: str) -> bool:
    """Return whether a field exists; raise if fixes cannot be applied to it."""
    target = target_column(run.dataset, identity_column(run), field)
    return run.dataset.get_field(target.root) is not None


def default_field(run: Run) -> str:
    """Return the name of the default field for fixes."""
    return str(run.config.protocol.get("identity_field")) + FIXED_ENDING


def _check_origin(run: Run, fixes: Fixes) -> None:
    """Raise if fixes are for a different field than the run's identities."""
    identity_field = run.config.protocol.get("identity_field")
    fields = identity_field, run.config.patches_field
    if (fixes.field, fixes.patches_field) != fields:
        raise DataError(
            f"the fixes are for the field '{fixes.field}', but the identities of the "
            f"run '{run.key}' are in '{identity_field}'; use the file of this run."
        )


def _fixed(
    identities: Mapping[str, Any], fixes: Iterable[Fix], source: Column
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Return the new values by ids, and the fixes that no longer apply."""
    # Numbers are written as numbers.
    value_of = {label_text(value): value for value in identities.values()}
    values: dict[str, Any] = {}
    left_out = []
    for key, fix in _by_image(fixes, source).items():
        assert fix.new is not None
        if key not in identities:
            left_out.append(LeftOut(key, "the image is no longer in the dataset."))
            continue
        current = label_text(identities[key])
        if current not in (fix.old, fix.new):
            reason = f"its label is now {quoted(current)}, not {quoted(fix.old)}."
            left_out.append(LeftOut(key, reason))
            continue
        try:
            values[key] = _typed(fix.new, value_of, source.kind)
        except ValueError:
            reason = f"{quoted(fix.new)} does not fit into a field of {source.kind}."
            left_out.append(LeftOut(key, reason))
    return values, left_out


def _by_image(fixes: Iterable[Fix], source: Column) -> dict[str, Fix]:
    """Return one fix per image; other fixes take precedence over merges."""
    chosen: dict[str, Fix] = {}
    for fix in fixes:
        key = fix.id if source.of_labels else fix.sample_id
        earlier = chosen.get(key)
        if earlier is None or (earlier.rule == BY_MERGE and fix.rule != BY_MERGE):
            chosen[key] = fix
        elif earlier.new != fix.new and fix.rule != BY_MERGE:
            raise DataError(
                f"the fixes give the image {key} two names, {quoted(earlier.new)} and "
                f"{quoted(fix.new)}; delete one of them."
            )
    return chosen


def _typed(text: str, value_of: Mapping[str | None, Any], kind: str) -> Any:
    """Return an identity as a value of its field; ValueError if it does not fit."""
    if text in value_of:
        return value_of[text]
    if kind == "IntField":
        return int(text)
    if kind == "FloatField":
        return float(text)
    if kind != "StringField":
        raise ValueError(text)
    return text


def _writable(
    dataset: fo.Dataset, column: Column, changes: Mapping[str, tuple[Any, Any]]
) -> tuple[dict[str, tuple[Any, Any]], list[LeftOut]]:
    """Leave out changes of samples without a classification to write to."""
    if column.of_labels or column.path == column.root:
        return dict(changes), []
    empty = set(all_samples(dataset).exists(column.root, False).values("id"))
    reason = f"the image has no label in '{column.root}' to write to."
    return (
        {key: change for key, change in changes.items() if key not in empty},
        [LeftOut(key, reason) for key in changes if key in empty],
    )


def _apply(
    run: Run,
    source: Column,
    target: Column,
    created: bool,
    changes: dict[str, tuple[Any, Any]],
) -> None:
    """Record the replaced values, then write the new ones."""
    dataset = run.dataset
    record = make_record(run, target)
    history = load_history(dataset, record)
    entry: dict[str, Any] = {
        "run": run.key,
        "created": created,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "changes": [[key, *change] for key, change in changes.items()],
        "digest": None,
    }
    save_history(dataset, record, [*history, entry])
    if created:
        all_samples(dataset).clone_sample_field(source.root, target.root)
    write_column(dataset, target, {key: after for key, (_, after) in changes.items()})
    if created:
        entry["digest"] = digest_of(read_column(dataset, target))
        save_history(dataset, record, [*history, entry])
