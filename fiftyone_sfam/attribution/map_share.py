"""The share of the similarity scores that evidence maps carry.

It can be next to nothing: a large bias adds the same to every embedding, whatever the
image, and an operation of the head that divides by what it computes from its input, in
a way that cannot be held constant, leaves maps that sum to zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.text import percent

LEAST_SHARE = 0.1
"""Maps that carry less than this share of the score do not explain it."""

LEAST_SCORE = 0.05
"""Absolute score below which the share of a single pair means nothing."""


def share_of(score: float, remainder: float) -> float:
    """Return the absolute share of one score that its map carries."""
    return abs(score - remainder) / abs(score)


def median_share(
    scores: NDArray[np.float32], remainders: NDArray[np.float32]
) -> float | None:
    """Return the median absolute share of scores that their maps carry."""
    known = np.isfinite(scores) & np.isfinite(remainders) & (scores != 0)
    if not known.any():
        return None
    score = scores[known].astype(np.float64)
    return float(np.median(np.abs(score - remainders[known]) / np.abs(score)))


def is_too_little(share: float | None) -> bool:
    """Return whether maps carry too little of the score, if it is known."""
    return share is not None and share < LEAST_SHARE


def map_warnings(
    share: float | None,
    layer: str,
    of: str,
    fullest: tuple[str, float] | None = None,
) -> tuple[str, ...]:
    """Return warnings of maps that carry too little of the score.

    ``fullest`` is the stage of the network that carries the most of an image's
    similarity with itself, and how much; None if it is not known.
    """
    if share is None or not is_too_little(share):
        return ()
    return (
        f"These maps carry {percent(share)} of the {of}: the rest comes from what "
        f"follows layer '{layer}' (typically a bias or other tokens). Do not "
        f"read them as explanations; {_way_out(share, layer, fullest)} explain_path, "
        "which does not depend on a layer.",
    )


def _way_out(share: float, layer: str, fullest: tuple[str, float] | None) -> str:
    """Name a layer that carries more, or say that there is none."""
    if fullest is None:
        return "name another layer with layer=..., or use"
    name, most = fullest
    if name in ("", layer) or most < max(share, LEAST_SHARE):
        return "no stage of the network carries a tenth of the similarity, so use"
    return (
        f"give layer='{name}', which carries {percent(most)} of an image's similarity "
        "with itself, or use"
    )
