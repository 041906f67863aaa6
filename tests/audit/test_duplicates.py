"""Copies of pictures: their hashes, the neighbors of hashes, and their pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from fiftyone_sfam.audit.duplicates import bands, candidates
from fiftyone_sfam.audit.duplicates.bands import near_hashes
from fiftyone_sfam.audit.duplicates.candidates import find_candidates
from fiftyone_sfam.audit.duplicates.copies import (
    ALIKE,
    CROPPED,
    IDENTICAL,
    MIRRORED,
    RECOLORED,
    RECOMPRESSED,
    color_copy,
    compare,
)
from fiftyone_sfam.audit.duplicates.find import find_copies
from fiftyone_sfam.audit.duplicates.hashes import (
    LAYOUTS,
    Hasher,
    Hashes,
    Layout,
    count_bits,
    distinct,
    gray_copy,
    hash_copies,
)
from fiftyone_sfam.audit.suspects.pixels import groups_of

HASHES = st.integers(0, 2**64 - 1)


def picture(seed: int, width: int = 128, height: int = 256) -> Image.Image:
    """Patches of color, as large as limbs and bricks."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (32, 16, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int = 40) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def tinted(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * (1.0, 0.8, 0.6)).astype(np.uint8))


CHANGES: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "same": (RECOMPRESSED, lambda image: image),
    "compressed": (RECOMPRESSED, as_jpeg),
    "smaller": (RECOMPRESSED, lambda image: image.resize((51, 102))),
    "larger": (RECOMPRESSED, lambda image: image.resize((200, 400))),
    "cut on the right": (CROPPED, lambda image: image.crop((0, 0, 116, 256))),
    "cut all around": (CROPPED, lambda image: image.crop((5, 12, 122, 243))),
    "cut at a corner": (CROPPED, lambda image: image.crop((13, 0, 128, 231))),
    "mirrored": (MIRRORED, ImageOps.mirror),
    "darker": (RECOLORED, lambda image: ImageEnhance.Brightness(image).enhance(0.7)),
    "flatter": (RECOLORED, lambda image: ImageEnhance.Contrast(image).enhance(0.6)),
    "gray": (RECOLORED, lambda image: image.convert("L")),
    "tinted": (RECOLORED, tinted),
}


def hashed(images: list[Image.Image]) -> Hashes:
    hasher = Hasher(len(images))
    for index, image in enumerate(images):
        hasher.add(index, gray_copy(image))
    return hasher.finish()


def saved(images: list[Image.Image], folder: Path) -> list[str]:
    paths = []
    for index, image in enumerate(images):
        paths.append(str(folder / f"{index}.png"))
        image.save(paths[-1])
    return paths


# --------------------------------------------------------------------------------------
# Hashes
# --------------------------------------------------------------------------------------


def library(hash_image: Callable, image: Image.Image) -> np.uint64:
    """A hash of ImageHash as a number."""
    packed = np.packbits(hash_image(image).hash.ravel())
    return packed.view(">u8").astype(np.uint64)[0]


def test_hashes_are_those_of_the_library() -> None:
    images = [picture(seed) for seed in range(20)]
    found = hashed(images)
    for column, change in enumerate((lambda image: image, ImageOps.mirror)):
        for row, image in enumerate(images):
            expected = library(imagehash.phash, change(image))
            assert found.phash[row, column] == expected
            expected = library(imagehash.dhash, change(image))
            # From the small copy, which is rounded: one difference may change sides.
            assert count_bits(found.dhash[row, column] ^ expected) <= 3
    assert LAYOUTS[:2] == (Layout(), Layout(mirrored=True))


def test_the_hash_of_a_window_is_that_of_the_crop() -> None:
    image = picture(3, 320, 320)
    column = next(
        place for place, layout in enumerate(LAYOUTS) if layout.across[0] > 0.03
    )
    layout = LAYOUTS[column]
    edges = [round(320 * value) for value in layout.box]
    crop = image.crop((edges[0], edges[2], edges[1], edges[3]))
    whole, part = hashed([image]), hashed([crop])
    assert count_bits(whole.phash[0, column] ^ part.phash[0, 0]) <= 4
    assert count_bits(whole.phash[0, 0] ^ part.phash[0, 0]) > 4


def test_blank_images_have_no_hash() -> None:
    blank = Image.new("RGB", (40, 80), (90, 120, 30))
    assert hashed([blank, picture(1)]).usable.tolist() == [False, True]


@given(st.lists(HASHES, min_size=1, max_size=20))
def test_bits_are_counted(values: list[int]) -> None:
    counted = count_bits(np.array(values, dtype=np.uint64))
    assert counted.tolist() == [value.bit_count() for value in values]


