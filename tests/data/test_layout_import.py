"""Datasets of known data sets: their fields, their protocol, and the real ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam import (
    LayoutImporter,
    Protocol,
    explain_retrieval,
    load_layout,
    load_protocol,
)
from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.layouts.importer import LoadedLayout, load_patches_field
from fiftyone_sfam.errors import DataError
from layout_support import MARKET, draw, write
from worlds import HEIGHT, WIDTH, person, tiny_model

Load = Callable[..., LoadedLayout]


@pytest.fixture
def load() -> Iterator[Load]:
    """Load layouts under unique names, deleted when the test ends."""
    names: list[str] = []

    def load(layout: str, folder: Path, **options: object) -> LoadedLayout:
        names.append(f"layout-{uuid.uuid4().hex[:8]}")
        return load_layout(layout, folder, names[-1], **options)

    yield load
    for name in names:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


def test_a_data_set_becomes_a_dataset(load: Load, tmp_path: Path) -> None:
    draw(tmp_path, [*MARKET, "query/IMG_1.jpg", *(f"query/{n}.png" for n in range(4))])
    loaded = load("market1501", tmp_path)
    dataset = loaded.dataset
    assert list(dataset.values(["identity", "camera", "split", "tags"])) == [
        ["0002", "0002", "0001", "0003", "-1", "0000", "0001", "0003"],
        ["1", "2", "1", "3", "1", "4", "2", "3"],
        ["train"] * 2 + ["query"] * 2 + ["gallery"] * 4,
        [["train"]] * 2 + [["query"]] * 2 + [["gallery"]] * 4,
    ]
    assert {Path(path) for path in dataset.values("filepath")} == {
        tmp_path / name for name in MARKET
    }
    assert loaded.counts == {"images": 8, "train": 2, "query": 2, "gallery": 4}
    assert (loaded.identities, loaded.layout, loaded.variant) == (5, "market1501", None)
    assert loaded.summary() == (
        "8 images of 5 identities (train 2, query 2, gallery 4)\n"
        "the protocol compares query with gallery\n"
        "5 images not named as in market1501: query/0.png, query/1.png, query/2.png "
        "and 2 more"
    )
    assert load_protocol(dataset) == load_protocol(dataset.limit(1)) == loaded.protocol
    items = collect_items(dataset, loaded.protocol)
    assert items.splits is not None
    assert not dataset.persistent


def test_an_importer_of_fiftyone(tmp_path: Path) -> None:
    draw(tmp_path, MARKET)
    importer = LayoutImporter("market1501", tmp_path, shuffle=True, seed=1)
    dataset = fo.Dataset.from_importer(importer)
    limited = fo.Dataset.from_importer(
        LayoutImporter("market1501", tmp_path, max_samples=2), tags="mine"
    )
    try:
        assert len(importer) == len(dataset) == 8
        assert dataset.values("identity") != sorted(dataset.values("identity"))
        # The rules are those of the images that are there.
        assert load_protocol(limited) == Protocol("identity", camera_field="camera")
        assert limited.values("tags") == [["train", "mine"]] * 2
    finally:
        dataset.delete()
        limited.delete()


def test_dates_and_unlabeled_images(load: Load, tmp_path: Path) -> None:
    draw(tmp_path, ["1.jpg", "2.jpg"])
    write(
        tmp_path,
        {"metadata.csv": "path,identity,date\n1.jpg,a,2020-02-03\n2.jpg,unknown,\n"},
    )
    dataset = load("csv", tmp_path).dataset
    assert isinstance(dataset.get_field("date"), fo.DateTimeField)
    assert dataset.values("identity") == ["a", None]
    assert dataset.values("date") == [datetime(2020, 2, 3), None]


def test_boxes_are_compared_as_their_crops_are(load: Load, tmp_path: Path) -> None:
    rows = ["path,identity,camera,date,x,y,w,h"]
    crops = []
    for frame in range(3):
        image = Image.new("RGB", (48, 40), (90, 90, 90))
        for number, (left, top) in enumerate(((2, 3), (30, 20))):
            shown = person(number, frame)
            image.paste(shown, (left, top))
            cells = f"p{number},c{frame},2024-05-0{frame + 1},{left},{top}"
            rows.append(f"{frame}.png,{cells},{WIDTH},{HEIGHT}")
            path = tmp_path / "crops" / f"{frame}-{number}.png"
            path.parent.mkdir(exist_ok=True)
            shown.save(path)
            crops.append(fo.Sample(filepath=str(path), identity=f"p{number}"))
        image.save(tmp_path / f"{frame}.png")
    write(tmp_path, {"metadata.csv": "\n".join(rows)})
    loaded = load("csv", tmp_path)
    dataset = loaded.dataset
    assert (loaded.patches_field, loaded.boxes) == ("detections", 6)
    assert load_patches_field(dataset) == "detections"
    assert loaded.protocol == Protocol("identity", camera_field="camera")
    assert loaded.summary().startswith("3 images with 6 boxes of 2 identities\n")
    detections = dataset.values("detections.detections", unwind=True)
    assert [one.label for one in detections] == ["p0", "p1"] * 3
    assert detections[0].bounding_box == [2 / 48, 3 / 40, WIDTH / 48, HEIGHT / 40]
    attribute = dataset.get_field("detections.detections.date")
    assert isinstance(attribute, fo.DateTimeField)
    run = explain_retrieval(
        dataset,
        tiny_model(),
        k=5,
        protocol=Protocol("identity", exclude=[("identity", "date")]),
        patches_field=loaded.patches_field,
    )
    assert len(run.items) == 6
    whole = fo.Dataset()
    try:
        whole.add_samples(crops)
        other = explain_retrieval(whole, tiny_model(), k=5)
        np.testing.assert_allclose(run.embeddings(), other.embeddings(), atol=1e-6)
    finally:
        whole.delete()
    # No identity was seen twice on a day, so that nothing but the query is left out.
    assert len(run.pairs) == 30


def test_names_that_are_taken(load: Load, tmp_path: Path) -> None:
    draw(tmp_path, ["Ayo/1.png", "Bo/1.png"])
    loaded = load("folders", tmp_path, persistent=True)
    name = loaded.dataset.name
    with pytest.raises(DataError, match=f"a dataset '{name}' exists; choose another"):
        load_layout("folders", tmp_path, name)
    # What cannot be read replaces nothing.
    with pytest.raises(DataError, match="named as in lfw"):
        load_layout("lfw", tmp_path, name, overwrite=True)
    assert len(fo.load_dataset(name)) == 2
    draw(tmp_path, ["Bo/2.png"])
    assert len(load_layout("folders", tmp_path, name, overwrite=True).dataset) == 3


def test_an_import_that_fails_leaves_no_dataset(load: Load, tmp_path: Path) -> None:
    draw(tmp_path, ["Ayo/1.png"])
    before = fo.list_datasets()

    def stop(bar: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load("folders", tmp_path, progress=stop)
    assert fo.list_datasets() == before


def test_stored_rules_that_are_none(dataset: fo.Dataset) -> None:
    assert load_protocol(dataset) is None
    assert load_patches_field(dataset) is None
    for stored in ("x", {}, {"protocol": []}):
        dataset.info["sfam_layout"] = stored
        dataset.save()
        with pytest.raises(DataError, match=r"'sfam_layout' .* holds no protocol"):
            load_protocol(dataset)


# --------------------------------------------------------------------------------------
# Real data sets
# --------------------------------------------------------------------------------------


def test_lions(load: Load, assets_dir: Path) -> None:
    loaded = load("folders", assets_dir / "data" / "lions")
    assert loaded.counts == {"images": 594, "train": 594}
    folders = {path.name for path in (assets_dir / "data/lions/train").iterdir()}
    assert set(loaded.dataset.distinct("identity")) == folders
    assert (loaded.unreadable, loaded.protocol) == ((), Protocol("identity"))


def test_lfw(load: Load, assets_dir: Path) -> None:
    loaded = load("lfw", assets_dir / "data" / "lfw_subset")
    assert (loaded.counts, loaded.identities) == ({"images": 320}, 40)
    assert set(loaded.dataset.count_values("identity").values()) == {8}
    assert "Mohammed_Al-Douri" in loaded.dataset.distinct("identity")


def test_other_layouts_do_not_read_lfw(assets_dir: Path) -> None:
    for layout in ("market1501", "vggface2", "casia-webface", "celeba", "sysu-mm01"):
        with pytest.raises(DataError, match=f"(named as in|'){layout}"):
            load_layout(layout, assets_dir / "data" / "lfw_subset", "none")
