"""Only a layer whose positions are those of the image is explained."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layers import PARTIAL
from fiftyone_sfam.network.layouts import (
    CHANGES_EQUALLY,
    CONSTANT,
    MOVES_OTHERWISE,
    PADDED,
    LayerInfo,
    patched,
)
from fiftyone_sfam.network.views import View
from networks import CASES, build, images
from worlds import tiny_network


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A prepared image with structure at several scales, shape (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for size in (2, 5, 16):
        noise = torch.randn(1, 3, size, size, generator=generator)
        total += nn.functional.interpolate(noise, (height, width), mode="bilinear")
    return total


def model_of(network: nn.Module, layer: str | None = None) -> EmbeddingModel:
    return EmbeddingModel(network.eval(), lambda image: image, layer=layer)


def refusal(network: nn.Module, batch: Tensor, layer: str | None = None) -> str:
    with pytest.raises(ModelError) as error:
        model_of(network, layer).linearize(batch)
    return str(error.value)


def trunk(depth: int = 3, channels: int = 12) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place in range(depth):
        inputs = channels if place else 3
        layers += [nn.Conv2d(inputs, channels, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """A trunk, named ``net``, and what is done with it and the images."""

    def __init__(
        self, run: Callable[[nn.Module, Tensor], Tensor], seed: int = 0
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = trunk()
        self.last = nn.Identity()
        self.run = run

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.run(self.net, batch)
        return self.last(maps).mean((2, 3)) if maps.ndim == 4 else maps


def pooled(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


def halves(net: nn.Module, x: Tensor) -> Tensor:
    middle = x.shape[2] // 2
    parts = x[:, :, :middle], x[:, :, middle:]
    return torch.cat([pooled(net(part)) for part in parts], 1)


def doubled(net: nn.Module, x: Tensor) -> Tensor:
    return sum(pooled(net(torch.cat([x, x.flip(3)]))).chunk(2), torch.zeros(()))


def doubled_parts(net: nn.Module, x: Tensor) -> Tensor:
    parts = pooled(net(torch.cat(x.chunk(2, 2)))).chunk(2)
    return torch.cat(parts, 1)


TWICE = "which runs 2 times in a pass, "

# What the network does, the layer to name, and what keeps it from being explained.
WRONG: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str, str]] = {
    "upside down": (lambda net, x: net(x.flip(2)), "last", MOVES_OTHERWISE),
    "sum of maps": (lambda net, x: net(x) + net(x.flip(3)), "last", MOVES_OTHERWISE),
    "channels of both": (
        lambda net, x: torch.cat([net(x), net(x.flip(3))], 1),
        "last",
        MOVES_OTHERWISE,
    ),
}

# What the network does with its images, and what its layer then sees of each.
VIEWS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], list[View]]] = {
    "flip": (
        lambda net, x: pooled(net(x)) + pooled(net(x.flip(3))),
        [View(1, 0, 1), View(2, 0, 1, (2,))],
    ),
    "flip first": (
        lambda net, x: pooled(net(x.flip(3))) + pooled(net(x)),
        [View(1, 0, 1, (2,)), View(2, 0, 1)],
    ),
    "upside down too": (
        lambda net, x: torch.cat([pooled(net(x)), pooled(net(x.flip(2)))], 1),
        [View(1, 0, 1), View(2, 0, 1, (1,))],
    ),
    "halves": (halves, [View(1, 0, 1, (), "top"), View(2, 0, 1, (), "bottom")]),
    "doubled batch": (doubled, [View(1, 0, 2), View(1, 1, 2, (2,))]),
    "doubled parts": (
        doubled_parts,
        [View(1, 0, 2, (), "top"), View(1, 1, 2, (), "bottom")],
    ),
}

# Rearranged at the end only: the layers before can be explained.
REARRANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda maps: maps.transpose(2, 3),
    "tokens in a column": lambda maps: maps.flatten(2)[..., None],
    "tokens in a row": lambda maps: maps.flatten(2)[:, :, None],
    "tokens by channels": lambda maps: maps.flatten(2).transpose(1, 2)[:, None],
    "mirrored": lambda maps: maps.flip(3),
    "rolled": lambda maps: maps.roll(maps.shape[2] // 2, 2),
    "context": lambda maps: maps.mean((2, 3), keepdim=True).expand_as(maps).clone(),
    "gram": lambda maps: (maps.flatten(2).mT @ maps.flatten(2))[:, None],
}


SHAPES = [(64, 64, 0), (96, 48, 1)]
"""Height and width of the image, and the seed of the network."""


@pytest.mark.parametrize(("height", "width", "seed"), SHAPES)
@pytest.mark.parametrize("name", WRONG)
def test_mirror_images_in_one_map(
    name: str, height: int, width: int, seed: int
) -> None:
    run, layer, problem = WRONG[name]
    network, batch = Network(run, seed), picture(height, width, seed)
    message = refusal(network, batch, layer)
    assert message.startswith(f"layer '{layer}' of model 'Network' with output of ")
    if name == "upside down":
        assert f" {problem}; no layer that the embedding depends on has" in message
        assert " of model 'Network' with output of" in refusal(network, batch)
    else:
        # The backbone before sees both images.
        assert f" {problem}; name another layer, say 'net', or" in message
        assert len(model_of(network).find_layer(batch).views) == 2


@pytest.mark.parametrize(("height", "width", "seed"), SHAPES)
@pytest.mark.parametrize("name", VIEWS)
def test_the_map_of_each_run_is_put_back_where_it_saw_the_image(
    name: str, height: int, width: int, seed: int
) -> None:
    run, views = VIEWS[name]
    network = Network(run, seed)
    batch = torch.cat([picture(height, width, seed), picture(height, width, seed + 5)])
    model = model_of(network)
    info = model.find_layer(batch)
    assert (info.name, list(info.views)) == ("net", views)
    head = model.linearize(batch)
    torch.testing.assert_close(head.embedding, model.embed(batch))
    result = attribute(head, torch.tensor([0, 1]), head.embedding[[1, 0]])
    torch.testing.assert_close(result.evidence.sum((1, 2)), result.score)

    # All heads are averages, so evidence is the product of the maps with the partner.
    partner = head.embedding[1] / head.embedding.norm(dim=1).prod()
    with torch.no_grad():
        expected = expected_evidence(network.net, batch, views, partner)
    torch.testing.assert_close(result.evidence[0], expected, atol=1e-6, rtol=1e-4)


def expected_evidence(
    net: nn.Module, batch: Tensor, views: list[View], partner: Tensor
) -> Tensor:
    """The evidence of the first image, if each view is averaged by itself."""
    if views[0].part:
        weights = partner.chunk(2)
        maps = [net(part)[0] for part in batch.chunk(2, 2)]
    else:
        weights = partner.chunk(2) if len(partner) > 12 else (partner, partner)
        (flip,) = (view.flip for view in views if view.flip)
        dims = [dim + 1 for dim in flip]
        maps = [net(batch)[0], net(batch.flip(dims)).flip(dims)[0]]
    parts = [
        (one * weight[:, None, None]).sum(0) / one[0].numel()
        for one, weight in zip(maps, weights, strict=True)
    ]
    return torch.cat(parts) if views[0].part else parts[0] + parts[1]


def test_a_run_without_gradient_is_not_left_out_without_a_word() -> None:
    network = Network(lambda net, x: pooled(net(x.flip(3)).detach()) + pooled(net(x)))
    batch = picture(64, 64)
    assert "does not depend on layer 'net', or" in refusal(network, batch, "net")
    assert "has no layer with a map of the image" in refusal(network, batch)


@pytest.mark.parametrize(("height", "width", "seed"), SHAPES)
@pytest.mark.parametrize("name", REARRANGED)
def test_positions_in_another_order(
    name: str, height: int, width: int, seed: int
) -> None:
    network = Network(lambda net, x: REARRANGED[name](net(x)), seed)
    batch = picture(height, width, seed)
    message = refusal(network, batch, "last")
    # A gram matrix is a product of two values, so its network is explained earlier.
    layer = "net.2" if name == "gram" else "net"
    # The context is the same at all positions.
    problem = CHANGES_EQUALLY if name == "context" else MOVES_OTHERWISE
    assert f" {problem}; name another layer, say '{layer}', or say" in message
    assert model_of(network).find_layer(batch).name == layer


def test_a_map_that_the_image_does_not_reach() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = trunk()
            self.positions = nn.Conv2d(2, 12, 1)

        def forward(self, batch: Tensor) -> Tensor:
            maps = self.net(batch)
            grid = torch.ones(len(batch), 2, *maps.shape[2:])
            return (maps * self.positions(grid)).mean((2, 3))

    batch = picture(64, 64)
    message = refusal(Positions(), batch, "positions")
    assert f" {CONSTANT}; name another layer, say 'net', or say with" in message
    assert model_of(Positions()).find_layer(batch).name == "net"


class Mixed(nn.Module):
    """Adds a share of the transposed map, and the mean as channels of their own."""

    def __init__(self, mirrored: float, mean: float) -> None:
        super().__init__()
        self.mirrored, self.mean = mirrored, mean

    def forward(self, maps: Tensor) -> Tensor:
        means = self.mean * maps.mean((2, 3), keepdim=True).expand_as(maps)
        return torch.cat([maps + self.mirrored * maps.mT, means], 1)


@pytest.mark.parametrize(
    ("mirrored", "mean", "layer"),
    [
        # A map that follows the image half, and one that does so on top of a change
        # that is 300 times as large and the same everywhere.
        (0.6, 0, "2"),
        (0.6, 300, "1"),
        # It is small, too, but follows the image clearly.
        (0, 300, "2"),
    ],
)
def test_a_map_that_changes_nearly_equally_everywhere(
    mirrored: float, mean: float, layer: str
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8),
        nn.ReLU(),
        Mixed(mirrored, mean),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    batch = picture(256, 256)
    assert model_of(network).find_layer(batch).name == layer
    if layer == "2":
        assert model_of(network, "2").find_layer(batch).shape == (8, 32, 32)
    else:
        message = refusal(network, batch, "2")
        assert f"shape (8, 32, 32) {CHANGES_EQUALLY}; name another layer, say " in (
            message
        )


def test_padding_is_passed_over() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4),
        nn.ZeroPad2d(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    batch = picture(64, 64)
    assert model_of(network).find_layer(batch).name == "0"
    assert f"shape (4, 22, 22) {PADDED}; name another layer, say '0'" in refusal(
        network, batch, "1"
    )


class Attending(nn.Module):
    """Averages a map by weights that are computed from it."""

    def forward(self, maps: Tensor) -> Tensor:
        weights = maps.mean(1, keepdim=True).flatten(2).softmax(2)
        return (maps.flatten(2) * weights).sum(2)


def test_shares_that_differ_by_rounding_do_not_decide() -> None:
    """Every layer carries the same share; the last with enough positions is taken."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(4, 4, 2, stride=2, bias=False), nn.SiLU())
        for _ in range(3)
    ]
    head = nn.Linear(4, 5)
    nn.init.constant_(head.bias, 3.0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 2, stride=2, bias=False),
        *blocks,
        Attending(),
        head,
    )
    batch = picture(64, 64)
    model = model_of(network)
    info = model.find_layer(batch)
    assert (info.name, info.shape) == ("1", (4, 16, 16))
    # With the bias, no layer reaches the share that is enough.
    shares = [model.with_layer(f"{n}.0") for n in (1, 2, 3)]
    found = []
    for other in shares:
        other.find_layer(batch)
        found.append(other._runner.heads[other.layer].share)
    assert max(found) < 0.3
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


