"""Pairs as a grouped dataset."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES
from worlds import (
    HEIGHT,
    PLACES,
    REID,
    WIDTH,
    embeddings_of,
    fill_frames,
    tiny_model,
)


@pytest.fixture
def run(world):
    return explain_retrieval(world, tiny_model(), k=3, protocol=REID)


@pytest.fixture
def pairs_of():
    made = []

    def make(run, *args, **kwargs) -> fo.Dataset:
        made.append(run.to_pairs_dataset(*args, **kwargs))
        return made[-1]

    yield make
    for dataset in made:
        dataset.delete()


def test_every_pair_is_a_group(world, run, pairs_of):
    pairs = pairs_of(run)
    assert pairs.media_type == "group"
    assert sorted(pairs.group_slices) == ["neighbor", "query"]
    assert pairs.default_group_slice == "query"
    assert len(pairs) == len(run.pairs)
    assert pairs.values("pair") == list(range(len(run.pairs)))
    columns = run.pairs
    sources = world.values("id")
    for name, items in (("query", columns.query), ("neighbor", columns.gallery)):
        side = pairs.select_group_slices(name)
        assert side.values("source_id") == [sources[item] for item in items]
        own = world.select(sources)
        paths, identities, cameras = own.values(["filepath", "identity", "camera"])
        assert side.values("filepath") == [paths[item] for item in items]
        assert side.values("identity") == [identities[item] for item in items]
        assert side.values("camera") == [cameras[item] for item in items]
        assert side.values("rank") == columns.rank.tolist()
        assert side.values("similarity") == columns.similarity.tolist()
        assert side.values("distance") == columns.distance.tolist()
        assert side.values("outcome") == [OUTCOMES[o] for o in columns.outcome]
    assert pairs.info == {"sfam_run": "sfam", "sfam_dataset": world.name}
    group = pairs.get_group(pairs.first().group.id)
    assert group["query"]["pair"] == group["neighbor"]["pair"] == 0


def test_heatmaps_of_both_sides_have_one_range(world, pairs_of):
    run = explain_retrieval(world, tiny_model(), k=2, map_dtype="float32")
    pairs = pairs_of(run)
    maps = run.many_maps(range(len(run.pairs)))
    largest = [
        side.maps["sfam"].max() for pair in maps for side in (pair.query, pair.gallery)
    ]
    full = np.percentile([value for value in largest if value > 0], 98)
    for name, side in (("query", "query"), ("neighbor", "gallery")):
        drawn = pairs.select_group_slices(name).values("heatmap.map")
        for pair, picture in zip(maps, drawn, strict=True):
            assert picture.dtype == np.uint8
            assert picture.shape == (96, 48)
            corner = getattr(pair, side).maps["sfam"][0, 0]
            expected = np.clip(corner / full, 0, 1) * 255
            assert picture[0, 0] == pytest.approx(expected, abs=1)


def test_a_selection_by_numbers_and_by_a_column(run, pairs_of):
    assert pairs_of(run, [5, 2]).values("pair") == [5, 2]
    wrong = run.pairs.outcome == FALSE_MATCH
    assert 0 < wrong.sum() < len(wrong)
    pairs = pairs_of(run, wrong)
    assert pairs.values("pair") == np.flatnonzero(wrong).tolist()
    assert pairs.distinct("outcome") == ["false match"]
    assert len(pairs_of(run, run.pairs.of_query(4))) == len(run.pairs.of_query(4))
    assert len(pairs_of(run, [])) == 0


def test_selections_that_cannot_be(run):
    before = fo.list_datasets()
    with pytest.raises(RunError, match="there is no pair 999"):
        run.to_pairs_dataset([0, 999])
    with pytest.raises(RunError, match="the selection marks 2 pairs, but the run"):
        run.to_pairs_dataset(np.array([True, False]))
    with pytest.raises(RunError, match="exists already; choose another name"):
        run.to_pairs_dataset([0], name=run.dataset.name)
    assert fo.list_datasets() == before


def test_its_name(run, pairs_of, world):
    pairs = pairs_of(run, [0], name=f"{world.name}-pairs")
    assert pairs.name == f"{world.name}-pairs"
    assert fo.dataset_exists(pairs.name)


def test_pairs_of_deleted_samples_are_left_out(world, run, pairs_of):
    gone = 4
    world.delete_samples(world.values("id")[gone])
    pairs = pairs_of(run)
    whole = (run.pairs.query != gone) & (run.pairs.gallery != gone)
    assert pairs.values("pair") == np.flatnonzero(whole).tolist()


def test_sides_without_maps_have_no_heatmap(world, pairs_of, tmp_path):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    (tmp_path / "0-1.png").write_bytes(b"broken")
    run = explain_retrieval(world, model, k=1, embeddings=vectors)
    pairs = pairs_of(run)
    assert len(pairs) == 12
    drawn = pairs.select_group_slices("query").values("heatmap")
    assert [h is None for h in drawn] == (run.pairs.query == 1).tolist()


def test_pairs_of_detections(dataset, tmp_path, pairs_of):
    fill_frames(dataset, tmp_path)
    protocol = Protocol(identity_field="label")
    run = explain_retrieval(
        dataset, tiny_model(), k=1, patches_field="people", protocol=protocol
    )
    pairs = pairs_of(run, [0, 1, 2])
    assert len(pairs) == 3
    queries = pairs.select_group_slices("query")
    people = dataset.first().people.detections
    owners = run.pairs.query[:3].tolist()
    assert queries.values("source_label_id") == [people[i].id for i in owners]
    assert queries.values("detection.label") == [people[i].label for i in owners]
    boxes = [people[i].bounding_box for i in owners]
    assert queries.values("detection.bounding_box") == boxes
    for item, drawn in zip(owners, queries.values("heatmap.map"), strict=True):
        left, top = PLACES[item]
        inside = np.zeros((480, 480), dtype=bool)
        inside[top * 10 : (top + HEIGHT) * 10, left * 10 : (left + WIDTH) * 10] = True
        assert drawn.shape == (480, 480)
        assert not drawn[~inside].any()

    sample = dataset.first()
    del sample.people.detections[0]
    sample.save()
    gone = (run.pairs.query != 0) & (run.pairs.gallery != 0)
    assert pairs_of(run).values("pair") == np.flatnonzero(gone).tolist()
