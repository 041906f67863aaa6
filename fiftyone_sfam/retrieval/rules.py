"""The rules of a protocol that leave out pairs, over the columns of N images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol, Within, rule_name
from fiftyone_sfam.data.terms import MISSING, span_of

UNKNOWN = -1
"""Code of a missing identity or camera, and of a missing neighbor."""


@dataclass(frozen=True, kw_only=True)
class ExclusionRule:
    """Leaves out the pairs of images for which all its terms hold."""

    name: str
    codes: NDArray[np.int64]  # equal where all fields are; UNKNOWN: never, shape (N,)
    # Times in microseconds, and how far apart they may be; (N,) each.
    spans: tuple[tuple[NDArray[np.int64], int], ...] = ()
    # As codes, without the identity. None if the rule does not name it.
    others: NDArray[np.int64] | None = None
    of_camera: bool = False  # whether the rule names the camera

    def holds(
        self, query: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs of images the rule leaves out."""
        return self._agree(self.codes, query, other)

    def holds_for_others(
        self, query: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs agree in all but the identity; none if it is no term."""
        if self.others is None:
            return np.zeros(np.broadcast_shapes(query.shape, other.shape), dtype=bool)
        return self._agree(self.others, query, other)

    def _agree(
        self,
        codes: NDArray[np.int64],
        query: NDArray[np.int64],
        other: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        mine = codes[query]
        held = (mine == codes[other]) & (mine != UNKNOWN)
        for times, span in self.spans:
            held &= np.abs(times[query] - times[other]) <= span
        return np.asarray(held)


def compile_rules(
    protocol: Protocol,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    terms: Mapping[str, NDArray[np.int64]],
) -> tuple[ExclusionRule, ...]:
    """Prepare the rules of a protocol; its terms are those of ``data/terms.py``."""
    identity, camera = protocol.identity_field, protocol.camera_field
    column = _columns(protocol, identities, cameras, terms)
    rules = []
    for rule in protocol.rules:
        rest = [column(term) for term in rule if term != identity]
        others = _combined(rest, len(identities)) if rest else None
        rules.append(
            ExclusionRule(
                name=rule_name(rule),
                codes=_combined([column(term) for term in rule], len(identities)),
                spans=tuple(
                    (_usable(terms[str(term)]), span_of(term))
                    for term in rule
                    if isinstance(term, Within)
                ),
                others=others if identity in rule else None,
                of_camera=camera is not None and camera in rule,
            )
        )
    return tuple(rules)


def gallery_groups(
    protocol: Protocol,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    terms: Mapping[str, NDArray[np.int64]],
) -> NDArray[np.int64] | None:
    """Return codes of the groups that random galleries take images of."""
    if not protocol.gallery_per:
        return None
    column = _columns(protocol, identities, cameras, terms)
    return _combined(map(column, protocol.gallery_per), len(identities))


def _columns(
    protocol: Protocol,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    terms: Mapping[str, NDArray[np.int64]],
) -> Callable[[str | Within], NDArray[np.int64]]:
    """Return what gives the codes of a term, UNKNOWN where it is missing."""

    def column(term: str | Within) -> NDArray[np.int64]:
        if term == protocol.identity_field:
            return identities
        if term == protocol.camera_field:
            return cameras
        values = terms[str(term)]
        if isinstance(term, Within):
            # Combined with the fields, so that missing times agree with nothing.
            return np.where(values == MISSING, UNKNOWN, 0)
        return np.where(values == MISSING, UNKNOWN, values)

    return column


def _combined(columns: Iterable[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """Return codes that are equal where all columns are, UNKNOWN where one is."""
    codes = np.zeros(count, dtype=np.int64)
    for column in columns:
        missing = (codes == UNKNOWN) | (column == UNKNOWN)
        paired = codes * (int(column.max(initial=0)) + 1) + column
        codes = np.unique(paired, return_inverse=True)[1].reshape(-1).astype(np.int64)
        codes[missing] = UNKNOWN
    return codes


def _usable(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace missing times, whose differences would overflow."""
    return np.where(times == MISSING, 0, times)


class Alike:
    """The gallery in the order of its identities."""

    def __init__(self, identities: NDArray[np.int64]) -> None:
        self._order = np.argsort(identities, kind="stable")
        self._sorted = identities[self._order]

    def find(
        self, identities: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and gallery places of the pairs of one identity."""
        starts = np.searchsorted(self._sorted, identities, side="left")
        counts = np.searchsorted(self._sorted, identities, side="right") - starts
        counts[identities == UNKNOWN] = 0
        row = np.repeat(np.arange(len(identities)), counts)
        # Each row's places count from its own start.
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, self._order[np.repeat(starts, counts) + within]
