"""Networks of face and person re-identification, written from their mathematics.

They are as small as their structure allows. What matters to the maps is how the last
feature map becomes the embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from architectures_blocks import GeM, Residual, VisionTransformer, trunk
from torch import Tensor, nn


class IResNet(nn.Module):
    """insightface's iResNet: the norm comes first, and the map is flattened."""

    class Unit(nn.Module):
        """A block: norm, convolution, norm, PReLU, convolution, norm."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inputs, eps=1e-5)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs, eps=1e-5)
            self.prelu = nn.PReLU(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs, eps=1e-5)
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs, eps=1e-5),
            )

        def forward(self, maps: Tensor) -> Tensor:
            values = self.prelu(self.bn2(self.conv1(self.bn1(maps))))
            result: Tensor = self.bn3(self.conv2(values)) + self.downsample(maps)
            return result

    def __init__(self, size: int = 112, first: int = 16, embedding: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first, eps=1e-5)
        self.prelu = nn.PReLU(first)
        widths = [first, first, 2 * first, 4 * first, 8 * first]
        for place in range(4):
            unit = self.Unit(widths[place], widths[place + 1], 2)
            setattr(self, f"layer{place + 1}", nn.Sequential(unit))
        self.bn2 = nn.BatchNorm2d(widths[-1], eps=1e-5)
        self.dropout = nn.Dropout(0.4, inplace=True)
        self.fc = nn.Linear(widths[-1] * (size // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=1e-5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.prelu(self.bn1(self.conv1(images)))
        for place in range(4):
            maps = getattr(self, f"layer{place + 1}")(maps)
        values = torch.flatten(self.bn2(maps), 1)
        result: Tensor = self.features(self.fc(self.dropout(values)))
        return result


class TransReID(VisionTransformer):
    """TransReID without cameras; with the jigsaw branch, five embeddings in a row."""

    def __init__(self, size: tuple[int, int], jigsaw: bool, groups: int = 4) -> None:
        super().__init__(size, stride=12, fused=False)
        last = self.blocks[-1]
        del self.blocks[-1]
        self.b1 = nn.Sequential(copy.deepcopy(last), self.norm)
        self.b2 = nn.Sequential(last, nn.LayerNorm(self.norm.normalized_shape))
        del self.norm
        self.jigsaw, self.groups = jigsaw, groups

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokens(images)
        for block in self.blocks:
            tokens = block(tokens)
        embeddings = [self.b1(tokens)[:, 0]]
        if self.jigsaw:
            first, patches = tokens[:, :1], tokens[:, 1:]
            # The patches are shifted by five and dealt into two piles.
            patches = torch.cat([patches[:, 5:], patches[:, :5]], dim=1)
            even = len(patches[0]) // 2 * 2
            dealt = (
                patches[:, :even].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
            )
            patches = torch.cat([dealt, patches[:, even:]], dim=1)
            length = patches.shape[1] // self.groups
            for group in range(self.groups):
                part = patches[:, group * length : (group + 1) * length]
                part = self.b2(torch.cat([first, part], dim=1))[:, 0]
                embeddings.append(part / self.groups)
        return torch.cat(embeddings, dim=1)


class PCB(nn.Module):
    """Six horizontal parts, each normalized and concatenated."""

    def __init__(self, parts: int = 6, reduced: int = 0) -> None:
        super().__init__()
        self.trunk = trunk(1, 2, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d((parts, 1))
        self.reduce = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(128, reduced, 1, bias=False),
                nn.BatchNorm2d(reduced),
                nn.ReLU(inplace=True),
            )
            for _ in range(parts if reduced else 0)
        )

    def forward(self, images: Tensor) -> Tensor:
        parts = self.pool(self.trunk(images))
        if not self.reduce:
            return F.normalize(parts, p=2, dim=1).flatten(1)
        pieces = []
        for place, reduce in enumerate(self.reduce):
            piece = reduce(parts[:, :, place : place + 1]).flatten(1)
            pieces.append(piece / piece.norm(dim=1, keepdim=True))
        return torch.cat(pieces, dim=1)


class MGN(nn.Module):
    """Three branches: the whole, two and three parts, and their max pooled values."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk(1, 2, 2)
        self.branches = nn.ModuleList(Residual(64, 128, s) for s in (2, 1, 1))
        self.reduce = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(128, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
            )
            for _ in range(8)
        )

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        pooled = []
        for parts, branch in enumerate(self.branches, start=1):
            values = branch(maps)
            pooled.append(F.adaptive_max_pool2d(values, 1))
            if parts > 1:
                striped = F.adaptive_max_pool2d(values, (parts, 1))
                pooled += striped.split(1, dim=2)
        pieces = [
            reduce(values).flatten(1)
            for reduce, values in zip(self.reduce, pooled, strict=True)
        ]
        return torch.cat(pieces, dim=1)


