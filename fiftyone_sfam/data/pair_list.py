"""Lists of pairs that users bring: from Python, CSV, or LFW's ``pairs.txt``."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.text import counted, first_line, shorten
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("query", "gallery", "label", "fold", "rank", "score")
"""Columns of a list of pairs; the first two are needed."""

SAME, DIFFERENT, NOT_SAID = 1, 0, -1
"""Labels of pairs."""

NO_FOLD = -1
NO_RANK = 0

_LABELS = {
    **dict.fromkeys(
        ("1", "1.0", "true", "same", "yes", "genuine", "match", "true match"), SAME
    ),
    **dict.fromkeys(
        ("0", "0.0", "false", "different", "no", "impostor", "mismatch", "false match"),
        DIFFERENT,
    ),
    **dict.fromkeys(("", "nan", "none", "unlabeled"), NOT_SAID),
}
_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class PairList:
    """A list of L pairs, as the user has it.

    Attributes
    ----------
    query, gallery : tuple of str
        Ids, paths or names of the two images of each pair, L each.
    label : ndarray of int8
        1 for the same identity, 0 for different ones, -1 where the list does not say,
        shape (L,).
    fold : ndarray of int32
        Number of the pair's fold, from 0; -1 for none, shape (L,).
    rank : ndarray of int32
        Rank of the gallery image in the query's list, from 1; 0 for none, shape (L,).
    score : ndarray of float64
        The user's own score; NaN for none, shape (L,).
    """

    query: tuple[str, ...]
    gallery: tuple[str, ...]
    label: NDArray[np.int8]
    fold: NDArray[np.int32]
    rank: NDArray[np.int32]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.query)

    @property
    def ranked(self) -> bool:
        """Whether the list has ranks."""
        return bool((self.rank != NO_RANK).any())


def read_pairs(
    pairs: str | Path | pd.DataFrame | Sequence[Sequence[Any]] | PairList,
    columns: Mapping[str, str] | None = None,
) -> PairList:
    """Read a list of pairs.

    Parameters
    ----------
    pairs : path, DataFrame, or sequence
        A CSV file with a head line (``.csv``, or ``.tsv`` with tabs), a file in the
        format of LFW's ``pairs.txt`` (any other ending), a table, or a sequence of
        ``(query, gallery)`` or ``(query, gallery, label)``. Labels are 1, "same" or
        True, and 0, "different" or False; a missing one is empty or None.
    columns : mapping, optional
        Names of the table's columns by ``"query"``, ``"gallery"``, ``"label"``,
        ``"fold"``, ``"rank"`` and ``"score"``; by default these names themselves. Only
        the first two are needed.

    Returns
    -------
    PairList
        The pairs, in the list's order.

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, or a value cannot be used.

    Examples
    --------
    >>> from fiftyone_sfam.data.pair_list import read_pairs
    >>> pairs = read_pairs([("a.jpg", "b.jpg", "same"), ("a.jpg", "c.jpg", 0)])
    >>> pairs.gallery, pairs.label.tolist()
    (('b.jpg', 'c.jpg'), [1, 0])
    """
    import pandas as pd

    if isinstance(pairs, PairList):
        return pairs
    if isinstance(pairs, pd.DataFrame):
        return _from_table(pairs, columns, "the table of pairs")
    if isinstance(pairs, (str, Path)):
        separator = {".csv": ",", ".tsv": "\t"}.get(Path(pairs).suffix.lower())
        if separator is not None:
            rows = _cells(_read_text(pairs), separator, f"'{pairs}'")
            return _from_rows(rows, columns, f"'{pairs}'")
        if columns is not None:
            raise DataError(
                f"columns names columns of a table, but '{pairs}' does not end in .csv "
                "or .tsv and is read as LFW's pairs.txt; rename it, or leave columns "
                "out."
            )
        return parse_lfw(_read_text(pairs), f"'{pairs}'")
    triples = [_row(row, number) for number, row in enumerate(pairs)]
    table = pd.DataFrame(triples, columns=list(COLUMNS[:3]))
    return _from_table(table, None, "the list")


def parse_pairs(
    text: str, columns: Mapping[str, str] | None = None, origin: str = "the text"
) -> PairList:
    r"""Parse a list of pairs whose form its first line shows.

    Parameters
    ----------
    text : str
        A table with a head line that names the query and the gallery; the same without
        a head line, ``query, gallery`` or ``query, gallery, label`` on each line; or
        LFW's ``pairs.txt``, which begins with one or two numbers. Tabs, commas or
        semicolons, or else spaces, separate the columns.
    columns : mapping, optional
        Names of the columns of a head line, as in :func:`read_pairs`.
    origin : str
        What messages call it.

    Returns
    -------
    PairList
        The pairs, in the text's order.

    Raises
    ------
    DataError
        If the text has none of these forms, or a value cannot be used.

    Examples
    --------
    >>> from fiftyone_sfam.data.pair_list import parse_pairs
    >>> pairs = parse_pairs("a.jpg, b.jpg, same\na.jpg, c.jpg\n")
    >>> pairs.gallery, pairs.label.tolist()
    (('b.jpg', 'c.jpg'), [1, -1])
    >>> parse_pairs("gallery;query\nb.jpg;a.jpg\n").query
    ('a.jpg',)
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    if columns is None and all(map(_is_number, first.lstrip("\ufeff").split())):
        return parse_lfw(text, origin)
    rows = _cells(text, next((c for c in "\t,;" if c in first), " "), origin)
    if columns is None and not {"query", "gallery"} <= set(rows[0]):
        for row in rows:
            if not 2 <= len(row) <= 3:
                raise DataError(
                    f"the line {_shown(row)} of {origin} has "
                    f"{counted(len(row), 'column')}; give two images and possibly a "
                    "label on each line, or a head line that names the columns: "
                    f"{','.join(COLUMNS)}."
                )
        rows.insert(0, list(COLUMNS[:3]))
    return _from_rows(rows, columns, origin)


