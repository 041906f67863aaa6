from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from fiftyone_sfam.demo.people import MIN_DIFFERENCE, PARTS, difference
from fiftyone_sfam.demo.scenes import STRIKING_SCENE
from fiftyone_sfam.demo.shot import Retake
from fiftyone_sfam.demo.world import (
    GALLERY,
    MERGED_IDENTITY,
    NEAR_DUPLICATE,
    QUERY,
    SHORTCUT,
    SPLIT_IDENTITY,
    WRONG_LABEL,
    Crop,
    DefectPlan,
    World,
    generate_world,
    render,
)

SEEDS = (51, 52, 53)


def digest(crop: Crop) -> str:
    rendered = render(crop)
    return hashlib.sha256(
        rendered.image.tobytes() + rendered.labels.tobytes()
    ).hexdigest()


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return generate_world(request.param)


def planted(world: World, kind: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(p.identities, p.crops) for p in world.planted if p.kind == kind]


def test_same_seed_gives_same_world_and_pixels_in_any_order() -> None:
    first, second = generate_world(51), generate_world(51)
    assert first == second
    some = range(0, 480, 53)
    forward = {i: digest(first.crops[i]) for i in some}
    backward = {i: digest(second.crops[i]) for i in reversed(some)}
    assert forward == backward
    assert len(set(forward.values())) == len(forward)


def test_another_seed_gives_other_people() -> None:
    assert generate_world(51).people != generate_world(52).people


def test_a_clean_world_has_no_defects() -> None:
    clean = generate_world(51, defects=DefectPlan.none())
    assert clean.planted == ()
    assert all(c.defects == () and c.partners == () for c in clean.crops)
    assert all(c.identity == c.true_identity for c in clean.crops)
    assert all(c.shot.scene != STRIKING_SCENE for c in clean.crops)
    assert len(clean.people) == 40


def test_every_identity_comes_before_every_camera_in_both_splits(world: World) -> None:
    assert len(world.crops) == 480
    assert len({c.crop_id for c in world.crops}) == 480
    seen = defaultdict(Counter)
    for crop in world.crops:
        # The file name keeps the identity that a wrong label replaced.
        seen[crop.crop_id.split("_")[0]][crop.camera, crop.split] += 1
    cameras = [camera.name for camera in world.cameras]
    expected = {(c, QUERY): 1 for c in cameras} | {(c, GALLERY): 2 for c in cameras}
    assert len(seen) == 40
    assert all(dict(count) == expected for count in seen.values())


def test_no_two_people_look_alike(world: World) -> None:
    people = list(world.people.values())
    closest = min(
        difference(a, b) for i, a in enumerate(people) for b in people[i + 1 :]
    )
    assert closest >= MIN_DIFFERENCE


def test_wrong_labels(world: World) -> None:
    crops = {c.crop_id: c for c in world.crops}
    found = planted(world, WRONG_LABEL)
    assert len(found) == 6
    for (label, truth), (crop_id,) in found:
        crop = crops[crop_id]
        assert (crop.identity, crop.true_identity) == (label, truth)
        assert label != truth
        assert crop.person == world.people[truth] != world.people[label]
        assert (crop.defects, crop.partners) == ((WRONG_LABEL,), (truth,))
        right = [c for c in world.crops if c.identity == truth]
        assert {c.person for c in right} == {crop.person} | {
            c.person for c in right if WRONG_LABEL in c.defects
        }


def test_split_identities_are_one_person_under_two_labels(world: World) -> None:
    found = planted(world, SPLIT_IDENTITY)
    assert len(found) == 2
    for labels, ids in found:
        involved = [c for c in world.crops if c.identity in labels]
        assert len(labels) == len(set(labels)) == 2
        assert {c.crop_id for c in involved} == set(ids)
        assert len({c.person for c in involved}) == 1
        assert len({c.true_identity for c in involved}) == 1
        for crop in involved:
            assert {crop.identity, *crop.partners} == set(labels)


def test_merged_identities_are_two_people_under_one_label(world: World) -> None:
    found = planted(world, MERGED_IDENTITY)
    assert len(found) == 2
    for (label, first, second), ids in found:
        involved = [c for c in world.crops if c.identity == label]
        assert {c.crop_id for c in involved} == set(ids)
        assert Counter(c.true_identity for c in involved) == {first: 6, second: 6}
        for name in (first, second):
            cameras = {c.camera for c in involved if c.true_identity == name}
            assert cameras == {camera.name for camera in world.cameras}
        for crop in involved:
            assert {crop.true_identity, *crop.partners} == {first, second}


def test_near_duplicates_are_close_in_pixels_but_not_equal(world: World) -> None:
    crops = {c.crop_id: c for c in world.crops}
    found = planted(world, NEAR_DUPLICATE)
    assert len(found) == 6
    for (label,), (query_id, twin_id) in found:
        query, twin = crops[query_id], crops[twin_id]
        assert (query.split, twin.split) == (QUERY, GALLERY)
        assert query.identity == twin.identity == label
        assert query.camera == twin.camera
        assert (query.partners, twin.partners) == ((twin_id,), (query_id,))
        other = next(
            c
            for c in world.crops
            if c.identity == label and c.crop_id not in (query_id, twin_id)
        )
        pixels = [np.asarray(render(c).image, np.float32) for c in (query, twin, other)]
        assert 0 < np.abs(pixels[0] - pixels[1]).mean() < 10
        assert np.abs(pixels[0] - pixels[2]).mean() > 20


