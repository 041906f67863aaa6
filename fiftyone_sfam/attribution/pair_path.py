"""Path maps of two images: where hiding a place changes their similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.checks import check_embeddings
from fiftyone_sfam.attribution.pair import ImageLike, as_model, prepare_images
from fiftyone_sfam.attribution.path import SCALES, STEPS, attribute_path, path_layers
from fiftyone_sfam.network.embedder import EmbeddingModel


@dataclass(frozen=True)
class PathExplanation:
    """One image's side of a pair, explained along a path from a blurred image.

    Attributes
    ----------
    path : ndarray of float32
        Signed, at the pixels of the network's input, shape (H, W).
    score : float
        Similarity of the pair: the sum of ``path``, and ``remainder``.
    remainder : float
        What the map leaves of the score.
    blurred_score : float
        Similarity once this image is blurred; the remainder differs from it by the
        error of the sum over the steps.
    crop : tuple of float
        Relative left, top, right and bottom of what the network saw of the image.
    """

    path: NDArray[np.float32]
    score: float
    remainder: float
    blurred_score: float
    crop: tuple[float, float, float, float]


def explain_path(
    model: EmbeddingModel | str,
    query: ImageLike,
    gallery: ImageLike,
    *,
    several_scales: bool = False,
    steps: int | None = None,
) -> tuple[PathExplanation, PathExplanation]:
    """Explain the similarity of two images along paths from blurred images.

    Slower than :func:`fiftyone_sfam.explain_pair`, by some passes through the whole
    network, and finer. See :mod:`fiftyone_sfam.attribution.path` for
    the definition, which is this project's.

    Parameters
    ----------
    model : EmbeddingModel or str
        The model, or the name of one.
    query, gallery : path, Pillow image, FiftyOne sample, or tuple
        The images, as for :func:`fiftyone_sfam.explain_pair`.
    several_scales : bool
        Average the pixels' map with smoothed ones and with those of the network's
        layers: less grainy.
    steps : int, optional
        Images along each path; 4 by default, 8 with several scales.

    Returns
    -------
    tuple of PathExplanation
        The query's side, with the gallery image untouched, and the other way round.

    Raises
    ------
    DataError
        If an image cannot be read.
    ModelError
        If the model cannot be differentiated down to its input.
    """
    model = as_model(model)
    images, crops = prepare_images(model, [query, gallery])
    embeddings = model.embed(images)
    check_embeddings(model, embeddings)
    sides = []
    for own in (0, 1):
        found = attribute_path(
            model,
            images[own],
            embeddings[[1 - own]],
            steps=steps or (2 * STEPS if several_scales else STEPS),
            scales=SCALES if several_scales else (0.0,),
            layers=path_layers(model, images[own]) if several_scales else (),
        )
        sides.append(
            PathExplanation(
                found.path[0].cpu().numpy(),
                float(found.score[0]),
                float(found.remainder[0]),
                float(found.blurred_score[0]),
                crops[own],
            )
        )
    return sides[0], sides[1]
