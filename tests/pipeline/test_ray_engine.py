"""The engine on a Ray cluster: a real one, of two workers on this machine."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from fiftyone.core.odm import get_db_conn
from PIL import Image

from fiftyone_sfam.attribution.map_share import median_share
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.engines.ray_engine import cause_of_death
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.run import Run
from networks import SideInformation
from paths import TESTS
from worlds import HEIGHT, REID, WIDTH, fill, fill_frames, tiny_model

TASK = {"num_workers": 2, "cpus_per_worker": 0.5, "shards_per_task": 1}
# Where one is enough: a worker takes seconds to start.
ONE = {**TASK, "num_workers": 1}
NICENESS = "RAY_worker_niceness"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Ray lets workers yield to everything else, which on a busy machine is to starve.
    os.environ[NICENESS] = "0"
    # The tests' own modules are not installed where the workers look.
    folders = str(TESTS), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(folders)
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
    del os.environ[NICENESS]


@pytest.fixture
def world(dataset, tmp_path):
    return fill(dataset, tmp_path, identities=8)


def stored(run: Run) -> dict[str, bytes]:
    """Return the bytes of everything that is stored of a run, by name."""
    names = run.store.names()
    bucket = run.store._bucket
    return {name: bucket.get(f"{run.config.uid}/{name}").read() for name in names}


def on_ray(samples, model, key="ray", workers=TASK, **options):
    options = {"k": 3, "protocol": REID, "batch_size": 4, **options}
    return explain_retrieval(
        samples, model, key=key, engine="ray", engine_options=workers, **options
    )


def locally(samples, model, key="local", **options):
    options = {"k": 3, "protocol": REID, "batch_size": 4, **options}
    return explain_retrieval(samples, model, key=key, **options)


@dataclass(frozen=True)
class Deadly(Preprocessing):
    """Kills its process when it meets an image of one identity's color.

    As often as there are files to take away; each counts a death.
    """

    lives: str = ""
    color: tuple[int, int, int] = (0, 0, 0)

    def __call__(self, image):
        if image.getpixel((0, 0)) == self.color:
            lives = sorted(Path(self.lives).iterdir())
            if lives:
                lives[0].unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


def deadly_model(sample, lives: Path, deaths: int):
    """A model that dies some times over the image of a sample, then no more."""
    color = (1, 2, 3)
    with Image.open(sample.filepath) as image:
        image.putpixel((0, 0), color)
        image.save(sample.filepath)
    lives.mkdir()
    preprocess = Deadly(size=(HEIGHT, WIDTH), lives=str(lives), color=color)
    model = tiny_model(preprocess=preprocess)
    # This process has to survive it, and reads the first image alone.
    for number in range(deaths):
        (lives / str(number)).touch()
    return model


def test_further_inputs_from_fields(world):
    world.set_values("camera_index", [index % 3 for index in range(24)])
    world.set_values("time", [1 + index / 24 for index in range(24)])
    torch.manual_seed(0)
    model = EmbeddingModel(
        SideInformation(),
        Preprocessing((HEIGHT, WIDTH)),
        inputs={"cam_label": "camera_index", "hour": "time"},
    )
    assert stored(on_ray(world, model)) == stored(locally(world, model))


def test_everything_stored_is_the_same_to_the_bit(world):
    Path(world.skip(5).first().filepath).write_bytes(b"no image")
    reports = []
    # Feature maps are kept by nobody, by this process, and by the workers.
    twice = locally(world, tiny_model(), "twice", cache_bytes=0)
    kept = locally(world, tiny_model(), "kept")
    run = on_ray(world, tiny_model(), progress=lambda *report: reports.append(report))
    expected = stored(twice)
    first = twice.store.get("maps-000000")
    assert len([name for name in expected if name.startswith("maps-")]) == 6
    for other in (kept, run):
        found = stored(other)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
    assert run.config.layer == kept.config.layer == "body"
    shares = [one.config.share_on_map for one in (twice, kept, run)]
    assert shares == [median_share(first["score"], first["remainder"])] * 3
    assert [one.index for one in run.skipped] == [5]
    explaining = [report[:2] for report in reports if report[2] == "explaining"]
    assert sorted(explaining) == explaining
    assert (len(explaining), explaining[-1]) == (6, (23, 23))
    assert world.values("kept_score") == world.values("ray_score")


def test_maps_along_paths_are_the_same_to_the_bit(world):
    options = {"kinds": ("best", "path", "evidence"), "batch_size": 20}
    expected = stored(locally(world, tiny_model(), **options))
    assert {"paths-000000", "paths-000001"} <= expected.keys()
    assert stored(on_ray(world, tiny_model(), **options)) == expected


def test_the_choice_and_the_check_are_the_same(world):
    options = {"layer": "auto", "kinds": ["evidence", "path"], "path_pairs": "all"}
    options |= {"k": 15}
    far, here = on_ray(world, "demo", **options), locally(world, "demo", **options)
    assert far.config.chosen == here.config.chosen
    assert far.config.chosen["pairs"] >= 16
    assert far.config.layer == here.config.layer
    assert far.config.map_check == here.config.map_check
    assert far.map_check.queries >= 16
    # A name with another layer than the model's own reaches the workers as well.
    options = {"layer": "features.11", "kinds": ["evidence"]}
    far = on_ray(world, "demo", key="far", **options)
    here = locally(world, "demo", key="here", **options)
    assert far.config.layer == "features.11"
    assert stored(far) == stored(here)


def test_contributions_are_the_same_to_the_bit(world):
    options = {"k": 1, "contributions": "int8", "contribution_dims": 3}
    here = locally(world, tiny_model(), cache_bytes=0, **options)
    run = on_ray(world, tiny_model(), **options)
    expected, found = stored(here), stored(run)
    assert len([name for name in found if name.startswith("contributions-")]) == 6
    assert found == expected
    assert run.config.contribution_agreement == here.config.contribution_agreement
    assert run.config.contribution_bytes == here.config.contribution_bytes
    ids = [str(run.items.ids[item]) for item in (0, 23)]
    assert run.explain_stored(*ids).score == here.explain_stored(*ids).score


def test_detections_and_stored_embeddings(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    options = {
        "protocol": Protocol(identity_field="label"),
        "patches_field": "people",
        "embeddings": "vector",
    }
    vectors = locally(
        dataset, tiny_model(), "first", **{**options, "embeddings": None}
    ).embeddings()
    for sample, own in zip(dataset, vectors.reshape(4, 3, 5), strict=True):
        for detection, vector in zip(sample.people.detections, own, strict=True):
            detection["vector"] = vector.tolist()
        sample.save()
    one = locally(dataset, tiny_model(), **options)
    other = on_ray(dataset, tiny_model(), workers=ONE, **options)
    assert stored(one) == stored(other)


def test_a_killed_workers_shards_are_done_again_and_nothing_twice(world, tmp_path):
    """Killed once while it embeds, and once while it explains what it had not kept."""
    files = get_db_conn()[f"{BUCKET}.files"]
    sample = world.skip(10).first()
    model = deadly_model(sample, tmp_path / "lives", deaths=1)
    written = {}

    def progress(_done, _total, phase):
        if phase == "explaining" and not written:
            assert list((tmp_path / "lives").iterdir()) == []
            (tmp_path / "lives" / "again").touch()
        for blob in files.find({"metadata.dataset_id": str(world._doc.id)}):
            # Nothing that was once written is written again.
            then = written.setdefault(blob["_id"], blob["uploadDate"])
            assert then == blob["uploadDate"]

    run = on_ray(world, model, cache_bytes=0, progress=progress)
    assert list((tmp_path / "lives").iterdir()) == []
    expected, found = stored(locally(world, model, cache_bytes=0)), stored(run)
    assert found == expected
    assert len(written) >= 12
    chunks = get_db_conn()[f"{BUCKET}.chunks"]
    prefix = {"$regex": f"^{run.config.uid}/"}
    assert chunks.count_documents({"files_id": prefix}) == len(found)


def test_a_shard_that_kills_every_worker_ends_the_run_and_leaves_it_to_be_gone_on_with(
    world, tmp_path
):
    model = deadly_model(world.last(), tmp_path / "lives", deaths=3)
    with pytest.raises(RunError, match="3 workers died one after the other over the 1"):
        on_ray(world, model, key="sfam", workers=ONE)
    assert world.list_runs() == []
    # It dies while it embeds the last of six blocks; the other five are there.
    files = get_db_conn()[f"{BUCKET}.files"]
    own = {"metadata.dataset_id": str(world._doc.id)}
    written = {one["_id"]: one["uploadDate"] for one in files.find(own)}
    assert sorted(name.split("/")[1] for name in written) == [
        f"embeddings-00000{number}" for number in range(5)
    ]
    # Nor does a cluster that cannot be used now take them away.
    with pytest.raises(DataError, match="has room for 2 workers"):
        on_ray(world, model, key="sfam", workers={"num_workers": 3})
    # Nothing kills it now, and this process goes on where the cluster stopped.
    done = []
    run = locally(world, model, "sfam", progress=lambda *report: done.append(report))
    assert done[0] == (4, 24, "embedding")
    assert files.distinct("metadata.uid", own) == [run.config.uid]
    after = {one["_id"]: one["uploadDate"] for one in files.find(own)}
    assert {name: after[name] for name in written} == written


@pytest.mark.parametrize(
    ("missing", "cause"),
    [
        ([[4, 5], [6]], [4, 5]),
        # The first task is stored; its worker died over the second one.
        ([[], [6], [7]], [6]),
        # It died when all was done.
        ([[], []], []),
        ([], []),
    ],
)
def test_a_worker_dies_over_its_first_unfinished_task(missing, cause):
    assert cause_of_death(missing) == cause


def test_what_goes_wrong_at_a_worker_is_said_as_here(world):
    wrong = np.random.default_rng(0).normal(size=(24, 5))
    with pytest.raises(DataError) as here:
        locally(world, tiny_model(), embeddings=wrong)
    with pytest.raises(DataError) as there:
        on_ray(world, tiny_model(), workers=ONE, embeddings=wrong)
    assert str(there.value) == str(here.value)
    assert "do not match model 'tiny-0': 16 of the first 16" in str(there.value)
    query = {"metadata.dataset_id": str(world._doc.id)}
    assert get_db_conn()[f"{BUCKET}.files"].count_documents(query) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "has no option 'workers'; its options are num_workers, cpus"),
        ({"num_workers": 0}, "num_workers is 0; a whole number from 1 is needed"),
        ({"gpus_per_worker": -1}, "gpus_per_worker is -1; a number from 0 is needed"),
        ({"cpus_per_worker": 0}, "so that no worker can run"),
        (
            {"num_workers": 3},
            "has room for 2 workers of 1 CPU and 0 GPU each, not for 3",
        ),
        ({"gpus_per_worker": 1}, "has room for 0 workers of 1 CPU and 1 GPU each"),
    ],
)
def test_options_that_cannot_be(world, options, message):
    with pytest.raises(DataError, match=message):
        explain_retrieval(world, tiny_model(), engine="ray", engine_options=options)
    query = {"metadata.dataset_id": str(world._doc.id)}
    assert get_db_conn()[f"{BUCKET}.files"].count_documents(query) == 0


def test_unknown_engines_and_options_of_another(world):
    with pytest.raises(DataError, match="unknown engine 'dask'; use one of local, ray"):
        explain_retrieval(world, tiny_model(), engine="dask")
    with pytest.raises(DataError, match="'local' has no options, but num_workers were"):
        explain_retrieval(world, tiny_model(), engine_options={"num_workers": 2})