def test_the_last_of_several_runs_that_is_not_all() -> None:
    class Pyramid(nn.Module):
        """One head on maps of two resolutions."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net, self.head = trunk(), nn.Conv2d(12, 8, 1)

        def forward(self, batch: Tensor) -> Tensor:
            maps = self.net(batch)
            coarse = self.head(nn.functional.avg_pool2d(maps, 2)).relu()
            return pooled(coarse) + pooled(self.head(maps))

    batch = picture(64, 64)
    message = refusal(Pyramid(), batch, "head")
    assert f"(8, 8, 8), {TWICE}{PARTIAL}; name another layer, say 'net', or" in message
    assert model_of(Pyramid()).find_layer(batch).name == "net"


def test_two_branches_without_a_common_layer_say_what_is_explained() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = trunk(2, 8), trunk(3, 8)

        def forward(self, batch: Tensor) -> Tensor:
            return torch.cat([pooled(self.first(batch)), pooled(self.second(batch))], 1)

    network, batch = Branches(), picture(64, 64)
    with torch.no_grad():
        embedding = network.eval()(batch)[0]
    share = float(embedding[8:].square().sum() / embedding.square().sum())
    model = model_of(network)
    with pytest.warns(SfamWarning) as caught:
        assert model.find_layer(batch).name == "second"
    assert [str(one.message) for one in caught] == [
        "no layer of model 'Branches' carries its whole embedding; the last that it "
        f"depends on, 'second', is explained, with {100 * share:.1f} % of an image's "
        "similarity with itself. Name another with layer=...."
    ]


# --------------------------------------------------------------------------------------
# Transformers
# --------------------------------------------------------------------------------------


class ClassicTransformer(nn.Module):
    """A vision transformer as the first ones were written, with attention's dropout."""

    def __init__(self, grid: tuple[int, int], width: int = 24, heads: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = nn.Conv2d(3, width, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(1, grid[0] * grid[1] + 1, width) * 0.02)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.qkvs = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(3)])
        self.attn_drop = nn.ModuleList([nn.Dropout(0.1) for _ in range(3)])
        self.heads = heads

    def forward(self, batch: Tensor) -> Tensor:
        tokens = self.patch_embed(batch).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(batch), -1, -1), tokens], 1)
        tokens = tokens + self.places
        for norm, qkv, drop in zip(self.norms, self.qkvs, self.attn_drop, strict=True):
            parts = qkv(norm(tokens)).unflatten(-1, (3, self.heads, -1))
            queries, keys, values = parts.permute(2, 0, 3, 1, 4)
            weights = queries @ keys.mT / queries.shape[-1] ** 0.5
            mixed = drop(weights.softmax(-1)) @ values
            tokens = tokens + mixed.transpose(1, 2).flatten(2)
        return tokens[:, 0]


