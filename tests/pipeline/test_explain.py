"""The run, from images to stored numbers."""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
import torch

from compat import needs_checkpoints
from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.head_cache import bytes_of_head
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from stored import assert_close, stored_blobs
from worlds import (
    FRAME,
    HEIGHT,
    PLACES,
    REID,
    WIDTH,
    PassCounter,
    embeddings_of,
    fill_frames,
    person,
    tiny_model,
)

# -- what is stored --------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pairs_are_those_of_the_definition(world, metric):
    model = tiny_model(metric=metric)
    run = explain_retrieval(world, model, k=2, protocol=REID)
    vectors = embeddings_of(model, world.values("filepath")).astype(np.float64)
    identities = np.repeat(np.arange(4), 3)
    rows = []
    for query in range(12):
        # All cameras of an identity differ, so only the query itself is left out.
        others = [i for i in range(12) if i != query]
        if metric == "cosine":
            units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            distance = 1 - units @ units[query]
        else:
            distance = np.linalg.norm(vectors - vectors[query], axis=1)
        ranked = sorted(others, key=lambda i: distance[i])
        true = [r for r, i in enumerate(ranked) if identities[i] == identities[query]]
        for rank in sorted({0, 1, true[0]}):
            other = ranked[rank]
            same = identities[other] == identities[query]
            rows.append((query, other, rank + 1, int(not same), distance[other]))
    pairs = run.pairs
    columns = pairs.query, pairs.gallery, pairs.rank, pairs.outcome
    found = list(zip(*(c.tolist() for c in columns), strict=True))
    assert found == [row[:4] for row in rows]
    np.testing.assert_allclose(pairs.distance, [row[4] for row in rows], atol=1e-5)
    if metric == "cosine":
        np.testing.assert_allclose(pairs.similarity, 1 - pairs.distance)
    np.testing.assert_allclose(run.embeddings(), vectors, atol=1e-6)


def test_fields_on_the_samples(world):
    # Labels that have nothing to do with the looks: true matches beyond k.
    world.set_values("identity", [f"p{i % 4}" for i in range(12)])
    run = explain_retrieval(world, tiny_model(), k=2, protocol=REID, key="r")
    assert np.count_nonzero(run.pairs.rank > 2) > 5
    pairs, ids = run.pairs, world.values("id")
    for item, sample in enumerate(world):
        first, *_ = own = pairs.of_query(item)
        assert sample["r_score"] == pairs.similarity[first]
        assert sample["r_outcome"] == OUTCOMES[pairs.outcome[first]]
        heatmap = sample["r"]
        assert heatmap.map.dtype == np.uint8
        assert heatmap.map.flags.c_contiguous
        assert heatmap.map.shape == (96, 48)
        assert list(heatmap.range) == [0, 255]
        neighbors = sample["r_neighbors"].classifications
        assert len(neighbors) == 2  # the true match beyond k is no neighbor
        for neighbor, pair in zip(neighbors, own, strict=False):
            other = world[ids[pairs.gallery[pair]]]
            assert neighbor.label == other.identity
            assert neighbor.confidence == pairs.similarity[pair]
            assert neighbor.distance == pairs.distance[pair]
            assert neighbor.rank == pairs.rank[pair]
            assert neighbor.outcome == OUTCOMES[pairs.outcome[pair]]
            assert neighbor.neighbor_id == other.id
    schema = world.get_field_schema(flat=True)
    assert isinstance(schema["r_neighbors.classifications.rank"], fo.IntField)
    # Sorting and filtering pairs needs nothing of ours.
    close = world.filter_labels("r_neighbors", fo.ViewField("rank") == 1)
    assert close.count("r_neighbors.classifications") == 12


def test_heatmap_shows_the_positive_part_of_the_first_map(world):
    run = explain_retrieval(world, tiny_model(), k=1, map_dtype="float32")
    firsts = [maps.query.maps["sfam"] for maps in run.many_maps(range(12))]
    full = np.percentile([m.max() for m in firsts if m.max() > 0], 98)
    for values, drawn in zip(firsts, world.values("sfam.map"), strict=True):
        # A pixel in the middle of each place of the 8 x 4 map.
        sampled = drawn.reshape(8, 12, 4, 12)[:, 5:7, :, 5:7].mean(axis=(1, 3))
        expected = np.clip(values / full, 0, 1) * 255
        np.testing.assert_allclose(sampled, expected, atol=16)
        assert drawn[:3, :3].mean() == pytest.approx(expected[0, 0], abs=2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["signed", "minmax"])
