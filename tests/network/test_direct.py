"""Direct contributions to the class token, against their formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam import EmbeddingModel, Preprocessing
from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.metric import similarity

WIDTH, HEADS, SIZE = 8, 2, (24, 16)
Attention = Literal["fused", "masked", "by hand", "torch"]
Gate = Literal["gelu", "swiglu"]


class Block(nn.Module):
    """Attention in one of the ways in which libraries write it, and an MLP."""

    def __init__(self, attention: Attention, gate: Gate) -> None:
        super().__init__()
        self.attention, self.gate = attention, gate
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mixed = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        nn.init.normal_(self.mixed.in_proj_bias)
        nn.init.normal_(self.mixed.out_proj.bias)

    def qkv(self, tokens: Tensor) -> Tensor:
        """Return queries, keys and values, (3, B, heads, N, width of a head)."""
        weight, bias = self.mixed.in_proj_weight, self.mixed.in_proj_bias
        joined = F.linear(self.norm1(tokens), weight, bias)
        return joined.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.attention == "torch":
            normed = self.norm1(tokens)
            output = self.mixed(normed, normed, normed, need_weights=False)[0]
        else:
            query, key, value = self.qkv(tokens)
            if self.attention == "by hand":
                weights = query @ key.mT / query.shape[-1] ** 0.5
                output = F.dropout(weights.softmax(-1), 0.1, self.training) @ value
            else:
                count = tokens.shape[1]
                mask = torch.ones(count, count, dtype=torch.bool)
                given = mask if self.attention == "masked" else None
                output = F.scaled_dot_product_attention(query, key, value, given)
            output = self.mixed.out_proj(output.transpose(1, 2).flatten(2))
        tokens = tokens + output
        first, second = self.fc1(self.norm2(tokens)).chunk(2, 2)
        inner = F.gelu(first) if self.gate == "gelu" else F.silu(first) * second
        return tokens + self.fc2(inner)


class ClassToken(nn.Module):
    """A vision transformer whose embedding is that of its class token."""

    def __init__(
        self,
        attention: Attention = "fused",
        gate: Gate = "gelu",
        pooling: Literal["class", "mean", "norms"] = "class",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.patches = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.Sequential(*(Block(attention, gate) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)
        self.norms = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH))
        nn.init.normal_(self.norm.weight)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens that enter the first block."""
        patches = self.patches(images).flatten(2).mT
        return torch.cat([self.token.expand(len(images), -1, -1), patches], 1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.blocks(self.tokens(images))
        if self.pooling == "mean":
            return self.head(self.norm(tokens).mean(1))
        first = tokens[:, 0]
        if self.pooling == "norms":
            first = first + self.norms(first)
        return self.head(self.norm(first))


def model_of(network: nn.Module, **options: Any) -> EmbeddingModel:
    return EmbeddingModel(network, Preprocessing(SIZE), layer="direct", **options)


def images_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def written_of(network: ClassToken, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run the blocks; add up ``W_O (a_0j v_j)`` over them. Both are (B, N, width)."""
    tokens = network.tokens(images)
    written = torch.zeros_like(tokens)
    for block in network.blocks:
        assert isinstance(block, Block)
        query, key, value = block.qkv(tokens)
        weights = (query @ key.mT / (WIDTH // HEADS) ** 0.5).softmax(-1)
        shares = weights[:, :, 0, :, None] * value
        written += F.linear(
            shares.transpose(1, 2).flatten(2), block.mixed.out_proj.weight
        )
        tokens = block(tokens)
    return tokens, written


@torch.no_grad()
def by_definition(network: ClassToken, images: Tensor) -> Tensor:
    """Compute ``W (gamma / sigma) centered(W_O (a_0j v_j))``, (B, N, D)."""
    tokens, written = written_of(network, images)
    deviation = (tokens[:, 0].var(1, correction=0) + network.norm.eps).sqrt()
    centered = written - written.mean(2, keepdim=True)
    normed = network.norm.weight * centered / deviation[:, None, None]
    return F.linear(normed, network.head.weight)


@pytest.mark.parametrize("attention", ["fused", "masked", "by hand", "torch"])
@pytest.mark.parametrize("gate", ["gelu", "swiglu"])
def test_contributions_are_those_of_the_formula(
    attention: Attention, gate: Gate
) -> None:
    torch.manual_seed(0)
    network = ClassToken(attention, gate).eval()
    model, images = model_of(network), images_of(3)
    info = model.find_layer(images)
    assert (info.shape, info.prefix_tokens) == ((3 * WIDTH, 6, 4), 1)
    head = model.linearize(images)
    torch.testing.assert_close(head.embedding, network(images), atol=1e-5, rtol=0)
    expected = by_definition(network, images)
    found = head.position_contributions()
    torch.testing.assert_close(found, expected[:, 1:], atol=1e-5, rtol=1e-4)

    partners, rows = torch.randn(4, 5), torch.tensor([0, 0, 2, 1])
    maps = attribute(head, rows, partners, "cosine")
    lengths = head.embedding[rows].norm(dim=1) * partners.norm(dim=1)
    shares = (expected[rows] @ partners[:, :, None])[..., 0] / lengths[:, None]
    torch.testing.assert_close(
        maps.evidence.flatten(1), shares[:, 1:], atol=1e-5, rtol=1e-4
    )
    scores = similarity(head.embedding[rows], partners, "cosine")
    torch.testing.assert_close(maps.score, scores)
    torch.testing.assert_close(
        maps.evidence.sum((1, 2)) + maps.remainder, scores, atol=1e-5, rtol=0
    )
    of_token = head.prefix_evidence(rows, partners / lengths[:, None])
    torch.testing.assert_close(of_token, shares[:, 0], atol=1e-5, rtol=1e-4)


class NormByHand(nn.Module):
    """RMSNorm as libraries write it, with one of their ways to divide."""

    def __init__(self, divided: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.divided = divided
        self.weight = nn.Parameter(torch.randn(WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight * self.divided(tokens)


def squares(tokens: Tensor) -> Tensor:
    return tokens.pow(2).mean(-1, keepdim=True) + 1e-6


DIVISIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "rsqrt": lambda x: x * torch.rsqrt(squares(x)),
    "rsqrt first": lambda x: squares(x).rsqrt() * x,
    "rsqrt, types": lambda x: (x.float() * squares(x.float()).rsqrt()).type_as(x),
    "rsqrt, expanded": lambda x: x * squares(x).rsqrt().expand_as(x),
    "in place": lambda x: x.clone().mul_(squares(x).rsqrt_()),
    "reciprocal": lambda x: x * squares(x).sqrt().reciprocal(),
    "one over": lambda x: x * (1 / squares(x).sqrt()),
    "power": lambda x: x * squares(x) ** -0.5,
    "quotient": lambda x: x / squares(x).sqrt(),
    "norm": lambda x: x / (x.norm(dim=-1, keepdim=True) * WIDTH**-0.5),
    "linalg": lambda x: (
        x * (WIDTH**0.5 / torch.linalg.vector_norm(x, dim=-1)[..., None])
    ),
    "normalize": lambda x: F.normalize(x, dim=-1) * WIDTH**0.5,
}


@pytest.mark.parametrize("gate", ["gelu", "swiglu"])
@pytest.mark.parametrize("divided", DIVISIONS.values(), ids=DIVISIONS.keys())
def test_norms_written_by_hand_are_norms(
    divided: Callable[[Tensor], Tensor], gate: Gate
) -> None:
    torch.manual_seed(0)
    network = ClassToken(gate=gate).eval()
    last = NormByHand(divided)
    network.norm = last  # type: ignore[assignment]
    for block in network.blocks:
        block.norm1, block.norm2 = NormByHand(divided), NormByHand(divided)
    model, images = model_of(network), images_of(3)
    head = model.linearize(images)
    torch.testing.assert_close(head.embedding, network(images), atol=1e-5, rtol=0)
    with torch.no_grad():
        tokens, written = written_of(network, images)
        scale = squares(tokens[:, 0]).rsqrt()[:, None]
        expected = F.linear(last.weight * written * scale, network.head.weight)
    found = head.position_contributions()
    gap = (found - expected[:, 1:]).abs().max()
    assert gap <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ClassToken(pooling="mean"), "also comes from other tokens"),
        (lambda: ClassToken(pooling="norms"), "is not one linear map for all images"),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            "no attention layer over a class token and the image was recognized",
        ),
    ],
    ids=["mean", "norms", "convolution"],
)
def test_other_networks_are_refused(make: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=f"no direct contributions .*{reason}"):
        model_of(make()).find_layer(images_of(2))


def test_a_batch_of_one_and_half_precision() -> None:
    torch.manual_seed(0)
    network = ClassToken().eval()
    model, images = model_of(network), images_of(3)
    whole = model.linearize(images).position_contributions()
    single = model.linearize(images[1:2]).position_contributions()
    torch.testing.assert_close(single[0], whole[1], atol=1e-5, rtol=1e-4)
    half = model_of(ClassToken().eval().bfloat16())
    half.network.load_state_dict(network.state_dict())
    close = half.linearize(images).position_contributions()
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, whole, atol=0.05 * float(whole.std()), rtol=0.1)


def test_timms_transformers_keep_their_values() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0, img_size=64, patch_size=8)
    preprocess = Preprocessing((64, 64))
    model = EmbeddingModel(network.eval(), preprocess, layer="direct")
    images = torch.randn(2, 3, 64, 64)
    info = model.find_layer(images)
    assert (info.shape[1:], info.prefix_tokens) == ((8, 8), 1)
    head = model.linearize(images)
    torch.testing.assert_close(head.embedding, network(images), atol=1e-5, rtol=0)
    # Nothing of the network is left changed.
    assert all(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(ModelError, match=r"mix \[17\] tokens .* and 65 when"):
        model.linearize(torch.randn(1, 3, 32, 32))


def test_only_the_layer_may_be_direct() -> None:
    with pytest.raises(ModelError, match="has no layer 'direct'"):
        model_of(ClassToken(), embedding_layer="direct")
