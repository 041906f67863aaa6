"""Neighbors from real vector stores: LanceDB, and PostgreSQL with pgvector."""

from __future__ import annotations

from dataclasses import replace

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline import passes
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.retrieval.indexed import IndexSearch, find_proposed_neighbors
from fiftyone_sfam.retrieval.search import find_neighbors, select_candidates
from stored import assert_close, interrupt_after, stored_blobs
from worlds import REID, PassCounter, embeddings_of, fill, fill_frames, tiny_model

BACKENDS = ("lancedb", "pgvector")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch, tmp_path):
    """The name of a backend that FiftyOne is set up for."""
    if request.param == "lancedb":
        settings = {"uri": str(tmp_path / "lance")}
    else:
        uri = request.getfixturevalue("postgres_uri")
        settings = {"connection_string": uri}
    backends = fob.brain_config.similarity_backends
    settings = {**backends[request.param], **settings}
    monkeypatch.setitem(backends, request.param, settings)
    return request.param


def make_index(samples, vectors, backend, metric="cosine", **options):
    return fob.compute_similarity(
        samples,
        embeddings=vectors,
        brain_key="index",
        backend=backend,
        metric=metric,
        **options,
    )


def clustered(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    """Vectors around a tenth as many centers, as embeddings of identities are."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(count // 10, width))
    chosen = centers[np.arange(count) % len(centers)]
    return (chosen + 0.5 * rng.normal(size=(count, width))).astype(np.float32)


def points(dataset, count: int) -> fo.Dataset:
    """Add samples whose images nobody reads."""
    dataset.add_samples(
        [
            fo.Sample(filepath=f"/nowhere/{number}.png", identity=str(number % 50))
            for number in range(count)
        ]
    )
    return dataset


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_run_over_an_index_is_the_exact_one(dataset, tmp_path, backend, metric):
    world = fill(dataset, tmp_path, identities=8)
    model = tiny_model(metric=metric)
    vectors = embeddings_of(model, world.values("filepath"))
    make_index(world, vectors, backend, metric)
    options = {"k": 4, "protocol": REID, "embeddings": "index"}
    exact = explain_retrieval(world, model, key="exact", **options)
    run = explain_retrieval(world, model, key="near", neighbors="index", **options)
    np.testing.assert_array_equal(run.embeddings(), vectors)
    assert (run.config.neighbors, exact.config.neighbors) == ("index", "exact")
    # The 24 images are few enough for all of them to be proposed.
    for name in ("query", "gallery", "rank", "similarity", "distance", "outcome"):
        np.testing.assert_array_equal(
            getattr(run.pairs, name), getattr(exact.pairs, name), err_msg=name
        )
    for pair in range(0, len(run.pairs), 7):
        side = run.maps(pair).query
        assert side.score == pytest.approx(run.pairs.similarity[pair], abs=1e-5)
        total = side.maps["evidence"].sum() + side.remainder
        assert total == pytest.approx(side.score, abs=0.05)


def test_detections(dataset, tmp_path, backend):
    fill_frames(dataset, tmp_path)
    model = tiny_model()
    options = {
        "k": 2,
        "patches_field": "people",
        "protocol": Protocol(identity_field="label"),
    }
    first = explain_retrieval(dataset, model, key="first", **options)
    vectors = first.embeddings().reshape(4, 3, 5)
    own = dict(zip(dataset.values("id"), vectors, strict=True))
    make_index(dataset, own, backend, patches_field="people")
    run = explain_retrieval(
        dataset, model, key="near", embeddings="index", neighbors="index", **options
    )
    assert run.pairs.gallery.tolist() == first.pairs.gallery.tolist()
    np.testing.assert_allclose(run.pairs.similarity, first.pairs.similarity, atol=1e-6)


def test_a_view_is_searched_within_itself(dataset, tmp_path, backend):
    world = fill(dataset, tmp_path, identities=8)
    model = tiny_model()
    make_index(world, embeddings_of(model, world.values("filepath")), backend)
    view = world.match(fo.ViewField("camera") != "c1")
    options = {"k": 3, "embeddings": "index"}
    exact = explain_retrieval(view, model, key="exact", **options)
    run = explain_retrieval(view, model, key="near", neighbors="index", **options)
    assert len(run.items) == 16
    assert run.pairs.gallery.tolist() == exact.pairs.gallery.tolist()


def test_what_the_stores_call_a_distance(dataset, backend):
    """Why the scores of a run are not the store's."""
    samples = points(dataset, 30)
    vectors = clustered(30)
    index = make_index(samples, vectors, backend, "euclidean")
    ids, _, found = index._kneighbors(query=vectors[0], k=5, return_dists=True)
    places = [samples.values("id").index(one) for one in ids]
    apart = np.linalg.norm(vectors[places] - vectors[0], axis=1)
    # LanceDB's is squared.
    expected = apart**2 if backend == "lancedb" else apart
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    dataset.delete_brain_run("index")
    index = make_index(samples, vectors, backend, "cosine")
    ids, _, found = index._kneighbors(query=vectors[0], k=5, return_dists=True)
    places = [samples.values("id").index(one) for one in ids]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found, 1 - units[places] @ units[0], atol=1e-5)


