"""Putting fixes into a field of the dataset, and taking them back.

By default the field is a new one, ``IDENTITY_FIELD_fixed``: a copy of the identity
field of the whole dataset, with the fixes. A field that exists is changed only where
that is asked for. What every change replaces is recorded first, in a FiftyOne custom
run of the dataset, so that it can be taken back also after the run that the verdicts
were on is gone, and after a process was killed in between.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    text_of,
    write_column,
)
from fiftyone_sfam.audit.fixes.find import Fix, Fixes, find_fixes
from fiftyone_sfam.audit.fixes.rules import BY_MERGE, quoted
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import delete_fields

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


FIXED_ENDING = "_fixed"
"""What the default field is called, behind the identity field's name."""


@dataclass(frozen=True)
class LeftOut:
    """A value that was not written."""

    id: str  # the image: id of its sample, or of its detection
    reason: str  # why not


@dataclass(frozen=True)
class Applied:
    """What became of fixes.

    Attributes
    ----------
    field : str
        Path of the field that holds the result.
    created : bool
        Whether the field is new.
    fixed : int
        Images whose label in that field is now what a fix says.
    changed : int
        Values that were replaced in a field that was there already.
    left_out : tuple of LeftOut
        Fixes that were not applied.
    open, conflicts : int
        Fixes that wait for somebody to say what is right, and contradictions.
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
    """What became of applied fixes that were taken back.

    Attributes
    ----------
    field : str
        Path of the field.
    deleted : bool
        Whether the field was deleted, because applying the fixes had made it.
    restored : int
        Values that are again what they were.
    left_out : tuple of LeftOut
        Values that somebody has changed since, and which were left as they are.
    """

    field: str
    deleted: bool
    restored: int
    left_out: tuple[LeftOut, ...]


def apply_verdicts(
    run: Run,
    fixes: Fixes | None = None,
    *,
    field: str | None = None,
    overwrite: bool = False,
) -> Applied:
    """Write a field of identities in which the agreed fixes are made.

    The field gets the present identities of all images of the dataset, but for those
    that a fix is about. A fix whose image is gone, or has another label by now than it
    had when the run was made, is left out and reported.

    Parameters
    ----------
    run : Run
        The run.
    fixes : Fixes, optional
        What to apply, as read from a file; by default what the run's verdicts say now.
    field : str, optional
        Name of the field, beside the identity field (on the detections where that is);
        by default the identity field's name and :data:`FIXED_ENDING`. It may be the
        identity field itself.
    overwrite : bool
        Change a field that exists. :func:`undo_fixes` restores what it held.

    Returns
    -------
    Applied
        What became of them.

    Raises
    ------
    DataError
        If the fixes are of another field or contradict each other, none is agreed on,
        or the field cannot be written or exists.
    """
    fixes = find_fixes(run) if fixes is None else fixes
    _check_origin(run, fixes)
    dataset = run.dataset
    source = identity_column(run)
    target = target_column(dataset, source, field or fixes.field + FIXED_ENDING)
    created = dataset.get_field(target.root) is None
    if not created and not overwrite:
        raise DataError(
            f"'{dataset.name}' has a field '{target.root}' already; name a new one, or "
            "allow this one to be changed."
        )
    if created and not fixes.agreed:
        raise DataError(
            f"the verdicts of the run '{run.key}' agree on no fix, so there is nothing "
            "to apply; give more, or look at the open ones and the conflicts."
        )
    identities = read_column(dataset, source)
    values, left_out = _fixed(identities, fixes.agreed, source)
    wanted = {**identities, **values}
    current = identities if created else read_column(dataset, target)
    changes = {
        one: (current.get(one), value)
        for one, value in wanted.items()
        if not same_value(current.get(one), value)
    }
    changes, unwritable = _writable(dataset, source if created else target, changes)
    left_out += [one for one in unwritable if one.id in values]
    _apply(run, source, target, created, changes)
    return Applied(
        target.path,
        created,
        len(values) - sum(one.id in values for one in unwritable),
        0 if created else len(changes),
        tuple(left_out),
        len(fixes.open),
        len(fixes.conflicts),
    )


def undo_fixes(
    samples: Run | SampleCollection, field: str | None = None, *, force: bool = False
) -> Undone:
    """Take the last application of fixes to a field back.

    A field that they had made is deleted; in a field that was there, every value that
    was replaced becomes what it was, unless somebody has changed it since.
    """
    dataset = samples.dataset if isinstance(samples, Run) else samples._root_dataset
    record = find_record(dataset, field)
    history = load_history(dataset, record)
    last, column = history[-1], Column(*record.column)
    restored, left_out = 0, []
    if dataset.get_field(column.root) is None:
        pass  # somebody has deleted it
    elif last["created"]:
        digest = digest_of(read_column(dataset, column))
        if last["digest"] not in (None, digest) and not force:
            raise DataError(
                f"the field '{column.root}' was changed since the fixes were applied; "
                "keep it, or take the fixes back by force to delete it."
            )
        delete_fields(dataset, [column.root])
    else:
        current = read_column(dataset, column)
        back: dict[str, Any] = {}
        for one, before, after in last["changes"]:
            if one not in current:
                left_out.append(LeftOut(one, "the image is no longer in the dataset."))
            elif same_value(current[one], before):
                continue
            elif same_value(current[one], after) or force:
                back[one] = before
            else:
                left_out.append(LeftOut(one, "somebody has changed the label since."))
        write_column(dataset, column, back)
        restored = len(back)
    save_history(dataset, record, history[:-1])
    return Undone(column.path, bool(last["created"]), restored, tuple(left_out))


def check_target(run: Run, field: str) -> bool:
    """Refuse a name of a field that fixes cannot be applied to."""
    target = target_column(run.dataset, identity_column(run), field)
    return run.dataset.get_field(target.root) is not None


def default_field(run: Run) -> str:
    """Return the name of the field that fixes go to unless another is wanted."""
    return str(run.config.protocol.get("identity_field")) + FIXED_ENDING


# --------------------------------------------------------------------------------------
# What is to be written
# --------------------------------------------------------------------------------------


def _check_origin(run: Run, fixes: Fixes) -> None:
    """Refuse fixes of another field."""
    own = run.config.protocol.get("identity_field"), run.config.patches_field
    if (fixes.field, fixes.patches_field) != own:
        raise DataError(
            f"the fixes are of the field '{fixes.field}', but the identities of the "
            f"run '{run.key}' are in '{own[0]}'; use the file of this run."
        )


def _fixed(
    identities: Mapping[str, Any], fixes: Iterable[Fix], source: Column
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Return the new values, and the fixes that do not fit the present labels."""
    # What text each value is shown as, to write numbers as numbers.
    known = {text_of(value): value for value in identities.values()}
    values: dict[str, Any] = {}
    left_out = []
    for fix in _one_each(fixes, source):
        one = fix.id if source.of_labels else fix.sample_id
        assert fix.new is not None
        if one not in identities:
            left_out.append(LeftOut(one, "the image is no longer in the dataset."))
            continue
        present = text_of(identities[one])
        if present not in (fix.old, fix.new):
            left_out.append(
                LeftOut(
                    one,
                    f"its label is {quoted(present)} by now, not {quoted(fix.old)}.",
                )
            )
            continue
        try:
            values[one] = _typed(fix.new, known, source.kind)
        except ValueError:
            left_out.append(
                LeftOut(
                    one,
                    f"{quoted(fix.new)} does not fit into a field of {source.kind}.",
                )
            )
    return values, left_out


