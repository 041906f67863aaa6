"""A database of a benchmark's own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def isolated_database(name: str) -> Iterator[Path]:
    """Give FiftyOne a database and folders of its own, before it is imported.

    Parameters
    ----------
    name : str
        Beginning of the database's name.

    Yields
    ------
    Path
        An empty folder that is deleted afterwards.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}_"))
    # Registered before FiftyOne's own exit handlers, which end its database, and so
    # called after them.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "sfam").symlink_to(Path(__file__).resolve().parents[1])
    os.environ.setdefault("FIFTYONE_DATABASE_DIR", str(folder / "db"))
    os.environ["FIFTYONE_DATABASE_NAME"] = f"{name}_{os.getpid()}"
    os.environ["FIFTYONE_PLUGINS_DIR"] = str(plugins)
    os.environ["FIFTYONE_DEFAULT_DATASET_DIR"] = str(folder / "data")
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    import fiftyone.core.odm as foo

    try:
        yield folder
    finally:
        foo.drop_database()
