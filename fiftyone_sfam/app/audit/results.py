"""Stored results of a run, each read once.

Reading is light: the modules that computed the results (the network, torch) are not
loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.regions.causal_result import load_causal_check
from fiftyone_sfam.audit.regions.ledger import load_ledger
from fiftyone_sfam.audit.regions.shortcuts import load_shortcuts
from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.runs.run import Run

Result = TypeVar("Result")


@dataclass(frozen=True)
class MapVerdict:
    """How faithful the maps of a run are."""

    sentence: str
    figures: list[dict[str, Any]]  # figures of each map, the most faithful first
    pairs: NDArray[np.int64]  # the checked pairs, shape (P,)
    deletion: dict[str, NDArray[np.float64]]  # mean curve of each map, shape (T + 1,)
    insertion: dict[str, NDArray[np.float64]]  # mean curve of each map, shape (T + 1,)


def load_map_verdict(run: Run) -> MapVerdict | None:
    """Read the check of a run's maps, its curves averaged over pairs."""
    result = run.results.load(_NAMES[load_map_verdict])
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


_NAMES: dict[Callable[[Run], Any], str] = {
    load_evaluation: "evaluation",
    load_ledger: "regions",
    load_suspects: "suspects",
    load_shortcuts: "shortcuts",
    load_causal_check: "regions_causal",
    load_map_verdict: "faithfulness",
}


def stored(run: Run, load: Callable[[Run], Result | None]) -> Result | None:
    """Return what ``load`` reads, from memory if the stored result is the same."""
    blob = run.results.blob_of(_NAMES[load])
    return None if blob is None else _read(load, run, blob)


@lru_cache(maxsize=8)
def _read(load: Callable[[Run], Any], run: Run, blob: str) -> Any:
    return load(run)
