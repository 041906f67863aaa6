"""What tests of verdicts share: what is recorded and shown."""

from __future__ import annotations

import os
import subprocess
import sys

from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.review.verdicts import get_verdicts
from paths import ROOT, TESTS
from worlds import REID, tiny_model


def explain(samples, key="sfam", **options):
    return explain_retrieval(
        samples, tiny_model(), key=key, **{"k": 2, "protocol": REID, **options}
    )


def explain_people(samples, key="sfam", **options):
    protocol = Protocol(identity_field="label")
    return explain(samples, key, protocol=protocol, patches_field="people", **options)


def ids_of(run, pair) -> tuple[str, str]:
    ids = run.items.ids
    return str(ids[run.pairs.query[pair]]), str(ids[run.pairs.gallery[pair]])


def texts(run) -> dict[int, str]:
    return {pair: one.text for pair, one in get_verdicts(run).items()}


def shown(samples, key="sfam") -> dict[str, list[tuple[str, str]]]:
    """Return what ``KEY_verdicts`` lists: neighbor and verdict, by sample."""
    found = {}
    for sample in samples.exists(f"{key}_verdicts"):
        entries = sample[f"{key}_verdicts"].classifications
        found[sample.id] = [(one.neighbor_id, one.label) for one in entries]
    return found


def tags(samples, key="sfam") -> dict[tuple[str, str], list[str]]:
    """Return the tags of the neighbors, by query and neighbor, where there are some."""
    return {
        (sample.id, one.neighbor_id): one.tags
        for sample in samples
        for one in sample[f"{key}_neighbors"].classifications
        if one.tags
    }


def recorded(samples) -> int:
    query = {"dataset_id": samples._doc.id, "store_name": "fiftyone_sfam/verdicts"}
    return get_db_conn()["execution_store"].count_documents(query)


def in_another_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return start(code, *arguments, wait=True)


def start(code, *arguments, wait=False):
    path = os.pathsep.join(map(str, (TESTS, ROOT)))
    command = [sys.executable, "-c", code, *arguments]
    options = {"env": {**os.environ, "PYTHONPATH": path}, "text": True}
    if wait:
        return subprocess.run(
            command, capture_output=True, timeout=120, check=False, **options
        )
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)


def detections(samples):
    return {
        one.id: one for labels in samples.values("people.detections") for one in labels
    }
