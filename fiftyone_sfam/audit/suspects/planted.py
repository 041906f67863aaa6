"""Defects planted in the labels of a collection, to learn what they look like in it.

Only labels are changed: single images are given to another identity, an identity gets
two names, or two identities get one. What is measured afterwards is what such a defect
would look like in this collection, with this network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import Space, members_of
from fiftyone_sfam.retrieval.search import UNKNOWN

# Share of the identities that takes part in defects of each kind.
_SHARE = 0.1
_MOST = 300


@dataclass(frozen=True)
class Planted:
    """A space with other labels, and where they differ."""

    space: Space
    moved: NDArray[np.int64]  # images with the label of another identity
    split: NDArray[np.int64]  # pairs of identities that are one, (S, 2)
    merged: NDArray[np.int64]  # identities that are two


def plant(space: Space, generator: np.random.Generator) -> Planted:
    """Plant defects of all kinds, each in identities of its own."""
    labels = space.identities.copy()
    sizes = np.array([len(members) for members in space.members])
    people = generator.permutation(_in_order(space))
    count = int(np.clip(round(_SHARE * len(people)), 1, _MOST))
    several = [int(code) for code in people if sizes[code] > 1]
    to_split, to_move = several[:count], several[count : 2 * count]
    used = {*to_split, *to_move}
    free = [int(code) for code in people if code not in used]
    targets, free = free[: len(to_move)], free[len(to_move) :]
    to_merge = list(zip(free[0::2], free[1::2], strict=False))[:count]
    split: list[tuple[int, int]] = []
    for code in to_split:
        members = generator.permutation(_ordered(space, code))
        wanted = generator.choice(sizes, 2)
        first = int(np.clip(wanted[0], 1, len(members) - 1))
        second = int(np.clip(wanted[1], 1, len(members) - first))
        new = len(sizes) + len(split)
        labels[members[first : first + second]] = new
        labels[members[first + second :]] = UNKNOWN
        split.append((code, new))
    moved = []
    for code, target in zip(to_move, targets, strict=False):
        image = generator.choice(_ordered(space, code))
        labels[image] = target
        moved.append(image)
    for code, other in to_merge:
        labels[space.members[other]] = code
    return Planted(
        replace(space, identities=labels, members=members_of(labels)),
        np.array(moved, dtype=np.int64),
        np.array(split, dtype=np.int64).reshape(-1, 2),
        np.array([code for code, _ in to_merge], dtype=np.int64),
    )


def _ordered(space: Space, identity: int) -> NDArray[np.int64]:
    """Return the images of an identity in an order that their vectors decide."""
    members = space.members[identity]
    return members[np.lexsort(space.vectors[members].T[::-1])]


def _in_order(space: Space) -> NDArray[np.int64]:
    """Return the identities in an order that their vectors decide."""
    known = [code for code, members in enumerate(space.members) if len(members)]
    least = np.array([space.vectors[_ordered(space, code)[0]] for code in known])
    if len(known) == 0:
        return np.empty(0, dtype=np.int64)
    return np.array(known)[np.lexsort(least.T[::-1])]
