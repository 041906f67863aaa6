"""Leaks: images and identities that two collections share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_sfam.audit.duplicates.copies import FORMS
from fiftyone_sfam.audit.duplicates.find import Source, find_copies
from fiftyone_sfam.audit.statistics.cells import Table, count, name, number, table, text
from fiftyone_sfam.data.items import Items, collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.progress import Progress, reporting

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


@dataclass(frozen=True, kw_only=True)
class SharedImage:
    """Two images, one of each collection, that are copies of one picture.

    Attributes
    ----------
    train_id, test_id : str
        Samples, or detections if ``patches_field`` was given.
    form : str
        "identical file", "recompressed or resized", "recolored", "cropped" or
        "mirrored".
    likeness : float
        Lowest correlation of the two pictures, from 0.87 to 1.
    train_identity, test_identity : str or None
        Identities of the images.
    """

    train_id: str
    test_id: str
    form: str
    likeness: float
    train_identity: str | None = None
    test_identity: str | None = None


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What two collections share.

    Attributes
    ----------
    pairs : tuple of SharedImage
        Copies, those of the greatest likeness first.
    identities : tuple of str
        Identities that occur in both collections, sorted.
    train_images, test_images : int
        Numbers of compared images.
    limits : tuple of str
        Sentences about what could not be checked, and why.
    """

    pairs: tuple[SharedImage, ...] = field(repr=False)
    identities: tuple[str, ...] = field(repr=False)
    train_images: int
    test_images: int
    limits: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of pairs of each form."""
        found = Counter(pair.form for pair in self.pairs)
        return {form: found[form] for form in FORMS}

    def summary(self) -> str:
        """Return the findings in one sentence."""
        leaked = len({pair.test_id for pair in self.pairs})
        return (
            f"{leaked:,} of {counted(self.test_images, 'test image')} "
            f"{'is a copy' if leaked == 1 else 'are copies'} of "
            f"{counted(len({pair.train_id for pair in self.pairs}), 'image')} among "
            f"{self.train_images:,} for training; {len(self.identities):,} "
            f"{'identity occurs' if len(self.identities) == 1 else 'identities occur'} "
            "in both."
        )

    def __str__(self) -> str:
        return self.summary()


def find_leaks(
    train: SampleCollection,
    test: SampleCollection,
    *,
    identity_field: str | None = None,
    patches_field: str | None = None,
    progress: bool | Progress | None = None,
) -> Leaks:
    """Find the images and identities that two datasets or views share.

    Shared images are copies of one picture: the same file, or recompressed, resized,
    recolored, mirrored, or cropped by up to 10 % of each side. Candidates come from
    perceptual hashes of all images; their pixels are then aligned and compared. Shared
    identities have equal labels.

    FiftyOne's Brain finds equal files (``compute_exact_duplicates``) and near
    embeddings (``compute_near_duplicates``, ``compute_leaky_splits``). The latter need
    a model and a threshold. They are not used here, because two pictures of one person
    are as near as two copies of a picture, and mirrored or recolored copies may be
    farther away.

    Parameters
    ----------
    train, test : Dataset or DatasetView
        The two collections. Views of one dataset are possible.
    identity_field : str, optional
        Field with the identities, of both collections. Without it, only images are
        compared.
    patches_field : str, optional
        Field with detections to compare instead of whole images.
    progress : bool, callable or None
        As for :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Leaks
        The shared images and identities.

    Raises
    ------
    DataError
        If a collection is empty or has no such field.
    """
    protocol = Protocol(identity_field=identity_field)
    sides = [
        collect_items(samples, protocol, patches_field) for samples in (train, test)
    ]
    first = len(sides[0])

    def place(image: int) -> tuple[Items, int]:
        return (sides[0], image) if image < first else (sides[1], image - first)

    def source(image: int) -> Source:
        items, row = place(image)
        box = None if items.boxes is None else items.boxes[row].tolist()
        return items.filepaths[row], box

    total = first + len(sides[1])
    with reporting(progress) as report:

        def read(done: int, total: int) -> None:
            if report is not None:
                report(done, total, "reading")

        copies = find_copies(
            total, source, sides=np.arange(total) >= first, report=read
        )
    pairs = []
    for copy in copies.pairs:
        (ours, row), (theirs, other) = place(copy.first), place(copy.second)
        pairs.append(
            SharedImage(
                train_id=ours.ids[row],
                test_id=theirs.ids[other],
                form=copy.form,
                likeness=copy.likeness,
                train_identity=ours.identities[row],
                test_identity=theirs.identities[other],
            )
        )
    pairs.sort(key=lambda pair: (-pair.likeness, pair.test_id, pair.train_id))
    shared = {*sides[0].identities} & {*sides[1].identities} - {None}
    limits = list(copies.limits)
    if copies.blank:
        limits.append(
            f"Images of one color, which have nothing to compare: {copies.blank}. They "
            "were not searched for copies."
        )
    if identity_field is None:
        limits.append(
            "No identity field was given: shared identities were not searched."
        )
    return Leaks(
        pairs=tuple(pairs),
        identities=tuple(sorted(identity for identity in shared if identity)),
        train_images=first,
        test_images=len(sides[1]),
        limits=tuple(limits),
    )


def counts_table(leaks: Leaks) -> Table:
    """Return the number of shared images of each form."""
    rows = [(text(form), count(pairs)) for form, pairs in leaks.counts().items()]
    return table(("form", "pairs"), rows)


def pairs_table(leaks: Leaks, most: int) -> Table:
    """Return the most similar shared images."""
    rows = [
        (
            text(pair.train_id),
            text(pair.test_id),
            text(pair.form),
            number(pair.likeness, 3),
            name(pair.train_identity),
            name(pair.test_identity),
        )
        for pair in leaks.pairs[:most]
    ]
    head = ("train", "test", "form", "likeness", "train identity", "test identity")
    return table(head, rows, max(1, most))
