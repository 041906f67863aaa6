"""The run that a panel shows, and pairs that are handed to the panel of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import fiftyone as fo
import fiftyone.operators as foo

from fiftyone_sfam.runs.run import Run, list_runs, load_run


def current_run(dataset: fo.Dataset, key: str | None) -> Run | None:
    """Load a run, or reuse a loaded one; None if there is no such run."""
    if not key or key not in list_runs(dataset):
        return None
    config = load_run(dataset, key).config
    run = _loaded(dataset.name, key, config.uid)
    # A full check of faithfulness renews the verdict about the maps.
    run.config = config
    # The App's server makes a new dataset object for every event; only that object
    # knows the results that were stored since the run was loaded.
    run.dataset = dataset
    return run


def choose_run(ctx: foo.ExecutionContext) -> None:
    """Keep the run of the panel's state if it exists; otherwise choose the first."""
    keys = list_runs(ctx.dataset)
    key = ctx.panel.get_state("run")
    ctx.panel.set_state("run", key if key in keys else next(iter(keys), None))


VIEW_PAIRS = "@fiftyone-sfam/sfam/view_pairs"
"""The operator of the bundle that takes pairs to the panel of pairs."""


def hand_over(
    ctx: foo.ExecutionContext, run: Run, pairs: Sequence[int], title: str
) -> None:
    """Make pairs the queue of the panel of pairs, in the pane of the grid."""
    # In the page: no other tab and nobody else gets them.
    handed = {"run": run.key, "uid": run.config.uid, "title": title}
    shown = {"pairs": list(pairs), "queries": run.pairs.query[list(pairs)].tolist()}
    ctx.trigger(VIEW_PAIRS, params={**handed, **shown})
    ctx.ops.open_panel("sfam_pairs")


@lru_cache(maxsize=4)
def _loaded(dataset_name: str, key: str, uid: str) -> Run:
    # The uid differs between runs that had the same key.
    return load_run(fo.load_dataset(dataset_name), key)
