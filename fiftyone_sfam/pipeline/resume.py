"""Telling whether an interrupted run did the same work, so that it is gone on with."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import fiftyone as fo
from numpy.typing import NDArray

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.runs.blobs import unfinished_uids
from fiftyone_sfam.runs.lock import living, server_time
from fiftyone_sfam.runs.run_config import COMPLETE, METHOD, RunConfig, run_config


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
