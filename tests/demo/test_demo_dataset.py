from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from demo_frames import generate_frames, load_demo_frames, render_frame
from fiftyone_sfam.demo.dataset import load_demo_dataset
from fiftyone_sfam.demo.world import DefectPlan, generate_world, render
from fiftyone_sfam.errors import DataError

PLAN = DefectPlan(1, 1, 1, 1, 2)
SMALL = {"identities": 8, "images_per_identity": 6, "defects": PLAN}


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    name = f"demo-{uuid.uuid4().hex[:8]}"
    dataset = load_demo_dataset(name, 4, tmp_path_factory.mktemp("crops"), **SMALL)
    yield dataset
    fo.delete_dataset(name)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    name = f"demo-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("frames")
    dataset = load_demo_frames(name, 4, folder, frames=6, identities=5)
    yield dataset
    fo.delete_dataset(name)


def test_crops_carry_what_the_world_says(crops: fo.Dataset) -> None:
    world = generate_world(4, **SMALL)
    assert crops.values("identity") == [c.identity for c in world.crops]
    assert crops.values("true_identity") == [c.true_identity for c in world.crops]
    assert crops.values("camera") == [c.camera for c in world.crops]
    assert crops.values("split") == [c.split for c in world.crops]
    assert crops.values("tags") == [[c.split] for c in world.crops]
    assert crops.values("planted") == [list(c.defects) for c in world.crops]
    assert not crops.persistent


def test_files_masks_and_parts_are_those_that_are_rendered(crops: fo.Dataset) -> None:
    world = generate_world(4, **SMALL)
    for sample, crop in list(zip(crops, world.crops, strict=True))[::11]:
        rendered = render(crop)
        with Image.open(sample.filepath) as image:
            assert np.array_equal(np.asarray(image), np.asarray(rendered.image))
        assert Path(sample.filepath).stem == crop.crop_id
        assert np.array_equal(sample.person.mask, rendered.mask)
        assert np.array_equal(sample.scene.mask, rendered.scene)
        assert np.array_equal(sample.scene.mask == 1, rendered.mask)
        parts = {p.label: p for p in sample.parts.detections}
        assert {n: tuple(p.bounding_box) for n, p in parts.items()} == rendered.parts
        # Together the parts' masks are the person, up to parts of under 4 pixels.
        total = sum(int(p.mask.sum()) for p in parts.values())
        assert 0 <= int(rendered.mask.sum()) - total < 16


def test_planted_defects_are_stored_by_sample(crops: fo.Dataset) -> None:
    planted = crops.info["sfam_demo"]["planted"]
    assert Counter(p["kind"] for p in planted) == {
        "wrong_label": 1,
        "split_identity": 1,
        "merged_identity": 1,
        "near_duplicate": 1,
        "shortcut": 2,
    }
    for defect in planted:
        view = crops.select(defect["samples"])
        assert len(view) == len(defect["samples"]) > 0
        assert view.values("planted") == [[defect["kind"]]] * len(view)
    duplicate = next(p for p in planted if p["kind"] == "near_duplicate")
    query, twin = (crops[i] for i in duplicate["samples"])
    assert (query.planted_with, twin.planted_with) == ([twin.id], [query.id])
    assert (query.split, twin.split) == ("query", "gallery")
    wrong = next(p for p in planted if p["kind"] == "wrong_label")
    sample = crops[wrong["samples"][0]]
    assert [sample.identity, sample.true_identity] == wrong["identities"]
    assert sample.planted_with == [sample.true_identity]


def test_planted_kinds_filter(crops: fo.Dataset) -> None:
    view = crops.match({"planted": "shortcut"})
    assert len(view) == 12
    assert len(view.distinct("identity")) == 2


def test_loading_again_returns_what_is_there(crops: fo.Dataset) -> None:
    ids = crops.values("id")
    again = load_demo_dataset(crops.name, 4, "/nonexistent", **SMALL)
    assert again.values("id") == ids


def test_another_dataset_of_the_name_is_not_touched(crops: fo.Dataset) -> None:
    with pytest.raises(DataError, match="exists and is not this demo"):
        load_demo_dataset(crops.name, 5, **SMALL)
    assert len(crops) == 48


def test_overwrite_replaces_and_progress_counts(tmp_path: Path) -> None:
    name = f"demo-{uuid.uuid4().hex[:8]}"
    options = {
        "identities": 3,
        "images_per_identity": 2,
        "defects": DefectPlan.none(),
        "directory": tmp_path,
    }
    try:
        load_demo_dataset(name, 1, **options)
        calls: list[tuple[int, int]] = []
        second = load_demo_dataset(
            name,
            2,
            overwrite=True,
            persistent=True,
            progress=lambda done, total: calls.append((done, total)),
            **options,
        )
        assert calls == [(i, 6) for i in range(1, 7)]
        assert second.persistent
        assert fo.load_dataset(name).values("id") == second.values("id")
        assert len(second) == 6
    finally:
        fo.delete_dataset(name)


def test_frames_hold_people_with_identity(frames: fo.Dataset) -> None:
    generated = generate_frames(4, frames=6, identities=5)
    assert len(frames) == 6
    assert frames.distinct("camera") == ["c1"]
    assert frames.distinct("detections.detections.label") == ["person"]
    for sample, frame in zip(frames, generated, strict=True):
        rendered = render_frame(frame)
        with Image.open(sample.filepath) as image:
            assert image.size == (640, 360)
            assert np.array_equal(np.asarray(image), np.asarray(rendered.image))
        people = sample.detections.detections
        assert 1 <= len(people) <= 4
        assert [p.identity for p in people] == [p.identity for p in rendered.people]
        for detection, person in zip(people, rendered.people, strict=True):
            x, y, w, h = detection.bounding_box
            assert 0 <= x < x + w <= 1 + 1e-9
            assert 0 <= y < y + h <= 1 + 1e-9
            # The box holds all of the person that can be seen.
            assert detection.mask.sum() == person.mask.sum()
            assert detection.mask.shape == (round(h * 360), round(w * 640))


def test_frames_are_shown_as_patches(frames: fo.Dataset) -> None:
    patches = frames.to_patches("detections")
    assert len(patches) == frames.count("detections.detections")
    assert set(patches.distinct("detections.identity")) <= {
        f"p{i:03d}" for i in range(1, 6)
    }
