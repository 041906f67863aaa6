"""The command that compares two datasets: ``leaks``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    load_dataset,
    result_table,
)
from fiftyone_sfam.data.text import one_line

SHOWN = 20
"""Pairs and identities in the lists unless ``--top`` says otherwise."""


def add_commands(commands: Any) -> None:
    """Add the command to a parser."""
    parser = add_command(
        commands,
        "leaks",
        _leaks,
        help="find images and identities that two datasets share",
        description="Find the images that two datasets share, also as changed copies, "
        "and the identities with equal labels.",
    )
    parser.add_argument("train", help="name of a FiftyOne dataset")
    parser.add_argument("test", help="name of another one")
    parser.add_argument(
        "--identity-field", metavar="FIELD", help="field with the identities"
    )
    parser.add_argument(
        "--patches-field",
        metavar="FIELD",
        help="detections to compare instead of whole images",
    )
    parser.add_argument(
        "--embeddings",
        metavar="FIELD",
        help="field with embeddings, or brain key of a similarity index, of both "
        "datasets: finds one person under two labels",
    )
    parser.add_argument(
        "--metric",
        choices=("cosine", "euclidean"),
        default="cosine",
        help="how embeddings are compared (default: %(default)s)",
    )
    add_number(
        parser,
        "--top",
        SHOWN,
        "number of pairs and identities to print",
        low=0,
        metavar="N",
    )


def _leaks(args: argparse.Namespace) -> str:
    train, test = load_dataset(args.train), load_dataset(args.test)

    from fiftyone_sfam.audit.leaks import (
        counts_table,
        find_leaks,
        pairs_table,
        persons_table,
    )

    leaks = find_leaks(
        train,
        test,
        identity_field=args.identity_field,
        patches_field=args.patches_field,
        embeddings=args.embeddings,
        metric=args.metric,
    )
    shown = pairs_table(leaks, args.top)
    identities = leaks.identities[: args.top]
    more = len(leaks.identities) - len(identities)
    parts = [
        leaks.summary(),
        result_table(counts_table(leaks)),
        result_table(shown) if shown.rows and args.top else "",
        f"shared identities: {', '.join(map(one_line, identities))}"
        + (f" and {more:,} more" if more else "")
        if identities
        else "",
        result_table(persons_table(leaks, args.top))
        if leaks.persons and args.top
        else "",
        *map(one_line, leaks.limits),
    ]
    return "\n\n".join(filter(None, parts))
