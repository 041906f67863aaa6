"""The panel of pairs, event by event, as the App's server executes it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pydash
import pytest
from PIL import Image

from app_support import PLUGIN, context, requests, small_crops, small_frames
from fiftyone_sfam import Protocol, delete_run, explain_retrieval, load_run
from fiftyone_sfam.app.panels.pair_view import QueryView, queries_of, view_query
from fiftyone_sfam.app.panels.receipt import receipt_figure
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.images import pixel_box
from fiftyone_sfam.records import OUTCOMES
from fiftyone_sfam.render import DIVERGING, fitted
from fiftyone_sfam.runs import Run

PROTOCOL = Protocol(identity_field="identity", camera_field="camera")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    dataset = small_crops(tmp_path_factory.mktemp("crops"))
    explain_retrieval(dataset, "demo", k=3, protocol=PROTOCOL)
    yield dataset
    dataset.delete()


@pytest.fixture
def run(crops: fo.Dataset) -> Run:
    return load_run(crops, "sfam")


class Shown:
    """A panel as the App keeps it: its state, its data and its layout."""

    def __init__(self, dataset: fo.Dataset, **request: Any) -> None:
        self.dataset = dataset
        self.panel = foo.get_operator(f"{PLUGIN}/sfam_pairs")
        self.state: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.layout: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.do("on_load", **request)

    def do(
        self, method: str, params: dict[str, Any] | None = None, **request: Any
    ) -> None:
        """Execute an event with what the App would send along."""
        ctx = context(
            self.dataset,
            {
                **(params or {}),
                "panel_id": "panel",
                "panel_state": json.loads(json.dumps(self.state)),
                "__method__": method,
            },
            **request,
        )
        self.panel.execute(ctx)
        self.asked = []
        for name, given in requests(ctx):
            if name == "patch_panel_state":
                for path, value in given["state"].items():
                    pydash.set_(self.state, path, value)
            elif name == "patch_panel_data":
                for path, value in given["data"].items():
                    pydash.set_(self.data, path, value)
            elif name == "show_panel_output":
                self.layout = json.loads(json.dumps(given["output"]))
            else:
                self.asked.append((name, given))

    def at(self, path: str) -> dict[str, Any]:
        """An element of the layout."""
        found = self.layout
        for name in path.split("."):
            found = found["type"]["properties"][name]
        return found

    def text(self, path: str) -> str:
        return str(self.at(path)["default"])

    @property
    def pictures(self) -> dict[str, str]:
        """The sources of all pictures that the layout has."""
        places = ["both.query_side.query_image", "both.neighbor_side.neighbor_image"]
        if "strip" in self.layout["type"]["properties"]:
            strip = self.at("strip")["type"]["properties"]
            places += [
                f"strip.{one}.image_{one.removeprefix('place_')}" for one in strip
            ]
        return {place: pydash.get(self.data, place) for place in places}


def decoded(url: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    return image.convert("RGB")


def pairs_of(run: Run, place: int) -> np.ndarray:
    return run.pairs.of_query(int(queries_of(run)[place]))


def assert_shows(shown: Shown, run: Run, query: int, chosen: int) -> None:
    """Assert that the texts are those of a pair of the run."""
    pairs = pairs_of(run, query)
    pair = int(pairs[chosen])
    columns, items = run.pairs, run.items
    assert shown.text("title_text") == f"Query {query + 1} of {len(queries_of(run))}"
    identity = items.identities[columns.query[pair]] or "(no identity)"
    assert shown.text("both.query_side.query_caption").startswith(
        f"**Query** {identity}"
    )
    caption = shown.text("both.neighbor_side.neighbor_caption")
    other = items.identities[columns.gallery[pair]] or "(no identity)"
    outcome = OUTCOMES[columns.outcome[pair]]
    assert caption.startswith(f"**Rank {columns.rank[pair]}** {other} ")
    assert outcome in caption
    assert f"similarity {columns.similarity[pair]:.4f}," in caption
    assert f"distance {columns.distance[pair]:.4f}" in caption
    strip = shown.at("strip")["type"]["properties"]
    assert len(strip) == len(pairs)
    for place, one in enumerate(pairs):
        text = shown.text(f"strip.place_{place}.caption_{place}")
        assert text.startswith("▶ ") == (place == chosen)
        assert f"{columns.similarity[one]:.3f}" in text
        assert str(columns.rank[one]) in text


# --------------------------------------------------------------------------------------
# Events
# --------------------------------------------------------------------------------------


def test_without_a_run(make_dataset: Callable[..., fo.Dataset]) -> None:
    shown = Shown(make_dataset())
    assert set(shown.layout["type"]["properties"]) == {"md", "explain"} or (
        "explain" in shown.layout["type"]["properties"]
    )
    assert shown.at("explain")["view"]["label"] == "Explain retrieval"
    assert shown.data == {}
    shown.do("on_explain")
    [(name, params)] = shown.asked
    assert name == "prompt_user_for_operation"
    assert params["operator_uri"] == f"{PLUGIN}/explain_retrieval"


def test_steps(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    assert_shows(shown, run, 0, 0)
    seen = [shown.pictures]
    assert all(url.startswith("data:image/webp;base64,") for url in seen[0].values())

    shown.do("on_next_neighbor")
    assert_shows(shown, run, 0, 1)
    seen.append(shown.pictures)
    # The same query, with its map towards another neighbor; the strip stays.
    changed = {name for name in seen[0] if seen[0][name] != seen[1][name]}
    assert changed == {
        "both.query_side.query_image",
        "both.neighbor_side.neighbor_image",
    }

    shown.do("on_previous_neighbor")
    assert_shows(shown, run, 0, 0)
    assert shown.pictures == seen[0]
    shown.do("on_previous_neighbor")
    assert_shows(shown, run, 0, 0)

    shown.do("on_neighbor", {"place": 2})
    assert_shows(shown, run, 0, 2)
    last = len(pairs_of(run, 0)) - 1
    for _ in range(last + 1):
        shown.do("on_next_neighbor")
    assert_shows(shown, run, 0, last)

    shown.do("on_next_query")
    assert_shows(shown, run, 1, 0)
    assert not set(shown.pictures.values()) & set(seen[0].values())
    shown.do("on_previous_query")
    shown.do("on_previous_query")
    assert_shows(shown, run, 0, 0)
    assert shown.pictures == seen[0]


def test_the_last_query_is_the_last(crops: fo.Dataset, run: Run) -> None:
    count = len(queries_of(run))
    shown = Shown(crops)
    shown.state["query"] = count - 1
    shown.do("on_next_query")
    assert_shows(shown, run, count - 1, 0)


def test_it_follows_the_selection(crops: fo.Dataset, run: Run) -> None:
    ids = run.items.sample_ids
    place = 17
    wanted = str(ids[queries_of(run)[place]])
    assert_shows(Shown(crops, selected=[wanted]), run, place, 0)
    assert_shows(Shown(crops, current_sample=wanted), run, place, 0)

    shown = Shown(crops)
    shown.do("on_next_neighbor")
    shown.do("on_change_selected", selected=[wanted])
    assert_shows(shown, run, place, 0)
    # Taking the selection back, or selecting what is no query, changes nothing.
    shown.do("on_next_neighbor")
    shown.do("on_change_selected", selected=[])
    shown.do("on_change_selected", selected=["0" * 24])
    assert_shows(shown, run, place, 1)
    shown.do("on_change_current_sample", current_sample=str(ids[queries_of(run)[3]]))
    assert_shows(shown, run, 3, 0)


def test_kinds_and_runs(crops: fo.Dataset, run: Run) -> None:
    second = explain_retrieval(crops, "demo", key="zz", k=2, kinds=["evidence"])
    shown = Shown(crops)
    assert shown.at("controls.run_choice")["type"]["values"] == ["sfam", "zz"]
    kinds = shown.at("controls.kind_choice")["type"]["values"]
    assert kinds == ["sfam", "evidence", "contrast"]
    sfam = shown.pictures
    shown.do("on_kind", {"value": "evidence"})
    assert_shows(shown, run, 0, 0)
    assert not set(sfam.values()) & set(shown.pictures.values())

    shown.do("on_run", {"value": "zz"})
    assert_shows(shown, second, 0, 0)
    assert len(pairs_of(second, 0)) == 2
    # That run has no identities, so it has no true matches to contrast with.
    assert shown.at("controls.kind_choice")["type"]["values"] == ["evidence"]

    delete_run(crops, "zz")
    shown.do("on_load")
    assert_shows(shown, run, 0, 0)


def test_another_dataset(crops: fo.Dataset, run: Run, tmp_path: Path) -> None:
    other = small_crops(tmp_path, "sfam-other").limit(8).clone()
    second = explain_retrieval(other, "demo", key="own", k=2)
    shown = Shown(crops)
    shown.do("on_next_neighbor")
    shown.dataset = other
    shown.do("on_change_dataset")
    assert shown.state["run"] == "own"
    assert_shows(shown, second, 0, shown.state["chosen"])
    other.delete()


def test_a_replaced_run_is_read_again(
    make_dataset: Callable[..., fo.Dataset], crops: fo.Dataset
) -> None:
    dataset = make_dataset("again")
    dataset.add_samples(
        [fo.Sample(path) for path in crops.limit(6).values("filepath")], progress=False
    )
    first = explain_retrieval(dataset, "demo", k=2)
    shown = Shown(dataset)
    assert_shows(shown, first, 0, 0)
    second = explain_retrieval(dataset, "demo", k=4, overwrite=True)
    shown.do("on_neighbor", {"place": 3})
    assert_shows(shown, second, 0, 3)


def test_the_state_stays_small(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    # It travels back and forth with each event; pictures must not.
    assert len(json.dumps(shown.state)) < 4000
    assert "base64" not in json.dumps(shown.state)
    assert "base64" not in json.dumps(shown.layout)


def test_identities_are_text_not_markup(
    make_dataset: Callable[..., fo.Dataset], crops: fo.Dataset
) -> None:
    dataset = make_dataset("markup")
    names = ["<img src=x onerror=alert(1)>", "**[a](http://b)**", "x" * 100, None]
    for path, name in zip(crops.limit(4).values("filepath"), names, strict=True):
        dataset.add_sample(fo.Sample(path, identity=name))
    explain_retrieval(
        dataset, "demo", k=3, protocol=Protocol(identity_field="identity")
    )
    shown = Shown(dataset)
    captions = []
    for _ in names:
        captions.append(shown.text("both.query_side.query_caption"))
        shown.do("on_next_query")
    assert "&lt;img src=x onerror=alert\\(1\\)&gt;" in captions[0]
    assert "\\*\\*\\[a\\]\\(http://b\\)\\*\\*" in captions[1]
    assert "x" * 39 + "…" in captions[2]
    assert "x" * 40 not in captions[2]
    assert "(no identity)" in captions[3]
    assert not any("<img" in caption for caption in captions)


def test_broken_and_missing_images(
    make_dataset: Callable[..., fo.Dataset], crops: fo.Dataset, tmp_path: Path
) -> None:
    dataset = make_dataset("broken")
    paths = []
    for number, path in enumerate(crops.limit(5).values("filepath")):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(Path(path).read_bytes())
        dataset.add_sample(fo.Sample(str(paths[-1])))
    embeddings = explain_retrieval(dataset, "demo", k=4).embeddings()
    dataset.set_values("vectors", list(embeddings))
    paths[2].write_bytes(b"no image")
    run = explain_retrieval(dataset, "demo", k=4, embeddings="vectors", overwrite=True)
    [skipped] = run.skipped
    shown = Shown(dataset)
    shown.state["query"] = 2
    shown.do("on_previous_neighbor")
    assert skipped.reason in shown.text("both.query_side.query_caption")
    assert shown.pictures["both.query_side.query_image"] == ""

    # Its neighbors have no such trouble, and as a neighbor it says the same.
    assert decoded(shown.pictures["both.neighbor_side.neighbor_image"]).size[1] == 420
    view = view_query(run, 0, 0, "sfam")
    place = [one.sample_id for one in view.neighbors].index(dataset.values("id")[2])
    shown.do("on_next_query")
    shown.state["query"] = 0
    shown.do("on_neighbor", {"place": place})
    assert skipped.reason in shown.text("both.neighbor_side.neighbor_caption")

    # A file that was deleted after the run.
    paths[0].unlink()
    shown.do("on_neighbor", {"place": 0})
    assert str(paths[0]) in shown.text("both.query_side.query_caption")

    # A sample that was deleted after the run.
    dataset.delete_samples([dataset.values("id")[0]])
    shown.do("on_neighbor", {"place": 0})
    assert "the sample was deleted" in shown.text("both.query_side.query_caption")


def test_a_run_that_is_deleted_meanwhile(
    make_dataset: Callable[..., fo.Dataset], crops: fo.Dataset
) -> None:
    dataset = make_dataset("gone")
    dataset.add_samples(
        [fo.Sample(path) for path in crops.limit(4).values("filepath")], progress=False
    )
    explain_retrieval(dataset, "demo", key="one", k=2)
    second = explain_retrieval(dataset, "demo", key="two", k=3)
    shown = Shown(dataset)
    delete_run(dataset, "one")
    shown.do("on_next_neighbor")
    assert shown.state["run"] == "two"
    assert_shows(shown, second, 0, shown.state["chosen"])
    delete_run(dataset, "two")
    shown.do("on_next_neighbor")
    assert "explain" in shown.layout["type"]["properties"]


# --------------------------------------------------------------------------------------
# What is drawn
# --------------------------------------------------------------------------------------


def test_numbers_of_a_view(run: Run) -> None:
    item = int(queries_of(run)[4])
    pairs = run.pairs.of_query(item)
    view = view_query(run, item, 1, "sfam")
    assert isinstance(view, QueryView)
    assert view.sample_id == run.items.sample_ids[item]
    assert [one.pair for one in view.neighbors] == pairs.tolist()
    for one, pair in zip(view.neighbors, pairs, strict=True):
        other = run.pairs.gallery[pair]
        assert one.rank == run.pairs.rank[pair]
        assert one.similarity == run.pairs.similarity[pair]
        assert one.distance == run.pairs.distance[pair]
        assert one.outcome == OUTCOMES[run.pairs.outcome[pair]]
        assert one.sample_id == run.items.sample_ids[other]
        assert one.identity == run.items.identities[other]
    maps = run.maps(int(pairs[1]))
    assert maps.query is not None
    assert maps.gallery is not None
    assert view.query_remainder == maps.query.remainder
    assert view.neighbor_remainder == maps.gallery.remainder
    # One strength for all pairs of the query: its largest value anywhere.
    largest = max(
        float(side.maps["sfam"].max())
        for one in run.many_maps(pairs)
        for side in (one.query, one.gallery)
        if side is not None
    )
    assert view.limit == pytest.approx(largest)
    assert view_query(run, item, -5, "sfam").chosen == 0
    assert view_query(run, item, 99, "sfam").chosen == len(pairs) - 1


def test_the_heat_is_where_the_map_is(run: Run) -> None:
    item = int(queries_of(run)[4])
    view = view_query(run, item, 0, "sfam")
    plain = decoded(view_query(run, item, 0, "sfam", opacity=0.0).query.url)
    drawn = decoded(view.query.url)
    change = np.abs(np.asarray(drawn, float) - np.asarray(plain, float)).sum(axis=2)
    maps = run.maps(view.neighbors[0].pair)
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
    assert (width, height) == (view.query.width, view.query.height) == (210, 420)
    with Image.open(run.dataset[view.sample_id].filepath) as image:
        source = np.asarray(fitted(image, 300, 420), float)
    assert np.abs(np.asarray(plain, float) - source).mean() < 6


def test_views_that_cannot_be(run: Run) -> None:
    with pytest.raises(DataError, match="has no 'point' maps; choose one of sfam"):
        view_query(run, 0, 0, "point")
    with pytest.raises(DataError, match="this image is no query of the run"):
        view_query(run, 10_000, 0, "sfam")


def test_detections_are_shown_as_their_crops(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    run = explain_retrieval(dataset, "demo", k=2, patches_field="detections")
    item = int(queries_of(run)[1])
    view = view_query(run, item, 0, "sfam", opacity=0.0)
    sample = dataset[view.sample_id]
    assert run.items.label_ids is not None
    [box] = [
        one.bounding_box
        for one in sample.detections.detections
        if one.id == run.items.label_ids[item]
    ]
    with Image.open(sample.filepath) as image:
        crop = image.crop(pixel_box(box, *image.size))
    expected = np.asarray(fitted(crop, 300, 420), float)
    assert np.abs(np.asarray(decoded(view.query.url), float) - expected).mean() < 6

    # Selecting a patch in a patches view makes it the query.
    patches = dataset.to_patches("detections")
    label = str(run.items.label_ids[item])
    shown = Shown(dataset, view=patches._serialize(), selected=[label])
    assert_shows(shown, run, 1, 0)
    dataset.delete()


def test_the_receipt_adds_up_to_the_similarity(run: Run) -> None:
    view = view_query(run, int(run.pairs.query[0]), 1, "sfam")
    names = [share.name for share in view.receipt]
    assert names == ["upper third", "middle third", "lower third", "not on the map"]
    total = sum(share.value for share in view.receipt)
    assert total == pytest.approx(view.neighbors[1].similarity, abs=1e-5)
    # 16 rows in three parts, and no area for what is not on the map.
    assert [share.area for share in view.receipt] == [6 / 16, 5 / 16, 5 / 16, 0]
    evidence = run.maps(view.neighbors[1].pair).query.maps["evidence"]
    assert view.receipt[0].value == pytest.approx(float(evidence[:6].sum()))


def test_the_receipt_as_a_bar(run: Run) -> None:
    view = view_query(run, int(run.pairs.query[0]), 0, "sfam")
    figure = receipt_figure(view.receipt)
    assert [trace["x"][0] for trace in figure.data] == [
        share.value for share in view.receipt
    ]
    assert "of the area" in figure.data[0]["name"]
    assert "area" not in figure.data[-1]["name"]
    total = sum(share.value for share in view.receipt)
    assert f"Similarity {total:.4f}" in figure.layout["title"]["text"]


def test_contrast(crops: fo.Dataset, run: Run) -> None:
    # A rank-1 match that is true leads by nothing over itself, and its map is empty.
    item = int(run.pairs.query[0])
    pairs = run.pairs.of_query(item)
    view = view_query(run, item, 0, "contrast")
    assert view.neighbors[0].outcome == "true match"
    assert view.margin == pytest.approx(0)
    # The limit is that of the pairs of the query, by hand: evidence of the true match
    # minus that of each, and the neighbors' own evidence.
    maps = run.many_maps(pairs)
    true = maps[0].query.maps["evidence"]
    values = [true - one.query.maps["evidence"] for one in maps]
    values += [one.gallery.maps["evidence"] for one in maps]
    assert view.limit == pytest.approx(max(np.abs(one).max() for one in values))
    shown = Shown(crops)
    shown.do("on_kind", {"value": "contrast"})
    assert "speaks for the true match" in shown.text("range_text")
    assert shown.at("look.colors_choice")["type"]["values"] == list(DIVERGING)


def test_contrast_needs_a_true_match(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path, "sfam-strangers")
    try:
        names = [f"p{place}" for place in range(len(dataset))]
        dataset.set_values("identity", names)
        run = explain_retrieval(dataset, "demo", k=2, protocol=PROTOCOL)
        with pytest.raises(DataError, match="no true match to contrast"):
            view_query(run, 0, 0, "contrast")
        assert view_query(run, 0, 0, "evidence").margin is None
    finally:
        dataset.delete()


def test_signs_colors_and_opacity_change_the_pictures(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    seen = [shown.pictures]
    for event, value in (
        ("on_opacity", 0.3),
        ("on_colors", "Cividis"),
        ("on_signed", True),
        ("on_colors", "PuOr_r"),
    ):
        shown.do(event, {"value": value})
        assert not set(shown.pictures.values()) & set(seen[-1].values()), event
        seen.append(shown.pictures)
    shown.do("on_opacity", {"value": 0.0})
    bare = shown.pictures
    shown.do("on_kind", {"value": "evidence"})
    assert shown.pictures == bare
