"""Find the images that a list of pairs names: by id, path, or file name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.pair_list import PairList
from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError

NOT_FOUND = -1


class ImageNames:
    """The images of a collection by what lists call them.

    A name is the id of an image, a value of ``names``, or the end of its path: folders
    and the ending may be left out, as in ``Ann_Lee_0001`` or ``Ann_Lee/0001.jpg``.
    """

    def __init__(
        self,
        ids: Sequence[str],
        filepaths: Sequence[str],
        names: Sequence[str | None] | None = None,
    ) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._ends: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for index, item_id in enumerate(ids):
            self._exact[item_id].append(index)
        if names is not None:
            for index, name in enumerate(names):
                if name is not None:
                    self._exact[name].append(index)
            return
        for index, filepath in enumerate(filepaths):
            path = _plain(filepath)
            for whole in dict.fromkeys((path, os.path.splitext(path)[0])):
                self._ends[whole.rpartition("/")[2]].append((f"/{whole}", index))

    def find(self, name: str) -> list[int]:
        """Return the images that a name fits."""
        if name in self._exact:
            return self._exact[name]
        end = f"/{_plain(name)}"
        ends = self._ends.get(end.rpartition("/")[2], ())
        return list(dict.fromkeys(index for path, index in ends if path.endswith(end)))


def find_image(images: ImageNames, name: str) -> int:
    """Return the only image of a name; raise if there is none."""
    found = _one(name, images.find(name))
    if isinstance(found, str):
        raise DataError(f"{found[:-1]}; a name is an id, or the end of a path.")
    return found


def find_images(
    listed: PairList, images: ImageNames, example: str
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Find the images of each pair of a list; raise if no pair has both.

    Returns their indices, shape (L, 2), -1 for images that are not found, and the
    reasons by row. ``example`` is the path of an image, for the message.
    """
    index = np.full((len(listed), 2), NOT_FOUND, dtype=np.int32)
    reasons: dict[int, str] = {}
    known: dict[str, int | str] = {}
    for row, names in enumerate(zip(listed.query, listed.gallery, strict=True)):
        for side, name in enumerate(names):
            if name not in known:
                known[name] = _one(name, images.find(name))
            found = known[name]
            if isinstance(found, int):
                index[row, side] = found
            else:
                reasons.setdefault(row, found)
    if len(reasons) == len(listed):
        raise DataError(
            f"none of the {counted(len(listed), 'pair')} of the list has both images "
            f"in the view; the first reason: {reasons[0]} A name is an id, or the end "
            f"of a path such as '{example}'; give name_field for names that a field "
            "holds."
        )
    return index, reasons


def _one(name: str, found: list[int]) -> int | str:
    """Return the only image of a name, or why there is none."""
    if len(found) == 1:
        return found[0]
    shown = shorten(name, 60)
    if found:
        return f"'{shown}' fits {len(found)} images; give more of its path."
    return f"'{shown}' is not in the view."


def _plain(path: str) -> str:
    return path.replace("\\", "/").strip("/")
