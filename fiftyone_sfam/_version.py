"""The version of the package, which the plugin's manifest has."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_LINE = re.compile(r'^version: "([^"]+)"$', re.MULTILINE)


def _read() -> str:
    """Read the manifest: a wheel has it inside, a checkout beside the package."""
    files = (_PACKAGE / "app" / "fiftyone.yml", _PACKAGE.parent / "fiftyone.yml")
    for file in files:
        found = _LINE.search(file.read_text("utf-8")) if file.is_file() else None
        if found is not None:
            return found[1]
    raise ImportError(
        f"there is no fiftyone.yml with a version in {_PACKAGE} or beside it; install "
        "fiftyone-sfam again."
    )


__version__ = _read()
