"""The file that FiftyOne executes to load the plugin.

FiftyOne executes it every time it builds its registry, under another module name, so no
class may be defined here: all classes come from the package.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def _ensure_importable() -> None:
    # An installed package comes first, so that the App and the SDK share their classes.
    # A folder that only has its name (a namespace package) has no origin.
    spec = find_spec("fiftyone_sfam")
    if spec is not None and spec.origin is not None:
        return
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "fiftyone_sfam" / "__init__.py").is_file():
        raise ImportError(
            f"The plugin in {folder} needs the package fiftyone-sfam, which is not "
            "installed in the Python environment that runs FiftyOne: install it there "
            "with pip, or remove this folder."
        )
    sys.path.append(str(folder))


def register(plugin: Any) -> None:
    """Register the package's operators and panels."""
    _ensure_importable()
    from fiftyone_sfam.app.registration import OPERATORS, PANELS

    for cls in (*OPERATORS, *PANELS):
        plugin.register(cls)