def parse_lfw(text: str, origin: str = "the text") -> PairList:
    r"""Parse a list of pairs in the format of LFW's ``pairs.txt``.

    The first line has the number of folds and the number N of pairs of each kind per
    fold; with one number it is N, and there is one fold, as in ``pairsDevTest.txt``.
    Each fold has N lines ``name n1 n2``, two images of one person, and N lines
    ``name1 n1 name2 n2``, images of two.

    Parameters
    ----------
    text : str
        Contents of the file.
    origin : str
        What messages call it.

    Returns
    -------
    PairList
        Image ``n`` of a person is named ``name_nnnn``, as LFW names its files.

    Raises
    ------
    DataError
        If a line is not of this form, or a fold does not have N pairs of each kind.

    Examples
    --------
    >>> from fiftyone_sfam.data.pair_list import parse_lfw
    >>> pairs = parse_lfw("1\t1\nAnn_Lee\t1\t4\nAnn_Lee\t1\tBo_Orr\t2\n")
    >>> pairs.query, pairs.gallery
    (('Ann_Lee_0001', 'Ann_Lee_0001'), ('Ann_Lee_0004', 'Bo_Orr_0002'))
    >>> pairs.label.tolist(), pairs.fold.tolist()
    ([1, 0], [0, 0])
    """
    lines = [
        (number, line.split("\t") if "\t" in line else line.split())
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1)
        if line.strip()
    ]
    if not lines:
        raise DataError(f"{origin} is empty; a list of pairs is needed.")
    head = [field.strip() for field in lines[0][1]]
    if len(head) > 2 or not all(map(_is_number, head)):
        raise DataError(
            f"line {lines[0][0]} of {origin} is {_shown(head)}; LFW's format begins "
            "with the number of folds and the pairs of each kind per fold, such as "
            "'10 300'. A table of pairs has to be a .csv file."
        )
    folds, each = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
    if not folds * each:
        raise DataError(
            f"line {lines[0][0]} of {origin} is {_shown(head)}, which announces no "
            "pairs; at least one fold and one pair of each kind are needed."
        )
    if len(lines) - 1 != 2 * folds * each:
        raise DataError(
            f"{origin} announces {counted(folds, 'fold')} with {each} pairs of each "
            f"kind, which are {2 * folds * each} lines, but has {len(lines) - 1}."
        )
    rows = [_lfw_pair(number, line, origin) for number, line in lines[1:]]
    label = np.array([row[2] for row in rows], dtype=np.int8)
    same = label.reshape(folds, 2 * each).sum(axis=1)
    for fold in np.flatnonzero(same != each).tolist():
        raise DataError(
            f"fold {fold + 1} of {origin} has {counted(int(same[fold]), 'pair')} of "
            f"one person and {2 * each - int(same[fold])} of two; {each} of each kind "
            "are announced."
        )
    return PairList(
        query=tuple(row[0] for row in rows),
        gallery=tuple(row[1] for row in rows),
        label=label,
        fold=np.repeat(np.arange(folds, dtype=np.int32), 2 * each),
        rank=np.full(len(rows), NO_RANK, dtype=np.int32),
        score=np.full(len(rows), np.nan),
    )


# --------------------------------------------------------------------------------------
# LFW
# --------------------------------------------------------------------------------------


def _lfw_pair(number: int, line: list[str], origin: str) -> tuple[str, str, int]:
    """Return the two names and the label of a line."""
    cells = [field.strip() for field in line]
    if len(cells) == 3:
        cells.insert(2, cells[0])
        label = SAME
    else:
        label = DIFFERENT
    if len(cells) != 4 or not (_is_number(cells[1]) and _is_number(cells[3])):
        raise DataError(
            f"line {number} of {origin} is {_shown(line)}; LFW's format has lines "
            "'name n1 n2' and 'name1 n1 name2 n2'."
        )
    query, gallery = (f"{cells[at]}_{int(cells[at + 1]):04d}" for at in (0, 2))
    return query, gallery, label


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _shown(cells: Iterable[str]) -> str:
    return repr(shorten(" ".join(cells), 60))


# --------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------