def test_stored_maps_equal_single_pairs(world, metric, weights):
    model = tiny_model(metric=metric)
    run = explain_retrieval(
        world, model, k=2, protocol=REID, weights=weights, map_dtype="float32"
    )
    paths = world.values("filepath")
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        query, gallery = run.pairs.query[pair], run.pairs.gallery[pair]
        one = explain_pair(model, paths[query], paths[gallery], weights=weights)
        assert run.pairs.similarity[pair] == pytest.approx(one.score, abs=1e-6)
        assert run.pairs.distance[pair] == pytest.approx(one.distance, abs=1e-6)
        for which, (side, single) in enumerate(
            [(maps.query, one.query), (maps.gallery, one.gallery)]
        ):
            np.testing.assert_allclose(side.maps["sfam"], single.sfam, atol=1e-5)
            np.testing.assert_allclose(
                side.maps["evidence"], single.evidence, atol=1e-5
            )
            assert side.score == pytest.approx(one.score, abs=1e-5)
            assert side.remainder == pytest.approx(single.remainder, abs=1e-5)
            assert run.remainders[pair, which] == np.float32(side.remainder)
            assert side.maps["evidence"].shape == (8, 4)
            assert (side.crop, side.size) == ((0, 0, 1, 1), (WIDTH, HEIGHT))


def test_eight_bits_are_within_their_step(world):
    exact = explain_retrieval(world, tiny_model(), key="a", k=2, map_dtype="float32")
    small = explain_retrieval(world, tiny_model(), key="b", k=2)
    for pair in range(len(exact.pairs)):
        one, other = exact.maps(pair), small.maps(pair)
        for side in ("query", "gallery"):
            for kind in ("sfam", "evidence"):
                values = getattr(one, side).maps[kind]
                apart = np.abs(getattr(other, side).maps[kind] - values).max()
                assert apart <= np.abs(values).max() / 254 * 1.001


