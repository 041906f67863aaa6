"""Worlds of real images with planted defects, and their true answers.

A world has a long tail: about half of its identities have one or two images, the others
from three to all that there are. Defects follow the patterns of published errata:
single images under another name, two images swapped, one person under two names (one
image under each name included), two persons under one name, copies, and crops that are
off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from suspects_pool import COPIES, CROPS, row_of

MISLABELED = "mislabeled image"
SPLIT = "split identity"
LINKED = "linked identities"
MERGED = "merged identity"
CROP = "bad crop"

KINDS = (MISLABELED, SPLIT, LINKED, MERGED, CROP)
"""Kinds of answers. Two identities are *linked* by any wrong label that puts images of
one person under both; this is what a ranking of pairs can find at best."""


@dataclass(frozen=True)
class World:
    """N images with planted defects.

    ``truth`` has an array per kind: 1 for a defect, 0 for none, -1 for a unit that is
    left out, as more than one answer is right. Images: (N,). Identities: (C,). Pairs of
    identities: (C, C). Pairs of images: (N, N).
    """

    rows: NDArray[np.int64]  # rows of the pool
    identities: NDArray[np.int64]  # the labels, as codes without gaps
    people: NDArray[np.int64]  # the true identities
    cameras: NDArray[np.int64]
    truth: dict[str, NDArray[np.int8]]


class _Draft:
    """A world that is being made: images as lists, defects as they are planted."""

    def __init__(self, most: int, generator: np.random.Generator):
        self.generator = generator
        self.images: list[int] = []
        self.forms: list[str] = []
        self.labels: list[int] = []
        self.moved: list[int] = []
        self.split: list[tuple[int, int]] = []
        self.merged: list[int] = []
        self.crops: list[int] = []
        self.copies: list[tuple[str, int, int]] = []
        self.used: set[int] = set()  # people with wrong labels
        self.next = most

    def add(self, image: int, label: int, form: str = "original") -> int:
        """Add an image under a label; return its index."""
        self.images.append(image)
        self.forms.append(form)
        self.labels.append(label)
        return len(self.images) - 1

    def under(self, label: int) -> list[int]:
        """List the indices of images under a label."""
        return [item for item, own in enumerate(self.labels) if own == label]

    def take(self, least: int, most: int | None = None) -> int | None:
        """Choose a person with enough images whose labels are still right."""
        sizes = np.bincount(self.labels, minlength=self.next)
        free = [
            label
            for label in np.flatnonzero((sizes >= least) & (sizes <= (most or 10**9)))
            if int(label) not in self.used
        ]
        if not free:
            return None
        chosen = int(self.generator.choice(free))
        self.used.add(chosen)
        return chosen

    def pick(self, label: int) -> int:
        """Choose an image under a label."""
        return int(self.generator.choice(self.under(label)))


def plant(
    identities: NDArray[np.int64], cameras: NDArray[np.int64], seed: int
) -> World:
    """Make a long-tailed world out of a collection, and plant defects of all kinds."""
    generator = np.random.default_rng(seed)
    draft = _Draft(int(identities.max()) + 1, generator)
    people = generator.permutation(int(identities.max()) + 1)
    for number, person in enumerate(people.tolist()):
        members = generator.permutation(np.flatnonzero(identities == person))
        few = number < len(people) / 2
        size = (
            generator.integers(1, 3)
            if few
            else generator.integers(3, 1 + max(3, len(members)))
        )
        for image in members[:size].tolist():
            draft.add(image, person)
    tenth = max(2, len(people) // 10)
    for number in range(tenth):
        _split(draft, single=number < tenth // 2)
    for number in range(max(2, tenth // 2)):
        _merge(draft, least=2 if number else 1)
    for _ in range(tenth):
        _move(draft)
    for _ in range(max(1, tenth // 2)):
        _swap(draft)
    for number, form in enumerate(COPIES):
        for turn in range(max(1, len(people) // 40)):
            _copy(draft, form, across=(number + turn + seed) % 2 == 0)
    _shift(draft, max(3, len(people) // 8))
    return _finish(draft, identities, cameras)


def _split(draft: _Draft, single: bool) -> None:
    """Give some images of a person a new name."""
    person = draft.take(2, 2 if single else None)
    if person is None:
        return
    images = draft.generator.permutation(draft.under(person))
    count = int(draft.generator.integers(1, len(images)))
    for item in images[:count]:
        draft.labels[item] = draft.next
    draft.split.append((person, draft.next))
    draft.used.add(draft.next)
    draft.next += 1


def _merge(draft: _Draft, least: int) -> None:
    """Give two people one name."""
    first, second = draft.take(least), draft.take(least)
    if first is None or second is None:
        return
    for item in draft.under(second):
        draft.labels[item] = first
    draft.merged.append(first)


def _move(draft: _Draft) -> None:
    """Give a single image the name of another person."""
    source, target = draft.take(2), draft.take(1)
    if source is None or target is None:
        return
    item = draft.pick(source)
    draft.labels[item] = target
    draft.moved.append(item)


def _swap(draft: _Draft) -> None:
    """Exchange the names of images; of only two, either could be the right one."""
    first, second = draft.take(3), draft.take(3)
    if first is None or second is None:
        return
    one, other = draft.pick(first), draft.pick(second)
    draft.labels[one], draft.labels[other] = second, first
    draft.moved += [one, other]


def _copy(draft: _Draft, form: str, across: bool) -> None:
    """Add a copy of an image, under the same name or another."""
    taken = {item for _, *pair in draft.copies for item in pair}
    free = [
        item
        for item, label in enumerate(draft.labels)
        if label not in draft.used and item not in taken
    ]
    if not free:
        return
    item = int(draft.generator.choice(free))
    label = draft.labels[item]
    if across:
        others = {draft.labels[other] for other in free} - {label}
        if not others:
            return
        label = int(draft.generator.choice(sorted(others)))
    draft.copies.append((form, item, draft.add(draft.images[item], label, form)))


def _shift(draft: _Draft, count: int) -> None:
    """Replace images by crops of them that are off."""
    planted = {*draft.moved, *(item for _, *pair in draft.copies for item in pair)}
    free = [item for item in range(len(draft.images)) if item not in planted]
    for number, item in enumerate(draft.generator.permutation(free)[:count].tolist()):
        draft.forms[item] = CROPS[number % len(CROPS)]
        draft.crops.append(item)


def _finish(
    draft: _Draft, owners: NDArray[np.int64], cameras: NDArray[np.int64]
) -> World:
    """Encode labels in a random order, and write the true answers down."""
    labels = np.array(draft.labels)
    images = np.array(draft.images)
    names = draft.generator.permutation(np.unique(labels))
    code = np.full(draft.next, -1)
    code[names] = np.arange(len(names))
    identities, people = code[labels], owners[images]
    count, groups = len(labels), len(names)
    split = np.array(draft.split).reshape(-1, 2)
    truth = {
        MISLABELED: np.zeros(count, dtype=np.int8),
        CROP: np.zeros(count, dtype=np.int8),
        MERGED: np.zeros(groups, dtype=np.int8),
        SPLIT: np.zeros((groups, groups), dtype=np.int8),
        LINKED: np.zeros((groups, groups), dtype=np.int8),
    }
    # An image of a person with two names, of two persons with one name, or of a copied
    # picture has more than one right answer.
    truth[MISLABELED][np.isin(labels, [*split.ravel(), *draft.merged])] = -1
    truth[MERGED][identities[draft.moved]] = -1
    for _, original, copy in draft.copies:
        pair = identities[original], identities[copy]
        if pair[0] != pair[1]:
            truth[MISLABELED][[original, copy]] = -1
            truth[MERGED][pair[1]] = -1
            _mark(truth[SPLIT], pair, -1)
            _mark(truth[LINKED], pair, 1)
    truth[MISLABELED][draft.moved] = 1
    truth[CROP][draft.crops] = 1
    truth[MERGED][code[draft.merged]] = 1
    for item in draft.moved:
        # Where the person's other images are; none if they were swapped away.
        for own in np.unique(identities[people == people[item]]):
            if own != identities[item]:
                _mark(truth[LINKED], (int(own), int(identities[item])), 1)
    for first, second in split:
        _mark(truth[SPLIT], (code[first], code[second]), 1)
        _mark(truth[LINKED], (code[first], code[second]), 1)
    rows = [row_of(*one) for one in zip(draft.images, draft.forms, strict=True)]
    return World(
        np.array(rows),
        identities,
        people,
        cameras[images],
        truth,
    )


def _mark(square: NDArray[np.int8], pair: tuple[int, int], value: int) -> None:
    square[pair] = square[pair[::-1]] = value
