"""Similar Feature Activation Maps: where the similarity of two embeddings comes from.

The channel-wise contribution importance score (CIS) and the map that it weights are
those of Y. Liao et al., *Visual Explanation via Similar Feature Activation for Metric
Learning*, arXiv:2506.01636. The generalization to any differentiable head, the
``euclidean`` similarity, and the maps ``evidence``, ``contrast``, ``difference`` and
``point`` are this project's definitions.

Notation
--------
An image has a feature map ``A`` of shape ``(C, h, w)``; the rest of the network, the
head, turns it into the embedding ``e`` of shape ``(D,)``. With ``Z`` the normalizer of
a pair (:func:`normalizer`), held constant like the partner's embedding::

    similarity  s = <e_q, e_g> / Z
    V           = d<e_q, e_g>/dA_q / Z               (C, h, w)
    evidence    = sum over channels of V * A_q       (h, w)
    CIS         = sum over positions of V * A_q      (C,)
    sfam        = sum over channels of w_c A_q       (h, w), w = CIS or its min-max
    remainder   = s - sum(evidence)                  the part that the map cannot carry

All functions work on many pairs at once: for each pair, ``rows`` has the index of the
image in the batch whose side is explained. Only the head is differentiated, never the
part of the network before the feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import Metric, normalizer

if TYPE_CHECKING:
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.opaque import OpaqueModel

Weights = Literal["signed", "minmax"]
Side = Literal["query", "gallery"]

WEIGHTS: tuple[Weights, ...] = ("signed", "minmax")
SIDES: tuple[Side, ...] = ("query", "gallery")


@dataclass(frozen=True)
class Attribution:
    """One side of each of P pairs, explained.

    Attributes
    ----------
    score : Tensor
        Sum of the evidence and the remainder, shape (P,): the similarity, the margin
        (:func:`attribute_contrast`) or one side's share of the squared distance
        (:func:`attribute_difference`).
    evidence : Tensor
        Signed, shape (P, h, w), in units of the score.
    sfam : Tensor
        Signed, shape (P, h, w), in units of the score times the activation.
    cis : Tensor
        Channel-wise contribution importance, shape (P, C), in units of the score; has
        the same sum as ``evidence``.
    remainder : Tensor
        ``score - sum(evidence)``, shape (P,).
    cotangents : Tensor
        The vectors whose inner product with the embedding is the score, shape (P, D).
    """

    score: Tensor
    evidence: Tensor
    sfam: Tensor
    cis: Tensor
    remainder: Tensor
    cotangents: Tensor


def channel_weights(cis: Tensor, weights: Weights = "signed") -> Tensor:
    """Turn channel importances into the weights of the ``sfam`` map.

    Parameters
    ----------
    cis : Tensor
        Channel-wise contribution importance, shape (..., C).
    weights : {"signed", "minmax"}
        ``signed`` returns the importances unchanged; ``minmax`` scales each vector to
        [0, 1], as the authors' published code does for the predecessor of the method.
        If all importances of a vector are equal, its weights are 1.

    Returns
    -------
    Tensor
        Shape (..., C).

    Raises
    ------
    ValueError
        If ``weights`` is unknown.
    """
    if weights == "signed":
        return cis
    if weights == "minmax":
        low = cis.amin(-1, keepdim=True)
        span = cis.amax(-1, keepdim=True) - low
        flat = span == 0
        scaled = (cis - low) / torch.where(flat, torch.ones_like(span), span)
        return torch.where(flat, torch.ones_like(scaled), scaled)
    raise ValueError(f"unknown weights {weights!r}; use one of {', '.join(WEIGHTS)}.")


def attribute(
    head: LinearizedHead,
    rows: Tensor,
    partners: Tensor,
    metric: Metric = "cosine",
    weights: Weights = "signed",
) -> Attribution:
    """Explain the similarity of images with their partners, on the images' side.

    Parameters
    ----------
    head : LinearizedHead
        The images, B of them.
    rows : Tensor
        For each pair the image that is explained, shape (P,), int64 in 0..B-1. An
        image may take part in any number of pairs.
    partners : Tensor
        For each pair the embedding of the other image, shape (P, D).
    metric : {"cosine", "euclidean"}
        Similarity that is explained.
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map, see :func:`channel_weights`.

    Returns
    -------
    Attribution
        With ``score`` the similarity.
    """
    embedding = head.embedding[rows]
    partners = partners.to(embedding)
    scale = normalizer(embedding, partners, metric)
    score = (embedding * partners).sum(-1) / scale
    return _attribute(head, rows, partners / scale[:, None], score, weights)


def attribute_toward(
    head: LinearizedHead,
    rows: Tensor,
    vectors: Tensor,
    weights: Weights = "signed",
) -> Attribution:
    """Explain the inner products of embeddings with vectors that are held constant.

    Parameters
    ----------
    head : LinearizedHead
        The images, B of them.
    rows : Tensor
        For each vector the image that is explained, shape (P,), int64 in 0..B-1.
    vectors : Tensor
        The vectors, shape (P, D).
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map.

    Returns
    -------
    Attribution
        With ``score`` the inner product.
    """
    vectors = vectors.to(head.embedding)
    score = (head.embedding[rows] * vectors).sum(-1)
    return _attribute(head, rows, vectors, score, weights)


def attribute_contrast(
    head: LinearizedHead,
    rows: Tensor,
    true_matches: Tensor,
    impostors: Tensor,
    metric: Metric = "cosine",
    weights: Weights = "signed",
) -> Attribution:
    """Explain the margin between a query's true match and an impostor.

    Positive evidence speaks for the true match, negative evidence for the impostor.

    Parameters
    ----------
    head : LinearizedHead
        The query images, B of them.
    rows : Tensor
        For each contrast its query, shape (P,), int64.
    true_matches, impostors : Tensor
        Embeddings of the two gallery images of each contrast, shapes (P, D).
    metric : {"cosine", "euclidean"}
        Similarity that is explained.
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map.

    Returns
    -------
    Attribution
        With ``score`` the margin: similarity to the true match minus similarity to
        the impostor.
    """
    embedding = head.embedding[rows]
    true_matches, impostors = true_matches.to(embedding), impostors.to(embedding)
    cotangents = (
        true_matches / normalizer(embedding, true_matches, metric)[:, None]
        - impostors / normalizer(embedding, impostors, metric)[:, None]
    )
    margin = (embedding * cotangents).sum(-1)
    return _attribute(head, rows, cotangents, margin, weights)


def attribute_difference(
    head: LinearizedHead,
    rows: Tensor,
    partners: Tensor,
    metric: Metric = "cosine",
    side: Side = "query",
    weights: Weights = "signed",
) -> Attribution:
    """Explain why two images are far apart.

    For the cosine it is the squared distance of the unit vectors, ``|u|^2`` with
    ``u = e_q / |e_q| - e_g / |e_g|``: with ``u`` and the lengths held constant, the two
    sides add up, remainders included, to ``<e_q, u> / |e_q| - <e_g, u> / |e_g|``. For
    the euclidean similarity ``u = (e_q - e_g) / Z``, and the sides add up to
    ``<e_q, u> - <e_g, u> = |e_q - e_g|^2 / Z``. Either way, scaling a partner does not
    change the maps of the cosine.

    Parameters
    ----------
    head : LinearizedHead
        The images whose side is explained, B of them.
    rows : Tensor
        For each pair the image that is explained, shape (P,), int64.
    partners : Tensor
        For each pair the embedding of the other image, shape (P, D).
    metric : {"cosine", "euclidean"}
        Metric of the distance.
    side : {"query", "gallery"}
        Which side the explained images are.
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map.

    Returns
    -------
    Attribution
        With ``score`` this side's share: the query side's minus the gallery side's is
        the squared distance, of unit vectors or over ``Z``.

    Raises
    ------
    ValueError
        If the metric, the side or the weights are unknown.
    """
    if side not in SIDES:
        raise ValueError(f"unknown side {side!r}; use one of {', '.join(SIDES)}.")
    embedding = head.embedding[rows]
    partners = partners.to(embedding)
    if metric == "cosine":
        length = embedding.norm(dim=1, keepdim=True)
        apart = embedding / length - partners / partners.norm(dim=1, keepdim=True)
        apart = apart / length
    else:
        apart = embedding - partners
        apart = apart / normalizer(embedding, partners, metric)[:, None]
    cotangents = apart if side == "query" else -apart
    return _attribute(head, rows, cotangents, (embedding * cotangents).sum(-1), weights)


def attribute_decision(
    head: LinearizedHead,
    rows: Tensor,
    partners: Tensor,
    threshold: float | Tensor,
    metric: Metric = "cosine",
    weights: Weights = "signed",
) -> Attribution:
    """Explain why pairs are accepted or rejected at a threshold on the similarity.

    The score ``s - t`` is ``<e_q, u>`` with ``u = e_g / Z - t e_q / |e_q|^2`` held
    constant: the evidence toward the partner, minus ``t`` times the evidence of the
    image toward itself.

    Parameters
    ----------
    head : LinearizedHead
        The images whose side is explained, B of them.
    rows : Tensor
        For each pair the image that is explained, shape (P,), int64.
    partners : Tensor
        For each pair the embedding of the other image, shape (P, D).
    threshold : float or Tensor
        Similarity from which pairs are accepted, or that of each pair, shape (P,).
    metric : {"cosine", "euclidean"}
        Metric of the similarity.
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map.

    Returns
    -------
    Attribution
        With ``score`` the similarity minus the threshold. Positive evidence speaks for
        acceptance.
    """
    embedding = head.embedding[rows]
    partners = partners.to(embedding)
    own = embedding / embedding.square().sum(1, keepdim=True)
    cotangents = partners / normalizer(embedding, partners, metric)[:, None]
    cotangents = cotangents - torch.as_tensor(threshold).to(own).reshape(-1, 1) * own
    return _attribute(head, rows, cotangents, (embedding * cotangents).sum(-1), weights)


def attribute_point(
    query: LinearizedHead,
    query_row: int,
    position: tuple[int, int],
    gallery: LinearizedHead,
    gallery_row: int,
    metric: Metric = "cosine",
) -> Tensor:
    """Map which places of the gallery image one place of the query is matched with.

    Position ``p`` contributes ``J_q A_q(p)`` to its image's embedding. Positions ``p``
    and ``p'`` of the two images contribute the inner product of their contributions,
    divided by ``Z``, to the similarity.

    Parameters
    ----------
    query : LinearizedHead
        Head with the image of the chosen place.
    query_row : int
        Index of the query in ``query``.
    position : tuple of int
        Row and column of the place in the feature map.
    gallery : LinearizedHead
        Head with the gallery image.
    gallery_row : int
        Index of the gallery image in ``gallery``.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    Tensor
        Map of the gallery image, shape (h, w). Its sum is the query's evidence at
        ``position``, up to the remainder of the gallery image's head.

    Raises
    ------
    ValueError
        If the position lies outside the feature map.
    """
    height, width = query.feature_map.shape[-2:]
    if not (0 <= position[0] < height and 0 <= position[1] < width):
        raise ValueError(
            f"position {position} lies outside the feature map of {height} x {width} "
            "(rows x columns)."
        )
    tangents = torch.zeros_like(query.feature_map)
    place = (query_row, slice(None), *position)
    tangents[place] = query.feature_map[place]
    contribution = query.jvp(tangents)[query_row]
    scale = normalizer(
        query.embedding[query_row], gallery.embedding[gallery_row], metric
    )
    cotangents = torch.zeros_like(gallery.embedding)
    cotangents[gallery_row] = contribution / scale
    pulled = gallery.vjp(cotangents)[gallery_row]
    return (pulled * gallery.feature_map[gallery_row]).sum(0)


def _attribute(
    head: LinearizedHead,
    rows: Tensor,
    cotangents: Tensor,
    score: Tensor,
    weights: Weights,
) -> Attribution:
    """Pull cotangents back to the feature maps and reduce them to maps."""
    # The network may have changed the layout of the maps in memory.
    feature_map = head.feature_map.float().contiguous()
    pooled = head.pull_per_channel(rows, cotangents)
    if pooled is not None:
        cis = pooled.float() * feature_map.sum((2, 3))[rows]
        evidence = _weighted(feature_map, rows, pooled.float())
    else:
        evidence, cis = (sums.float() for sums in head.contributions(rows, cotangents))
    sfam = _weighted(feature_map, rows, channel_weights(cis, weights))
    score = score.float()
    remainder = score - evidence.sum((1, 2))
    return Attribution(score, evidence, sfam, cis, remainder, cotangents)


def _weighted(feature_map: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the channels of each pair's image, (P, h, w)."""
    maps = feature_map.new_empty(len(rows), *feature_map.shape[-2:])
    for image in torch.unique(rows).tolist():
        pairs = rows == image
        maps[pairs] = torch.tensordot(weights[pairs], feature_map[image], dims=1)
    return maps


