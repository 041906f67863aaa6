"""Importing stays light, and the public names resolve.

Which module may import which is held by import-linter, see `make lint`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import fiftyone_sfam


@pytest.mark.parametrize(
    "statement",
    [
        "import fiftyone_sfam",
        "import fiftyone_sfam.cli.entry",
        "import fiftyone_sfam.app.entry",
        "import fiftyone_sfam.app.install",
    ],
)
def test_import_brings_neither_torch_nor_fiftyone(statement: str) -> None:
    code = f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout))
    assert modules & {"torch", "torchvision", "fiftyone", "numpy"} == set()


def test_registration_does_not_import_torch() -> None:
    code = "import sys, fiftyone_sfam.app.registration; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("name", sorted(set(fiftyone_sfam.__all__) - {"__version__"}))
def test_public_name_resolves(name: str) -> None:
    assert getattr(fiftyone_sfam, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fiftyone_sfam' has no attribute 'sfan'"):
        _ = fiftyone_sfam.sfan
