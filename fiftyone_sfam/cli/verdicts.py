"""The commands for verdicts on pairs, and their corrections: ``verdicts | fixes``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    add_run_arguments,
    load_dataset,
    load_run_of,
    plain_table,
    whole_number,
)
from fiftyone_sfam.data.text import counted, one_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fiftyone_sfam.audit.fixes.apply import LeftOut
    from fiftyone_sfam.audit.fixes.find import Fix, Fixes
    from fiftyone_sfam.runs.run import Run


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    _add_verdicts(commands)
    _add_fixes(commands)


# --------------------------------------------------------------------------------------
# verdicts
# --------------------------------------------------------------------------------------


def _add_verdicts(commands: Any) -> None:
    parser = add_command(
        commands,
        "verdicts",
        _verdicts,
        help="list, set or remove verdicts on pairs",
        description="List the verdicts on the pairs of a run, set one, or remove one. "
        "The tables of a report contain the numbers of the pairs.",
    )
    add_run_arguments(parser)
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--set",
        nargs=2,
        dest="given",
        metavar=("PAIR", "VERDICT"),
        help="set the verdict of a pair: fine, 'wrong label', 'same person', "
        "look-alike, background, occlusion, or a verdict of your own",
    )
    add_number(
        change, "--remove", None, "remove the verdict of a pair", low=0, metavar="PAIR"
    )
    parser.add_argument("--note", help="note on the verdict of --set")


def _verdicts(args: argparse.Namespace) -> str:
    if args.note is not None and args.given is None:
        raise DataError("--note belongs to a verdict; give --set, or leave it out.")
    run = load_run_of(args)

    from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict

    if args.given is not None:
        try:
            pair = whole_number(0)(args.given[0])
        except argparse.ArgumentTypeError as error:
            raise DataError(f"--set: {error}.") from None
        before = set_verdict(run, pair, args.given[1], args.note or "")
        was = "" if before is None else f", was '{one_line(before.text)}'"
        return f"pair {pair}: '{one_line(args.given[1])}'{was}"
    if args.remove is not None:
        restore_verdict(run, args.remove, None)
        return f"pair {args.remove}: no verdict"
    return _listed(run)


def _listed(run: Run) -> str:
    """List the verdicts of a run."""
    from fiftyone_sfam.retrieval.pairs import OUTCOMES
    from fiftyone_sfam.review.verdicts import get_verdicts, reviewed, verdict_counts

    done = reviewed(run)
    parts = [f"{done.pairs:,} of {done.total_pairs:,} pairs have a verdict."]
    verdicts = get_verdicts(run)
    if verdicts:
        pairs, names = run.pairs, run.items.identities
        rows = [
            (
                pair,
                names[pairs.query[pair]] or "",
                names[pairs.gallery[pair]] or "",
                OUTCOMES[pairs.outcome[pair]],
                verdict.text,
                verdict.note,
            )
            for pair, verdict in verdicts.items()
        ]
        head = ("pair", "query", "neighbor", "outcome", "verdict", "note")
        counts = list(verdict_counts(run).items())
        parts.append(plain_table(head, rows, right=head[:1]))
        parts.append(plain_table(("verdict", "pairs"), counts, right=("pairs",)))
    return "\n\n".join(parts)


# --------------------------------------------------------------------------------------
# fixes
# --------------------------------------------------------------------------------------


def _add_fixes(commands: Any) -> None:
    parser = add_command(
        commands,
        "fixes",
        _fixes,
        help="list, write, apply or undo the corrections that verdicts agree on",
        description="List the corrections of labels that the verdicts of a run agree "
        "on, write them to a file, apply them to a field of the dataset, or undo that.",
    )
    add_run_arguments(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--out", metavar="FILE", help="write the corrections to a JSON file"
    )
    action.add_argument(
        "--apply",
        action="store_true",
        help="apply the corrections to a field of the dataset",
    )
    action.add_argument("--undo", action="store_true", help="undo the last --apply")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="read the corrections from a file instead of the verdicts",
    )
    parser.add_argument(
        "--field",
        metavar="NAME",
        help="field for --apply or --undo (default: a new field, named like the "
        "identity field with '_fixed' appended)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="change an existing field, or replace an existing file",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --undo: also restore values that were changed since",
    )


def _fixes(args: argparse.Namespace) -> str:
    if args.force and not args.undo:
        raise DataError("--force needs --undo; give both, or leave it out.")
    if args.undo and args.source is not None:
        raise DataError("--undo reads no corrections; leave out --from.")

    from fiftyone_sfam.audit.fixes.find import find_fixes, read_fixes, write_fixes

    if args.undo:
        return _undo(args)
    run = load_run_of(args)
    fixes = find_fixes(run) if args.source is None else read_fixes(args.source)
    if args.out is not None:
        path = write_fixes(run, args.out, fixes, overwrite=args.overwrite)
        return f"{_counts(fixes)}\n{path}"
    if args.apply:
        return _apply(run, fixes, args.field, args.overwrite)
    parts = [_counts(fixes)]
    for title, rows in (("agreed", fixes.agreed), ("open", fixes.open)):
        if rows:
            parts.append(f"{title}\n{_fix_table(rows)}")
    if fixes.conflicts:
        lines = [one_line(conflict.sentence, 400) for conflict in fixes.conflicts]
        parts.append("\n".join(["conflicts", *lines]))
    return "\n\n".join(parts)


def _undo(args: argparse.Namespace) -> str:
    """Undo the last application of fixes."""
    from fiftyone_sfam.audit.fixes.apply import undo_fixes

    undone = undo_fixes(load_dataset(args.dataset), args.field, force=args.force)
    if undone.deleted:
        return f"deleted the field '{undone.field}'"
    first = (
        f"restored {counted(undone.restored, 'value')} of the field '{undone.field}'"
    )
    return "\n".join([first, *_left_out(undone.left_out)])


def _apply(run: Run, fixes: Fixes, field: str | None, overwrite: bool) -> str:
    """Apply fixes to a field."""
    from fiftyone_sfam.audit.fixes.apply import apply_verdicts

    applied = apply_verdicts(run, fixes, field=field, overwrite=overwrite)
    first = f"fixed {counted(applied.fixed, 'label')} in the field '{applied.field}'"
    if not applied.created:
        first += f", changing {applied.changed:,} of its values"
    lines = [first, *_left_out(applied.left_out)]
    if applied.open or applied.conflicts:
        lines.append(f"{applied.open:,} open, {applied.conflicts:,} conflicts remain")
    return "\n".join(lines)


def _left_out(rows: Sequence[LeftOut]) -> list[str]:
    return [f"left out {label.id}: {one_line(label.reason, 300)}" for label in rows]


def _counts(fixes: Fixes) -> str:
    return (
        f"{len(fixes.agreed):,} agreed, {len(fixes.open):,} open, "
        f"{len(fixes.conflicts):,} conflicts"
    )


def _fix_table(rows: Sequence[Fix]) -> str:
    head = ("id", "label", "should be", "rule", "verdicts")
    return plain_table(
        head,
        [
            (
                fix.id,
                fix.old or "",
                "?" if fix.new is None else fix.new,
                fix.rule,
                len(fix.verdicts),
            )
            for fix in rows
        ],
        right=head[-1:],
    )
