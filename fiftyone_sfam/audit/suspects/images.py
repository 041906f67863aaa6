"""How well embeddings agree with the label of each image.

Figures are in spreads: the spread of nearness between images of one identity, shrunk
towards the spread of all identities if it has few images. An image is mislabeled if it
is far from its own identity and usual in another one, and uninformative if it is far
from all identities. It attracts strangers if it is among the nearest of many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import (
    Genuine,
    Space,
    compared_with,
    group_spreads,
    nearness_to,
    own_nearness,
    robust_scale,
    unique_pairs,
)
from fiftyone_sfam.retrieval.search import UNKNOWN

MISLABEL_THRESHOLD = 5.0
"""Least strength of a mislabeled image, in spreads."""

FAR = 5.0
"""Gap to the own identity from which an image is far from it, in spreads."""

USUAL_MEMBER = 4.0
"""Gap up to which an image is a usual member of another identity, in spreads."""

UNLIKE_BOTH = 0.125
"""The same as a fraction of the gap to the own identity, for very unusual images."""

LEAD = 3.0
"""Lead of the own identity from which an image is informative, in spreads."""

HUB = 5.0
"""Deviation of the reach from which an image is a hub, in spreads."""

# Least spread, as a fraction of the gap between own and nearest other identities.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """Agreement of N images with their own and with other identities, each (N,).

    ``other`` is the identity that speaks most against the label. Gaps and leads are in
    spreads; NaN if unknown.
    """

    own: NDArray[np.float64]  # nearness to the nearest images of the own identity
    own_images: NDArray[np.int64]  # number of other images of the own identity
    own_gap: NDArray[np.float64]  # how much less near than usual
    other: NDArray[np.int64]  # code, or UNKNOWN
    other_nearness: NDArray[np.float64]  # nearness to the nearest images of ``other``
    other_gap: NDArray[np.float64]  # how much less near than usual there
    lead: NDArray[np.float64]  # how much nearer the own identity is than ``other``
    mislabel: NDArray[np.float64]  # strength of the evidence; -inf if there is none
    reach: NDArray[np.int64]  # other identities with the image among their nearest
    hub: NDArray[np.float64]  # how unusual the reach is

    @property
    def is_mislabeled(self) -> NDArray[np.bool_]:
        """Images above the threshold that are usual in the other identity."""
        usual = np.maximum(USUAL_MEMBER, UNLIKE_BOTH * self.own_gap)
        return (self.mislabel >= MISLABEL_THRESHOLD) & (self.other_gap <= usual)

    @property
    def uninformative(self) -> NDArray[np.float64]:
        """Distance above the threshold for uninformative images, in spreads.

        -inf if the image is mislabeled, or if there is no other identity. An image
        reaches the threshold, 0, if it is far from its own and from all other
        identities, and hardly nearer to its own identity than to another one.
        """
        far = np.minimum(self.own_gap - FAR, self.other_gap - USUAL_MEMBER / 2)
        return self._hardly_its_own(np.where(np.isnan(far), -np.inf, far))

    @property
    def attracts(self) -> NDArray[np.float64]:
        """Distance above the threshold for images that attract strangers, in spreads.

        -inf if the image is mislabeled, or if there is no other identity. An image
        reaches the threshold, 0, if it is among the nearest images of unusually many
        identities, and hardly nearer to its own identity than to another one.
        """
        return self._hardly_its_own(self.hub - HUB)

    def _hardly_its_own(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        hardly = LEAD - np.where(np.isnan(self.own), -np.inf, self.lead)
        excluded = (self.other == UNKNOWN) | self.is_mislabeled
        return np.where(excluded, -np.inf, np.minimum(margin, hardly))


def measure_images(
    space: Space,
    genuine: Genuine,
    nearest: NDArray[np.int64],
    reached: NDArray[np.int64],
) -> ImageFigures:
    """Compare each image with its own identity and with those that it is near to.

    ``nearest`` are images of the identities to compare with, or UNKNOWN, shape (N, K);
    ``reached`` the numbers of identities that have an image among their nearest.
    """
    count = len(space)
    own = own_nearness(space)
    sizes = np.array([len(members) for members in space.members] + [0])
    own_images = np.maximum(sizes[space.identities] - 1, 0)
    images, others = _suggestions(space, nearest)
    near = nearness_to(space, images, others)

    known = np.flatnonzero(~np.isnan(own))
    median = float(np.median(own[known])) if len(known) else 0.0
    gap = abs(median - float(np.median(near))) if len(near) else 0.0
    floor = max(_LEAST_SPREAD * gap, 1e-6)
    spreads = group_spreads(
        own[known], space.identities[known], len(space.members), floor
    )
    # A mean of few similarities varies more than a mean of many.
    extra = max(0.0, genuine.scale**2 - spreads.pooled_scale**2)

    def extra_variance(number: NDArray[np.int64]) -> NDArray[np.float64]:
        compared = np.maximum(compared_with(number), 1)
        return extra * np.maximum(1 / compared - 0.25, 0)

    own_extra = extra_variance(own_images)
    codes = np.where(space.identities == UNKNOWN, 0, space.identities)
    own_gap = np.full(count, np.nan)
    if len(space.members):
        own_gap = (spreads.center[codes] - own) / np.sqrt(
            spreads.scale[codes] ** 2 + own_extra
        )
    near_extra = extra_variance(sizes[others])
    near_gap = (spreads.center[others] - near) / np.sqrt(
        spreads.scale[others] ** 2 + near_extra
    )
    common = np.sqrt(spreads.pooled_scale**2 + (own_extra[images] + near_extra) / 2)
    lead = (own[images] - near) / common
    mislabel = own_gap[images] - near_gap - lead
    # If the own identity is the nearer one, no spread makes the label wrong.
    mislabel = np.where(lead > 0, np.minimum(mislabel, -lead), mislabel)

    # The identity that speaks most against the label, or the nearest one without one.
    rank = np.where(np.isnan(mislabel), -near_gap, mislabel)
    order = np.lexsort((rank, images))
    last = np.flatnonzero(np.diff(images[order], append=-1))
    best, rows = order[last], images[order][last]

    def column(values: NDArray, missing: float) -> NDArray:
        filled = np.full(count, missing, dtype=values.dtype)
        filled[rows] = values[best]
        return filled

    return ImageFigures(
        own=own,
        own_images=own_images,
        own_gap=own_gap,
        other=column(others, UNKNOWN),
        other_nearness=column(near, np.nan),
        other_gap=column(near_gap, np.nan),
        lead=column(lead, np.nan),
        mislabel=column(np.where(np.isnan(mislabel), -np.inf, mislabel), -np.inf),
        reach=reached,
        hub=_deviations(np.sqrt(reached)),
    )


def _suggestions(
    space: Space, nearest: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List each image with each identity among its nearest others, once."""
    valid = nearest != UNKNOWN
    images = np.broadcast_to(np.arange(len(space))[:, None], valid.shape)[valid]
    identities = space.identities[nearest[valid]]
    return unique_pairs(images, identities)


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return deviations from the median, in spreads of at least a half."""
    if len(values) == 0:
        return values
    away = values - np.median(values)
    return away / max(robust_scale(away), 0.5)
