"""What the commands share: datasets and runs by name, numbers, and plain tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_sfam.audit.statistics.cells import Table
    from fiftyone_sfam.runs.run import Run


def load_dataset(name: str) -> fo.Dataset:
    """Load a dataset by its name."""
    import fiftyone as fo

    if not fo.dataset_exists(name):
        raise DataError(
            f"There is no dataset '{name}': `fiftyone datasets list` shows those "
            "that exist."
        )
    return fo.load_dataset(name)


def load_run_of(args: argparse.Namespace) -> Run:
    """Load the run that a command's arguments name."""
    from fiftyone_sfam.runs.run import load_run

    return load_run(load_dataset(args.dataset), args.key)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a run."""
    parser.add_argument("dataset", help="name of a FiftyOne dataset")
    parser.add_argument(
        "key",
        nargs="?",
        default="sfam",
        metavar="run",
        help="run key (default: %(default)s)",
    )


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds, for ``argparse``."""
    limits = f"{low} or more" if high is None else f"{low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number"
            ) from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not {limits}")
        return value

    return parse


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()
) -> str:
    """Set a table in columns of characters."""
    cells = [[one_line(value) for value in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        shown = [
            value.rjust(width) if name in right else value.ljust(width)
            for name, value, width in zip(head, row, widths, strict=True)
        ]
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def result_table(table: Table) -> str:
    """Set a table of a result, its numbers to the right."""
    right = [
        name
        for name, column in zip(table.head, zip(*table.rows, strict=True), strict=False)
        if any(cell.kind == "number" for cell in column)
    ]
    return plain_table(table.head, table.texts(), right)
