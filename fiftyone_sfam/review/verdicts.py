"""Verdicts of reviewers on the pairs of a run: ``fine``, ``wrong label``, ...

A verdict belongs to a pair of a run. It is recorded in FiftyOne's execution store (see
:mod:`fiftyone_sfam.review.store`) under the ids of the pair's two images. It is renamed
and deleted with the run, and kept when the run is made again.

The verdicts of a query are also shown on its sample, in the field ``KEY_verdicts`` and
as tags (see :mod:`fiftyone_sfam.review.fields`), so that FiftyOne can filter by them::

    set_verdict(run, pair, "wrong label", "wears the other person's jacket")
    dataset.filter_labels("sfam_verdicts", F("label") == "wrong label")
    dataset.match_labels(fields="sfam_neighbors", tags="wrong label")

The neighbor's sample does not change. If a process is killed right after it has
recorded a verdict, the fields miss this verdict until the next one on the same query,
or until :func:`refresh_verdicts`. If the sample was deleted, the verdict is recorded
but not shown.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import SupportsIndex

from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.review.fields import (
    check_verdict_fields,
    declare_verdict_fields,
    delete_verdict_fields,
    shown_queries,
    write_verdict_fields,
)
from fiftyone_sfam.review.store import (
    VERDICT_FIELD_ENDING,
    Entry,
    PairIds,
    QueryVerdicts,
    Record,
    VerdictStore,
)
from fiftyone_sfam.review.texts import clean_note, clean_text, clean_time
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import METHOD

VERDICTS = (
    "fine",
    "wrong label",
    "same person",
    "look-alike",
    "background",
    "occlusion",
)
"""The usual verdicts; any other text is allowed as well."""


@dataclass(frozen=True)
class Verdict:
    """A verdict on a pair of a run."""

    pair: int  # index into the columns of the run's pairs
    query_id: str  # id of the query's sample, or of its detection
    neighbor_id: str  # id of the neighbor's sample, or of its detection
    text: str  # one of :data:`VERDICTS`, or another text
    note: str
    created: str  # time in UTC, ISO 8601


@dataclass(frozen=True)
class Reviewed:
    """The progress of the review of a run."""

    pairs: int  # with a verdict
    total_pairs: int
    queries: int  # with a verdict on at least one pair
    total_queries: int


# --------------------------------------------------------------------------------------
# Setting and restoring
# --------------------------------------------------------------------------------------


def set_verdict(
    run: Run, pair: SupportsIndex, text: str, note: str = ""
) -> Verdict | None:
    """Set the verdict on a pair.

    Parameters
    ----------
    run : Run
        The run.
    pair : int
        Index into the columns of its pairs.
    text : str
        ``"fine"``, ``"wrong label"``, ``"same person"``, ``"look-alike"``,
        ``"background"``, ``"occlusion"``, or another text: one line of at most 200
        characters that does not begin with a dollar sign. Surrounding white space is
        removed.
    note : str
        A note on the verdict, of at most 2000 characters.

    Returns
    -------
    Verdict or None
        The previous verdict, for :func:`restore_verdict`; None if there was none.

    Raises
    ------
    DataError
        If there is no such pair, or the text or the note is invalid.
    RunError
        If the run was deleted, replaced or renamed since it was loaded, or the field
        of its verdicts belongs to the user.
    """
    [previous] = set_verdicts(run, [pair], text, note).values()
    return previous


def set_verdicts(
    run: Run,
    pairs: Iterable[SupportsIndex],
    text: str,
    note: str = "",
    request_id: str = "",
) -> dict[int, Verdict | None]:
    """Set the same verdict on several pairs.

    Nothing is set if an argument is invalid.

    Parameters
    ----------
    run : Run
        The run.
    pairs : iterable of int
        Indices into the columns of its pairs.
    text, note : str
        As for :func:`set_verdict`.
    request_id : str
        An id of the request, of the caller's choice. If the request is repeated with
        this id, because its answer was lost, pairs whose verdict it has set keep it,
        and the verdicts before the first request are returned.

    Returns
    -------
    dict of int to Verdict or None
        The previous verdict of each pair, for :func:`restore_verdicts`.

    Raises
    ------
    DataError, RunError
        As for :func:`set_verdict`.
    """
    _check_current(run)
    record = {
        "text": clean_text(text),
        "note": clean_note(note),
        "created": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }
    records = dict.fromkeys((_find(run, pair) for pair in pairs), record)
    return _write(run, records, request_id)


def restore_verdict(run: Run, pair: SupportsIndex, previous: Verdict | None) -> None:
    """Undo :func:`set_verdict`: restore the previous verdict on a pair, or none.

    Parameters
    ----------
    run : Run
        The run.
    pair : int
        Index into the columns of its pairs.
    previous : Verdict or None
        Return value of :func:`set_verdict`; None removes the verdict.

    Raises
    ------
    DataError
        If there is no such pair, or the previous verdict is on another pair or is
        invalid.
    RunError
        As for :func:`set_verdict`.
    """
    restore_verdicts(run, {operator.index(pair): previous})


def restore_verdicts(
    run: Run, previous: Mapping[int, Verdict | None]
) -> dict[int, Verdict | None]:
    """Undo :func:`set_verdicts`: restore the previous verdicts on pairs, or none.

    Nothing is restored if one of them is invalid.

    Parameters
    ----------
    run : Run
        The run.
    previous : mapping of int to Verdict or None
        Return value of :func:`set_verdicts`; None removes the verdict of a pair.

    Returns
    -------
    dict of int to Verdict or None
        The verdict that each pair had until now.

    Raises
    ------
    DataError, RunError
        As for :func:`restore_verdict`.
    """
    _check_current(run)
    records: dict[tuple[int, PairIds], Record | None] = {}
    for pair, verdict in previous.items():
        index, ids = _find(run, pair)
        records[index, ids] = None if verdict is None else _record(run, index, verdict)
    return _write(run, records)


# --------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------


def get_verdicts(
    run: Run, pairs: Iterable[SupportsIndex] | None = None
) -> dict[int, Verdict]:
    """Read the current verdicts of a run.

    Parameters
    ----------
    run : Run
        The run.
    pairs : iterable of int, optional
        Indices of the pairs whose verdicts to read; by default, all pairs.

    Returns
    -------
    dict of int to Verdict
        Verdicts by pair, in the order of the pairs.

    Raises
    ------
    DataError
        If there is no such pair.
    """
    if pairs is None:
        records = _store(run).read()
    else:
        records = _store(run).read_pairs(_find(run, pair)[1] for pair in pairs)
    verdicts: dict[int, Verdict] = {}
    for ids, record in records.items():
        pair = _pair_of(run, ids)
        if pair is not None:
            verdicts[pair] = _verdict(pair, ids, record)
    return dict(sorted(verdicts.items()))


def verdict_counts(run: Run) -> dict[str, int]:
    """Count the pairs by their verdict."""
    counts = Counter(verdict.text for verdict in get_verdicts(run).values())
    unusual = sorted(set(counts) - set(VERDICTS))
    return {text: counts[text] for text in (*VERDICTS, *unusual) if text in counts}


def reviewed(run: Run) -> Reviewed:
    """Return the progress of the review of a run."""
    verdicts = get_verdicts(run).values()
    return Reviewed(
        len(verdicts),
        run.num_pairs,
        len({verdict.query_id for verdict in verdicts}),
        run.config.counts["queries"],
    )


# --------------------------------------------------------------------------------------
# With the run
# --------------------------------------------------------------------------------------


def carry_over(run: Run, replaced: Sequence[tuple[str, str | None]]) -> None:
    """Copy the verdicts of replaced runs to the same pairs of a run, and show them.

    A pair with a verdict keeps it. This can be repeated after an interruption.
    """
    store, dataset_id = _store(run), str(run.dataset._doc.id)
    # The later run first: its verdict counts if two replaced runs have one.
    for uid, _ in reversed(replaced):
        for ids, record in VerdictStore(dataset_id, uid).read().items():
            if _pair_of(run, ids) is not None:
                store.put_if_absent(ids, record)
    for patches_field in {field for _, field in replaced} - {run.config.patches_field}:
        delete_verdict_fields(run.dataset, run.key, patches_field)
    refresh_verdicts(run)
    for uid, _ in replaced:
        VerdictStore(dataset_id, uid).delete()


def refresh_verdicts(run: Run) -> None:
    """Make fields and tags show the recorded verdicts, whatever they show now."""
    dataset, key, patches_field = run.dataset, run.key, run.config.patches_field
    check_verdict_fields(dataset, key, patches_field)
    if _store(run).read():
        declare_verdict_fields(dataset, key, patches_field)
    elif dataset.get_field(key + VERDICT_FIELD_ENDING) is None:
        return
    _show(run, None, {})


# --------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------


def _write(
    run: Run, records: Mapping[tuple[int, PairIds], Record | None], request_id: str = ""
) -> dict[int, Verdict | None]:
    """Record verdicts, or remove them, and show them; return those before."""
    store = _store(run)
    previous: dict[int, Verdict | None] = {}
    removed: dict[str, tuple[tuple[str, str], ...]] = {}
    try:
        for (pair, ids), record in records.items():
            query_id, neighbor_id = ids
            if record is None:
                before = store.remove(ids)
            else:
                before = store.put(ids, record, request_id)
            old = () if before is None else ((neighbor_id, before["text"]),)
            removed[query_id] = (*removed.get(query_id, ()), *old)
            previous[pair] = None if before is None else _verdict(pair, ids, before)
    finally:
        if removed:
            _show_queries(run, removed)
    return previous


def _record(run: Run, pair: int, verdict: Verdict) -> Record:
    """Return the record of a verdict to restore; it may come from a browser."""
    if (verdict.query_id, verdict.neighbor_id) != _find(run, pair)[1]:
        raise DataError(
            f"the verdict {shorten(ascii(verdict.text), 60)} is not on pair {pair} of "
            f"the run '{run.key}'; restore it on its own pair."
        )
    return {
        "text": clean_text(verdict.text),
        "note": clean_note(verdict.note),
        "created": clean_time(verdict.created),
    }


# --------------------------------------------------------------------------------------
# Showing
# --------------------------------------------------------------------------------------


def _show_queries(run: Run, removed: dict[str, tuple[tuple[str, str], ...]]) -> None:
    """Show the verdicts of some queries after they have changed."""
    dataset, key, patches_field = run.dataset, run.key, run.config.patches_field
    has_field = dataset.get_field(key + VERDICT_FIELD_ENDING) is not None
    if not has_field and not _store(run).read(removed):
        return
    # Fields are missing before the first verdict, or if the user has deleted one, with
    # the verdicts on all queries.
    missing = declare_verdict_fields(dataset, key, patches_field)
    _show(run, None if missing else frozenset(removed), removed)


def _show(
    run: Run,
    query_ids: frozenset[str] | None,
    removed: dict[str, tuple[tuple[str, str], ...]],
) -> None:
    """Write the recorded verdicts on some queries, or on all, into the fields.

    ``removed`` has neighbor and text of verdicts that are no longer valid, by query.

    Another process may record and show a verdict between the reading and the writing
    here. The records are therefore read again after the writing, so that the process
    that writes last writes the last verdicts.
    """
    dataset, key, patches_field = run.dataset, run.key, run.config.patches_field
    store = _store(run)
    records = store.read(query_ids)
    shown = {} if query_ids is not None else shown_queries(dataset, key, patches_field)
    queries = {query for query, _ in records} | set(shown) | (query_ids or frozenset())
    while queries:
        entries = _entries(run, records)
        rows = []
        for query in sorted(queries):
            sample_id = shown.get(query) or _sample_of(run, query)
            if sample_id is not None:
                rows.append(
                    QueryVerdicts(
                        sample_id, query, entries.get(query, ()), removed.get(query, ())
                    )
                )
        write_verdict_fields(dataset, key, patches_field, rows)
        written, records = records, store.read(query_ids)
        queries = {
            ids[0]
            for ids in {*written, *records}
            if written.get(ids) != records.get(ids)
        }


def _entries(run: Run, records: dict[PairIds, Record]) -> dict[str, tuple[Entry, ...]]:
    """Return the entries of each query, nearest neighbor first."""
    entries: dict[str, list[Entry]] = {}
    for (query_id, neighbor_id), record in records.items():
        pair = _pair_of(run, (query_id, neighbor_id))
        if pair is not None:
            rank = int(run.pairs.rank[pair])
            entry = Entry(neighbor_id, rank, record["text"], record["note"])
            entries.setdefault(query_id, []).append(entry)
    return {
        query_id: tuple(sorted(of_query, key=lambda entry: entry.rank))
        for query_id, of_query in entries.items()
    }


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


def _store(run: Run) -> VerdictStore:
    return VerdictStore(str(run.dataset._doc.id), run.config.uid)


def _find(run: Run, pair: SupportsIndex) -> tuple[int, PairIds]:
    """Return a pair's index and the ids of its images."""
    index, count = operator.index(pair), len(run.pairs)
    if not 0 <= index < count:
        raise DataError(
            f"the run '{run.key}' has {counted(count, 'pair')}, numbered from 0; there "
            f"is no pair {index} to set a verdict on."
        )
    ids = run.items.ids
    query, neighbor = run.pairs.query[index], run.pairs.gallery[index]
    return index, (str(ids[query]), str(ids[neighbor]))


