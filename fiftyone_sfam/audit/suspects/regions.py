"""How much of a pair's similarity rests on the background.

Two persons before the same striking wall are near to each other; so are two pictures
of one person. Embeddings alone tell these apart by little. The evidence maps add up to
the similarity, so they say how much of it is the wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.fields import (
    check_region_field,
    region_fields,
    regions_of,
)
from fiftyone_sfam.audit.regions.ledger import EVIDENCE, load_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND, split
from fiftyone_sfam.audit.suspects.space import robust_scale
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH
from fiftyone_sfam.runs.run import Run

AUTO = "auto"
"""Take the field of the stored ledger, or the first that can serve."""

# True matches of the run that tell what is usual.
_USUAL_PAIRS = 300
# Pairs of two identities that are looked at.
_MOST_PAIRS = 40
# Least spread of the usual shares: less is no more than the size of a person's mask.
_LEAST_SCALE = 0.05


@dataclass(frozen=True)
class BackgroundShare:
    """What the background carries of the similarity between two identities."""

    share: float  # its part of the score, on average over the pairs and both sides
    usual: float  # the same in true matches, the median over the identities
    z: float  # difference of the two, in spreads of the identities
    pairs: int  # pairs of the run that it was taken from


class BackgroundShares:
    """Reads what the background carries in pairs of a run."""

    def __init__(self, run: Run, field: str) -> None:
        self.run = run
        self.field = field
        ledger = load_ledger(run)
        stored = ledger is not None and ledger.field == field
        self._ledger = ledger if stored else None
        self._usual: tuple[float, float] | None = None

    def of(self, pairs: Sequence[int]) -> BackgroundShare | None:
        """Compare pairs of the run with its true matches."""
        shares = self._shares(_spread(np.array(pairs, dtype=np.int64), _MOST_PAIRS))
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
        chosen = _spread(chosen, _USUAL_PAIRS)
        shares = self._shares(chosen)
        by_identity: dict[str | None, list[float]] = {}
        for pair, share in zip(chosen, shares, strict=True):
            if not np.isnan(share):
                name = items.identities[pairs.query[pair]]
                by_identity.setdefault(name, []).append(float(share))
        if not by_identity:
            return float("nan"), _LEAST_SCALE
        means = np.array([np.mean(values) for values in by_identity.values()])
        middle = float(np.median(means))
        return middle, max(robust_scale(means - middle), _LEAST_SCALE)

    def _shares(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the background's part of each pair's score; NaN where unknown."""
        scores = self.run.pairs.similarity[pairs]
        carried = self._stored(pairs)
        if carried is None:
            carried = self._read(pairs)
        # A share of nothing, or of less, means nothing.
        scores = np.where(scores > 0, scores, np.nan)
        return carried / scores

    def _stored(self, pairs: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Take what the background carries from the stored ledger."""
        ledger = self._ledger
        if ledger is None or BACKGROUND not in ledger.regions:
            return None
        rows = [ledger.row(int(pair)) for pair in pairs]
        known = np.array([row for row in rows if row is not None], dtype=np.int64)
        if len(known) < len(rows):
            return None
        column = ledger.column(BACKGROUND)
        return ledger.shares[known, :, column].mean(axis=1, dtype=np.float64)

    def _read(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Split the stored maps of pairs."""
        ends = np.stack([self.run.pairs.query[pairs], self.run.pairs.gallery[pairs]])
        regions = regions_of(self.run, np.unique(ends).tolist(), self.field)
        carried = np.full(ends.shape, np.nan)
        for place, maps in enumerate(self.run.many_maps(pairs.tolist())):
            for which, side in enumerate((maps.query, maps.gallery)):
                own = regions.get(int(ends[which, place]))
                if side is None or own is None or BACKGROUND not in own.names:
                    continue
                parts = split(side.maps[EVIDENCE], own)
                carried[which, place] = parts[own.names.index(BACKGROUND)]
        return carried.mean(axis=0)


def choose_region_field(run: Run, wanted: str | None) -> str | None:
    """Find the field that tells the background of a run's images."""
    if wanted is None:
        return None
    if wanted != AUTO:
        check_region_field(run, wanted)
    if EVIDENCE not in run.config.kinds:
        return None
    if wanted != AUTO:
        return wanted
    ledger = load_ledger(run)
    if ledger is not None and BACKGROUND in ledger.regions:
        return ledger.field
    return next(iter(region_fields(run)), None)


def _spread(pairs: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Take some of many pairs, evenly."""
    if len(pairs) <= most:
        return pairs
    return pairs[np.linspace(0, len(pairs) - 1, most).round().astype(int)]
