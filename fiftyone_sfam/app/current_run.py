"""The run that a panel shows: chosen, and loaded once as long as it stays the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.runs.run import Run, list_runs, load_run


def current_run(dataset: fo.Dataset, key: str | None) -> Run | None:
    """Load a run, or take the one that was loaded before."""
    if not key or key not in list_runs(dataset):
        return None
    run = _loaded(dataset.name, key, load_run(dataset, key).config.uid)
    # The App's server has a new dataset object for every event, and only that one knows
    # of results that were stored since the run was loaded.
    run.dataset = dataset
    return run


def choose_run(ctx: foo.ExecutionContext) -> None:
    """Keep the run of the panel's state if it exists, or else take the first."""
    keys = list_runs(ctx.dataset)
    key = ctx.panel.get_state("run")
    ctx.panel.set_state("run", key if key in keys else next(iter(keys), None))


def add_run_choice(
    ctx: foo.ExecutionContext,
    row: types.Object,
    keys: list[str],
    on_change: Callable[[foo.ExecutionContext], Any],
) -> None:
    """Add the choice of the run to a panel's row of controls."""
    runs = types.DropdownView()
    for key in keys:
        runs.add_choice(key, label=key)
    row.enum(
        "run_choice",
        runs.values(),
        label="Run",
        default=ctx.panel.get_state("run") or keys[0],
        view=runs,
        on_change=on_change,
    )


@lru_cache(maxsize=4)
def _loaded(dataset_name: str, key: str, uid: str) -> Run:
    # The uid is what tells a run from another one of its key.
    return load_run(fo.load_dataset(dataset_name), key)
