"""Stored results of a run, each read once.

Reading is light: the modules that computed the results (the network, torch) are not
loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.faithfulness.result import load_faithfulness
from fiftyone_sfam.audit.regions.causal_result import load_causal_check
from fiftyone_sfam.audit.regions.ledger import load_ledger
from fiftyone_sfam.audit.regions.shortcuts import load_shortcuts
from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

Result = TypeVar("Result")

_NAMES: dict[Callable[[Run], Any], str] = {
    load_evaluation: "evaluation",
    load_ledger: "regions",
    load_suspects: "suspects",
    load_shortcuts: "shortcuts",
    load_causal_check: "regions_causal",
    load_faithfulness: "faithfulness",
}


def stored(run: Run, load: Callable[[Run], Result | None]) -> Result | None:
    """Return what ``load`` reads, from memory if the stored result is the same."""
    blob = run.results.blob_of(_NAMES[load])
    return None if blob is None else _read(load, run, blob)


@lru_cache(maxsize=8)
def _read(load: Callable[[Run], Any], run: Run, blob: str) -> Any:
    return load(run)


def needed(run: Run, load: Callable[[Run], Result | None]) -> Result:
    """Return what ``load`` reads, for a mark that was drawn from it."""
    result = stored(run, load)
    if result is None:
        raise DataError(
            f"the result '{_NAMES[load]}' of the run '{run.key}' is gone; compute it "
            "again."
        )
    return result
