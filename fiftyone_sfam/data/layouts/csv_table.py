"""Images and labels from a table, such as the metadata of wildlife-datasets."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import shown_size
from fiftyone_sfam.data.layouts.tree import IMAGES, Image, Part, Tree, is_text
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
_SPLIT = "split"
_BOX = ("x", "y", "w", "h")  # columns of the left, the top, the width and the height
# Fields that FiftyOne fills.
_TAKEN = ("id", "filepath", "metadata", "tags", "created_at", "last_modified_at")
_TAKEN_IN_BOXES = ("label", "bounding_box", "confidence", "index", "mask", "mask_path")
# A larger number in a box is one of pixels.
_LARGEST_SHARE = 1
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_UNKNOWN = "unknown"  # identity of unknown individuals in wildlife-datasets
_TABLE = "metadata.csv"


def read_table(path: Path, columns: Mapping[str, str]) -> Tree:
    """Read a table; ``columns`` names the columns of fields."""
    file = _table_file(path)
    tree = Tree(file.parent.resolve())
    table = _read_csv(file)
    named = {
        field: column for column, field in _COLUMNS.items() if column in table.columns
    }
    if set(_BOX) <= set(table.columns) or not set(_BOX).isdisjoint(columns):
        named |= {side: side for side in _BOX}
    named |= columns
    paths = named.pop(_PATH, _PATH)
    for field, column in {_PATH: paths, **named}.items():
        if column not in table.columns:
            raise DataError(
                f"{file} has no column '{column}' for {field}; its columns are "
                f"{', '.join(map(repr, table.columns))}; name another in columns."
            )
    sides = [named.pop(side) for side in _BOX if side in named]
    _check_names(columns.keys() - {_PATH, *_BOX}, bool(sides))
    values = {field: _values(field, table[column]) for field, column in named.items()}
    rows = [
        {field: column[row] for field, column in values.items()}
        for row in range(len(table))
    ]
    names = table[paths].tolist()
    if sides:
        _add_boxes(tree, file, names, rows, _read_boxes(file, table[sides]))
        return tree
    repeated = table[paths][table[paths].duplicated() & (table[paths] != "")]
    if len(repeated):
        raise DataError(
            f"{file} names the image '{repeated.iloc[0]}' in several rows; give each "
            "image once, such as the crop of one animal, or its boxes in the columns "
            f"{', '.join(_BOX)}."
        )
    for name, labels in zip(names, rows, strict=True):
        found = _find(tree, name)
        if found is not None:
            tree.images.append(Image(found, name, labels))
    return tree


def _check_names(fields: Iterable[str], boxes: bool) -> None:
    """Raise if a column cannot become a field of the samples, or of their boxes."""
    taken = (*_TAKEN, *_TAKEN_IN_BOXES) if boxes else _TAKEN
    for field in fields:
        if not field.isidentifier() or field.startswith("_") or field in taken:
            raise DataError(
                f"this cannot be the name of a field: {field!r}; choose another one in "
                "columns."
            )


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


def _find(tree: Tree, name: str) -> Path | None:
    """Return the path of an image of the table, if it is one in its folder."""
    path = tree.root / name.replace("\\", "/")
    if not is_text(name) or path.suffix.lower() not in IMAGES:
        tree.unreadable.append(name)
    elif not tree.is_inside(path):
        tree.outside.append(name)
    elif not os.path.isfile(path):  # also for names that are too long
        tree.missing.append(name)
    else:
        return path
    return None


# --------------------------------------------------------------------------------------
# Boxes
# --------------------------------------------------------------------------------------


def _read_boxes(file: Path, sides: pd.DataFrame) -> NDArray[np.float64]:
    """Return the boxes of the rows; NaN for rows without a box."""
    import pandas as pd

    texts = sides.apply(lambda column: column.str.strip())
    empty = (texts == "").all(axis=1).to_numpy()
    boxes = texts.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    fits = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    for row in np.flatnonzero(~fits & ~empty).tolist():
        shown = ", ".join(map(repr, texts.iloc[row]))
        raise DataError(
            f"row {row} of {file} has the box {shown}; give left, top, width and "
            "height as numbers, the last two above 0, or leave all four empty for the "
            "whole image."
        )
    return boxes


def _add_boxes(
    tree: Tree,
    file: Path,
    names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    boxes: NDArray[np.float64],
) -> None:
    """Add the images of a table with the boxes of their rows, in their first order."""
    in_pixels = bool((boxes > _LARGEST_SHARE).any())
    by_name: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        by_name[name].append(row)
    for name, own in by_name.items():
        path = _find(tree, name)
        if path is None:
            continue
        try:
            width, height = shown_size(path) if in_pixels else (1, 1)
        except DataError:
            tree.unreadable.append(name)
            continue
        splits = {rows[row].get(_SPLIT) for row in own}
        if len(splits) > 1:
            raise DataError(
                f"{file} has the image '{name}' in several splits "
                f"({', '.join(sorted(map(str, splits)))}); give all boxes of an image "
                "the same split."
            )
        parts = []
        for row in own:
            labels = {k: v for k, v in rows[row].items() if k != _SPLIT}
            left, top, wide, high = boxes[row].tolist()
            box = left / width, top / height, wide / width, high / height
            parts.append(Part(_WHOLE if math.isnan(left) else box, labels))
        of_image = {_SPLIT: splits.pop()} if _SPLIT in rows[own[0]] else {}
        tree.images.append(Image(path, name, of_image, tuple(parts)))
