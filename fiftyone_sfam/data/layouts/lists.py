"""The lists of the official splits that data sets ship beside their images.

Each function returns the labels of the listed images by their names in the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import BROKEN
from fiftyone_sfam.data.layouts.tree import IMAGES, Tree
from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError

Listed = dict[str, dict[str, Any]]
"""Labels by the name of their image."""

# Cameras 2 and 3 of SYSU-MM01 are in one room.
_SYSU_PLACES = {"3": "2"}
_SYSU_INFRARED = ("3", "6")
_SYSU_GALLERY = {"all": ("1", "2", "4", "5"), "indoor": ("1", "2")}
_CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}


def find_list(root: Path, *names: str) -> Path:
    """Return the first of some files that exists."""
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(
        f"'{root}' has no file {names[0]}, which is part of the data set and says "
        "which images are compared; copy it there."
    )


def read_rows(root: Path, *names: str, columns: int = 1) -> Iterator[list[str]]:
    """Yield the rows of the first of some lists that exists."""
    path = find_list(root, *names)
    for number, line in enumerate(_lines(path), 1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != columns:
            raise DataError(
                f"line {number} of {path} is '{one_line(line, 60)}', which has "
                f"{len(cells)} columns instead of {columns}; copy the list of the data "
                "set again."
            )
        yield cells


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text in UTF-8; copy the list of the data set again."
        ) from error


def read_matrix(path: Path, name: str, dtype: type = int) -> NDArray[Any]:
    """Read a variable of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return np.asarray(loadmat(path)[name], dtype=dtype)
    except (*BROKEN, MatReadError) as error:
        raise DataError(
            f"{path} cannot be read as a MATLAB file with the variable '{name}'; copy "
            "the file of the data set again."
        ) from error


def msmt17(tree: Tree) -> Listed:
    """Read ``list_*.txt``; train and test count their identities from zero each."""
    listed: Listed = {}
    for split, part in (
        ("train", "train"),
        ("val", "train"),
        ("query", "test"),
        ("gallery", "test"),
    ):
        if part not in tree.folders:
            continue
        for name, _ in read_rows(tree.root, f"list_{split}.txt", columns=2):
            labels = {"split": split}
            if part == "train":
                labels["identity"] = f"train_{name.partition('/')[0]}"
            listed[f"{tree.folders[part]}/{name}"] = labels
    return listed


def vehicleid(tree: Tree) -> Listed:
    """Read the lists of the training and of one test size."""
    listed: Listed = {}
    for split, name in (("train", "train_list"), ("test", f"test_list_{tree.variant}")):
        path = f"train_test_split/{name}.txt"
        for image, identity in read_rows(tree.root, path, columns=2):
            labels = {"split": split, "identity": identity}
            listed[f"{tree.folders['images']}/{image}.jpg"] = labels
    return listed


def cuhk03(tree: Tree) -> Listed | None:
    """Read the new protocol, from torchreid's JSON or the MATLAB file of its authors.

    The identities of the JSON are counted anew in its training part: those of the names
    are unique.
    """
    if "images" not in tree.folders:
        return None  # split into folders already
    folder, kind = tree.folders["images"], tree.variant
    path = find_list(
        tree.root,
        f"cuhk03_new_protocol_config_{kind}.mat",
        f"splits_new_{kind}.json",
    )
    names = _cuhk03_matlab(path) if path.suffix == ".mat" else _cuhk03_json(path)
    return {f"{folder}/{name}": {"split": split} for split, name in names}


def _cuhk03_matlab(path: Path) -> Iterator[tuple[str, str]]:
    files = read_matrix(path, "filelist", object).ravel()
    for split in ("train", "query", "gallery"):
        indices = read_matrix(path, f"{split}_idx").ravel()
        if len(indices) and not 1 <= indices.min() <= indices.max() <= len(files):
            raise DataError(
                f"{path} has indices of images that do not fit its {len(files)} names; "
                "copy the file of the data set again."
            )
        for index in indices:
            yield split, str(np.ravel(files[index - 1])[0])


def _cuhk03_json(path: Path) -> Iterator[tuple[str, str]]:
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = content[0] if isinstance(content, list) else content
        for split in ("train", "query", "gallery"):
            for name, *_ in rows[split]:
                # The paths are those of the machine that wrote them.
                yield split, str(name).replace("\\", "/").rpartition("/")[2]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path} is not a list of train, query and gallery images in JSON; make it "
            "again, or copy the MATLAB file of the new protocol beside it."
        ) from error


