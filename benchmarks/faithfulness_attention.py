"""Maps of transformers with a class token: attention rollout, LeGrad, Grad-ECLIP.

They read the attention of ``F.scaled_dot_product_attention`` in every block, of which
the first token is the class token. An EdgeFace has no such token, and its attention is
between channels, so that none of them applies to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity


@dataclass(frozen=True)
class Attention:
    """One block's attention of B images and M heads, with its graph."""

    query: Tensor  # (B, M, N, d)
    key: Tensor  # (B, M, N, d)
    value: Tensor  # (B, M, N, d)
    weights: Tensor  # (B, M, N, N)
    output: Tensor  # (B, M, N, d)


class Recorded(TorchFunctionMode):
    """Keep what goes in and out of all attention layers."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Attention] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") != "scaled_dot_product_attention":
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        output = weights @ value
        self.blocks.append(Attention(query, key, value, weights, output))
        return output


def on_the_image(model: EmbeddingModel, image: Tensor, row: Tensor) -> Tensor:
    """Arrange values of all tokens (P, N), without the class token's, as the image."""
    return row[..., 1:].unflatten(-1, model.find_layer(image[None]).shape[1:])


def rollout(model: EmbeddingModel, image: Tensor, _partners: Tensor) -> Tensor:
    """Multiply the attention of all blocks: attention rollout.

    S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers",
    arXiv:2005.00928: the heads' mean plus the identity, with rows that sum to 1. The
    partner plays no part.
    """
    with Recorded() as mode:
        model.embed(image[None])
    product = torch.eye(mode.blocks[0].weights.shape[-1])
    for block in mode.blocks:
        mixed = block.weights[0].mean(0) + torch.eye(len(product))
        product = mixed / mixed.sum(-1, keepdim=True) @ product
    return on_the_image(model, image, product[:1])


def legrad(
    layers: tuple[str, ...], head: Callable[[EmbeddingModel, Tensor], Tensor]
) -> Callable[..., Tensor]:
    """Average the positive gradients of the attention weights over blocks: LeGrad.

    W. Bousselham et al., "LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity", arXiv:2404.03214. The tokens after each block go
    through the network's ``head``, and the gradient of their score with respect to the
    weights of the same block, without its negative part, is averaged over heads,
    queries and blocks. The paper's division of the result by its range changes no
    ranking and is left out.
    """

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        with Recorded() as mode:
            _, outputs, _ = model.record(image[None], layers)
        with torch.enable_grad():
            embeddings = [head(model, outputs[layer])[0] for layer in layers]
        found = []
        for partner in partners:
            rows = []
            for embedding, block in zip(embeddings, mode.blocks, strict=True):
                score = similarity(embedding, partner, model.metric)
                (slope,) = torch.autograd.grad(score, block.weights, retain_graph=True)
                rows.append(slope[0].relu().mean((0, 1)))
            found.append(torch.stack(rows).mean(0))
        return on_the_image(model, image, torch.stack(found))

    return maps


def grad_eclip(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Weight the values of the last block by channel and by place: Grad-ECLIP.

    C. Zhao et al., "Gradient-based Visual Explanation for Transformer-based CLIP",
    ICML 2024, arXiv:2502.18816: ``relu(sum_c w_c l_i v_ic)`` with the gradient ``w`` of
    the score with respect to the class token's output of the attention, the values
    ``v`` of place i, and a spatial weight ``l`` in place of the softmax. Decided here:
    ``l`` is the cosine of the class token's query and the key of the place over all
    heads, its range over the places brought to 0 to 1.
    """
    with Recorded() as mode:
        _, _, embeddings = model.record(image[None])
    block = mode.blocks[-1]
    # Tokens first, then all heads' channels.
    query, key, value = (
        part[0].transpose(0, 1).flatten(1).detach()
        for part in (block.query, block.key, block.value)
    )
    loose = torch.cosine_similarity(query[:1], key, dim=1)
    low, high = loose[1:].min(), loose[1:].max()
    places = (loose - low) / (high - low).clamp(min=1e-12)
    found = []
    for partner in partners:
        score = similarity(embeddings[0], partner, model.metric)
        (slope,) = torch.autograd.grad(score, block.output, retain_graph=True)
        channels = slope[0, :, 0].flatten()
        found.append((places * (value @ channels)).relu())
    return on_the_image(model, image, torch.stack(found))
