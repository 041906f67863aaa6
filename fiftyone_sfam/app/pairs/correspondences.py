"""What each place of one image adds to the similarity with each place of another.

The contribution of place ``p`` of an image to its embedding is ``C(p)``. Places ``p``
and ``p'`` of two images add ``<C_q(p), C_g(p')> / Z`` to their similarity, see
:mod:`fiftyone_sfam.attribution.contributions`. Summed over all ``p'`` this is the
evidence at ``p``, up to what the other image's remainder adds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.encode import encode
from fiftyone_sfam.app.pairs.maps import block_side
from fiftyone_sfam.app.pairs.subjects import SubjectQuestion
from fiftyone_sfam.attribution.contributions import Contributions, points

Crop = tuple[float, float, float, float]

MOST_PLACES = 256
"""Places of an image; those of a finer map are added up in blocks."""

_SMALL = 0.05
"""Part of the similarity that places may leave out without a word about it."""


def answer_correspondences(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Answer ``correspondences``: of a pair of a run, or of two selected samples.

    They are sent as float16: a value is off by at most 1/2048 of itself, or 3e-8 if it
    is smaller than 6e-5.
    """
    subject = SubjectQuestion.read(ctx.params).subject(ctx)
    pair, both, notes = subject.explain(lambda pair: pair.contributions())
    query, query_crop = in_blocks(both[0], pair.query.crop)
    neighbor, neighbor_crop = in_blocks(both[1], pair.gallery.crop)
    values = points(query, neighbor, pair.metric)
    remainder = pair.score - float(values.sum(dtype=np.float64))
    if abs(remainder) > _SMALL * abs(pair.score):
        notes.append(
            f"What a place adds leaves out the remainders, {remainder:+.3f} of the "
            f"similarity {pair.score:.3f}: it can differ from the evidence map there."
        )
    return {
        "query": {"shape": list(query.shape), "box": list(query_crop)},
        "neighbor": {"shape": list(neighbor.shape), "box": list(neighbor_crop)},
        "points": encode(values.reshape(math.prod(query.shape), -1), "f2"),
        "similarity": pair.score,
        "notes": notes,
    }


def in_blocks(image: Contributions, crop: Crop) -> tuple[Contributions, Crop]:
    """Add up the contributions of neighboring places, so that few places are left.

    Each place belongs to one block. Blocks at the right and lower edges can extend
    beyond the map: the crop is then that of all blocks.
    """
    height, width, size = image.values.shape
    across = block_side(height, width, MOST_PLACES)
    if across == 1:
        return image, crop
    rows, columns = -(-height // across), -(-width // across)
    padding = (rows * across - height, columns * across - width)
    padded = np.pad(image.values, ((0, padding[0]), (0, padding[1]), (0, 0)))
    summed: NDArray[np.float32] = padded.reshape(
        rows, across, columns, across, size
    ).sum((1, 3))
    left, top, right, bottom = crop
    right = left + (right - left) * columns * across / width
    bottom = top + (bottom - top) * rows * across / height
    return replace(image, values=summed), (left, top, right, bottom)
