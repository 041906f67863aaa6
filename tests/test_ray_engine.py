"""The engine on a Ray cluster: a real one, of two workers on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fiftyone_sfam.explain import explain_retrieval
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.runs import Run
from worlds import fill, tiny_model

ray = pytest.importorskip("ray")

REID = Protocol(identity_field="identity", camera_field="camera")
TASK = {"num_workers": 2, "cpus_per_worker": 0.5, "shards_per_task": 1}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # The tests' own modules are not installed where the workers look.
    path = os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def world(dataset, tmp_path):
    return fill(dataset, tmp_path, identities=8)


def stored(run: Run) -> dict[str, bytes]:
    """Return the bytes of everything that is stored of a run, by name."""
    names = run.store.names()
    bucket = run.store._bucket
    return {name: bucket.get(f"{run.config.uid}/{name}").read() for name in names}


def on_ray(samples, model, key="ray", **options):
    options = {"k": 3, "protocol": REID, "batch_size": 4, **options}
    return explain_retrieval(
        samples, model, key=key, engine="ray", engine_options=TASK, **options
    )


def locally(samples, model, key="local", **options):
    options = {"k": 3, "protocol": REID, "batch_size": 4, **options}
    return explain_retrieval(samples, model, key=key, **options)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_everything_stored_is_the_same_to_the_bit(world, cache_bytes):
    Path(world.skip(5).first().filepath).write_bytes(b"no image")
    reports = []
    one = locally(world, tiny_model(), cache_bytes=cache_bytes)
    other = on_ray(
        world,
        tiny_model(),
        cache_bytes=cache_bytes,
        progress=lambda *report: reports.append(report),
    )
    first, second = stored(one), stored(other)
    assert first.keys() == second.keys()
    assert len([name for name in first if name.startswith("maps-")]) == 6
    assert [name for name in first if first[name] != second[name]] == []
    assert one.config.layer == other.config.layer == "body"
    assert [one.index for one in other.skipped] == [5]
    done = [report for report in reports if report[2] == "explaining"]
    assert [report[0] for report in done][-1] == done[0][1] == 23
    assert len(done) == 6
    assert world.values("local_score") == world.values("ray_score")
