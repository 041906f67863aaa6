"""Copies of pictures among images, complete within the reach of the hashes."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.audit.duplicates.candidates import (
    MOST,
    Candidates,
    find_candidates,
)
from fiftyone_sfam.audit.duplicates.copies import (
    ALIKE,
    IDENTICAL,
    RECOMPRESSED,
    color_copy,
    compare,
)
from fiftyone_sfam.audit.duplicates.hashes import LAYOUTS, Hasher, Hashes, gray_copy
from fiftyone_sfam.data.images import load_in_background, read_part

# Threads that read images.
_WORKERS = 4
# Pairs whose copies are held at once.
_HELD = 4096

Source = tuple[str, list[float] | None]
Report = Callable[[int, int], None]
Shrink = Callable[[Image.Image], NDArray[np.uint8]]


@dataclass(frozen=True)
class Copy:
    """Two images that are copies of one picture."""

    first: int
    second: int
    form: str
    likeness: float


@dataclass(frozen=True)
class Copies:
    """The copies among images, and sentences about what could not be checked."""

    pairs: tuple[Copy, ...]
    limits: tuple[str, ...]
    blank: int = 0  # images of one color, which have nothing to compare
    kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)


def find_copies(
    count: int,
    source: Callable[[int], Source],
    *,
    near: NDArray[np.int64] | None = None,
    sides: NDArray[np.bool_] | None = None,
    report: Report | None = None,
    keep: Shrink | None = None,
) -> Copies:
    """Find the copies among ``count`` images.

    Every image is read once and hashed; candidates are read again and compared.

    Parameters
    ----------
    count : int
        Number of images.
    source : callable
        Returns the file of an image, and its relative box or None.
    near : ndarray of int64, optional
        Pairs with near embeddings, shape (P, 2), which are candidates even if their
        hashes differ by more than those of hash neighbors.
    sides : ndarray of bool, optional
        The collection of each image. Only copies in both are found.
    report : callable, optional
        Called with the number of images read and their total.
    keep : callable, optional
        Makes a small copy of each image, which is kept.
    """
    hashes, missing, kept = hash_images(count, source, report, keep)
    candidates = find_candidates(hashes, near, sides)
    pairs, unread = _confirm(candidates, source)
    limits = []
    blank = count - len(missing) - int(hashes.usable.sum())
    if candidates.left_out:
        limits.append(
            f"Only the {MOST:,} pairs with the most similar hashes were compared by "
            f"their pixels; {candidates.left_out:,} were not."
        )
    missing |= unread
    if missing:
        limits.append(
            f"{len(missing)} of {count} pictures could not be read; the first: "
            f"{next(iter(missing.values()))}"
        )
    return Copies(tuple(pairs), tuple(limits), blank, kept)


def hash_images(
    count: int,
    source: Callable[[int], Source],
    report: Report | None = None,
    keep: Shrink | None = None,
) -> tuple[Hashes, dict[int, str], dict[int, NDArray[np.uint8]]]:
    """Read and hash images.

    Returns the hashes, the reasons for missing ones, and what ``keep`` makes of images.
    """
    hasher, missing = Hasher(count), {}
    kept: dict[int, NDArray[np.uint8]] = {}

    def read(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        image = read_part(*source(index))
        return gray_copy(image), None if keep is None else keep(image)

    for done, loaded in enumerate(load_in_background(range(count), read, _WORKERS), 1):
        if loaded.value is None:
            missing[loaded.index] = loaded.reason or "the file cannot be read."
        else:
            gray, small = loaded.value
            hasher.add(loaded.index, gray)
            if small is not None:
                kept[loaded.index] = small
        if report is not None:
            report(done, count)
    return hasher.finish(), missing, kept


def _confirm(
    candidates: Candidates, source: Callable[[int], Source]
) -> tuple[list[Copy], dict[int, str]]:
    """Compare candidates by their pixels."""
    confirmed: list[Copy] = []
    missing: dict[int, str] = {}
    order = np.lexsort((candidates.second, candidates.first))
    for start in range(0, len(order), _HELD):
        chosen = order[start : start + _HELD]
        first = candidates.first[chosen].tolist()
        second = candidates.second[chosen].tolist()
        copies = _color_copies({*first, *second}, source, missing)
        pairs = [
            (one, other, LAYOUTS[layout])
            for one, other, layout in zip(
                first, second, candidates.layout[chosen].tolist(), strict=True
            )
            if one in copies and other in copies
        ]
        compared = compare(
            [copies[one] for one, _, _ in pairs],
            [copies[other] for _, other, _ in pairs],
            [layout for _, _, layout in pairs],
        )
        confirmed += [
            _named(Copy(one, other, found.form, found.likeness), source)
            for (one, other, _), found in zip(pairs, compared, strict=True)
            if found.likeness >= ALIKE
        ]
    return confirmed, missing


def _color_copies(
    images: Iterable[int],
    source: Callable[[int], Source],
    missing: dict[int, str],
) -> dict[int, NDArray[np.uint8]]:
    copies = {}
    read = partial(_read, source, color_copy)
    for loaded in load_in_background(sorted(images), read, _WORKERS):
        if loaded.value is None:
            missing[loaded.index] = loaded.reason or "the file cannot be read."
        else:
            copies[loaded.index] = loaded.value
    return copies


def _named(copy: Copy, source: Callable[[int], Source]) -> Copy:
    """Order the images of a copy, and tell copies of files from those of pictures."""
    low, high = sorted((copy.first, copy.second))
    form = copy.form
    if form == RECOMPRESSED and _same_file(source(low), source(high)):
        form = IDENTICAL
    return replace(copy, first=low, second=high, form=form)


def _same_file(first: Source, second: Source) -> bool:
    """Compare the bytes of two files, and the boxes in them."""
    if first[1] != second[1]:
        return False
    try:
        return filecmp.cmp(first[0], second[0], shallow=False)
    except OSError:
        return False


def _read(
    source: Callable[[int], Source],
    shrink: Shrink,
    index: int,
) -> NDArray[np.uint8]:
    return shrink(read_part(*source(index)))
