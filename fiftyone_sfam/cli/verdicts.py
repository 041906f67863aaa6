"""The commands on what people say about a run: ``verdicts | fixes``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.cli.support import (
    add_run_arguments,
    load_dataset,
    load_run_of,
    plain_table,
    whole_number,
)
from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fiftyone_sfam.audit.fixes.apply import LeftOut
    from fiftyone_sfam.audit.fixes.find import Fix, Fixes
    from fiftyone_sfam.runs.run import Run


def add_commands(commands: Any) -> None:
    """Add the commands to a parser; each returns the text that it prints."""
    _add_verdicts(commands)
    _add_fixes(commands)


# --------------------------------------------------------------------------------------
# verdicts
# --------------------------------------------------------------------------------------


def _add_verdicts(commands: Any) -> None:
    parser = commands.add_parser(
        "verdicts",
        help="list, give or take back verdicts on pairs",
        description="List the verdicts on a run's pairs, give one, or take one back. "
        "The pairs' numbers are in the tables of a report.",
    )
    add_run_arguments(parser)
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--set",
        nargs=2,
        dest="given",
        metavar=("PAIR", "VERDICT"),
        help="give a verdict: fine, 'wrong label', 'same person', look-alike, "
        "background, occlusion, or own words",
    )
    change.add_argument(
        "--remove", type=whole_number(0), metavar="PAIR", help="take a verdict back"
    )
    parser.add_argument("--note", default="", help="more about the verdict that is set")
    parser.set_defaults(run=_run_verdicts)


def _run_verdicts(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict

    if args.given is not None:
        try:
            pair = whole_number(0)(args.given[0])
        except argparse.ArgumentTypeError as error:
            raise DataError(f"--set: {error}.") from None
        before = set_verdict(run, pair, args.given[1], args.note)
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
                one.text,
                one.note,
            )
            for pair, one in verdicts.items()
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
    parser = commands.add_parser(
        "fixes",
        help="list, write, apply or take back the corrections that verdicts agree on",
        description="Corrections of labels that the verdicts of a run agree on: list "
        "them, write them to a file, apply them to a field of the dataset, or take "
        "that back.",
    )
    add_run_arguments(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--out", metavar="FILE", help="write them to a file (JSON)")
    action.add_argument(
        "--apply", action="store_true", help="apply them to a field of the dataset"
    )
    action.add_argument(
        "--undo", action="store_true", help="take the last application back"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="take them from a file instead of from the verdicts",
    )
    parser.add_argument(
        "--field",
        metavar="NAME",
        help="field to apply them to (default: a new one, the identity field's name "
        "and '_fixed'), or to take them back from",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="change a field, or replace a file, that exists",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --undo: take back what was changed since, too",
    )
    parser.set_defaults(run=_run_fixes)


def _run_fixes(args: argparse.Namespace) -> str:
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
        lines = [one_line(one.sentence, 400) for one in fixes.conflicts]
        parts.append("\n".join(["conflicts", *lines]))
    return "\n\n".join(parts)


def _undo(args: argparse.Namespace) -> str:
    """Take the last application of fixes back."""
    from fiftyone_sfam.audit.fixes.apply import undo_fixes

    undone = undo_fixes(load_dataset(args.dataset), args.field, force=args.force)
    if undone.deleted:
        return f"deleted the field '{undone.field}'"
    first = f"restored {undone.restored:,} values of the field '{undone.field}'"
    return "\n".join([first, *_left_out(undone.left_out)])


def _apply(run: Run, fixes: Fixes, field: str | None, overwrite: bool) -> str:
    """Apply fixes to a field."""
    from fiftyone_sfam.audit.fixes.apply import apply_verdicts

    applied = apply_verdicts(run, fixes, field=field, overwrite=overwrite)
    first = f"fixed {applied.fixed:,} labels in the field '{applied.field}'"
    if not applied.created:
        first += f", changing {applied.changed:,} of its values"
    lines = [first, *_left_out(applied.left_out)]
    if applied.open or applied.conflicts:
        lines.append(f"{applied.open:,} open and {applied.conflicts:,} conflicts wait")
    return "\n".join(lines)


def _left_out(rows: Sequence[LeftOut]) -> list[str]:
    return [f"left out {one.id}: {one_line(one.reason, 300)}" for one in rows]


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
                one.id,
                one.old or "",
                "?" if one.new is None else one.new,
                one.rule,
                len(one.verdicts),
            )
            for one in rows
        ],
        right=head[-1:],
    )
