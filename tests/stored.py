"""What runs have stored, to be compared, and runs that are interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import field_paths


def stored_blobs(dataset: fo.Dataset) -> int:
    """Count all blobs that are stored for a dataset."""
    query = {"metadata.dataset_id": str(dataset._doc.id)}
    return get_db_conn()[f"{BUCKET}.files"].count_documents(query)


def numbers_of(run: Run) -> dict[str, Any]:
    """Return all numbers and names that a run has stored, but those of the samples."""
    numbers: dict[str, Any] = {
        f"pairs.{field.name}": getattr(run.pairs, field.name) for field in fields(Pairs)
    }
    numbers["items.sample_ids"] = run.items.sample_ids
    numbers["items.identities"] = run.items.identities
    numbers["items.cameras"] = run.items.cameras
    numbers["remainders"] = run.remainders
    numbers["embeddings"] = run.embeddings()
    maps = list(run.many_maps(range(len(run.pairs))))
    for side in ("query", "gallery"):
        sides = [getattr(pair, side) for pair in maps]
        for kind in run.config.kinds:
            numbers[f"{side}.{kind}"] = np.stack([side.maps[kind] for side in sides])
        numbers[f"{side}.score"] = np.array([side.score for side in sides])
    return numbers


def stored_numbers(dataset: fo.Dataset, key: str) -> dict[str, Any]:
    """Return everything that a run has stored, but its key and its time."""
    numbers = numbers_of(load_run(dataset, key))
    heatmap, score, outcome, neighbors = field_paths(dataset, key, None)
    numbers["field.heatmap"] = np.stack(
        [label.map for label in dataset.exists(heatmap).values(heatmap)]
    )
    for path in (score, outcome):
        numbers["field" + path.removeprefix(key)] = dataset.values(path)
    for name in ("label", "confidence", "rank", "outcome", "neighbor_id", "distance"):
        path = f"{neighbors}.classifications.{name}"
        numbers[f"field.{name}"] = dataset.values(path)
    return numbers


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that two runs have stored the same, bit for bit."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == expected[name].dtype, name
            assert value.tobytes() == expected[name].tobytes(), name
        else:
            assert value == expected[name], name


def assert_close(actual: Run, expected: Run, atol: float = 1e-6) -> None:
    """Assert that two runs have the same pairs, and close numbers."""
    numbers = numbers_of(expected)
    for name, values in numbers_of(actual).items():
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            np.testing.assert_allclose(
                values, numbers[name], rtol=1e-7, atol=atol, err_msg=name
            )
        else:
            np.testing.assert_array_equal(values, numbers[name], err_msg=name)


def interrupt_after(calls: int, phase: str) -> Callable[[int, int, str], None]:
    """Make a progress callback that interrupts the run."""
    left = calls

    def progress(_done: int, _total: int, now: str) -> None:
        nonlocal left
        if now == phase:
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    return progress
