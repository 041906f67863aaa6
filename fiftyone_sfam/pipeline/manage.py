"""Delete and rename runs, with everything that belongs to them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from numpy.typing import NDArray

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.review.fields import (
    check_rename_of_verdicts,
    check_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.runs.blobs import BlobStore, unfinished_uids
from fiftyone_sfam.runs.lock import living, server_time
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    DELETING,
    METHOD,
    RunConfig,
    delete_fields,
    field_paths,
    record_run,
    run_config,
)
from fiftyone_sfam.runs.schema import rename_fields

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.network.embedder import EmbeddingModel


def fingerprint_of(
    config: RunConfig,
    items: Items,
    given: Embeddings | None,
    model: EmbeddingModel,
    sample_input: NDArray[Any] | None,
) -> str:
    """Digest everything that determines a run's results, but the images' pixels.

    A preprocessing that is not described by a dataclass is known by what it makes of
    the first image.
    """
    digest = hashlib.sha256()
    facts: dict[str, Any] = {
        "config": {**vars(config), "layer": model.requested_layer},
        "output": [model._embedding_key, model._embedding_layer],
        "preprocess": repr(model.preprocess)
        if hasattr(model.preprocess, "__dataclass_fields__")
        else getattr(model.preprocess, "__qualname__", type(model.preprocess).__name__),
        "ids": items.ids,
        "identities": items.identities,
        "cameras": items.cameras,
        "splits": None
        if items.splits is None
        else [sorted(split) for split in items.splits],
        "boxes": None if items.boxes is None else items.boxes.tolist(),
        "files": [_file_facts(path) for path in items.filepaths],
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    if given is not None:
        digest.update(given.vectors.tobytes())
    if sample_input is not None:
        digest.update(sample_input.tobytes())
    return digest.hexdigest()


def _file_facts(filepath: str) -> tuple[str, int, int]:
    """Return what tells whether a file has changed."""
    try:
        status = os.stat(filepath)
    except (OSError, ValueError):  # a path with a zero byte is no path
        return filepath, -1, -1
    return filepath, status.st_size, status.st_mtime_ns


def resumable_uid(dataset: fo.Dataset, key: str, fingerprint: str) -> str | None:
    """Find an interrupted run of the same work, which may be gone on with.

    What somebody is at work on is not interrupted, whatever its key.
    """
    taken = living(server_time())
    for one in dataset.list_runs(method=METHOD):
        config = run_config(dataset, one)
        if config is not None and (one != key or config.state == COMPLETE):
            taken.add(config.uid)
    left = [
        uid
        for uid in unfinished_uids(str(dataset._doc.id), fingerprint)
        if uid not in taken
    ]
    return left[0] if left else None


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