def _one_each(fixes: Iterable[Fix], source: Column) -> list[Fix]:
    """Return one fix per image; what a person has said comes before a merge."""
    chosen: dict[str, Fix] = {}
    for fix in fixes:
        one = fix.id if source.of_labels else fix.sample_id
        before = chosen.get(one)
        if before is None or (before.rule == BY_MERGE and fix.rule != BY_MERGE):
            chosen[one] = fix
        elif before.new != fix.new and fix.rule != BY_MERGE:
            raise DataError(
                f"the fixes give the image {one} two names, {quoted(before.new)} and "
                f"{quoted(fix.new)}; take one of them out."
            )
    return list(chosen.values())


def _typed(text: str, known: Mapping[str | None, Any], kind: str) -> Any:
    """Return an identity as a value of its field; ValueError if it does not fit."""
    if text in known:
        return known[text]
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
    """Take out changes of classifications that are not there at all."""
    if column.of_labels or column.path == column.root:
        return dict(changes), []
    empty = set(all_samples(dataset).exists(column.root, False).values("id"))
    reason = f"the image has no label in '{column.root}' to write into."
    return (
        {one: change for one, change in changes.items() if one not in empty},
        [LeftOut(one, reason) for one in changes if one in empty],
    )


def _apply(
    run: Run,
    source: Column,
    target: Column,
    created: bool,
    changes: dict[str, tuple[Any, Any]],
) -> None:
    """Record what is replaced, then replace it."""
    dataset = run.dataset
    record = make_record(run, target)
    history = load_history(dataset, record)
    entry: dict[str, Any] = {
        "run": run.key,
        "created": created,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "changes": [[one, *change] for one, change in changes.items()],
        "digest": None,
    }
    save_history(dataset, record, [*history, entry])
    if created:
        all_samples(dataset).clone_sample_field(source.root, target.root)
    write_column(dataset, target, {one: after for one, (_, after) in changes.items()})
    if created:
        entry["digest"] = digest_of(read_column(dataset, target))
        save_history(dataset, record, [*history, entry])
