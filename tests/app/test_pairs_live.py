"""Correspondences, and maps that are asked for: of a run's pairs, of two samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import explain_pair, explain_retrieval, load_model, load_run
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES
from fiftyone_sfam.app.pairs.correspondences import in_blocks
from fiftyone_sfam.app.pairs.live_maps import channels_text, most_important
from fiftyone_sfam.attribution.contributions import Contributions, points
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.runs.contributions import KeptImage
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent, decode
from worlds import REID, fill, tiny_model, tiny_network

Plain = dict[str, Any]


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops with two runs of one model: with contributions, and with maps."""
    kept = {"key": "kept", "kinds": ["sfam"], "contributions": "int8"}
    explain_retrieval(crops, "demo", k=3, protocol=REID, **kept)
    explain_retrieval(crops, "demo", k=3, protocol=REID)
    return crops


@pytest.fixture
def kept(crops: fo.Dataset) -> Run:
    return load_run(crops, "kept")


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of a model that is not registered: contributions, maps of 24 x 20."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("fine"))
    model = EmbeddingModel(tiny_network(), Preprocessing(size=(48, 40)), name="fine")
    yield explain_retrieval(
        dataset, model, k=4, protocol=REID, kinds=["sfam"], contributions="float16"
    )
    dataset.delete()


def shown(side: Plain, kind: str) -> np.ndarray:
    return decode(side["maps"][kind])


def ends(run: Run, pair: int) -> tuple[str, str]:
    """The files of a pair."""
    items = int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
    return tuple(
        run.dataset[str(run.items.sample_ids[item])].filepath for item in items
    )


# --------------------------------------------------------------------------------------
# Correspondences
# --------------------------------------------------------------------------------------


def test_live_correspondences_add_up(run: Run) -> None:
    pair = int(run.pairs.of_query(4)[1])
    found = PairsComponent(run.dataset, "sfam").ask("correspondences", pair=pair)
    assert (found["source"], found["notes"]) == ("live", [])
    assert found["query"] == found["neighbor"]
    assert found["query"] == {"shape": [16, 8], "box": [0, 0, 1, 1]}
    assert found["points"]["dtype"] == "f2"
    values = decode(found["points"]).astype(np.float64)
    assert values.shape == (128, 128)
    explained = explain_pair("demo", *ends(run, pair))
    assert found["similarity"] == pytest.approx(explained.score, abs=1e-6)
    point = explained.point(6, 3).reshape(-1)
    bound = np.maximum(np.abs(point) / 2048, 3e-8) + 1e-7
    assert (np.abs(values[6 * 8 + 3] - point) <= bound).all()
    # The demo's head leaves nothing on either side: sums are the evidence.
    for axis, side in ((1, explained.query), (0, explained.gallery)):
        np.testing.assert_allclose(
            values.sum(axis).reshape(16, 8), side.evidence, atol=2e-5
        )
    total = found["similarity"] - found["remainder"]
    assert values.sum() == pytest.approx(total, abs=1e-4)


def test_stored_correspondences_are_the_live_ones(kept: Run, run: Run) -> None:
    pair = int(kept.pairs.of_query(4)[1])
    stored = PairsComponent(kept.dataset, "kept").ask("correspondences", pair=pair)
    assert (stored["source"], stored["notes"]) == ("stored", [])
    live = PairsComponent(run.dataset, "sfam").ask("correspondences", pair=pair)
    assert stored["similarity"] == pytest.approx(live["similarity"], abs=1e-6)
    first, second = (decode(one["points"]).astype(float) for one in (stored, live))
    # Bytes of two contributions: each is off by 1/254 of its largest number.
    assert np.abs(first - second).max() <= 0.02 * np.abs(second).max()
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999
    assert first.sum() == pytest.approx(second.sum(), abs=5e-3)
    assert stored["similarity"] - stored["remainder"] == pytest.approx(
        first.sum(), abs=1e-4
    )


