"""Findings and pairs as files of columns, for other programs: CSV and Parquet.

Both files of a table hold the same columns, rows and values. CSV knows only text, so
there a missing value is empty, a list is JSON, and numbers are written in full. A text
that a spreadsheet would take for a formula, as one that begins with ``=``, has an
apostrophe before it in CSV; in Parquet texts are as they are in the dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fiftyone_sfam.audit.decisions import DECISIONS
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.data.text import file_name
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import OUTCOMES

if TYPE_CHECKING:
    from fiftyone_sfam.audit.decisions import Decisions
    from fiftyone_sfam.audit.regions.ledger import Ledger
    from fiftyone_sfam.audit.suspects.finding import Finding
    from fiftyone_sfam.review.verdicts import Verdict
    from fiftyone_sfam.runs.run import Run

# A spreadsheet takes these for the beginning of a formula, also after spaces. Numbers
# are not texts here, so their minus signs stay.
_FORMULAS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# Rows that are made at once.
_ROWS = 50_000
# Columns of lists, and the types of their values.
_LISTS = {"identities": str, "sample_ids": str, "items": int, "pairs": int}


def finding_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return findings as a table."""
    evidence = [
        json.dumps(finding.evidence, ensure_ascii=False) for finding in findings
    ]
    columns: dict[str, Any] = {
        "finding": np.arange(1, len(findings) + 1),
        "kind": _texts(finding.kind for finding in findings),
        "score": np.array([finding.score for finding in findings], dtype=np.float64),
        "sentence": _texts(finding.sentence for finding in findings),
        "proposal": _texts(finding.proposal for finding in findings),
    }
    for name, kind in _LISTS.items():
        columns[name] = pd.Series(
            [list(map(kind, getattr(finding, name))) for finding in findings],
            dtype=object,
        )
    return pd.DataFrame({**columns, "evidence": _texts(evidence)})


def pair_frames(
    run: Run,
    verdicts: Mapping[int, Verdict],
    ledger: Ledger | None,
    decisions: Decisions | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the pairs of a run as tables, some rows at a time."""
    files = _files(run)
    for start in range(0, max(len(run.pairs), 1), _ROWS):
        rows = range(start, min(start + _ROWS, len(run.pairs)))
        columns = _pair_columns(run, files, verdicts, rows)
        if decisions is not None:
            codes = decisions.outcomes[rows.start : rows.stop].tolist()
            columns["decision"] = _texts(
                None if code < 0 else DECISIONS[code] for code in codes
            )
        if ledger is not None:
            columns |= _region_columns(ledger, rows)
        yield pd.DataFrame(columns)


def write_csv(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write tables below each other as CSV, in UTF-8 with a head line."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        for number, frame in enumerate(frames):
            shown = {
                _cell(name): values.map(_cell) if values.dtype.kind == "O" else values
                for name, values in frame.items()
            }
            pd.DataFrame(shown).to_csv(
                stream, index=False, header=number == 0, lineterminator="\r\n"
            )


def write_parquet(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """Write tables below each other as Parquet."""
    check_parquet()
    arrow = import_module("pyarrow")
    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    frame = pd.concat(frames, ignore_index=True)
    fields = []
    for name, dtype in frame.dtypes.items():
        if dtype.kind != "O":
            kind = types[int if dtype.kind == "i" else float]
        elif name in _LISTS:
            kind = arrow.list_(types[_LISTS[name]])
        else:
            kind = types[str]
        fields.append((name, kind))
    frame.to_parquet(path, engine="pyarrow", index=False, schema=arrow.schema(fields))


def has_parquet() -> bool:
    """Return whether Parquet can be written."""
    try:
        import_module("pyarrow")
    except ImportError:
        return False
    return True


def check_parquet() -> None:
    """Raise if Parquet cannot be written."""
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
) -> dict[str, Any]:
    """Return some pairs as columns, without regions."""
    pairs, items, part = run.pairs, run.items, slice(rows.start, rows.stop)
    columns: dict[str, Any] = {"pair": np.arange(rows.start, rows.stop)}
    for side, of_pairs in (("query", pairs.query), ("neighbor", pairs.gallery)):
        chosen = of_pairs[part].tolist()
        for name, values in (
            ("id", items.ids),
            ("sample", items.sample_ids),
            ("file", files),
            ("identity", items.identities),
            ("camera", items.cameras),
        ):
            columns[f"{side}_{name}"] = _texts(values[item] for item in chosen)
    given = [verdicts.get(pair) for pair in rows]
    if run.given is not None:
        listed, listed_rows = run.given.listed, run.given.row[part]
        columns |= {
            "list_row": listed_rows,
            "list_fold": listed.fold[listed_rows].astype(np.int64),
            "list_score": listed.score[listed_rows],
        }
    return {
        **columns,
        "rank": pairs.rank[part].astype(np.int64),
        "similarity": pairs.similarity[part].astype(np.float64),
        "distance": pairs.distance[part].astype(np.float64),
        "outcome": _texts(OUTCOMES[code] for code in pairs.outcome[part].tolist()),
        "query_remainder": run.remainders[part, 0].astype(np.float64),
        "neighbor_remainder": run.remainders[part, 1].astype(np.float64),
        "verdict": _texts(
            None if verdict is None else verdict.text for verdict in given
        ),
        "note": _texts(None if verdict is None else verdict.note for verdict in given),
    }


def _region_columns(ledger: Ledger, rows: range) -> dict[str, Any]:
    """Return what each region carries of some pairs, on both sides."""
    start, stop = np.searchsorted(ledger.pairs, [rows.start, rows.stop])
    places = ledger.pairs[start:stop] - rows.start
    columns = {}
    for which, side in enumerate(("query", "neighbor")):
        for column, region in enumerate(ledger.regions):
            values = np.full(len(rows), np.nan)
            values[places] = ledger.shares[start:stop, which, column]
            columns[f"{side}/{region}"] = values
    return columns


def _texts(values: Iterable[str | None]) -> pd.Series:
    """Return a column of texts, None where there is none."""
    plain = [None if value is None else str(value) for value in values]
    return pd.Series(plain, dtype=object)


def _cell(value: Any) -> Any:
    """Return a text or a list as CSV holds it."""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULAS) else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
