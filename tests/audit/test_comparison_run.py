"""Two demo networks, of which one has lost its shortcut: the wall is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fiftyone_sfam import explain_retrieval
from fiftyone_sfam.audit.comparison.compare import (
    Comparison,
    compare_runs,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.runs.run import Run
from robust_demo import robust_model, walled_crops

PROTOCOL = Protocol("identity", camera_field="camera")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    dataset = walled_crops(tmp_path_factory.mktemp("crops"))
    options = {"k": 5, "protocol": PROTOCOL, "kinds": ["evidence"]}
    yield (
        explain_retrieval(dataset, "demo", key="plain", **options),
        explain_retrieval(dataset, robust_model(), key="robust", **options),
    )
    dataset.delete()


@pytest.fixture(scope="module")
def compared(runs: tuple[Run, Run]) -> Comparison:
    return compare_runs(*runs, slices=["striking", "view"])


def test_the_wall_is_named(compared: Comparison) -> None:
    assert compared.field == "scene"
    assert compared.regions[0].region == "wall"
    assert compared.regions[0].difference.high < 0
