"""Findings and pairs as files of columns, for other programs: CSV and Parquet.

Both files of a table hold the same columns, rows and values. CSV knows only text, so
there a missing value is empty, a list is JSON, and numbers are written in full. A text
that a spreadsheet would take for a formula, as one that begins with ``=``, has an
apostrophe before it in CSV; in Parquet texts are as they are in the dataset.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.data.text import file_name
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import OUTCOMES

if TYPE_CHECKING:
    from fiftyone_sfam.audit.regions.ledger import Ledger
    from fiftyone_sfam.audit.suspects.finding import Finding
    from fiftyone_sfam.review.verdicts import Verdict
    from fiftyone_sfam.runs.run import Run

# What a spreadsheet takes for the beginning of a formula; also behind spaces. Numbers
# are no texts here, so their minus signs stay.
_FORMULAS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# Rows of a table that are in memory at once.
_ROWS = 50_000

ColumnType = Literal["integer", "number", "text", "integers", "texts"]


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str  # its name
    type: ColumnType  # type of its values
    values: list[Any]  # its values


def finding_columns(findings: Sequence[Finding]) -> list[Column]:
    """Return findings as columns."""
    evidence = [json.dumps(one.evidence, ensure_ascii=False) for one in findings]
    return [
        Column("finding", "integer", list(range(1, len(findings) + 1))),
        Column("kind", "text", [one.kind for one in findings]),
        Column("score", "number", [float(one.score) for one in findings]),
        Column("sentence", "text", [one.sentence for one in findings]),
        Column("identities", "texts", [list(one.identities) for one in findings]),
        Column("sample_ids", "texts", [list(one.sample_ids) for one in findings]),
        Column("items", "integers", [[int(i) for i in one.items] for one in findings]),
        Column("pairs", "integers", [[int(i) for i in one.pairs] for one in findings]),
        Column("evidence", "text", evidence),
    ]


def pair_blocks(
    run: Run, verdicts: Mapping[int, Verdict], ledger: Ledger | None
) -> Iterator[list[Column]]:
    """Yield the pairs of a run as columns, some rows at a time."""
    files = _files(run)
    for start in range(0, max(len(run.pairs), 1), _ROWS):
        rows = range(start, min(start + _ROWS, len(run.pairs)))
        columns = _pair_columns(run, files, verdicts, rows)
        if ledger is not None:
            columns += _region_columns(ledger, rows)
        yield columns


def write_csv(path: Path, blocks: Iterable[Sequence[Column]]) -> None:
    """Write a table as CSV, in UTF-8 with a head line."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        for number, columns in enumerate(blocks):
            if number == 0:
                writer.writerow([_cell(one.name) for one in columns])
            shown = [list(map(_cell, one.values)) for one in columns]
            writer.writerows(zip(*shown, strict=True))


def write_parquet(path: Path, blocks: Iterable[Sequence[Column]]) -> None:
    """Write a table as Parquet."""
    check_parquet()
    arrow = import_module("pyarrow")
    types = {
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "text": arrow.string(),
        "integers": arrow.list_(arrow.int64()),
        "texts": arrow.list_(arrow.string()),
    }
    writer = None
    try:
        for columns in blocks:
            names = [one.name for one in columns]
            arrays = [arrow.array(one.values, types[one.type]) for one in columns]
            found = arrow.Table.from_arrays(arrays, names=names)
            if writer is None:
                parquet = import_module("pyarrow.parquet")
                writer = parquet.ParquetWriter(path, found.schema)
            writer.write_table(found)
    finally:
        if writer is not None:
            writer.close()


def has_parquet() -> bool:
    """Tell whether Parquet can be written."""
    try:
        import_module("pyarrow")
    except ImportError:
        return False
    return True


def check_parquet() -> None:
    """Refuse to write Parquet where that is not possible."""
    if not has_parquet():
        raise DataError(
            "Parquet files need pyarrow, which the extra 'report' brings: pip install "
            "'fiftyone-sfam[report]', or ask for no Parquet."
        )


def item_files(run: Run, items: Sequence[int]) -> dict[int, str]:
    """Return the file names, without folders, of some images of a run."""
    wanted = {int(item): str(run.items.sample_ids[item]) for item in items}
    view = all_samples(run.dataset).select(list(set(wanted.values())))
    paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
    return {
        item: file_name(paths[sample])
        for item, sample in wanted.items()
        if sample in paths
    }


def _files(run: Run) -> list[str | None]:
    """Return the file name of every image; None for deleted samples."""
    ids, paths = all_samples(run.dataset).values(["id", "filepath"])
    names = dict(zip(ids, map(file_name, paths), strict=True))
    return [names.get(sample) for sample in run.items.sample_ids.tolist()]


def _pair_columns(
    run: Run,
    files: Sequence[str | None],
    verdicts: Mapping[int, Verdict],
    rows: range,
) -> list[Column]:
    """Return some pairs as columns, without regions."""
    pairs, items, part = run.pairs, run.items, slice(rows.start, rows.stop)
    columns = [Column("pair", "integer", list(rows))]
    for side, of_pairs in (("query", pairs.query), ("neighbor", pairs.gallery)):
        chosen = of_pairs[part].tolist()
        columns += [
            Column(f"{side}_id", "text", items.ids[chosen].tolist()),
            Column(f"{side}_sample", "text", items.sample_ids[chosen].tolist()),
            _texts(f"{side}_file", files, chosen),
            _texts(f"{side}_identity", items.identities, chosen),
            _texts(f"{side}_camera", items.cameras, chosen),
        ]
    outcomes = [OUTCOMES[code] for code in pairs.outcome[part].tolist()]
    given = [verdicts.get(pair) for pair in rows]
    columns += [
        Column("rank", "integer", pairs.rank[part].tolist()),
        Column("similarity", "number", pairs.similarity[part].tolist()),
        Column("distance", "number", pairs.distance[part].tolist()),
        Column("outcome", "text", outcomes),
        Column("query_remainder", "number", _numbers(run.remainders[part, 0])),
        Column("neighbor_remainder", "number", _numbers(run.remainders[part, 1])),
        Column("verdict", "text", [None if v is None else v.text for v in given]),
        Column("note", "text", [None if v is None else v.note for v in given]),
    ]
    return columns


def _region_columns(ledger: Ledger, rows: range) -> list[Column]:
    """Return what each region carries of some pairs, on both sides."""
    start, stop = np.searchsorted(ledger.pairs, [rows.start, rows.stop])
    places = ledger.pairs[start:stop] - rows.start
    columns = []
    for which, side in enumerate(("query", "neighbor")):
        for column, region in enumerate(ledger.regions):
            values = np.full(len(rows), np.nan)
            values[places] = ledger.shares[start:stop, which, column]
            columns.append(Column(f"{side}/{region}", "number", _numbers(values)))
    return columns


def _texts(name: str, values: Sequence[str | None], chosen: list[int]) -> Column:
    return Column(name, "text", [values[item] for item in chosen])


def _numbers(values: Any) -> list[float | None]:
    """Return numbers in double precision, None for NaN."""
    plain = np.asarray(values, dtype=np.float64).tolist()
    return [None if value != value else value for value in plain]


def _cell(value: Any) -> Any:
    """Return a value as CSV holds it."""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULAS) else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