def test_evidence_and_independent_remainder_add_up_to_the_score(world):
    model = tiny_model()
    run = explain_retrieval(world, model, k=2, map_dtype="float32")
    vectors = torch.from_numpy(run.embeddings()).double()
    for pair in range(0, len(run.pairs), 5):
        for image, partner, side in (
            (run.pairs.query[pair], run.pairs.gallery[pair], run.maps(pair).query),
            (run.pairs.gallery[pair], run.pairs.query[pair], run.maps(pair).gallery),
        ):
            tensor = model.preprocess(person(image // 3, image % 3))
            with torch.no_grad():
                network = model.network
                maps = torch.relu(network.body(torch.relu(network.stem(tensor[None]))))

            def head(a):
                neck = model.network.neck(a.mean((2, 3)))
                return neck * (torch.tanh(neck) / neck).detach()

            # What the head does not carry, by forward-mode differentiation; of tanh the
            # gate is held constant.
            with torch.no_grad():
                value, carried = torch.func.jvp(head, (maps,), (maps,))
            scale = vectors[image].norm() * vectors[partner].norm()
            missing = ((value - carried)[0].double() @ vectors[partner]) / scale
            total = side.maps["evidence"].sum() + float(missing)
            assert total == pytest.approx(run.pairs.similarity[pair], abs=1e-5)
            assert side.remainder == pytest.approx(float(missing), abs=1e-5)
            assert abs(side.remainder) > 1e-3


def test_batches_and_workers_change_nothing(world):
    runs = [
        explain_retrieval(
            world,
            tiny_model(),
            key=f"r{number}",
            k=3,
            protocol=REID,
            map_dtype="float32",
            batch_size=batch_size,
            num_workers=num_workers,
        )
        for number, (batch_size, num_workers) in enumerate(
            [(32, 0), (1, 0), (5, 3), (12, 1)]
        )
    ]
    for run in runs[1:]:
        assert_close(runs[0], run)


def test_a_larger_k_adds_neighbors_and_changes_none(world):
    options = {"protocol": REID, "map_dtype": "float32", "batch_size": 5}
    few = explain_retrieval(world, tiny_model(), key="few", k=2, **options)
    many = explain_retrieval(world, tiny_model(), key="many", k=6, **options)
    places = {
        (query, gallery): place
        for place, (query, gallery) in enumerate(
            zip(many.pairs.query, many.pairs.gallery, strict=True)
        )
    }
    assert len(many.pairs) > len(few.pairs)
    shared = [
        places[pair] for pair in zip(few.pairs.query, few.pairs.gallery, strict=True)
    ]
    for name in ("rank", "similarity", "distance", "outcome"):
        expected = getattr(few.pairs, name)
        assert getattr(many.pairs, name)[shared].tolist() == expected.tolist()
    maps = zip(few.many_maps(range(len(shared))), many.many_maps(shared), strict=True)
    for one, other in maps:
        for kind in ("sfam", "evidence"):
            assert np.array_equal(one.query.maps[kind], other.query.maps[kind])
            assert np.array_equal(one.gallery.maps[kind], other.gallery.maps[kind])


def test_a_run_in_lower_precision_is_near(world):
    options = {"k": 3, "protocol": REID, "map_dtype": "float32"}
    exact = explain_retrieval(world, tiny_model(), key="exact", **options)
    lower = tiny_model(precision="bfloat16")
    # The same pairs: which are neighbors may turn on the last digit.
    about = explain_retrieval(
        world, lower, key="about", embeddings=exact.embeddings(), **options
    )
    assert (exact.config.precision, about.config.precision) == ("float32", "bfloat16")
    assert about.pairs.gallery.tolist() == exact.pairs.gallery.tolist()
    sides = zip(
        exact.many_maps(range(len(exact.pairs))),
        about.many_maps(range(len(exact.pairs))),
        strict=True,
    )
    gaps, correlations = [], []
    for one, other in sides:
        gaps.append(abs(one.query.score - other.query.score))
        for kind in ("sfam", "evidence"):
            both = [one.query.maps[kind].ravel(), other.query.maps[kind].ravel()]
            correlations.append(np.corrcoef(both)[0, 1])
    assert 0 < max(gaps) < 0.01
    assert min(correlations) > 0.99


def test_one_pass_per_image_with_stored_embeddings_and_two_without(world):
    model = tiny_model()
    counter = PassCounter(model)
    options = {"k": 5, "batch_size": 5}
    run = explain_retrieval(world, model, key="a", cache_bytes=0, **options)
    assert counter.images == 24
    world.set_values("vector", list(run.embeddings()))
    counter.images = 0
    again = explain_retrieval(world, model, key="b", k=5, embeddings="vector")
    assert counter.images == 12
    assert_close(run, again)


@pytest.mark.parametrize(("blocks", "passes"), [(3, 12), (2, 14), (1, 19), (0.9, 24)])
def test_what_the_cache_holds_is_not_computed_twice(world, blocks, passes):
    model = tiny_model()
    each = bytes_of_head(model, model.prepare(person(0))[None])
    counter = PassCounter(model)
    options = {"k": 5, "batch_size": 5, "map_dtype": "float32"}
    # One more pass measures what an image takes.
    cached = explain_retrieval(
        world, model, key="a", cache_bytes=int(blocks * 5 * each), **options
    )
    assert counter.images == passes + 1
    twice = explain_retrieval(world, model, key="b", cache_bytes=0, **options)
    assert_close(cached, twice)


def test_a_broken_image_moves_the_cached_ones_to_other_shards(world):
    path = Path(world.skip(3).first().filepath)
    path.write_bytes(b"no image")
    model = tiny_model()
    counter = PassCounter(model)
    options = {"k": 5, "batch_size": 5, "map_dtype": "float32"}
    cached = explain_retrieval(world, model, key="a", **options)
    assert counter.images == 12
    assert [one.index for one in cached.skipped] == [3]
    twice = explain_retrieval(world, model, key="b", cache_bytes=0, **options)
    assert_close(cached, twice)
    assert np.isfinite(cached.remainders).all()


def test_config_and_summary(world):
    model = tiny_model(layer="stem")
    run = explain_retrieval(world, model, k=2, protocol=REID, kinds=["evidence"])
    config = run.config
    assert (config.model, config.layer, config.map_shape) == (
        "tiny-0",
        "stem",
        (6, 8, 4),
    )
    assert config.weights_hash == model.weights_hash()
    assert (config.metric, config.k, config.kinds) == ("cosine", 2, ("evidence",))
    assert Protocol.from_dict(config.protocol) == REID
    assert (config.embeddings, config.state) == ("computed", "complete")
    assert config.versions["fiftyone"] == fo.__version__
    assert set(run.maps(0).query.maps) == {"evidence"}
    true = int(np.count_nonzero(run.pairs.outcome[run.pairs.rank == 1] == 0))
    assert run.summary() == {
        "images": 12,
        "queries": 12,
        "pairs": len(run.pairs),
        "skipped": 0,
        "true match": true,
        "false match": 12 - true,
        "unlabeled": 0,
        "without match": 0,
        "with match": 12,
        "rank1": true / 12,
        "maps": run.map_check.sentence,
        "warnings": [],
    }


def test_unlabeled_run(world):
    run = explain_retrieval(world, tiny_model(), k=2)
    assert set(world.values("sfam_outcome")) == {"unlabeled"}
    assert run.summary()["rank1"] is None
    assert len(run.pairs) == 24
    labels = world.values("sfam_neighbors.classifications.label")
    assert labels == [[None, None]] * 12


def test_split_writes_on_queries_only(world):
    protocol = Protocol(identity_field="identity", split_field="split")
    run = explain_retrieval(world, tiny_model(), k=1, protocol=protocol)
    assert len(world.exists("sfam")) == len(world.exists("sfam_score")) == 4
    assert set(world.exists("sfam").values("split")) == {"query"}
    split = np.array(world.values("split"))
    np.testing.assert_array_equal(run.items.is_query, split == "query")
    np.testing.assert_array_equal(run.items.is_gallery, split == "gallery")
    gallery = [run.items.sample_ids[item] for item in run.pairs.gallery]
    assert set(world.select(gallery).values("split")) == {"gallery"}


def test_a_view_is_explained_within_itself(world):
    view = world.match(fo.ViewField("camera") != "c2")
    run = explain_retrieval(view, tiny_model(), k=3)
    assert run.config.counts["images"] == 8
    assert set(run.items.sample_ids) == set(view.values("id"))
    assert world.exists("sfam").values("id") == view.values("id")


def test_slice_of_a_grouped_dataset(make_dataset, tmp_path):
    grouped = make_dataset()
    grouped.add_group_field("group", default="left")
    for shot in range(6):
        group = fo.Group()
        for name in ("left", "right"):
            path = tmp_path / f"{name}-{shot}.png"
            person(shot % 3, shot).save(path)
            grouped.add_sample(fo.Sample(filepath=str(path), group=group.element(name)))
    # The slice that is not the active one.
    view = grouped.select_group_slices("right")
    run = explain_retrieval(view, tiny_model(), k=1)
    assert view.values("sfam_score") == run.pairs.similarity.tolist()
    assert len(view.exists("sfam")) == 6
    assert len(grouped.exists("sfam")) == 0
    pairs = run.to_pairs_dataset([0, 1])
    try:
        assert len(pairs) == 2
    finally:
        pairs.delete()


@needs_checkpoints
def test_model_by_name(world, monkeypatch, tmp_path):
    (tmp_path / "tiny_factory.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(__import__("tiny_factory").build().state_dict(), tmp_path / "weights.pt")
    registry = tmp_path / "models.json"
    registry.write_text(
        json.dumps(
            {
                "models": {
                    "mine": {
                        "factory": "tiny_factory:build",
                        "weights": str(tmp_path / "weights.pt"),
                        "preprocess": {"size": [HEIGHT, WIDTH]},
                    }
                }
            }
        )
    )
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(registry))
    run = explain_retrieval(world, "mine", k=1)
    assert run.config.model == "mine"
    assert run.config.map_shape == (4, 8, 4)


def test_center_crop_places_the_heatmap_where_the_network_looked(world):
    preprocess = Preprocessing(size=(8, 8), resize=(16, 8))
    run = explain_retrieval(world, tiny_model(preprocess=preprocess), k=1)
    assert run.maps(0).query.crop == (0, 0.25, 1, 0.75)
    drawn = np.stack(world.values("sfam.map"))
    assert drawn.shape == (12, 96, 48)
    assert not drawn[:, :24].any()
    assert not drawn[:, 72:].any()
    assert drawn[:, 24:72].any()


# -- detections ------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_detections_in_frames(dataset, tmp_path, listed):
    fill_frames(dataset, tmp_path, listed=listed)
    model = tiny_model()
    protocol = Protocol(identity_field="label", camera_field="site")
    run = explain_retrieval(
        dataset, model, k=2, protocol=protocol, patches_field="people", batch_size=5
    )
    people = len(PLACES) if listed else 1
    assert run.config.counts["images"] == len(run.items) == 4 * people
    prefix = "people.detections[]." if listed else "people."
    ids = dataset.values(prefix + "id")
    assert run.items.ids.tolist() == ids
    first = run.pairs.rank == 1
    items = run.pairs.query[first].tolist()
    assert items == list(range(4 * people))
    assert dataset.values(prefix + "sfam_score") == run.pairs.similarity[first].tolist()
    others = run.pairs.gallery[first]
    assert dataset.values(prefix + "sfam_neighbor_id") == [ids[i] for i in others]
    labels = dataset.values(prefix + "label")
    assert dataset.values(prefix + "sfam_neighbor") == [labels[i] for i in others]
    assert dataset.values(prefix + "sfam_outcome") == [
        "true match" if labels[i] == labels[j] else "false match"
        for i, j in zip(items, others, strict=True)
    ]

    inside = np.zeros((480, 480), dtype=bool)
    for left, top in PLACES[:people]:
        inside[top * 10 : (top + HEIGHT) * 10, left * 10 : (left + WIDTH) * 10] = True
    for drawn in dataset.values("sfam.map"):
        assert drawn.shape == (480, 480)
        assert not drawn[~inside].any()
    every = np.stack(dataset.values("sfam.map"))
    for left, top in PLACES[:people]:
        part = every[:, top * 10 : (top + 16) * 10, left * 10 : (left + 8) * 10]
        assert part.any()

    # The crop of a frame is the person that was pasted there.
    pair = int(np.flatnonzero(first)[0])
    own, other = int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
    shots = [person((f + n) % 4, f) for f in range(4) for n in range(people)]
    single = explain_pair(model, shots[own], shots[other])
    assert run.pairs.similarity[pair] == pytest.approx(single.score, abs=1e-6)
    assert run.maps(pair).query.size == (FRAME, FRAME)


def test_detections_with_stored_embeddings_and_an_empty_box(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    sample = dataset.first()
    sample.people.detections[1].bounding_box = [0.5, 0.5, 0, 0.1]
    sample.save()
    model = tiny_model()
    run = explain_retrieval(dataset, model, k=1, patches_field="people", key="a")
    assert [one.id for one in run.skipped] == [sample.people.detections[1].id]
    assert "covers no pixel of the image of 48 x 48" in run.skipped[0].reason
    assert len(run.pairs) == 11
    vectors = run.embeddings()
    again = explain_retrieval(
        dataset, model, k=1, patches_field="people", key="b", embeddings=vectors
    )
    # A zero row stands for a missing embedding.
    assert [one.reason for one in again.skipped] == ["its embedding is zero."]
    assert_close(run, again)


# -- embeddings that were there --------------------------------------------------------


def test_index_that_was_queried_is_explained_as_it_was_made(world):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    index = fob.compute_similarity(
        world, embeddings=vectors, brain_key="index", backend="sklearn"
    )
    world.sort_by_similarity(world.first().id, k=3, brain_key="index").values("id")
    assert not np.allclose(index.get_embeddings()[0], vectors)
    run = explain_retrieval(world, model, k=2, embeddings="index")
    np.testing.assert_array_equal(run.embeddings(), vectors)
    assert run.config.embeddings == "index"


def test_kept_index_serves_the_next_run(world):
    model = tiny_model()
    counter = PassCounter(model)
    run = explain_retrieval(world, model, key="a", k=2, keep_index="tiny")
    counter.images = 0
    again = explain_retrieval(world, model, key="b", k=2, embeddings="tiny")
    assert counter.images == 12
    assert_close(run, again)


def test_kept_index_must_be_free_before_anything_is_computed(world):
    model = tiny_model()
    counter = PassCounter(model)
    fob.compute_similarity(world, embeddings=np.ones((12, 2)), brain_key="taken")
    with pytest.raises(DataError, match="brain key 'taken' is in use"):
        explain_retrieval(world, model, keep_index="taken")
    assert counter.images == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 1}, "another model, other weights or another preprocessing"),
        (
            {"preprocess": Preprocessing(size=(16, 8), channels="BGR")},
            "12 of the first",
        ),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_embeddings_of_another_model_are_refused(world, other, message, batch_size):
    vectors = embeddings_of(tiny_model(**other), world.values("filepath"))
    schema = list(world.get_field_schema())
    with pytest.raises(DataError) as error:
        explain_retrieval(
            world, tiny_model(), embeddings=vectors * 3, batch_size=batch_size
        )
    assert "the stored embeddings do not match model 'tiny-0'" in str(error.value)
    assert message in str(error.value)
    assert list(world.get_field_schema()) == schema
    assert world.list_runs() == []
    assert stored_blobs(world) == 0


def test_embeddings_of_another_length_are_refused(world):
    with pytest.raises(DataError, match=r"have 7 numbers, but those of model 'tiny-0'"):
        explain_retrieval(world, tiny_model(), embeddings=np.ones((12, 7)))
    assert stored_blobs(world) == 0


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_a_file_that_changed_since_is_skipped(world, batch_size):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    sample = world.skip(5).first()
    person(99).save(sample.filepath)
    run = explain_retrieval(
        world, model, k=2, embeddings=vectors, batch_size=batch_size
    )
    assert [one.id for one in run.skipped] == [sample.id]
    reason = run.skipped[0].reason
    assert "its stored embedding is not the one that the model gives now" in reason
    assert "accepted 0.001 for embeddings stored in float32); the file or" in reason
    for pair in range(len(run.pairs)):
        maps = run.maps(pair)
        assert (maps.query is None) == (run.pairs.query[pair] == 5)
        assert (maps.gallery is None) == (run.pairs.gallery[pair] == 5)
    assert len(world.exists("sfam")) == 11
    assert len(world.exists("sfam_score")) == 12


def test_embeddings_computed_in_bfloat16_are_the_models(world):
    model = tiny_model()
    vectors = torch.from_numpy(embeddings_of(model, world.values("filepath")))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(vectors.shape, generator=generator)
    # 1 - similarity is 0.002 to 0.005, as deep networks give in this type.
    inexact = vectors + 0.1 * vectors.norm(dim=1, keepdim=True) * noise / noise.norm(
        dim=1, keepdim=True
    )
    gaps = 1 - torch.cosine_similarity(inexact.bfloat16().float(), vectors)
    assert 0.0015 < float(gaps.min()) < float(gaps.max()) < 0.007
    stored = inexact.bfloat16().float().numpy()
    run = explain_retrieval(world, model, k=2, embeddings=stored)
    assert run.skipped == ()
    with pytest.raises(
        DataError, match=r"12 of the first 12 .* accepted 0\.001 for emb"
    ):
        explain_retrieval(world, model, key="other", k=2, embeddings=inexact.numpy())
    other = torch.from_numpy(
        embeddings_of(tiny_model(seed=1), world.values("filepath"))
    )
    with pytest.raises(DataError, match=r"accepted 0\.02 for embeddings stored in bf"):
        explain_retrieval(
            world, model, key="other", embeddings=other.bfloat16().float().numpy()
        )
