"""Runs over images, embeddings and options that cannot be used."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from stored import stored_blobs
from worlds import (
    HEIGHT,
    REID,
    WIDTH,
    embeddings_of,
    person,
    tiny_model,
)

# -- broken images ---------------------------------------------------------------------


def break_files(world):
    """Break four images, each in its own way; return their items."""
    samples = list(world)
    Path(samples[1].filepath).unlink()
    content = Path(samples[4].filepath).read_bytes()
    Path(samples[4].filepath).write_bytes(content[: len(content) // 2])
    text = Path(samples[7].filepath).with_suffix(".jpg")
    text.write_text("no image")
    samples[7].filepath = str(text)
    samples[7].save()
    Path(samples[11].filepath).write_bytes(b"")
    return [1, 4, 7, 11]


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_broken_images_without_embeddings(world, batch_size):
    broken = break_files(world)
    run = explain_retrieval(
        world, tiny_model(), k=3, protocol=REID, batch_size=batch_size
    )
    assert [one.index for one in run.skipped] == broken
    assert [one.id for one in run.skipped] == [world.values("id")[i] for i in broken]
    assert "the file does not exist: " in run.skipped[0].reason
    for one in run.skipped[1:]:
        assert "cannot be read as an image" in one.reason
    taken = set(run.pairs.query.tolist()) | set(run.pairs.gallery.tolist())
    assert taken == set(range(12)) - set(broken)
    assert run.config.counts["skipped"] == 4
    assert len(world.exists("sfam")) == 8
    # The others' numbers are those of a world without the broken ones.
    clean = explain_retrieval(
        world.select([s.id for i, s in enumerate(world) if i not in broken]),
        tiny_model(),
        key="clean",
        k=3,
        protocol=REID,
    )
    np.testing.assert_allclose(run.pairs.similarity, clean.pairs.similarity, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_broken_images_with_stored_embeddings(world, batch_size):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    broken = break_files(world)
    run = explain_retrieval(
        world, model, k=2, embeddings=vectors, batch_size=batch_size
    )
    assert [one.index for one in run.skipped] == broken
    # They are neighbors all the same; only their side is missing.
    assert set(broken) <= set(run.pairs.query.tolist())
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        assert (maps.query is None) == (run.pairs.query[pair] in broken)
        assert (maps.gallery is None) == (run.pairs.gallery[pair] in broken)
        assert np.isnan(run.remainders[pair, 0]) == (run.pairs.query[pair] in broken)
    assert len(world.exists("sfam_score")) == 12
    assert len(world.exists("sfam")) == 8


def test_audits_of_a_run_with_a_shard_without_maps(world):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    broken = break_files(world)
    run = explain_retrieval(
        world,
        model,
        k=2,
        protocol=Protocol(identity_field="identity"),
        embeddings=vectors,
        batch_size=1,
    )
    evaluate_retrieval(run)
    ledger = build_ledger(run)
    explained = [one for one in run.pairs.query.tolist() if one not in broken]
    assert 0 < len(explained) < len(run.pairs)
    entered = ledger.query[~np.isnan(ledger.shares[:, 0]).all(axis=1)]
    assert set(entered.tolist()) == set(explained)
    find_shortcuts(run)


def test_the_first_images_broken_does_not_hide_wrong_embeddings(world):
    vectors = embeddings_of(tiny_model(1), world.values("filepath"))
    for sample in world[:6]:
        Path(sample.filepath).unlink()
    with pytest.raises(DataError, match="do not match model 'tiny-0'"):
        explain_retrieval(world, tiny_model(), embeddings=vectors, batch_size=1)


def test_all_images_broken(world):
    vectors = embeddings_of(tiny_model(), world.values("filepath"))
    for path in world.values("filepath"):
        Path(path).unlink()
    with pytest.raises(DataError, match="none of the 12 images could be embedded"):
        explain_retrieval(world, tiny_model())
    with pytest.raises(
        DataError,
        match="none of the 12 images could be explained; the first reason: the",
    ):
        explain_retrieval(world, tiny_model(), embeddings=vectors)
    assert stored_blobs(world) == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_whole_gallery_broken(world, metric):
    for path in world.match(fo.ViewField("split") == "gallery").values("filepath"):
        Path(path).unlink()
    protocol = Protocol(split_field="split")
    with pytest.raises(DataError, match="none of the gallery images has an embedding"):
        explain_retrieval(world, tiny_model(metric=metric), protocol=protocol)


def test_zero_embeddings_are_skipped(world):
    class Dark(torch.nn.Module):
        """Gives dark images the zero embedding."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)

        def forward(self, images):
            return torch.relu(self.conv(images)).mean((2, 3))

    Image.new("RGB", (WIDTH, HEIGHT)).save(world.first().filepath)
    preprocess = Preprocessing(size=(HEIGHT, WIDTH), mean=(0, 0, 0), std=(1, 1, 1))
    run = explain_retrieval(world, EmbeddingModel(Dark(), preprocess), k=1)
    assert [(one.index, one.reason) for one in run.skipped] == [
        (0, "its embedding is zero.")
    ]


# -- options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kinds": ["cam"]},
            "kinds is ['cam']; choose from sfam, evidence, path, scales, each once",
        ),
        ({"kinds": []}, "kinds is []"),
        ({"kinds": ["sfam", "sfam"]}, "each once"),
        ({"weights": "abs"}, "unknown weights 'abs'; use one of signed, minmax."),
        ({"map_dtype": "int4"}, "unknown map_dtype 'int4'"),
        ({"k": 0}, "k is 0; a whole number from 1 is needed."),
        ({"batch_size": 1.5}, "batch_size is 1.5; a whole number"),
        ({"patches_field": "identity"}, "'identity' holds StringField; detections"),
        ({"protocol": Protocol(identity_field="x")}, "no identity field 'x'"),
    ],
)
def test_options_that_cannot_be(world, options, message):
    with pytest.raises(DataError) as error:
        explain_retrieval(world, tiny_model(), **options)
    assert message in str(error.value)
    assert (world.list_runs(), stored_blobs(world)) == ([], 0)


def test_no_pair_left(world):
    view = world.match(fo.ViewField("identity") == "p0")
    view.set_values("camera", ["c0"] * 3)
    with pytest.raises(DataError, match="the protocol leaves no pair to compare"):
        explain_retrieval(view, tiny_model(), protocol=REID)


def test_images_of_different_shapes(world):
    def natural(image):
        return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)

    person(3).resize((16, 32)).save(world.first().filepath)
    with pytest.raises(DataError, match="gives images of different shapes"):
        explain_retrieval(world, tiny_model(preprocess=natural))


def test_a_model_that_cannot_be_explained_leaves_nothing(world):
    model = tiny_model(layer="neck")
    with pytest.raises(ModelError, match="name a layer before the pooling"):
        explain_retrieval(world, model)
    assert (world.list_runs(), stored_blobs(world)) == ([], 0)


def test_the_network_is_left_as_it_was(world):
    model = tiny_model()
    model.network.train()
    before = model.weights_hash()
    explain_retrieval(world, model, k=1)
    assert model.network.training
    assert model.weights_hash() == before
    assert all(not module._forward_hooks for module in model.network.modules())
    assert all(p.grad is None and p.requires_grad for p in model.network.parameters())
