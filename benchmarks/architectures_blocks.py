"""Blocks and trunks of the networks that are written by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions and a shortcut, as in a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, maps: Tensor) -> Tensor:
        values = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        result: Tensor = self.relu(values + self.shortcut(maps))
        return result


def trunk(*strides: int, first: int = 16) -> nn.Sequential:
    """Make a small ResNet with one block per stage; each doubles the channels."""
    stem = nn.Sequential(
        nn.Conv2d(3, first, 7, 2, 3, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )
    stages = [
        Residual(first * 2 ** max(0, place - 1), first * 2**place, stride)
        for place, stride in enumerate(strides)
    ]
    return nn.Sequential(stem, *stages)


class GeM(nn.Module):
    """Generalized mean pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class Attention(nn.Module):
    """Self-attention of several heads, written out or with torch's function."""

    def __init__(self, size: int, heads: int, fused: bool = True) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(size, 3 * size)
        self.proj = nn.Linear(size, size)
        self.attn_drop = nn.Dropout(0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, size = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, size // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            weights = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5
            mixed = self.attn_drop(weights.softmax(dim=-1)) @ value
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, size))
        return result


class Block(nn.Module):
    """A transformer's block."""

    def __init__(self, size: int, heads: int, fused: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attn = Attention(size, heads, fused)
        self.mlp = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class VisionTransformer(nn.Module):
    """A ViT with a class token; its patches may overlap."""

    def __init__(
        self,
        size: tuple[int, int],
        patch: int = 16,
        stride: int = 16,
        width: int = 48,
        depth: int = 4,
        *,
        fused: bool = True,
        unit: bool = False,
    ) -> None:
        super().__init__()
        grid = [(side - patch) // stride + 1 for side in size]
        self.patch_embed = nn.Conv2d(3, width, patch, stride)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(
            0.2 * torch.randn(1, 1 + grid[0] * grid[1], width)
        )
        self.blocks = nn.ModuleList(Block(width, 3, fused) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.unit = unit

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens that enter the first block."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([token, patches], dim=1) + self.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokens(images)
        for block in self.blocks:
            tokens = block(tokens)
        embedding: Tensor = self.norm(tokens)[:, 0]
        return F.normalize(embedding, dim=1) if self.unit else embedding
