"""The result of a causal check, which is read without loading a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.images import Change
from fiftyone_sfam.audit.statistics.bootstrap import Correlation
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.runs.blobs import Arrays
from fiftyone_sfam.runs.run import Run

RESULT = "regions_causal"
"""Name of the stored result."""

Side = Literal["query", "gallery"]

_SETTINGS = ("region", "field", "change", "side")
_CORRELATIONS = tuple(
    f"{name}correlation" for name in ("", "share_", "control_", "crossed_", "area_")
)
_PLAIN_COLUMNS = ("pairs", "items", "score", "area", "claim", "drop")
_COLUMNS = (*_PLAIN_COLUMNS, "control_claim", "control_drop")


@dataclass(frozen=True, kw_only=True)
class CausalCheck(PlottedResult):
    """Claims of a ledger and measured drops of the similarity, for L pairs.

    Attributes
    ----------
    region : str
        Region that was changed.
    field : str or None
        Field that the regions come from; None for stripes.
    change : {"replace", "mean", "blur"}
        How the region was changed.
    side : {"query", "gallery"}
        Image of the pair that was changed.
    pairs, items : ndarray of int64
        The pairs, and the changed image of each, shape (L,).
    score : ndarray of float64
        Similarity before the change, shape (L,).
    area : ndarray of float64
        Fraction of the map's area that the region covers, shape (L,).
    claim : ndarray of float64
        Part of the similarity that the ledger attributes to the region, shape (L,).
    drop : ndarray of float64
        Drop of the similarity after the change, shape (L,).
    control_claim, control_drop : ndarray of float64
        Claim and drop of a region of the same area at a random place, shape (L,).
    skipped : dict of int to str
        Reason for each image that could not be changed.
    correlation : Correlation
        Rank correlation of ``claim`` and ``drop``.
    share_correlation : Correlation
        Rank correlation of both as shares of the score.
    control_correlation : Correlation
        Rank correlation of ``control_claim`` and ``control_drop``.
    crossed_correlation : Correlation
        Rank correlation of ``claim`` and ``control_drop``: what ``correlation`` would
        be if the place of the region did not matter.
    area_correlation : Correlation
        Rank correlation of ``area`` and ``drop``: a baseline that needs no ledger.
    """

    region: str
    field: str | None
    change: Change
    side: Side
    pairs: NDArray[np.int64]
    items: NDArray[np.int64]
    score: NDArray[np.float64]
    area: NDArray[np.float64]
    claim: NDArray[np.float64]
    drop: NDArray[np.float64]
    control_claim: NDArray[np.float64]
    control_drop: NDArray[np.float64]
    skipped: dict[int, str]
    correlation: Correlation
    share_correlation: Correlation
    control_correlation: Correlation
    crossed_correlation: Correlation
    area_correlation: Correlation

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sentence(self) -> str:
        """The result in words."""
        verb = {"replace": "replaced", "mean": "painted over", "blur": "blurred"}
        return (
            f"with the {self.region} of the {self.side} image {verb[self.change]}, the "
            f"similarity falls by {self.drop.mean():.3f} on average; the ledger "
            f"attributes {self.claim.mean():.3f} to it; rank correlation of the two "
            f"{self.correlation}, {counted(len(self), 'pair')}; for the same area at a "
            f"random place, it falls by {self.control_drop.mean():.3f} and the ledger "
            f"attributes {self.control_claim.mean():.3f}."
        )


def load_causal_check(run: Run) -> CausalCheck | None:
    """Read the stored check of a run; None if there is none."""
    result = run.results.load(RESULT)
    if result is None:
        return None
    values: dict[str, Any] = {
        **{name: result.config[name] for name in _SETTINGS},
        **{name: Correlation(**result.config[name]) for name in _CORRELATIONS},
        **{name: result.arrays[name] for name in _COLUMNS},
    }
    skipped = {int(item): reason for item, reason in result.config["skipped"].items()}
    return CausalCheck(skipped=skipped, **values)


def save_causal_check(run: Run, check: CausalCheck) -> None:
    """Store a check as a result of its run."""
    config = {
        **{name: getattr(check, name) for name in _SETTINGS},
        **{name: asdict(getattr(check, name)) for name in _CORRELATIONS},
        "skipped": {str(item): reason for item, reason in check.skipped.items()},
        "sentence": check.sentence,
    }
    arrays: Arrays = {name: getattr(check, name) for name in _COLUMNS}
    run.results.save(RESULT, config, arrays)