def test_an_approximate_index_forgets_and_its_scores_are_computed_anew(
    dataset, backend
):
    samples = points(dataset, 600)
    vectors = clustered(600)
    index = make_index(samples, vectors, backend)
    if backend == "lancedb":
        index.table.create_index(
            metric="cosine", num_partitions=4, num_sub_vectors=4, index_type="IVF_PQ"
        )
    items = collect_items(samples, Protocol())
    search = IndexSearch(samples, items, "index", "cosine", None)
    assert search.size == 600
    protocol = Protocol(identity_field="identity")
    candidates = select_candidates(
        protocol, samples.values("identity"), [None] * 600, None
    )
    found = find_proposed_neighbors(vectors, candidates, protocol, 5, search)
    exact = find_neighbors(vectors, candidates, protocol, 5)
    hits = [
        len(set(one) & set(other))
        for one, other in zip(found.index, exact.index, strict=True)
    ]
    assert np.sum(hits) / (5 * 600) > 0.9
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    own = (units[:, None] * units[found.index]).sum(axis=2)
    np.testing.assert_allclose(found.similarity, own, atol=1e-12)
    assert (np.diff(found.similarity, axis=1) <= 0).all()


def test_pgvector_is_made_to_look_as_far_as_is_asked(dataset, backend):
    """Its graph search returns no more than it visits: 40 places by default."""
    samples = points(dataset, 600)
    vectors = clustered(600)
    index = make_index(samples, vectors, backend)
    items = collect_items(samples, Protocol())
    search = IndexSearch(samples, items, "index", "cosine", None)
    assert [len(found) for found in search(vectors[:2], 100)] == [100, 100]
    if backend == "pgvector":
        ids, _ = index._kneighbors(query=vectors[0], k=100)
        assert len(ids) == 40


def test_maps_of_other_pairs_are_not_gone_on_with(
    dataset, tmp_path, backend, monkeypatch
):
    """An index that proposes others by the time an interrupted run is gone on with."""
    world = fill(dataset, tmp_path)
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    make_index(world, vectors, backend)
    options = {"k": 2, "batch_size": 3, "embeddings": "index", "neighbors": "index"}

    def forgetful(vectors, candidates, *others):
        known = replace(candidates, gallery=candidates.gallery[3:])
        return find_proposed_neighbors(vectors, known, *others)

    with monkeypatch.context() as patched:
        patched.setattr(passes, "find_proposed_neighbors", forgetful)
        with pytest.raises(KeyboardInterrupt):
            explain_retrieval(
                world, model, progress=interrupt_after(3, "explaining"), **options
            )
    assert stored_blobs(world) == 4 + 3 + 1  # embeddings, maps, and what they are for
    counter = PassCounter(model)
    run = explain_retrieval(world, model, **options)
    assert counter.images == 12
    whole = explain_retrieval(world, model, key="whole", **options)
    assert_close(run, whole, atol=0)
    assert stored_blobs(world) == 2 * len(whole.store.names())


def test_indexes_that_cannot_be_asked(dataset, tmp_path, backend):
    world = fill(dataset, tmp_path)
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    make_index(world, vectors, backend, "euclidean")
    fob.compute_similarity(
        world, embeddings=vectors, brain_key="built_in", backend="sklearn"
    )
    world.set_values("vector", list(vectors))
    for embeddings, message in (
        ("index", "ranks by euclidean, but the model's embeddings are compared by cos"),
        ("built_in", "is FiftyOne's built-in one, which compares all emb"),
        ("vector", "but 'vector' is not the brain key of one; give the brain key"),
        (vectors, "give its brain key as embeddings"),
        (None, "give its brain key as embeddings"),
    ):
        with pytest.raises(DataError, match=message):
            explain_retrieval(world, model, embeddings=embeddings, neighbors="index")
    with pytest.raises(DataError, match="unknown neighbors 'near'; use one of ex"):
        explain_retrieval(world, model, neighbors="near")
    assert world.list_runs() == []
