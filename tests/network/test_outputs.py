"""What networks return: entries, branches, and batches of one."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.attribution.path import attribute_path
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.outputs import Branch
from fiftyone_sfam.network.preprocess import Preprocessing
from networks import CHANNELS, MAP, Answering, images

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")

Pair = namedtuple("Pair", ["embedding", "logits"])
SIZE = Preprocessing((8, 6))


@dataclass
class Answer:
    image_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    logits: Tensor | None = None


def model_of(network: nn.Module, **options: Any) -> EmbeddingModel:
    return EmbeddingModel(network, SIZE, **options)


def averages(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.trunk(images(3)).mean((2, 3))


# --------------------------------------------------------------------------------------
# Entries
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack",
    [
        lambda e: {"logits": e + 1, "embedding": e},
        lambda e: {"embeddings": e, "last_hidden_state": e[:, None] + 1},
        lambda e: {"pooler_output": e[:, :, None, None], "embedding": e + 1},
        lambda e: OrderedDict(image_embeds=e, pooler_output=e + 1),
        lambda e: Answer(image_embeds=e, logits=e + 1),
        lambda e: Pair(e, e + 1),
        lambda e: (e, None),
        lambda e: (e, e.norm(dim=1, keepdim=True)),
        lambda e: [e.sum(), e],
        lambda e: ((e,),),
        lambda e: (None, {"embedding": e, "loss": 0.0}),
    ],
)
def test_the_entry_that_must_be_the_embedding(pack: Callable[[Tensor], Any]) -> None:
    network = Answering(pack)
    model = model_of(network)
    torch.testing.assert_close(model.embed(images(3)), averages(network))
    assert model.branches == ()
    head = model.linearize(images(3))
    assert tuple(head.feature_map.shape) == (3, *MAP)


@pytest.mark.parametrize(
    ("pack", "described"),
    [
        (lambda e: (e, e + 1), r"a tuple of 0: a tensor of shape \(3, 4\), 1: a tens"),
        (lambda e: (e, e[:, :3]), "a tuple of"),
        (lambda e: [e, e[:, :3]], "a list of"),
        (lambda e: [e, e[:, :, None, None].expand(-1, -1, 2, 2)], "a list of"),
        (lambda e: {"logits": e}, "a mapping of 'logits': a tensor"),
        (
            lambda e: {"last_hidden_state": e[:, None]},
            "a mapping of 'last_hidden_state': a tensor",
        ),
        (
            lambda e: Answer(logits=e),
            "Answer with 'image_embeds': NoneType, 'last_hidden_state': NoneType",
        ),
        (lambda e: SimpleNamespace(embedding=e), "SimpleNamespace"),
    ],
)
def test_outputs_that_are_asked_about(
    pack: Callable[[Tensor], Any], described: str
) -> None:
    message = f"'Answering' returned {described}.*; say with embedding=... which entry"
    with pytest.raises(ModelError, match=message):
        model_of(Answering(pack)).embed(images(3))


def test_class_token_of_a_last_hidden_state() -> None:
    network = Answering(
        lambda e: {"last_hidden_state": torch.stack([e, e + 1, e - 1], 1)}
    )
    with pytest.raises(ModelError, match="say with embedding="):
        model_of(network).embed(images(3))
    network.cls_token = nn.Parameter(torch.zeros(4))
    torch.testing.assert_close(model_of(network).embed(images(3)), averages(network))


def test_entries_by_the_names_of_fields() -> None:
    network = Answering(lambda e: Pair(e + 1, e))
    found = model_of(network, embedding="logits").embed(images(3))
    torch.testing.assert_close(found, averages(network))
    network = Answering(lambda e: Answer(image_embeds=e + 1, logits=e))
    found = model_of(network, embedding="logits").embed(images(3))
    torch.testing.assert_close(found, averages(network))


def test_an_entry_that_is_no_embedding() -> None:
    network = Answering(lambda e: {"a": "text", "b": e})
    with pytest.raises(ModelError, match=r"entry 'a' in the output .* is str; a tens"):
        model_of(network, embedding="a").embed(images(3))
    with pytest.raises(ModelError, match=r"entry 'a' in the output .* is str; a tens"):
        model_of(network, embedding=["b", "a"]).embed(images(3))


# --------------------------------------------------------------------------------------
# Branches
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "key", "names"),
    [
        (lambda e: [e, 2 * e], None, "01"),
        (lambda e: (e, 2 * e, 3 * e), None, "012"),
        (lambda e: {"embeddings": [e, 2 * e]}, None, "01"),
        (lambda e: {"all": [e[..., None, None], 2 * e[..., None, None]]}, "all", "01"),
        (lambda e: {"b": 2 * e, "a": e, "c": e}, ["a", "b"], "ab"),
        (lambda e: (e, 2 * e), (0, 1), "01"),
    ],
)
def test_branches_are_concatenated(
    pack: Callable[[Tensor], Any], key: Any, names: str
) -> None:
    network = Answering(pack)
    model = model_of(network, embedding=key)
    found, expected = model.embed(images(3)), averages(network)
    assert model.branches == tuple(
        Branch(name, 4 * i, 4 * i + 4) for i, name in enumerate(names)
    )
    for factor, branch in enumerate(model.branches, 1):
        torch.testing.assert_close(found[:, branch.places], factor * expected)


class Stripes(nn.Module):
    """Part features of PCB: the averages of horizontal stripes, each of one length."""

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        maps = self.trunk(x).relu()
        parts = nn.functional.normalize(maps.unflatten(2, (2, 2)).mean((3, 4)), dim=1)
        return parts.flatten(1) if self.flat else parts


def test_part_features() -> None:
    torch.manual_seed(0)
    network = Stripes()
    model = model_of(network, name="pcb")
    embeddings = model.embed(images(3))
    # In the order of a network that flattens them itself.
    flat = Stripes(flat=True)
    flat.load_state_dict(network.state_dict())
    torch.testing.assert_close(embeddings, model_of(flat).embed(images(3)))
    assert model.branches == (Branch("part 0", 0, 8, 2), Branch("part 1", 1, 8, 2))
    with torch.no_grad():
        parts = network(images(3))
    for i, branch in enumerate(model.branches):
        torch.testing.assert_close(embeddings[:, branch.places], parts[:, :, i])


def test_shares_of_branches() -> None:
    torch.manual_seed(0)
    model = model_of(Stripes())
    # Alike above the middle; below it one is the negative of the other.
    upper = torch.randint(0, 255, (4, 6, 3), dtype=torch.uint8)
    lower = torch.randint(0, 255, (4, 6, 3), dtype=torch.uint8)
    query, gallery = (
        Image.fromarray(torch.cat([upper, half]).numpy()) for half in (lower, ~lower)
    )
    pair = explain_pair(model, query, gallery)
    assert sum(pair.branches.values()) == pytest.approx(pair.score, abs=1e-6)
    # A convolution across the middle sees a little of the lower half.
    assert pair.branches["part 0"] > 0.49
    assert pair.branches["part 1"] < 0.45
    # The evidence of the rows of each stripe is the score of its branch.
    total = pair.query.evidence.reshape(2, -1).sum(1)
    assert total.tolist() == pytest.approx(list(pair.branches.values()), abs=1e-5)
    assert explain_pair(model_of(Answering(lambda e: e)), query, gallery).branches == {}


def test_evidence_of_all_branches_is_added() -> None:
    network = Answering(lambda e: [e, 2 * e])
    head = model_of(network).linearize(images(3))
    rows = torch.arange(3)
    partners = head.embedding.roll(1, 0)
    result = attribute(head, rows, partners)
    with torch.no_grad():
        maps = network.trunk(images(3))
    e, g = maps.mean((2, 3)), maps.mean((2, 3)).roll(1, 0)
    expected = (maps * g[..., None, None]).sum(1) / maps[0, 0].numel()
    expected = expected / (e.norm(dim=1) * g.norm(dim=1))[:, None, None]
    torch.testing.assert_close(result.evidence, expected)


# --------------------------------------------------------------------------------------
# Inputs of modules
# --------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A network that normalizes what its classifier is given."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Linear(CHANNELS, 6), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(2 * self.trunk(x).relu().mean((2, 3)))


@pytest.mark.parametrize("name", ["<head", "<head.0", "<head.1"])
def test_the_input_of_a_module(name: str) -> None:
    torch.manual_seed(0)
    network = Classifier()
    before = list(network.state_dict())
    with torch.no_grad():
        pooled = 2 * network.trunk(images(3)).relu().mean((2, 3))
        expected = network.head[0](pooled) if name == "<head.1" else pooled
    for model in (
        model_of(network, embedding_layer=name),
        model_of(nn.DataParallel(network), embedding_layer=name).with_layer("trunk"),
    ):
        torch.testing.assert_close(model.embed(images(3)), expected)
        head = model.linearize(images(3))
        assert model.layer == "trunk"
        torch.testing.assert_close(head.embedding, expected)
    # The network is left as it was, and its weights are shared.
    assert list(network.state_dict()) == before
    assert network(images(3)).shape == (3, 2)
    with torch.no_grad():
        network.trunk.weight.zero_()
        network.trunk.bias.fill_(1)
    if name == "<head":
        torch.testing.assert_close(model.embed(images(3)), torch.full((3, 4), 2.0))


def test_the_input_of_a_module_that_there_is_not() -> None:
    with pytest.raises(ModelError, match=r"no layer 'heda'; did you mean 'head'"):
        model_of(Classifier(), embedding_layer="<heda")
    with pytest.raises(ModelError, match=r"has no layer ''"):
        model_of(Classifier(), embedding_layer="<")


# --------------------------------------------------------------------------------------
# Batches of one
# --------------------------------------------------------------------------------------


class Squeezing(nn.Module):
    """A network that removes the batch of a single image with the pooled axes."""

    def __init__(self, norm: bool = False, pooled: bool = True) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm1d(CHANNELS) if norm else nn.Identity()
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        maps = self.relu(self.trunk(x))
        return self.norm(maps.mean((2, 3), keepdim=True).squeeze())


class FromTwoOn(nn.Module):
    """A network that cannot take a single image, and says so after its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.trunk(x).mean((2, 3))
        if len(x) < 2:
            raise RuntimeError("expected at least two images")
        return self.head(pooled)


