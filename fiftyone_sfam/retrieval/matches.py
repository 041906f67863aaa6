"""What the rules of a protocol leave to compare, known before any embedding is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted, quoted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.rules import UNKNOWN, Alike
from fiftyone_sfam.retrieval.search import Candidates, are_duplicates

# Pairs that are looked at together.
_PAIRS = 2**22


def possible_matches(
    candidates: Candidates,
    protocol: Protocol,
    embeddings: NDArray[np.floating] | None = None,
) -> NDArray[np.bool_]:
    """Return which queries have a true match in the gallery, shape (Q,).

    Duplicates are left out, if the protocol says so and embeddings are given.
    """
    possible = np.zeros(len(candidates.queries), dtype=bool)
    for places, row, other in _same_identity(candidates):
        query = candidates.queries[places][row]
        kept = ~candidates.left_out_pairs(query, other, protocol)
        if protocol.exclude_duplicates and embeddings is not None:
            for pair in np.flatnonzero(kept):
                same = are_duplicates(embeddings, query[pair], other[pair : pair + 1])
                kept[pair] = not same[0]
        possible[places[row[kept]]] = True
    return possible


def check_rules(candidates: Candidates, protocol: Protocol) -> tuple[str, ...]:
    """Return warnings about what the rules leave of the true matches.

    Raises
    ------
    DataError
        If they leave no pair at all.
    """
    if not _leaves_pairs(candidates, protocol):
        names = _to_blame(candidates, protocol, _leaves_pairs)
        raise DataError(
            f"the protocol leaves no pair to compare: {names} every gallery image for "
            "every query; change the rule, or widen the view."
        )
    known = candidates.identities[candidates.queries]
    known = known[(known != UNKNOWN) & ~candidates.distractors[candidates.queries]]
    if len(known) == 0 or _has_matches(candidates, protocol):
        return _one_identity(candidates, protocol)
    without_rules = replace(candidates, rules=())
    queries = counted(len(known), "labeled query", "labeled queries")
    if not _has_matches(without_rules, Protocol(exclude_self=protocol.exclude_self)):
        return (
            f"none of the {queries} has another image of its identity in the gallery "
            f"(identity field '{protocol.identity_field}'): there is no true match to "
            "find, and neither rank-1 nor the other measures are defined; name the "
            "field of the identity, or widen the view.",
        )
    names = _to_blame(candidates, protocol, _has_matches)
    return (
        f"{names} every true match of all {queries}: there is none to find, and "
        "neither rank-1 nor the other measures are defined; change the rule.",
    )


def _one_identity(candidates: Candidates, protocol: Protocol) -> tuple[str, ...]:
    """Warn if all compared images have the same identity."""
    items = np.union1d(candidates.queries, candidates.gallery)
    first = candidates.identities[items]
    if (first == UNKNOWN).any() or (first != first[0]).any():
        return ()
    return (
        f"all {counted(len(items), 'image')} have the same identity (field "
        f"'{protocol.identity_field}'), so every neighbor is a true match; name "
        "another field, or widen the view.",
    )


def _to_blame(
    candidates: Candidates,
    protocol: Protocol,
    check: Callable[[Candidates, Protocol], bool],
) -> str:
    """Name the rules that alone leave nothing, or else all of them."""
    alone = Protocol(exclude_self=False)
    parts = [
        (quoted(rule.name, 60), replace(candidates, rules=(rule,)), alone)
        for rule in candidates.rules
    ]
    if protocol.exclude_self:
        itself = replace(candidates, rules=())
        parts.append(
            (quoted("exclude_self"), itself, replace(alone, exclude_self=True))
        )
    names = [name for name, only, rules in parts if not check(only, rules)]
    if len(names) == 1 or len(parts) == 1:
        return f"the rule {(names or [parts[0][0]])[0]} leaves out"
    if names:
        return f"each of the rules {' and '.join(names)} leaves out"
    together = " and ".join(name for name, *_ in parts)
    return f"the rules {together} together leave out"


def _leaves_pairs(candidates: Candidates, protocol: Protocol) -> bool:
    """Return whether any query has a gallery image to be compared with."""
    rows = max(1, _PAIRS // len(candidates.gallery))
    # The first queries nearly always answer this.
    return any(
        not candidates.left_out(
            candidates.queries[start : start + rows], protocol
        ).all()
        for start in range(0, len(candidates.queries), rows)
    )


def _has_matches(candidates: Candidates, protocol: Protocol) -> bool:
    """Return whether any query has a true match to find."""
    return any(
        not candidates.left_out_pairs(
            candidates.queries[places][row], other, protocol
        ).all()
        for places, row, other in _same_identity(candidates)
    )


def _same_identity(
    candidates: Candidates,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield places of queries, and the rows and images of their true matches."""
    queries, gallery = candidates.queries, candidates.gallery
    counts = np.bincount(candidates.identities[gallery] + 1)
    alike = Alike(candidates.identities[gallery])
    rows = max(1, _PAIRS // max(1, int(counts[1:].max(initial=0))))
    for start in range(0, len(queries), rows):
        places = np.arange(start, min(start + rows, len(queries)))
        row, column = alike.find(candidates.identities[queries[places]])
        other = gallery[column]
        match = candidates.is_true_match(queries[places][row], other)
        yield places, row[match], other[match]
