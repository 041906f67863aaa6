"""What the component is told of a query: its neighbors, pictures, maps and receipts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_sfam import Protocol, explain_retrieval
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES
from fiftyone_sfam.audit.regions.fields import regions_of
from fiftyone_sfam.audit.regions.partitions import split
from fiftyone_sfam.data.images import pixel_box
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import set_verdict
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent, decode
from worlds import REID, fill, small_frames, tiny_model, tiny_network

Plain = dict[str, Any]


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", k=3, protocol=REID)
    return crops


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run whose queries miss their true matches, some of them beyond k.

    Its model is not registered.
    """
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("mixed"), identities=6)
    # Image 0 and the last one share a name; nobody else does.
    names = [f"p{item}" for item in range(17)] + ["p0"]
    dataset.set_values("identity", names)
    yield explain_retrieval(
        dataset, tiny_model(), k=2, protocol=Protocol(identity_field="identity")
    )
    dataset.delete()


def decoded(picture: Plain) -> Image.Image:
    url = picture["url"]
    assert url.startswith("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    assert image.size == (picture["width"], picture["height"])
    return image.convert("RGB")


def maps_of(side: Plain) -> dict[str, np.ndarray]:
    return {kind: decode(values) for kind, values in side["maps"].items()}


def total(receipt: list[Plain]) -> float:
    return sum(share["value"] for share in receipt)


# --------------------------------------------------------------------------------------
# Numbers
# --------------------------------------------------------------------------------------


def test_numbers_of_a_query(run: Run) -> None:
    item = int(np.unique(run.pairs.query)[4])
    pairs = run.pairs.of_query(item)
    set_verdict(run, int(pairs[1]), "look-alike")
    found = PairsComponent(run.dataset).ask("query", pair=int(pairs[2]))
    assert found["item"] == item
    assert found["identity"] == run.items.identities[item]
    assert found["camera"] == run.items.cameras[item]
    assert found["notes"] == []
    assert [one["pair"] for one in found["neighbors"]] == pairs.tolist()
    similarity, outcome = run.pairs.similarity[pairs], run.pairs.outcome[pairs]
    true = int(np.flatnonzero(outcome == 0)[0])
    for place, (one, pair) in enumerate(zip(found["neighbors"], pairs, strict=True)):
        other = int(run.pairs.gallery[pair])
        assert one["item"] == other
        assert one["rank"] == run.pairs.rank[pair]
        assert one["similarity"] == similarity[place]
        assert one["distance"] == run.pairs.distance[pair]
        assert one["outcome"] == OUTCOMES[outcome[place]]
        assert one["identity"] == run.items.identities[other]
        assert one["camera"] == run.items.cameras[other]
        assert one["best_true"] == (place == true)
        assert one["margin"] == pytest.approx(similarity[true] - similarity[place])
        assert one["verdict"] == ("look-alike" if place == 1 else None)
        assert one["list_score"] is None
        stored = run.maps(int(pair))
        assert stored.query is not None
        assert one["query_side"]["box"] == list(stored.query.crop)


def test_maps_are_the_stored_ones(run: Run) -> None:
    item = int(np.unique(run.pairs.query)[2])
    pairs = run.pairs.of_query(item)
    found = PairsComponent(run.dataset).ask("query", pair=int(pairs[0]))
    stored = run.many_maps(pairs)
    for one, maps in zip(found["neighbors"], stored, strict=True):
        for side, expected in (
            (one["query_side"], maps.query),
            (one["neighbor_side"], maps.gallery),
        ):
            assert expected is not None
            for kind in ("sfam", "evidence"):
                values = maps_of(side)[kind]
                assert side["maps"][kind]["dtype"] == "f2"
                # Half floats have 11 bits, and steps of 6e-8 where they are small.
                bound = np.maximum(np.abs(expected.maps[kind]) / 2048, 3e-8)
                assert (np.abs(values - expected.maps[kind]) <= bound).all()
        assert set(maps_of(one["neighbor_side"])) == {"sfam", "evidence"}
    # One range of all neighbors, for each kind.
    for kind in ("sfam", "evidence"):
        values = [
            side.maps[kind]
            for maps in stored
            for side in (maps.query, maps.gallery)
            if side is not None
        ]
        limit = found["limits"][kind]
        assert limit["positive"] == pytest.approx(max(v.max() for v in values))
        assert limit["signed"] == pytest.approx(max(np.abs(v).max() for v in values))
    assert [kind["name"] for kind in found["kinds"]] == [
        *("sfam", "evidence", "contrast", "difference", "scales", "channel")
    ]
    assert [kind["name"] for kind in found["kinds"] if kind["live"]] == [
        *("difference", "scales", "channel")
    ]
    assert [kind["name"] for kind in found["kinds"] if kind["signed"]] == [
        *("contrast", "difference")
    ]


def test_stored_maps_along_paths_are_sent_where_they_are(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(
            dataset, tiny_model(), k=2, protocol=REID, kinds=("best", "evidence")
        )
        pairs = run.pairs.of_query(0).tolist()
        found = PairsComponent(dataset).ask("query", pair=pairs[0])
        stored = run.many_maps(pairs)
    finally:
        dataset.delete()
    names = [kind["name"] for kind in found["kinds"]]
    # The model still computes the map of pairs that lack it.
    assert names == ["scales", "evidence", "contrast", "difference", "channel"]
    assert [kind["live"] for kind in found["kinds"]][:2] == [True, False]
    assert found["neighbors"][0]["rank"] == 1
    for one, maps in zip(found["neighbors"], stored, strict=True):
        sent = maps_of(one["neighbor_side"])
        assert sent.keys() == maps.gallery.maps.keys()
        assert ("scales" in sent) == (one["rank"] == 1)
    first = maps_of(found["neighbors"][0]["query_side"])["scales"]
    expected = stored[0].query.maps["scales"]
    np.testing.assert_allclose(first, expected, rtol=1e-3, atol=3e-8)
    # One pixel in a hundred is beyond the range.
    both = stored[0].query.maps["scales"], stored[0].gallery.maps["scales"]
    limit = np.percentile(np.abs(np.concatenate([one.ravel() for one in both])), 99)
    assert found["limits"]["scales"]["signed"] == pytest.approx(limit, rel=1e-6)
    # The receipt is by the evidence, on its own grid.
    for one in found["neighbors"]:
        assert total(one["receipt"]) == pytest.approx(one["similarity"], abs=1e-7)
        assert [share["area"] for share in one["receipt"]][:3] == [
            pytest.approx(1 / 3, abs=0.05)
        ] * 3


def test_contrast_is_the_difference_of_evidence(run: Run) -> None:
    pairs = run.pairs.of_query(int(run.pairs.query[0]))
    found = PairsComponent(run.dataset).ask("query", pair=int(pairs[2]))
    maps = run.many_maps(pairs)
    true = int(np.flatnonzero(run.pairs.outcome[pairs] == 0)[0])
    largest = 0.0
    for place, one in enumerate(found["neighbors"]):
        ahead = maps[true].query.maps["evidence"] - maps[place].query.maps["evidence"]
        values = maps_of(one["query_side"])["contrast"]
        np.testing.assert_allclose(values, ahead, rtol=1e-3, atol=1e-7)
        largest = max(largest, float(np.abs(ahead).max()))
        # With the remainders it adds up to the margin, but for the stored bits.
        remainders = maps[true].query.remainder - maps[place].query.remainder
        added = float(values.sum()) + remainders
        assert added == pytest.approx(one["margin"], abs=1e-3)
    assert found["limits"]["contrast"]["signed"] == pytest.approx(largest)


def test_a_query_without_a_true_match(mixed: Run) -> None:
    component = PairsComponent(mixed.dataset)
    found = component.ask("query", pair=int(mixed.pairs.of_query(1)[0]))
    assert "contrast" not in [kind["name"] for kind in found["kinds"]]
    assert "contrast" not in found["limits"]
    for one in found["neighbors"]:
        assert (one["best_true"], one["margin"]) == (False, None)
        assert set(one["query_side"]["maps"]) == {"sfam", "evidence"}


def test_the_true_match_beyond_k(mixed: Run) -> None:
    pairs = mixed.pairs.of_query(0)
    assert len(pairs) == 3
    rank = int(mixed.pairs.rank[pairs[2]])
    assert rank > 2
    component = PairsComponent(mixed.dataset)
    for pair in pairs.tolist():
        found = component.ask("query", pair=pair)["neighbors"]
        assert [one["best_true"] for one in found] == [False, False, True]
        assert found[2]["rank"] == rank
        assert found[2]["margin"] == 0


def test_questions_that_have_no_answer(run: Run) -> None:
    component = PairsComponent(run.dataset)
    count = f"{len(run.pairs):,}"
    for pair in (len(run.pairs), 10**30):
        assert f"The run 'sfam' has {count} pairs" in component.problem(
            "query", pair=pair
        )
    for pair in (-1, "0", 1.5, [], True):
        assert component.problem("query", pair=pair).startswith("Pair is ")
    assert "there is no pair -1" in component.problem("query")
    answer = component.raw("query", pair=0, uid="another")
    assert answer["stale"]
    images = f"{len(run.items)} images"
    assert images in component.problem("picture", item=len(run.items), size=100)
    for size in (0, 1601, -5, "large"):
        assert "from 1 to 1600" in component.problem("picture", item=0, size=size)


# --------------------------------------------------------------------------------------
# The receipt
# --------------------------------------------------------------------------------------


def test_every_receipt_adds_up_to_its_similarity(run: Run) -> None:
    pairs = run.pairs.of_query(int(run.pairs.query[0]))
    found = PairsComponent(run.dataset).ask("query", pair=int(pairs[0]))
    for one in found["neighbors"]:
        receipt = one["receipt"]
        assert total(receipt) == pytest.approx(one["similarity"], abs=1e-7)
        assert [share["name"] for share in receipt] == [
            *("upper third", "middle third", "lower third", "not on the map")
        ]
        assert [share["remainder"] for share in receipt] == [False] * 3 + [True]
        areas = [share["area"] for share in receipt]
        assert areas == pytest.approx([1 / 3] * 3 + [0])
        stored = run.maps(one["pair"]).query
        assert stored is not None
        # 16 rows: five and a third of them in each part.
        evidence = stored.maps["evidence"]
        upper = evidence[:5].sum() + evidence[5].sum() / 3
        assert receipt[0]["value"] == pytest.approx(float(upper), abs=1e-6)


def test_the_receipt_by_a_field(run: Run) -> None:
    item = int(run.pairs.query[0])
    pair = int(run.pairs.of_query(item)[1])
    component = PairsComponent(run.dataset)
    found = component.ask("query", pair=pair, region="person")
    regions = regions_of(run, [item], "person")[item]
    for one in found["neighbors"]:
        stored = run.maps(one["pair"]).query
        assert stored is not None
        expected = split(stored.maps["evidence"], regions)
        *parts, remainder = one["receipt"]
        assert [share["name"] for share in parts] == ["person", "background"]
        values = [share["value"] for share in parts]
        assert values == pytest.approx(expected.tolist(), abs=1e-7)
        assert [share["area"] for share in parts] == pytest.approx(
            regions.area.tolist()
        )
        assert remainder["remainder"]
        assert total(one["receipt"]) == pytest.approx(one["similarity"], abs=1e-7)


def test_regions_that_are_missing(run: Run) -> None:
    component = PairsComponent(run.dataset)
    found = component.ask("query", pair=0, region="gone")
    assert found["notes"] == [
        "The field 'gone' no longer divides images into regions; choose another. The "
        "receipt is by thirds instead."
    ]
    assert found["neighbors"][0]["receipt"][0]["name"] == "upper third"


# --------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------


def test_pictures_are_the_images(run: Run) -> None:
    pairs = run.pairs.of_query(int(run.pairs.query[0]))
    component = PairsComponent(run.dataset)
    found = component.ask("query", pair=int(pairs[0]))
    shown = {found["item"]: found["picture"]}
    shown |= {one["item"]: one["picture"] for one in found["neighbors"]}
    for item, picture in shown.items():
        sample = run.dataset[str(run.items.sample_ids[item])]
        with Image.open(sample.filepath) as image:
            assert picture["full"] == list(image.size)
            # Small images are sent as they are, larger ones are shrunk.
            assert max(picture["width"], picture["height"]) <= max(image.size)
            source = np.asarray(image.convert("RGB").resize(decoded(picture).size))
        drawn = np.asarray(decoded(picture), float)
        assert np.abs(drawn - source).mean() < 6
        assert picture["problem"] is None
        alone = component.ask("picture", item=item, size=40)["picture"]
        assert max(alone["width"], alone["height"]) == 40
        assert alone["full"] == picture["full"]


def test_detections_are_shown_as_their_crops(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    try:
        run = explain_retrieval(dataset, "demo", k=2, patches_field="detections")
        item = int(np.unique(run.pairs.query)[1])
        pair = int(run.pairs.of_query(item)[0])
        found = PairsComponent(dataset).ask("query", pair=pair)
        sample = dataset[str(run.items.sample_ids[item])]
        assert run.items.label_ids is not None
        [box] = [
            one.bounding_box
            for one in sample.detections.detections
            if one.id == run.items.label_ids[item]
        ]
        with Image.open(sample.filepath) as image:
            crop = image.crop(pixel_box(box, *image.size))
        drawn = decoded(found["picture"])
        assert found["picture"]["full"] == list(crop.size) == list(drawn.size)
        assert np.abs(np.asarray(drawn, float) - np.asarray(crop, float)).mean() < 6
    finally:
        dataset.delete()


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        (tmp_path / "1-1.png").write_bytes(b"no image")
        run = explain_retrieval(dataset, tiny_model(), k=11)
        pairs = run.pairs.of_query(0)
        # One is deleted, and one is overwritten, after the run.
        deleted, broken = (int(run.pairs.gallery[pair]) for pair in pairs[:2])
        dataset.delete_samples([str(run.items.sample_ids[deleted])])
        path = Path(dataset[str(run.items.sample_ids[broken])].filepath)
        path.write_bytes(b"no image any more")
        component = PairsComponent(dataset)
        found = component.ask("query", pair=int(pairs[2]))
        assert decoded(found["picture"]).size == (8, 16)
        first, second, third = found["neighbors"][:3]
        assert first["picture"]["problem"] == "The sample was deleted."
        assert second["picture"]["problem"].startswith("The file cannot be read as an")
        assert (first["picture"]["url"], second["picture"]["url"]) == ("", "")
        # Their maps and numbers are as they were.
        assert first["neighbor_side"]["maps"].keys() == {"sfam", "evidence"}
        assert total(first["receipt"]) == pytest.approx(first["similarity"], abs=1e-7)
        assert third["picture"]["problem"] is None
        assert decoded(third["picture"]).size == (8, 16)
        # No folder of the server is told, not even that of a picture of its own.
        alone = component.ask("picture", item=broken, size=1600)["picture"]
        assert alone["problem"] == second["picture"]["problem"]
        gone = component.ask("picture", item=deleted, size=1600)["picture"]
        assert (gone["url"], gone["problem"]) == ("", "The sample was deleted.")
        path.unlink()
        missing = component.ask("picture", item=broken, size=1600)["picture"]["problem"]
        assert missing.startswith(f"The file does not exist: {path.name}. Put it back")
        assert str(tmp_path) not in json.dumps(found) + missing
    finally:
        dataset.delete()


@pytest.mark.parametrize(
    ("size", "shown", "large"),
    [
        ((2, 1), (2, 1), (2, 1)),
        ((250, 250), (250, 250), (250, 250)),
        ((20_000, 20), (512, 1), (1600, 2)),
        ((3, 3000), (1, 512), (2, 1600)),
        ((600, 1000), (307, 512), (600, 1000)),
    ],
)
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_images_of_unusual_sizes(
    tmp_path: Path, form: str, size: Any, shown: Any, large: Any
) -> None:
    from fiftyone_sfam.app.pairs.pictures import image_file, picture

    path = tmp_path / f"one.{form}"
    Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    file = image_file(str(path))
    found = picture(file, 512)
    assert (found.width, found.height, found.full) == (*shown, size)
    found = picture(file, 1600)
    assert (found.width, found.height, found.full) == (*large, size)
    # Of a part in a box, the full size is that of the part.
    part = picture(image_file(str(path), [0, 0, 1, 1]), 512)
    assert (part.width, part.height, part.full) == (*shown, size)


def test_upright_pictures_of_photos(tmp_path: Path) -> None:
    """JPEG files are decoded at a smaller size, with the orientation they are shown."""
    from fiftyone_sfam.app.pairs.pictures import image_file, picture

    path = tmp_path / "photo.jpg"
    pixels = np.zeros((1500, 3000, 3), np.uint8)
    pixels[:, :1500, 0] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right, so its left part is above
    Image.fromarray(pixels).save(path, exif=exif)
    found = picture(image_file(str(path)), 512)
    assert found.full == (1500, 3000)
    assert (found.width, found.height) == (256, 512)
    drawn = np.asarray(decoded(asdict(found)), float)
    assert drawn[:240, :, 0].min() > 200
    assert drawn[270:, :, 0].max() < 50


def test_a_picture_is_bounded(tmp_path: Path) -> None:
    from fiftyone_sfam.app.pairs.pictures import (
        MOST_PICTURE_BYTES,
        image_file,
        picture,
    )

    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    found = picture(image_file(str(path)), 1600)
    assert len(found.url) <= MOST_PICTURE_BYTES
    assert 200 <= found.width < 1600
    assert found.full == (1600, 1600)
    # Where not even a few pixels fit, there is a reason instead.
    nothing = picture(image_file(str(path)), 512, 100)
    assert (nothing.url, nothing.problem) == ("", "The picture takes too many bytes.")


# --------------------------------------------------------------------------------------
# Bytes
# --------------------------------------------------------------------------------------


def test_many_neighbors_large_maps_and_photos(tmp_path: Path) -> None:
    """50 neighbors with maps of 56 x 56, photos of 3,000 pixels, and long names."""
    dataset = fill(fo.Dataset(), tmp_path, identities=18)
    try:
        rng = np.random.default_rng(0)
        photos = []
        for number in range(9):
            photos.append(str(tmp_path / f"photo-{number}.jpg"))
            tile = rng.integers(0, 256, (150, 100, 3), dtype=np.uint8)
            photo = Image.fromarray(tile).resize((2000, 3000), Image.Resampling.NEAREST)
            photo.save(photos[-1], quality=60)
        dataset.set_values("filepath", photos * 6)
        # Astral characters take twelve bytes each in JSON.
        names = [f"{place}" + "\U0001f9d1" * 300 for place in range(54)]
        dataset.set_values("identity", names)
        dataset.set_values("camera", ["\u202e" + "ש" * 300] * 54)
        model = EmbeddingModel(
            tiny_network(), Preprocessing(size=(112, 112)), name="fine"
        )
        run = explain_retrieval(dataset, model, k=53, protocol=REID)
        assert run.config.map_shape[1:] == (56, 56)
        pairs = run.pairs.of_query(0)
        assert len(pairs) == 53
        component = PairsComponent(dataset)
        for asked in (0, 51):
            found = component.ask("query", pair=int(pairs[asked]))
            size = len(json.dumps(found))
            assert 0.9 * MOST_BYTES < size <= MOST_BYTES == 250_000
            places = [*range(50), *([asked] if asked >= 50 else [])]
            listed = [one["pair"] for one in found["neighbors"]]
            assert listed == pairs[places].tolist()
            for place, one in enumerate(found["neighbors"]):
                picture = one["picture"]
                assert picture["problem"] is None
                assert picture["full"] == [2000, 3000]
                assert picture["height"] >= (64 if place < 10 else 32)
                stored = run.maps(one["pair"]).gallery
                assert stored is not None
                values = maps_of(one["neighbor_side"])["evidence"]
                chosen = one["pair"] == pairs[asked]
                assert values.shape == ((56, 56) if chosen else values.shape)
                assert min(values.shape) >= 7
                expected = stored.maps["evidence"]
                # Averages of cells, in steps of 1/127 of the largest.
                step = float(np.abs(expected).max()) / 250
                assert values.mean() == pytest.approx(float(expected.mean()), abs=step)
            assert found["picture"]["height"] >= 128
    finally:
        dataset.delete()


def test_few_neighbors_are_sent_in_full(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path, identities=4)
    try:
        for path in dataset.values("filepath"):
            image = Image.open(path).resize((1500, 3000))
            image.save(path, compress_level=1)
        run = explain_retrieval(dataset, tiny_model(), k=10)
        pair = int(run.pairs.of_query(0)[3])
        found = PairsComponent(dataset).ask("query", pair=pair)
        assert len(json.dumps(found)) <= MOST_BYTES
        assert found["picture"]["height"] == 512
        for one in found["neighbors"]:
            assert one["picture"]["height"] == (512 if one["pair"] == pair else 256)
            assert one["query_side"]["maps"]["sfam"]["dtype"] == "f2"
            assert one["query_side"]["maps"]["sfam"]["shape"] == [8, 4]
    finally:
        dataset.delete()
