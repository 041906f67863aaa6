"""What the plugin's entry costs FiftyOne, which executes it on every operator request.

Usage: ``python benchmarks/entry.py``. Prints milliseconds: the first time in a process,
when the package's modules are imported, and the median of the times after it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from isolated import isolated_database

PLUGIN = "@fiftyone-sfam/sfam"
REPEATS = 50
BOUND_MS = 20.0


def measure() -> dict[str, float | bool]:
    """Register the plugin as FiftyOne does, again and again.

    Returns
    -------
    dict
        ``entry_first_ms`` and ``entry_ms``, milliseconds, and ``entry_imports_torch``.
    """
    import fiftyone.plugins as fop
    from fiftyone.plugins.context import PluginContext

    (definition,) = (one for one in fop.list_plugins() if one.name == PLUGIN)
    torch_before = "torch" in sys.modules
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        plugin = PluginContext(definition)
        plugin.register_all()
        times.append(1000 * (time.perf_counter() - start))
        if plugin.has_errors():
            raise RuntimeError("; ".join(plugin.errors))
    return {
        "entry_first_ms": times[0],
        "entry_ms": statistics.median(times[1:]),
        "entry_imports_torch": "torch" in sys.modules and not torch_before,
    }


def main() -> int:
    """Print the figures; 1 where the bound does not hold."""
    with isolated_database("sfam_entry"):
        found = measure()
    print(json.dumps(found, indent=2))
    return int(found["entry_ms"] > BOUND_MS or bool(found["entry_imports_torch"]))


if __name__ == "__main__":
    sys.exit(main())