class Pooled(nn.Module):
    """A trunk and what pools its map."""

    def __init__(self, pool: nn.Module, *after: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk(1, 2, 2, 1)
        self.pool = pool
        self.neck = nn.Sequential(*after)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.neck(self.pool(self.trunk(images)))
        return result


class SpatialAttention(nn.Module):
    """The mean of the positions, weighted by a softmax over them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(size, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        weights = self.score(maps).flatten(2).softmax(dim=2)
        return torch.bmm(maps.flatten(2), weights.transpose(1, 2)).squeeze(2)


class QueryAttention(nn.Module):
    """Attention of a learned query to the positions, with torch's module."""

    def __init__(self, size: int, heads: int = 4) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, size))
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.norm = nn.LayerNorm(size)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.norm(maps.flatten(2).transpose(1, 2))
        query = self.query.expand(len(maps), -1, -1)
        result: Tensor = self.attention(query, tokens, tokens)[0][:, 0]
        return result


class Flipped(nn.Module):
    """A network's embeddings of an image and of its mirror image, added."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Pooled(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.network(images) + self.network(images.flip(3))
        return result


class OmniScale(nn.Module):
    """OSNet's unit: one to four convolutions, weighted by one gate that they share."""

    def __init__(self, size: int, depths: int = 4) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(*(self.light(size) for _ in range(depth + 1)))
            for depth in range(depths)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(size, size // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(size // 4, size, 1),
            nn.Sigmoid(),
        )

    @staticmethod
    def light(size: int) -> nn.Module:
        """Make a pointwise and a depthwise convolution."""
        return nn.Sequential(
            nn.Conv2d(size, size, 1, bias=False),
            nn.Conv2d(size, size, 3, 1, 1, groups=size, bias=False),
            nn.BatchNorm2d(size),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        total = torch.zeros_like(maps)
        for stream in self.streams:
            values = stream(maps)
            total = total + values * self.gate(values)
        return F.relu(maps + total)


class NonLocal(nn.Module):
    """AGW's block: each position adds a mean of all, weighted by their products."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(size, size // 2, 1) for _ in range(3))
        self.w = nn.Sequential(nn.Conv2d(size // 2, size, 1), nn.BatchNorm2d(size))

    def forward(self, maps: Tensor) -> Tensor:
        values = self.g(maps).flatten(2).permute(0, 2, 1)
        products = self.theta(maps).flatten(2).permute(0, 2, 1) @ self.phi(
            maps
        ).flatten(2)
        mixed = torch.matmul(products / products.size(-1), values)
        mixed = mixed.permute(0, 2, 1).contiguous().view(len(maps), -1, *maps.shape[2:])
        result: Tensor = self.w(mixed) + maps
        return result


class NormAndDirection(nn.Module):
    """AdaFace returns the embedding's direction and its length."""

    def __init__(self) -> None:
        super().__init__()
        self.network = IResNet()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.network(images)
        length = torch.norm(embedding, 2, 1, True)
        return torch.div(embedding, length), length


class TwoStages(VisionTransformer):
    """CLIP-ReID concatenates the class token with its projection."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size, fused=True)
        self.proj = nn.Parameter(torch.randn(48, 32) / 48**0.5)

    def forward(self, images: Tensor) -> Tensor:
        embedding = super().forward(images)
        return torch.cat([embedding, embedding @ self.proj], dim=1)


class NormalizesInside(nn.Module):
    """fast-reid takes values of 0 to 255 and normalizes them itself, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Pooled(GeM(), nn.BatchNorm1d(128))
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.4]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(self.get_buffer("mean")).div_(0.25)
        result: Tensor = self.network(images)
        return result


