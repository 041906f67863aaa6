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
from fiftyone_sfam.app.pairs.subjects import SubjectQuestion, score_notes
from fiftyone_sfam.attribution.contributions import points, similarity_of
from fiftyone_sfam.runs.contributions import KeptImage

MOST_PLACES = 256
"""Places of an image; those of a finer map are added up in blocks."""

_SMALL = 0.05
"""Part of the similarity that places may leave out without a word about it."""


def answer_correspondences(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Answer ``correspondences``: of a pair of a run, or of two selected samples.

    They are sent as float16: a value is off by at most 1/2048 of itself, or 3e-8 if it
    is smaller than 6e-5. The remainder belongs to the values before that.
    """
    subject = SubjectQuestion.read(ctx.params).subject(ctx)
    kept, stored, notes = subject.kept(), subject.similarity[0], []
    source, similarity = "stored", stored
    if subject.run is not None and {0, 1} <= kept.keys():
        query, neighbor, metric = kept[0], kept[1], subject.run.config.metric
    else:
        live, _ = subject.live([0])
        (query, neighbor), metric = live.contributions(), live.metric
        notes = score_notes([(stored, float(live.scores[0]))])
        source, similarity = "live", None
    if similarity is None:
        embeddings = query.contributions.embedding, neighbor.contributions.embedding
        similarity = similarity_of(*embeddings, metric)
    query, neighbor = in_blocks(query), in_blocks(neighbor)
    values = points(query.contributions, neighbor.contributions, metric)
    places = math.prod(query.contributions.shape)
    remainder = similarity - float(values.sum(dtype=np.float64))
    if abs(remainder) > _SMALL * abs(similarity):
        notes = [
            *notes,
            f"What a place adds leaves out the remainders, {remainder:+.3f} of the "
            f"similarity {similarity:.3f}: it can differ from the evidence map there.",
        ]
    return {
        "query": _cells(query),
        "neighbor": _cells(neighbor),
        "points": encode(values.reshape(places, -1), "f2"),
        "similarity": similarity,
        "remainder": remainder,
        "source": source,
        "notes": notes,
    }


def _cells(image: KeptImage) -> dict[str, Any]:
    return {"shape": list(image.contributions.shape), "box": list(image.crop)}


def in_blocks(image: KeptImage) -> KeptImage:
    """Add up the contributions of neighboring places, so that few places are left.

    Each place belongs to one block. Blocks at the right and lower edges can extend
    beyond the map: the crop is then that of all blocks.
    """
    values = image.contributions.values
    height, width, size = values.shape
    across = block_side(height, width, MOST_PLACES)
    if across == 1:
        return image
    rows, columns = -(-height // across), -(-width // across)
    padding = (rows * across - height, columns * across - width)
    padded = np.pad(values, ((0, padding[0]), (0, padding[1]), (0, 0)))
    summed: NDArray[np.float32] = padded.reshape(
        rows, across, columns, across, size
    ).sum((1, 3))
    left, top, right, bottom = image.crop
    crop = (
        left,
        top,
        left + (right - left) * columns * across / width,
        top + (bottom - top) * rows * across / height,
    )
    contributions = replace(image.contributions, values=summed)
    return replace(image, contributions=contributions, crop=crop)
