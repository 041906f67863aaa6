"""What people say about the pairs of a run: ``fine``, ``wrong label``, ...

A verdict is on one pair and belongs to the run: it is recorded in FiftyOne's execution
store (:mod:`fiftyone_sfam.review.store` says why there) under the ids of the pair's
two images, is renamed and deleted with the run, and is carried over when the run is
made again.

What is recorded is then shown on the query's sample, in the field ``KEY_verdicts`` and
as tags (:mod:`fiftyone_sfam.review.fields` lists them), for FiftyOne to filter by::

    set_verdict(run, pair, "wrong label", "wears the other one's jacket")
    dataset.filter_labels("sfam_verdicts", F("label") == "wrong label")
    dataset.match_labels(fields="sfam_neighbors", tags="wrong label")

The neighbor's sample is left alone. A verdict counts from when it is recorded: a
process that is killed right after leaves the fields one verdict behind, until the next
one on the same query, or :func:`refresh_verdicts`. A verdict on a pair whose sample was
deleted is recorded like any other, and has nothing to be shown on.
"""

from __future__ import annotations

import operator
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import SupportsIndex

from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.review.fields import (
    check_verdict_fields,
    declare_verdict_fields,
    delete_verdict_fields,
    shown_queries,
    write_verdict_fields,
)
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING as VERDICT_FIELD_ENDING
from fiftyone_sfam.review.store import (
    Entry,
    PairIds,
    QueryVerdicts,
    Record,
    VerdictStore,
    tag_prefix,
)
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import METHOD

MAX_TEXT, MAX_NOTE = 200, 2000
"""Most characters of a verdict and of a note."""


def clean_text(text: str) -> str:
    """Return a verdict's text without white space around it, or refuse it.

    FiftyOne takes a tag with a dollar sign in front for a field's name, and does not
    find it; commas and everything else may stand in a tag.
    """
    clean = text.strip() if isinstance(text, str) else ""
    if (
        len(clean) > MAX_TEXT
        or not _is_visible(clean)
        or _has_controls(clean, "")
        or clean.startswith("$")
    ):
        raise DataError(
            f"{shorten(ascii(text), 60)} cannot be a verdict; give one line of 1 to "
            f"{MAX_TEXT} characters, with no control characters and no $ in front."
        )
    return clean


def clean_note(note: str) -> str:
    """Return a note without white space around it, or refuse it."""
    clean = note.strip() if isinstance(note, str) else None
    if clean is None or len(clean) > MAX_NOTE or _has_controls(clean, "\n\r\t"):
        raise DataError(
            f"{shorten(ascii(note), 60)} cannot be the note of a verdict; give a text "
            f"of at most {MAX_NOTE} characters without control characters."
        )
    return clean


def clean_time(time: str) -> str:
    """Return the time of a verdict as it is recorded, or refuse it."""
    try:
        return datetime.fromisoformat(time).isoformat(timespec="milliseconds")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{shorten(ascii(time), 60)} cannot be the time of a verdict; give a time "
            "in ISO 8601."
        ) from error


def _has_controls(text: str, allowed: str) -> bool:
    """Tell whether a text has line breaks, controls, or what is no character."""
    kinds = {unicodedata.category(one) for one in text if one not in allowed}
    return bool(kinds & {"Cc", "Cs", "Zl", "Zp"})


def _is_visible(text: str) -> bool:
    """Tell whether a text has something to be seen, beside joiners and spaces."""
    return any(unicodedata.category(one)[0] not in "CZ" for one in text)


VERDICTS = (
    "fine",
    "wrong label",
    "same person",
    "look-alike",
    "background",
    "occlusion",
)
"""The usual verdicts; any other text may be given as well."""


@dataclass(frozen=True)
class Verdict:
    """A verdict on one pair of a run."""

    pair: int  # index into the columns of the run's pairs
    query_id: str  # the pair's images: ids of their samples, or of their detections
    neighbor_id: str  # the pair's images: ids of their samples, or of their detections
    text: str  # the verdict, one of :data:`VERDICTS` or own words
    note: str  # more about it
    created: str  # when it was given, in UTC, ISO 8601


@dataclass(frozen=True)
class Reviewed:
    """How far the review of a run is."""

    pairs: int  # pairs with a verdict, and pairs of the run
    total_pairs: int  # pairs with a verdict, and pairs of the run
    queries: int
    total_queries: int


@dataclass(frozen=True)
class CarriedOver:
    """What became of the verdicts of a replaced run."""

    kept: int  # verdicts on pairs that the new run has as well
    lost: int  # verdicts on pairs that it has not


