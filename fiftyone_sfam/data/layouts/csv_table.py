"""Images and labels from a table, such as the metadata of wildlife-datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.layouts.tree import IMAGES, Image, Tree, is_text
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Columns that are read without being named, and the fields that they fill.
_COLUMNS = {
    "identity": "identity",
    "camera": "camera",
    "split": "split",
    "tracklet": "tracklet",
    "video": "tracklet",
    "clothes": "clothes",
    "place": "place",
    "encounter": "encounter",
    "date": "date",
}
_PATH = "path"
# Fields that FiftyOne fills.
_TAKEN = ("id", "filepath", "metadata", "tags", "created_at", "last_modified_at")
_UNKNOWN = "unknown"  # identity of unknown individuals in wildlife-datasets
_TABLE = "metadata.csv"


def read_table(path: Path, columns: Mapping[str, str]) -> Tree:
    """Read a table; ``columns`` names the columns of fields."""
    file = _table_file(path)
    wrong = [
        field
        for field in columns
        if not field.isidentifier() or field.startswith("_") or field in _TAKEN
    ]
    if wrong:
        raise DataError(
            f"this cannot be the name of a field: {wrong[0]!r}; choose another one in "
            "columns."
        )
    tree = Tree(file.parent.resolve())
    table = _read_csv(file)
    named = {
        field: column for column, field in _COLUMNS.items() if column in table.columns
    } | dict(columns)
    paths = named.pop(_PATH, _PATH)
    for field, column in {_PATH: paths, **named}.items():
        if column not in table.columns:
            raise DataError(
                f"{file} has no column '{column}' for {field}; its columns are "
                f"{', '.join(map(repr, table.columns))}; name another in columns."
            )
    repeated = table[paths][table[paths].duplicated() & (table[paths] != "")]
    if len(repeated):
        raise DataError(
            f"{file} names the image '{repeated.iloc[0]}' in several rows; give each "
            "image once, such as the crop of one animal."
        )
    values = {field: _values(field, table[column]) for field, column in named.items()}
    for number, name in enumerate(table[paths]):
        labels = {field: column[number] for field, column in values.items()}
        _add(tree, name, labels)
    return tree


def _table_file(path: Path) -> Path:
    """Return the table that a path names, or that its folder holds."""
    if path.is_file():
        return path
    if (path / _TABLE).is_file():
        return path / _TABLE
    tables = sorted(path.glob("*.csv"))
    if len(tables) != 1:
        raise DataError(
            f"'{path}' has {len(tables)} tables (*.csv) and no {_TABLE}; give the path "
            "of one."
        )
    return tables[0]


def _read_csv(file: Path) -> pd.DataFrame:
    """Read a table as text; empty cells are empty texts."""
    import pandas as pd

    try:
        # Numbers would lose their leading zeros.
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file} cannot be read as a table ({reason}); save it as CSV in UTF-8."
        ) from error


def _values(field: str, column: pd.Series) -> list[Any]:
    """Return the values of a field, None where there is none."""
    texts = [text.strip() or None for text in column]
    if field == "identity":
        return [None if text == _UNKNOWN else text for text in texts]
    if field != "date":
        return texts
    import pandas as pd

    times = pd.to_datetime(
        pd.Series(texts, dtype=object), errors="coerce", format="mixed", utc=True
    )
    # A column of which some values are no dates, such as seasons, stays text.
    if any(text is not None for text in texts) and all(
        (text is None) == bool(missing)
        for text, missing in zip(texts, times.isna(), strict=True)
    ):
        return [None if pd.isna(time) else time.to_pydatetime() for time in times]
    return texts


def _add(tree: Tree, name: str, labels: dict[str, Any]) -> None:
    """Add an image of the table, if it is one in its folder."""
    path = tree.root / name.replace("\\", "/")
    if not is_text(name) or path.suffix.lower() not in IMAGES:
        tree.unreadable.append(name)
    elif not tree.is_inside(path):
        tree.outside.append(name)
    elif not os.path.isfile(path):  # also for names that are too long
        tree.missing.append(name)
    else:
        tree.images.append(Image(path, name, labels))
