"""Folders of known data sets: which images, labels and rules are read from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from fiftyone_sfam.data.layouts.read import protocol_of, read_layout
from fiftyone_sfam.data.layouts.table import LAYOUTS
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from layout_support import (
    CUHK03,
    MARKET,
    cuhk03_matlab,
    draw,
    labels,
    mars,
    write,
)

REID = ("identity", "camera", "split")
SPLIT = {"identity_field": "identity", "camera_field": "camera", "split_field": "split"}
TEST = {"split_field": "split", "query_value": "test", "gallery_value": "test"}


def market(folder: Path) -> Path:
    return draw(folder, MARKET)


def duke(folder: Path) -> Path:
    return draw(
        folder,
        [
            "bounding_box_train/0001_c2_f0046182.jpg",
            "query/0005_c2_f0046985.jpg",
            "bounding_box_test/0005_c5_f0046986.jpg",
        ],
    )


def msmt(folder: Path) -> Path:
    root = folder / "MSMT17_V2"
    draw(root / "mask_train_v2/0000", ["0000_000_01_0303morning_0008_0.jpg"])
    draw(root / "mask_train_v2/0001", ["0001_000_02_0303noon_0009_1.jpg"])
    draw(root / "mask_test_v2/0000", ["0000_000_14_0113afternoon_0010_0_ex.jpg"])
    draw(root / "mask_test_v2/0000", ["0000_001_15_0114morning_0011_0.jpg"])
    write(
        root,
        {
            "list_train.txt": "0000/0000_000_01_0303morning_0008_0.jpg 0\n",
            "list_val.txt": "0001/0001_000_02_0303noon_0009_1.jpg 1\n",
            "list_query.txt": "0000/0000_000_14_0113afternoon_0010_0_ex.jpg 0\n",
            "list_gallery.txt": "0000/0000_001_15_0114morning_0011_0.jpg 0\n",
        },
    )
    return folder


def veri(folder: Path) -> Path:
    return draw(
        folder,
        [
            "image_train/0001_c001_00016450_0.jpg",
            "image_query/0002_c002_00030600_0.jpg",
            "image_test/0002_c003_00030605_1.jpg",
        ],
    )


def vehicleid(folder: Path) -> Path:
    draw(folder / "image", [f"000000{number}.jpg" for number in range(1, 6)])
    write(
        folder / "train_test_split",
        {
            "train_list.txt": "0000001 11\n",
            "test_list_800.txt": "0000002 7\n0000003 7\n0000004 8\n",
        },
    )
    return folder


def sysu(folder: Path) -> Path:
    draw(folder, [f"cam{camera}/0006/0001.jpg" for camera in range(1, 7)])
    draw(folder, ["cam1/0001/0001.jpg", "cam3/0333/0001.jpg", "cam1/0400/0001.jpg"])
    write(
        folder / "exp",
        {"train_id.txt": "1,2\n", "val_id.txt": "333\n", "test_id.txt": "6, 10\n"},
    )
    return folder


def celeba(folder: Path) -> Path:
    draw(folder / "Img/img_align_celeba", [f"00000{n}.jpg" for n in range(1, 5)])
    write(
        folder,
        {
            "Anno/identity_CelebA.txt": "".join(
                f"00000{n}.jpg {n % 2}\n" for n in range(1, 5)
            ),
            "Eval/list_eval_partition.txt": "000001.jpg 0\n000002.jpg 1\n"
            "000003.jpg 2\n000004.jpg 2\n",
        },
    )
    return folder


CASES: dict[str, tuple[Callable[[Path], Path], set[tuple[Any, ...]], dict[str, Any]]]
CASES = {
    "market1501": (
        market,
        {
            ("0002", "1", "train"),
            ("0002", "2", "train"),
            ("0001", "1", "query"),
            ("0003", "3", "query"),
            ("0001", "2", "gallery"),
            ("0003", "3", "gallery"),
            ("0000", "4", "gallery"),
            ("-1", "1", "gallery"),
        },
        {**SPLIT, "junk": ["-1"], "distractors": ["0000"]},
    ),
    "dukemtmc-reid": (
        duke,
        {("0001", "2", "train"), ("0005", "2", "query"), ("0005", "5", "gallery")},
        SPLIT,
    ),
    "msmt17": (
        msmt,
        {
            ("train_0000", "01", "train"),
            ("train_0001", "02", "val"),
            ("0000", "14", "query"),
            ("0000", "15", "gallery"),
        },
        SPLIT,
    ),
    "veri776": (
        veri,
        {
            ("0001", "001", "train"),
            ("0002", "002", "query"),
            ("0002", "003", "gallery"),
        },
        SPLIT,
    ),
    "vehicleid": (
        vehicleid,
        {("11", None, "train"), ("7", None, "test"), ("8", None, "test")},
        {"identity_field": "identity", **TEST, "gallery_shots": 1},
    ),
    "sysu-mm01": (
        sysu,
        {
            ("0006", "1", "gallery"),
            ("0006", "2", "gallery"),
            ("0006", "3", "query"),
            ("0006", "4", "gallery"),
            ("0006", "5", "gallery"),
            ("0006", "6", "query"),
            ("0001", "1", "train"),
            ("0333", "3", "val"),
        },
        {
            **SPLIT,
            "exclude": [("place",)],
            "gallery_shots": 1,
            "gallery_per": ("identity", "camera"),
        },
    ),
    "mars": (
        mars,
        {
            ("0001", "1", "train"),
            ("0002", "1", "gallery"),
            ("0002", "2", "query"),
            ("00-1", "1", "gallery"),
            ("0000", "3", "gallery"),
        },
        {**SPLIT, "junk": ["00-1"], "distractors": ["0000"]},
    ),
    "lfw": (
        lambda folder: draw(folder / "lfw", ["Li_Peng/Li_Peng_0001.jpg"]),
        {("Li_Peng", None, None)},
        {"identity_field": "identity"},
    ),
    "celeba": (
        celeba,
        {
            ("1", None, "train"),
            ("0", None, "val"),
            ("1", None, "test"),
            ("0", None, "test"),
        },
        {"identity_field": "identity", **TEST},
    ),
    "vggface2": (
        lambda folder: draw(
            folder, ["train/n000002/0001_01.jpg", "test/n000001/0017_02.jpg"]
        ),
        {("n000002", None, "train"), ("n000001", None, "test")},
        {"identity_field": "identity", **TEST},
    ),
    "casia-webface": (
        lambda folder: draw(folder, ["0000045/001.jpg", "0000099/002.jpg"]),
        {("0000045", None, None), ("0000099", None, None)},
        {"identity_field": "identity"},
    ),
    "folders": (
        lambda folder: draw(folder, ["Zoë/a/1.PNG", "test/Ayo/1.png", "test/Bo/1.gif"]),
        {("Zoë", None, None), ("Ayo", None, "test"), ("Bo", None, "test")},
        {"identity_field": "identity", **TEST},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_labels_and_protocol(name: str, tmp_path: Path) -> None:
    make, expected, rules = CASES[name]
    tree = read_layout(name, make(tmp_path))
    assert set(labels(tree, *REID).values()) == expected
    assert protocol_of(name, tree.images) == Protocol.from_dict(rules)
    assert (tree.unreadable, tree.missing, tree.outside) == ([], [], [])
    assert all(image.path.is_file() for image in tree.images)


def test_every_layout_has_a_case() -> None:
    assert set(LAYOUTS) - {"cuhk03", "csv"} == set(CASES)


def test_further_labels(tmp_path: Path) -> None:
    tree = read_layout("msmt17", msmt(tmp_path / "msmt"))
    assert set(labels(tree, "date", "time").values()) == {
        ("0303", "morning"),
        ("0303", "noon"),
        ("0113", "afternoon"),
        ("0114", "morning"),
    }
    tree = read_layout("sysu-mm01", sysu(tmp_path / "sysu"))
    found = labels(tree, "place", "modality")
    assert found["cam2/0006/0001.jpg"] == ("2", "visible")
    assert found["cam3/0006/0001.jpg"] == ("2", "infrared")
    assert found["cam6/0006/0001.jpg"] == ("6", "infrared")
    assert tree.unlisted == 1  # identity 400 is in no list
    tree = read_layout("mars", mars(tmp_path / "mars"))
    tracklets = labels(tree, "tracklet", "split")
    assert tracklets["bbox_test/0002/0002C2T0001F002.jpg"] == ("0002C2T0001", "query")
    assert tracklets["bbox_test/00-1/00-1C1T0001F001.jpg"][0] == "00-1C1T0001"


TRACKED = (
    "image_query/0002_c002_00030600_0.jpg",
    "image_test/0002_c002_00030600_0.jpg",
    "image_test/0002_c002_00030605_1.jpg",
    "image_test/0002_c003_00031100_0.jpg",
    "image_test/0005_c003_00031200_0.jpg",
)


@pytest.mark.parametrize("name", ["test_track.txt", "test_track_VeRi.txt"])
def test_tracks_of_veri776(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["image_train/0001_c001_00016450_0.jpg", *TRACKED])
    lines = (
        "0002_c002_t01 0002_c002_00030600_0.jpg 0002_c002_00030605_1.jpg \n"
        "0002_c003_00031100_0.jpg 0002_c003_00031100_0.jpg 0002_c003_00031105_0.jpg\n"
    )
    write(tmp_path, {name: lines})
    tree = read_layout("veri776", tmp_path)
    assert labels(tree, "split", "tracklet") == {
        "image_train/0001_c001_00016450_0.jpg": ("train", None),
        TRACKED[0]: ("query", "0002_c002_t01"),
        TRACKED[1]: ("gallery", "0002_c002_t01"),
        TRACKED[2]: ("gallery", "0002_c002_t01"),
        # A track that is named by its first image.
        TRACKED[3]: ("gallery", "0002_c003_00031100_0"),
        TRACKED[4]: ("gallery", None),
    }
    assert tree.missing == ["image_test/0002_c003_00031105_0.jpg"]
    assert protocol_of("veri776", tree.images) == Protocol.from_dict(SPLIT)


def test_variants(tmp_path: Path) -> None:
    folder = sysu(tmp_path / "sysu")
    splits = labels(read_layout("sysu-mm01", folder, "indoor"), "split")
    assert splits["cam2/0006/0001.jpg"] == ("gallery",)
    assert splits["cam4/0006/0001.jpg"] == ("test",)
    folder = vehicleid(tmp_path / "vehicleid")
    write(folder, {"train_test_split/test_list_1600.txt": "0000005 9\n"})
    assert ("9", "test") in labels(
        read_layout("vehicleid", folder, "1600"), "identity", "split"
    ).values()
    for name, variant, message in (
        ("sysu-mm01", "outdoor", "unknown variant 'outdoor'.* use one of all, indoor"),
        ("lfw", "all", "unknown variant 'all' of the layout 'lfw'; it has no variants"),
    ):
        with pytest.raises(DataError, match=message):
            read_layout(name, folder, variant)


CUHK03_SPLITS = {
    "1_001_1_01.png": ("1_001", "1", "train"),
    "1_001_2_06.png": ("1_001", "2", "train"),
    "1_002_1_01.png": ("1_002", "1", "query"),
    "1_002_2_06.png": ("1_002", "2", "gallery"),
}


@pytest.mark.parametrize("source", ["matlab", "json"])
def test_cuhk03_with_the_split_of_its_authors_and_of_torchreid(
    source: str, tmp_path: Path
) -> None:
    draw(tmp_path / "images_labeled", CUHK03)
    if source == "matlab":
        cuhk03_matlab(tmp_path, "labeled")
    else:
        rows = [[f"/data/cuhk03/images_labeled/{name}", 0, 0] for name in CUHK03]
        split = {"train": rows[:2], "query": rows[2:3], "gallery": rows[3:]}
        write(tmp_path, {"splits_new_labeled.json": json.dumps([split])})
    tree = read_layout("cuhk03", tmp_path, "labeled")
    found = {name.split("/")[1]: v for name, v in labels(tree, *REID).items()}
    assert found == CUHK03_SPLITS
    assert protocol_of("cuhk03", tree.images) == Protocol.from_dict(SPLIT)
    with pytest.raises(DataError, match="holds no images of this layout"):
        read_layout("cuhk03", tmp_path, "detected")


def test_cuhk03_in_folders(tmp_path: Path) -> None:
    draw(
        tmp_path,
        ["detected/query/0003_c1_3.png", "detected/bounding_box_test/0003_c2_1.png"],
    )
    tree = read_layout("cuhk03", tmp_path)
    assert set(labels(tree, *REID).values()) == {
        ("0003", "1", "query"),
        ("0003", "2", "gallery"),
    }


def test_one_part_alone_is_compared_with_itself(tmp_path: Path) -> None:
    market(tmp_path)
    tree = read_layout("market1501", tmp_path / "bounding_box_train")
    assert set(labels(tree, *REID).values()) == {
        ("0002", "1", None),
        ("0002", "2", None),
    }
    assert protocol_of("market1501", tree.images) == Protocol(
        "identity", camera_field="camera"
    )


def test_the_folder_around_the_data_set(tmp_path: Path) -> None:
    market(tmp_path / "Market-1501-v15.09.15")
    assert len(read_layout("market1501", tmp_path).images) == len(MARKET)


# --------------------------------------------------------------------------------------
# What cannot be read
# --------------------------------------------------------------------------------------


def test_other_names_are_listed(tmp_path: Path) -> None:
    market(tmp_path)
    draw(tmp_path, ["query/IMG_1.jpg", "query/人.png", "bounding_box_test/1_c1.jpg"])
    draw(tmp_path, ["query/._0001_c1s1_001051_00.jpg", ".cache/0001_c1s1_1_0.jpg"])
    write(tmp_path, {"query/Thumbs.db": "", "readme.txt": ""})
    tree = read_layout("market1501", tmp_path)
    assert len(tree.images) == len(MARKET)
    assert set(tree.unreadable) == {
        "query/IMG_1.jpg",
        "query/人.png",
        "bounding_box_test/1_c1.jpg",
    }


def test_a_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    draw(tmp_path, ["Ayo/1.png"])
    os.rename(tmp_path / "Ayo/1.png", os.fsencode(tmp_path) + b"/Ayo/\xff.png")
    draw(tmp_path, ["Ayo/2.png"])
    tree = read_layout("folders", tmp_path)
    assert [image.name for image in tree.images] == ["Ayo/2.png"]
    assert tree.unreadable == ["Ayo/?.png"]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    secret = draw(tmp_path / "secret", ["Eve/1.png"])
    folder = draw(tmp_path / "data", ["Ayo/1.png", "Bo/1.png"])
    (folder / "Eve").symlink_to(secret / "Eve")
    (folder / "Ayo/2.png").symlink_to(secret / "Eve/1.png")
    (folder / "Ayo/3.png").symlink_to(folder / "Bo/1.png")
    (folder / "Ayo/4.png").symlink_to(folder / "Ayo/4.png")  # a circle
    tree = read_layout("folders", folder)
    names = [image.name for image in tree.images]
    assert "Ayo/3.png" in names
    assert not {"Eve/1.png", "Ayo/2.png"} & set(names)
    assert sorted(tree.outside) == ["Ayo/2.png", "Eve"]
    # The folder itself may be a link.
    (tmp_path / "link").symlink_to(folder)
    assert len(read_layout("folders", tmp_path / "link").images) == len(names)


def test_a_part_that_leads_out_is_not_read(tmp_path: Path) -> None:
    market(tmp_path / "other")
    draw(tmp_path / "data", ["query/0001_c1s1_001051_00.jpg"])
    (tmp_path / "data/bounding_box_test").symlink_to(tmp_path / "other/query")
    tree = read_layout("market1501", tmp_path / "data")
    assert [image.name for image in tree.images] == ["query/0001_c1s1_001051_00.jpg"]
    assert tree.outside == ["bounding_box_test"]


@pytest.mark.parametrize("name", [*CASES, "cuhk03"])
def test_wrong_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_layout(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no images of this layout; '.* such as"):
        read_layout(name, tmp_path)
    draw(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(DataError, match=r"is named as in|holds no images"):
        read_layout(name, tmp_path)
    with pytest.raises(DataError, match="is not a folder; give that of the data set"):
        read_layout(name, tmp_path / "a.jpg")


def test_a_wrong_folder_says_what_is_in_it(tmp_path: Path) -> None:
    draw(tmp_path, ["query/IMG_1.jpg", "query/IMG_2.jpg"])
    with pytest.raises(
        DataError,
        match=r"none of the 2 images in .* is named as in market1501, the first is "
        "query/IMG_1.jpg; 'market1501' has images such as bounding_box_test/0002_c1s1_",
    ):
        read_layout("market1501", tmp_path)
    with pytest.raises(DataError, match="unknown layout 'market'; use one of market15"):
        read_layout("market", tmp_path)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("msmt17", "MSMT17_V2/list_gallery.txt"),
        ("vehicleid", "train_test_split/test_list_800.txt"),
        ("sysu-mm01", "exp/test_id.txt"),
        ("mars", "info/query_IDX.mat"),
        ("mars", "info/test_name.txt"),
        ("celeba", "Anno/identity_CelebA.txt"),
    ],
)
def test_a_missing_list_is_a_sentence(name: str, lost: str, tmp_path: Path) -> None:
    CASES[name][0](tmp_path)
    (tmp_path / lost).unlink()
    file = Path(lost).name
    with pytest.raises(DataError, match=f"has no file .*{file}, which is part of the"):
        read_layout(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "broken", "content", "message"),
    [
        ("msmt17", "MSMT17_V2/list_query.txt", b"a.jpg\n", "line 1 .* has 1 columns"),
        ("msmt17", "MSMT17_V2/list_query.txt", b"\xff\xfe 0\n", "not a text in UTF-8"),
        ("sysu-mm01", "exp/test_id.txt", b"6,x", "has 'x' among its identities"),
        ("mars", "info/query_IDX.mat", b"no", "cannot be read as a MATLAB file with"),
        (
            "mars",
            "info/test_name.txt",
            b"0002C1T0001F001.jpg",
            "do not fit the 1 names",
        ),
    ],
)
def test_a_broken_list_is_a_sentence(
    name: str, broken: str, content: bytes, message: str, tmp_path: Path
) -> None:
    CASES[name][0](tmp_path)
    (tmp_path / broken).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_layout(name, tmp_path)


def test_broken_splits_of_cuhk03(tmp_path: Path) -> None:
    draw(tmp_path / "images_detected", CUHK03)
    with pytest.raises(
        DataError, match="has no file cuhk03_new_protocol_config_detect"
    ):
        read_layout("cuhk03", tmp_path)
    for text in ("", "{}", "[]", '{"train": 3}', '[{"train": [[]]}]'):
        write(tmp_path, {"splits_new_detected.json": text})
        with pytest.raises(DataError, match="not a list of train, query and gallery"):
            read_layout("cuhk03", tmp_path)
    path = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    savemat(path, {"filelist": np.array([1])})
    with pytest.raises(DataError, match="with the variable 'train_idx'"):
        read_layout("cuhk03", tmp_path)
    savemat(path, {"filelist": np.array([1]), "train_idx": np.array([0])})
    with pytest.raises(DataError, match="indices of images that do not fit its 1 name"):
        read_layout("cuhk03", tmp_path)


def test_listed_images_that_are_not_there(tmp_path: Path) -> None:
    vehicleid(tmp_path)
    (tmp_path / "image/0000002.jpg").unlink()
    write(tmp_path, {"train_test_split/train_list.txt": "0000001 11\n../../x 5\n"})
    tree = read_layout("vehicleid", tmp_path)
    assert tree.missing == ["image/../../x.jpg", "image/0000002.jpg"]
    assert tree.unlisted == 1  # image 5
    assert len(tree.images) == 3
