"""Templates: the similarity of two sets of images, and what each image has of it.

A template is the mean of the embeddings of several images. With the ``n`` images of a
probe and the ``m`` of a gallery, each image weighted by ``a``, which is 1 or one over
the length of its embedding::

    u = sum over i of a_i e_i / n      v = sum over j of b_j e_j / m
    score    = <u, v> / Z              Z the normalizer of u and v
    shares   = a_i b_j <e_i, e_j> / (n m Z), which add up to the score

The weights and ``Z`` are held constant, so image ``i`` of the probe is explained toward
``a_i v / (n Z)``, and its maps and remainders add up to its share. The definitions are
this project's. This module uses numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.network.metric import Metric

Doubles = NDArray[np.float64]


# Length of a mean, relative to that of its members, that is rounding.
_ROUNDING = 8 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class TemplateVectors:
    """What the images of two templates are explained toward.

    Attributes
    ----------
    score : float
        Similarity of the templates.
    distance : float
        The metric's distance of the templates.
    shares : ndarray of float64
        Share of the score of each probe image with each gallery image, shape (n, m).
    scales : ndarray of float64
        Factors from the inner products of the embeddings to the shares, shape (n, m).
    probe : ndarray of float64
        Vector whose inner product with each probe image's embedding is the image's
        share, shape (n, D).
    gallery : ndarray of float64
        The same for the gallery images, shape (m, D).
    """

    score: float
    distance: float
    shares: Doubles
    scales: Doubles
    probe: Doubles
    gallery: Doubles


def template_vectors(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    metric: Metric = "cosine",
    normalize_members: bool = True,
) -> TemplateVectors:
    """Compare two templates.

    Parameters
    ----------
    probe, gallery : ndarray
        Embeddings of the images, shapes (n, D) and (m, D), none of them zero.
    metric : {"cosine", "euclidean"}
        Similarity of the templates.
    normalize_members : bool
        Whether each embedding is divided by its length before the mean.

    Returns
    -------
    TemplateVectors
        The score, its shares, and what each image is explained toward.

    Raises
    ------
    DataError
        If the mean of a template is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fiftyone_sfam.attribution.template_vectors import template_vectors
    >>> result = template_vectors(np.array([[2, 0]]), np.array([[1, 0], [0, 3]]))
    >>> round(result.score, 4), result.shares.round(4).tolist()
    (0.7071, [[0.7071, 0.0]])
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (probe, gallery)]
    weights, means, rounding = [], [], []
    for side in sides:
        lengths = np.linalg.norm(side, axis=1)
        weight = 1 / lengths if normalize_members else np.ones(len(side))
        weights.append(weight / len(side))
        means.append(weights[-1] @ side)
        rounding.append(_ROUNDING * float(weights[-1] @ lengths))
    lengths = np.array([np.linalg.norm(mean) for mean in means])
    if (lengths <= rounding).any():
        raise DataError(
            "the embeddings of a template add up to zero, so its similarity is not "
            "defined; give other members."
        )
    first, second = means
    if metric == "cosine":
        scale = float(lengths.prod())
    else:
        scale = float(np.square(lengths).sum() / 2)
    score = float(first @ second / scale)
    apart = 1 - score if metric == "cosine" else float(np.linalg.norm(first - second))
    scales = np.outer(*weights) / scale
    return TemplateVectors(
        score,
        apart,
        scales * (sides[0] @ sides[1].T),
        scales,
        np.outer(weights[0], second / scale),
        np.outer(weights[1], first / scale),
    )