def test_sums_of_correspondences_with_a_remainder(fine: Run) -> None:
    """They are the evidence, but for what the other image's remainder adds."""
    pair = int(fine.pairs.of_query(3)[0])
    found = PairsComponent(fine.dataset).ask("correspondences", pair=pair)
    assert found["source"] == "stored"
    # 24 x 20 places are more than 256: blocks of 2 x 2 are one.
    assert found["query"]["shape"] == found["neighbor"]["shape"] == [12, 10]
    values = decode(found["points"]).astype(np.float64)
    ids = fine.items.ids
    query, gallery = (
        fine.contributions(str(ids[item]))
        for item in (int(fine.pairs.query[pair]), int(fine.pairs.gallery[pair]))
    )
    scale = float(np.linalg.norm(query.embedding) * np.linalg.norm(gallery.embedding))
    through = query.values @ (gallery.embedding - gallery.remainder) / scale
    blocks = through.reshape(12, 2, 10, 2).sum((1, 3))
    np.testing.assert_allclose(values.sum(1).reshape(12, 10), blocks, atol=1e-5)
    lost = query.values @ gallery.remainder / scale
    assert np.abs(lost).sum() > 1e-3
    evidence = fine.explain_stored(*(str(ids[item]) for item in _items(fine, pair)))
    np.testing.assert_allclose(
        through + lost, evidence.query.evidence, rtol=1e-4, atol=1e-6
    )
    assert found["remainder"] == pytest.approx(
        found["similarity"] - values.sum(), abs=1e-5
    )
    large = abs(found["remainder"]) > 0.05 * found["similarity"]
    said = f"leaves out the remainders, {found['remainder']:+.3f} of the similarity"
    assert [said in note for note in found["notes"]] == [True] * large


def _items(run: Run, pair: int) -> tuple[int, int]:
    return int(run.pairs.query[pair]), int(run.pairs.gallery[pair])


