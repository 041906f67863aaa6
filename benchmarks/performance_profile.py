"""Where the time of a run goes, by stage."""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

# Stages by the functions that do them; none of them calls another one's. Of earlier
# versions too: what a version has not is left out.
STAGES = {
    "waiting for images": [("pipeline.streaming", "next_block")],
    "forward": [("network.embedder", "EmbeddingModel.linearize")],
    "maps": [("pipeline.streaming", "attribute")],
    "packing": [("pipeline.streaming", "pack_maps")],
    "storing": [("runs.blobs", "BlobStore.put")],
    "neighbors": [("pipeline.passes", "find_neighbors")],
    "fields": [("pipeline.explain", "publish_fields")],
    "fingerprint": [
        ("pipeline.explain", "fingerprint_of"),
        ("network.embedder", "EmbeddingModel.weights_hash"),
    ],
}


def profiled(run: Callable[[], Any]) -> dict[str, float]:
    """Run something once; return the share of its time that each stage took.

    Parameters
    ----------
    run : callable
        Makes a run.

    Returns
    -------
    dict of str to float
        Shares by stage, the rest as ``"other"``; they add up to 1. What another thread
        does meanwhile is given as ``"beside: STAGE"``, and is none of them. The
        functions are watched from outside, in this call only.
    """
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for stage, functions in STAGES.items():
            for module, name in functions:
                stack.enter_context(_watched(module, name, stage, spent))
        start = time.perf_counter()
        run()
        total = time.perf_counter() - start
    shares = {stage: spent[stage] / total for stage in STAGES}
    beside = {
        name: value / total for name, value in spent.items() if name not in STAGES
    }
    return {**shares, "other": 1 - sum(shares.values()), **beside}


@contextmanager
def _watched(
    module: str, name: str, stage: str, spent: dict[str, float]
) -> Iterator[None]:
    """Add what a function takes to its stage, if this version has it."""
    if find_spec(f"fiftyone_sfam.{module}") is None:
        yield
        return
    owner: Any = importlib.import_module(f"fiftyone_sfam.{module}")
    *parents, attribute = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, attribute, None)
    if function is None:
        yield
        return

    watching = threading.get_ident()

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            here = threading.get_ident() == watching
            name = stage if here else f"beside: {stage}"
            spent[name] += time.perf_counter() - start

    with patch.object(owner, attribute, timed):
        yield
