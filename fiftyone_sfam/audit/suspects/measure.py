"""All figures of suspects that come from embeddings and labels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.identities import (
    Division,
    IdentityPair,
    compare_identities,
    divide_identities,
    rival_level,
)
from fiftyone_sfam.audit.suspects.images import ImageFigures, measure_images
from fiftyone_sfam.audit.suspects.space import (
    Levels,
    Nearest,
    Space,
    find_nearest,
    make_space,
    measure_levels,
)
from fiftyone_sfam.retrieval.search import UNKNOWN


@dataclass(frozen=True)
class Measured:
    """What embeddings and labels say of N images.

    Attributes
    ----------
    space : Space
        The images.
    levels : Levels
        How near images of one person are.
    nearest : Nearest
        The images' neighbors.
    images : ImageFigures
        For and against each label.
    pairs : list of IdentityPair
        Identities that are near to each other.
    divisions : list of Division
        Identities in two groups.
    """

    space: Space
    levels: Levels
    nearest: Nearest
    images: ImageFigures
    pairs: list[IdentityPair]
    divisions: list[Division]


def measure(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    report: Callable[[int, int], None] | None = None,
) -> Measured:
    """Compare images with their own identities and with others.

    Parameters
    ----------
    embeddings : ndarray
        Finite, and not zero for the cosine, shape (N, D).
    metric : {"cosine", "euclidean"}
        How they are compared.
    identities, cameras : ndarray of int64
        Codes from 0 without gaps, ``UNKNOWN`` where there is none, shape (N,).
    report : callable, optional
        Is called with the number of images done and their total.

    Returns
    -------
    Measured
        The figures. They depend neither on the order of the images nor, for the
        cosine, on the lengths of the embeddings.
    """
    space = make_space(embeddings, metric, identities, cameras)
    levels = measure_levels(space)
    nearest = find_nearest(space, report)
    images = measure_images(space, levels, nearest)
    suspected = np.where(images.is_mislabeled, images.other, UNKNOWN)
    pairs = compare_identities(space, levels, nearest, suspected)
    divisions = divide_identities(space, levels, rival_level(space, pairs), suspected)
    return Measured(space, levels, nearest, images, pairs, divisions)
