"""Leaks: images and identities that two collections share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_sfam.audit.duplicates.copies import FORMS
from fiftyone_sfam.audit.duplicates.find import Copies, Source, find_copies
from fiftyone_sfam.audit.statistics.cells import Table, count, name, number, table, text
from fiftyone_sfam.audit.suspects.finding import THRESHOLD
from fiftyone_sfam.audit.suspects.likelihood import probability
from fiftyone_sfam.audit.suspects.measures import APART, measure
from fiftyone_sfam.data.items import Items, collect_items
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.embeddings import Embeddings, stored_embeddings
from fiftyone_sfam.retrieval.search import UNKNOWN

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
class SharedPerson:
    """Two identities, one of each collection, that are probably one person.

    Attributes
    ----------
    train_identity, test_identity : str
        Their labels, which differ.
    probability : float
        Of one person, from 0.5 to 1, see
        :mod:`fiftyone_sfam.audit.suspects.likelihood`.
    """

    train_identity: str
    test_identity: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Leaks(NotebookResult):
    """What two collections share.

    Attributes
    ----------
    pairs : tuple of SharedImage
        Copies, those of the greatest likeness first.
    identities : tuple of str
        Identities that occur in both collections, sorted.
    persons : tuple of SharedPerson
        Identities with different labels that are probably one person, the likeliest
        first. Empty without embeddings.
    train_images, test_images : int
        Numbers of compared images.
    limits : tuple of str
        Sentences about what could not be checked, and why.
    """

    pairs: tuple[SharedImage, ...] = field(repr=False)
    identities: tuple[str, ...] = field(repr=False)
    persons: tuple[SharedPerson, ...] = field(repr=False)
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
            "in both"
            + (
                f", and {counted(len(self.persons), 'pair')} of other identities may "
                "be one person each."
                if self.persons
                else "."
            )
        )

    def __str__(self) -> str:
        return self.summary()


def find_leaks(
    train: SampleCollection,
    test: SampleCollection,
    *,
    identity_field: str | None = None,
    patches_field: str | None = None,
    embeddings: str | None = None,
    metric: str = "cosine",
    progress: bool | Progress | None = None,
) -> Leaks:
    """Find the images and identities that two datasets or views share.

    Shared images are copies of one picture: the same file, or recompressed, resized,
    recolored, mirrored, or cropped by up to 10 % of each side. Candidates come from
    perceptual hashes of all images; their pixels are then aligned and compared. Shared
    identities have equal labels. With embeddings, identities with different labels that
    are probably one person are found as :func:`~fiftyone_sfam.find_suspects` finds
    split identities.

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
    embeddings : str, optional
        Field with the embeddings of both collections, or the brain key of a similarity
        index in both. Needs ``identity_field``.
    metric : {"cosine", "euclidean"}
        How the embeddings are compared.
    progress : bool, callable or None
        As for :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Leaks
        The shared images and identities.

    Raises
    ------
    DataError
        If a collection is empty or has no such field, or embeddings are given without
        identities or have different lengths.
    """
    if embeddings is not None and identity_field is None:
        raise DataError(
            f"embeddings='{embeddings}' tell which identities are one person; give "
            "identity_field as well."
        )
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
    persons: tuple[SharedPerson, ...] = ()
    person_limits: tuple[str, ...] = ()
    if embeddings is not None:
        vectors = [
            stored_embeddings(samples, items, embeddings, patches_field)
            for samples, items in zip((train, test), sides, strict=True)
        ]
        persons, person_limits = _find_persons(sides, vectors, metric)
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
    limits = (
        *_limits(copies, identity_field is not None, embeddings is not None),
        *person_limits,
    )
    return Leaks(
        pairs=tuple(pairs),
        identities=tuple(sorted(identity for identity in shared if identity)),
        persons=persons,
        train_images=first,
        test_images=len(sides[1]),
        limits=limits,
    )


def _limits(
    copies: Copies, has_identities: bool, has_embeddings: bool
) -> tuple[str, ...]:
    """Say what was not searched."""
    limits = list(copies.limits)
    if copies.blank:
        limits.append(
            f"Images of one color, which have nothing to compare: {copies.blank}. They "
            "were not searched for copies."
        )
    if not has_identities:
        limits.append(
            "No identity field was given: shared identities were not searched."
        )
    elif not has_embeddings:
        limits.append(
            "No embeddings were given: one person under two labels was not searched."
        )
    return tuple(limits)


def _find_persons(
    sides: list[Items], vectors: list[Embeddings], metric: str
) -> tuple[tuple[SharedPerson, ...], tuple[str, ...]]:
    """Find identities of either side that are one person under two labels."""
    widths = [side.vectors.shape[1] for side in vectors]
    if widths[0] != widths[1]:
        raise DataError(
            f"the embeddings for training have {widths[0]} values, those for the test "
            f"{widths[1]}; give embeddings of one model."
        )
    # Equal labels on both sides are compared as two identities.
    names = [
        (side, identity)
        for side, items in enumerate(sides)
        for identity in items.identities
    ]
    usable = np.concatenate([side.usable for side in vectors])
    usable &= np.array([identity is not None for _, identity in names])
    if not usable.any():
        return (), ("No image with an embedding has an identity.",)
    used = [names[row] for row in np.flatnonzero(usable)]
    known = list(dict.fromkeys(used))
    code = {name: place for place, name in enumerate(known)}
    measured = measure(
        np.concatenate([side.vectors for side in vectors])[usable],
        metric,
        np.array([code[name] for name in used]),
        np.full(len(used), UNKNOWN),
    )
    found = []
    chances = probability(measured.one_person())
    for (first, second), chance in zip(
        measured.figures.pairs.codes.tolist(), chances.tolist(), strict=True
    ):
        (side, one), (other_side, other) = known[first], known[second]
        if chance >= THRESHOLD and side != other_side and one != other:
            ordered = (one, other) if side == 0 else (other, one)
            found.append(
                SharedPerson(
                    train_identity=str(ordered[0]),
                    test_identity=str(ordered[1]),
                    probability=chance,
                )
            )
    found.sort(key=lambda pair: (-pair.probability, pair.train_identity))
    limits = []
    if measured.apart < APART:
        limits.append(
            "The embeddings do not tell these identities apart: one person under two "
            "labels cannot be found."
        )
    skipped = sum(len(side.skipped) for side in vectors)
    if skipped:
        limits.append(f"{counted(skipped, 'image')} without a usable embedding.")
    return tuple(found), tuple(limits)


def counts_table(leaks: Leaks) -> Table:
    """Return the number of shared images of each form."""
    rows = [(text(form), count(pairs)) for form, pairs in leaks.counts().items()]
    return table(("form", "pairs"), rows)


def persons_table(leaks: Leaks, most: int) -> Table:
    """Return the likeliest identities of either collection that are one person."""
    rows = [
        (name(one.train_identity), name(one.test_identity), number(one.probability, 2))
        for one in leaks.persons[:most]
    ]
    head = ("train identity", "test identity", "probability")
    return table(head, rows, max(1, most))


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
