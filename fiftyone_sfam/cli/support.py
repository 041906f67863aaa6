"""Shared by the commands: their arguments, datasets and runs by name, plain text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_sfam.audit.statistics.cells import Table
    from fiftyone_sfam.runs.run import Run

Command = Callable[[argparse.Namespace], str]


def add_command(
    commands: Any, name: str, command: Command, *, help: str, description: str
) -> argparse.ArgumentParser:
    """Add a command, which returns the text to print."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description
    )
    parser.set_defaults(run=command, parser=parser)
    return parser


def add_run_arguments(parser: argparse.ArgumentParser, key: str = "sfam") -> None:
    """Add the arguments that name a run."""
    parser.add_argument("dataset", help="name of a FiftyOne dataset")
    parser.add_argument(
        "key",
        nargs="?",
        default=key,
        metavar="run",
        help="key of the run (default: %(default)s)",
    )


def add_number(
    parser: argparse._ActionsContainer,
    option: str,
    default: int | None,
    help: str,
    *,
    low: int = 1,
    high: int | None = None,
    metavar: str | None = None,
) -> None:
    """Add an option with a whole number; the help ends with the default, if any."""
    parser.add_argument(
        option,
        type=whole_number(low, high),
        default=default,
        metavar=metavar,
        help=help if default is None else f"{help} (default: %(default)s)",
    )


def add_repeated(
    parser: argparse._ActionsContainer,
    option: str,
    dest: str,
    metavar: str,
    help: str,
    type: Callable[[str], object] = str,
) -> None:
    """Add an option that may be repeated; its values are a list."""
    parser.add_argument(
        option,
        action="append",
        dest=dest,
        type=type,
        metavar=metavar,
        default=[],
        help=f"{help}; may be repeated",
    )


def load_dataset(name: str) -> fo.Dataset:
    """Load a dataset by its name."""
    import fiftyone as fo

    if not fo.dataset_exists(name):
        raise DataError(
            f"There is no dataset '{name}': `fiftyone datasets list` shows the names "
            "of all datasets."
        )
    return fo.load_dataset(name)


def load_run_of(args: argparse.Namespace) -> Run:
    """Load the run that the arguments of a command name."""
    from fiftyone_sfam.runs.run import load_run

    return load_run(load_dataset(args.dataset), args.key)


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds, for ``argparse``."""
    limits = f"{low} or more" if high is None else f"{low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number; give {limits}"
            ) from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is out of range; give {limits}")
        return value

    return parse


def with_options(message: str, parser: argparse.ArgumentParser) -> str:
    """Replace the parameters that a message of the library names by options."""
    options = {
        action.dest: action.option_strings[0]
        for action in parser._actions
        if action.option_strings
    }

    def replaced(match: re.Match[str]) -> str:
        name, assigned = match[1] or "", match[2]
        # Some options are named like everyday words.
        subject = match.start() == 0 and message.startswith(" is ", match.end())
        if name not in options or not (assigned or subject or "_" in name):
            return match[0]
        return options[name] + (" " if assigned == "=" else "")

    # Quoted text is a name or a value, which stays as it is.
    return re.sub(r"(?<!\w)'[^']*'|\b(\w+)(=True\b|=)?", replaced, message)


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()
) -> str:
    """Align rows in columns; the columns in ``right`` are aligned to the right."""
    return tabulate(
        [[one_line(value) for value in row] for row in (head, *rows)],
        tablefmt="plain",
        colalign=["right" if name in right else "left" for name in head],
        disable_numparse=True,
    )


def result_table(table: Table) -> str:
    """Align the rows of a result, its numbers to the right."""
    columns = dict(zip(table.head, zip(*table.rows, strict=True), strict=False))
    right = [
        name
        for name, cells in columns.items()
        if any(cell.kind == "number" for cell in cells)
    ]
    return plain_table(table.head, table.texts(), right)
