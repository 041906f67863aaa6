"""What the panel of pairs shows of a query, in numbers and pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone_sfam.app.pairs.layout import as_label, as_text
from fiftyone_sfam.app.pairs.page import stored_pair
from fiftyone_sfam.app.pairs.render import (
    channel_bars,
    channel_clicked,
    channels_text,
    most_important,
    receipt_bars,
    share_colors,
    share_text,
)
from fiftyone_sfam.app.pairs.show import place_traces
from fiftyone_sfam.app.pairs.state import PanelState, Sessions, Undo, of_run
from fiftyone_sfam.app.pairs.texts import color_bar
from PIL import Image

from fiftyone_sfam import Protocol, explain_pair, explain_retrieval
from fiftyone_sfam.app.pairs.maps import (
    OTHER,
    Share,
    ShownMaps,
    Spot,
    Wanted,
    item_receipt,
    thirds_receipt,
)
from fiftyone_sfam.app.pairs.pictures import Look, image_file
from fiftyone_sfam.app.pairs.view import STRIP, QueryView, view_query, view_selected
from fiftyone_sfam.attribution.render import color_table, fitted
from fiftyone_sfam.audit.regions.partitions import split
from fiftyone_sfam.data.images import pixel_box
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import Verdict
from fiftyone_sfam.runs.run import Run
from pairs_support import queries_of
from worlds import REID, fill, small_frames, tiny_model


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", k=3, protocol=REID)
    return crops


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run whose queries miss their true matches: its nearest ones are false.

    Its model is not registered, and of each query 12 neighbors are stored.
    """
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("mixed"), identities=6)
    # All shots of a person have names of their own, but for the last two people.
    names = [f"p{item}" if item < 12 else f"q{item % 3}" for item in range(18)]
    dataset.set_values("identity", names)
    yield explain_retrieval(
        dataset, tiny_model(), k=12, protocol=Protocol(identity_field="identity")
    )
    dataset.delete()


