"""How a network is run: order of the numbers in memory, and precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel


class Views(nn.Module):
    """A network that flattens its map with ``view``, as many face networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 5, 3, padding=1)
        self.head = nn.Linear(5 * 4 * 4, 6)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        return self.head(maps.view(len(maps), -1))


def deep(channels: int = 16) -> nn.Sequential:
    """Two convolutions, pooling, and a linear head without bias."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 8, bias=False),
    )


def model_of(network: nn.Module, **options: object) -> EmbeddingModel:
    return EmbeddingModel(network, lambda _: torch.zeros(3, 4, 4), **options)


def orders(module: nn.Module) -> list[bool]:
    """Note, for every call, whether the module is given channels last in memory."""
    seen: list[bool] = []
    module.register_forward_pre_hook(
        lambda _module, inputs: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    return seen


def test_convolutions_are_given_channels_last() -> None:
    network = deep().eval()
    seen = orders(network[0])
    images = torch.randn(3, 3, 6, 5)
    found = model_of(network).embed(images)
    assert seen == [True, True]
    # The caller's images stay as they are.
    assert images.is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(found, network(images), rtol=1e-5, atol=1e-6)


class Joins(nn.Module):
    """Joins images and channels in a view, which one image alone would survive."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        count, channels, height, width = maps.shape
        joined = maps.view(count * channels, height, width)
        return joined.mean((1, 2)).view(count, channels)


def test_a_network_that_needs_the_usual_order_for_two_images() -> None:
    torch.manual_seed(0)
    network = Joins().eval()
    images = torch.randn(3, 3, 4, 4)
    model = model_of(network)
    # The first call has one image, as where the first batch is small.
    found = torch.cat([model.embed(images[:1]), model.embed(images[1:])])
    with torch.no_grad():
        torch.testing.assert_close(found, network(images))
    assert model.linearize(images).feature_map.shape == (3, 4, 2, 2)


def test_a_network_that_needs_the_usual_order_gets_it() -> None:
    torch.manual_seed(0)
    network = Views().eval()
    seen = orders(network.trunk)
    images = torch.randn(3, 3, 4, 4)
    model = model_of(network)
    found = model.embed(images)
    head = model.linearize(images)
    # Tried once, and never again.
    assert seen[0]
    assert not any(seen[1:])
    with torch.no_grad():
        torch.testing.assert_close(found, network(images))
    torch.testing.assert_close(head.embedding, found)
    # The head's bias is what no map carries.
    rows = torch.arange(3)
    result = attribute(head, rows, head.embedding[[1, 2, 0]])
    partner = head.embedding[1]
    lengths = head.embedding[0].norm() * partner.norm()
    bias = (network.head.bias @ partner / lengths).item()
    assert float(result.remainder[0]) == pytest.approx(bias, abs=1e-6)


def test_lower_precision_ends_at_the_layer() -> None:
    network = deep().eval()
    types: dict[str, torch.dtype] = {}
    for name in ("0", "2", "6"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: types.update(
                {name: output.dtype}
            )
        )
    images = torch.randn(4, 3, 8, 8)
    exact = model_of(network).linearize(images)
    assert set(types.values()) == {torch.float32}
    model = model_of(network, precision="bfloat16")
    head = model.linearize(images)
    assert types["0"] == torch.bfloat16
    assert types["6"] == torch.float32
    assert head.leaf.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(model.embed(images), head.embedding, rtol=0, atol=0)

    rows, others = torch.arange(4), [1, 2, 3, 0]
    one = attribute(exact, rows, exact.embedding[others])
    other = attribute(head, rows, head.embedding[others])
    # What it explains is a little different; the explanation is as exact as ever.
    assert 0 < float((one.score - other.score).abs().max()) < 0.01
    torch.testing.assert_close(
        other.evidence.sum((1, 2)), other.score, rtol=1e-5, atol=1e-6
    )
    for exactly, about in zip(one.evidence, other.evidence, strict=True):
        both = torch.stack([exactly.flatten(), about.flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.999


def test_another_layer_keeps_the_precision() -> None:
    model = model_of(deep(), precision="bfloat16").with_layer("0")
    assert model.precision == "bfloat16"


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(ModelError, match="use one of float32, bfloat16, float16"):
        model_of(deep(), precision="int8")
