"""Maps and receipts as the component gets them, worked out by hand."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam.app.pairs.bounded import fit_maps
from fiftyone_sfam.app.pairs.maps import (
    OTHER,
    averaged,
    describe_kinds,
    limit_of,
    receipt,
    side_json,
)
from fiftyone_sfam.app.pairs.pictures import image_file, picture
from fiftyone_sfam.audit.regions.partitions import Regions, stripes
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from pairs_component import decode

CROP = (0.0, 0.0, 1.0, 1.0)


def side(values: np.ndarray) -> SideMaps:
    return SideMaps({"evidence": values}, 1.0, 0.25, CROP, (10, 20))


def test_thirds_by_hand() -> None:
    # Four rows in thirds: the second and the third row belong to two of them.
    evidence = np.array([[3, 0], [6, 0], [0, 9], [0, -3]], np.float32)
    shares = receipt(side(evidence), 20.0, stripes(4, 2))
    assert [share["name"] for share in shares] == [
        *("upper third", "middle third", "lower third", "not on the map")
    ]
    assert [share["value"] for share in shares] == pytest.approx(
        [5, 10, 0, 5], abs=1e-6
    )
    assert [share["area"] for share in shares] == pytest.approx([1 / 3] * 3 + [0])
    assert [share["remainder"] for share in shares] == [False] * 3 + [True]


def test_many_regions_are_listed_together() -> None:
    weights = np.eye(9, dtype=np.float32).reshape(9, 3, 3)
    names = tuple("x" * 100 + f"\n{place}" for place in range(9))
    evidence = np.arange(9, dtype=np.float32).reshape(3, 3) - 3
    short = Regions(tuple(f"r{place}" for place in range(9)), weights)
    shares = receipt(side(evidence), 10.0, short)
    # Of -3 to 5 the six that carry most are 5, 4, 3, -3, 2 and -2.
    assert [share["name"] for share in shares] == [
        *("r0", "r1", "r5", "r6", "r7", "r8", OTHER, "not on the map")
    ]
    assert shares[-2] == {
        "name": OTHER,
        "value": 0,
        "area": pytest.approx(3 / 9),
        "remainder": False,
    }
    assert sum(share["value"] for share in shares) == pytest.approx(10)
    # Names from the data that begin in the same way stay parts of their own.
    long = receipt(side(evidence), 10.0, Regions(names, weights))
    assert [share["value"] for share in long] == [share["value"] for share in shares]
    assert all(len(share["name"]) <= 60 for share in long)
    assert receipt(None, 10.0, short) == receipt(side(evidence), 10.0, None) == []


def test_a_map_is_averaged_over_its_area() -> None:
    values = np.array([[1, 2, 3, 6], [5, 6, 7, 8], [0, 0, 4, 0]], np.float32)
    assert averaged(values, 12) is values
    # Columns in pairs, and rows in halves of 1.5 each.
    found = averaged(values, 4)
    expected = [
        [(3 + 11 / 2) / 3, (9 + 15 / 2) / 3],
        [(11 / 2 + 0) / 3, (15 / 2 + 4) / 3],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    rng = np.random.default_rng(0)
    for shape in ((21, 40), (1, 999), (37, 37)):
        values = rng.normal(size=shape).astype(np.float32)
        found = averaged(values, 64)
        assert 16 <= found.size <= 64
        assert found.mean() == pytest.approx(values.mean(), abs=1e-6)


def test_the_error_of_maps_as_bytes() -> None:
    values = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    for dtype, bound in (
        ("i1", np.abs(values).max() / 254 + 1e-6),
        ("f2", np.maximum(np.abs(values) / 2048, 3e-8)),
    ):
        sent = side_json(side(values), 4096, dtype)
        assert sent is not None
        error = np.abs(decode(sent["maps"]["evidence"]) - values)
        assert (error <= bound).all()
        assert error.max() > 0
        assert sent["box"] == [0, 0, 1, 1]
    assert side_json(None, 4096) is None


def test_maps_become_coarser_until_they_fit() -> None:
    values = np.random.default_rng(0).normal(size=(40, 20)).astype(np.float32)
    pairs = [PairMaps(side(values), side(values)), PairMaps(side(values), None)]

    def sent(most: int) -> list[tuple[str, int]]:
        maps = [
            one["maps"]["evidence"]
            for pair in fit_maps(pairs, 1, most)
            for one in pair
            if one is not None
        ]
        return [(one["dtype"], decode(one).size) for one in maps]

    # Two bytes of 800 cells are 2,136 characters.
    assert sent(7000) == [("f2", 800)] * 3
    assert sent(5000) == [("i1", 800)] * 3
    # The chosen pair keeps its own.
    first, second, chosen = sent(2500)
    assert first == second == ("i1", 200)
    assert chosen == ("i1", 800)
    assert fit_maps([PairMaps(None, None)], None, 0) == [(None, None)]


def test_limits_are_never_zero() -> None:
    values = np.array([[-3, 2]], np.float32)
    assert limit_of([values, values / 2]) == {"positive": 2, "signed": 3}
    assert limit_of([]) == limit_of([values * 0]) == {"positive": 1, "signed": 1}
    assert limit_of([-np.abs(values)]) == {"positive": 1, "signed": 3}


def test_every_kind_is_described() -> None:
    kinds = describe_kinds(["evidence", "contrast", "channel"])
    assert [kind["signed"] for kind in kinds] == [False, True, False]
    assert [kind["live"] for kind in kinds] == [False, False, True]
    assert [kind["unit"] for kind in kinds] == [
        "similarity per cell",
        "margin per cell of the query: positive for the true match, negative for the "
        "neighbor",
        "activation of one channel",
    ]


MODES = (
    *(("1", "png"), ("L", "jpg"), ("P", "png"), ("I;16", "png"), ("CMYK", "jpg")),
    *(("RGBA", "png"), ("LA", "png"), ("RGB", "webp"), ("RGB", "tiff")),
)


@pytest.mark.parametrize(("mode", "form"), MODES)
def test_pictures_of_every_kind_of_image(tmp_path: Path, mode: str, form: str) -> None:
    path = tmp_path / f"one.{form}"
    gray = np.full((1200, 800), 255, np.uint8)
    gray[600:] = 0
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gray).convert(mode)
    image.save(path)
    found = picture(image_file(str(path)), 256)
    assert found.problem is None
    assert (found.width, found.height, found.full) == (171, 256, (800, 1200))
    raw = base64.b64decode(found.url.partition(",")[2])
    drawn = np.asarray(Image.open(io.BytesIO(raw)).convert("L"))
    assert drawn[:120].min() > 240
    assert drawn[136:].max() < 15
