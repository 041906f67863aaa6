"""Updating a run: the result is a new run's, and only what changed is computed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError, SfamError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.review.verdicts import get_verdicts, set_verdict
from fiftyone_sfam.runs.run import Run, list_runs, load_run
from worlds import (
    HEIGHT,
    REID,
    WIDTH,
    PassCounter,
    fill,
    fill_frames,
    person,
    tiny_model,
)


class ExactNet(nn.Module):
    """Whole numbers in double precision, so that no stored number is rounded twice.

    The last bits of other networks depend on how many images are in a batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.neck = nn.Linear(8, 5)
        random = np.random.default_rng(0)
        for parameter in self.parameters():
            values = random.integers(-1, 2, size=parameter.shape)
            parameter.data = torch.tensor(values, dtype=torch.float64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.neck(torch.relu(self.body(images.double())).mean((2, 3)))


def exact_model() -> EmbeddingModel:
    whole = Preprocessing(size=(HEIGHT, WIDTH), mean=(0,) * 3, std=(1,) * 3, scale=1)
    return EmbeddingModel(ExactNet().eval(), whole, name="exact")


OPTIONS: dict[str, Any] = {
    "k": 2,
    "protocol": REID,
    "batch_size": 3,
    "num_workers": 0,
}


def stored(run: Run) -> dict[str, bytes]:
    """The bytes of each blob of a run."""
    bucket = run.store._bucket
    names = sorted(run.store.names())
    return {name: bucket.get(f"{run.config.uid}/{name}").read() for name in names}


def published(run: Run) -> list[Any]:
    """The fields of the samples, or of their detections."""
    dataset, field = run.dataset, run.config.patches_field
    heatmaps = [
        None if value is None else value.tolist()
        for value in dataset.values(f"{run.key}.map")
    ]
    if field is not None:
        path = f"{field}.detections.{run.key}"
        names = ("score", "outcome", "neighbor", "neighbor_id")
        return [heatmaps, *(dataset.values(f"{path}_{name}") for name in names)]
    neighbors = f"{run.key}_neighbors.classifications"
    return [
        heatmaps,
        dataset.values(f"{run.key}_score"),
        dataset.values(f"{run.key}_outcome"),
        *(dataset.values(f"{neighbors}.{n}") for n in ("neighbor_id", "confidence")),
    ]


def config_of(run: Run) -> dict[str, Any]:
    return {name: value for name, value in vars(run.config).items() if name != "uid"}


def assert_fresh(dataset: fo.Dataset, run: Run, **options: Any) -> None:
    """Compare a run with a new one of the same images."""
    fresh = explain_retrieval(dataset, exact_model(), key="fresh", **options)
    assert config_of(run) == config_of(fresh)
    assert stored(run) == stored(fresh)
    assert published(run) == published(fresh)


def add(dataset: fo.Dataset, folder: Path, identity: int, shot: int) -> fo.Sample:
    path = folder / f"{uuid.uuid4().hex}.png"
    person(identity, shot).save(path)
    sample = fo.Sample(
        filepath=str(path),
        identity=f"p{identity}",
        camera=f"c{shot % 3}",
        split="query" if shot % 3 == 0 else "gallery",
    )
    dataset.add_sample(sample)
    return sample


# --------------------------------------------------------------------------------------
# Equal to a new run
# --------------------------------------------------------------------------------------

EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5), st.integers(3, 8)),
        st.tuples(st.just("delete"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("relabel"), st.integers(0, 99), st.integers(0, 5)),
        st.tuples(st.just("repaint"), st.integers(0, 99), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=5,
)


def edit(dataset: fo.Dataset, folder: Path, edits: list[tuple[str, int, int]]) -> None:
    for kind, number, other in edits:
        if kind == "add":
            add(dataset, folder, number, other)
            continue
        sample = dataset.skip(number % len(dataset)).first()
        if kind == "delete" and len(dataset) > 6:
            dataset.delete_samples([sample.id])
        elif kind == "relabel":
            sample["identity"] = f"p{other}"
            sample.save()
        elif kind == "repaint":
            person(other, 100 + number).save(sample.filepath)
            # The clock of a file system may be coarse.
            os.utime(sample.filepath, ns=(number, number))


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@example([("add", 0, 3)], False, 0)
@given(EDITS, st.booleans(), st.sampled_from([0, 2**20]))
def test_random_edits(
    tmp_path_factory: pytest.TempPathFactory,
    edits: list[tuple[str, int, int]],
    splits: bool,
    cache_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("update")
    protocol = Protocol(
        "identity", camera_field="camera", split_field="split" if splits else None
    )
    options = {**OPTIONS, "protocol": protocol, "cache_bytes": cache_bytes}
    dataset = fill(fo.Dataset(), folder)
    try:
        explain_retrieval(dataset, exact_model(), **options)
        edit(dataset, folder, edits)
        assume(not splits or "query" in dataset.distinct("split"))
        run = explain_retrieval(dataset, exact_model(), update=True, **options)
        assert_fresh(dataset, run, **options)
        assert list_runs(dataset) == ["fresh", "sfam"]
    finally:
        dataset.delete()


@pytest.mark.parametrize(
    "more",
    [
        {"contributions": "int8"},
        {"contributions": "float16", "contribution_dims": 3},
        {"kinds": ("evidence",), "map_dtype": "float32"},
        {"protocol": Protocol("identity"), "k": 4},
    ],
)
def test_other_options(world: fo.Dataset, tmp_path: Path, more: dict[str, Any]) -> None:
    options = {**OPTIONS, **more}
    explain_retrieval(world, exact_model(), **options)
    edit(world, tmp_path, [("add", 5, 3), ("delete", 4, 0), ("repaint", 7, 1)])
    run = explain_retrieval(world, exact_model(), update=True, **options)
    assert_fresh(world, run, **options)


def test_other_networks_are_equal_up_to_rounding(
    world: fo.Dataset, tmp_path: Path
) -> None:
    options = {**OPTIONS, "map_dtype": "float32"}
    explain_retrieval(world, tiny_model(), **options)
    edit(world, tmp_path, [("add", 5, 3), ("delete", 4, 0), ("repaint", 7, 1)])
    run = explain_retrieval(world, tiny_model(), update=True, **options)
    fresh = explain_retrieval(world, tiny_model(), key="fresh", **options)
    for name in ("query", "gallery", "rank", "outcome"):
        expected = getattr(fresh.pairs, name)
        np.testing.assert_array_equal(getattr(run.pairs, name), expected)
    sides = [
        (one, other)
        for first, second in zip(
            run.many_maps(range(len(run.pairs))),
            fresh.many_maps(range(len(run.pairs))),
            strict=True,
        )
        for one, other in ((first.query, second.query), (first.gallery, second.gallery))
    ]
    assert len(sides) == 2 * len(run.pairs)
    for one, other in sides:
        assert one is not None
        assert other is not None
        assert (one.crop, one.size) == (other.crop, other.size)
        for kind in ("sfam", "evidence"):
            np.testing.assert_allclose(one.maps[kind], other.maps[kind], atol=1e-6)


def test_detections(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill_frames(dataset, tmp_path)
    options = {"k": 2, "patches_field": "people", "batch_size": 3, "num_workers": 0}
    options["protocol"] = Protocol("label")
    explain_retrieval(dataset, exact_model(), **options)
    sample = dataset.first()
    box = sample.people.detections[1].bounding_box
    sample.people.detections[1].bounding_box = [box[0] / 2, *box[1:]]
    sample.people.detections.pop(0)
    sample.save()
    dataset.delete_samples([dataset.last().id])
    run = explain_retrieval(dataset, exact_model(), update=True, **options)
    assert len(run.items) == 8
    assert_fresh(dataset, run, **options)


def test_given_embeddings_that_have_changed(world: fo.Dataset) -> None:
    vectors = explain_retrieval(
        world, exact_model(), key="first", **OPTIONS
    ).embeddings()
    world.set_values("vector", list(vectors))
    options = {**OPTIONS, "embeddings": "vector"}
    explain_retrieval(world, exact_model(), **options)
    # Within what is accepted, so that the maps are those of other numbers.
    vectors[3] *= np.float32(1.5)
    world.set_values("vector", list(vectors))
    run = explain_retrieval(world, exact_model(), update=True, **options)
    assert_fresh(world, run, **options)


def test_images_that_cannot_be_read(world: fo.Dataset, tmp_path: Path) -> None:
    broken, lost = world.limit(2).values("filepath")
    Path(broken).write_bytes(b"no image")
    explain_retrieval(world, exact_model(), **OPTIONS)
    person(0, 0).save(broken)
    Path(lost).unlink()
    run = explain_retrieval(world, exact_model(), update=True, **OPTIONS)
    assert [image.filepath for image in run.skipped] == [lost]
    assert_fresh(world, run, **OPTIONS)


# --------------------------------------------------------------------------------------
# Only what changed
# --------------------------------------------------------------------------------------


def changed(dataset: fo.Dataset, before: Run, options: dict[str, Any]) -> int:
    """Count the images that have other pairs than in another run."""
    fresh = explain_retrieval(dataset, exact_model(), key="fresh", **options)

    def pairs(run: Run) -> set[tuple[str, str]]:
        ids = run.items.ids
        return {
            (str(ids[query]), str(ids[gallery]))
            for query, gallery in zip(run.pairs.query, run.pairs.gallery, strict=True)
        }

    now = pairs(fresh)
    other = {image for pair in now ^ pairs(before) for image in pair}
    return len(other & {image for pair in now for image in pair})


def passes(dataset: fo.Dataset, options: dict[str, Any]) -> int:
    model = exact_model()
    counter = PassCounter(model)
    explain_retrieval(dataset, model, update=True, **options)
    return counter.images


def test_nothing_is_computed_if_nothing_changed(world: fo.Dataset) -> None:
    first = explain_retrieval(world, exact_model(), update=True, **OPTIONS)
    assert passes(world, OPTIONS) == 0
    assert load_run(world, "sfam").config == first.config


def test_new_labels_alone(world: fo.Dataset) -> None:
    """No image has a new pair: only the check of the model passes an image."""
    options = {**OPTIONS, "protocol": Protocol("identity")}
    explain_retrieval(world, exact_model(), **{**options, "k": 11})
    sample = world.first()
    sample["identity"] = "p3"
    sample.save()
    options["k"] = 11
    assert passes(world, options) == 1
    run = load_run(world, "sfam")
    assert run.items.identities[0] == "p3"
    assert_fresh(world, run, **options)


@pytest.mark.parametrize("edits", [[("add", 0, 3)], [("delete", 2, 0)]])
def test_passes_are_those_of_images_with_other_pairs(
    world: fo.Dataset, tmp_path: Path, edits: list[tuple[str, int, int]]
) -> None:
    options = {**OPTIONS, "cache_bytes": 0}
    before = explain_retrieval(world, exact_model(), **options)
    edit(world, tmp_path, edits)
    count = changed(world, before, options)
    assert 0 < count < len(world)
    new = sum(kind == "add" for kind, *_ in edits)
    # One image shows that the model is the same; a new one is embedded first.
    assert passes(world, options) == 1 + new + count


def test_a_new_image_that_is_nobodys_neighbor(
    world: fo.Dataset, tmp_path: Path
) -> None:
    """In the gallery it changes nothing: it is embedded, and that is all."""
    protocol = Protocol("identity", split_field="split")
    options = {**OPTIONS, "k": 1, "cache_bytes": 0, "protocol": protocol}
    before = explain_retrieval(world, exact_model(), **options)
    add(world, tmp_path, 5, 4)
    assert changed(world, before, options) == 0
    assert passes(world, options) == 2
    assert_fresh(world, load_run(world, "sfam"), **{**options, "overwrite": True})


# --------------------------------------------------------------------------------------
# Around it
# --------------------------------------------------------------------------------------


def test_verdicts_are_kept_and_deleted_images_go(
    world: fo.Dataset, tmp_path: Path
) -> None:
    run = explain_retrieval(world, exact_model(), **OPTIONS)
    pair = int(run.pairs.of_query(5)[0])
    set_verdict(run, pair, "fine")
    ids = run.items.ids
    gone = next(i for i in range(12) if i not in (5, run.pairs.gallery[pair]))
    world.delete_samples([str(ids[gone])])
    uid = run.config.uid
    run = explain_retrieval(world, exact_model(), update=True, **OPTIONS)
    assert str(ids[gone]) not in set(map(str, run.items.ids))
    assert [verdict.text for verdict in get_verdicts(run).values()] == ["fine"]
    run.store.uid, new = uid, run.store.uid
    assert run.store.names() == set()
    run.store.uid = new


def test_an_update_is_resumed(world: fo.Dataset, tmp_path: Path) -> None:
    explain_retrieval(world, exact_model(), **OPTIONS)
    edit(world, tmp_path, [("add", 5, 3), ("repaint", 1, 4), ("delete", 8, 0)])

    def stop(done: int, _total: int, phase: str) -> None:
        if phase == "explaining" and done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(world, exact_model(), update=True, progress=stop, **OPTIONS)
    assert len(load_run(world, "sfam").items) == 12  # as it was
    run = explain_retrieval(world, exact_model(), update=True, **OPTIONS)
    assert_fresh(world, run, **OPTIONS)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 4}, RunError, r"with other settings \(shard_images\)"),
        ({"kinds": ("sfam",)}, RunError, r"with other settings \(kinds\), so nothing"),
        ({"overwrite": True}, DataError, "overwrite=True replaces all of it; give one"),
        ({"engine": "ray"}, DataError, "needs engine='local', but engine is 'ray'"),
    ],
)
def test_what_cannot_be_updated(
    world: fo.Dataset, change: dict[str, Any], error: type[SfamError], message: str
) -> None:
    explain_retrieval(world, exact_model(), **OPTIONS)
    world.delete_samples([world.first().id])
    with pytest.raises(error, match=message):
        explain_retrieval(world, exact_model(), update=True, **{**OPTIONS, **change})


