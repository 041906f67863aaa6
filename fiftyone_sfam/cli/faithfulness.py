"""The command that checks how far to trust the maps: ``faithfulness``."""

from __future__ import annotations

import argparse
from typing import Any

from fiftyone_sfam.cli.support import (
    add_command,
    add_number,
    add_repeated,
    add_run_arguments,
    load_run_of,
    result_table,
)
from fiftyone_sfam.data.text import one_line


def add_commands(commands: Any) -> None:
    """Add the command to a parser."""
    parser = add_command(
        commands,
        "faithfulness",
        _faithfulness,
        help="check how far to trust the maps on this model",
        description="Hide and show pixels of sampled pairs in the order of their maps, "
        "compare with simpler maps, and store the verdict with the run.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="name of the run's model, if it is registered under another one now, or "
        "its source",
    )
    add_number(parser, "--pairs", 100, "number of pairs to draw", metavar="N")
    parser.add_argument(
        "--side",
        choices=("query", "gallery", "both"),
        default="query",
        help="images to mask (default: %(default)s)",
    )
    parser.add_argument(
        "--fill",
        choices=("all", "blur", "mean", "inpaint", "patches"),
        default="all",
        help="how pixels are hidden; patches are those of another image, and all is "
        "the mean over the four (default: %(default)s)",
    )
    add_repeated(
        parser,
        "--layer",
        "layers",
        "NAME",
        "another layer to compute the evidence at, or 'auto' for the last layer "
        "of each resolution",
    )
    add_number(parser, "--steps", 10, "steps of each curve", low=2)
    add_number(parser, "--seed", 0, "random seed", low=0)


def _faithfulness(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.faithfulness.check import AUTO, check_faithfulness
    from fiftyone_sfam.audit.faithfulness.display import maps_table, notes

    result = check_faithfulness(
        run,
        args.model,
        args.pairs,
        side=args.side,
        fill=args.fill,
        layers=AUTO if AUTO in args.layers else args.layers,
        steps=args.steps,
        seed=args.seed,
    )
    parts = [one_line(result.sentence, 1000), result_table(maps_table(result))]
    return "\n\n".join([*parts, *map(one_line, notes(result))])