def _row(row: Any, number: int) -> tuple[Any, Any, Any]:
    """Return a pair of a sequence with its label."""
    if isinstance(row, str) or not hasattr(row, "__len__") or len(row) not in (2, 3):
        raise DataError(
            f"pair {number} of the list is {shorten(repr(row), 60)}; (query, gallery) "
            "or (query, gallery, label) is needed."
        )
    query, gallery, *label = row
    return query, gallery, label[0] if label else None


def _from_table(
    table: pd.DataFrame, columns: Mapping[str, str] | None, origin: str
) -> PairList:
    """Read the columns of a table."""
    given = dict(columns or {})
    for name in given.keys() - set(COLUMNS):
        raise DataError(
            f"columns names {name!r}; the columns of a list of pairs are "
            f"{', '.join(COLUMNS)}."
        )
    known = list(map(str, table.columns))
    table = table.set_axis(known, axis=1)
    for name in COLUMNS:
        if name not in given and (name in known or name in COLUMNS[:2]):
            given[name] = name
    for name, column in given.items():
        if known.count(column) != 1:
            has = "two columns" if column in known else "no column"
            raise DataError(
                f"{origin} has {has} {column!r} for the {name} of each pair; its "
                f"columns are {', '.join(map(repr, known))}. Name the right one with "
                f"columns={{{name!r}: ...}}."
            )
    if not len(table):
        raise DataError(f"{origin} has no rows; at least one pair is needed.")
    cells = {name: table[column].tolist() for name, column in given.items()}
    count = len(table)
    return PairList(
        query=_names(cells["query"], "query", origin),
        gallery=_names(cells["gallery"], "gallery", origin),
        label=_labels(cells.get("label"), count, origin),
        fold=_whole(cells.get("fold"), count, "fold", origin, 0, NO_FOLD),
        rank=_whole(cells.get("rank"), count, "rank", origin, 1, NO_RANK),
        score=_scores(cells.get("score"), count, origin),
    )


def _names(values: list[Any], column: str, origin: str) -> tuple[str, ...]:
    names = tuple("" if _is_missing(value) else str(value).strip() for value in values)
    if "" in names:
        raise DataError(
            f"row {names.index('')} of {origin} has no {column}; every pair needs two "
            "images."
        )
    return names


def _labels(values: list[Any] | None, count: int, origin: str) -> NDArray[np.int8]:
    if values is None:
        return np.full(count, NOT_SAID, dtype=np.int8)
    texts = ["" if _is_missing(value) else str(value).strip() for value in values]
    for row, text in enumerate(texts):
        if text.lower() not in _LABELS:
            raise DataError(
                f"row {row} of {origin} has the label {shorten(text, 40)!r}; use 1 or "
                "'same', 0 or 'different', or leave it empty."
            )
    return np.array([_LABELS[text.lower()] for text in texts], dtype=np.int8)


def _whole(
    values: list[Any] | None,
    count: int,
    column: str,
    origin: str,
    lowest: int,
    missing: int,
) -> NDArray[np.int32]:
    """Read whole numbers from ``lowest``."""
    whole = np.full(count, missing, dtype=np.int32)
    for row, value in enumerate(values or ()):
        if _is_missing(value):
            continue
        number = _float(value)
        if number is None or number != int(number) or not lowest <= number <= _LARGEST:
            raise DataError(
                f"row {row} of {origin} has the {column} {shorten(str(value), 40)!r}; "
                f"a whole number from {lowest} is needed."
            )
        whole[row] = int(number)
    return whole


def _scores(values: list[Any] | None, count: int, origin: str) -> NDArray[np.float64]:
    scores = np.full(count, np.nan)
    for row, value in enumerate(values or ()):
        if _is_missing(value):
            continue
        number = _float(value)
        if number is None:
            raise DataError(
                f"row {row} of {origin} has the score {shorten(str(value), 40)!r}; a "
                "finite number is needed."
            )
        scores[row] = number
    return scores


def _float(value: Any) -> float | None:
    """Return a finite number; None if a value is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _cells(text: str, separator: str, origin: str) -> list[list[str]]:
    """Return the cells of the lines that are not empty; at least one line."""
    lines: Iterable[str] = io.StringIO(text.lstrip("\ufeff"), newline="")
    if separator == " ":
        lines = (" ".join(line.split()) for line in lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise DataError(
            f"{origin} cannot be read: {first_line(error)} (line {reader.line_num})."
        ) from error
    rows = [row for row in rows if any(row)]
    if not rows:
        raise DataError(f"{origin} is empty; a list of pairs is needed.")
    return rows


def _from_rows(
    rows: list[list[str]], columns: Mapping[str, str] | None, origin: str
) -> PairList:
    """Read rows of cells, of which the first is the head."""
    import pandas as pd

    head, *rest = rows
    for number, row in enumerate(rest):
        if len(row) > len(head):
            raise DataError(
                f"row {number} of {origin} has {len(row)} cells, but its head has "
                f"{counted(len(head), 'column')}; a text with a separator in it needs "
                "quotation marks."
            )
        row += [""] * (len(head) - len(row))
    return _from_table(pd.DataFrame(rest, columns=head, dtype=str), columns, origin)


def _read_text(path: str | Path) -> str:
    try:
        return Path(os.fspath(path)).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"'{path}' cannot be read: {reason}.") from error
