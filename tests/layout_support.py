"""Folders with the names of known data sets and tiny images of our own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from fiftyone_sfam.data.layouts.tree import Tree


def draw(folder: Path, names: Iterable[str]) -> Path:
    """Write a tiny image under each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (number % 256, 90, 120)).save(path)
    return folder


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write texts under their names."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000301_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "query/0003_c3s3_064744_00.jpg",
    "bounding_box_test/0001_c2s1_001051_00.jpg",
    "bounding_box_test/0003_c3s3_064745_00.jpg",
    "bounding_box_test/0000_c4s1_000151_01.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
)


def mars(folder: Path) -> Path:
    """One training and three test tracklets of two images; the second is a query."""
    tracks = ["0002C1T0001", "0002C2T0001", "00-1C1T0001", "0000C3T0002"]
    test = [f"{track}F00{frame}.jpg" for track in tracks for frame in (1, 2)]
    train = [f"0001C1T0001F00{frame}.jpg" for frame in (1, 2)]
    draw(folder / "bbox_train", (f"{name[:4]}/{name}" for name in train))
    draw(folder / "bbox_test", (f"{name[:4]}/{name}" for name in test))
    write(
        folder,
        {
            "info/train_name.txt": "\n".join(train),
            "info/test_name.txt": "\n".join(test) + "\n",
        },
    )
    rows = [[1, 2, 2, 1], [3, 4, 2, 2], [5, 6, -1, 1], [7, 8, 0, 3]]
    savemat(folder / "info/tracks_test_info.mat", {"track_test_info": np.array(rows)})
    savemat(folder / "info/query_IDX.mat", {"query_IDX": np.array([[2]])})
    return folder


CUHK03 = ("1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png", "1_002_2_06.png")


def cuhk03_matlab(folder: Path, kind: str = "detected") -> None:
    """Write the new protocol as its authors do: indices from 1 into ``filelist``."""
    files = np.empty((len(CUHK03), 1), dtype=object)
    files[:, 0] = CUHK03
    content = {
        "filelist": files,
        "labels": np.array([[1], [1], [2], [2]]),
        "train_idx": np.array([[1], [2]]),
        "query_idx": np.array([[3]]),
        "gallery_idx": np.array([[4]]),
    }
    savemat(folder / f"cuhk03_new_protocol_config_{kind}.mat", content)


def labels(tree: Tree, *fields: str) -> dict[str, tuple[Any, ...]]:
    """The fields of each image by its name."""
    return {
        image.name: tuple(image.labels.get(field) for field in fields)
        for image in tree.images
    }
