"""Images that do not belong where their label puts them, or that show nothing usable.

Numbers in, numbers out. All figures are in spreads: how much nearness varies between
images of one identity, the image's own identity counting for itself where it has enough
images, and for all of them where it has few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import (
    Levels,
    Nearest,
    Space,
    compared_with,
    group_spreads,
    nearness_to,
    own_nearness,
    reach,
    robust_scale,
)
from fiftyone_sfam.retrieval.search import UNKNOWN

MISLABEL_THRESHOLD = 5.0
"""Spreads by which a wrong label is asked to be the worse one."""

FAR = 5.0
"""Spreads that an image is asked to be farther from its own identity than usual."""

USUAL_MEMBER = 4.0
"""Spreads within which an image passes for one of another identity's."""

UNLIKE_BOTH = 0.125
"""Share of what an image is farther from its own identity than usual, within which it
passes for one of another identity's too: an image that is odd anywhere."""

LEAD = 3.0
"""Spreads by which an image that shows somebody is nearer to its own identity."""

HUB = 5.0
"""Spreads that the number of identities an image is near to is asked to stand out."""

# Least spread, as a share of what lies between one's own and the nearest stranger.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class ImageFigures:
    """What speaks for and against the label of each of N images."""

    own: NDArray[np.float64]  # nearness to the nearest images of its own identity
    own_images: NDArray[np.int64]
    own_gap: NDArray[np.float64]
    other: NDArray[np.int64]
    other_nearness: NDArray[np.float64]  # nearness to the nearest images of that one
    other_gap: NDArray[np.float64]
    lead: NDArray[np.float64]
    mislabel: NDArray[np.float64]
    reach: NDArray[np.int64]  # identities that it is among the nearest strangers of
    hub: NDArray[np.float64]

    @property
    def is_mislabeled(self) -> NDArray[np.bool_]:
        """Images above the threshold, and usual where they are said to belong."""
        usual = np.maximum(USUAL_MEMBER, UNLIKE_BOTH * self.own_gap)
        return (self.mislabel >= MISLABEL_THRESHOLD) & (self.other_gap <= usual)

    @property
    def uninformative(self) -> NDArray[np.float64]:
        """How far above its threshold an image is unlike its own and all others.

        In spreads; -inf for images that another identity explains, and where there is
        nothing to compare. The threshold, 0, is reached by being far from one's own
        identity and from any other, or by being near to many, and by being hardly
        nearer to one's own than to another in either case.
        """
        hardly = LEAD - np.where(np.isnan(self.own), -np.inf, self.lead)
        far = np.minimum(self.own_gap - FAR, self.other_gap - USUAL_MEMBER / 2)
        far = np.where(np.isnan(far), -np.inf, far)
        found = np.minimum(np.fmax(far, self.hub - HUB), hardly)
        found = np.where(self.other == UNKNOWN, -np.inf, found)
        return np.where(self.is_mislabeled, -np.inf, found)


def measure_images(space: Space, levels: Levels, nearest: Nearest) -> ImageFigures:
    """Compare each image with its own identity and with those that it is near to."""
    count = len(space)
    own = own_nearness(space)
    sizes = np.array([len(one) for one in space.members] + [0])
    own_images = np.maximum(sizes[space.identities] - 1, 0)
    images, others = _suggestions(space, nearest)
    near = nearness_to(space, images, others)

    known = np.flatnonzero(~np.isnan(own))
    middle = float(np.median(own[known])) if len(known) else 0.0
    gap = abs(middle - float(np.median(near))) if len(near) else 0.0
    floor = max(_LEAST_SPREAD * gap, 1e-6)
    spreads = group_spreads(
        own[known], space.identities[known], len(space.members), floor
    )
    # A mean of few similarities varies more than one of as many as are compared.
    extra = max(0.0, levels.scale**2 - spreads.pooled_scale**2)

    def variance_of(number: NDArray[np.int64]) -> NDArray[np.float64]:
        taken = np.maximum(compared_with(number), 1)
        return extra * np.maximum(1 / taken - 0.25, 0)

    own_extra = variance_of(own_images)
    mine = np.where(space.identities == UNKNOWN, 0, space.identities)
    own_gap = np.full(count, np.nan)
    if len(space.members):
        own_gap = (spreads.center[mine] - own) / np.sqrt(
            spreads.scale[mine] ** 2 + own_extra
        )
    near_extra = variance_of(sizes[others])
    near_gap = (spreads.center[others] - near) / np.sqrt(
        spreads.scale[others] ** 2 + near_extra
    )
    common = np.sqrt(spreads.pooled_scale**2 + (own_extra[images] + near_extra) / 2)
    lead = (own[images] - near) / common
    mislabel = own_gap[images] - near_gap - lead
    # Where its own identity is the nearer one, no spread makes the label wrong.
    mislabel = np.where(lead > 0, np.minimum(mislabel, -lead), mislabel)

    # The identity that speaks most against the label, or that is nearest without one.
    rank = np.where(np.isnan(mislabel), -near_gap, mislabel)
    order = np.lexsort((rank, images))
    last = np.flatnonzero(np.diff(images[order], append=-1))
    best, of = order[last], images[order][last]
    figures = ImageFigures(
        own,
        own_images,
        own_gap,
        np.full(count, UNKNOWN, dtype=np.int64),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.full(count, -np.inf),
        reach(space, nearest),
        np.zeros(count),
    )
    figures.other[of] = others[best]
    figures.other_nearness[of] = near[best]
    figures.other_gap[of] = near_gap[best]
    figures.lead[of] = lead[best]
    figures.mislabel[of] = np.where(np.isnan(mislabel[best]), -np.inf, mislabel[best])
    figures.hub[:] = _outstanding(np.sqrt(figures.reach))
    return figures


def _suggestions(
    space: Space, nearest: Nearest
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List each image with each identity among its nearest strangers, once."""
    listed = nearest.others
    valid = listed != UNKNOWN
    images = np.broadcast_to(np.arange(len(space))[:, None], listed.shape)[valid]
    pairs = np.unique(np.stack([images, space.identities[listed[valid]]]), axis=1)
    return pairs[0], pairs[1]


def _outstanding(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure values against their median, in their spread (at least a half)."""
    if len(values) == 0:
        return values
    away = values - np.median(values)
    return away / max(robust_scale(away), 0.5)
