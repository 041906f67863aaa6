"""What the search for suspects reads from a run and writes to its dataset."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.fields import write_values
from fiftyone_sfam.audit.regions.fields import (
    check_region_field,
    region_fields,
    regions_of,
)
from fiftyone_sfam.audit.regions.ledger import EVIDENCE, load_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND, split
from fiftyone_sfam.audit.suspects.space import robust_scale
from fiftyone_sfam.data.items import detections_prefix
from fiftyone_sfam.retrieval.indexed import IndexSearch
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH, Pairs
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.run import Run

AUTO = "auto"
"""Use the field of the stored ledger, or the first field that divides images."""

# Maximum number of pairs that a finding lists.
_LISTED_PAIRS = 50
# True matches of the run from which the usual background share is measured.
_USUAL_PAIRS = 300
# Pairs of two identities whose background share is measured.
_COMPARED_PAIRS = 40
# Least spread of the usual shares: smaller differences come from the masks' size.
_LEAST_SCALE = 0.05


class IndexProposals:
    """Images that the similarity index of a run proposes.

    ``used`` are the items that are compared; they are proposed by their places in it.
    """

    def __init__(self, run: Run, used: NDArray[np.int64]) -> None:
        config = run.config
        self._search = IndexSearch(
            run.dataset,
            run.items,
            config.embeddings,
            config.metric,
            config.patches_field,
        )
        # The last place is that of an unknown item.
        self._place = np.full(len(run.items) + 1, UNKNOWN, dtype=np.int64)
        self._place[used] = np.arange(len(used))

    @property
    def size(self) -> int:
        """Largest number of images that can be requested."""
        return self._search.size

    def __call__(
        self, vectors: NDArray[np.float32], count: int
    ) -> list[NDArray[np.int64]]:
        """Return the images near each vector, UNKNOWN for those not compared."""
        return [self._place[items] for items in self._search(vectors, count)]


class PairLookup:
    """Finds the pairs of a run by their images."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._order = np.argsort(pairs.sides(), kind="stable")
        self._sorted = pairs.sides()[self._order]

    def of(
        self, items: Iterable[int], partners: Collection[int] | None = None
    ) -> tuple[int, ...]:
        """List pairs of images, with any image or with ``partners``, nearest first."""
        chosen = set()
        for item in items:
            start, stop = np.searchsorted(self._sorted, [item, item + 1])
            for index in self._order[start:stop].tolist():
                pair, side = divmod(index, 2)
                partner = self._pairs.query if side else self._pairs.gallery
                if partners is None or int(partner[pair]) in partners:
                    chosen.add(pair)
        similarity = self._pairs.similarity
        ranked = sorted(chosen, key=lambda pair: (-similarity[pair], pair))
        return tuple(ranked[:_LISTED_PAIRS])


def suspects_path(run: Run) -> str:
    """Return the path of the field that lists an image's kinds of findings."""
    prefix = detections_prefix(run.dataset, run.config.patches_field)
    return prefix + run.key + "_suspects"


def write_suspects(run: Run, kinds: dict[int, list[str]]) -> None:
    """Write the kinds of findings of each item of a run."""
    options = {
        "ftype": fo.ListField,
        "subfield": fo.StringField,
        "description": "kinds of suspects that the image is part of",
    }
    values = {str(key): kinds.get(item) for item, key in enumerate(run.items.ids)}
    write_values(run, suspects_path(run), options, values)


def some_items(run: Run, items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose evenly among items, independently of their order in the run."""
    if len(items) <= count:
        return items
    return _evenly(items[np.argsort(run.items.ids[items])], count)


@dataclass(frozen=True)
class BackgroundShare:
    """The background's share of the similarity between two identities."""

    share: float  # mean share of the score, over pairs and both sides
    usual: float  # the same in true matches, median over identities
    z: float  # difference of the two, in spreads of the identities
    pairs: int  # pairs of the run that were measured


class BackgroundShares:
    """Measures the background's share in pairs of a run."""

    def __init__(self, run: Run, field: str) -> None:
        self.run = run
        self.field = field
        ledger = load_ledger(run)
        usable = ledger is not None and ledger.field == field
        self._ledger = ledger if usable else None
        self._usual: tuple[float, float] | None = None

    def of(self, pairs: Sequence[int]) -> BackgroundShare | None:
        """Compare pairs of the run with its true matches; None if unknown."""
        shares = self._shares(_evenly(np.array(pairs, np.int64), _COMPARED_PAIRS))
        shares = shares[~np.isnan(shares)]
        if self._usual is None:
            self._usual = self._measure_usual()
        usual, scale = self._usual
        if len(shares) == 0 or np.isnan(usual):
            return None
        share = float(shares.mean())
        return BackgroundShare(share, usual, (share - usual) / scale, len(shares))

    def _measure_usual(self) -> tuple[float, float]:
        """Return median and spread of the true matches' shares, by identity."""
        pairs, items = self.run.pairs, self.run.items
        chosen = np.flatnonzero((pairs.outcome == TRUE_MATCH) & (pairs.rank == 1))
        chosen = _evenly(chosen, _USUAL_PAIRS)
        by_identity: dict[str | None, list[float]] = {}
        for pair, share in zip(chosen, self._shares(chosen), strict=True):
            if not np.isnan(share):
                name = items.identities[pairs.query[pair]]
                by_identity.setdefault(name, []).append(float(share))
        if not by_identity:
            return float("nan"), _LEAST_SCALE
        means = np.array([np.mean(values) for values in by_identity.values()])
        median = float(np.median(means))
        return median, max(robust_scale(means - median), _LEAST_SCALE)

    def _shares(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the background's share of each pair's score; NaN if unknown."""
        scores = self.run.pairs.similarity[pairs]
        carried = self._from_ledger(pairs)
        if carried is None:
            carried = self._from_maps(pairs)
        return carried / np.where(scores > 0, scores, np.nan)

    def _from_ledger(self, pairs: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Read the background's part from the ledger; None if a pair is missing."""
        ledger = self._ledger
        if ledger is None or BACKGROUND not in ledger.regions:
            return None
        rows = [ledger.row(int(pair)) for pair in pairs]
        known = np.array([row for row in rows if row is not None], dtype=np.int64)
        if len(known) < len(rows):
            return None
        column = ledger.column(BACKGROUND)
        return ledger.shares[known, :, column].mean(axis=1, dtype=np.float64)

    def _from_maps(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum the stored maps of pairs over the background."""
        ends = np.stack([self.run.pairs.query[pairs], self.run.pairs.gallery[pairs]])
        regions = regions_of(self.run, np.unique(ends).tolist(), self.field)
        carried = np.full(ends.shape, np.nan)
        for column, maps in enumerate(self.run.many_maps(pairs.tolist(), [EVIDENCE])):
            for row, side in enumerate((maps.query, maps.gallery)):
                parts = regions.get(int(ends[row, column]))
                if side is None or parts is None or BACKGROUND not in parts.names:
                    continue
                values = split(side.maps[EVIDENCE], parts)
                carried[row, column] = values[parts.names.index(BACKGROUND)]
        return carried.mean(axis=0)


def choose_region_field(run: Run, field: str | None) -> str | None:
    """Return the field that separates the background; None if there is none."""
    if field is None:
        return None
    if field != AUTO:
        check_region_field(run, field)
    if EVIDENCE not in run.config.kinds:
        return None
    if field != AUTO:
        return field
    ledger = load_ledger(run)
    if ledger is not None and BACKGROUND in ledger.regions:
        return ledger.field
    return next(iter(region_fields(run)), None)


def _evenly(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose at most ``count`` values, evenly spaced."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(int)]