# --------------------------------------------------------------------------------------
# Giving and taking back
# --------------------------------------------------------------------------------------


def set_verdict(
    run: Run, pair: SupportsIndex, text: str, note: str = ""
) -> Verdict | None:
    """Record a verdict on a pair, in place of the one that there is.

    Parameters
    ----------
    run : Run
        The run.
    pair : int
        Index into the columns of its pairs.
    text : str
        One of :data:`VERDICTS`, or own words: one line of at most 200 characters, the
        first no dollar sign. White space around it is taken off.
    note : str
        More about it, at most 2000 characters.

    Returns
    -------
    Verdict or None
        The verdict that it has replaced, for :func:`restore_verdict`.

    Raises
    ------
    DataError
        If there is no such pair, or the text or the note cannot be used.
    RunError
        If the run was deleted, replaced or renamed since it was loaded, or the field
        of its verdicts is a user's.
    """
    _check_usable(run)
    pair, ids = _find(run, pair)
    record = {
        "text": clean_text(text),
        "note": clean_note(note),
        "created": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }
    before = _store(run).put(ids, record)
    _show_query(run, ids, before)
    return None if before is None else _verdict(pair, ids, before)


def restore_verdict(run: Run, pair: SupportsIndex, previous: Verdict | None) -> None:
    """Put a pair back to an earlier verdict, or to none: the undo of a verdict.

    Parameters
    ----------
    run : Run
        The run.
    pair : int
        Index into the columns of its pairs.
    previous : Verdict or None
        What :func:`set_verdict` returned; None takes the verdict back.

    Raises
    ------
    DataError
        If there is no such pair, or the earlier verdict is on another one or cannot
        have been one.
    RunError
        As for :func:`set_verdict`.
    """
    _check_usable(run)
    pair, ids = _find(run, pair)
    if previous is not None and (previous.query_id, previous.neighbor_id) != ids:
        raise DataError(
            f"the verdict '{previous.text}' is on another pair than pair {pair} of "
            f"the run '{run.key}'; restore it on the pair that it was taken from."
        )
    if previous is None:
        before = _store(run).remove(ids)
    else:
        before = _store(run).put(
            ids,
            {
                # It comes back from a client, which may have sent anything.
                "text": clean_text(previous.text),
                "note": clean_note(previous.note),
                "created": clean_time(previous.created),
            },
        )
    _show_query(run, ids, before)


# --------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------


def get_verdicts(run: Run) -> dict[int, Verdict]:
    """Read the verdicts of a run, as they are recorded at this moment.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    dict of int to Verdict
        By pair, in the order of the pairs.
    """
    found = []
    for ids, record in _store(run).read().items():
        pair = _pair_of(run, ids)
        if pair is not None:
            found.append((pair, _verdict(pair, ids, record)))
    return dict(sorted(found, key=lambda one: one[0]))


def verdict_counts(run: Run) -> dict[str, int]:
    """Count the pairs by their verdict."""
    counts = Counter(one.text for one in get_verdicts(run).values())
    own = sorted(set(counts) - set(VERDICTS))
    return {text: counts[text] for text in (*VERDICTS, *own) if text in counts}


def reviewed(run: Run) -> Reviewed:
    """Tell how far the review of a run is."""
    verdicts = get_verdicts(run).values()
    return Reviewed(
        len(verdicts),
        run.num_pairs,
        len({one.query_id for one in verdicts}),
        run.config.counts["queries"],
    )


def verdict_tag(run: Run, text: str) -> str:
    """Return the label tag by which FiftyOne finds a verdict."""
    return text if run.config.patches_field is None else tag_prefix(run.key) + text


# --------------------------------------------------------------------------------------
# With the run
# --------------------------------------------------------------------------------------


def carry_over(run: Run, replaced: Iterable[tuple[str, str | None]]) -> CarriedOver:
    """Give a run the verdicts of those whose place it takes, and show them.

    May be repeated, also after it was interrupted. A pair that has a verdict keeps it.
    """
    replaced = list(replaced)
    store, dataset_id = _store(run), str(run.dataset._doc.id)
    kept: set[PairIds] = set()
    lost: set[PairIds] = set()
    # Of two replaced runs the later one has the later verdict.
    for uid, _ in reversed(replaced):
        for ids, record in VerdictStore(dataset_id, uid).read().items():
            if _pair_of(run, ids) is None:
                lost.add(ids)
            else:
                store.put_if_absent(ids, record)
                kept.add(ids)
    for patches_field in {of for _, of in replaced} - {run.config.patches_field}:
        delete_verdict_fields(run.dataset, run.key, patches_field)
    refresh_verdicts(run)
    for uid, _ in replaced:
        VerdictStore(dataset_id, uid).delete()
    return CarriedOver(len(kept), len(lost))