def test_bits_are_counted_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    expected = [value.bit_count() for value in values.tolist()]
    assert count_bits(values).tolist() == expected


# --------------------------------------------------------------------------------------
# Neighbors
# --------------------------------------------------------------------------------------


@st.composite
def neighborhoods(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Hashes, and queries that differ from some of them in a few bits."""
    hashes = draw(st.lists(HASHES, min_size=1, max_size=12))
    queries = []
    for _ in range(draw(st.integers(0, 12))):
        value = draw(st.sampled_from(hashes))
        for bit in draw(st.lists(st.integers(0, 63), max_size=14, unique=True)):
            value ^= 1 << bit
        queries.append(value)
    return hashes, queries


@settings(deadline=None, max_examples=60)
@given(neighborhoods(), st.integers(0, 9), st.sampled_from([1, 5, 2**21]))
def test_the_band_search_finds_what_comparing_all_finds(
    drawn: tuple[list[int], list[int]], radius: int, block: int
) -> None:
    hashes, queries = (np.array(values, dtype=np.uint64) for values in drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "_COMPARISONS", block)
        blocks = [
            np.stack(block, axis=1) for block in near_hashes(queries, hashes, radius)
        ]
    found = [tuple(pair) for block in blocks for pair in block.tolist()]
    distances = count_bits(queries[:, None] ^ hashes)
    assert len(found) == len(set(found))
    assert set(found) == {tuple(p) for p in np.argwhere(distances <= radius).tolist()}


@given(arrays.arrays(np.uint64, (6, 2), elements=st.integers(0, 1)))
def test_equal_hashes_are_grouped(table: np.ndarray) -> None:
    groups = distinct(Hashes(table, table[:, ::-1], np.ones(6, bool)), np.arange(6))
    assert sorted(image for group in groups for image in group) == list(range(6))
    keys = [{tuple(table[image].tolist()) for image in group} for group in groups]
    assert all(len(key) == 1 for key in keys)
    assert len(set().union(*keys)) == len(groups)


def test_each_form_is_a_candidate_by_its_hash() -> None:
    images = [picture(seed) for seed in range(8)]
    images += [change(images[0]) for _, change in CHANGES.values()]
    found = find_candidates(hashed(images))
    # Copies of equal hashes are represented by one of them.
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    assert groups_of(pairs) == [[0, *range(8, 8 + len(CHANGES))]]


def test_many_equal_images_are_not_paired_all_with_all() -> None:
    found = find_candidates(hashed([picture(0)] * 30 + [picture(1)]))
    assert found.first.tolist() == [0] * 29
    assert sorted(found.second.tolist()) == list(range(1, 30))


def test_candidates_of_two_collections_are_across() -> None:
    images = [picture(0)] * 4 + [picture(1)] * 2
    sides = np.array([False, False, True, True, False, True])
    found = find_candidates(hashed(images), sides=sides)
    joined = {frozenset(pair) for pair in zip(found.first, found.second, strict=True)}
    assert all(sides[list(pair)].sum() == 1 for pair in joined)
    assert set().union(*joined) == set(range(6))


def test_only_the_most_similar_candidates_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidates, "MOST", 1)
    image = picture(0)
    found = find_candidates(hashed([image, image, image.crop((6, 12, 128, 256))]))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert found.left_out >= 1


# --------------------------------------------------------------------------------------
# Pixels
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_same_picture(change: str) -> None:
    form, apply = CHANGES[change]
    image = picture(1)
    layout = Layout(mirrored=form == MIRRORED)
    [found] = compare([color_copy(image)], [color_copy(apply(image))], [layout])
    assert found.form == form
    assert found.likeness > 0.95


def shots(seed: int) -> list[Image.Image]:
    """Two pictures of one scene: shapes agree, what is before them does not."""
    generator = np.random.default_rng(seed)
    scene = picture(seed).filter(ImageFilter.GaussianBlur(12))
    pixels = np.asarray(scene, dtype=float)
    return [
        Image.fromarray(
            np.clip(
                pixels
                + np.kron(generator.normal(0, 4, (32, 16, 1)), np.ones((8, 8, 1))),
                0,
                255,
            ).astype(np.uint8)
        )
        for _ in range(2)
    ]


def moved(seed: int) -> list[Image.Image]:
    """One scene twice; a ninth of it has changed."""
    first = picture(seed)
    second = first.copy()
    second.paste(picture(seed + 1).crop((0, 0, 43, 86)), (43, 86))
    return [first, second]


@pytest.mark.parametrize("pair", [shots, moved])
@pytest.mark.parametrize("seed", range(5))
def test_two_pictures_of_one_scene_are_two(
    pair: Callable[[int], list[Image.Image]], seed: int
) -> None:
    first, second = map(color_copy, pair(seed))
    [found] = compare([first], [second], [Layout()])
    assert found.likeness < ALIKE - 0.1


def test_a_crop_may_be_a_little_darker() -> None:
    image = picture(2)
    crop = ImageEnhance.Brightness(image.crop((0, 0, 116, 256))).enhance(0.9)
    [found] = compare([color_copy(image)], [color_copy(crop)], [Layout()])
    assert found.form == CROPPED
    assert found.likeness > 0.95


def test_a_crop_before_another_wall_is_another_picture() -> None:
    """The details of a plain wall do not tell its color."""
    image, wall = picture(2), Image.new("RGB", (128, 256), (40, 90, 160))
    image.paste(wall.crop((0, 0, 128, 100)), (0, 0))
    crop = picture(2)
    crop.paste(Image.new("RGB", (128, 100), (90, 60, 120)), (0, 0))
    crop = crop.crop((0, 0, 116, 256))
    [found] = compare([color_copy(image)], [color_copy(crop)], [Layout()])
    assert found.likeness == 0


def test_blank_pictures_are_no_copies_of_each_other() -> None:
    blank = color_copy(Image.new("RGB", (40, 80), (90, 120, 30)))
    [found] = compare([blank], [blank], [Layout()])
    assert found.likeness == 0


# --------------------------------------------------------------------------------------
# All together
# --------------------------------------------------------------------------------------


def test_every_form_is_found_and_named(tmp_path: Path) -> None:
    changed = [name for name in CHANGES if name != "same"]
    images = [picture(seed) for seed in range(len(changed) + 6)]
    copies = [
        CHANGES[name][1](images[row]).convert("RGB") for row, name in enumerate(changed)
    ]
    paths = saved(images + copies, tmp_path)
    same = tmp_path / "same.png"
    same.write_bytes(Path(paths[len(changed)]).read_bytes())
    paths.append(str(same))
    found = find_copies(len(paths), lambda image: (paths[image], None))
    forms = {(copy.first, copy.second): copy.form for copy in found.pairs}
    expected = {
        (row, len(images) + row): CHANGES[name][0] for row, name in enumerate(changed)
    }
    expected[len(changed), len(paths) - 1] = IDENTICAL
    assert forms == expected
    assert found.limits == ()


def test_near_embeddings_are_candidates_whose_hashes_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "RADIUS", 0)
    image = picture(4)
    paths = saved([image, image.crop((8, 9, 124, 240)), picture(5)], tmp_path)

    def find(near: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
        pairs = np.array(near, dtype=np.int64).reshape(-1, 2)
        found = find_copies(3, lambda image: (paths[image], None), near=pairs)
        return [(copy.first, copy.second, copy.form) for copy in found.pairs]

    assert find([]) == []
    assert find([(1, 0), (0, 2), (2, 1)]) == [(0, 1, CROPPED)]


def test_boxes_of_one_file_are_pictures_of_their_own(tmp_path: Path) -> None:
    frame = Image.new("RGB", (256, 256))
    frame.paste(picture(0), (0, 0))
    frame.paste(picture(1), (128, 0))
    [path] = saved([frame], tmp_path)
    boxes = [[0.0, 0, 0.5, 1], [0.5, 0, 0.5, 1], [0.0, 0, 0.5, 1]]
    found = find_copies(3, lambda image: (path, boxes[image]))
    assert [(copy.first, copy.second, copy.form) for copy in found.pairs] == [
        (0, 2, IDENTICAL)
    ]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    paths = saved([picture(0), picture(0)], tmp_path)
    paths.append(str(tmp_path / "missing.png"))
    reports = []
    found = find_copies(
        3,
        lambda image: (paths[image], None),
        report=lambda done, total: reports.append((done, total)),
    )
    assert [(copy.first, copy.second) for copy in found.pairs] == [(0, 1)]
    [limit] = found.limits
    assert limit.startswith("1 of 3 pictures could not be read; the first: the file")
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_hashes_of_batches_are_those_of_single_images() -> None:
    copies = np.stack([gray_copy(picture(seed)) for seed in range(5)])
    together = hash_copies(copies.astype(np.float32))
    for row, copy in enumerate(copies):
        alone = hash_copies(copy[None].astype(np.float32))
        assert (alone[0][0] == together[0][row]).all()
        assert (alone[1][0] == together[1][row]).all()
