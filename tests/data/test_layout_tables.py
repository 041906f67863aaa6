"""Tables of images, such as the metadata of wildlife-datasets."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fiftyone_sfam.data.layouts.read import protocol_of, read_layout
from fiftyone_sfam.data.layouts.tree import Tree
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from layout_support import draw, labels, write

SPLIT = {"identity_field": "identity", "camera_field": "camera", "split_field": "split"}


def table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    draw(folder, ["images/1.jpg", "images/2.jpg", "images/3.png"])
    return write(folder, {name: text})


def test_the_metadata_of_wildlife_datasets(tmp_path: Path) -> None:
    table(
        tmp_path,
        "image_id,identity,path,date,video,species\n"
        "0,007,images/1.jpg,2019-05-01 10:00:00,4,lion\n"
        "1,unknown,images/2.jpg,,5,lion\n"
        "2,Zoë,images/3.png,2019-05-02,5,lion\n",
    )
    tree = read_layout("csv", tmp_path)
    assert labels(tree, "identity", "tracklet", "date", "species") == {
        "images/1.jpg": (
            "007",
            "4",
            datetime(2019, 5, 1, 10, tzinfo=timezone.utc),
            None,
        ),
        "images/2.jpg": (None, "5", None, None),
        "images/3.png": ("Zoë", "5", datetime(2019, 5, 2, tzinfo=timezone.utc), None),
    }
    assert protocol_of("csv", tree.images) == Protocol(
        "identity", exclude=[("tracklet",)]
    )


def test_named_columns(tmp_path: Path) -> None:
    table(
        tmp_path,
        "file;x,who,date,station,split\nimages/1.jpg,a,summer,s1,query\n"
        "images/2.jpg,a,2019,s2,gallery\n",
        "list.csv",
    )
    tree = read_layout(
        "csv",
        tmp_path / "list.csv",
        columns={"path": "file;x", "identity": "who", "camera": "station"},
    )
    assert labels(tree, "identity", "camera", "split", "date") == {
        "images/1.jpg": ("a", "s1", "query", "summer"),
        "images/2.jpg": ("a", "s2", "gallery", "2019"),
    }
    assert protocol_of("csv", tree.images) == Protocol.from_dict(SPLIT)


BOXES = (
    "path,identity,encounter,split,x,y,w,h\n"
    "images/1.jpg,a,e1,query,1,2,2,4\n"
    "images/2.jpg,b,e2,gallery,0,0,4,8\n"
    "images/1.jpg,b,e1,query,0,0,1,8\n"
    "images/3.png,unknown,e3,gallery,,,,\n"
)


def parts(tree: Tree) -> dict[str, list[tuple[Any, ...]]]:
    """The boxes of each image, and their identities."""
    return {
        image.name: [(part.box, part.labels["identity"]) for part in image.parts or ()]
        for image in tree.images
    }


def test_boxes_in_pixels_and_as_shares(tmp_path: Path) -> None:
    table(tmp_path, BOXES)  # the images have 4 x 8 pixels
    tree = read_layout("csv", tmp_path)
    expected = {
        "images/1.jpg": [((0.25, 0.25, 0.5, 0.5), "a"), ((0, 0, 0.25, 1), "b")],
        "images/2.jpg": [((0, 0, 1, 1), "b")],
        "images/3.png": [((0, 0, 1, 1), None)],
    }
    assert parts(tree) == expected
    assert labels(tree, "split", "identity") == {
        "images/1.jpg": ("query", None),
        "images/2.jpg": ("gallery", None),
        "images/3.png": ("gallery", None),
    }
    assert protocol_of("csv", tree.images) == Protocol(
        "identity", split_field="split", exclude=[("encounter",)]
    )
    # The same as shares, in columns of other names.
    text = BOXES.replace("x,y,w,h", "left,top,wide,high")
    for pixels, share in (
        ("1,2,2,4", ".25,.25,.5,.5"),
        ("0,0,4,8", "0,0,1,1"),
        ("0,0,1,8", "0,0,0.25,1"),
    ):
        text = text.replace(pixels, share)
    table(tmp_path, text)
    columns = {"x": "left", "y": "top", "w": "wide", "h": "high"}
    assert parts(read_layout("csv", tmp_path, columns=columns)) == expected
    # Without their names, they are columns like any other.
    with pytest.raises(
        DataError, match=r"'images/1.jpg' in several rows; .* x, y, w, h"
    ):
        read_layout("csv", tmp_path)


def test_a_turned_image_has_the_size_that_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: 8 x 4 pixels are shown as 4 x 8
    Image.new("RGB", (8, 4)).save(tmp_path / "1.jpg", exif=exif)
    write(tmp_path, {"metadata.csv": "path,identity,x,y,w,h\n1.jpg,a,2,4,2,4\n"})
    tree = read_layout("csv", tmp_path)
    assert parts(tree) == {"1.jpg": [((0.5, 0.5, 0.5, 0.5), "a")]}


def test_boxes_of_broken_images_are_left_out(tmp_path: Path) -> None:
    table(tmp_path, BOXES)
    (tmp_path / "images/1.jpg").write_bytes(b"no image")
    tree = read_layout("csv", tmp_path)
    assert set(parts(tree)) == {"images/2.jpg", "images/3.png"}
    assert tree.unreadable == ["images/1.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "columns", "message"),
    [
        ("1,2,2,4", "1,2,0,4", {}, r"row 0 of .* has the box '1', '2', '0', '4'; give"),
        ("1,2,2,4", "1,,2,4", {}, "has the box '1', '', '2', '4'; give left, top"),
        ("0,0,4,8", "0,a,4,8", {}, "row 1 of .* has the box '0', 'a'"),
        ("0,0,4,8", "0,0,inf,8", {}, "has the box '0', '0', 'inf', '8'"),
        (
            "b,e1,query",
            "b,e1,gallery",
            {},
            r"the image 'images/1.jpg' in several splits \(gallery, query\); give all",
        ),
        ("x,y,w,h", "x,y,w,high", {"h": "tall"}, "has no column 'tall' for h"),
        ("x,y,w,h", "x,y,w,high", {"x": "x"}, "has no column 'h' for h"),
        ("x,y,w,h", "x,y,w,h", {"label": "x"}, "the name of a field: 'label'"),
    ],
)
def test_boxes_that_cannot_be_read(
    old: str, new: str, columns: dict[str, str], message: str, tmp_path: Path
) -> None:
    table(tmp_path, BOXES.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_layout("csv", tmp_path, columns=columns)


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    draw(tmp_path / "outside", ["4.jpg"])
    table(
        tmp_path / "data",
        "path,identity\nimages/1.jpg,a\n../outside/4.jpg,b\nimages/9.jpg,c\n"
        f'notes.txt,d\n,e\n"a\0b.jpg",f\nimages/{"x" * 300}.jpg,g\n',
    )
    tree = read_layout("csv", tmp_path / "data")
    assert labels(tree, "identity") == {"images/1.jpg": ("a",)}
    assert tree.outside == ["../outside/4.jpg"]
    assert [name[:12] for name in tree.missing] == ["images/9.jpg", "images/xxxxx"]
    assert tree.unreadable[:2] == ["notes.txt", ""]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a,b\n1,2\n", {}, "has no column 'path' for path; its columns are 'a', 'b'"),
        ("path\nx.jpg\n", {"identity": "id"}, "has no column 'id' for identity"),
        ("path\nimages/1.jpg\nimages/1.jpg\n", {}, "the image 'images/1.jpg' in sev"),
        ("", {}, "cannot be read as a table"),
        ("path\nimages/1.jpg\n", {"id": "path"}, "cannot be the name of a field: 'id'"),
        ("path\nimages/1.jpg\n", {"_x": "path"}, "the name of a field: '_x'"),
        ("path\nnothing.jpg\n", {}, "holds no images"),
    ],
)
def test_tables_that_cannot_be_read(
    text: str, columns: dict[str, str], message: str, tmp_path: Path
) -> None:
    table(tmp_path, text)
    with pytest.raises(DataError, match=message):
        read_layout("csv", tmp_path, columns=columns)


def test_folders_without_one_table(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "path\n", "b.csv": "path\n"})
    with pytest.raises(DataError, match=r"has 2 tables \(\*.csv\) and no metadata.csv"):
        read_layout("csv", tmp_path)
    with pytest.raises(DataError, match="columns are those of a table; 'lfw' has none"):
        read_layout("lfw", tmp_path, columns={"identity": "who"})
