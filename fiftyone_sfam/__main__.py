"""``python -m fiftyone_sfam``."""

from __future__ import annotations

import sys

from fiftyone_sfam.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
