"""The command that clears away what nothing refers to: ``prune``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import load_dataset, plain_table, whole_number


def add_commands(commands: Any) -> None:
    """Add the command to a parser; it returns the text that it prints."""
    parser = commands.add_parser(
        "prune",
        help="find stored maps that no run refers to, and delete them",
        description="List what deleted datasets and interrupted runs have left in the "
        "database. Runs that are being made, and interrupted ones that are listed, are "
        "left alone.",
    )
    parser.add_argument(
        "dataset", nargs="?", help="only of this dataset (default: of all)"
    )
    parser.add_argument(
        "--older-than",
        type=whole_number(0),
        default=24,
        metavar="HOURS",
        help="only what was not written to for so long (default: %(default)s)",
    )
    parser.add_argument(
        "--delete", action="store_true", help="delete it, instead of listing it only"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> str:
    from datetime import timedelta

    from fiftyone_sfam.pipeline.pruning import prune

    dataset = None if args.dataset is None else load_dataset(args.dataset)
    age = timedelta(hours=args.older_than)
    found = prune(dataset, older_than=age, delete=args.delete)
    if not found:
        return "There is nothing to prune."
    rows = [
        (
            one.uid,
            one.reason,
            f"{len(one.names):,}",
            f"{one.size / 2**20:.1f}",
            f"{one.last_write:%Y-%m-%d %H:%M}",
        )
        for one in found
    ]
    head = ("of run", "why", "blobs", "MiB", "last write (UTC)")
    size = sum(one.size for one in found) / 2**20
    end = (
        f"{size:.1f} MiB deleted."
        if args.delete
        else f"{size:.1f} MiB could be deleted: repeat with --delete."
    )
    return "\n\n".join([plain_table(head, rows, right=("blobs", "MiB")), end])