@pytest.mark.parametrize("make", [Squeezing, lambda: Squeezing(norm=True), FromTwoOn])
@pytest.mark.parametrize("first", ["embed", "linearize"])
def test_a_single_image_is_as_in_a_batch(
    make: Callable[[], nn.Module], first: str
) -> None:
    torch.manual_seed(0)
    network = make()
    batch = images(3)
    expected = model_of(network).linearize(batch)
    rows = torch.arange(3)
    maps = attribute(expected, rows, expected.embedding.roll(1, 0))
    model = model_of(network)
    getattr(model, first)(batch[:1])
    for i in range(3):
        assert model.embed(batch[[i]]).shape == expected.embedding[[i]].shape
        head = model.linearize(batch[[i]])
        assert head.leaf.shape == (1, *MAP)
        torch.testing.assert_close(head.feature_map[0], expected.feature_map[i])
        torch.testing.assert_close(head.embedding[0], expected.embedding[i])
        alone = attribute(head, rows[:1], expected.embedding.roll(1, 0)[[i]])
        torch.testing.assert_close(alone.evidence[0], maps.evidence[i])
        torch.testing.assert_close(alone.remainder[0], maps.remainder[i])


def test_paths_of_one_step() -> None:
    torch.manual_seed(0)
    network = Squeezing()
    model, image = model_of(network), images(1)[0]
    partner = model.embed(images(2, seed=1))[:1]
    leaf, outputs, embeddings = model.record(image[None], ["trunk"])
    assert (len(leaf), len(outputs["trunk"]), len(embeddings)) == (1, 1, 1)
    (slope,) = torch.autograd.grad(embeddings.sum(), outputs["trunk"])
    passed = (outputs["trunk"] > 0).float() / outputs["trunk"][0, 0].numel()
    torch.testing.assert_close(slope, passed)
    result = attribute_path(model, image, partner, steps=1)
    total = result.path.sum((1, 2)) + result.remainder
    torch.testing.assert_close(total, result.score)


