"""Similarity and distance of two embeddings, and the normalizer of a pair."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Metric = Literal["cosine", "euclidean"]

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def normalizer(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    """Compute ``Z``, the divisor of the inner product of two embeddings.

    Parameters
    ----------
    query, gallery : Tensor
        Embeddings, shapes (..., D), broadcast against each other.
    metric : {"cosine", "euclidean"}
        ``|e_q| |e_g|`` for cosine, ``(|e_q|^2 + |e_g|^2) / 2`` for euclidean.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    ValueError
        If the metric is unknown.
    """
    if metric == "cosine":
        return query.norm(dim=-1) * gallery.norm(dim=-1)
    if metric == "euclidean":
        return (query.square().sum(-1) + gallery.square().sum(-1)) / 2
    raise ValueError(f"unknown metric {metric!r}; use one of {', '.join(METRICS)}.")


def similarity(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    """Compute the similarity of embeddings.

    Parameters
    ----------
    query, gallery : Tensor
        Embeddings, shapes (..., D), broadcast against each other.
    metric : {"cosine", "euclidean"}
        ``euclidean`` is ``1 - d^2 / (|e_q|^2 + |e_g|^2)``: linear in each embedding if
        the normalizer is constant, and equal to the cosine for unit vectors.

    Returns
    -------
    Tensor
        Similarities in [-1, 1], shape (...).
    """
    return (query * gallery).sum(-1) / normalizer(query, gallery, metric)


def distance(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    """Compute the distance that the metric ranks by.

    Parameters
    ----------
    query, gallery : Tensor
        Embeddings, shapes (..., D), broadcast against each other.
    metric : {"cosine", "euclidean"}
        ``1 - similarity`` for cosine, ``|e_q - e_g|`` for euclidean.

    Returns
    -------
    Tensor
        Distances, shape (...).
    """
    if metric == "euclidean":
        return (query - gallery).norm(dim=-1)
    return 1 - similarity(query, gallery, metric)
