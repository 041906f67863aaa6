"""Explain single pairs of images along paths from blurred images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.maps import check_embeddings
from fiftyone_sfam.attribution.pair import as_array
from fiftyone_sfam.attribution.path import fullest_image
from fiftyone_sfam.attribution.reading import ImageLike, prepare_images, with_inputs_of
from fiftyone_sfam.attribution.scales import attribute_kind, path_layers
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.layouts import LayerInfo


@dataclass(frozen=True)
class PathExplanation:
    """One image's side of a pair, explained along a path from another image.

    Attributes
    ----------
    path : ndarray of float32
        Signed, at the pixels of the network's input, shape (H, W).
    score : float
        Similarity of the pair: the sum of ``path`` and ``remainder``.
    remainder : float
        The part of the score that the map does not carry.
    blurred_score : float
        Similarity after this image is blurred. For a path of the pixels, the remainder
        differs from it by the error of the sum over the steps.
    crop : tuple of float
        Relative left, top, right and bottom of the part of the image that the network
        saw.
    """

    path: NDArray[np.float32]
    score: float
    remainder: float
    blurred_score: float
    crop: tuple[float, float, float, float]


def explain_path(
    model: ModelLike,
    query: ImageLike,
    gallery: ImageLike,
    *,
    several_scales: bool = False,
    steps: int | None = None,
) -> tuple[PathExplanation, PathExplanation]:
    """Explain the similarity of two images along paths from blurred images.

    The maps are finer than those of :func:`fiftyone_sfam.explain_pair`, but take more
    passes through the whole network. :mod:`fiftyone_sfam.attribution.path` and
    :mod:`fiftyone_sfam.attribution.scales` have the definitions, which are this
    project's.

    Parameters
    ----------
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        The model, or the name of one. A network that does not say how its images are
        prepared has to be given as an EmbeddingModel.
    query, gallery : path, Pillow image, FiftyOne sample, or tuple
        The images, as for :func:`fiftyone_sfam.explain_pair`.
    several_scales : bool
        Start from several images, and average the pixels' map with smoothed ones, with
        those of the network's layers, and with the ``evidence``: a less grainy map,
        that depends less on what "without this place" means.
    steps : int, optional
        Images along each path; by default 4, of several scales 8. 16 make a slightly
        better map of several scales.

    Returns
    -------
    tuple of PathExplanation
        The query's side, with the gallery image unchanged, and the gallery image's
        side, with the query unchanged.

    Raises
    ------
    DataError
        If an image cannot be read, or has no finite embedding.
    ModelError
        If the model cannot be differentiated down to its input.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import explain_path
    >>> query, gallery = (Image.linear_gradient("L").rotate(a) for a in (0, 90))
    >>> side, _ = explain_path("demo", query, gallery, steps=2)
    >>> side.path.shape
    (128, 64)
    >>> bool(abs(side.path.sum() + side.remainder - side.score) < 1e-5)
    True
    """
    model = as_model(model)
    images, crops = prepare_images(model, [query, gallery])
    given = with_inputs_of(model, [query, gallery])
    embeddings = given.embed(images)
    check_embeddings(model, embeddings)
    layers: tuple[LayerInfo, ...] = ()
    if several_scales:
        row = fullest_image(images)
        layers = path_layers(given._of_image(row), images[row])
    result = attribute_kind(
        given,
        images,
        torch.arange(2),
        embeddings.flip(0),
        several_scales=several_scales,
        steps=steps,
        layers=layers,
    )
    query, gallery = (
        PathExplanation(
            as_array(result.path[row]),
            float(result.score[row]),
            float(result.remainder[row]),
            float(result.blurred_score[row]),
            crops[row],
        )
        for row in (0, 1)
    )
    return query, gallery
