"""Tables of images, such as the metadata of wildlife-datasets."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from fiftyone_sfam.data.layouts.read import protocol_of, read_layout
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