@pytest.mark.parametrize("grid", [(8, 8), (3, 3), (5, 5), (8, 4), (3, 7)])
def test_attention_of_a_classic_transformer(grid: tuple[int, int]) -> None:
    network, batch = ClassicTransformer(grid), picture(8 * grid[0], 8 * grid[1])
    count = grid[0] * grid[1] + 1
    message = refusal(network, batch, "attn_drop.2")
    assert f"with output of shape (3, {count}, {count}) {MOVES_OTHERWISE}; n" in message
    assert "say 'patch_embed', or say with layout=" in message
    # Between the blocks the tokens are no output of a module.
    assert model_of(network).find_layer(batch).name == "patch_embed"


@pytest.mark.parametrize("size", [(64, 64), (48, 48), (128, 64), (32, 96)])
def test_tokens_and_keys_of_timms_transformer(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=size)
    batch, grid = picture(*size), (size[0] // 16, size[1] // 16)
    tokens = math.prod(grid) + 1
    for layer in ("blocks.11.attn.k_norm", "blocks.0.attn.q_norm"):
        message = refusal(network, batch, layer)
        assert f"does not depend on layer '{layer}'" in message
        assert "(by default it is 'norm_pre')" in message
    model = model_of(network)
    info = LayerInfo("norm_pre", (192, *grid), 1, "tokens", prefix_tokens=1)
    assert model.find_layer(batch) == info
    listed = {info.name: info for info in model.layers(batch)}
    assert listed["patch_embed.proj"].layout == "NCHW"
    assert listed["blocks.0"].prefix_tokens == 1
    assert not any("k_norm" in name or "attn_drop" in name for name in listed)
    # The user may say what the layer is, but not against its size.
    said = EmbeddingModel(
        network, lambda image: image, layer="blocks.3", layout="tokens", prefix_tokens=1
    )
    assert said.find_layer(batch).shape == (192, *grid)
    said = EmbeddingModel(network, lambda image: image, layer="blocks.3", layout="NHWC")
    with pytest.raises(ModelError, match=rf"\(9, {tokens}, 192\), which does not have"):
        said.find_layer(batch)


def test_swin_with_channels_last() -> None:
    torch.manual_seed(0)
    network = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=64,
        window_size=4,
        embed_dim=24,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
    )
    batch = picture(64, 64)
    message = refusal(network, batch, "layers.0.blocks.0.attn.softmax")
    assert "returns 144 maps for 9 images; name another layer" in message
    info = model_of(network).find_layer(batch)
    assert info == LayerInfo("norm", (192, 2, 2), 1, "NHWC")
    listed = {info.name: info for info in model_of(network).layers(batch)}
    assert listed["layers.1"] == LayerInfo("layers.1", (48, 8, 8), 1, "NHWC")