def test_other_models(world: fo.Dataset) -> None:
    explain_retrieval(world, tiny_model(preprocess=upright), **OPTIONS)
    world.delete_samples([world.first().id])

    def update(model: Any) -> None:
        explain_retrieval(world, model, update=True, **OPTIONS)

    with pytest.raises(RunError, match=r"\(model, weights_hash\)"):
        update(tiny_model(seed=1, preprocess=upright))
    with pytest.raises(RunError, match="layer, output or preprocessing"):
        update(tiny_model(layer="stem", preprocess=upright))
    # A function of the same name that does something else.
    other = lambda image: -upright(image)  # noqa: E731
    other.__qualname__ = upright.__qualname__
    with pytest.raises(RunError, match="another embedding than in the run 'sfam'"):
        update(tiny_model(preprocess=other))
    update(tiny_model(preprocess=upright))


def upright(image: Any) -> Any:
    """Prepare an image without a description of how."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.5


def test_a_run_of_an_earlier_version(world: fo.Dataset) -> None:
    from dataclasses import replace

    from fiftyone_sfam.runs.run_config import record_run

    run = explain_retrieval(world, tiny_model(), **OPTIONS)
    record_run(world, "sfam", replace(run.config, model_digest=None))
    world.delete_samples([world.first().id])
    with pytest.raises(RunError, match="made by an earlier version"):
        explain_retrieval(world, tiny_model(), update=True, **OPTIONS)
