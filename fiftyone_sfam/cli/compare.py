"""The command that compares two runs: ``compare``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    add_repeated,
    load_dataset,
    result_table,
)
from fiftyone_sfam.data.text import one_line

SHOWN = 10
"""Rows of a list unless ``--top`` says otherwise."""


def add_commands(commands: Any) -> None:
    """Add the command to a parser."""
    parser = add_command(
        commands,
        "compare",
        _compare,
        help="compare two models over the same images: queries, groups, regions",
        description="Compare two runs of a dataset: which queries get better or worse, "
        "in which identities, cameras and slices, and where on the images the models "
        "differ. The result is stored with the first run.",
    )
    parser.add_argument("dataset", help="name of a FiftyOne dataset")
    parser.add_argument("first", metavar="A", help="key of a run")
    parser.add_argument("second", metavar="B", help="key of another run")
    add_repeated(
        parser,
        "--slice",
        "slices",
        "FIELD",
        "compare for each value of a field of the queries",
    )
    parser.add_argument(
        "--regions",
        metavar="FIELD",
        help="masks or detections that divide the images into regions (default: the "
        "field that fits best)",
    )
    parser.add_argument(
        "--pairs",
        choices=("stored", "true"),
        default="stored",
        help="pairs that regions are compared on: those that both runs stored, or each "
        "query with its nearest true match (default: %(default)s)",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="also write a report of the comparison, as HTML"
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="show the queries that changed in the report, with both models' maps",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier report"
    )
    add_number(parser, "--resamples", 1000, "bootstrap resamples of the intervals")
    add_number(parser, "--seed", 0, "random seed", low=0)
    add_number(
        parser, "--top", SHOWN, "number of rows per list to print", low=0, metavar="N"
    )


def _compare(args: argparse.Namespace) -> str:
    dataset = load_dataset(args.dataset)

    from fiftyone_sfam.audit.comparison.compare import compare_runs
    from fiftyone_sfam.audit.comparison.display import (
        counts_table,
        figures_table,
        groups_table,
        notes,
        queries_table,
        regions_table,
        sentences,
    )
    from fiftyone_sfam.audit.report.comparison import check_file, write_comparison
    from fiftyone_sfam.runs.run import load_run

    if args.out is not None:
        check_file(args.out, args.overwrite)
    runs = load_run(dataset, args.first), load_run(dataset, args.second)
    comparison = compare_runs(
        *runs,
        slices=args.slices,
        regions=args.regions,
        pairs=args.pairs,
        resamples=args.resamples,
        seed=args.seed,
    )
    tables = [figures_table(comparison), counts_table(comparison)]
    if comparison.regions:
        tables.append(regions_table(comparison))
    if args.top:
        tables += [
            groups_table(comparison, field, args.top) for field in comparison.groups
        ]
        changed = comparison.changed[: args.top].tolist()
        if changed:
            tables.append(queries_table(comparison, runs[0], changed))
    parts = [
        *(one_line(line, 1000) for line in sentences(comparison)),
        *map(result_table, tables),
        *(one_line(line, 1000) for line in notes(comparison)),
    ]
    if args.out is not None:
        written = write_comparison(
            *runs, args.out, images=args.images, overwrite=args.overwrite
        )
        parts.append(str(written))
    return "\n\n".join(parts)
