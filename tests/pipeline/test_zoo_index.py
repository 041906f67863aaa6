"""An index that FiftyOne's own compute_similarity made of a zoo model is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

import fiftyone_zoo as zoo
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import load_model
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.retrieval.pairs import GALLERY, QUERY
from fiftyone_sfam.runs.run import Run

COUNT = 8
# Height and width of the images, which DINOv2's zoo models keep; the patches are 14.
SIZE = (56, 56)


@pytest.fixture(params=["own-clip", "own-dinov2", "own-siglip"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a zoo model with random weights."""
    before = fo.config.model_zoo_dir
    deployments = {
        "own-clip": zoo.clip(tmp_path / "clip"),
        "own-dinov2": zoo.dinov2(tmp_path / "dinov2", registers=4),
        "own-siglip": zoo.siglip(tmp_path / "siglip"),
    }
    with zoo.own_manifest(tmp_path, deployments):
        yield request.param
    fo.config.model_zoo_dir = before


@pytest.fixture(params=["sklearn", "lancedb"])
def backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """A backend of FiftyOne: its built-in one, and one that finds neighbors itself."""
    backends = fob.brain_config.similarity_backends
    if request.param == "lancedb":
        settings = {**backends["lancedb"], "uri": str(tmp_path / "lance")}
        monkeypatch.setitem(backends, "lancedb", settings)
    return request.param


@pytest.fixture
def indexed(
    name: str,
    backend: str,
    make_dataset: Callable[..., fo.Dataset],
    tmp_path: Path,
) -> fo.Dataset:
    """Images with an index by FiftyOne."""
    dataset = make_dataset()
    for seed in range(COUNT):
        file = tmp_path / f"{seed}.png"
        zoo.picture(seed, SIZE).save(file)
        dataset.add_sample(fo.Sample(str(file)))
    fob.compute_similarity(
        dataset, model=name, brain_key="looks", backend=backend, num_workers=0
    )
    return dataset


def vectors_of(dataset: fo.Dataset) -> np.ndarray:
    index = dataset.load_brain_results("looks", cache=False)
    vectors, ids, _ = index.get_embeddings()
    row_of = {str(sample_id): row for row, sample_id in enumerate(ids)}
    return vectors[[row_of[i] for i in dataset.values("id")]].astype(np.float64)


def check_pairs(run: Run, vectors: np.ndarray) -> None:
    """The pairs are the nearest ones among the stored embeddings."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = units @ units.T
    np.fill_diagonal(scores, -np.inf)
    for query in range(COUNT):
        pairs = run.pairs.of_query(query)
        nearest = np.argsort(-scores[query])[:2]
        assert run.pairs.gallery[pairs].tolist() == nearest.tolist()
        np.testing.assert_allclose(
            run.pairs.similarity[pairs], scores[query, nearest], atol=1e-5
        )
    assert run.skipped == ()


# The built-in index finds neighbors among centered embeddings.
NEIGHBORS = {"sklearn": "exact", "lancedb": "index"}
# The convolutions that make the patches.
PATCHES = {
    "own-clip": "conv1",
    "own-dinov2": "patch_embed.proj",
    "own-siglip": "network.vision_model.embeddings.patch_embedding",
}


def explained(dataset: fo.Dataset, backend: str, model: Any) -> Run:
    run = explain_retrieval(
        dataset,
        model,
        k=2,
        embeddings="looks",
        neighbors=NEIGHBORS[backend],
        kinds=("evidence",),
        map_dtype="float32",
        batch_size=3,
    )
    check_pairs(run, vectors_of(dataset))
    for pair in range(len(run.pairs)):
        maps = run.maps(pair)
        for side, shown in ((QUERY, maps.query), (GALLERY, maps.gallery)):
            evidence = shown.maps["evidence"]
            # The patches are 8 pixels of 32, or 14 of 56.
            assert evidence.shape == (4, 4)
            total = evidence.sum() + run.remainders[pair, side]
            assert total == pytest.approx(run.pairs.similarity[pair], abs=1e-4)
    assert run.config.neighbors == NEIGHBORS[backend]
    return run


@pytest.mark.filterwarnings("ignore:These maps carry")
def test_an_index_of_fiftyone_is_explained_at_a_named_layer(
    name: str, backend: str, indexed: fo.Dataset
) -> None:
    model = load_model(name, layer=PATCHES[name])
    run = explained(indexed, backend, model)
    assert (run.config.model, run.config.layer) == (name, PATCHES[name])


def test_an_index_of_fiftyone_is_explained(
    name: str, backend: str, indexed: fo.Dataset
) -> None:
    run = explained(indexed, backend, name)
    assert run.config.model == name
    assert run.config.share_on_map is not None
    assert run.config.share_on_map > 0.1
    assert run.warnings == ()
    for pair in range(len(run.pairs)):
        evidence = run.maps(pair).query.maps["evidence"]
        assert np.ptp(evidence) > 0.001 * abs(run.pairs.similarity[pair])


def test_the_index_holds_the_embeddings_of_the_model(
    name: str, backend: str, indexed: fo.Dataset
) -> None:
    ours = load_model(name)
    vectors = vectors_of(indexed)
    for row, path in enumerate(indexed.values("filepath")):
        with Image.open(path) as image:
            found = ours.embed(ours.prepare(image)[None])[0].numpy()
        np.testing.assert_allclose(found, vectors[row], rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"numbers, but those of model 'demo' have 64"):
        explain_retrieval(
            indexed, "demo", embeddings="looks", neighbors=NEIGHBORS[backend]
        )
