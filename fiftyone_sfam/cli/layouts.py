"""The command that reads the folder of a known data set: ``import``; what it leaves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.cli.support import add_command, add_repeated

if TYPE_CHECKING:
    import fiftyone as fo

    from fiftyone_sfam.data.protocol import Protocol


def add_commands(commands: Any) -> None:
    """Add the command to a parser."""
    parser = add_command(
        commands,
        "import",
        _import,
        help="make a dataset of the folder of a known data set",
        description="Make a dataset of a folder that is laid out as a known data set, "
        "with its labels, its official split and the protocol that goes with it.",
    )
    parser.add_argument(
        "layout", help="market1501, msmt17, lfw, folders, csv, ...; see the docs"
    )
    parser.add_argument("folder", help="folder of the data set, or its table")
    parser.add_argument(
        "--name", help="name of the dataset (default: that of the layout)"
    )
    parser.add_argument(
        "--variant",
        help="which of several official splits: detected or labeled (cuhk03), the "
        "number of identities (vehicleid), all or indoor (sysu-mm01)",
    )
    add_repeated(
        parser,
        "--column",
        "columns",
        "FIELD=COLUMN",
        "column of a table that fills a field, or holds the path",
        type=_field_and_column,
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a dataset of this name"
    )


def _field_and_column(text: str) -> tuple[str, str]:
    """Read the name of a field and that of its column."""
    field, _, column = text.partition("=")
    if not (field and column):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form FIELD=COLUMN")
    return field, column


def _import(args: argparse.Namespace) -> str:
    from fiftyone_sfam.data.layouts.importer import load_layout

    loaded = load_layout(
        args.layout,
        args.folder,
        args.name,
        variant=args.variant,
        columns=dict(args.columns),
        persistent=True,
        overwrite=args.overwrite,
    )
    return (
        f"{loaded.summary()}\n"
        f"made the dataset '{loaded.dataset.name}': fiftyone-sfam explain "
        f"{loaded.dataset.name} --model MODEL"
    )


def imported_protocol(dataset: fo.Dataset) -> Protocol | None:
    """Return the protocol of an imported data set, and say that it is used."""
    from fiftyone_sfam.data.layouts.importer import load_protocol

    protocol = load_protocol(dataset)
    if protocol is not None:
        print("Using the protocol that was imported with the dataset.", flush=True)
    return protocol


def use_imported_boxes(dataset: fo.Dataset, args: argparse.Namespace) -> None:
    """Compare the boxes of an imported table, if no field is named."""
    from fiftyone_sfam.data.layouts.importer import load_patches_field

    field = load_patches_field(dataset)
    if field is not None and args.patches_field is None:
        print(f"Using the boxes that were imported, in '{field}'.", flush=True)
        args.patches_field = field
