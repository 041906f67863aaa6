"""Maps along paths that a run stores: those of single pairs, for chosen pairs."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch

from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.attribution.render import (
    LONG_SIDE,
    canvas_size,
    place,
    shared_range,
    to_bytes,
    top_value,
)
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.explain_pairs import explain_pairs
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from fiftyone_sfam.runs.maps import PairMaps
from fiftyone_sfam.runs.run import Run, load_run
from networks import SideInformation
from stored import interrupt_after
from worlds import (
    HEIGHT,
    REID,
    WIDTH,
    PassCounter,
    fill,
    fill_frames,
    tiny_model,
)

# 20 images in a pass are two images with the ten steps of a path of several scales.
OPTIONS: dict[str, Any] = {
    "k": 2,
    "protocol": REID,
    "kinds": ("best", "path", "evidence"),
    "map_dtype": "float32",
    "batch_size": 20,
}


def pairs_with_paths(run: Run) -> list[int]:
    """Check that both sides of a pair have the same kinds; return those with paths."""
    found = []
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        kinds = [tuple(side.maps) for side in (maps.query, maps.gallery)]
        assert kinds[0] == kinds[1]
        assert kinds[0] in (("evidence",), ("scales", "path", "evidence"))
        found += [pair] if len(kinds[0]) == 3 else []
    return found


def assert_explained(maps: PairMaps, model: EmbeddingModel, *images: Any) -> None:
    """Compare stored maps with those of the pair by itself."""
    for kind in ("scales", "path"):
        both = explain_path(model, *images, several_scales=kind == "scales")
        for side, expected in zip((maps.query, maps.gallery), both, strict=True):
            assert side is not None
            most = np.abs(expected.path).max()
            assert most > 1e-6
            np.testing.assert_allclose(
                side.maps[kind], expected.path, rtol=0, atol=1e-4 * most
            )


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_stored_maps_are_those_of_single_pairs(world, cache_bytes):
    model = tiny_model()
    run = explain_retrieval(world, model, cache_bytes=cache_bytes, **OPTIONS)
    assert run.config.kinds == ("scales", "path", "evidence")
    first = np.flatnonzero(run.pairs.rank == 1)
    assert len(first) == 12 < len(run.pairs)
    assert pairs_with_paths(run) == first.tolist()
    paths = world.values("filepath")
    for pair in first.tolist():
        ends = paths[run.pairs.query[pair]], paths[run.pairs.gallery[pair]]
        assert_explained(run.maps(pair), model, *ends)
    # Layers of the network are part of the one kind, and not of the other.
    side = run.maps(int(first[0])).query
    assert np.corrcoef(side.maps["scales"].ravel(), side.maps["path"].ravel())[0, 1] < 1


@pytest.mark.parametrize("which", ["false", "all"])
def test_pairs_that_are_chosen(world, which):
    mislabel_some(world)
    run = explain_retrieval(world, tiny_model(), path_pairs=which, **OPTIONS)
    chosen = np.ones(len(run.pairs), dtype=bool)
    if which == "false":
        chosen = (run.pairs.rank == 1) & (run.pairs.outcome == FALSE_MATCH)
        assert 0 < chosen.sum() < 12
    assert pairs_with_paths(run) == np.flatnonzero(chosen).tolist()


def mislabel_some(world: fo.Dataset) -> None:
    names = world.values("identity")
    world.set_values("identity", ["p9", *names[1:6], "p9", *names[7:]])


def test_the_heatmap_field_shows_the_first_map_of_rank_one(world):
    run = explain_retrieval(world, tiny_model(), **OPTIONS)
    assert run.config.heatmap_kind == "scales"
    first = [int(run.pairs.of_query(item)[0]) for item in range(12)]
    sides = [run.maps(pair).query for pair in first]
    full = shared_range(np.array([top_value(side.maps["scales"]) for side in sides]))
    for heatmap, side in zip(world.values("sfam.map"), sides, strict=True):
        canvas = np.zeros(canvas_size(*side.size, LONG_SIDE), dtype=np.float32)
        place(canvas, side.maps["scales"], side.crop)
        np.testing.assert_array_equal(heatmap, to_bytes(canvas, full))
    about = world.get_field("sfam").description
    assert about.startswith("scales map towards the nearest neighbor")


def test_a_heatmap_field_has_one_kind_if_some_pairs_lack_the_first(world):
    run = explain_retrieval(world, tiny_model(), path_pairs="false", **OPTIONS)
    plain = explain_retrieval(
        world, tiny_model(), key="plain", **OPTIONS | {"kinds": ("evidence",)}
    )
    assert run.config.heatmap_kind == "evidence"
    assert plain.config.path_pairs is None
    for one, other in zip(*world.values(["sfam.map", "plain.map"]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("calls", [1, 2])
def test_an_interrupted_run_is_resumed(world, calls):
    options = {**OPTIONS, "batch_size": 4, "cache_bytes": 0}
    whole = explain_retrieval(world, tiny_model(), key="whole", **options)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world,
            tiny_model(),
            progress=interrupt_after(calls, "explaining"),
            **options,
        )
    run = explain_retrieval(world, tiny_model(), **options)
    for one, other in zip(all_maps(run), all_maps(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def all_maps(run: Run) -> list[np.ndarray]:
    return [
        values
        for pair in run.many_maps(range(len(run.pairs)))
        for side in (pair.query, pair.gallery)
        for values in side.maps.values()
    ]


def test_an_update_keeps_the_maps_of_pairs_that_stay(world, tmp_path):
    options = {**OPTIONS, "batch_size": 4, "cache_bytes": 0}
    explain_retrieval(world, tiny_model(), **options)
    folder = tmp_path / "more"
    folder.mkdir()
    new = fill(fo.Dataset(), folder, identities=5)
    world.add_samples([sample.copy() for sample in new[12:]])
    new.delete()
    fresh = explain_retrieval(world, tiny_model(), key="fresh", **options)
    model = tiny_model()
    counter = PassCounter(model)
    run = explain_retrieval(world, model, update=True, **options)
    updated, counter.images = counter.images, 0
    explain_retrieval(world, model, key="again", **options)
    assert 0 < updated < counter.images / 2
    assert pairs_with_paths(run) == pairs_with_paths(fresh)
    for one, other in zip(all_maps(run), all_maps(fresh), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_an_update_does_not_change_the_pairs_that_have_paths(world):
    explain_retrieval(world, tiny_model(), **OPTIONS)
    fill_one_more(world)
    with pytest.raises(RunError, match=r"with other settings \(path_pairs\)"):
        explain_retrieval(world, tiny_model(), update=True, path_pairs="all", **OPTIONS)


def fill_one_more(world: fo.Dataset) -> None:
    sample = world.first().copy()
    world.add_sample(sample)


def test_detections_and_eight_bits(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    options = {**OPTIONS, "protocol": None, "patches_field": "people"}
    exact = explain_retrieval(dataset, tiny_model(), key="exact", **options)
    run = explain_retrieval(dataset, tiny_model(), **options | {"map_dtype": "int8"})
    assert len(pairs_with_paths(run)) == 12
    for one, other in zip(all_maps(run), all_maps(exact), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=np.abs(other).max() / 250)
    assert len(dataset.exists("sfam.map")) == 4


def test_given_pairs(world):
    model, ids = tiny_model(), world.values("id")
    listed = [(ids[0], ids[1]), (ids[0], ids[5]), (ids[3], ids[8])]
    options = {name: OPTIONS[name] for name in ("kinds", "map_dtype", "batch_size")}
    run = explain_pairs(world, model, listed, path_pairs="all", **options)
    assert pairs_with_paths(run) == [0, 1, 2]
    paths = world.values("filepath")
    assert_explained(run.maps(2), model, paths[3], paths[8])


def test_images_with_further_inputs(world):
    world.set_values("camera_index", [item % 3 for item in range(12)])
    world.set_values("time", [1 + item / 12 for item in range(12)])
    torch.manual_seed(0)
    model = EmbeddingModel(
        SideInformation(),
        Preprocessing((HEIGHT, WIDTH)),
        inputs={"cam_label": "camera_index", "hour": "time"},
        name="sie",
    )
    run = explain_retrieval(world, model, **OPTIONS)
    samples = list(world)
    for pair in pairs_with_paths(run)[::4]:
        ends = run.pairs.query[pair], run.pairs.gallery[pair]
        assert_explained(run.maps(pair), model, *(samples[item] for item in ends))


def test_maps_are_read_by_kind(world):
    explain_retrieval(world, tiny_model(), **OPTIONS)
    run = load_run(world, "sfam")
    [maps] = run.many_maps([0], ["evidence"])
    assert list(maps.query.maps) == ["evidence"]
    assert maps.query.maps["evidence"].shape == (8, 4)
    assert run.maps(0).gallery.maps["path"].shape == (HEIGHT, WIDTH)


def test_a_pairs_dataset_shows_the_first_map_of_each_pair(world):
    run = explain_retrieval(world, tiny_model(), **OPTIONS)
    pairs = run.to_pairs_dataset()
    try:
        kinds = dict(zip(*pairs.values(["pair", "map_kind"]), strict=True))
    finally:
        pairs.delete()
    expected = {
        pair: "scales" if rank == 1 else "evidence"
        for pair, rank in enumerate(run.pairs.rank.tolist())
    }
    assert kinds == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("path",)}, r"not every pair has; add 'evidence'"),
        ({"kinds": ("best", "scales", "sfam")}, r"each once \('best' is 'scales'\)"),
        ({"kinds": ("flow",)}, "choose from sfam, evidence, path, scales, each once"),
        ({"path_pairs": "some"}, "unknown path_pairs 'some'; use one of rank1, false"),
    ],
)
def test_options_that_cannot_be_used(world, options, message):
    with pytest.raises(DataError, match=message):
        explain_retrieval(world, tiny_model(), **{**OPTIONS, **options})