def refresh_verdicts(run: Run) -> None:
    """Make fields and tags show what is recorded, whatever they show now."""
    dataset, key, of = run.dataset, run.key, run.config.patches_field
    check_verdict_fields(dataset, key, of)
    if _store(run).read():
        declare_verdict_fields(dataset, key, of)
    elif dataset.get_field(key + VERDICT_FIELD_ENDING) is None:
        return
    _show(run, None, {})


# --------------------------------------------------------------------------------------
# Showing
# --------------------------------------------------------------------------------------

# Verdicts of a query that stand no longer, as neighbor and text.
_Dropped = dict[str, tuple[tuple[str, str], ...]]


def _show_query(run: Run, ids: PairIds, before: Record | None) -> None:
    """Show the verdicts of a query, one of which has changed."""
    dataset, key, of = run.dataset, run.key, run.config.patches_field
    query_id, neighbor_id = ids
    there = dataset.get_field(key + VERDICT_FIELD_ENDING) is not None
    if not there and not _store(run).read(query_id):
        return
    dropped: _Dropped = {}
    if before is not None:
        dropped[query_id] = ((neighbor_id, before["text"]),)
    # Fields are missing at the first verdict, or after somebody has deleted one with
    # what it showed of all the others.
    missing = declare_verdict_fields(dataset, key, of)
    _show(run, None if missing else query_id, dropped)


def _show(run: Run, query_id: str | None, dropped: _Dropped) -> None:
    """Write the fields of one query, or of all, from what is recorded.

    Another process may record a verdict between the reading and the writing here, and
    have it shown before. So what was written is compared with what is recorded
    afterwards: whoever writes last has written the last verdicts.
    """
    dataset, key, of = run.dataset, run.key, run.config.patches_field
    store = _store(run)
    records = store.read(query_id)
    shown = {} if query_id is not None else shown_queries(dataset, key, of)
    queries = {one for one, _ in records} | set(shown)
    if query_id is not None:
        queries.add(query_id)
    while queries:
        by_query = _entries(run, records)
        rows = []
        for one in sorted(queries):
            sample_id = shown.get(one) or _sample_of(run, one)
            if sample_id is not None:
                rows.append(
                    QueryVerdicts(
                        sample_id, one, by_query.get(one, ()), dropped.get(one, ())
                    )
                )
        write_verdict_fields(dataset, key, of, rows)
        written, records = records, store.read(query_id)
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
            one = Entry(neighbor_id, rank, record["text"], record["note"])
            entries.setdefault(query_id, []).append(one)
    return {
        query_id: tuple(sorted(found, key=lambda one: one.rank))
        for query_id, found in entries.items()
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
            f"the run '{run.key}' has {count} pairs, numbered from 0; there is no pair "
            f"{index} to give a verdict on."
        )
    ids = run.items.ids
    query, neighbor = run.pairs.query[index], run.pairs.gallery[index]
    return index, (str(ids[query]), str(ids[neighbor]))


def _pair_of(run: Run, ids: PairIds) -> int | None:
    """Return the index of the pair of two images; None if the run has none."""
    query, neighbor = (run.items.index(one) for one in ids)
    rows = run.pairs.of_query(query)
    found = rows[run.pairs.gallery[rows] == neighbor]
    return int(found[0]) if len(found) else None


def _sample_of(run: Run, item_id: str) -> str | None:
    """Return the sample of an image; None if the run has no such image."""
    item = run.items.index(item_id)
    return None if item < 0 else str(run.items.sample_ids[item])


def _verdict(pair: int, ids: PairIds, record: Record) -> Verdict:
    return Verdict(pair, *ids, record["text"], record["note"], record["created"])


def _check_usable(run: Run) -> None:
    """Refuse a run that is no longer what it was when it was loaded.

    A verdict on it would be lost: nothing would find it, or delete it.
    """
    found = get_db_conn()["runs"].find_one(
        {
            "_dataset_id": run.dataset._doc.id,
            "config.method": METHOD,
            "config.uid": run.config.uid,
        },
        {"key": 1},
    )
    if found is None or found["key"] != run.key:
        what = "deleted or replaced" if found is None else f"renamed '{found['key']}'"
        raise RunError(
            f"the run '{run.key}' of '{run.dataset.name}' was {what} since it was "
            "loaded; load it again."
        )
    check_verdict_fields(run.dataset, run.key, run.config.patches_field)
