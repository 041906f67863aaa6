"""Maps that verify faces by the gradients of single embedding values: FGGB, xSSAB.

Both weight the values ``k`` of an embedding by what they add to the similarity,
``c_k = e_k g_k / Z``, less their part of the threshold ``tau / D``: what is above
speaks for acceptance, what is below for rejection.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from faithfulness_masking import Maps
from torch import Tensor

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import normalizer

# Values of an embedding whose gradients are computed together: each has a copy of the
# image, which is half as long as batching the gradients of one.
_COPIES = 8


def arguments(
    embedding: Tensor, partners: Tensor, metric: str, threshold: float
) -> Tensor:
    """Return what each value of an embedding adds to the similarity over the threshold.

    Parameters
    ----------
    embedding : Tensor
        Shape (D,).
    partners : Tensor
        Shape (P, D).
    metric : {"cosine", "euclidean"}
        The similarity.
    threshold : float
        Similarity from which a pair is accepted.

    Returns
    -------
    Tensor
        Shape (P, D); the sum over D is the similarity minus the threshold.
    """
    scale = normalizer(embedding, partners, metric)[:, None]  # type: ignore[arg-type]
    return embedding * partners / scale - threshold / len(embedding)


def fggb(threshold: float) -> Maps:
    """Sum the gradients of the embedding's values, weighted by what they argue: FGGB.

    Y. Lu, Z. Xu, T. Ebrahimi, "Explainable Face Verification via Feature-Guided
    Gradient Backpropagation", arXiv:2403.04549: the gradient map of each value is
    normalized and weighted by ``c_k - tau / D``; the positive part is the similarity
    map, the negative part the dissimilarity map. Decided here: a gradient map is the
    sum of absolute values over the colors, divided by its sum, so that a map adds up
    to the similarity minus the threshold.
    """

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        weights = arguments(
            model.embed(image[None])[0], partners, model.metric, threshold
        )
        total = torch.zeros(len(partners), *image.shape[1:])
        for values, slopes in _slopes(model, image):
            heat = slopes.abs().sum(1)
            heat /= heat.sum((1, 2), keepdim=True).clamp(min=1e-30)
            total += torch.einsum("pk,khw->phw", weights[:, values], heat)
        return total

    return maps


def _slopes(model: EmbeddingModel, image: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the gradients (K, 3, H, W) of a few values of an image's embedding."""
    copies = image.expand(_COPIES, -1, -1, -1)
    leaf, _, embeddings = model.record(
        copies.contiguous(memory_format=torch.channels_last)
    )
    count = embeddings.shape[1]
    for start in range(0, count, _COPIES):
        values = slice(start, min(start + _COPIES, count))
        rows = torch.zeros_like(embeddings)
        places = torch.arange(values.stop - start)
        rows[places, start + places] = 1
        (slopes,) = torch.autograd.grad(embeddings, leaf, rows, retain_graph=True)
        yield values, slopes[: len(places)].float()


def xssab(threshold: float) -> Maps:
    """Propagate supporting and opposing arguments back to the pixels: xSSAB.

    M. Huber, A. T. Luu, P. Terhoerst, N. Damer, "Efficient Explainable Face
    Verification based on Similarity Score Argument Backpropagation", arXiv:2304.13409.
    The values of the embedding that add more than ``tau / D`` support the match, the
    others oppose it. Decided here: what goes back is ``c_k - tau / D`` of the one kind
    with zeros for the other, through the embedding at its own length, and a map is the
    sum of absolute values over the colors. Returns the similarity and the dissimilarity
    map, shape (2, P, H, W).
    """

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        leaf, _, embeddings = model.record(image[None])
        values = arguments(
            embeddings[0].detach().float(), partners, model.metric, threshold
        )
        found = []
        for rows in (values.clamp(min=0), values.clamp(max=0)):
            slopes = [
                torch.autograd.grad(
                    embeddings, leaf, row[None].to(embeddings), retain_graph=True
                )[0][0]
                for row in rows
            ]
            found.append(torch.stack(slopes).float().abs().sum(1))
        return torch.stack(found)

    return maps