def check_embeddings(model: EmbeddingModel | OpaqueModel, embeddings: Tensor) -> None:
    """Raise if the similarity of any embedding is not defined."""
    if not bool(torch.isfinite(embeddings).all()):
        raise DataError(
            f"model '{model.name}' gives one of the images an embedding with NaN or "
            "infinity; its similarity is not defined."
        )
    if not bool((embeddings.abs().sum(1) > 0).all()):
        raise DataError(
            f"model '{model.name}' gives one of the images a zero embedding; its "
            "similarity is not defined."
        )


def check_maps(model: EmbeddingModel, result: Attribution) -> None:
    """Raise if any map is not finite."""
    if not bool(finite_maps(result).all()):
        raise DataError(f"for one of the images {maps_problem(model)}")


def finite_maps(result: Attribution) -> Tensor:
    """Return which pairs have finite maps and a finite remainder, shape (P,)."""
    finite = torch.isfinite(result.remainder)
    for values in (result.evidence, result.sfam):
        finite &= torch.isfinite(values).all(-1).all(-1)
    return finite


def maps_problem(model: EmbeddingModel) -> str:
    """Say that a network gives maps that are not finite."""
    return (
        f"model '{model.name}' gives maps with NaN or infinity at layer "
        f"'{model.layer}': the part after the layer has no derivative there, or gives "
        "numbers out of range; check its weights, or name another layer."
    )
