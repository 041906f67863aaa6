"""The run that a panel shows, loaded once as long as it stays the same."""

from __future__ import annotations

from functools import lru_cache

import fiftyone as fo

from fiftyone_sfam.runs import Run, list_runs, load_run


def current_run(dataset: fo.Dataset, key: str | None) -> Run | None:
    """Load a run, or take the one that was loaded before.

    Parameters
    ----------
    dataset : fiftyone.Dataset
        The dataset.
    key : str or None
        Key of the run.

    Returns
    -------
    Run or None
        None if there is no such run.
    """
    if not key or key not in list_runs(dataset):
        return None
    return _loaded(dataset.name, key, load_run(dataset, key).config.uid)


@lru_cache(maxsize=4)
def _loaded(dataset_name: str, key: str, uid: str) -> Run:
    # The uid is what tells a run from another one of its key.
    return load_run(fo.load_dataset(dataset_name), key)