def decoded(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    return image.convert("RGB")


def view(run: Run, item: int, chosen: int = 0, kind: str = "sfam", **more) -> QueryView:
    return view_query(run, item, chosen, Wanted(kind), **more)


# --------------------------------------------------------------------------------------
# A query and its neighbors
# --------------------------------------------------------------------------------------


def test_numbers_of_a_view(run: Run) -> None:
    item = int(queries_of(run)[4])
    pairs = run.pairs.of_query(item)
    found = view(run, item, 1)
    assert found.identity == run.items.identities[item]
    assert found.camera == run.items.cameras[item]
    assert [one.pair for one in found.neighbors] == pairs.tolist()
    for place, (one, pair) in enumerate(zip(found.neighbors, pairs, strict=True)):
        other = run.pairs.gallery[pair]
        assert one.place == place
        assert one.rank == run.pairs.rank[pair]
        assert one.similarity == run.pairs.similarity[pair]
        assert one.outcome == OUTCOMES[run.pairs.outcome[pair]]
        assert one.identity == run.items.identities[other]
        assert one.camera == run.items.cameras[other]
    assert found.chosen is found.neighbors[1]
    assert found.similarity == run.pairs.similarity[pairs[1]]
    assert found.distance == run.pairs.distance[pairs[1]]
    maps = run.maps(int(pairs[1]))
    assert maps.query is not None
    assert maps.gallery is not None
    assert found.remainders == (maps.query.remainder, maps.gallery.remainder)
    # One strength for all pairs of the query: its largest value anywhere.
    largest = max(
        float(side.maps["sfam"].max())
        for one in run.many_maps(pairs)
        for side in (one.query, one.gallery)
        if side is not None
    )
    assert found.maps.limit == pytest.approx(largest)
    assert found.everything
    assert view(run, item, -5).chosen.place == 0
    assert view(run, item, 99).chosen.place == len(pairs) - 1


def test_the_heat_is_where_the_map_is(run: Run) -> None:
    item = int(queries_of(run)[4])
    found = view(run, item)
    plain = decoded(view(run, item, look=Look(opacity=0.0)).query.url)
    drawn = decoded(found.query.url)
    change = np.abs(np.asarray(drawn, float) - np.asarray(plain, float)).sum(axis=2)
    maps = run.maps(found.chosen.pair)
    assert maps.query is not None
    heat = np.maximum(maps.query.maps["sfam"], 0)
    rows, columns = heat.shape
    height, width = change.shape
    small = np.asarray(
        Image.fromarray(change.astype(np.float32)).resize(
            (columns, rows), Image.Resampling.BOX
        )
    )
    assert np.corrcoef(small.ravel(), np.sqrt(heat).ravel())[0, 1] > 0.8
    picture = found.query
    assert (width, height) == (picture.width, picture.height) == (210, 420)
    with Image.open(run.dataset[str(run.items.sample_ids[item])].filepath) as image:
        source = np.asarray(fitted(image, 300, 420), float)
    assert np.abs(np.asarray(plain, float) - source).mean() < 6


def test_views_that_cannot_be(run: Run) -> None:
    with pytest.raises(DataError, match=r"has no 'gradcam' maps; choose one of sfam, "):
        view(run, 0, 0, "gradcam")
    with pytest.raises(DataError, match="this image is no query of the run"):
        view(run, 10_000)


def test_a_long_strip_is_shown_in_blocks(mixed: Run) -> None:
    assert STRIP == 10
    # An image of the last people: 12 neighbors, and a true match beyond them or not.
    item = 0
    assert len(mixed.pairs.of_query(item)) == 12
    first = view(mixed, item, 3)
    assert [one.place for one in first.neighbors] == list(range(10))
    assert first.count == 12
    assert not first.everything
    second = view(mixed, item, 11)
    assert [one.place for one in second.neighbors] == [10, 11]
    assert second.chosen.place == 11
    # The range stays, whatever block is shown.
    assert second.maps.limit == first.maps.limit
    assert len(second.maps.pairs) >= len(second.neighbors)


def test_the_true_match_beyond_k(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path, identities=6)
    try:
        # Image 0 and the last image share a name; nobody else does.
        names = [f"p{item}" for item in range(17)] + ["p0"]
        dataset.set_values("identity", names)
        run = explain_retrieval(
            dataset, tiny_model(), k=2, protocol=Protocol(identity_field="identity")
        )
        pairs = run.pairs.of_query(0)
        assert len(pairs) == 3
        rank = int(run.pairs.rank[pairs[2]])
        assert rank > 2
        for chosen in range(3):
            found = view(run, 0, chosen)
            assert [one.best_true for one in found.neighbors] == [False, False, True]
            assert found.neighbors[2].rank == rank
            assert found.chosen.place == chosen
            similarity = run.pairs.similarity[pairs]
            assert found.margin == pytest.approx(similarity[2] - similarity[chosen])
        missed = view(run, 0, 0, why=True).missed
        assert missed is not None
        assert (missed.rank, missed.identity) == (rank, "p0")
        # The model is not registered: the images are there, and the reason.
        assert missed.note is not None
        assert "which is not registered" in missed.note
        assert decoded(missed.query.url).size == (125, 250)
        assert view(run, 1, 0, why=True).missed is None
    finally:
        dataset.delete()


def test_detections_are_shown_as_their_crops(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    try:
        run = explain_retrieval(dataset, "demo", k=2, patches_field="detections")
        item = int(queries_of(run)[1])
        found = view(run, item, look=Look(opacity=0.0))
        sample = dataset[str(run.items.sample_ids[item])]
        assert run.items.label_ids is not None
        [box] = [
            one.bounding_box
            for one in sample.detections.detections
            if one.id == run.items.label_ids[item]
        ]
        with Image.open(sample.filepath) as image:
            crop = image.crop(pixel_box(box, *image.size))
        expected = np.asarray(fitted(crop, 300, 420), float)
        drawn = np.asarray(decoded(found.query.url), float)
        assert np.abs(drawn - expected).mean() < 6
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# Kinds of map
# --------------------------------------------------------------------------------------


def test_contrast_is_the_difference_of_evidence(run: Run) -> None:
    item = int(run.pairs.query[0])
    pairs = run.pairs.of_query(item)
    found = view(run, item, 2, "contrast")
    maps = run.many_maps(pairs)
    true = int(np.flatnonzero(run.pairs.outcome[pairs] == 0)[0])
    ahead = [
        maps[true].query.maps["evidence"] - one.query.maps["evidence"] for one in maps
    ]
    for pair, expected in zip(found.maps.pairs, ahead, strict=True):
        np.testing.assert_allclose(pair.query.maps["contrast"], expected, atol=1e-7)
        assert pair.gallery is None
    assert found.maps.limit == pytest.approx(max(np.abs(one).max() for one in ahead))
    # With the remainders the map adds up to the margin, but for the stored bits.
    remainders = maps[true].query.remainder - maps[2].query.remainder
    assert float(ahead[2].sum()) + remainders == pytest.approx(found.margin, abs=5e-4)
    assert found.maps.signed


def test_contrast_needs_a_true_match(mixed: Run) -> None:
    found = view(mixed, 0, 0, "contrast")
    assert found.query.values is None
    assert found.margin is None
    assert found.notes == (
        "This query has no true match to contrast its neighbors with: choose another "
        "map.",
    )
    # The images are shown all the same.
    assert decoded(found.query.url).size == (210, 420)


def test_live_kinds_say_why_they_cannot_be(mixed: Run) -> None:
    found = view(mixed, 0, 0, "difference")
    [note] = found.notes
    assert note.startswith("This map needs the model 'tiny-0', which is not registered")
    assert note.endswith("Stored maps can still be looked at.")
    assert found.query.values is None
    assert found.receipt
    # Stored kinds are not asked about the model.
    assert view(mixed, 0, 0, "evidence").notes == ()
    channels = view(mixed, 0, channels=True).channels
    assert isinstance(channels, str)
    assert "which is not registered" in channels


def test_difference_of_two_images(run: Run) -> None:
    item = int(queries_of(run)[2])
    found = view(run, item, 1, "difference")
    paths = run.dataset.values("filepath")
    other = int(run.pairs.gallery[found.chosen.pair])
    one, two = explain_pair("demo", paths[item], paths[other]).difference()
    np.testing.assert_allclose(found.query.values, one.evidence, atol=1e-6)
    np.testing.assert_allclose(found.neighbor.values, -two.evidence, atol=1e-6)
    values = [
        side.maps["difference"]
        for pair in found.maps.pairs
        for side in (pair.query, pair.gallery)
    ]
    assert found.maps.limit == pytest.approx(max(np.abs(v).max() for v in values))
    assert found.notes == ()


def test_point_of_either_side(run: Run) -> None:
    item = int(queries_of(run)[2])
    paths = run.dataset.values("filepath")
    found = view_query(run, item, 1, Wanted("point", Spot("query", 6, 3)))
    other = int(run.pairs.gallery[found.chosen.pair])
    explained = explain_pair("demo", paths[item], paths[other])
    assert found.query.values is None
    point = explained.point(6, 3)
    np.testing.assert_allclose(found.neighbor.values, point, atol=1e-6)
    assert point.sum() == pytest.approx(explained.query.evidence[6, 3], abs=1e-5)
    # One range for all neighbors: the thumbnails show the same place there.
    assert all(pair.query is None for pair in found.maps.pairs)
    largest = max(float(p.gallery.maps["point"].max()) for p in found.maps.pairs)
    assert found.maps.limit == pytest.approx(largest)

    found = view_query(run, item, 1, Wanted("point", Spot("neighbor", 2, 5)))
    expected = explained.point(2, 5, side="gallery")
    np.testing.assert_allclose(found.query.values, expected, atol=1e-6)
    assert found.neighbor.values is None

    [note] = view(run, item, 0, "point").notes
    assert note.startswith("Click a place on either image")
    [note] = view_query(run, item, 0, Wanted("point", Spot("query", 99, 0))).notes
    assert "row 99 and column 0 is outside the map of 16 rows and 8 columns" in note


def test_channels(run: Run) -> None:
    item = int(queries_of(run)[2])
    found = view_query(run, item, 0, Wanted("channel", channel=17), channels=True)
    paths = run.dataset.values("filepath")
    other = int(run.pairs.gallery[found.chosen.pair])
    explained = explain_pair("demo", paths[item], paths[other])
    np.testing.assert_allclose(found.query.values, explained.channel(17), atol=1e-6)
    np.testing.assert_allclose(
        found.neighbor.values, explained.channel(17, "gallery"), atol=1e-6
    )
    importance = found.channels
    assert isinstance(importance, np.ndarray)
    np.testing.assert_allclose(importance, explained.query.cis, atol=1e-6)
    assert f"similarity of which the map carries {importance.sum():+.3f}" in (
        channels_text(importance)
    )
    assert found.maps.unit == "activation of channel 17"


def test_the_most_important_channels() -> None:
    importance = np.array([0.1, -0.5, 0.2, 0, 0.4] + [0.01] * 12, np.float32)
    assert most_important(importance)[:5].tolist() == [1, 4, 2, 0, 5]
    [bars] = channel_bars(importance, 4)
    assert bars["x"][:3] == ["ch 1", "ch 4", "ch 2"]
    assert bars["y"][:3] == pytest.approx([-0.5, 0.4, 0.2])
    assert bars["hovertext"][:2] == ["channel 1: -0.5000", "channel 4: +0.4000"]
    assert bars["marker"]["color"][0] != bars["marker"]["color"][1]
    assert bars["marker"]["line"]["width"][:3] == [0, 3, 0]
    assert len(bars["x"]) == 12
    assert channel_clicked({"x": "ch 17"}) == 17
    for nonsense in ({}, {"x": "17"}, {"x": "ch "}, {"x": "ch -1"}, {"x": None}):
        assert channel_clicked(nonsense) is None


# --------------------------------------------------------------------------------------
# Two selected images
# --------------------------------------------------------------------------------------


def test_two_selected_images(run: Run) -> None:
    paths = run.dataset.values("filepath")
    files = image_file(paths[0]), image_file(paths[20])
    found = view_selected("demo", files, Wanted("evidence"))
    explained = explain_pair("demo", paths[0], paths[20])
    assert found.similarity == pytest.approx(explained.score, abs=1e-6)
    assert found.distance == pytest.approx(explained.distance, abs=1e-6)
    np.testing.assert_allclose(found.query.values, explained.query.evidence, atol=1e-6)
    expected = (explained.query.remainder, explained.gallery.remainder)
    assert found.remainders == pytest.approx(expected, abs=1e-6)
    total = sum(share.value for share in found.receipt)
    assert total == pytest.approx(found.similarity, abs=1e-6)
    assert [share.area for share in found.receipt] == pytest.approx([1 / 3] * 3 + [0])
    # The run's own model is the same one.
    same = view_selected(run, files, Wanted("evidence"))
    assert same.similarity == pytest.approx(found.similarity, abs=1e-6)
    point = view_selected("demo", files, Wanted("point", Spot("query", 4, 4)))
    assert point.query.values is None
    np.testing.assert_allclose(point.neighbor.values, explained.point(4, 4), atol=1e-6)
    with pytest.raises(ModelError, match="there is no model 'nobody'"):
        view_selected("nobody", files, Wanted("sfam"))


def test_a_stored_pair_of_two_samples(run: Run) -> None:
    pair = int(run.pairs.of_query(5)[2])
    ids = run.items.sample_ids
    one, two = str(ids[5]), str(ids[run.pairs.gallery[pair]])
    assert stored_pair(run, one, two) == pair
    assert stored_pair(run, one, one) is None
    assert stored_pair(run, one, "0" * 24) is None


# --------------------------------------------------------------------------------------
# The receipt
# --------------------------------------------------------------------------------------


def test_thirds_by_hand() -> None:
    # Four rows in thirds: the second and the third row belong to two of them.
    evidence = np.array([[3, 0], [6, 0], [0, 9], [0, -3]], np.float32)
    shares = thirds_receipt(evidence, 20.0)
    assert [share.name for share in shares] == [
        "upper third",
        "middle third",
        "lower third",
        "not on the map",
    ]
    assert [share.value for share in shares] == pytest.approx([5, 10, 0, 5], abs=1e-6)
    assert [share.area for share in shares] == pytest.approx([1 / 3] * 3 + [0])


def test_the_receipt_adds_up_to_the_similarity(run: Run) -> None:
    item = int(run.pairs.query[0])
    found = view(run, item, 1)
    total = sum(share.value for share in found.receipt)
    assert total == pytest.approx(found.chosen.similarity, abs=1e-5)
    stored = run.maps(found.chosen.pair).query
    assert stored is not None
    # 16 rows: five and a third of them in each part.
    upper = stored.maps["evidence"][:5].sum() + stored.maps["evidence"][5].sum() / 3
    assert found.receipt[0].value == pytest.approx(float(upper), abs=1e-6)


def test_the_receipt_by_a_field(run: Run) -> None:
    from fiftyone_sfam.audit.regions.fields import region_fields, regions_of

    assert region_fields(run) == ["person", "parts"]
    item = int(run.pairs.query[0])
    found = view(run, item, 1, region_field="person")
    regions = regions_of(run, [item], "person")[item]
    stored = run.maps(found.chosen.pair).query
    assert stored is not None
    expected = split(stored.maps["evidence"], regions)
    assert [share.name for share in found.receipt] == [
        "person",
        "background",
        "not on the map",
    ]
    values = [share.value for share in found.receipt[:-1]]
    assert values == pytest.approx(expected.tolist())
    assert sum(share.value for share in found.receipt) == pytest.approx(
        found.chosen.similarity, abs=1e-5
    )
    assert [share.area for share in found.receipt[:-1]] == pytest.approx(
        regions.area.tolist()
    )


def test_regions_that_are_missing(run: Run) -> None:
    item = int(run.pairs.query[0])
    found = view(run, item, 1, region_field="gone")
    assert found.notes == (
        "The field 'gone' divides images into regions no more; choose another. The "
        "receipt is by thirds instead.",
    )
    assert found.receipt[0].name == "upper third"
    assert item_receipt(run, item, None, None) == ()


def test_many_regions_are_drawn_together() -> None:
    from fiftyone_sfam.app.pairs.maps import _receipt
    from fiftyone_sfam.audit.regions.partitions import Regions

    weights = np.eye(9, dtype=np.float32).reshape(9, 3, 3)
    regions = Regions(tuple(f"r{place}" for place in range(9)), weights)
    evidence = np.arange(9, dtype=np.float32).reshape(3, 3) - 3
    shares = _receipt(evidence, 10.0, regions)
    # Of -3 to 5 the six that carry most are 5, 4, 3, -3, 2 and -2.
    assert [share.name for share in shares] == [
        *("r0", "r1", "r5", "r6", "r7", "r8"),
        OTHER,
        "not on the map",
    ]
    assert shares[-2] == Share(OTHER, 0.0, pytest.approx(3 / 9))
    assert sum(share.value for share in shares) == pytest.approx(10)


def test_the_receipt_as_a_bar() -> None:
    shares = (
        Share("head <b>", 0.5, 0.25),
        Share("%{x}", -0.125, 0.75),
        Share("not on the map", 0.25, 0.0),
    )
    bars = receipt_bars(shares)
    assert [bar["x"] for bar in bars] == [[0.5], [-0.125], [0.25]]
    assert bars[0]["name"] == "head &lt;b&gt;"
    assert bars[0]["hovertemplate"] == (
        "head &lt;b&gt;: +0.5000<br>25 % of the area<extra></extra>"
    )
    assert "%{x}" not in bars[1]["hovertemplate"]
    assert len({bar["marker"]["color"] for bar in bars}) == 3
    assert bars[-1]["marker"]["color"] == "#999999"
    assert share_text(shares[1]) == "-0.125 (75 % of the area)"
    assert share_text(shares[2]) == "+0.250"
    assert share_text(Share("nothing", -0.0001, 0.0)) == "+0.000"
    assert share_colors(()) == ()


# --------------------------------------------------------------------------------------
# Parts of the layout
# --------------------------------------------------------------------------------------


def test_the_color_bar() -> None:
    def bar(signed: bool, colors: str | None) -> dict:
        maps = ShownMaps((), "evidence", 0.5, signed, "similarity per cell")
        return color_bar(maps, Look(signed=signed, colors=colors), "one range")

    one = bar(False, "Cividis")
    assert one["ticks"] == ["0", "0.125", "0.25", "0.375", "0.5"]
    assert one["unit"] == "similarity per cell; one range"
    table = color_table("Cividis")
    first, last = ("#{:02x}{:02x}{:02x}".format(*table[row]) for row in (0, -1))
    assert one["gradient"].startswith(f"linear-gradient(to right, {first}, ")
    assert one["gradient"].endswith(f", {last})")
    both = bar(True, None)
    assert both["ticks"] == ["-0.5", "-0.25", "0", "0.25", "0.5"]
    assert both["gradient"] == bar(True, "RdBu_r")["gradient"]


def test_places_lie_where_the_map_is() -> None:
    values = np.array([[0.25, -1], [2, 3]], np.float32)
    crop = (0.5, 0.0, 1.0, 0.5)
    cells, frame = place_traces(crop, (2, 2), values, Spot("query", 1, 0))
    assert cells["z"] == [[0.25, -1.0], [2.0, 3.0]]
    # Cells are a quarter wide and high, the first one's center an eighth inside.
    assert (cells["x0"], cells["dx"]) == (0.625, 0.25)
    assert (cells["y0"], cells["dy"]) == (0.125, 0.25)
    assert frame["visible"]
    assert (min(frame["x"]), max(frame["x"])) == (0.5, 0.75)
    assert (min(frame["y"]), max(frame["y"])) == (0.25, 0.5)
    cells, frame = place_traces(crop, (2, 2), values, None)
    assert not frame["visible"]
    # Without a map there is still something to click on.
    cells, _ = place_traces(crop, (2, 2), None, None)
    assert cells["z"] == [[0.0, 0.0], [0.0, 0.0]]


def test_texts_from_the_data_are_no_markup() -> None:
    assert as_text("<img src=x onerror=alert(1)>") == (
        "\\<img src=x onerror=alert\\(1\\)\\>"
    )
    assert as_text("**[a](http://b)**") == "\\*\\*\\[a\\]\\(http\\://b\\)\\*\\*"
    assert as_text("x" * 100) == "x" * 39 + "…"
    assert as_text("x" * 100, most=None) == "x" * 100
    assert as_text('it\'s a "&"') == 'it\'s a "\\&"'
    assert as_text(None) == "(no identity)"
    assert as_label("<b>a</b>%{y}") == "&lt;b&gt;a&lt;/b&gt;%\u200b{y}"


# --------------------------------------------------------------------------------------
# State
# --------------------------------------------------------------------------------------


def test_the_state_goes_to_the_app_and_back() -> None:
    verdict = Verdict(3, "a", "b", "fine", "", "2026-01-01T00:00:00")
    state = PanelState(
        uid="u",
        pair=3,
        place=2,
        kind="point",
        signed=True,
        opacity=0.25,
        spot=Spot("neighbor", 4, 5),
        handed=12.5,
        selected=("a", "b"),
        undo=(Undo("u", 3, verdict), Undo("u", 4, None)),
    )
    import json

    assert PanelState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_nonsense_from_the_app_is_left_out() -> None:
    nonsense = {
        "pair": -1,
        "place": "2",
        "kind": 3,
        "signed": "yes",
        "opacity": float("inf"),
        "spot": {"side": "both", "row": 1, "column": 1},
        "spec": [],
        "selected": ["a"],
        "undo": [{"pair": 1}],
        "turn": True,
        "known": None,
        "other": 1,
    }
    assert PanelState.from_dict(nonsense) == PanelState()
    assert PanelState.from_dict(None) == PanelState()
    assert PanelState.from_dict({"opacity": 7}).opacity == 1


def test_another_run_is_begun_anew() -> None:
    state = PanelState(
        uid="one",
        pair=7,
        place=3,
        spot=Spot("query", 1, 1),
        kind="point",
        before="evidence",
        handed=1.0,
        opacity=0.3,
    )
    found = of_run(state, "two")
    assert (found.pair, found.place, found.spot, found.handed) == (None, 0, None, None)
    assert (found.kind, found.opacity, found.uid) == ("evidence", 0.3, "two")
    assert of_run(state, "one") is state


def test_late_answers_begin_with_the_newest_state() -> None:
    sessions = Sessions()
    assert sessions.newer("panel", 0) == {}
    sessions.keep("panel", 2, {"a": 1})
    assert sessions.newer("panel", 1) == {"a": 1}
    assert sessions.newer("panel", 2) == {}
    assert sessions.newer("other", 0) == {}


def test_a_panel_that_was_opened_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    sessions = Sessions()
    sessions.keep("panel", 5, {"a": 1})
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert sessions.newer("panel", 0) == {}


def test_only_so_many_panels_are_remembered() -> None:
    sessions = Sessions()
    for number in range(100):
        sessions.keep(f"panel {number}", 1, {"number": number})
    assert sessions.newer("panel 0", 0) == {}
    assert sessions.newer("panel 99", 0) == {"number": 99}
    assert len(sessions._sessions) == 64
