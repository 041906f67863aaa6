"""The command that deletes what belongs to no run: ``prune``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import add_command, add_number, load_dataset, plain_table


def add_prune(commands: Any) -> None:
    """Add the command to a parser."""
    parser = add_command(
        commands,
        "prune",
        _prune,
        help="list stored maps that belong to no run, and delete them",
        description="List the maps in the database that deleted datasets and "
        "interrupted runs have left behind. Runs in progress, and interrupted runs "
        "that can be resumed, keep theirs.",
    )
    parser.add_argument(
        "dataset", nargs="?", help="only maps of this dataset (default: all datasets)"
    )
    add_number(
        parser,
        "--older-than",
        24,
        "only maps without a write for this long",
        low=0,
        high=10**6,
        metavar="HOURS",
    )
    parser.add_argument(
        "--delete", action="store_true", help="delete the maps instead of listing them"
    )


def _prune(args: argparse.Namespace) -> str:
    from datetime import timedelta

    from fiftyone_sfam.pipeline.pruning import prune

    dataset = None if args.dataset is None else load_dataset(args.dataset)
    age = timedelta(hours=args.older_than)
    remains = prune(dataset, older_than=age, delete=args.delete)
    if not remains:
        return "There is nothing to prune."
    rows = [
        (
            run.uid,
            run.reason,
            f"{len(run.names):,}",
            f"{run.size / 2**20:.1f}",
            f"{run.last_write:%Y-%m-%d %H:%M}",
        )
        for run in remains
    ]
    head = ("of run", "why", "blobs", "MiB", "last write (UTC)")
    size = sum(run.size for run in remains) / 2**20
    end = (
        f"{size:.1f} MiB deleted."
        if args.delete
        else f"{size:.1f} MiB can be deleted: repeat with --delete."
    )
    return "\n\n".join([plain_table(head, rows, right=("blobs", "MiB")), end])
