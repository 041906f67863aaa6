"""Regions from fields of a dataset, through the crop that the network saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam import explain_retrieval
from fiftyone_sfam.audit.regions.fields import (
    FOREGROUND,
    Grid,
    map_grids,
    read_regions,
    region_fields,
    regions_of,
)
from fiftyone_sfam.audit.regions.partitions import BACKGROUND, WHOLE, stripes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.runs.run import Run
from worlds import FRAME, HEIGHT, PLACES, WIDTH, fill, fill_frames, tiny_model

# The maps of the tiny network: 8 x 4 cells over what it saw.
CELLS = (8, 4)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    dataset = fo.Dataset()
    fill(dataset, tmp_path_factory.mktemp("whole"), identities=3, shots=2)
    yield explain_retrieval(dataset, tiny_model(), k=2, batch_size=4)
    dataset.delete()


@pytest.fixture(scope="module")
def frames_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    dataset = fo.Dataset()
    fill_frames(dataset, tmp_path_factory.mktemp("frames"), frames=2)
    yield explain_retrieval(
        dataset, tiny_model(), k=2, patches_field="people", batch_size=4
    )
    dataset.delete()


@pytest.fixture
def run(whole_run: Run) -> Iterator[Run]:
    """Six whole images of 16 x 8 pixels, seen whole: a cell is 2 x 2 pixels."""
    yield from cleaned(whole_run)


@pytest.fixture
def frames(frames_run: Run) -> Iterator[Run]:
    """Six detections of 16 x 8 pixels in frames of 48 x 48."""
    yield from cleaned(frames_run)


def cleaned(run: Run) -> Iterator[Run]:
    """Take back what a test adds to a run's dataset."""
    before = set(run.dataset.get_field_schema())
    yield run
    added = set(run.dataset.get_field_schema()) - before
    run.dataset.mask_targets = {}
    run.dataset.skeletons = {}
    if added:
        run.dataset.delete_sample_fields(list(added))


def random_mask(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.uint8)


