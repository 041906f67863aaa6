"""Networks that misbehave, in a whole run: what is skipped, stored and gone on with."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from fiftyone_sfam.attribution.pair import explain_contrast, explain_pair
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.images import read_image
from fiftyone_sfam.errors import DataError, ModelError, NetworkError, SfamWarning
from fiftyone_sfam.models import load_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.run import load_run
from stored import stored_blobs
from worlds import HEIGHT, WIDTH, PassCounter, tiny_model, tiny_network

PLAIN = Preprocessing(size=(HEIGHT, WIDTH), mean=(0, 0, 0), std=(1, 1, 1))


class Wrapped(nn.Module):
    """The tiny network, with something done to what it gives."""

    def __init__(self, change: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.inner = tiny_network()
        self.change = change

    def forward(self, images: Tensor) -> object:
        return self.change(images, self.inner(images))


class Deviation(nn.Module):
    """Pools each channel's standard deviation: flat maps have no derivative of it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        centered = maps - maps.mean((2, 3), keepdim=True)
        return 1 + centered.square().mean((2, 3)).sqrt()


def dark(images: Tensor) -> Tensor:
    """Which images are black."""
    return images.flatten(1).abs().amax(1) < 1e-3


def blacken(world: fo.Dataset, *places: int) -> list[str]:
    samples = [world.skip(place).first() for place in places]
    for sample in samples:
        Image.new("RGB", (WIDTH, HEIGHT)).save(sample.filepath)
    return [sample.id for sample in samples]


# -- NaN -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_embedding_that_is_no_numbers_is_skipped(world, value: float) -> None:
    ids = blacken(world, 2, 7)
    network = Wrapped(lambda x, e: e * torch.where(dark(x), value, 1)[:, None])
    model = EmbeddingModel(network, PLAIN)
    run = explain_retrieval(world, model, k=2, batch_size=5)
    assert [(one.id, one.reason) for one in run.skipped] == [
        (one, "its embedding holds NaN or infinity.") for one in ids
    ]
    assert len(world.exists("sfam")) == 10
    first = world.first().filepath
    with pytest.raises(DataError, match="an embedding with NaN or infinity; its sim"):
        explain_pair(model, first, world[ids[0]].filepath)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("given", [False, True])
def test_a_map_that_is_no_numbers_is_skipped(
    world, batch_size: int, given: bool
) -> None:
    ids = blacken(world, 2, 7)
    model = EmbeddingModel(Deviation(), PLAIN, layer="conv")
    vectors = None
    if given:
        images = [model.prepare(read_image(path)) for path in world.values("filepath")]
        vectors = model.embed(torch.stack(images)).numpy()
        assert np.isfinite(vectors).all()
    run = explain_retrieval(
        world, model, k=2, batch_size=batch_size, embeddings=vectors
    )
    assert [one.id for one in run.skipped] == ids
    for one in run.skipped:
        assert "gives maps with NaN or infinity at layer 'conv': the p" in one.reason
    # They are neighbors all the same; only their own side is missing.
    broken = {one.index for one in run.skipped}
    assert len(world.exists("sfam_score")) == 12
    assert len(world.exists("sfam")) == 10
    for pair, maps in enumerate(run.many_maps(range(len(run.pairs)))):
        for side, item in (
            (maps.query, run.pairs.query),
            (maps.gallery, run.pairs.gallery),
        ):
            assert (side is None) == (int(item[pair]) in broken)
            if side is not None:
                assert np.isfinite(side.maps["evidence"]).all()


def test_maps_that_are_no_numbers_in_twos_and_threes(world) -> None:
    blacken(world, 0)
    model = EmbeddingModel(Deviation(), PLAIN, layer="conv")
    black, first, second = world.limit(3).values("filepath")
    message = "for one of the images model 'Deviation' gives maps with NaN or infinity"
    with pytest.raises(DataError, match=message):
        explain_pair(model, first, black)
    with pytest.raises(DataError, match=message):
        explain_contrast(model, black, first, second)