class OneBatch(Flipped):
    """Both images in one batch."""

    def forward(self, images: Tensor) -> Tensor:
        both = self.network(torch.cat([images, images.flip(3)]))
        first, second = both.chunk(2)
        return first + second


class Halves(Flipped):
    """The upper and the lower half through one network, concatenated."""

    def forward(self, images: Tensor) -> Tensor:
        halves = images.chunk(2, dim=2)
        return torch.cat([self.network(half) for half in halves], dim=1)


class HardSwish(nn.Module):
    """``x relu6(x + 3) / 6``, as code older than torch's own has it."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (F.relu6(maps + 3) / 6)


class Excited(nn.Module):
    """A map after ReLU times one hard gate per channel, as in MobileNetV3."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(size, size // 4, 1)
        self.expand = nn.Conv2d(size // 4, size, 1)

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = F.relu(self.reduce(maps.mean((2, 3), keepdim=True)))
        return maps * (F.relu6(self.expand(squeezed) + 3) / 6)


class Cosines(nn.Module):
    """A map's average compared with one vector per class."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, size))

    def forward(self, maps: Tensor) -> Tensor:
        pooled = maps.mean((2, 3))
        return F.cosine_similarity(pooled[:, None], self.weight[None], dim=2)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "iResNet": (IResNet, (112, 112)),
    "TransReID": (partial(TransReID, (256, 128), jigsaw=False), (256, 128)),
    "TransReID, jigsaw": (partial(TransReID, (256, 128), jigsaw=True), (256, 128)),
    "PCB": (PCB, (192, 64)),
    "PCB, reduced": (partial(PCB, reduced=32), (192, 64)),
    "MGN": (MGN, (192, 64)),
    "BNNeck": (
        lambda: Pooled(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(128)),
        (128, 64),
    ),
    "GeM": (lambda: Pooled(GeM()), (128, 64)),
    "GeM and BNNeck": (lambda: Pooled(GeM(), nn.BatchNorm1d(128)), (128, 64)),
    "spatial attention": (lambda: Pooled(SpatialAttention(128)), (128, 64)),
    "query attention": (lambda: Pooled(QueryAttention(128)), (128, 64)),
    "ViT": (partial(VisionTransformer, (64, 64)), (64, 64)),
    "ViT, unit length": (
        partial(VisionTransformer, (64, 64), fused=False, unit=True),
        (64, 64),
    ),
    "CLIP-ReID": (partial(TwoStages, (128, 64)), (128, 64)),
    "OSNet": (
        lambda: nn.Sequential(
            trunk(1, 2),
            OmniScale(32),
            OmniScale(32),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(inplace=True),
        ),
        (128, 64),
    ),
    "AGW": (
        lambda: nn.Sequential(
            trunk(1, 2, 2, 1), NonLocal(128), GeM(), nn.BatchNorm1d(128)
        ),
        (128, 64),
    ),
    "hard gates": (
        lambda: nn.Sequential(
            trunk(1, 2),
            Excited(32),
            nn.Conv2d(32, 64, 1),
            HardSwish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        (128, 64),
    ),
    "cosines": (lambda: Pooled(Cosines(128, 64)), (128, 64)),
    "AdaFace": (NormAndDirection, (112, 112)),
    "fast-reid": (NormalizesInside, (128, 64)),
    "mirror image": (Flipped, (128, 64)),
    "mirror image, one batch": (OneBatch, (128, 64)),
    "halves": (Halves, (128, 64)),
}