def test_no_more_runs_than_needed() -> None:
    network = Squeezing()
    model = model_of(network)
    model.embed(images(3))
    model.find_layer(images(3))
    network.calls.clear()
    model.linearize(images(1))
    model.embed(images(1))
    model.embed(images(4))
    assert network.calls == [2, 2, 4]


def test_a_network_that_fails_on_two_images_as_well() -> None:
    network = FromTwoOn()
    network.head = nn.Linear(CHANNELS + 1, 5)
    with pytest.raises(
        ModelError, match=r"input of shape \(1, 3, 8, 6\) \(.*expected at least two im"
    ):
        model_of(network).embed(images(1))


# --------------------------------------------------------------------------------------
# Channels, and what networks do inside
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "count"), [("L", 1), ("RGBA", 4)])
def test_gray_and_four_channels(mode: Any, count: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(count, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    options = {"mean": (0.5,) * count, "std": (0.5,) * count, "channels": mode}
    model = EmbeddingModel(network, Preprocessing((8, 6), **options))
    first, second = (Image.linear_gradient("L").rotate(angle) for angle in (0, 90))
    assert model.prepare(first).shape == (count, 8, 6)
    pair = explain_pair(model, first, second)
    assert pair.query.evidence.shape == (4, 3)
    assert pair.query.evidence.sum() == pytest.approx(pair.score, abs=1e-6)


class NormalizesInPlace(nn.Module):
    """A network that normalizes images in place, and needs the usual memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x.view(-1).sub_(0.5).div_(2)
        return self.trunk(x).relu().mean((2, 3))


class CastsInside(nn.Module):
    """A network that computes its maps in bfloat16 itself."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = self.trunk(x).relu()
        return maps.float().mean((2, 3))


@pytest.mark.parametrize("make", [NormalizesInPlace, CastsInside])
def test_work_in_place_and_autocast_inside(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make()
    model = model_of(network)
    batch = images(3)
    kept = batch.clone()
    model.find_layer(batch)
    first = model.embed(batch)
    head = model.linearize(batch)
    assert torch.equal(batch, kept)
    torch.testing.assert_close(model.embed(batch), first)
    torch.testing.assert_close(head.embedding, first)
    result = attribute(head, torch.arange(3), head.embedding.roll(1, 0))
    total = result.evidence.sum((1, 2)) + result.remainder
    torch.testing.assert_close(total, result.score, rtol=0, atol=1e-5)
    assert float(result.remainder.abs().max()) < 1e-2
