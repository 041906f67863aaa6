"""What audits of a run have stored, read once as long as it stays the same.

Reading is light: what an audit was made with (the network, torch) is not loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts, load_shortcuts
from fiftyone_sfam.audit.suspects.search import Suspects, load_suspects
from fiftyone_sfam.runs.run import Run

EVALUATION, LEDGER, SUSPECTS, SHORTCUTS, CAUSAL, FAITHFULNESS = (
    "evaluation",
    "regions",
    "suspects",
    "shortcuts",
    "regions_causal",
    "faithfulness",
)
"""Names of the results."""


@dataclass(frozen=True)
class CausalClaims:
    """What a ledger claims that a region carries, beside what changing it did."""

    region: str  # the region
    sentence: str  # the finding in words
    pairs: NDArray[np.int64]  # the pairs that were tested, shape (L,)
    claim: NDArray[np.float64]  # (L,)
    drop: NDArray[np.float64]  # claimed and measured drop of the similarity, shape (L,)


@dataclass(frozen=True)
class MapVerdict:
    """How far the maps of a run are to be trusted."""

    sentence: str  # the verdict in words
    figures: list[dict[str, Any]]  # figures of each map, the most faithful first
    pairs: NDArray[np.int64]  # the pairs that were checked, shape (P,)
    deletion: dict[str, NDArray[np.float64]]  # mean curve of each map, shape (T + 1,)
    insertion: dict[str, NDArray[np.float64]]  # mean curve of each map, shape (T + 1,)


def evaluation_of(run: Run) -> Evaluation | None:
    """Return the stored evaluation of a run, or None."""
    stamp = stamp_of(run, EVALUATION)
    return None if stamp is None else _evaluation(run, stamp)


def ledger_of(run: Run) -> Ledger | None:
    """Return the stored ledger of a run, or None."""
    stamp = stamp_of(run, LEDGER)
    return None if stamp is None else _ledger(run, stamp)


def shortcuts_of(run: Run) -> Shortcuts | None:
    """Return the stored shortcuts of a run, or None."""
    stamp = stamp_of(run, SHORTCUTS)
    return None if stamp is None else _shortcuts(run, stamp)


def suspects_of(run: Run) -> Suspects | None:
    """Return the stored suspects of a run, or None."""
    stamp = stamp_of(run, SUSPECTS)
    return None if stamp is None else _suspects(run, stamp)


def causal_of(run: Run) -> CausalClaims | None:
    """Return the stored causal check of a run, or None."""
    result = run.results.load(CAUSAL)
    if result is None:
        return None
    config, arrays = result.config, result.arrays
    return CausalClaims(
        config["region"],
        config["sentence"],
        arrays["pairs"],
        arrays["claim"],
        arrays["drop"],
    )


def verdict_of(run: Run) -> MapVerdict | None:
    """Return the stored check of a run's maps, or None."""
    result = run.results.load(FAITHFULNESS)
    if result is None:
        return None
    config, arrays = result.config, result.arrays
    deletion, insertion = (
        dict(zip(config["names"], arrays[name].mean(axis=1), strict=True))
        for name in ("deletion", "insertion")
    )
    return MapVerdict(
        config["sentence"], config["figures"], arrays["pairs"], deletion, insertion
    )


def stamp_of(run: Run, name: str) -> str | None:
    """Return what tells a stored result from another of its name."""
    return run.results.blob_of(name)


@lru_cache(maxsize=4)
def _evaluation(run: Run, stamp: str) -> Evaluation | None:
    return load_evaluation(run)


@lru_cache(maxsize=2)
def _ledger(run: Run, stamp: str) -> Ledger | None:
    return load_ledger(run)


@lru_cache(maxsize=4)
def _shortcuts(run: Run, stamp: str) -> Shortcuts | None:
    return load_shortcuts(run)


@lru_cache(maxsize=4)
def _suspects(run: Run, stamp: str) -> Suspects | None:
    return load_suspects(run)