def sysu_mm01(tree: Tree) -> Listed:
    """Read the identities of the splits; infrared images are the queries."""
    split_of = {
        identity.zfill(4): split
        for split in ("train", "val", "test")
        for identity in _numbers(tree.root, f"exp/{split}_id.txt")
    }
    assert tree.variant is not None
    listed: Listed = {}
    for image in tree.images:
        camera, identity = image.labels["camera"], image.labels["identity"]
        split = split_of.get(identity)
        if split is None:
            continue
        infrared = camera in _SYSU_INFRARED
        if split == "test":
            if infrared:
                split = "query"
            elif camera in _SYSU_GALLERY[tree.variant]:
                split = "gallery"
        listed[image.name] = {
            "split": split,
            "place": _SYSU_PLACES.get(camera, camera),
            "modality": "infrared" if infrared else "visible",
        }
    return listed


def _numbers(root: Path, name: str) -> list[str]:
    """Read numbers between commas."""
    path = find_list(root, name)
    cells = path.read_text("utf-8-sig", errors="replace").replace(",", " ").split()
    wrong = [cell for cell in cells if not cell.isdecimal()]
    if wrong:
        raise DataError(
            f"{path} has '{one_line(wrong[0], 40)}' among its identities, which are "
            "numbers between commas; copy the list of the data set again."
        )
    return cells


def mars(tree: Tree) -> Listed | None:
    """Read the tracklets, of which some are the queries."""
    if "test" not in tree.folders:
        return None
    info = tree.root / "info"
    names = [row[0] for row in read_rows(tree.root, "info/test_name.txt")]
    tracks = read_matrix(
        find_list(tree.root, "info/tracks_test_info.mat"), "track_test_info"
    )
    queries = read_matrix(
        find_list(tree.root, "info/query_IDX.mat"), "query_IDX"
    ).ravel()
    fits = tracks.ndim == 2 and tracks.shape[1] == 4 and len(tracks) > 0
    if not fits or tracks[:, 0].min() < 1 or tracks[:, 1].max() > len(names):
        raise DataError(
            f"the tracklets in {info} do not fit the {len(names)} names of its "
            "test_name.txt; copy the lists of the data set again."
        )
    is_query = set(queries.tolist())
    listed: Listed = {
        image.name: {} for image in tree.images if image.labels["split"] == "train"
    }
    for number, (start, end, _, _) in enumerate(tracks.tolist(), 1):
        split = "query" if number in is_query else "gallery"
        for name in names[start - 1 : end]:
            listed[f"{tree.folders['test']}/{name[:4]}/{name}"] = {"split": split}
    return listed


def veri776(tree: Tree) -> Listed:
    """Read the tracks of the test images, if the list of them is there.

    Each line has the name of a track and its images; queries are images of tracks, too.
    """
    gallery, query = (tree.folders.get(part) for part in ("gallery", "query"))
    listed: Listed = {image.name: {} for image in tree.images}
    for name in ("test_track.txt", "test_track_VeRi.txt"):
        path = tree.root / name
        if not path.is_file():
            continue
        for line in _lines(path):
            track, *images = line.split()
            # Some copies of the list begin lines with the first image.
            images = [track, *images] if _is_image(track) else images
            for image in images:
                labels = {"tracklet": track.partition(".")[0]}
                if gallery is not None:
                    listed[f"{gallery}/{image}"] = labels
                if f"{query}/{image}" in listed:
                    listed[f"{query}/{image}"] = labels
        break
    return listed


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES


def celeba(tree: Tree) -> Listed:
    """Read the identities and the partition."""
    folder = tree.folders["images"]
    names = (f"{place}identity_CelebA.txt" for place in ("", "Anno/"))
    listed: Listed = {
        f"{folder}/{name}": {"identity": identity}
        for name, identity in read_rows(tree.root, *names, columns=2)
    }
    names = (f"{place}list_eval_partition.txt" for place in ("", "Eval/"))
    for name, number in read_rows(tree.root, *names, columns=2):
        labels = listed.setdefault(f"{folder}/{name}", {})
        labels["split"] = _CELEBA_SPLITS.get(number)
    return listed
