"""What tests of runs share: what is stored, and interruptions."""

from __future__ import annotations

import numpy as np
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.runs.blobs import BUCKET

REID = Protocol(identity_field="identity", camera_field="camera")


def blobs(dataset) -> int:
    """Count everything that is stored for a dataset."""
    query = {"metadata.dataset_id": str(dataset._doc.id)}
    return get_db_conn()[f"{BUCKET}.files"].count_documents(query)


def stored_numbers(run):
    """Return everything that a run has stored, to be compared."""
    maps = run.many_maps(range(len(run.pairs)))
    sides = [side for pair in maps for side in (pair.query, pair.gallery)]
    return {
        "query": run.pairs.query,
        "gallery": run.pairs.gallery,
        "rank": run.pairs.rank,
        "similarity": run.pairs.similarity,
        "distance": run.pairs.distance,
        "outcome": run.pairs.outcome,
        "remainders": run.remainders,
        "sfam": np.stack([side.maps["sfam"] for side in sides]),
        "evidence": np.stack([side.maps["evidence"] for side in sides]),
        "score": np.array([side.score for side in sides]),
        "embeddings": run.embeddings(),
    }


def assert_same_numbers(one, other, atol=1e-6):
    first, second = stored_numbers(one), stored_numbers(other)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=atol, err_msg=name)


def interrupt_after(calls, phase):
    """Make a progress callback that interrupts the run."""
    left = [calls]

    def progress(_done, _total, now):
        if now == phase:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    return progress
