"""Explain the similarity of an image, or a set of images, with a template."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.map_share import LEAST_SCORE, map_warnings, share_of
from fiftyone_sfam.attribution.maps import Weights, attribute_toward, check_maps
from fiftyone_sfam.attribution.pair import (
    SideExplanation,
    linearize_images,
    side_of,
)
from fiftyone_sfam.attribution.reading import ImageLike
from fiftyone_sfam.attribution.template_vectors import template_vectors
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import DataError, SfamWarning
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import Metric


@dataclass(frozen=True, kw_only=True)
class TemplateExplanation(NotebookResult):
    """Where the similarity of a probe with a template comes from.

    Returned by :func:`explain_template`.

    Attributes
    ----------
    score : float
        Similarity of the probe and the template, in [-1, 1].
    distance : float
        The metric's distance of the two.
    probe : tuple of SideExplanation
        The n images of the probe, each with its share of the similarity as its
        ``score``; the shares add up to the similarity.
    members : tuple of SideExplanation
        The m images of the template, in the same way.
    shares : ndarray of float64
        Share of each image of the probe with each member, shape (n, m): the sum of a
        row is the score of an image of the probe, that of a column a member's.
    metric, model, layer : str
        Metric, and names of the model and of the layer of the maps.
    normalized : bool
        Whether embeddings were divided by their lengths before the mean.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_template
    >>> colors = ("red", "orange", "blue")
    >>> red, *others = (Image.new("RGB", (64, 128), color) for color in colors)
    >>> found = explain_template("demo", red, others)
    >>> parts = found.toward(0) + found.toward(1)
    >>> bool(abs(parts - found.probe[0].evidence).max() < 1e-5)
    True
    """

    score: float
    distance: float
    probe: tuple[SideExplanation, ...]
    members: tuple[SideExplanation, ...]
    shares: NDArray[np.float64]
    metric: Metric
    model: str
    layer: str
    normalized: bool
    _head: LinearizedHead = field(repr=False)
    _scales: NDArray[np.float64] = field(repr=False)
    # As they were given; a notebook reads them again.
    _images: tuple[ImageLike, ...] = field(default=(), repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the maps of both sides; empty if there are none."""
        if abs(self.score) < LEAST_SCORE:
            return ()
        share = max(
            share_of(self.score, sum(side.remainder for side in sides))
            for sides in (self.probe, self.members)
        )
        return map_warnings(share, self.layer, "similarity score", None)

    def toward(self, member: int, image: int = 0) -> NDArray[np.float32]:
        """Map what an image of the probe has in common with one member.

        Parameters
        ----------
        member : int
            Number of the member, from 0.
        image : int
            Number of the image of the probe, from 0.

        Returns
        -------
        ndarray of float32
            Evidence, shape (h, w); the sum of these maps over all members is the
            image's map toward the template.

        Raises
        ------
        DataError
            If there is no such member or image.
        """
        count = len(self.probe)
        for name, number, most in (
            ("member", member, len(self.members)),
            ("image of the probe", image, count),
        ):
            if not 0 <= number < most:
                raise DataError(
                    f"there is no {name} with the number {number}; they are numbered "
                    f"from 0 to {most - 1}."
                )
        head = self._head
        rows = torch.tensor([image], device=head.embedding.device)
        vector = float(self._scales[image, member]) * head.embedding[[count + member]]
        return attribute_toward(head, rows, vector).evidence[0].cpu().numpy()


def explain_template(
    model: ModelLike,
    probe: ImageLike | list[ImageLike],
    members: Sequence[ImageLike],
    *,
    normalize_members: bool = True,
    weights: Weights = "signed",
) -> TemplateExplanation:
    """Explain the similarity of an image or a set of images with a template.

    A template is the mean of the embeddings of several images, such as those of one
    identity or of a tracklet. A set of images as the probe is a template as well.

    Parameters
    ----------
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        The model, as for :func:`fiftyone_sfam.explain_pair`.
    probe : path, Pillow image, FiftyOne sample, tuple, or list of these
        The image, or the images of the set; a tuple of an image and a relative bounding
        box is the part of the image in the box.
    members : sequence of path, Pillow image, FiftyOne sample, or tuple
        The images of the template.
    normalize_members : bool
        Whether each embedding, of both sides, is divided by its length before the mean,
        so that all images count alike. Otherwise an image counts by its length, too.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` maps.

    Returns
    -------
    TemplateExplanation
        The similarity, its share by image, and the maps of all images.

    Raises
    ------
    DataError
        If a side has no images, an image cannot be read, or an embedding or the mean
        of a side is zero.
    ModelError
        If the model cannot be explained.

    Warns
    -----
    SfamWarning
        If the maps carry less than a tenth of the similarity.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_template
    >>> colors = ("red", "darkred", "orange")
    >>> red, *others = (Image.new("RGB", (64, 128), color) for color in colors)
    >>> found = explain_template("demo", red, others)
    >>> found.shares.shape, found.probe[0].evidence.shape
    ((1, 2), (16, 8))
    >>> [side] = found.probe
    >>> bool(abs(side.evidence.sum() + side.remainder - found.score) < 1e-5)
    True
    >>> bool(abs(sum(one.score for one in found.members) - found.score) < 1e-5)
    True
    """
    model = as_model(model)
    images = list(probe) if isinstance(probe, list) else [probe]
    count, others = len(images), list(members)
    for side, name in ((images, "probe"), (others, "template")):
        if not side:
            raise DataError(f"the {name} has no images; give at least one.")
    head, crops = linearize_images(model, [*images, *others])
    embeddings = head.embedding.double()
    vectors = template_vectors(
        embeddings[:count].cpu().numpy(),
        embeddings[count:].cpu().numpy(),
        model.metric,
        normalize_members,
    )
    toward = torch.from_numpy(np.concatenate([vectors.probe, vectors.gallery]))
    rows = torch.arange(len(toward), device=embeddings.device)
    result = attribute_toward(head, rows, toward.to(head.embedding), weights)
    check_maps(model, result)
    prefix = head.prefix_evidence(rows, result.cotangents)
    sides = [side_of(result, row, crop, prefix) for row, crop in enumerate(crops)]
    explained = TemplateExplanation(
        score=vectors.score,
        distance=vectors.distance,
        probe=tuple(sides[:count]),
        members=tuple(sides[count:]),
        shares=vectors.shares,
        metric=model.metric,
        model=model.name,
        layer=str(model.layer),
        normalized=normalize_members,
        _head=head,
        _scales=vectors.scales,
        _images=(*images, *others),
    )
    for text in explained.warnings:
        warnings.warn(text, SfamWarning, stacklevel=2)
    return explained
