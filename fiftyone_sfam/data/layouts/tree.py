"""The images of a folder, with the labels that their names carry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fiftyone_sfam.errors import DataError

IMAGES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Suffixes of images, in lower case."""


def is_text(name: str) -> bool:
    """Return whether a name can be stored: names of files may be any bytes."""
    try:
        return "\0" not in name.encode().decode()
    except UnicodeEncodeError:
        return False


def _refuse(error: OSError) -> None:
    raise DataError(
        f"the folder '{error.filename}' cannot be read ({error.strerror}); allow it."
    )


@dataclass(frozen=True)
class Part:
    """A box in an image, and its labels."""

    box: tuple[float, float, float, float]  # left, top, width, height; relative
    labels: dict[str, Any]


@dataclass(frozen=True)
class Image:
    """An image and its labels."""

    path: Path
    name: str  # relative to the folder of the data set, with slashes
    labels: dict[str, Any]
    parts: tuple[Part, ...] | None = None  # None: the whole image is compared

    def all_labels(self) -> list[dict[str, Any]]:
        """Return the labels of what is compared: of each part, or of the image."""
        if self.parts is None:
            return [self.labels]
        return [self.labels | part.labels for part in self.parts]


@dataclass
class Tree:
    """What is read from a folder; the lists are names relative to it."""

    root: Path
    variant: str | None = None
    folders: dict[str, str] = field(default_factory=dict)  # those of the parts
    images: list[Image] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # no names of the layout
    outside: list[str] = field(default_factory=list)  # links that lead out
    missing: list[str] = field(default_factory=list)  # listed, but not there
    unlisted: int = 0  # images that no list names

    def add_part(
        self, split: str | None, folder: str, patterns: Sequence[re.Pattern[str]]
    ) -> None:
        """Add the images below a folder, in the order of their names."""
        for name in sorted(self._names(folder)):
            inner = name[len(folder) + 1 :] if folder else name
            stem = inner.rpartition(".")[0]
            matches = (pattern.fullmatch(stem) for pattern in patterns)
            match = next(filter(None, matches), None)
            if match is None:
                self.unreadable.append(name)
                continue
            named = {key: text for key, text in match.groupdict().items() if text}
            labels = {"split": split, **named}
            self.images.append(Image(self.root / name, name, labels))

    def is_folder(self, folder: str) -> bool:
        """Return whether a folder is there; it is not if it leads out."""
        path = self.root / folder
        if not path.is_dir():
            return False
        if self.is_inside(path):
            return True
        self.outside.append(folder)
        return False

    def is_inside(self, path: Path) -> bool:
        """Return whether a path leads to a place in the folder."""
        # Unlike Path.resolve, this ends on links in a circle.
        return Path(os.path.realpath(path)).is_relative_to(self.root)

    def _names(self, folder: str) -> Iterator[str]:
        """Yield the names of the images below a folder, without hidden ones."""
        for parent, folders, files in os.walk(self.root / folder, onerror=_refuse):
            # os.walk does not follow links to folders, which could lead in a circle.
            links = [name for name in folders if (Path(parent) / name).is_symlink()]
            self.outside += [self._name(parent, name) for name in sorted(links)]
            folders[:] = [name for name in folders if not name.startswith(".")]
            for file in files:
                path = Path(parent, file)
                if file.startswith(".") or path.suffix.lower() not in IMAGES:
                    continue
                if not is_text(str(path)):
                    self.unreadable.append(
                        self._name(parent, file).encode("utf-8", "replace").decode()
                    )
                elif path.is_symlink() and not self.is_inside(path):
                    self.outside.append(self._name(parent, file))
                else:
                    yield self._name(parent, file)

    def _name(self, parent: str, name: str) -> str:
        return Path(parent, name).relative_to(self.root).as_posix()
