"""Delete and rename runs, with everything that belongs to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import fiftyone as fo

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.review.fields import (
    check_rename_of_verdicts,
    check_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    DELETING,
    delete_fields,
    field_paths,
    record_run,
    run_config,
)
from fiftyone_sfam.runs.schema import rename_fields

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


def delete_run(samples: SampleCollection, key: str) -> None:
    """Delete a run: its fields, its maps and its record.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key : str
        Key of the run, finished or not.

    Raises
    ------
    RunError
        If there is no such run.
    """
    dataset = samples._root_dataset
    key = finish_rename(dataset, key)
    config = run_config(dataset, key)
    if config is None:
        raise RunError(f"'{dataset.name}' has no explained run '{key}' to delete.")
    # From here on nobody sees it, whatever becomes of this process.
    record_run(dataset, key, replace(config, state=DELETING))
    for uid, patches_field in (*config.replaces, (config.uid, config.patches_field)):
        ResultStore(dataset, key, uid).delete_all()
        forget_verdicts(dataset, key, uid, patches_field)
        delete_fields(dataset, key, patches_field)
        BlobStore(str(dataset._doc.id), uid).delete()
    dataset.delete_run(key)


def rename_run(samples: SampleCollection, key: str, new_key: str) -> None:
    """Rename a run and its fields.

    What an interruption has left is done when the same is asked for again, or before
    anything else is done to the run.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key, new_key : str
        Present and new key.

    Raises
    ------
    RunError
        If there is no such run, or the new key or one of its fields is in use.
    """
    run = load_run(samples, key)
    dataset, patches_field = run.dataset, run.config.patches_field
    # A record with its own key here is that of a renaming whose last step is missing.
    if run.config.renamed_to != new_key or new_key == key:
        key = finish_rename(dataset, key)
        run = load_run(dataset, key)
        check_key(dataset, new_key, patches_field)
        if run_config(dataset, new_key) is not None:
            raise RunError(
                f"'{dataset.name}' has a run '{new_key}' already; choose another key."
            )
        run.results.check_rename(new_key)
        check_rename_of_verdicts(dataset, key, new_key, patches_field)
        record_run(dataset, key, replace(run.config, renamed_to=new_key))
    run.results.rename(new_key)
    rename_verdicts(dataset, key, new_key, patches_field)
    old = field_paths(dataset, key, patches_field)
    new = field_paths(dataset, new_key, patches_field)
    rename_fields(dataset, dict(zip(old, new, strict=True)))
    # The record that says what is being done goes along, and then says no more.
    dataset.rename_run(key, new_key)
    record_run(dataset, new_key, replace(run.config, renamed_to=None))


def finish_rename(samples: SampleCollection, key: str) -> str:
    """Do what an interrupted renaming of a run has left."""
    config = run_config(samples._root_dataset, key)
    if config is None or config.state != COMPLETE or config.renamed_to in (None, key):
        return key
    rename_run(samples, key, str(config.renamed_to))
    return str(config.renamed_to)


def check_key(dataset: fo.Dataset, key: str, patches_field: str | None) -> None:
    """Refuse a key that is no name, or whose fields are somebody else's."""
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
        raise RunError(
            f"the run key {key!r} cannot be used; give a name of letters, digits and "
            "underscores that starts with a letter."
        )
    if key in dataset.list_runs() and run_config(dataset, key) is None:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' of another kind; choose another key."
        )
    check_verdict_fields(dataset, key, patches_field)
    config = run_config(dataset, key)
    own: set[str] = set()
    if config is not None:
        for _, of in (*config.replaces, (config.uid, config.patches_field)):
            own.update(field_paths(dataset, key, of))
    for path in field_paths(dataset, key, patches_field):
        if path not in own and dataset.get_field(path) is not None:
            raise RunError(
                f"'{dataset.name}' has a field '{path}' that is not of a run; choose "
                "another key."
            )
