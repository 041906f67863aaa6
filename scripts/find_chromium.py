"""Find a Chromium for the browser tests; printed when run as a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

NAMES = (
    # The same Chromium without windows: less work where there is no graphics card.
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def find_chromium() -> str | None:
    """Return the first Chromium or Chrome that runs, ``$CHROMIUM`` first."""
    return next((path for path in _candidates() if _runs(path)), None)


def _candidates() -> Iterator[str]:
    if os.environ.get("CHROMIUM"):
        # Whoever names a browser wants that one, or to hear that it does not run.
        yield os.environ["CHROMIUM"]
        return
    for name in NAMES:
        path = shutil.which(name)
        if path:
            yield path


def _runs(path: str) -> bool:
    # Ubuntu's /usr/bin/chromium-browser without snap exists and exits non-zero.
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    found = find_chromium()
    if found is None:
        sys.exit(1)
    print(found)