def test_swin_that_brings_its_channels_forward() -> None:
    torch.manual_seed(0)
    network = torchvision.models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=[4, 4],
    )
    model, batch = model_of(network), picture(64, 64)
    assert model.find_layer(batch).name == "permute"
    listed = {info.name: info for info in model.layers(batch)}
    assert listed["features"] == LayerInfo("features", (192, 2, 2), 1, "NHWC")


# --------------------------------------------------------------------------------------
# Ordinary networks
# --------------------------------------------------------------------------------------

# The layer of the last map of each network, and the height and width of an image. The
# maps are small, so the check enlarges the image, which takes longest.
LAST = {
    "resnet18": ("layer4", 56, 48),
    "mobilenet_v3_small": ("features", 96, 32),
    "efficientnet_b0": ("features", 48, 32),
    "shufflenet_v2_x1_0": ("conv5", 64, 32),
    "squeezenet1_1": ("classifier.2", 80, 48),
}


@pytest.mark.parametrize("name", LAST)
def test_convolutional_networks(name: str) -> None:
    layer, height, width = LAST[name]
    torch.manual_seed(0)
    model = model_of(getattr(torchvision.models, name)(num_classes=5))
    assert model.find_layer(picture(height, width)).name == layer


def test_every_layer_of_a_residual_network_is_listed() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5)
    names = {info.name for info in model_of(network).layers(picture(64, 64))}
    maps = {name for name, _ in network.named_modules() if name[:5] in "conv1layer"}
    assert "layer4.1.conv2" in names
    assert {name for name in maps if "layer" in name} <= names


