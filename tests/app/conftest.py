"""Fixtures that the tests of operators and panels share."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import pytest

from fiftyone_sfam.runs.run import Run, load_run


@pytest.fixture
def run(crops: fo.Dataset) -> Iterator[Run]:
    """The run 'sfam' of the crops, whose results are deleted after each test."""
    run = load_run(crops, "sfam")
    yield run
    run.results.delete_all()
