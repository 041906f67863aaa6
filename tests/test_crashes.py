"""A run that is killed: at any of its writes, nothing is half done, and it goes on.

Writes are all that a process leaves behind. FIFTYONE_SFAM_KILLS says how many of them
are tried; ``make soak`` tries each, before and after.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from app_support import stored_numbers
from crash_support import CrashWorld, crash_world
from fiftyone_sfam.explain import explain_retrieval
from fiftyone_sfam.runs import delete_run, list_runs
from worlds import tiny_model

KILLS = int(os.environ.get("FIFTYONE_SFAM_KILLS", "18"))
SEED = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashWorld]:
    with crash_world(tmp_path_factory.mktemp("crashes")) as world:
        yield world


def trials(writes: int, count: int, seed: int) -> list[tuple[int, bool]]:
    """Writes to be killed at, spread over all: before one, or after it."""
    every = list(itertools.product(range(1, writes + 1), (False, True)))
    generator = np.random.default_rng(seed)
    edges = np.linspace(0, len(every), min(count, len(every)) + 1).astype(int)
    return [
        every[int(generator.integers(low, max(high, low + 1)))]
        for low, high in itertools.pairwise(edges)
    ]


def test_killed_at_any_write(world: CrashWorld) -> None:
    whole = world.worker.do(world.name)
    assert whole.status == 0
    writes = whole.writes
    delete_run(world.fresh(), "sfam")
    phases = set()
    for write, after in trials(len(writes), KILLS, SEED):
        # Shown when it fails.
        print(write, after, writes[write - 1])
        killed = world.worker.do(world.name, write=write, after=after)
        assert killed.status == -signal.SIGKILL
        phases.add(phase_of(writes[write - 1]))
        world.check_after_crash()
        world.check_rerun()
    wanted = {"embeddings", "maps", "pairs", "record", "fields", "result"}
    assert KILLS < 18 or wanted <= phases


def test_killed_while_another_run_is_replaced(world: CrashWorld) -> None:
    def old_run() -> None:
        explain_retrieval(world.fresh(), tiny_model(1), k=1)

    old_run()
    before = stored_numbers(world.fresh(), "sfam")
    whole = world.worker.do(world.name, overwrite=True)
    assert whole.status == 0
    writes = whole.writes
    delete_run(world.fresh(), "sfam")
    for write, after in trials(len(writes), KILLS // 2, SEED + 1):
        print(write, after, writes[write - 1])
        old_run()
        killed = world.worker.do(world.name, write=write, after=after, overwrite=True)
        assert killed.status == -signal.SIGKILL
        world.check_after_crash(before)
        world.check_rerun()


def test_killed_while_a_run_is_deleted(world: CrashWorld) -> None:
    assert world.worker.do(world.name).status == 0
    whole = world.worker.do(world.name, "delete")
    assert whole.status == 0
    writes = whole.writes
    for write, after in trials(len(writes), KILLS // 4, SEED + 2):
        print(write, after, writes[write - 1])
        assert world.worker.do(world.name).status == 0
        killed = world.worker.do(world.name, "delete", write, after=after)
        assert killed.status == -signal.SIGKILL
        world.check_after_crash()
        world.check_rerun()
    assert list_runs(world.fresh()) == ["other"]


def phase_of(write: str) -> str:
    """Name what a run was doing."""
    blob = re.search(r"/(\w+?)(-|$)", write)
    if blob is not None:
        return {"table": "pairs"}.get(blob[1], blob[1])
    if "update samples." in write:
        return "fields"
    return "record" if "runs" in write else "schema"
