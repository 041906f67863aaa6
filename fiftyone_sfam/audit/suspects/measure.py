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
    """What embeddings and labels say of N images."""

    space: Space  # the images
    levels: Levels  # how near images of one person are
    nearest: Nearest  # the images' neighbors
    images: ImageFigures  # for and against each label
    pairs: list[IdentityPair]  # identities that are near to each other
    divisions: list[Division]  # identities in two groups


def measure(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    report: Callable[[int, int], None] | None = None,
) -> Measured:
    """Compare images with their own identities and with others."""
    space = make_space(embeddings, metric, identities, cameras)
    levels = measure_levels(space)
    nearest = find_nearest(space, report)
    images = measure_images(space, levels, nearest)
    suspected = np.where(images.is_mislabeled, images.other, UNKNOWN)
    pairs = compare_identities(space, levels, nearest, suspected)
    divisions = divide_identities(space, levels, rival_level(space, pairs), suspected)
    return Measured(space, levels, nearest, images, pairs, divisions)
