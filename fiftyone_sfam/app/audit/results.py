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
    """What a ledger claims that a region carries, beside what changing it did.

    Attributes
    ----------
    region : str
        The region.
    sentence : str
        The finding in words.
    pairs : ndarray of int64
        The pairs that were tested, shape (L,).
    claim, drop : ndarray of float64
        Claimed and measured drop of the similarity, shape (L,).
    """

    region: str
    sentence: str
    pairs: NDArray[np.int64]
    claim: NDArray[np.float64]
    drop: NDArray[np.float64]


@dataclass(frozen=True)
class MapVerdict:
    """How far the maps of a run are to be trusted.

    Attributes
    ----------
    sentence : str
        The verdict in words.
    figures : list of dict
        Figures of each map, the most faithful first.
    pairs : ndarray of int64
        The pairs that were checked, shape (P,).
    deletion, insertion : dict of str to ndarray
        Mean curve of each map, shape (T + 1,).
    """

    sentence: str
    figures: list[dict[str, Any]]
    pairs: NDArray[np.int64]
    deletion: dict[str, NDArray[np.float64]]
    insertion: dict[str, NDArray[np.float64]]


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
    """Return what tells a stored result from another of its name.

    Parameters
    ----------
    run : Run
        The run.
    name : str
        Name of the result.

    Returns
    -------
    str or None
        The name of its blob, which is never used again; None if nothing is stored.
    """
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