@pytest.mark.parametrize("name", CASES)
def test_tiny_maps_that_see_the_whole_image(name: str) -> None:
    for seed in range(4):
        case = build(name, seed)
        model = model_of(case.network, case.layer)
        assert model.find_layer(images(1, seed)).name == case.layer, seed


@pytest.mark.parametrize("size", [(6, 1), (1, 5), (2, 2), (3, 2)])
def test_stripes_and_coarse_maps(size: tuple[int, int]) -> None:
    for seed in range(3):
        network = Network(lambda net, x: net(x), seed)
        network.last = nn.AdaptiveAvgPool2d(size)
        batch = picture(96, 80, seed)
        # By default the finer map is explained, which the stripes are averages of.
        assert model_of(network).find_layer(batch).shape == (12, 12, 10), seed
        assert model_of(network, "last").find_layer(batch).shape == (12, *size), seed


@pytest.mark.parametrize("value", [0.0, 0.5, -2.0])
@pytest.mark.parametrize("size", [(16, 8), (3, 2), (1, 6), (5, 1)])
def test_images_of_one_color_and_of_few_pixels(
    value: float, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    batch = torch.full((2, 3, *size), value)
    assert model_of(network).find_layer(batch).shape == (8, *size)


def test_whole_numbers() -> None:
    class Bytes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_network()

        def forward(self, batch: Tensor) -> Tensor:
            return self.inner(batch / 255)

    batch = torch.arange(3 * 16 * 8, dtype=torch.uint8).reshape(1, 3, 16, 8)
    assert patched(batch[0]).dtype == torch.uint8
    assert model_of(Bytes()).find_layer(batch).name == "inner.body"


def test_quarters_cover_the_image_once() -> None:
    image = picture(6, 8)[0]
    found = patched(image)
    assert torch.equal(found, patched(image.clone()))
    changed = (found[1:] != found[:1]).any(1)
    for fill in changed.unflatten(0, (2, 4)):
        assert torch.equal(fill.sum(0), torch.ones(6, 8, dtype=torch.int64))
        assert fill[1].nonzero().amin(0).tolist() == [0, 4]
        assert fill[2].nonzero().amin(0).tolist() == [3, 0]
    # The colors that noise is made of are in the image.
    assert found.min() >= image.min()
    assert found.max() <= image.max()
