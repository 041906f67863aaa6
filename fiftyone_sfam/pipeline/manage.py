"""Resume, replace, delete and rename runs, with everything that belongs to them."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from numpy.typing import NDArray

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.retrieval.embeddings import Embeddings, check_index_key
from fiftyone_sfam.review.fields import (
    check_rename_of_verdicts,
    check_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.runs.app_config import hide_fields, move_fields
from fiftyone_sfam.runs.blobs import BlobStore, unfinished_uids
from fiftyone_sfam.runs.lock import (
    one_at_a_time,
    server_time,
    set_uid,
    uids_in_progress,
)
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    DELETING,
    METHOD,
    RunConfig,
    RunSettings,
    delete_fields,
    field_paths,
    fields_lock,
    record_run,
    rename_fields,
    run_config,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.network.embedder import EmbeddingModel


# --------------------------------------------------------------------------------------
# Before a run
# --------------------------------------------------------------------------------------


def fingerprint_of(
    settings: RunSettings,
    items: Items,
    given: Embeddings | None,
    model: EmbeddingModel,
    first_input: NDArray[Any] | None,
    layer: str | None = None,
) -> str:
    """Digest everything that determines the results of a run, except for the pixels.

    ``layer`` is given if it is left to measurement.

    Includes the first image as the preprocessing returns it, because a preprocessing
    that is not a dataclass has no other description.
    """
    digest = hashlib.sha256()
    facts: dict[str, Any] = {
        "config": {**settings.facts(), "layer": layer or model.requested_layer},
        **_model_facts(model),
        "ids": items.ids,
        "identities": items.identities,
        "cameras": items.cameras,
        "splits": None
        if items.splits is None
        else [sorted(split) for split in items.splits],
        "boxes": None if items.boxes is None else items.boxes.tolist(),
        "files": [file_facts(path) for path in items.filepaths],
    }
    # Only where there are some, as for the settings of earlier versions.
    if items.terms:
        facts["terms"] = {n: values.tolist() for n, values in items.terms.items()}
    if items.inputs is not None:
        facts["inputs"] = {n: values.tolist() for n, values in items.inputs.items()}
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    if given is not None:
        digest.update(given.vectors.tobytes())
    if first_input is not None:
        digest.update(first_input.tobytes())
    return digest.hexdigest()


def _model_facts(model: EmbeddingModel) -> dict[str, Any]:
    """Return what the settings of a run do not say about its model."""
    return {
        "output": [model._embedding_key, model._embedding_layer],
        "preprocess": repr(model.preprocess)
        if hasattr(model.preprocess, "__dataclass_fields__")
        else getattr(model.preprocess, "__qualname__", type(model.preprocess).__name__),
    }


def model_digest_of(settings: RunSettings, model: EmbeddingModel) -> str:
    """Digest what maps depend on beside the settings and the images."""
    facts = {
        **_model_facts(model),
        "layer": model.requested_layer,
        "dims": settings.contribution_dims,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_facts(filepath: str) -> tuple[str, int, int]:
    """Return what shows a change of a file: its path, size and time."""
    try:
        status = os.stat(filepath)
    except (OSError, ValueError):  # ValueError: the path contains a zero byte
        return filepath, -1, -1
    return filepath, status.st_size, status.st_mtime_ns


def resumable_uid(dataset: fo.Dataset, key: str, fingerprint: str) -> str | None:
    """Find an interrupted run of the same work that can be resumed.

    A run that another process is making is not interrupted, whatever its key.
    """
    taken = uids_in_progress(server_time())
    for run_key in dataset.list_runs(method=METHOD):
        config = run_config(dataset, run_key)
        if config is not None and (run_key != key or config.state == COMPLETE):
            taken.add(config.uid)
    uids = unfinished_uids(str(dataset._doc.id), fingerprint)
    return next((uid for uid in uids if uid not in taken), None)


def make_store(dataset: fo.Dataset, key: str, fingerprint: str) -> BlobStore:
    """Return the store of an interrupted run to resume, or of a new run."""
    dataset_id = str(dataset._doc.id)
    # Of two calls that start at once under different keys, only one may resume it.
    with one_at_a_time(f"resume/{fingerprint}"):
        uid = resumable_uid(dataset, key, fingerprint) or uuid.uuid4().hex
        set_uid(dataset_id, key, uid)
    return BlobStore(dataset_id, uid, fingerprint)


def check_existing(
    dataset: fo.Dataset, key: str, patches_field: str | None, overwrite: bool
) -> RunConfig | None:
    """Raise if a key cannot be used for a new run; return the run to replace."""
    # Another process may have made a run since the dataset was loaded.
    dataset._doc.reload("runs")
    finish_rename(dataset, key)
    check_key(dataset, key, patches_field)
    existing = run_config(dataset, key)
    if existing is not None and existing.state == DELETING:
        delete_run(dataset, key)
        return None
    if existing is not None and existing.state == COMPLETE and not overwrite:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' already; give overwrite=True to "
            "replace it, or another key."
        )
    return existing


def check_kept_index(
    samples: SampleCollection,
    brain_key: str | None,
    existing: RunConfig | None,
    delete: bool = False,
) -> None:
    """Raise if a brain key is in use, unless by the index of an interrupted run.

    With ``delete``, that index is deleted: call this just before the run is recorded.
    """
    if brain_key is None:
        return
    interrupted = existing is not None and brain_key == existing.keeps_index
    if interrupted and delete and samples._dataset.has_brain_run(brain_key):
        samples._dataset.delete_brain_run(brain_key)
    if delete or not interrupted:
        check_index_key(samples, brain_key)


def replaced_runs(
    existing: RunConfig | None, uid: str
) -> tuple[tuple[str, str | None], ...]:
    """List the runs that a run replaces, including the ones of an interrupted run."""
    if existing is None:
        return ()
    old = (*existing.replaces, (existing.uid, existing.patches_field))
    return tuple((old_uid, field) for old_uid, field in old if old_uid != uid)


def check_key(dataset: fo.Dataset, key: str, patches_field: str | None) -> None:
    """Raise if a key is not a name, or if its fields do not belong to its run."""
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
    paths: set[str] = set()
    if config is not None:
        for _, field in (*config.replaces, (config.uid, config.patches_field)):
            paths.update(field_paths(dataset, key, field))
    for path in field_paths(dataset, key, patches_field):
        if path not in paths and dataset.get_field(path) is not None:
            raise RunError(
                f"'{dataset.name}' has a field '{path}' that does not belong to a run; "
                "choose another key."
            )


# --------------------------------------------------------------------------------------
# Afterwards
# --------------------------------------------------------------------------------------


def delete_run(samples: SampleCollection, key: str) -> None:
    """Delete a run: its fields, maps, results, verdicts and record.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key : str
        Key of the run; it may be unfinished.

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
    # From here on the run is not listed, even if this process is killed.
    record_run(dataset, key, replace(config, state=DELETING))
    for uid, patches_field in (*config.replaces, (config.uid, config.patches_field)):
        ResultStore(dataset, key, uid).delete_all()
        forget_verdicts(dataset, key, uid, patches_field)
        paths = field_paths(dataset, key, patches_field)
        delete_fields(dataset, paths)
        with fields_lock(dataset):
            hide_fields(dataset, key, paths)
        BlobStore(str(dataset._doc.id), uid).delete()
    dataset.delete_run(key)


def rename_run(samples: SampleCollection, key: str, new_key: str) -> None:
    """Rename a run and its fields.

    An interrupted renaming is finished by the same call, and before the run is renamed
    again, replaced or deleted.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key, new_key : str
        Current and new key.

    Raises
    ------
    RunError
        If there is no such run, or the new key or one of its fields is in use.
    """
    run = load_run(samples, key)
    dataset, patches_field = run.dataset, run.config.patches_field
    # If ``renamed_to`` is the key itself, only the last step of a renaming is missing.
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
    with fields_lock(dataset):
        move_fields(dataset, key, new_key, dict(zip(old, new, strict=True)))
    # The record moves with ``renamed_to`` set, which marks the last step as missing.
    dataset.rename_run(key, new_key)
    record_run(dataset, new_key, replace(run.config, renamed_to=None))


def finish_rename(samples: SampleCollection, key: str) -> str:
    """Finish an interrupted renaming of a run; return the key of the run."""
    config = run_config(samples._root_dataset, key)
    if config is None or config.state != COMPLETE or config.renamed_to in (None, key):
        return key
    rename_run(samples, key, str(config.renamed_to))
    return str(config.renamed_to)