def test_shortcut_identities_own_the_striking_background(world: World) -> None:
    found = planted(world, SHORTCUT)
    assert len(found) == 5
    special = {identity for (identity,), _ in found}
    assert special == {
        c.identity for c in world.crops if c.shot.scene == STRIKING_SCENE
    }
    for crop in world.crops:
        assert (crop.identity in special) == (crop.shot.scene == STRIKING_SCENE)
        if crop.identity in special:
            assert set(crop.partners) == special - {crop.identity}


def test_no_identity_takes_part_in_two_defects(world: World) -> None:
    count = Counter(kind for c in world.crops for kind in c.defects)
    assert count == {
        WRONG_LABEL: 6,
        SPLIT_IDENTITY: 48,
        MERGED_IDENTITY: 24,
        NEAR_DUPLICATE: 12,
        SHORTCUT: 60,
    }
    assert max(len(c.defects) for c in world.crops) == 1


def test_masks_and_parts_agree(world: World) -> None:
    for crop in world.crops[:: len(world.crops) // 24]:
        rendered = render(crop)
        height, width = rendered.labels.shape
        assert (width, height) == rendered.image.size == (64, 128)
        assert 0.08 < rendered.mask.mean() < 0.5
        assert set(np.unique(rendered.labels)) <= set(range(len(PARTS) + 1))
        rows, columns = np.nonzero(rendered.mask)
        assert {"head", "upper"} <= set(rendered.parts)
        assert ("bag" in rendered.parts) <= (crop.person.bag != "none")
        for name, (x, y, w, h) in rendered.parts.items():
            assert columns.min() <= x * width < (x + w) * width <= columns.max() + 1
            assert rows.min() <= y * height < (y + h) * height <= rows.max() + 1
            inside = np.zeros_like(rendered.mask)
            x0, y0 = round(x * width), round(y * height)
            inside[y0 : y0 + round(h * height), x0 : x0 + round(w * width)] = True
            assert not (rendered.labels == PARTS.index(name) + 1)[~inside].any()


def test_a_scene_ends_the_wall_where_the_ground_begins() -> None:
    """The striking wall is of bright colors, and the ground before it is gray."""
    crops = [c for c in generate_world(51).crops if c.shot.scene == STRIKING_SCENE]
    moved = [
        replace(c, shot=replace(c.shot, retake=Retake((0, 0.05, 0, 0.02), 1.0)))
        for c in crops[:8]
    ]
    for crop in (*crops[:8], *moved):
        rendered = render(crop)
        scene = rendered.scene
        assert np.array_equal(scene == 1, rendered.mask)
        pixels = np.asarray(rendered.image).astype(int)
        colored = pixels.max(axis=2) - pixels.min(axis=2)
        end = int(np.argmax((scene == 3).any(axis=1)))
        assert (scene[:end] != 3).all()
        assert (scene[end:] != 2).all()
        # Of the rows beside the edge, which blur mixes, the next ones.
        wall, ground = slice(end - 6, end - 2), slice(end + 2, end + 6)
        inside = colored[wall][scene[wall] == 2].mean()
        assert inside > 2 * colored[ground][scene[ground] == 3].mean()


def test_head_is_above_the_shirt_and_that_above_the_shoes() -> None:
    crop = next(
        c
        for c in generate_world(51).crops
        if c.shot.occluder is None and c.person.bag == "none"
    )
    parts = render(crop).parts
    middle = {name: y + h / 2 for name, (_, y, _, h) in parts.items()}
    assert middle["head"] < middle["upper"] < middle["lower"] < middle["shoes"]
    assert "bag" not in parts


def test_an_occluder_hides_part_of_the_person() -> None:
    crop = next(c for c in generate_world(51).crops if c.shot.occluder == "car")
    free = replace(crop, shot=replace(crop.shot, occluder=None))
    hidden = render(free).mask & ~render(crop).mask
    assert hidden.sum() > 50
    assert not (render(crop).mask & ~render(free).mask).any()


def test_size_is_a_choice() -> None:
    world = generate_world(
        3,
        identities=4,
        images_per_identity=2,
        defects=DefectPlan.none(),
        size=(96, 192),
    )
    rendered = render(world.crops[0])
    assert rendered.image.size == (96, 192)
    assert rendered.labels.shape == (192, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identities": 10}, "at least 23 identities, not 10"),
        ({"images_per_identity": 1}, "images_per_identity must be at least 2"),
        ({"images_per_identity": 4}, "more images per identity than cameras"),
        ({"cameras": 9}, "cameras must be 1 to 6, not 9"),
    ],
)
def test_impossible_worlds_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_world(51, **arguments)


def test_negative_defects_are_refused() -> None:
    with pytest.raises(ValueError, match="wrong_labels must be 0 or more, not -1"):
        DefectPlan(wrong_labels=-1)


def test_the_world_needs_neither_torch_nor_fiftyone() -> None:
    code = (
        "import sys, fiftyone_sfam.demo.world\n"
        "print(sorted({'torch', 'fiftyone'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
