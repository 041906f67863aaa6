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
    remainder   = s - sum(evidence)                  what the map cannot carry

Everything works on many pairs at once: an argument ``rows`` names, for each pair, the
image of the batch whose side is explained. Only the head is differentiated, never the
part of the network before the feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

Metric = Literal["cosine", "euclidean"]
Weights = Literal["signed", "minmax"]
Side = Literal["query", "gallery"]

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
WEIGHTS: tuple[Weights, ...] = ("signed", "minmax")
SIDES: tuple[Side, ...] = ("query", "gallery")

# Relative difference of two derivatives that is rounding.
_SAME = 1e-6


# --------------------------------------------------------------------------------------
# Similarity
# --------------------------------------------------------------------------------------


def normalizer(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    """Compute ``Z``, by which the inner product of two embeddings is divided.

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
        ``euclidean`` is ``1 - d^2 / (|e_q|^2 + |e_g|^2)``: linear in each embedding
        once the normalizer is held, and equal to the cosine for unit vectors.

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


# --------------------------------------------------------------------------------------
# The head
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearizedHead:
    """Feature maps, their embeddings, and the derivative of the one after the other.

    Build it with :func:`linearize_head` from a head, or with
    ``EmbeddingModel.linearize`` from images.

    Attributes
    ----------
    leaf : Tensor
        The tensor that the head was evaluated at, shape (B, C, h, w).
    output : Tensor
        The head's value with its graph, shape (B, D).
    """

    leaf: Tensor
    output: Tensor

    def __len__(self) -> int:
        return len(self.leaf)

    @property
    def feature_map(self) -> Tensor:
        """Feature maps, shape (B, C, h, w), at least float32, without gradient."""
        return _at_least_float32(self.leaf.detach())

    @property
    def embedding(self) -> Tensor:
        """Embeddings, shape (B, D), at least float32, without gradient."""
        return _at_least_float32(self.output.detach())

    def vjp(self, cotangents: Tensor) -> Tensor:
        """Multiply cotangents by the head's Jacobian, from the left.

        Parameters
        ----------
        cotangents : Tensor
            One per image, shape (B, D).

        Returns
        -------
        Tensor
            ``d<embedding, cotangent>/d feature map``, shape (B, C, h, w), at least
            float32.
        """
        return self._pull_back(self.leaf, cotangents)

    def vjp_per_channel(self, cotangents: Tensor) -> Tensor | None:
        """Multiply cotangents by the Jacobian of a head that begins by averaging.

        What global average pooling hands back is the same at all positions, so it is
        known by one number per channel, and no tensor of the feature map's size is
        needed.

        Parameters
        ----------
        cotangents : Tensor
            One per image, shape (B, D).

        Returns
        -------
        Tensor or None
            What :meth:`vjp` has at every position, shape (B, C), at least float32;
            None if the head does something else with the feature map first.
        """
        if self._pooling is None:
            return None
        averages = self._pull_back(self._pooling, cotangents)
        return averages.flatten(1) / (self.leaf.shape[2] * self.leaf.shape[3])

    @cached_property
    def is_the_same_for_all(self) -> bool:
        """Whether the head has one Jacobian for all images, as a linear head has.

        Seen in one direction that is not special to any head, to rounding: Jacobians
        that differ agree in it with probability zero.
        """
        if len(self) < 2:
            return False
        generator = torch.Generator().manual_seed(0)
        one = torch.randn(1, self.output.shape[1], generator=generator)
        probe = one.expand(len(self), -1).to(self.output.device)
        found = self.vjp_per_channel(probe)
        if found is None:
            found = self.vjp(probe)
        largest = float(found.abs().amax())
        return bool((found - found[:1]).abs().amax() <= _SAME * largest)

    @cached_property
    def _pooling(self) -> GradientEdge | None:
        """Where the gradient of the averages is, if all of the map goes into them."""
        consumers: dict[Any, list[Any]] = {}
        todo, seen = [self.output.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for following, _ in node.next_functions:
                consumers.setdefault(following, []).append(node)
                todo.append(following)
        (start,) = [
            node for node in consumers if getattr(node, "variable", None) is self.leaf
        ] or [None]
        path = consumers.get(start, [])
        while len(path) == 1 and path[0].name() == "CloneBackward0":
            path = consumers.get(path[0], [])
        if len(path) != 1 or path[0].name() != "MeanBackward1":
            return None
        # Saved as unsigned numbers of 64 bits, negative ones too.
        averaged = sorted((dim + 4) % 2**64 % 4 for dim in path[0]._saved_dim or ())
        return GradientEdge(path[0], 0) if averaged == [2, 3] else None

    def _pull_back(self, to: Tensor | GradientEdge, cotangents: Tensor) -> Tensor:
        """Run the head's backward pass down to a place; return at least float32."""
        dtype = self.output.dtype
        if torch.finfo(dtype).bits >= 32:
            return self._gradient(to, cotangents.to(dtype))
        # Partners over Z are small, and their gradients vanish in half precision.
        scale = cotangents.abs().amax(1, keepdim=True)
        scale = torch.where(scale > 0, scale, 1)
        gradient = self._gradient(to, (cotangents / scale).to(dtype))
        return gradient * scale.reshape(-1, *[1] * (gradient.ndim - 1))

    def _gradient(self, to: Tensor | GradientEdge, cotangents: Tensor) -> Tensor:
        with torch.inference_mode(False):
            (gradient,) = torch.autograd.grad(
                self.output,
                to,
                cotangents,
                retain_graph=True,
                materialize_grads=isinstance(to, Tensor),
            )
        return _at_least_float32(gradient)

    def jvp(self, tangents: Tensor) -> Tensor:
        """Multiply tangents by the head's Jacobian, from the right.

        The Jacobian-vector product is taken as the derivative of the vector-Jacobian
        product, which is linear in its vector (J. Townsend, "A new trick for
        calculating Jacobian vector products", 2017): no further evaluation of the
        head, and no forward-mode support needed in its operations.

        Parameters
        ----------
        tangents : Tensor
            One per image, shape (B, C, h, w).

        Returns
        -------
        Tensor
            Shape (B, D), at least float32, without gradient. Of the feature map itself
            it is the part of the embedding that maps carry; the head's biases and its
            curvature, which leave a remainder, are the rest.
        """
        with torch.inference_mode(False), torch.enable_grad():
            probe = torch.zeros_like(self.output, requires_grad=True)
            (gradient,) = torch.autograd.grad(
                self.output,
                self.leaf,
                probe,
                create_graph=True,
                materialize_grads=True,
            )
            (product,) = torch.autograd.grad(
                gradient,
                probe,
                tangents.to(gradient.dtype),
                retain_graph=True,
                materialize_grads=True,
            )
        return _at_least_float32(product)


def linearize_head(
    head: Callable[[Tensor], Tensor], feature_map: Tensor
) -> LinearizedHead:
    """Evaluate a head and keep what its derivative needs.

    Parameters
    ----------
    head : callable
        Maps (B, C, h, w) to (B, D), each image on its own.
    feature_map : Tensor
        Shape (B, C, h, w).

    Returns
    -------
    LinearizedHead
        The head at these feature maps.

    Raises
    ------
    ValueError
        If the feature map has not four dimensions or the head returns no (B, D).
    """
    if feature_map.ndim != 4:
        raise ValueError(
            f"the feature map has shape {tuple(feature_map.shape)}; four dimensions "
            "(batch, channels, height, width) are needed."
        )
    with torch.inference_mode(False), torch.enable_grad():
        leaf = as_leaf(feature_map)
        # The clone lets a head work in place without touching the leaf.
        output = head(leaf.clone())
    if output.ndim != 2 or output.shape[0] != feature_map.shape[0]:
        raise ValueError(
            f"the head returned shape {tuple(output.shape)} for a batch of "
            f"{feature_map.shape[0]}; (batch, embedding size) is needed."
        )
    return LinearizedHead(leaf, output)


def as_leaf(tensor: Tensor) -> Tensor:
    """Cut a tensor off its graph and let it start a new one."""
    leaf = tensor.detach()
    # What inference mode made can never ask for a gradient; a copy can.
    return (leaf.clone() if leaf.is_inference() else leaf).requires_grad_(True)


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attribution:
    """One side of each of P pairs, explained.

    Attributes
    ----------
    score : Tensor
        What the evidence adds up to with the remainder, shape (P,): the similarity,
        or the margin or the scaled squared distance for ``contrast`` and
        ``difference`` (see there).
    evidence : Tensor
        Signed, shape (P, h, w), in units of the score.
    sfam : Tensor
        Signed, shape (P, h, w), in units of the score times the activation.
    cis : Tensor
        Channel-wise contribution importance, shape (P, C), in units of the score;
        adds up to the same sum as ``evidence``.
    remainder : Tensor
        ``score - sum(evidence)``, shape (P,).
    """

    score: Tensor
    evidence: Tensor
    sfam: Tensor
    cis: Tensor
    remainder: Tensor


def channel_weights(cis: Tensor, weights: Weights = "signed") -> Tensor:
    """Turn channel importances into the weights of the ``sfam`` map.

    Parameters
    ----------
    cis : Tensor
        Channel-wise contribution importance, shape (..., C).
    weights : {"signed", "minmax"}
        ``signed`` leaves the scores as they are; ``minmax`` stretches each vector to
        [0, 1], as the authors' published code does for the predecessor of the method.
        A vector of equal scores has no range; its weights are all 1.

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


def attribute_contrast(
    head: LinearizedHead,
    rows: Tensor,
    true_matches: Tensor,
    impostors: Tensor,
    metric: Metric = "cosine",
    weights: Weights = "signed",
) -> Attribution:
    """Explain why an impostor is as near to the query as its true match, or nearer.

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

    With ``u = (e_q - e_g) / Z`` held constant, the two sides add up, remainders
    included, to ``<e_q, u> - <e_g, u> = |e_q - e_g|^2 / Z``.

    Parameters
    ----------
    head : LinearizedHead
        The images whose side is explained, B of them.
    rows : Tensor
        For each pair the image that is explained, shape (P,), int64.
    partners : Tensor
        For each pair the embedding of the other image, shape (P, D).
    metric : {"cosine", "euclidean"}
        Normalizer of the difference.
    side : {"query", "gallery"}
        Which side the explained images are.
    weights : {"signed", "minmax"}
        Weights of the ``sfam`` map.

    Returns
    -------
    Attribution
        With ``score`` this side's share, ``<e, u>``: the query side's minus the
        gallery side's is the squared distance over ``Z``.

    Raises
    ------
    ValueError
        If the metric, the side or the weights are unknown.
    """
    if side not in SIDES:
        raise ValueError(f"unknown side {side!r}; use one of {', '.join(SIDES)}.")
    embedding = head.embedding[rows]
    partners = partners.to(embedding)
    difference = embedding - partners if side == "query" else partners - embedding
    cotangents = difference / normalizer(embedding, partners, metric)[:, None]
    return _attribute(head, rows, cotangents, (embedding * cotangents).sum(-1), weights)


def attribute_point(
    query: LinearizedHead,
    query_row: int,
    position: tuple[int, int],
    gallery: LinearizedHead,
    gallery_row: int,
    metric: Metric = "cosine",
) -> Tensor:
    """Map which places of one image a place of the other image is matched with.

    The contribution of position ``p`` to its image's embedding is ``J_q A_q(p)``; its
    share in the similarity with position ``p'`` of the other image is the inner product
    of the two contributions, divided by ``Z``.

    Parameters
    ----------
    query : LinearizedHead
        Holds the image with the chosen place.
    query_row : int
        Index of that image in ``query``.
    position : tuple of int
        Row and column of the place in the feature map.
    gallery : LinearizedHead
        Holds the other image.
    gallery_row : int
        Index of that image in ``gallery``.
    metric : {"cosine", "euclidean"}
        Similarity that is explained.

    Returns
    -------
    Tensor
        Shape (h, w) of the gallery image's map. Adds up to the query's evidence at
        ``position``, up to what the gallery image's head leaves as a remainder.

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
    feature_map = head.feature_map.float()
    _, channels, height, width = feature_map.shape
    evidence = feature_map.new_empty(len(rows), height, width)
    sfam = feature_map.new_empty(len(rows), height, width)
    cis = feature_map.new_empty(len(rows), channels)
    gradients = feature_map.new_empty(len(rows), channels)
    pooled = False
    for pairs, slots in _passes(head, rows):
        batch = torch.zeros_like(head.embedding)
        batch[slots] = cotangents[pairs]
        per_channel = head.vjp_per_channel(batch)
        if per_channel is not None:
            gradients[pairs] = per_channel[slots].float()
            pooled = True
            continue
        activation = feature_map[rows[pairs]]
        contribution = head.vjp(batch)[slots].float().mul_(activation)
        evidence[pairs] = contribution.sum(1)
        cis[pairs] = contribution.sum((2, 3))
        sfam[pairs] = torch.einsum(
            "pc,pchw->phw", channel_weights(cis[pairs], weights), activation
        )
    if pooled:
        cis = gradients * feature_map.sum((2, 3))[rows]
        evidence = _weighted(feature_map, rows, gradients)
        sfam = _weighted(feature_map, rows, channel_weights(cis, weights))
    score = score.float()
    return Attribution(score, evidence, sfam, cis, score - evidence.sum((1, 2)))


def _weighted(feature_map: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Add up the channels of each pair's image, weighted; shape (P, h, w)."""
    maps = feature_map.new_empty(len(rows), *feature_map.shape[-2:])
    for image in torch.unique(rows).tolist():
        mine = rows == image
        maps[mine] = torch.tensordot(weights[mine], feature_map[image], dims=1)
    return maps


def _passes(head: LinearizedHead, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split pairs into backward passes: which pairs, and in which rows of the batch.

    One pass through the head serves one partner of every image of the batch, so there
    are as many as the largest number of partners of one image. Where the derivative is
    the same for all images, any row serves any pair, and no row is left empty.
    """
    if len(rows) == 0:
        return
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    starts = torch.searchsorted(ordered, ordered)
    occurrence = torch.arange(len(rows), device=rows.device) - starts
    count = int(occurrence.max()) + 1
    if -(-len(rows) // len(head)) < count and head.is_the_same_for_all:
        for pairs in torch.arange(len(rows), device=rows.device).split(len(head)):
            yield pairs, torch.arange(len(pairs), device=rows.device)
        return
    for group in range(count):
        pairs = order[occurrence == group]
        yield pairs, rows[pairs]


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Leave half precision, in which scores would overflow and maps lose digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
