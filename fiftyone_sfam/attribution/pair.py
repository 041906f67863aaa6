"""Explain single pairs of images, without a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.contributions import Contributions
from fiftyone_sfam.attribution.map_share import LEAST_SCORE, map_warnings, share_of
from fiftyone_sfam.attribution.maps import (
    SIDES,
    Attribution,
    Side,
    Weights,
    attribute,
    attribute_contrast,
    attribute_decision,
    attribute_difference,
    attribute_point,
    check_embeddings,
    check_maps,
)
from fiftyone_sfam.attribution.reading import ImageLike, prepare_images, with_inputs_of
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import Metric, distance, normalizer, similarity


@dataclass(frozen=True)
class SideExplanation:
    """One image's side of a pair.

    Attributes
    ----------
    sfam, evidence : ndarray of float32
        Signed maps at the layer's resolution, shape (h, w).
    cis : ndarray of float32
        Importance of each channel, shape (C,); has the same sum as the evidence.
    score : float
        Sum of ``evidence`` and ``remainder``.
    remainder : float
        The part of the score that the map cannot carry.
    crop : tuple of float
        Relative left, top, right and bottom of the part of the image that the network
        saw.
    prefix : float
        The part of the remainder that comes from tokens without a place on the image,
        such as a class token; 0 if the layer has none.
    """

    sfam: NDArray[np.float32]
    evidence: NDArray[np.float32]
    cis: NDArray[np.float32]
    score: float
    remainder: float
    crop: tuple[float, float, float, float]
    prefix: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PairExplanation(NotebookResult):
    """Where the similarity of two images comes from.

    Returned by :func:`explain_pair`.

    Attributes
    ----------
    score : float
        Similarity, in [-1, 1].
    distance : float
        The metric's distance: ``1 - score`` or the Euclidean one.
    query, gallery : SideExplanation
        The two sides.
    metric, model, layer : str
        Metric, and names of the model and of the layer of the maps.
    branches : dict of str to float
        What each branch of the network adds to the score, if the network returns its
        embedding in several parts, as PCB and MGN do; empty otherwise.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_pair
    >>> red, blue = (Image.new("RGB", (64, 128), color) for color in ("red", "blue"))
    >>> pair = explain_pair("demo", red, blue)
    >>> pair.point(3, 2).shape, pair.channel(0, "gallery").shape
    ((16, 8), (16, 8))
    >>> pair.contributions()[0].shape
    (16, 8)
    >>> query, gallery = pair.difference()
    >>> bool(query.score - gallery.score >= 0)
    True
    >>> query, _ = pair.decision(threshold=0.5)
    >>> bool(abs(query.score - (pair.score - 0.5)) < 1e-5)
    True
    """

    score: float
    distance: float
    query: SideExplanation
    gallery: SideExplanation
    metric: Metric
    model: str
    layer: str
    branches: dict[str, float] = field(default_factory=dict)
    _head: LinearizedHead = field(repr=False)
    _fullest: tuple[str, float] | None = field(default=None, repr=False)
    # As they were given; a notebook reads them again.
    _images: tuple[ImageLike, ...] = field(default=(), repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the maps of both sides; empty if there are none."""
        sides = self.query, self.gallery
        return _warnings(sides, self.layer, "similarity score", self._fullest)

    @property
    def embeddings(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of the query and the gallery image, shape (D,) each."""
        query, gallery = as_array(self._head.embedding)
        return query, gallery

    def contributions(self) -> tuple[Contributions, Contributions]:
        """Compute what each place of either image adds to its embedding.

        Returns
        -------
        tuple of Contributions
            Those of the query and of the gallery image; every map but ``sfam``, toward
            any partner, is an inner product with them.
        """
        shape = self.query.evidence.shape
        values = as_array(self._head.position_contributions())
        query, gallery = (
            Contributions(own.reshape(*shape, -1), whole - own.sum(0), whole)
            for own, whole in zip(values, self.embeddings, strict=True)
        )
        return query, gallery

    def point(self, row: int, column: int, side: Side = "query") -> NDArray[np.float32]:
        """Map which places of the other image a place of one image is matched with.

        Parameters
        ----------
        row, column : int
            Place in the feature map of the image on ``side``.
        side : {"query", "gallery"}
            The image of the place.

        Returns
        -------
        ndarray of float32
            Map of the other image, shape (h, w); its sum is the evidence at the place,
            up to the other image's remainder.

        Raises
        ------
        ValueError
            If the place lies outside the feature map, or the side is unknown.
        """
        image = _row(side)
        head = self._head
        return as_array(
            attribute_point(head, image, (row, column), head, 1 - image, self.metric)
        )

    def difference(
        self, weights: Weights = "signed"
    ) -> tuple[SideExplanation, SideExplanation]:
        """Explain the squared distance of the two images.

        Parameters
        ----------
        weights : {"signed", "minmax"}
            Channel weights of the ``sfam`` maps.

        Returns
        -------
        tuple of SideExplanation
            The query's side and the gallery image's. The score of the first minus that
            of the second is the squared distance: for the cosine that of the unit
            vectors, ``2 - 2 * score``, for the euclidean similarity that of the
            embeddings, divided by the metric's normalizer.
        """
        sides: list[SideExplanation] = []
        for side, shown in zip(SIDES, (self.query, self.gallery), strict=True):
            row = _row(side)
            result = attribute_difference(
                self._head,
                torch.tensor([row], device=self._head.embedding.device),
                self._head.embedding[[1 - row]],
                self.metric,
                side,
                weights,
            )
            prefix = self._head.prefix_evidence(torch.tensor([row]), result.cotangents)
            sides.append(side_of(result, 0, shown.crop, prefix))
        return sides[0], sides[1]

    def decision(
        self, threshold: float, weights: Weights = "signed"
    ) -> tuple[SideExplanation, SideExplanation]:
        """Explain why the pair is accepted or rejected at a threshold.

        Parameters
        ----------
        threshold : float
            Similarity from which pairs are accepted.
        weights : {"signed", "minmax"}
            Channel weights of the ``sfam`` maps.

        Returns
        -------
        tuple of SideExplanation
            The query's side and the gallery image's, with the similarity minus the
            threshold as their score. Positive evidence speaks for acceptance.
        """
        rows = torch.tensor([0, 1], device=self._head.embedding.device)
        partners = self._head.embedding[[1, 0]]
        both = attribute_decision(
            self._head, rows, partners, threshold, self.metric, weights
        )
        prefix = self._head.prefix_evidence(rows, both.cotangents)
        return (
            side_of(both, 0, self.query.crop, prefix),
            side_of(both, 1, self.gallery.crop, prefix),
        )

    def channel(self, index: int, side: Side = "query") -> NDArray[np.float32]:
        """Return the activation map of one channel of an image, shape (h, w)."""
        return as_array(self._head.feature_map[_row(side), index])


def explain_pair(
    model: ModelLike,
    query: ImageLike,
    gallery: ImageLike,
    *,
    weights: Weights = "signed",
) -> PairExplanation:
    """Explain the similarity of two images.

    Parameters
    ----------
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        The model, or the name of one. A network that does not say how its images are
        prepared has to be given as an EmbeddingModel.
    query, gallery : path, Pillow image, FiftyOne sample, or tuple
        The images; a tuple of an image and a relative bounding box is the part of the
        image in the box.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` maps.

    Returns
    -------
    PairExplanation
        Score, distance, and both sides' maps, channel importances and remainders.

    Raises
    ------
    DataError
        If an image cannot be read, or has no finite embedding or maps.
    ModelError
        If the model cannot be explained.

    Warns
    -----
    SfamWarning
        If the maps carry less than a tenth of the similarity.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_pair
    >>> red, blue = (Image.new("RGB", (64, 128), color) for color in ("red", "blue"))
    >>> pair = explain_pair("demo", red, blue)
    >>> pair.query.evidence.shape
    (16, 8)
    >>> total = pair.query.evidence.sum() + pair.query.remainder
    >>> bool(abs(total - pair.score) < 1e-5)
    True
    """
    model = as_model(model)
    head, crops = linearize_images(model, [query, gallery])
    explained = explain_head(model, head, crops, weights)
    explained = replace(explained, _images=(query, gallery))
    if explained.warnings:
        explained = replace(explained, _fullest=_fullest_layer(model, query))
    for text in explained.warnings:
        warnings.warn(text, SfamWarning, stacklevel=2)
    return explained


def explain_head(
    model: EmbeddingModel,
    head: LinearizedHead,
    crops: Sequence[tuple[float, float, float, float]],
    weights: Weights = "signed",
) -> PairExplanation:
    """Explain the similarity of the two images that a model was run on."""
    rows = torch.tensor([0, 1], device=head.embedding.device)
    both = attribute(head, rows, head.embedding[[1, 0]], model.metric, weights)
    check_maps(model, both)
    ends = head.embedding.double()
    normal = normalizer(ends[0], ends[1], model.metric)
    prefix = head.prefix_evidence(rows, both.cotangents)
    return PairExplanation(
        score=float(similarity(ends[0], ends[1], model.metric)),
        distance=float(distance(ends[0], ends[1], model.metric)),
        query=side_of(both, 0, crops[0], prefix),
        gallery=side_of(both, 1, crops[1], prefix),
        metric=model.metric,
        model=model.name,
        layer=str(model.layer),
        branches={
            branch.name: float((ends[0] * ends[1])[branch.places].sum() / normal)
            for branch in model.branches
        },
        _head=head,
    )


def explain_contrast(
    model: ModelLike,
    query: ImageLike,
    true_match: ImageLike,
    impostor: ImageLike,
    *,
    weights: Weights = "signed",
) -> SideExplanation:
    """Explain on the query the margin between its true match and an impostor.

    Parameters
    ----------
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        The model, or the name of one. A network that does not say how its images are
        prepared has to be given as an EmbeddingModel.
    query, true_match, impostor : path, Pillow image, FiftyOne sample, or tuple
        The images, as for :func:`explain_pair`.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` map.

    Returns
    -------
    SideExplanation
        The query's side, with the margin as its ``score``: similarity to the true
        match minus similarity to the impostor. Positive evidence speaks for the true
        match.

    Raises
    ------
    DataError
        If an image cannot be read, or has no finite embedding or map.
    ModelError
        If the model cannot be explained.

    Warns
    -----
    SfamWarning
        If the map carries less than a tenth of the margin.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_contrast
    >>> colors = ("red", "darkred", "blue")
    >>> images = [Image.new("RGB", (64, 128), color) for color in colors]
    >>> side = explain_contrast("demo", *images)
    >>> side.evidence.shape, side.cis.shape
    ((16, 8), (128,))
    >>> bool(abs(side.evidence.sum() + side.remainder - side.score) < 1e-5)
    True
    """
    model = as_model(model)
    head, crops = linearize_images(model, [query, true_match, impostor])
    result = attribute_contrast(
        head,
        torch.tensor([0], device=head.embedding.device),
        head.embedding[[1]],
        head.embedding[[2]],
        model.metric,
        weights,
    )
    check_maps(model, result)
    prefix = head.prefix_evidence(torch.tensor([0]), result.cotangents)
    side = side_of(result, 0, crops[0], prefix)
    about = (side,), str(model.layer), "margin"
    fullest = _fullest_layer(model, query) if _warnings(*about) else None
    for text in _warnings(*about, fullest):
        warnings.warn(text, SfamWarning, stacklevel=2)
    return side


def linearize_images(
    model: EmbeddingModel, images: Sequence[ImageLike]
) -> tuple[LinearizedHead, list[tuple[float, float, float, float]]]:
    """Run the model on images; return its head there, and the part seen of each."""
    prepared, crops = prepare_images(model, images)
    head = with_inputs_of(model, images).linearize(prepared)
    check_embeddings(model, head.embedding)
    return head, crops


def _row(side: Side) -> int:
    """Return the row of one side's image in the head of a pair."""
    if side not in SIDES:
        raise ValueError(f"unknown side {side!r}; use one of {', '.join(SIDES)}.")
    return SIDES.index(side)


def side_of(
    result: Attribution,
    row: int,
    crop: tuple[float, float, float, float],
    prefix: torch.Tensor,
) -> SideExplanation:
    """Return one row of an attribution."""
    return SideExplanation(
        as_array(result.sfam[row]),
        as_array(result.evidence[row]),
        as_array(result.cis[row]),
        float(result.score[row]),
        float(result.remainder[row]),
        crop,
        float(prefix[row]),
    )


def _fullest_layer(model: EmbeddingModel, image: ImageLike) -> tuple[str, float]:
    """Return the stage that carries the most of an image's similarity with itself."""
    prepared, _ = prepare_images(model, [image])
    return with_inputs_of(model._of_image(0), [image]).fullest_layer(prepared)


def _warnings(
    sides: Sequence[SideExplanation],
    layer: str,
    of: str,
    fullest: tuple[str, float] | None = None,
) -> tuple[str, ...]:
    """Return a warning if no side's map carries much of a score that is not small."""
    if min(abs(side.score) for side in sides) < LEAST_SCORE:
        return ()
    share = max(share_of(side.score, side.remainder) for side in sides)
    return map_warnings(share, layer, of, fullest)


def as_array(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Return a tensor as an array in single precision."""
    return tensor.detach().float().cpu().numpy()