def _pair_of(run: Run, ids: PairIds) -> int | None:
    """Return the index of the pair of two images; None if the run has none."""
    query, neighbor = (run.items.index(item_id) for item_id in ids)
    rows = run.pairs.of_query(query)
    rows = rows[run.pairs.gallery[rows] == neighbor]
    return int(rows[0]) if len(rows) else None


def _sample_of(run: Run, item_id: str) -> str | None:
    """Return the sample of an image; None if the run has no such image."""
    item = run.items.index(item_id)
    return None if item < 0 else str(run.items.sample_ids[item])


def _verdict(pair: int, ids: PairIds, record: Record) -> Verdict:
    return Verdict(pair, *ids, record["text"], record["note"], record["created"])


def _check_current(run: Run) -> None:
    """Raise if a run was deleted, replaced or renamed since it was loaded.

    Nothing would find a verdict on it, or delete it.
    """
    record = get_db_conn()["runs"].find_one(
        {
            "_dataset_id": run.dataset._doc.id,
            "config.method": METHOD,
            "config.uid": run.config.uid,
        },
        {"key": 1},
    )
    if record is None or record["key"] != run.key:
        change = (
            "deleted or replaced" if record is None else f"renamed '{record['key']}'"
        )
        raise RunError(
            f"the run '{run.key}' of '{run.dataset.name}' was {change} since it was "
            "loaded; load it again."
        )
    check_verdict_fields(run.dataset, run.key, run.config.patches_field)
