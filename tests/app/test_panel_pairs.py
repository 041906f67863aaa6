"""The panel of pairs, event by event, as the App's server executes it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pydash
import pytest
from PIL import Image

from fiftyone_sfam import Protocol, delete_run, explain_retrieval
from fiftyone_sfam.app.pairs.layout import as_text
from fiftyone_sfam.app.pairs.state import QueueSpec, build_queue
from fiftyone_sfam.app.panel_state import put_queue
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, requests
from pairs_support import queries_of
from panel_support import NEIGHBOR, QUERY
from panel_support import PairsPanel as Shown
from worlds import REID, fill, small_crops, small_frames, tiny_model


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", k=3, protocol=REID)
    return crops


def pairs_of(run: Run, place: int) -> np.ndarray:
    return run.pairs.of_query(int(queries_of(run)[place]))


def assert_shows(shown: Shown, run: Run, query: int, chosen: int) -> None:
    """Assert that the texts are those of a pair of the run."""
    pairs = pairs_of(run, query)
    pair = int(pairs[chosen])
    columns, items = run.pairs, run.items
    assert shown.state["pairs"]["pair"] == pair
    assert shown.choice("queue.place")["default"] == query + 1
    # A neighbor that the strip was asked for is beside the queue of first ones.
    beside = "" if chosen == 0 else " (beside it)"
    assert shown.text("queue.of_text") == f"of {len(queries_of(run))}{beside}"
    identity = items.identities[columns.query[pair]] or "(no identity)"
    assert shown.text("pair.query.caption").startswith(f"**Query** {identity}")
    caption = shown.text("pair.neighbor.caption")
    other = items.identities[columns.gallery[pair]] or "(no identity)"
    assert caption.startswith(f"**Rank {columns.rank[pair]}** {other}")
    assert OUTCOMES[columns.outcome[pair]] in caption
    assert f"similarity {columns.similarity[pair]:.4f}," in caption
    assert f"distance {columns.distance[pair]:.4f}" in caption
    strip = shown.at("strip")["type"]["properties"]
    assert len(strip) == len(pairs)
    for place, one in enumerate(pairs):
        text = shown.at(f"strip.neighbor_{place}")["view"]["label"]
        assert text.startswith("▶ ") == (place == chosen)
        assert f"{columns.similarity[one]:.3f}" in text
        assert f"**{columns.rank[one]}**" in text


# --------------------------------------------------------------------------------------
# Steps
# --------------------------------------------------------------------------------------


def test_without_a_run(make_dataset: Callable[..., fo.Dataset]) -> None:
    shown = Shown(make_dataset())
    assert set(shown.layout["type"]["properties"]) == {"empty_text", "explain"}
    assert "No explained run yet" in shown.text("empty_text")
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
    assert len(seen[0]) == 5
    assert all(url.startswith("data:image/jpeg;base64,") for url in seen[0].values())

    shown.do("on_next_neighbor")
    assert_shows(shown, run, 0, 1)
    seen.append(shown.pictures)
    # The same query, with its map towards another neighbor; the strip stays.
    changed = {name for name in seen[0] if seen[0][name] != seen[1][name]}
    assert changed == {QUERY, NEIGHBOR}

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

    shown.do("on_next_pair")
    assert_shows(shown, run, 1, 0)
    assert not set(shown.pictures.values()) & set(seen[0].values())
    shown.do("on_previous_pair")
    shown.do("on_previous_pair")
    assert_shows(shown, run, 0, 0)
    assert shown.pictures == seen[0]
    shown.do("on_next_query")
    assert_shows(shown, run, 1, 0)
    shown.do("on_previous_query")
    assert_shows(shown, run, 0, 0)


def test_the_number_of_the_pair(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    [name] = [key for key in shown.at("queue")["type"]["properties"] if "place" in key]
    shown.do("on_place", {"value": 18})
    assert_shows(shown, run, 17, 0)
    # It is the same field, which keeps the keyboard's focus.
    assert shown.has(f"queue.{name}")
    count = len(queries_of(run))
    shown.do("on_place", {"value": 1000})
    assert_shows(shown, run, count - 1, 0)
    # A number that there is not is put right, in a field of another name.
    assert not shown.has(f"queue.{name}")
    shown.do("on_next_pair")
    assert_shows(shown, run, count - 1, 0)
    for nonsense in (None, "3", [1]):
        shown.do("on_place", {"value": nonsense})
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


def test_late_answers_do_not_turn_back(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    # The App asks for several openings, and is answered after a click.
    empty, late = Shown.__new__(Shown), []
    empty.__dict__.update(shown.__dict__, state={})
    shown.do("on_next_pair")
    late.append(empty.answer("on_load"))
    late.append(empty.answer("on_change_selected", selected=[]))
    late.append(empty.answer("on_change_view"))
    # What changes nothing answers nothing, and can come at any time.
    assert [requests(ctx) for ctx in late[1:]] == [[], []]
    for ctx in late:
        shown.take(ctx)
        assert_shows(shown, run, 1, 0)
    # Two clicks, the second before the first was answered: two steps.
    before = json.loads(json.dumps(shown.state))
    first = shown.answer("on_next_pair")
    shown.state = before
    second = shown.answer("on_next_pair")
    shown.take(first)
    shown.take(second)
    assert_shows(shown, run, 3, 0)


def test_kinds_and_runs(crops: fo.Dataset, run: Run) -> None:
    second = explain_retrieval(crops, "demo", key="zz", k=2, kinds=["evidence"])
    shown = Shown(crops)
    assert shown.choice("controls.run")["type"]["values"] == ["sfam", "zz"]
    kinds = shown.choice("controls.kind")["type"]["values"]
    assert kinds == ["sfam", "evidence", "contrast", "difference", "point"]
    sfam = shown.pictures
    shown.do("on_kind", {"value": "evidence"})
    assert shown.choice("controls.kind")["default"] == "evidence"
    assert_shows(shown, run, 0, 0)
    assert not set(sfam.values()) & set(shown.pictures.values())

    shown.do("on_run", {"value": "zz"})
    assert_shows(shown, second, 0, 0)
    assert len(pairs_of(second, 0)) == 2
    # That run has no identities, so it has no true matches to contrast with.
    assert shown.choice("controls.kind")["type"]["values"] == [
        "evidence",
        "difference",
        "point",
    ]

    delete_run(crops, "zz")
    shown.do("on_load")
    assert_shows(shown, run, 0, 0)


def test_another_dataset(crops: fo.Dataset, run: Run, tmp_path: Path) -> None:
    other = small_crops(tmp_path, "sfam-other").limit(8).clone()
    second = explain_retrieval(other, "demo", key="own", k=2)
    shown = Shown(crops)
    shown.do("on_next_pair")
    shown.dataset = other
    shown.do("on_change_dataset")
    assert shown.state["run"] == "own"
    assert_shows(shown, second, 0, 0)
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
    shown.do("on_next_pair")
    second = explain_retrieval(dataset, "demo", k=4, overwrite=True)
    shown.do("on_neighbor", {"place": 3})
    # Its pairs are others: it is begun anew.
    assert_shows(shown, second, 0, 3)


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
    assert_shows(shown, second, 0, 1)
    delete_run(dataset, "two")
    shown.do("on_next_neighbor")
    assert shown.has("explain")


def test_the_state_stays_small(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    shown.do("on_filter")
    shown.do("on_channels")
    # It travels back and forth with each event; pictures must not.
    assert len(json.dumps(shown.state)) < 8000
    assert "base64" not in json.dumps(shown.state)
    assert "base64" not in json.dumps(shown.layout)


def test_data_that_came_back_is_taken_out_of_the_state(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    # What the App does when an input is used.
    pydash.merge(shown.state, json.loads(json.dumps(shown.data)))
    assert "base64" in json.dumps(shown.state)
    shown.do("on_next_pair")
    assert "base64" not in json.dumps(shown.state)
    assert shown.state["pair"]["query"]["stage"]["places"] is None


def test_the_answer_is_small(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    ctx = shown.answer("on_next_pair")
    assert len(json.dumps(ctx.executor.to_json())) < 250_000


def test_memory_stays_flat(crops: fo.Dataset) -> None:
    from fiftyone_sfam.app.pairs import live, pictures, state, view

    shown = Shown(crops)
    for _ in range(40):
        shown.do("on_next_pair")
    for module in (live, pictures, state, view):
        for name, one in vars(module).items():
            if hasattr(one, "cache_info"):
                info = one.cache_info()
                assert info.maxsize is not None, name
                assert info.currsize <= info.maxsize <= 256, name


# --------------------------------------------------------------------------------------
# Texts from the data, and what is missing
# --------------------------------------------------------------------------------------


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
        captions.append(shown.text("pair.query.caption"))
        # Each "<" is escaped.
        assert re.search(r"(?<!\\)<img", json.dumps(shown.layout)) is None
        shown.do("on_next_pair")
    assert "\\<img src=x onerror=alert\\(1\\)\\>" in captions[0]
    assert "\\*\\*\\[a\\]\\(http\\://b\\)\\*\\*" in captions[1]
    assert "x" * 39 + "…" in captions[2]
    assert "x" * 40 not in captions[2]
    assert "(no identity)" in captions[3]
    shown.do("on_verdict", {"text": "<b>bold</b>"})
    shown.do("on_previous_pair")
    assert "<b>" not in shown.text("verdicts.verdict_text")


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
    assert len(run.skipped) == 1
    shown = Shown(dataset)
    shown.do("on_place", {"value": 3})
    assert shown.text("pair.query.nothing") == "No image to show"
    assert "cannot be read as an image" in shown.text("pair.query.caption")
    assert QUERY not in shown.pictures
    # Its neighbors have no such trouble, and as a neighbor it says the same.
    assert decoded(shown.pictures[NEIGHBOR]).size == (210, 420)
    shown.do("on_place", {"value": 1})
    pairs = run.pairs.of_query(0)
    place = [int(one) for one in run.pairs.gallery[pairs]].index(2)
    shown.do("on_neighbor", {"place": place})
    assert "cannot be read as an image" in shown.text("pair.neighbor.caption")
    assert shown.has(f"strip.neighbor_{place}.open")
    # Live maps of the others can be had all the same.
    shown.do("on_neighbor", {"place": 0 if place else 1})
    shown.do("on_kind", {"value": "difference"})
    assert shown.notes == []
    assert shown.has("bar")

    # A file that was deleted after the run.
    paths[0].unlink()
    shown.do("on_kind", {"value": "sfam"})
    assert as_text(paths[0].name, most=None) in shown.text("pair.query.caption")
    assert "Put it back" in shown.text("pair.query.caption")

    # A sample that was deleted after the run.
    dataset.delete_samples([dataset.values("id")[0]])
    shown.do("on_neighbor", {"place": 0})
    assert "The sample was deleted" in shown.text("pair.query.caption")
    shown.do("on_kind", {"value": "difference"})
    assert "sample was deleted" in shown.notes[0]


def decoded(url: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    return image.convert("RGB")


def test_maps_that_are_gone(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=1)
        run.store.delete_one("maps-000000")
        shown = Shown(dataset)
        assert "the stored maps of this run are incomplete" in (
            shown.text("problem_text").lower()
        )
        assert not shown.has("pair")
    finally:
        dataset.delete()


def test_a_model_that_is_not_registered(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        explain_retrieval(dataset, tiny_model(), k=2, protocol=REID)
        shown = Shown(dataset)
        assert shown.notes == []
        with_maps = shown.pictures
        shown.do("on_query_place", {"idx": [1, 1]})
        [note] = shown.notes
        assert "tiny\\-0" in note
        assert "is not registered on this machine" in note
        assert "Stored maps can still be looked at" in note
        # They can.
        shown.do("on_clear_point")
        assert shown.pictures == with_maps
        shown.do("on_channels")
        assert "is not registered" in shown.text("channels.text")
        assert not shown.has("channels.bars")
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


def test_signs_colors_and_opacity_change_the_pictures(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    seen = [shown.pictures]
    assert shown.choice("controls.colors")["type"]["values"] == list(SEQUENTIAL)
    for event, value in (
        ("on_opacity", 0.3),
        ("on_colors", "Cividis"),
        ("on_signed", True),
        ("on_colors", "PuOr_r"),
    ):
        shown.do(event, {"value": value})
        assert not set(shown.pictures.values()) & set(seen[-1].values()), event
        seen.append(shown.pictures)
    assert shown.choice("controls.colors")["type"]["values"] == list(DIVERGING)
    assert shown.text("bar").startswith("−")
    shown.do("on_opacity", {"value": 0.0})
    bare = shown.pictures
    shown.do("on_kind", {"value": "evidence"})
    assert shown.pictures == bare


def test_every_input_has_its_value_in_the_state(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    shown.do("on_filter")
    shown.do("on_kind", {"value": "contrast"})

    def inputs(properties: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name, one in properties.items():
            where = f"{path}.{name}" if path else name
            if one["type"]["name"] in ("Enum", "Boolean", "Number"):
                yield where, one["default"]
            elif one["type"]["name"] == "Object":
                yield from inputs(one["type"]["properties"], where)

    found = dict(inputs(shown.layout["type"]["properties"], ""))
    # Else the App calls their events by itself.
    assert len(found) > 12
    for path, value in found.items():
        assert pydash.get(shown.state, path) == value, path


def test_a_place_that_is_clicked(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    shown.do("on_kind", {"value": "evidence"})
    evidence = shown.pictures
    shown.do("on_query_place", {"idx": [6, 3]})
    assert shown.choice("controls.kind")["default"] == "point"
    assert shown.pictures[NEIGHBOR] != evidence[NEIGHBOR]
    # The query is shown without a map, and the place is framed on it.
    cells, frame = pydash.get(shown.data, "pair.query.stage.places")
    assert frame["visible"]
    assert (frame["x"][0], frame["y"][0]) == (3 / 8, 6 / 16)
    assert cells["z"] == [[0.0] * 8] * 16
    cells, frame = pydash.get(shown.data, "pair.neighbor.stage.places")
    assert not frame["visible"]
    assert np.abs(cells["z"]).max() > 0
    assert "with the marked place" in shown.text("unit")
    assert shown.has("actions.clear_point")
    shown.do("on_next_neighbor")
    assert_shows(shown, run, 0, 1)
    assert shown.has("actions.clear_point")
    # A place of the neighbor.
    shown.do("on_neighbor_place", {"idx": [2, 5]})
    frames = [
        pydash.get(shown.data, f"pair.{side}.stage.places")[1]["visible"]
        for side in ("query", "neighbor")
    ]
    assert frames == [False, True]
    shown.do("on_clear_point")
    assert shown.choice("controls.kind")["default"] == "evidence"
    assert not shown.has("actions.clear_point")
    shown.do("on_previous_neighbor")
    assert shown.pictures == evidence
    for nonsense in ({}, {"idx": 3}, {"idx": [1]}, {"idx": [-1, 0]}, {"idx": ["a", 1]}):
        shown.do("on_query_place", nonsense)
    assert shown.pictures == evidence


def test_why_not_the_true_match(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path, "sfam-missed")
    try:
        # The first image's name is that of the last one, which looks otherwise.
        names = [f"p{place}" for place in range(len(dataset))]
        names[-1] = names[0]
        dataset.set_values("identity", names)
        run = explain_retrieval(
            dataset, "demo", k=2, protocol=Protocol(identity_field="identity")
        )
        rank = int(run.pairs.rank[run.pairs.of_query(0)[-1]])
        assert rank > 2
        shown = Shown(dataset)
        caption = shown.at("strip.neighbor_2")["view"]["label"]
        assert caption.endswith(f"*true match, rank {rank}*")
        shown.do("on_why")
        assert shown.choice("controls.kind")["default"] == "contrast"
        text = shown.text("missed.missed_text")
        similarity = run.pairs.similarity[run.pairs.of_query(0)]
        assert f"It has rank {rank}, similarity {similarity[2]:.4f}" in text
        assert f"{similarity[0] - similarity[2]:.4f} less than the neighbor" in text
        assert "sets the query and its true match apart" in text
        for side in ("query", "true"):
            url = pydash.get(shown.data, f"missed.both.{side}.image")
            assert decoded(url).size == (125, 250)
        shown.do("on_why")
        assert not shown.has("missed")
        assert shown.choice("controls.kind")["default"] == "sfam"
        # Of the true match itself there is nothing to ask.
        shown.do("on_neighbor", {"place": 2})
        assert not shown.has("actions.why")
        shown.do("on_next_pair")
        assert not shown.has("actions.why")
    finally:
        dataset.delete()


def test_channels(crops: fo.Dataset) -> None:
    shown = Shown(crops)
    sfam = shown.pictures
    assert not shown.has("channels.bars")
    shown.do("on_channels")
    [bars] = pydash.get(shown.data, "channels.bars")
    assert len(bars["x"]) == 12
    name = bars["x"][2]
    shown.do("on_channel", {"x": name, "idx": 2})
    assert shown.state["pairs"]["channel"] == int(name.removeprefix("ch "))
    assert not set(sfam.values()) & set(shown.pictures.values())
    assert shown.at("channels.head.clear_channel")["view"]["label"] == (
        f"Leave channel {name.removeprefix('ch ')}"
    )
    [bars] = pydash.get(shown.data, "channels.bars")
    assert bars["marker"]["line"]["width"][2] > 0
    shown.do("on_clear_channel")
    assert shown.pictures == sfam


def test_regions(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    similarity = float(run.pairs.similarity[0])
    assert f"Similarity {similarity:.4f} by place" in shown.text("receipt.head.title")
    assert shown.text("receipt.legend").startswith("upper third ")
    assert shown.choice("receipt.head.region")["type"]["values"] == [
        "thirds",
        "person",
        "parts",
    ]
    shown.do("on_region", {"value": "person"})
    parts = shown.text("receipt.legend").split("\n\n")
    assert [part.split(" +")[0] for part in parts[:2]] == ["person", "background"]
    assert parts[2].startswith("not on the map ")
    bars = pydash.get(shown.data, "receipt.bars")
    assert sum(bar["x"][0] for bar in bars) == pytest.approx(similarity, abs=1e-5)
    shown.do("on_region", {"value": "thirds"})
    assert shown.text("receipt.legend").startswith("upper third ")


# --------------------------------------------------------------------------------------
# The queue
# --------------------------------------------------------------------------------------


def test_conditions_of_the_queue(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    assert not shown.has("conditions")
    shown.do("on_filter")
    cameras = shown.choice("conditions.query_camera")["type"]["values"]
    assert cameras == ["any", *sorted(set(run.items.cameras))]
    # Nothing was sought among suspects, so they are no condition and no order.
    assert "suspects" not in shown.choice("conditions.order")["type"]["values"]
    with pytest.raises(ValueError, match="unpack"):
        shown.choice("conditions.suspect")

    path = "conditions.ranks_1_83dcefb7"
    shown.do("on_condition", {"path": path, "value": "k"})
    shown.do("on_condition", {"path": "conditions.order_run_1", "value": "margin"})
    shown.do("on_condition", {"path": "conditions.min_similarity", "value": 0.9})
    spec = QueueSpec(ranks="k", order="margin", min_similarity=0.9)
    queue = build_queue(run, spec)
    assert shown.text("queue.of_text") == f"of {len(queue)}"
    assert shown.text("queue.reviewed_text") == f"0 of {len(queue)} reviewed"
    for place in range(4):
        assert shown.state["pairs"]["pair"] == queue[place]
        assert shown.choice("queue.place")["default"] == place + 1
        shown.do("on_next_pair")
    # With several pairs of a query there are steps from query to query too.
    assert shown.has("queue.next_query")
    camera = cameras[1]
    shown.do("on_condition", {"path": "conditions.query_camera_any_0", "value": camera})
    queue = build_queue(run, QueueSpec.from_dict(shown.state["pairs"]["spec"]))
    assert {run.items.cameras[item] for item in run.pairs.query[queue]} == {camera}
    shown.do("on_condition", {"path": "conditions.nonsense", "value": 1})
    shown.do("on_condition", {"path": "conditions.outcome_any_0", "value": "x"})
    assert shown.text("queue.of_text") == f"of {len(queue)}"

    shown.do("on_condition", {"path": "conditions.outcome_any_0", "value": "unlabeled"})
    assert shown.text("queue.of_text") == "of 0"
    assert shown.notes == [
        "No pair fulfills these conditions: change them under *Filter and order*."
    ]
    assert shown.has("pair")


def test_verdicts(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    queue = build_queue(run, QueueSpec())
    assert shown.text("queue.reviewed_text") == "0 of 36 reviewed"
    assert shown.at("verdicts.undo")["view"]["disabled"]
    shown.do("on_verdict", {"text": "wrong label"})
    # The App is told of the new field, once and last; the next pair is shown.
    assert shown.asked == [("reload_dataset", {})]
    assert shown.answers[-2:] == ["show_panel_output", "reload_dataset"]
    assert_shows(shown, run, 1, 0)
    assert shown.text("queue.reviewed_text") == "1 of 36 reviewed"
    shown.do("on_verdict", {"text": "look-alike"})
    assert shown.asked == []
    given = {pair: one.text for pair, one in get_verdicts(run).items()}
    assert given == {int(queue[0]): "wrong label", int(queue[1]): "look-alike"}
    crops.reload()
    [labels] = crops.limit(1).values("sfam_verdicts.classifications.label")
    assert labels == ["wrong label"]

    shown.do("on_previous_pair")
    assert shown.text("verdicts.verdict_text") == "**Verdict: look\\-alike**"
    # Own words, without going on.
    shown.do("on_advance", {"value": False})
    own = next(
        key for key in shown.at("verdicts")["type"]["properties"] if "own" in key
    )
    pydash.set_(shown.state, f"verdicts.{own}", "same coat")
    shown.do("on_own_verdict")
    assert_shows(shown, run, 1, 0)
    assert shown.text("verdicts.verdict_text") == "**Verdict: same coat**"
    # The field is another one, and empty, as it is when it has its name again.
    assert not shown.has(f"verdicts.{own}")
    shown.do("on_next_neighbor")
    shown.do("on_previous_neighbor")
    shown.do("on_next_neighbor")
    assert pydash.get(shown.state, f"verdicts.{own}") == ""
    shown.do("on_place", {"value": 2})
    shown.do("on_own_verdict")
    [(name, params)] = shown.asked
    assert (name, params["variant"]) == ("notify", "error")
    assert get_verdicts(run)[int(queue[1])].text == "same coat"

    for left in ({0: "wrong label", 1: "look-alike"}, {0: "wrong label"}, {}):
        shown.do("on_undo")
        given = {pair: one.text for pair, one in get_verdicts(run).items()}
        assert given == {int(queue[place]): text for place, text in left.items()}
    assert_shows(shown, run, 0, 0)
    shown.do("on_undo")
    [(name, params)] = shown.asked
    assert params["message"] == "there is no verdict of this panel to take back."


def test_pairs_leave_the_queue_of_what_is_open(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    shown.do("on_condition", {"path": "conditions.reviewed_any_0", "value": "open"})
    shown.do("on_next_pair")
    for count in (35, 34):
        shown.do("on_verdict", {"text": "fine"})
        assert shown.text("queue.of_text") == f"of {count}"
        # The place stays, for the next pair has moved up to it.
        assert shown.choice("queue.place")["default"] == 2
    queue = build_queue(run, QueueSpec())
    assert shown.state["pairs"]["pair"] == queue[3]
    shown.do("on_condition", {"path": "conditions.reviewed_open_0", "value": "done"})
    assert shown.text("queue.of_text") == "of 2"
    assert shown.text("queue.reviewed_text") == "2 of 2 reviewed"
    shown.do("on_undo")
    shown.do("on_undo")
    assert get_verdicts(run) == {}


def test_a_verdict_on_a_run_that_was_replaced(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        explain_retrieval(dataset, tiny_model(), k=1)
        shown = Shown(dataset)
        shown.do("on_verdict", {"text": "fine"})
        explain_retrieval(dataset, tiny_model(), k=2, overwrite=True)
        shown.do("on_undo")
        [(name, params)] = shown.asked
        assert name == "notify"
        assert "on a pair of another run" in params["message"]
    finally:
        dataset.delete()


def test_a_queue_from_another_panel(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    shown.do("on_next_pair")
    put_queue(context(crops), run, [7, 3, 50], "false <matches>")
    shown.do("on_change_view")
    assert shown.state["pairs"]["pair"] == 7
    assert shown.text("queue.of_text") == "of 3"
    assert shown.text("queue.handed_text") == "**false \\<matches\\>**"
    shown.do("on_next_pair")
    shown.do("on_next_pair")
    assert shown.state["pairs"]["pair"] == 50
    shown.do("on_leave")
    assert shown.text("queue.of_text") == "of 36"
    assert not shown.has("queue.handed_text")
    # It is not taken up again, but a newer one is, also by a panel that is opened.
    shown.do("on_change_view")
    assert shown.text("queue.of_text") == "of 36"
    put_queue(context(crops), run, [9], "one")
    assert Shown(crops).text("queue.of_text") == "of 1"
    put_queue(context(crops), run, [], "none")


def test_only_the_view(crops: fo.Dataset, run: Run) -> None:
    view = crops.skip(10).limit(3)
    shown = Shown(crops, view=view._serialize())
    assert shown.text("queue.of_text") == "of 3"
    assert run.pairs.query[shown.state["pairs"]["pair"]] == 10
    shown.do("on_in_view", {"value": False}, view=view._serialize())
    assert shown.text("queue.of_text") == "of 36"
    shown.do("on_in_view", {"value": True}, view=crops.limit(2)._serialize())
    assert shown.text("queue.of_text") == "of 2"
    assert run.pairs.query[shown.state["pairs"]["pair"]] == 0
    none = crops.match(fo.ViewField("identity") == "nobody")._serialize()
    shown.do("on_change_view", view=none)
    assert shown.text("queue.of_text") == "of 0"
    [note] = shown.notes
    assert note.startswith("No query of this queue is in the App's view")


# --------------------------------------------------------------------------------------
# The App
# --------------------------------------------------------------------------------------


def test_show_and_open(crops: fo.Dataset, run: Run) -> None:
    shown = Shown(crops)
    shown.do("on_next_neighbor")
    pair = shown.state["pairs"]["pair"]
    ids = [
        str(run.items.sample_ids[item])
        for item in (run.pairs.query[pair], run.pairs.gallery[pair])
    ]
    shown.do("on_show_in_grid")
    [(name, params)] = shown.asked
    assert name == "set_view"
    view = fo.DatasetView._build(crops, params["view"])
    assert view.values("id") == ids
    # That view is not to be the queue's.
    assert shown.state["pairs"]["in_view"] is False
    shown.do("on_change_view", view=params["view"])
    assert shown.text("queue.of_text") == "of 36 (beside it)"
    for event, wanted in (("on_open_query", ids[0]), ("on_open_neighbor", ids[1])):
        shown.do(event)
        [(name, params)] = shown.asked
        assert (name, params["id"]) == ("open_sample", wanted)
    # What was opened from here is followed by nothing.
    shown.do("on_change_current_sample", current_sample=ids[1])
    assert shown.state["pairs"]["pair"] == pair


def test_two_selected_samples(crops: fo.Dataset, run: Run) -> None:
    ids = crops.values("id")
    shown = Shown(crops)
    pair = int(run.pairs.of_query(3)[1])
    shown.do("on_change_selected", selected=[ids[3], ids[int(run.pairs.gallery[pair])]])
    assert_shows(shown, run, 3, 1)
    # Two of different people are no pair of the run; its model explains them.
    shown.do("on_change_selected", selected=[ids[0], ids[35]])
    assert shown.text("pair.query.caption").startswith("**First selected**")
    assert "similarity " in shown.text("pair.neighbor.caption")
    assert not shown.has("strip")
    assert not shown.has("verdicts")
    assert not shown.has("queue")
    assert shown.choice("controls.kind")["type"]["values"] == [
        "sfam",
        "evidence",
        "difference",
        "point",
    ]
    sfam = shown.pictures
    shown.do("on_neighbor_place", {"idx": [4, 4]})
    assert shown.pictures[QUERY] != sfam[QUERY]
    shown.do("on_clear_point")
    assert shown.pictures == sfam
    shown.do("on_channels")
    assert shown.has("channels.bars")
    shown.do("on_leave_selected")
    assert_shows(shown, run, 3, 1)


def test_two_selected_samples_without_a_run(
    make_dataset: Callable[..., fo.Dataset], crops: fo.Dataset
) -> None:
    dataset = make_dataset("two")
    dataset.add_samples(
        [fo.Sample(path) for path in crops.limit(4).values("filepath")], progress=False
    )
    ids = dataset.values("id")
    shown = Shown(dataset)
    shown.do("on_change_selected", selected=ids[:2])
    assert shown.notes == [
        "Choose the model that is to explain the two selected samples\\."
    ]
    assert "demo" in shown.choice("controls.model")["type"]["values"]
    shown.do("on_model", {"value": "demo"}, selected=ids[:2])
    assert decoded(shown.pictures[QUERY]).size == (210, 420)
    assert f"similarity {similarity_of(crops):.4f}" in shown.text(
        "pair.neighbor.caption"
    )
    assert shown.text("receipt.head.title").startswith("Similarity ")
    # A name that is no model's is not looked for anywhere.
    shown.do("on_model", {"value": "os:system"})
    assert not shown.has("pair")
    shown.do("on_change_selected", selected=ids[:1])
    assert shown.has("explain")


def similarity_of(crops: fo.Dataset) -> float:
    from fiftyone_sfam import explain_pair

    return explain_pair("demo", *crops.limit(2).values("filepath")).score


def test_detections_are_followed_and_shown(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    try:
        run = explain_retrieval(dataset, "demo", k=2, patches_field="detections")
        item = int(queries_of(run)[1])
        # Selecting a patch in a patches view makes it the query.
        patches = dataset.to_patches("detections")
        assert run.items.label_ids is not None
        label = str(run.items.label_ids[item])
        shown = Shown(dataset, view=patches._serialize(), selected=[label])
        assert_shows(shown, run, 1, 0)
        shown.do("on_show_in_grid")
        [(_, params)] = shown.asked
        view = fo.DatasetView._build(dataset, params["view"])
        pair = shown.state["pairs"]["pair"]
        assert set(view.values("id")) == {
            label,
            str(run.items.label_ids[run.pairs.gallery[pair]]),
        }
        # Two patches that are no pair of the run.
        stored = set(run.pairs.gallery[run.pairs.of_query(item)])
        others = [
            one
            for one in range(len(run.items))
            if one != item
            and one not in stored
            and item not in run.pairs.gallery[run.pairs.of_query(one)]
        ]
        other = str(run.items.label_ids[others[0]])
        # What is computed now is what was stored: the same crops were looked at.
        shown.do("on_kind", {"value": "difference"}, view=patches._serialize())
        assert shown.notes == []
        assert shown.has("bar")
        shown.do(
            "on_change_selected", view=patches._serialize(), selected=[label, other]
        )
        assert shown.text("pair.query.caption").startswith("**First selected**")
    finally:
        dataset.delete()
