"""Tiny networks, each with its head written down apart from it.

All take images of 3 x 8 x 6 and have, at the layer that is explained, feature maps of
4 x 4 x 3, so that rows and columns cannot be mistaken for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fiftyone_sfam.network.heads import LinearizedHead, as_leaf

IMAGE = (3, 8, 6)
MAP = (4, 4, 3)
CHANNELS, HEIGHT, WIDTH = MAP


def linearize_head(
    head: Callable[[Tensor], Tensor], feature_map: Tensor
) -> LinearizedHead:
    """A head evaluated at feature maps, without a network before it."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = as_leaf(feature_map)
        # The clone lets a head work in place without touching the leaf.
        return LinearizedHead(leaf, head(leaf.clone()))


class Network(nn.Module):
    """A convolution, and what makes an embedding of its maps."""

    def __init__(self, head: nn.Module, relu: bool = True) -> None:
        super().__init__()
        convolution = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.trunk = nn.Sequential(convolution, nn.ReLU() if relu else nn.Identity())
        self.head = head

    def forward(self, images: Tensor) -> Any:
        return self.head(self.trunk(images))


class AveragePooling(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class MaxPooling(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3))


class GeneralizedMean(nn.Module):
    """GeM pooling, with a power that is no whole number."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=1e-6).pow(2.5).mean((2, 3)).pow(1 / 2.5)


class Gated(nn.Module):
    """Average pooling in which each position decides about its own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return (maps * torch.sigmoid(self.gate(maps))).mean((2, 3))


class InPlace(nn.Module):
    """Average pooling after a ReLU that overwrites the maps that it is given."""

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu_(maps).mean((2, 3))


class PooledHead(nn.Module):
    """A convolution, and further layers after its pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(CHANNELS, 5, 3, padding=1)
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.neck = nn.Linear(5, 6)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = self.pooling(self.convolution(maps).relu())
        return self.neck(pooled.flatten(1))


class Answering(nn.Module):
    """A network that packs its embedding, the averages of its maps, into something."""

    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.pack = pack

    def forward(self, images: Tensor) -> Any:
        return self.pack(self.trunk(images).mean((2, 3)))


class Auxiliary(nn.Module):
    """A branch that runs last, and on which the embedding does not depend."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.branch = nn.Conv2d(CHANNELS, 2, 1)
        self.branch_maps: tuple[int, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        self.branch_maps = tuple(self.branch(maps).shape)
        return maps.mean((2, 3))


class CalledTwice(nn.Module):
    """One module that runs two times; its second run makes the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.shared = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.shared(self.shared(self.stem(images)).relu()).mean((2, 3))


class AddedInPlace(nn.Module):
    """A shift that is added, in place, to what the layer has returned."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.shift = nn.Parameter(torch.randn(CHANNELS, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        maps += self.shift
        return maps.mean((2, 3))


class Overwritten(nn.Module):
    """A head that spoils, in place, what its own gradient needs."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        gates = torch.sigmoid(maps)
        maps = maps * gates
        gates += 1
        return maps.mean((2, 3))


class Transformer(nn.Module):
    """A vision transformer in small: patches become tokens at once.

    With ``convolution`` its patch embedding is one, as usual; else there is no map at
    all.
    """

    def __init__(self, convolution: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, stride=2) if convolution else None
        self.projection = nn.Linear(12, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        if self.patches is None:
            patches = functional.unfold(images, 2, stride=2)
            tokens = self.projection(patches.transpose(1, 2))
        else:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.block(tokens).mean(1)


class FrozenBackbone(nn.Module):
    """A trained head on a backbone that the network itself runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            maps = self.backbone(images)
        return self.head(maps.mean((2, 3)))


class Detached(nn.Module):
    """An embedding made of the maps in a way that has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images).detach().mean((2, 3))


class Trained(nn.Module):
    """A network with layers that behave otherwise while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(self.norm(self.trunk(images))).mean((2, 3))


class SideInformation(nn.Module):
    """Maps to which an embedding of the camera is added, as in TransReID's SIE.

    The time of day scales them.
    """

    def __init__(self, cameras: int = 3) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.cameras = nn.Embedding(cameras, CHANNELS)
        self.mixed = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor, cam_label: Tensor, hour: Tensor) -> Tensor:
        assert cam_label.dtype == torch.int64
        assert hour.dtype == torch.float32
        camera = self.cameras(cam_label)[..., None, None]
        maps = self.trunk(x) * hour[:, None, None, None] + camera
        return self.mixed(maps.relu()).mean((2, 3))


@dataclass(frozen=True)
class Case:
    """A network, the layer it is explained at, and the rest of it.

    ``remainder`` says what the map cannot carry: nothing (``none``), the head's biases
    (``affine``), or something that only differentiation tells (``curved``).
    """

    network: nn.Module
    layer: str
    head: Callable[[Tensor], Tensor]
    remainder: str


def _case(head: nn.Module, remainder: str, *, relu: bool = True) -> Case:
    return Case(Network(head, relu), "trunk", head, remainder)


def _depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, (HEIGHT, WIDTH), groups=CHANNELS, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.Flatten(),
    )


def _bn_neck() -> nn.Module:
    return nn.Sequential(
        AveragePooling(), nn.Linear(CHANNELS, 24), nn.BatchNorm1d(24), nn.ReLU()
    )


def _called_twice() -> Case:
    return Case(CalledTwice(), "shared", AveragePooling(), "none")


def _added_in_place() -> Case:
    network = AddedInPlace()
    return Case(
        network, "trunk", lambda maps: (maps + network.shift).mean((2, 3)), "affine"
    )


def _gated() -> Case:
    """The gate is held constant, so the head is linear."""
    module = Gated()

    def head(maps: Tensor) -> Tensor:
        return (maps * torch.sigmoid(module.gate(maps)).detach()).mean((2, 3))

    return Case(Network(module), "trunk", head, "none")


CASES: dict[str, Callable[[], Case]] = {
    "average": lambda: _case(AveragePooling(), "none"),
    "signed average": lambda: _case(AveragePooling(), "none", relu=False),
    "max": lambda: _case(MaxPooling(), "none"),
    "gem": lambda: _case(GeneralizedMean(), "none"),
    "average and linear": lambda: _case(
        nn.Sequential(AveragePooling(), nn.Linear(CHANNELS, 5)), "affine"
    ),
    "flatten and linear": lambda: _case(
        nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * HEIGHT * WIDTH, 7)), "affine"
    ),
    # As many axes as channels: the trap of multiplying the one with the other.
    "flatten and linear, C = D": lambda: _case(
        nn.Sequential(
            nn.Flatten(), nn.Linear(CHANNELS * HEIGHT * WIDTH, CHANNELS, bias=False)
        ),
        "none",
    ),
    "depthwise": lambda: _case(_depthwise(), "affine"),
    "bn neck": lambda: _case(_bn_neck(), "curved"),
    "gated": _gated,
    "in place": lambda: _case(InPlace(), "none", relu=False),
    "earlier layer": lambda: _case(PooledHead(), "curved"),
    "called twice": _called_twice,
    "added in place": _added_in_place,
}


def build(name: str, seed: int = 0) -> Case:
    """Make one of the cases, with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    case = CASES[name]()
    randomize(case.network)
    case.network.eval()
    return case


def randomize(network: nn.Module) -> None:
    """Give normalization layers statistics and weights as training leaves them."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)


def images(count: int, seed: int = 0) -> Tensor:
    """Random images, shape (count, 3, 8, 6)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *IMAGE, generator=generator)
