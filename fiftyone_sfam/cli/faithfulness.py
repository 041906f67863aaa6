"""The command that tells how far to trust the maps: ``faithfulness``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.cli.support import (
    add_run_arguments,
    load_run_of,
    plain_table,
    whole_number,
)
from fiftyone_sfam.data.text import number, one_line, percent

if TYPE_CHECKING:
    from fiftyone_sfam.audit.faithfulness.result import MapFigures
    from fiftyone_sfam.audit.statistics.bootstrap import Estimate


def add_commands(commands: Any) -> None:
    """Add the command to a parser; it returns the text that it prints."""
    parser = commands.add_parser(
        "faithfulness",
        help="how far to trust the maps on this model",
        description="Hide and show pixels of a sample of pairs in the order of their "
        "maps, compare with maps that know less, and store the verdict with the run.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--model", metavar="NAME", help="the run's model (default: by its name)"
    )
    parser.add_argument(
        "--pairs",
        type=whole_number(1),
        default=100,
        metavar="N",
        help="pairs to draw (default: %(default)s)",
    )
    parser.add_argument(
        "--side",
        choices=("query", "gallery", "both"),
        default="query",
        help="images that are masked (default: %(default)s)",
    )
    parser.add_argument(
        "--fill",
        choices=("blur", "mean", "inpaint"),
        default="blur",
        help="what hides pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--layer",
        action="append",
        dest="layers",
        metavar="NAME",
        help="another layer to try the evidence at, or 'auto' for the last one of "
        "each resolution; may be repeated",
    )
    parser.add_argument(
        "--steps",
        type=whole_number(2),
        default=10,
        help="steps of a curve (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="seed of the draws"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> str:
    run = load_run_of(args)

    from fiftyone_sfam.audit.faithfulness.check import AUTO, check_faithfulness

    layers = args.layers or []
    found = check_faithfulness(
        run,
        args.model,
        args.pairs,
        side=args.side,
        fill=args.fill,
        layers=AUTO if AUTO in layers else layers,
        steps=args.steps,
        seed=args.seed,
    )
    head = (
        "map",
        "insertion - deletion",
        "x chance",
        "x no partner",
        "accuracy, hidden",
        "shown",
        "partners alike",
        "stable",
        "remainder",
    )
    rows = [_row(one) for one in found.figures]
    parts = [one_line(found.sentence, 1000), plain_table(head, rows, right=head[1:])]
    if found.skipped:
        reason = next(iter(found.skipped.values()))
        parts.append(
            one_line(f"{len(found.skipped)} images skipped; the first: {reason}")
        )
    return "\n\n".join(parts)


def _row(one: MapFigures) -> tuple[str, ...]:
    return (
        one_line(one.name),
        _interval(one.margin, 4),
        _interval(one.over_chance, 2),
        _interval(one.over_activation, 2),
        percent(one.accuracy_hidden),
        percent(one.accuracy_shown),
        number(one.specificity, 2),
        number(one.stability, 2),
        percent(one.remainder),
    )


def _interval(found: Estimate, digits: int) -> str:
    shown = number(found.value, digits)
    if found.value != found.value or found.low != found.low:
        return shown
    return f"{shown} ({number(found.low, digits)} to {number(found.high, digits)})"