def test_maps_none_of_which_is_numbers(world) -> None:
    model = EmbeddingModel(Deviation(), PLAIN, layer="conv")
    blacken(world, *range(11))
    run = explain_retrieval(world, model, k=1, key="one")
    assert len(run.skipped) == 11
    before = stored_blobs(world)
    # Found on an image on which it works; the rest of the dataset is black.
    with pytest.raises(DataError) as error:
        explain_retrieval(world.limit(11), model, k=1)
    assert "none of the 11 images could be explained; the first reason: model " in str(
        error.value
    )
    assert str(error.value).endswith("or name another layer.")
    assert stored_blobs(world) == before


# -- failing in the middle -------------------------------------------------------------


class Failing:
    """Raises where the images of one batch go through, as long as it is to."""

    def __init__(self, on: int) -> None:
        self.calls, self.on = 0, on

    def __call__(self, images: Tensor, embedding: Tensor) -> Tensor:
        if self.on and bool(dark(images).any()):
            self.calls += 1
            if self.calls >= self.on:
                raise RuntimeError("the device\nis lost")
        return embedding


# One pass finds the layer, and with a cache of 0 there are two more.
@pytest.mark.parametrize(("on", "left"), [(1, 6 + 12), (2, 6)])
def test_what_was_computed_before_a_failure_is_gone_on_with(world, on, left) -> None:
    blacken(world, 7)
    fail = Failing(on)
    model = EmbeddingModel(Wrapped(fail), PLAIN)
    options = {"k": 2, "batch_size": 3, "num_workers": 0, "cache_bytes": 0}
    with pytest.raises(NetworkError) as error:
        explain_retrieval(world, model, **options)
    assert str(error.value) == (
        "model 'Wrapped' failed on an input of shape (3, 3, 16, 8) (RuntimeError: the "
        "device); run network(torch.rand(3, 3, 16, 8)) to see where it fails."
    )
    # Nothing is shown of it.
    assert (world.list_runs(), world.get_field("sfam")) == ([], None)
    assert stored_blobs(world) > 0
    fail.on = 0
    counter = PassCounter(model)
    run = explain_retrieval(world, model, **options)
    assert counter.images == left
    whole = explain_retrieval(world, model, key="whole", **options)
    assert run.pairs.similarity.tobytes() == whole.pairs.similarity.tobytes()
    assert run.remainders.tobytes() == whole.remainders.tobytes()
    assert len(run.store.names()) == len(whole.store.names()) == stored_blobs(world) / 2


def test_a_network_that_fails_at_once_leaves_nothing(world) -> None:
    fail = Failing(1)
    blacken(world, 0)
    model = EmbeddingModel(Wrapped(fail), PLAIN, layer="inner.body")
    vectors = np.random.default_rng(0).normal(size=(12, 5))
    for embeddings in (None, vectors):
        with pytest.raises(NetworkError, match="failed on an input of shape"):
            explain_retrieval(world, model, embeddings=embeddings)
        assert stored_blobs(world) == 0


def test_a_failure_leaves_the_run_that_was_there(world) -> None:
    explain_retrieval(world, tiny_model(), k=1)
    scores = world.values("sfam_score")
    blacken(world, 7)
    model = EmbeddingModel(Wrapped(Failing(1)), PLAIN)
    with pytest.raises(NetworkError):
        explain_retrieval(world, model, k=1, overwrite=True, batch_size=3)
    assert world.values("sfam_score") == scores
    assert load_run(world, "sfam").config.model == "tiny-0"
    assert load_run(world, "sfam").many_maps([0])[0].query is not None


# -- whatever networks return, and however they run ------------------------------------