def blocks(pixels: np.ndarray, size: int = 2) -> np.ndarray:
    """Means of square blocks of pixels."""
    height, width = (length // size for length in pixels.shape)
    return pixels.reshape(height, size, width, size).mean(axis=(1, 3))


def set_masks(run: Run, field: str, masks: list[np.ndarray | None]) -> None:
    run.dataset.set_values(
        field,
        [None if mask is None else fo.Segmentation(mask=mask) for mask in masks],
    )


# --------------------------------------------------------------------------------------
# Which fields
# --------------------------------------------------------------------------------------


def test_fields_by_their_types(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    sample = dataset.first()
    sample["points"] = fo.Keypoints(keypoints=[])
    sample["parts"] = fo.Detections(detections=[])
    sample["box"] = fo.Detection(label="a", bounding_box=[0, 0, 1, 1])
    sample["mask"] = fo.Segmentation(mask=random_mask(0))
    sample["kind"] = fo.Classification(label="a")
    sample["heat"] = fo.Heatmap(map=np.zeros((2, 2)))
    sample.save()
    run = explain_retrieval(dataset, tiny_model(), k=1)
    assert region_fields(run) == ["mask", "parts", "box", "points"]
    with pytest.raises(DataError, match=r"no field 'kind' of masks.*'mask', 'parts'"):
        regions_of(run, [0], "kind")


def test_detections_that_were_compared_come_before_others(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill_frames(dataset, tmp_path, frames=2)
    dataset.add_sample_field(
        "a_first", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections
    )
    run = explain_retrieval(dataset, tiny_model(), k=1, patches_field="people")
    assert region_fields(run) == ["people", "a_first"]


# --------------------------------------------------------------------------------------
# Segmentations
# --------------------------------------------------------------------------------------


def test_a_mask_without_targets_is_foreground(run: Run) -> None:
    masks = [random_mask(number) * 255 for number in range(6)]
    set_masks(run, "person", list(masks))
    found = regions_of(run, range(6), "person")
    assert sorted(found) == list(range(6))
    for item, regions in found.items():
        assert regions.names == (FOREGROUND, BACKGROUND)
        np.testing.assert_allclose(regions.weights[0], blocks(masks[item] > 0))
        np.testing.assert_allclose(regions.weights.sum(axis=0), 1)


def test_targets_name_the_values(run: Run) -> None:
    run.dataset.mask_targets = {"person": {0: "sky", 1: "head", 255: "body"}}
    masks = [random_mask(number) for number in range(6)]
    masks[1] = masks[1] * 255
    masks[2] = masks[2] + 2 * random_mask(9)  # 2 and 3 are no targets
    masks[3] = np.full((HEIGHT, WIDTH), 7, dtype=np.uint8)
    masks[4] = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    set_masks(run, "person", list(masks))
    found = read_regions(run, map_grids(run, range(6)), "person")
    assert found.regions[0].names == ("head", BACKGROUND)
    assert found.regions[1].names == ("body", BACKGROUND)
    np.testing.assert_allclose(found.regions[2].weights[0], blocks(masks[2] == 1))
    assert found.regions[4].names == (BACKGROUND,)
    assert found.missing == {
        3: "its mask has the values 7, but the mask targets of 'person' name none "
        "of them."
    }


def test_masks_in_files_and_what_is_wrong_with_them(run: Run, tmp_path: Path) -> None:
    mask = random_mask(3) * 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    run.dataset.mask_targets = {"person": {255: "person"}}
    names = ["mask.png", "broken.png", "nowhere.png"]
    labels = [fo.Segmentation(mask_path=str(tmp_path / name)) for name in names]
    cube = fo.Segmentation(mask=np.zeros((2, 2, 2), dtype=np.uint8))
    run.dataset.set_values("person", [*labels, None, fo.Segmentation(), cube])
    found = read_regions(run, map_grids(run, range(6)), "person")
    assert set(found.regions) == {0}
    assert found.regions[0].names == ("person", BACKGROUND)
    np.testing.assert_allclose(found.regions[0].weights[0], blocks(mask > 0))
    assert found.missing[1].startswith("its mask cannot be read: ")
    assert found.missing[2].startswith("the file of its mask does not exist: ")
    assert found.missing[3] == found.missing[4] == "it has no 'person'."
    assert "has shape (2, 2, 2)" in found.missing[5]


def test_colors_name_regions_too(run: Run, tmp_path: Path) -> None:
    mask = random_mask(3)
    colors = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colors[mask > 0] = (255, 16, 1)
    Image.fromarray(colors).save(tmp_path / "colors.png")
    run.dataset.mask_targets = {"person": {"#ff1001": "colored"}}
    label = fo.Segmentation(mask_path=str(tmp_path / "colors.png"))
    run.dataset.set_values("person", [label, *[None] * 5])
    [regions] = regions_of(run, range(6), "person").values()
    assert regions.names == ("colored", BACKGROUND)
    np.testing.assert_allclose(regions.weights[0], blocks(mask))


def test_a_mask_of_another_size_is_stretched(run: Run) -> None:
    mask = np.array([[1, 0], [0, 0], [0, 1], [0, 0]])
    set_masks(run, "person", [mask] * 6)
    weights = regions_of(run, [5], "person")[5].weights[0]
    np.testing.assert_allclose(weights, mask.repeat(2, axis=0).repeat(2, axis=1))


def test_regions_follow_the_crop_that_the_network_saw(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    # Resized to 20 x 12, of which the center of 16 x 8 is seen.
    model = tiny_model(
        preprocess=Preprocessing(size=(HEIGHT, WIDTH), resize=(20, 12)),
    )
    run = explain_retrieval(dataset, model, k=2)
    mask = random_mask(1, 20, 12)
    set_masks(run, "person", [mask] * 4)
    weights = regions_of(run, [2], "person")[2].weights[0]
    np.testing.assert_allclose(weights, blocks(mask[2:18, 2:10]), atol=1e-6)


def test_a_deleted_sample_is_missing(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    run = explain_retrieval(dataset, tiny_model(), k=2)
    set_masks(run, "person", [random_mask(0)] * 4)
    grids = map_grids(run, range(4))
    dataset.delete_samples([str(run.items.sample_ids[2])])
    found = read_regions(run, grids, "person")
    assert found.missing == {2: "its sample was deleted."}
    assert set(found.regions) == {0, 1, 3}


# --------------------------------------------------------------------------------------
# Detections
# --------------------------------------------------------------------------------------


def test_parts_by_boxes_and_masks(run: Run) -> None:
    mask = random_mask(4, 8, 8)  # one pixel of it per pixel of the image's lower half
    detections = [
        fo.Detection(label="top", bounding_box=[0, 0, 1, 0.5]),
        fo.Detection(label="left", bounding_box=[0, 0, 0.5, 0.5]),
        fo.Detection(label="low", bounding_box=[0, 0.5, 1, 0.5], mask=mask > 0),
    ]
    run.dataset.set_values(
        "parts",
        [fo.Detections(detections=[one.copy() for one in detections])] * 5 + [None],
    )
    found = read_regions(run, map_grids(run, range(6)), "parts")
    regions = found.regions[0]
    assert regions.names == ("top", "left", "low", BACKGROUND)
    expected = np.zeros((4, *CELLS))
    expected[0, :4, :2] = expected[1, :4, :2] = 0.5
    expected[0, :4, 2:] = 1
    expected[2, 4:] = blocks(mask)
    expected[3, 4:] = 1 - expected[2, 4:]
    np.testing.assert_allclose(regions.weights, expected, atol=1e-6)
    assert found.missing == {5: "it has no 'parts'."}


def test_one_detection_and_none(run: Run) -> None:
    box = fo.Detection(label="face", bounding_box=[0.25, 0.0, 0.5, 0.25])
    run.dataset.set_values("face", [box.copy(), None, *[box.copy()] * 4])
    run.dataset.set_values("parts", [fo.Detections(detections=[])] * 6)
    found = read_regions(run, map_grids(run, range(6)), "face")
    assert found.regions[0].area.tolist() == [0.125, 0.875]
    assert found.missing == {1: "it has no 'face'."}
    empty = read_regions(run, map_grids(run, [0]), "parts")
    # No part was found: that is something that is known of the image.
    assert empty.regions[0].names == (BACKGROUND,)


def test_masks_of_the_detections_that_were_compared(frames: Run) -> None:
    dataset = frames.dataset
    masks = {}
    for sample in dataset:
        for number, detection in enumerate(sample["people"].detections):
            if number < 2:
                detection.mask = random_mask(number, HEIGHT, WIDTH) > 0
            masks[detection.id] = (detection.label, detection.mask)
        sample.save()
    found = read_regions(frames, map_grids(frames, range(6)), "people")
    assert len(found.regions) == 4
    for item, regions in found.regions.items():
        label, mask = masks[str(frames.items.ids[item])]
        assert regions.names == (label, BACKGROUND)
        np.testing.assert_allclose(regions.weights[0], blocks(mask), atol=1e-6)
    assert set(found.missing.values()) == {"its detection has no mask."}


def test_masks_of_frames_are_cut_as_the_images_were(frames: Run) -> None:
    mask = random_mask(8, FRAME, FRAME)
    set_masks(frames, "ground", [mask, mask])
    found = regions_of(frames, range(6), "ground")
    for item in range(6):
        left, top = PLACES[item % 3]
        expected = blocks(mask[top : top + HEIGHT, left : left + WIDTH])
        np.testing.assert_allclose(found[item].weights[0], expected, atol=1e-6)


def test_other_detections_of_a_frame_are_cut_too(frames: Run) -> None:
    left, top = PLACES[1]
    # The lower half of the second person, and what lies beside it.
    box = [(left - 4) / FRAME, (top + 8) / FRAME, (WIDTH + 8) / FRAME, 8 / FRAME]
    legs = fo.Detections(detections=[fo.Detection(label="legs", bounding_box=box)])
    frames.dataset.set_values("parts", [legs, legs.copy()])
    found = regions_of(frames, [1, 2], "parts")
    expected = np.zeros(CELLS)
    expected[4:] = 1
    np.testing.assert_allclose(found[1].weights[0], expected, atol=1e-6)
    assert found[2].area.tolist() == [0, 1]


# --------------------------------------------------------------------------------------
# Keypoints
# --------------------------------------------------------------------------------------


def test_points_own_what_is_nearest(run: Run) -> None:
    nan = float("nan")
    named = fo.Keypoint(points=[(0.5, 0.125), (0.5, 0.625), (nan, nan)])
    run.dataset.skeletons = {
        "points": fo.KeypointSkeleton(labels=["head", "hip", "foot"], edges=[[0, 1]])
    }
    hidden = fo.Keypoint(points=[(nan, nan)] * 3)
    run.dataset.set_values(
        "points",
        [
            fo.Keypoints(keypoints=[named]),
            fo.Keypoints(keypoints=[hidden]),
            *[None] * 4,
        ],
    )
    found = read_regions(run, map_grids(run, range(6)), "points")
    regions = found.regions[0]
    assert regions.names == ("head", "hip")
    # The border is at 0.375 of the height: after three of eight rows.
    np.testing.assert_allclose(regions.weights[0, :, 0], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(regions.weights.sum(axis=0), 1)
    assert found.missing[1] == "it has no visible points in 'points'."
    assert found.missing[2] == "it has no 'points'."


def test_points_without_a_skeleton(run: Run) -> None:
    single = [
        fo.Keypoint(label="eye", points=[(0.25, 0.5)]),
        fo.Keypoint(label="eye", points=[(0.3, 0.5)]),
        fo.Keypoint(label="ear", points=[(0.75, 0.5)]),
    ]
    run.dataset.set_values("points", [fo.Keypoints(keypoints=single)] * 6)
    regions = regions_of(run, [3], "points")[3]
    assert regions.names == ("eye", "ear")
    assert regions.area.sum() == pytest.approx(1)
    run.dataset.set_values("many", [fo.Keypoint(points=[(0.5, 0.1), (0.5, 0.9)])] * 6)
    assert regions_of(run, [3], "many")[3].names == ("point 1", "point 2")


def test_points_of_other_people_do_not_count(frames: Run) -> None:
    people = []
    for left, top in PLACES:
        head = ((left + WIDTH / 2) / FRAME, (top + 2) / FRAME)
        foot = ((left + WIDTH / 2) / FRAME, (top + HEIGHT - 2) / FRAME)
        people.append(fo.Keypoint(points=[head, foot]))
    # Somebody whose head is beside the first person, and the rest far away.
    stranger = fo.Keypoint(points=[(10.5 / FRAME, 4 / FRAME), (0.99, 0.99), (1, 0.9)])
    frames.dataset.set_values(
        "points", [fo.Keypoints(keypoints=[*people, stranger])] * 2
    )
    found = regions_of(frames, range(6), "points")
    for regions in found.values():
        assert regions.names == ("point 1", "point 2")
        np.testing.assert_allclose(regions.weights[0, :, 0], [1] * 4 + [0] * 4)


# --------------------------------------------------------------------------------------
# Stripes and grids
# --------------------------------------------------------------------------------------


def test_stripes_need_no_field(run: Run) -> None:
    found = regions_of(run, [0, 4])
    assert set(found) == {0, 4}
    np.testing.assert_array_equal(found[4].weights, stripes(*CELLS).weights)
    assert len(regions_of(run, [0], None, 5)[0].names) == 5


def test_grids_are_those_of_the_stored_maps(frames: Run) -> None:
    grids = map_grids(frames, range(6))
    assert grids == dict.fromkeys(range(6), Grid(*CELLS, WHOLE, (FRAME, FRAME)))
    maps = frames.maps(0)
    assert maps.query is not None
    assert Grid.of(maps.query) == grids[int(frames.pairs.query[0])]


def test_an_image_without_maps_has_no_grid(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    model = tiny_model()
    good = explain_retrieval(dataset, model, key="good", k=3).embeddings()
    Path(dataset.values("filepath")[1]).write_bytes(b"broken")
    run = explain_retrieval(dataset, model, k=3, embeddings=good)
    assert sorted(map_grids(run, range(4))) == [0, 2, 3]
    assert sorted(regions_of(run, range(4))) == [0, 2, 3]


def test_a_finer_grid_gives_the_mask_itself(run: Run) -> None:
    mask = random_mask(5)
    set_masks(run, "person", [mask] * 6)
    grid = Grid(HEIGHT, WIDTH, WHOLE, (WIDTH, HEIGHT))
    found = read_regions(run, {1: grid}, "person").regions[1]
    np.testing.assert_array_equal(found.weights[0], mask)