def test_blocks_of_places() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 21, 3)).astype(np.float32)
    whole = Contributions(values, np.zeros(3, np.float32), np.ones(3, np.float32))
    image = KeptImage(whole, (0.0, 0.25, 0.5, 0.75), (100, 200))
    found = in_blocks(image)
    # 20 x 11 blocks of 2 x 2, the last column of which is half outside.
    assert found.contributions.shape == (20, 11)
    assert found.crop == pytest.approx((0.0, 0.25, 0.5 * 22 / 21, 0.75))
    summed = found.contributions.values
    np.testing.assert_allclose(summed[3, 4], values[6:8, 8:10].sum((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(summed[3, 10], values[6:8, 20].sum(0), rtol=1e-5)
    np.testing.assert_allclose(summed.sum((0, 1)), values.sum((0, 1)), rtol=1e-4)
    other = points(found.contributions, whole)
    np.testing.assert_allclose(
        other[3, 4], points(whole, whole)[6:8, 8:10].sum((0, 1)), rtol=1e-4, atol=1e-5
    )
    assert in_blocks(found) is found
    line = Contributions(values.reshape(1, 840, 3), whole.remainder, whole.embedding)
    assert in_blocks(KeptImage(line, (0, 0, 1, 1), (9, 9))).contributions.shape == (
        1,
        210,
    )


def test_correspondences_are_bounded(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        model = EmbeddingModel(
            tiny_network(), Preprocessing(size=(112, 112)), name="fine"
        )
        run = explain_retrieval(dataset, model, k=2, contributions="int8")
        found = PairsComponent(dataset).ask("correspondences", pair=0)
        assert found["query"]["shape"] == [14, 14]
        assert len(json.dumps(found)) < MOST_BYTES
        assert run.config.map_shape[1:] == (56, 56)
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# From the database alone
# --------------------------------------------------------------------------------------


def test_evidence_that_was_not_stored_is_made(kept: Run, run: Run) -> None:
    pairs = run.pairs.of_query(4)
    component = PairsComponent(kept.dataset, "kept")
    names = [kind["name"] for kind in component.run["kinds"]]
    assert names == ["sfam", "evidence", "contrast", "difference", "scales", "channel"]
    found = component.ask("query", pair=int(pairs[0]))
    expected = PairsComponent(run.dataset, "sfam").ask("query", pair=int(pairs[0]))
    for one, other in zip(found["neighbors"], expected["neighbors"], strict=True):
        for side in ("query_side", "neighbor_side"):
            for kind in one[side]["maps"]:
                first, second = shown(one[side], kind), shown(other[side], kind)
                gap = np.abs(first.astype(float) - second).max()
                # A contrast is made of two maps of evidence.
                made_of = "evidence" if kind == "contrast" else kind
                assert gap <= 0.02 * np.abs(shown(other[side], made_of)).max()
            assert one[side]["remainder"] == pytest.approx(
                other[side]["remainder"], abs=1e-3
            )
        assert set(one["query_side"]["maps"]) == {"sfam", "evidence", "contrast"}
        for first, second in zip(one["receipt"], other["receipt"], strict=True):
            assert first["name"] == second["name"]
            assert first["value"] == pytest.approx(second["value"], abs=0.01)


def test_differences_from_contributions(kept: Run, run: Run) -> None:
    pairs = [int(pair) for pair in kept.pairs.of_query(4)]
    stored = PairsComponent(kept.dataset, "kept").ask("live", pairs=pairs)
    live = PairsComponent(run.dataset, "sfam").ask("live", pairs=pairs)
    assert (stored["kind"], stored["signed"]) == ("difference", True)
    assert stored["limit"]["signed"] == pytest.approx(live["limit"]["signed"], rel=0.02)
    for one, other in zip(stored["maps"], live["maps"], strict=True):
        assert one["pair"] == other["pair"]
        for side in ("query_side", "neighbor_side"):
            first, second = (shown(each[side], "difference") for each in (one, other))
            gap = np.abs(first.astype(float) - second).max()
            assert gap <= 0.02 * live["limit"]["signed"]
            assert one[side]["remainder"] is None


def test_a_run_with_contributions_needs_no_model(fine: Run) -> None:
    pairs = [int(pair) for pair in fine.pairs.of_query(2)]
    component = PairsComponent(fine.dataset)
    found = component.ask("live", pairs=pairs)
    assert [one["pair"] for one in found["maps"]] == pairs
    assert shown(found["maps"][0]["query_side"], "difference").shape == (24, 20)
    query = component.ask("query", pair=pairs[0])
    assert "evidence" in query["neighbors"][0]["query_side"]["maps"]
    # Two samples that are no pair of the run are explained all the same.
    near = set(fine.pairs.gallery[fine.pairs.of_query(0)].tolist())
    [other, *_] = [
        item
        for item in range(len(fine.items))
        if item not in near
        and item != 0
        and 0 not in fine.pairs.gallery[fine.pairs.of_query(item)]
    ]
    ids = [str(fine.items.ids[item]) for item in (0, other)]
    answer = component.ask("selected", samples=ids)
    expected = fine.explain_stored(*ids)
    [neighbor] = answer["query"]["neighbors"]
    assert neighbor["similarity"] == pytest.approx(expected.score)
    assert neighbor["distance"] == pytest.approx(1 - expected.score)
    assert neighbor["identity"] == fine.items.identities[other]
    assert [kind["name"] for kind in answer["query"]["kinds"]] == [
        *("evidence", "difference", "scales", "channel")
    ]
    np.testing.assert_allclose(
        shown(neighbor["neighbor_side"], "evidence"),
        expected.gallery.evidence,
        rtol=1e-3,
        atol=1e-7,
    )
    found = component.ask("correspondences", samples=ids)
    assert found["source"] == "stored"
    assert found["similarity"] == pytest.approx(expected.score)
    [maps] = component.ask("live", samples=ids)["maps"]
    assert maps["pair"] == -1
    np.testing.assert_allclose(
        shown(maps["query_side"], "difference"),
        expected.difference()[0].evidence,
        rtol=1e-3,
        atol=1e-7,
    )
    # Only what no contribution explains needs the model.
    for question in ({"kind": "scales"}, {"kind": "channel", "channel": 0}):
        text = component.problem("live", pairs=pairs[:1], **question)
        assert "This map needs the model 'fine', which is not registered" in text
    text = component.problem("channels", pair=pairs[0])
    assert text.endswith("Stored maps can still be looked at.")


# --------------------------------------------------------------------------------------
# Live maps
# --------------------------------------------------------------------------------------


def test_differences_of_several_pairs(run: Run) -> None:
    pairs = [int(pair) for pair in run.pairs.of_query(2)]
    found = PairsComponent(run.dataset, "sfam").ask("live", pairs=pairs)
    assert found["unit"] == "squared distance per cell: positive sets the images apart"
    assert found["notes"] == []
    largest = 0.0
    for pair, maps in zip(pairs, found["maps"], strict=True):
        one, two = explain_pair("demo", *ends(run, pair)).difference()
        for side, expected in (
            (maps["query_side"], one.evidence),
            (maps["neighbor_side"], -two.evidence),
        ):
            values = shown(side, "difference")
            np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-6)
            largest = max(largest, float(np.abs(expected).max()))
    assert found["limit"]["signed"] == pytest.approx(largest, rel=1e-5)


def test_channels(run: Run) -> None:
    pair = int(run.pairs.of_query(2)[0])
    component = PairsComponent(run.dataset, "sfam")
    explained = explain_pair("demo", *ends(run, pair))
    found = component.ask("channels", pair=pair)
    order = np.argsort(-np.abs(explained.query.cis), kind="stable")[:12]
    assert [one["channel"] for one in found["channels"]] == order.tolist()
    values = [one["value"] for one in found["channels"]]
    assert values == pytest.approx(explained.query.cis[order].tolist(), abs=1e-6)
    assert f"{explained.query.cis.sum():+.3f}" in found["text"]
    found = component.ask("live", pairs=[pair], kind="channel", channel=17)
    [maps] = found["maps"]
    for side, name in (("query_side", "query"), ("neighbor_side", "gallery")):
        np.testing.assert_allclose(
            shown(maps[side], "channel"), explained.channel(17, name), rtol=1e-3
        )
    assert (found["unit"], found["signed"]) == ("activation of channel 17", False)
    text = component.problem("live", pairs=[pair], kind="channel", channel=128)
    assert "has 128 channels, numbered from 0; there is no channel 128" in text
    assert (
        "channel is missing"
        in component.problem("live", pairs=[pair], kind="channel").lower()
    )


def test_the_most_important_channels() -> None:
    importance = np.array([0.1, -0.5, 0.2, 0, 0.4] + [0.01] * 12, np.float32)
    assert most_important(importance)[:5].tolist() == [1, 4, 2, 0, 5]
    assert len(most_important(importance)) == 12
    assert channels_text(importance).startswith(
        "The 12 of 17 channels that matter most add +0.280 to a similarity of which "
        "the map carries +0.320."
    )


def test_a_path(run: Run) -> None:
    from fiftyone_sfam import explain_path

    pairs = [int(pair) for pair in run.pairs.of_query(2)]
    component = PairsComponent(run.dataset, "sfam")
    found = component.ask("live", pairs=pairs[:1], kind="scales")
    sides = explain_path("demo", *ends(run, pairs[0]), several_scales=True)
    [maps] = found["maps"]
    for side, expected in zip(("query_side", "neighbor_side"), sides, strict=True):
        values = shown(maps[side], "scales")
        assert values.shape == (128, 64)
        np.testing.assert_allclose(values, expected.path, rtol=1e-3, atol=1e-6)
        assert maps[side]["remainder"] == pytest.approx(expected.remainder, abs=1e-6)
    # One pixel in a hundred is beyond the range.
    pixels = np.concatenate([np.abs(side.path).ravel() for side in sides])
    limit = float(np.percentile(pixels, 99))
    assert found["limit"]["signed"] == pytest.approx(limit, rel=1e-5)
    assert limit < 0.8 * pixels.max()
    assert (found["signed"], found["notes"]) == (False, [])
    text = component.problem("live", pairs=pairs[:2], kind="scales")
    assert text == "A path is of one pair at a time."


def test_questions_that_have_no_answer(run: Run) -> None:
    component = PairsComponent(run.dataset, "sfam")
    first, second = (int(run.pairs.of_query(item)[0]) for item in (0, 1))
    text = "The pairs have to be of one query, and at least one."
    assert component.problem("live", pairs=[first, second]) == text
    assert component.problem("live", pairs=[]) == text
    assert component.problem("live") == text
    assert "at most 60 pairs" in component.problem("live", pairs=[0] * 61)
    assert "there is no pair" in component.problem("live", pairs=[len(run.pairs)])
    for kind in ("evidence", "__class__", 7):
        text = component.problem("live", pairs=[first], kind=kind)
        assert "give one of decision, difference, scales, channel" in text
    for channel in (-1, 2.5, "0", [0]):
        text = component.problem("live", pairs=[first], kind="channel", channel=channel)
        assert "give a whole number from 0" in text
    answer = component.raw("correspondences", pair=first, uid="another")
    assert answer["stale"]


def test_images_that_are_missing(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, "demo", k=4)
        pairs = [int(pair) for pair in run.pairs.of_query(0)]
        gone, broken = (
            Path(dataset[str(run.items.sample_ids[item])].filepath)
            for item in run.pairs.gallery[pairs[1:3]].tolist()
        )
        gone.unlink()
        broken.write_bytes(b"no image")
        component = PairsComponent(dataset)
        found = component.ask("live", pairs=pairs)
        there = [one["query_side"] is not None for one in found["maps"]]
        assert there == [True, False, False, True]
        assert [one["pair"] for one in found["maps"]] == pairs
        for pair, reason in (
            (pairs[1], f"the file does not exist: {gone.name}. Put it back"),
            (pairs[2], "the file cannot be read as an image: "),
        ):
            for question in (
                {"question": "correspondences", "pair": pair},
                {"question": "channels", "pair": pair},
                {"question": "live", "pairs": [pair], "kind": "scales"},
                {"question": "live", "pairs": [pair]},
            ):
                text = component.problem(**question)
                assert text.startswith(f"The neighbor has no image: {reason}")
                assert str(tmp_path) not in text
        text = component.problem("live", pairs=pairs[1:3])
        assert text == "None of the neighbors' images can be read."
        Path(dataset[str(run.items.sample_ids[0])].filepath).write_bytes(b"nothing")
        text = component.problem("live", pairs=pairs)
        assert text.startswith("The query has no image: the file cannot be read")
    finally:
        dataset.delete()


def test_a_model_that_is_not_registered(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        explain_retrieval(dataset, tiny_model(), k=2)
        component = PairsComponent(dataset)
        for question in (
            ("live", {"pairs": [0]}),
            ("live", {"pairs": [0], "kind": "scales"}),
            ("correspondences", {"pair": 0}),
            ("channels", {"pair": 0}),
        ):
            text = component.problem(question[0], **question[1])
            assert text.startswith("This map needs the model 'tiny-0', which is not")
            assert text.endswith("Stored maps can still be looked at.")
        assert component.ask("query", pair=0)["neighbors"][0]["query_side"] is not None
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# Two selected samples
# --------------------------------------------------------------------------------------


def test_the_pair_of_two_samples(run: Run) -> None:
    pair = int(run.pairs.of_query(5)[2])
    ids = [str(run.items.ids[item]) for item in _items(run, pair)]
    component = PairsComponent(run.dataset, "sfam")
    assert component.ask("selected", samples=ids) == {"pair": pair, "query": None}


def test_two_samples_without_a_pair(run: Run) -> None:
    ids = [str(run.items.ids[item]) for item in (0, 20)]
    paths = [run.dataset[one].filepath for one in ids]
    explained = explain_pair("demo", *paths)
    component = PairsComponent(run.dataset, "sfam")
    for source in ({}, {"run": None, "uid": None, "model": "demo"}):
        answer = component.ask("selected", samples=ids, **source)
        assert answer["pair"] is None
        found = answer["query"]
        assert (found["item"], found["count"]) == (-1, 1)
        assert found["notes"] == ["Explained now by the model 'demo'."]
        assert [kind["name"] for kind in found["kinds"]] == [
            *("sfam", "evidence", "difference", "scales", "channel")
        ]
        [one] = found["neighbors"]
        assert (one["pair"], one["rank"], one["margin"]) == (-1, 1, None)
        assert one["similarity"] == pytest.approx(explained.score, abs=1e-6)
        assert one["distance"] == pytest.approx(explained.distance, abs=1e-6)
        for side, expected in (
            (one["query_side"], explained.query),
            (one["neighbor_side"], explained.gallery),
        ):
            for kind in ("sfam", "evidence"):
                np.testing.assert_allclose(
                    shown(side, kind), getattr(expected, kind), rtol=1e-3, atol=1e-6
                )
            assert side["remainder"] == pytest.approx(expected.remainder, abs=1e-6)
        total = sum(share["value"] for share in one["receipt"])
        assert total == pytest.approx(one["similarity"], abs=1e-6)
        largest = max(
            float(side.sfam.max()) for side in (explained.query, explained.gallery)
        )
        assert found["limits"]["sfam"]["positive"] == pytest.approx(largest, rel=1e-4)
        assert found["picture"]["full"] == one["picture"]["full"] == [64, 128]
        points = component.ask("correspondences", samples=ids, **source)
        assert points["similarity"] == pytest.approx(explained.score, abs=1e-6)
        [maps] = component.ask("live", samples=ids, kind="scales", **source)["maps"]
        assert shown(maps["query_side"], "scales").shape == (128, 64)


def test_two_samples_that_cannot_be_explained(run: Run, tmp_path: Path) -> None:
    component = PairsComponent(run.dataset, "sfam")
    ids = [str(run.items.ids[item]) for item in (0, 20)]
    alone = {"run": None, "uid": None}
    text = component.problem("selected", samples=ids, **alone)
    assert text == "Choose a model that explains the two samples."
    text = component.problem("selected", samples=ids, model="nobody", **alone)
    assert "here is no model 'nobody'" in text
    # Nothing that is typed in is imported or opened.
    marker = tmp_path / "imported"
    code = tmp_path / "evil.py"
    code.write_text(f"open({str(marker)!r}, 'w')")
    for name in (f"{code}:build", "timm:resnet18", f"onnx:{tmp_path / 'x.onnx'}"):
        for question in ("selected", "correspondences", "live", "channels"):
            text = component.problem(question, samples=ids, model=name, **alone)
            assert "here is no model" in text
    assert not marker.exists()
    for samples in (ids[:1], [*ids, ids[0]], [1, 2], "ab", {"a": 1}):
        text = component.problem("selected", samples=samples)
        assert "a list of the ids of two samples" in text
    assert "a list of the ids of two samples" in component.problem("selected").lower()
    text = component.problem("selected", samples=[ids[0], "0" * 24])
    assert "there is no sample" in text.lower()
    answer = component.raw("selected", samples=ids, uid="another")
    assert answer["stale"]


def test_maps_that_carry_nothing_are_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paths import TESTS

    code = f"import sys\nsys.path.insert(0, {str(TESTS)!r})\n"
    (tmp_path / "net.py").write_text(f"{code}from worlds import normed_network\n")
    entry = {"factory": "net.py:normed_network", "preprocess": {"size": [16, 8]}}
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"normed": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    assert load_model("normed").name == "normed"
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        ids = dataset.limit(2).values("id")
        component = PairsComponent(dataset)
        found = component.ask("selected", samples=ids, model="normed")["query"]
        first, second = found["notes"]
        assert first == "Explained now by the model 'normed'."
        assert second.startswith("These maps carry ")
    finally:
        dataset.delete()