def test_a_network_with_a_will_of_its_own(world) -> None:
    """Its embedding of an image is another one each time."""
    generator = torch.Generator().manual_seed(0)

    def change(images: Tensor, embedding: Tensor) -> Tensor:
        return embedding + torch.randn(embedding.shape, generator=generator)

    model = EmbeddingModel(Wrapped(change), PLAIN)
    with pytest.raises(DataError) as error:
        explain_retrieval(world, model, batch_size=3, cache_bytes=0)
    assert str(error.value).endswith(
        "the model gives other embeddings on a second pass; it is not deterministic."
    )
    assert stored_blobs(world) == 0


class Trainable(nn.Module):
    """Dropout and batch normalization around the layer that is explained."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).mean((2, 3))


def test_a_network_in_training_mode_is_run_as_in_use(world) -> None:
    model = EmbeddingModel(Trainable().train(), PLAIN)
    counts = model.network.body[1].num_batches_tracked.clone()
    first = explain_retrieval(world, model, k=1, key="a", cache_bytes=0)
    second = explain_retrieval(world, model, k=1, key="b", batch_size=5)
    assert (first.skipped, second.skipped) == ((), ())
    np.testing.assert_allclose(
        first.pairs.similarity, second.pairs.similarity, atol=1e-6
    )
    assert model.network.training
    assert model.network.body[1].num_batches_tracked == counts


@pytest.mark.parametrize(
    ("pack", "embedding", "problem"),
    [
        (lambda e: {"logits": e[:, :2], "features": e}, "features", None),
        (lambda e: (e[:, :2], e), 1, None),
        (lambda e: {"logits": e[:, :2], "features": e}, None, "a mapping of 'logits'"),
        (lambda e: (e[:, :2], e), None, "a tuple of 0: a tensor of shape"),
        (lambda e: {"features": e}, "feature", "has no entry 'feature'"),
        # Taken as an index, it would be the batch's first image.
        (lambda e: e, 0, "has no entry 0; it is a tensor of shape"),
    ],
)
def test_answers_in_packages(world, pack, embedding, problem) -> None:
    network = Wrapped(lambda _images, e: pack(e))
    model = EmbeddingModel(network, PLAIN, embedding=embedding)
    if problem is None:
        plain = EmbeddingModel(tiny_network(), PLAIN)
        run = explain_retrieval(world, model, k=1)
        other = explain_retrieval(world, plain, k=1, key="plain")
        np.testing.assert_array_equal(run.remainders, other.remainders)
        return
    with pytest.raises(ModelError, match=problem):
        explain_retrieval(world, model, k=1)
    assert stored_blobs(world) == 0


def test_half_precision_all_through(world) -> None:
    half = EmbeddingModel(tiny_network().bfloat16(), PLAIN)
    run = explain_retrieval(world, half, k=1)
    whole = explain_retrieval(
        world, EmbeddingModel(tiny_network(), PLAIN), k=1, key="b"
    )
    assert run.skipped == ()
    np.testing.assert_allclose(run.pairs.similarity, whole.pairs.similarity, atol=0.03)
    for pair in run.many_maps(range(12)):
        assert np.isfinite(pair.query.maps["evidence"]).all()


def test_scripted_and_traced_networks_say_what_to_give() -> None:
    example = torch.zeros(1, 3, HEIGHT, WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = (
            torch.jit.script(tiny_network()),
            torch.jit.trace(tiny_network(), example),
        )
    for network in compiled:
        with pytest.raises(ModelError, match="network TinyNet is compiled by TorchScr"):
            EmbeddingModel(network, PLAIN)


def test_compiled_networks_are_run_as_they_were(world) -> None:
    compiled = []

    def backend(graph, _inputs):
        compiled.append(graph)
        return graph.forward

    part, whole = tiny_network(), tiny_network()
    part.body = torch.compile(part.body, backend=backend)
    whole.compile(backend=backend)
    plain = explain_retrieval(world, EmbeddingModel(tiny_network(), PLAIN), k=1)
    for network in (part, whole):
        model = EmbeddingModel(network, PLAIN)
        run = explain_retrieval(world, model, k=1, key="other", overwrite=True)
        np.testing.assert_allclose(run.remainders, plain.remainders, atol=1e-6)
        assert run.config.map_shape == plain.config.map_shape
    # It is compiled as before, and not anew.
    before = len(compiled)
    whole(torch.zeros(1, 3, HEIGHT, WIDTH))
    assert len(compiled) == before + 1


@pytest.mark.parametrize("exponent", [-25, 25])
def test_embeddings_whose_squares_are_out_of_range(world, exponent) -> None:
    network = Wrapped(lambda _images, e: e * 10.0**exponent)
    with pytest.raises(DataError, match="there, or gives numbers out of range; check"):
        explain_retrieval(world, EmbeddingModel(network, PLAIN), k=1)
    assert (world.list_runs(), stored_blobs(world)) == ([], 0)


def test_huge_and_tiny_embeddings_have_maps(world) -> None:
    plain = explain_retrieval(world, tiny_model(), k=1, key="plain")
    for exponent in (-12, 12):
        network = Wrapped(lambda _images, e, by=10.0**exponent: e * by)
        model = EmbeddingModel(network, tiny_model().preprocess)
        run = explain_retrieval(world, model, k=1, overwrite=True)
        assert run.skipped == (), exponent
        np.testing.assert_allclose(
            run.pairs.similarity, plain.pairs.similarity, atol=1e-5
        )
        for one, other in zip(
            run.many_maps(range(12)), plain.many_maps(range(12)), strict=True
        ):
            np.testing.assert_allclose(
                one.query.maps["evidence"], other.query.maps["evidence"], atol=1e-4
            )


# -- weights ---------------------------------------------------------------------------

BN_NECK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.bnneck = nn.BatchNorm1d(4)

    def forward(self, images):
        return self.bnneck(torch.relu(self.conv(images)).mean((2, 3)))
"""


def test_missing_weights_are_refused(
    world, tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(BN_NECK)
    conv = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}
    neck = {
        f"bnneck.{name}": torch.full((4,), value)
        for name, value in (
            *(("weight", 3.0), ("bias", 0.5)),
            *(("running_mean", 1.0), ("running_var", 4.0)),
        )
    }
    entry = {
        "factory": "net.py:Net",
        "weights": "net.safetensors",
        "strict": False,
        "preprocess": {"size": [HEIGHT, WIDTH]},
    }
    (tmp_path / "models.json").write_text(json.dumps({"models": {"mine": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "models.json"))
    classifier = {"classifier.weight": torch.ones(2, 4)}
    save_file(conv | classifier, tmp_path / "net.safetensors")
    message = (
        "the weights do not fit the network Net: 4 missing (bnneck.weight, bnneck.bias,"
        " bnneck.running_mean, bnneck.running_var); 1 unexpected (classifier.weight); "
        "correct weights_key or strip_prefix"
    )
    with pytest.raises(ModelError, match=re.escape(message)):
        explain_retrieval(world, "mine", k=1)
    assert main(["explain", world.name, "--model", "mine", "--k", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (world.list_runs(), stored_blobs(world)) == ([], 0)

    save_file(conv | neck | classifier, tmp_path / "net.safetensors")
    unused = r"does not use 1 weight of net\.safetensors \(classifier\.weight\)\.$"
    with pytest.warns(SfamWarning, match=unused):
        model = load_model("mine")
    images = torch.ones(1, 3, HEIGHT, WIDTH)
    raw = torch.relu(
        nn.functional.conv2d(images, conv["conv.weight"], conv["conv.bias"], 2, 1)
    ).mean((2, 3))
    expected = (raw - 1) / (4 + 1e-5) ** 0.5 * 3 + 0.5
    torch.testing.assert_close(model.embed(images), expected)
    assert main(["explain", world.name, "--model", "mine", "--k", "1"]) == 0
