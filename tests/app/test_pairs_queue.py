"""The queue of the component: what is in it, in which order, and its rows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fiftyone_sfam import Protocol, explain_pairs, explain_retrieval, load_run
from fiftyone_sfam.app.pairs import pictures as pictures_module
from fiftyone_sfam.app.pairs import queue as queue_module
from fiftyone_sfam.app.pairs.queue import (
    Spec,
    build_queue,
    ids_in_view,
    suspect_kinds,
)
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import restore_verdicts, set_verdict, set_verdicts
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent, decode, names
from worlds import fill, fill_frames, person, tiny_model

K = 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Fifteen images of five people, told apart badly."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("queue"), identities=5)
    # The second shot of each has the next one's name, so what is near it is false.
    labels = [f"p{(item // 3 + (item % 3 == 1)) % 5}" for item in range(15)]
    dataset.set_values("identity", labels)
    protocol = Protocol(identity_field="identity", camera_field="camera")
    explain_retrieval(dataset, tiny_model(3), k=K, protocol=protocol)
    yield dataset
    dataset.delete()


@pytest.fixture
def run(dataset: fo.Dataset) -> Run:
    return load_run(dataset, "sfam")


def by_hand(run: Run, keep: Callable[..., bool]) -> list[int]:
    """The pairs that a condition keeps, asked one by one."""
    pairs, items = run.pairs, run.items
    return [
        pair
        for pair in range(len(pairs))
        if keep(
            int(pairs.rank[pair]),
            int(pairs.outcome[pair]),
            float(pairs.similarity[pair]),
            items.cameras[pairs.query[pair]],
            items.cameras[pairs.gallery[pair]],
            items.identities[pairs.query[pair]],
        )
    ]


def test_conditions(run: Run, dataset: fo.Dataset) -> None:
    # The world has what the conditions tell apart.
    assert {int(one) for one in run.pairs.outcome} == {0, 1}
    assert run.pairs.rank.max() > K
    middle = float(np.median(run.pairs.similarity))
    component = PairsComponent(dataset)
    cases: list[tuple[dict[str, Any], Callable[..., bool]]] = [
        ({}, lambda rank, *_: rank == 1),
        ({"ranks": "k"}, lambda rank, *_: rank <= K),
        ({"ranks": "all"}, lambda *_: True),
        (
            {"outcome": "false match", "ranks": "k"},
            lambda r, o, *_: r <= K and o == 1,
        ),
        ({"outcome": "true match", "ranks": "all"}, lambda r, o, *_: o == 0),
        ({"outcome": "unlabeled", "ranks": "all"}, lambda *_: False),
        ({"ranks": "all", "min_similarity": middle}, lambda r, o, s, *_: s >= middle),
        ({"ranks": "all", "max_similarity": middle}, lambda r, o, s, *_: s <= middle),
        ({"min_similarity": 1}, lambda r, o, s, *_: r == 1 and s >= 1),
        (
            {"ranks": "all", "query_camera": "c0", "neighbor_camera": "c2"},
            lambda r, o, s, one, two, _: (one, two) == ("c0", "c2"),
        ),
        ({"query_camera": "c9"}, lambda *_: False),
        (
            {"ranks": "all", "identity": "p1"},
            lambda r, o, s, one, two, name: name == "p1",
        ),
    ]
    for spec, keep in cases:
        expected = by_hand(run, keep)
        found, answer = component.queue(**spec)
        assert found == expected, spec
        assert decode(answer["queries"]).tolist() == run.pairs.query[expected].tolist()
        assert answer["pairs"]["dtype"] == "i4"
        assert answer["reviewed"] == 0
        if expected:
            assert answer["note"] is None
        else:
            assert answer["note"] == "No pair meets these conditions: relax them."


def test_orders(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    assert names(component.opened["orders"]) == [
        "run",
        "false matches",
        "true matches",
        "margin",
    ]
    pairs = run.pairs
    everything = list(range(len(pairs)))
    ordered = {
        order: component.queue(ranks="all", order=order)[0]
        for order in names(component.opened["orders"])
    }
    assert ordered["run"] == everything
    assert all(sorted(queue) == everything for queue in ordered.values())
    for order, outcome, sign in (("false matches", 1, -1), ("true matches", 0, 1)):
        queue = ordered[order]
        first = pairs.outcome[queue] == outcome
        assert first.argmin() == first.sum() > 1
        assert (np.diff(sign * pairs.similarity[queue[: first.sum()]]) >= 0).all()
    margins = []
    for pair in ordered["margin"]:
        of_query = pairs.of_query(int(pairs.query[pair]))
        true = of_query[pairs.outcome[of_query] == 0]
        best = pairs.similarity[true[0]] if len(true) else np.inf
        margins.append(best - pairs.similarity[pair])
    assert margins == sorted(margins)
    assert margins[0] < 0


def test_what_is_reviewed(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    everything = list(range(len(run.pairs)))
    set_verdicts(run, [0, 3], "fine")
    set_verdict(run, 5, "same <b>coat</b>")
    try:
        for reviewed, expected, done in (
            ("done", [0, 3, 5], 3),
            ("open", [pair for pair in everything if pair not in (0, 3, 5)], 0),
            ("fine", [0, 3], 2),
            ("same <b>coat</b>", [5], 1),
            ("occlusion", [], 0),
        ):
            queue, answer = component.queue(ranks="all", reviewed=reviewed)
            assert queue == expected
            assert answer["reviewed"] == done
        assert component.queue(ranks="all")[1]["reviewed"] == 3
        # Every verdict that was given can be asked for.
        offered = names(PairsComponent(dataset).opened["reviewed"])
        assert offered[:3] == ["open", "done", "fine"]
        assert offered[-1] == "same <b>coat</b>"
    finally:
        restore_verdicts(run, {0: None, 3: None, 5: None})
    # Where it is not asked for, verdicts change nothing, and nothing is made anew.
    assert build_queue(run, Spec(), {0: "fine"}) is build_queue(run, Spec())


def test_only_the_view(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    view = dataset.match(fo.ViewField("camera") == "c1")
    request = {"view": view._serialize()}
    queue, _ = component.queue(request, in_view=True)
    assert len(queue) == 5
    assert {run.items.cameras[item] for item in run.pairs.query[queue]} == {"c1"}
    assert len(component.queue(request)[0]) == 15
    assert len(component.queue({"view": []}, in_view=True)[0]) == 15
    none = {"view": dataset.match(fo.ViewField("camera") == "c9")._serialize()}
    queue, answer = component.queue(none, in_view=True)
    assert queue == []
    assert answer["note"].startswith("No query of this queue is in the App's view")
    _, answer = component.queue(none, in_view=True, identity="nobody")
    assert answer["note"] == "No pair meets these conditions: relax them."


def test_a_view_is_read_again_when_a_sample_changes(dataset: fo.Dataset) -> None:
    assert ids_in_view(dataset) is None
    assert ids_in_view(dataset.view()) is None
    view = dataset.match(fo.ViewField("camera") == "c1")
    seen = ids_in_view(view)
    assert seen is not None
    assert seen.ids == set(view.values("id"))
    # The same view is the same object, until a sample changes.
    same = dataset.match(fo.ViewField("camera") == "c1")
    assert ids_in_view(same) is seen
    sample = dataset.first()
    sample.camera = "c1"
    sample.save()
    try:
        changed = ids_in_view(same)
        assert changed is not None
        assert changed.ids == seen.ids | {sample.id}
    finally:
        sample.camera = "c0"
        sample.save()


def test_patches_of_the_view(tmp_path: Path) -> None:
    dataset = fill_frames(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=1, patches_field="people")
        assert run.items.label_ids is not None
        component = PairsComponent(dataset)
        patches = dataset.to_patches("people").limit(4)
        queue, _ = component.queue({"view": patches._serialize()}, in_view=True)
        labels = run.items.label_ids[run.pairs.query[queue]]
        # Patches are queries by themselves, not with all of their frame.
        assert set(labels) == set(patches.values("id"))
        # Of a view of frames, all people of these frames are.
        frames = dataset.limit(2)
        queue, _ = component.queue({"view": frames._serialize()}, in_view=True)
        samples = run.items.sample_ids[run.pairs.query[queue]]
        assert set(samples) == set(frames.values("id"))
        assert len(queue) == 6
    finally:
        dataset.delete()


def test_suspects(run: Run, dataset: fo.Dataset) -> None:
    assert suspect_kinds(run) == ()
    store_suspects(
        run, [("split identity", (4, 1)), ("near-duplicate", (7,)), ("hub", ())]
    )
    try:
        assert suspect_kinds(run) == ("split identity", "near-duplicate")
        component = PairsComponent(dataset)
        assert names(component.run["suspects"]) == ["split identity", "near-duplicate"]
        assert "suspects" in names(component.opened["orders"])
        queue, _ = component.queue(ranks="all", suspect="split identity")
        assert queue == [1, 4]
        ordered, _ = component.queue(ranks="all", order="suspects")
        assert ordered[:3] == [4, 1, 7]
        assert len(ordered) == len(run.pairs)
        assert component.queue(ranks="all", suspect="nothing")[0] == []
    finally:
        run.results.delete("suspects")
    assert suspect_kinds(run) == ()


def store_suspects(run: Run, found: list[tuple[str, tuple[int, ...]]]) -> None:
    """Store findings as ``find_suspects`` does."""
    findings = [
        {
            "kind": kind,
            "score": 0.9,
            "sample_ids": [],
            "items": [],
            "pairs": list(pairs),
            "identities": [],
            "evidence": {},
            "sentence": "",
        }
        for kind, pairs in found
    ]
    config = {
        "kinds": ["split identity", "near-duplicate"],
        "min_score": 0.5,
        "region_field": None,
        "split_field": None,
        "limits": [],
    }
    arrays = {
        "findings": np.frombuffer(json.dumps(findings).encode(), dtype=np.uint8),
        "label_scores": np.zeros(len(run.items), dtype=np.float32),
    }
    run.results.save("suspects", config, arrays)


def test_conditions_that_make_no_sense(dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    for spec, problem in (
        ({"outcome": "match"}, "give one of true match, false match, unlabeled, true"),
        ({"ranks": 7}, "give one of 1, k, all."),
        ({"order": "random"}, "give one of run, false matches"),
        ({"min_similarity": float("nan")}, "give a finite number."),
        ({"max_similarity": "0.5"}, "give a finite number."),
        ({"max_similarity": float("-inf")}, "give a finite number."),
        ({"query_camera": ["c0"]}, "give a text of at most 10000 characters."),
        ({"identity": "x" * 10_001}, "give a text of at most 10000 characters."),
        ({"reviewed": {"$ne": 1}}, "give a text of at most 10000 characters."),
        ({"in_view": "yes"}, "give true or false."),
    ):
        [name] = spec
        message = component.problem("queue", spec=spec)
        assert message.startswith(f"{name} is ".capitalize()), message
        assert problem in message
        assert len(message) < 200
    assert component.problem("queue", spec=[1]) == (
        "Spec is [1]; give the conditions of a queue."
    )
    # Nulls, empty texts and names that there are not leave the conditions open.
    fields = dict.fromkeys(Spec.model_fields)
    assert component.queue(**fields, __class__="x")[0] == component.queue()[0]
    assert component.queue(outcome="", identity="")[0] == component.queue()[0]
    assert component.ask("queue") == component.ask("queue", spec=None)


def test_a_queue_that_is_too_long(
    run: Run, dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_QUEUE", 4)
    queue, answer = PairsComponent(dataset).queue(order="true matches")
    assert queue == build_queue(run, Spec(order="true matches"))[:4].tolist()
    assert len(decode(answer["queries"])) == 4
    assert answer["note"].startswith("The first 4 of 15 pairs are listed")


def test_long_labels_are_asked_for_as_they_are_shown(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path, identities=3, shots=2)
    try:
        dataset.set_values("identity", ["人" * 400 + str(i // 2) for i in range(6)])
        dataset.set_values("camera", ["<b>" + "c" * 400, "c1"] * 3)
        protocol = Protocol(identity_field="identity", camera_field="camera")
        explain_retrieval(dataset, tiny_model(), k=1, protocol=protocol)
        component = PairsComponent(dataset)
        [row] = component.ask("rows", pairs=[0])["rows"]
        assert row["identity"] == "人" * 199 + "…"
        assert row["camera"] == "<b>" + "c" * 196 + "…"
        assert component.run["cameras"] == [row["camera"], "c1"]
        assert len(component.queue(identity=row["identity"])[0]) == 6
        queue, _ = component.queue(query_camera=row["camera"], neighbor_camera="c1")
        run = load_run(dataset, "sfam")
        cameras = np.array([str(one)[:2] for one in run.items.cameras])
        assert queue
        assert set(cameras[run.pairs.query[queue]]) == {"<b"}
        assert set(cameras[run.pairs.gallery[queue]]) == {"c1"}
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------


def decoded(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    return image.convert("RGB")


def test_rows(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    set_verdict(run, 9, "look-alike")
    try:
        rows = component.ask("rows", pairs=[9, 2, 9])["rows"]
    finally:
        restore_verdicts(run, {9: None})
    assert [row["pair"] for row in rows] == [9, 2]
    pairs, items = run.pairs, run.items
    for row, verdict in zip(rows, ("look-alike", None), strict=True):
        pair = row["pair"]
        query, neighbor = int(pairs.query[pair]), int(pairs.gallery[pair])
        assert row["rank"] == pairs.rank[pair]
        assert row["similarity"] == pairs.similarity[pair]
        assert row["list_score"] is None
        assert row["outcome"] == OUTCOMES[pairs.outcome[pair]]
        assert (row["identity"], row["camera"]) == (
            items.identities[query],
            items.cameras[query],
        )
        assert row["neighbor_identity"] == items.identities[neighbor]
        assert row["verdict"] == verdict
        for item, picture in zip((query, neighbor), row["pictures"], strict=True):
            assert picture["problem"] is None
            assert picture["full"] == [8, 16]
            small = decoded(picture["url"])
            assert small.size == (picture["width"], picture["height"])
            drawn = np.asarray(small.resize((8, 16)), float)
            there = np.asarray(person(item // 3, item % 3), float)
            # Of the right person: the others' colors are further away.
            assert np.abs(drawn.mean((0, 1)) - there.mean((0, 1))).max() < 6
    assert component.ask("rows", pairs=[]) == {"rows": []}


def test_rows_that_there_are_not(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    count = len(run.pairs)
    most = "give a list of at most 60 pairs, each a whole number from 0."
    for pairs, problem in (
        ([count], f"The run 'sfam' has {count} pairs, numbered from 0; there is no"),
        ([0, 10**30], "there is no pair 1000000000000"),
        ([-1], most),
        ([0] * 61, most),
        ([0.5], most),
        (["0"], most),
        ([True], most),
        ([None], most),
        ("0", most),
        (0, most),
        ({"$gt": 0}, most),
    ):
        message = component.problem("rows", pairs=pairs)
        assert problem in message
        assert len(message) < 200
    assert len(component.ask("rows", pairs=list(range(count)))["rows"]) == count
    assert component.ask("rows", pairs=[3.0])["rows"][0]["pair"] == 3


def test_pictures_of_odd_shapes(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset("shapes")
    sizes = [(2, 1), (250, 250), (2000, 2), (2, 2000), (500, 20)]
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, (20 * number, 90, 40)).save(path)
        dataset.add_sample(fo.Sample(str(path)))
    run = explain_retrieval(dataset, tiny_model(), k=1)
    assert run.skipped == ()
    rows = PairsComponent(dataset).ask("rows", pairs=list(range(5)))["rows"]
    for row in rows:
        assert (row["identity"], row["camera"], row["outcome"]) == (
            None,
            None,
            "unlabeled",
        )
        picture = row["pictures"][0]
        width, height = picture["full"]
        assert (width, height) == sizes[run.pairs.query[row["pair"]]]
        assert 1 <= picture["width"] <= 96
        assert 1 <= picture["height"] <= 96
        # Never enlarged, and as large as it may be otherwise.
        scale = min(1, 96 / width, 96 / height)
        assert picture["width"] == max(1, round(scale * width))
        assert picture["height"] == max(1, round(scale * height))


def test_broken_and_missing_images(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset("broken")
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        person(number).save(paths[-1])
        dataset.add_sample(fo.Sample(str(paths[-1])))
    vectors = explain_retrieval(dataset, tiny_model(), k=4).embeddings()
    dataset.set_values("vectors", list(vectors))
    paths[2].write_bytes(b"no image")
    run = explain_retrieval(
        dataset, tiny_model(), k=4, embeddings="vectors", overwrite=True
    )
    assert len(run.skipped) == 1
    component = PairsComponent(dataset)
    pairs = run.pairs.of_query(2).tolist()
    assert len(pairs) == 4
    rows = component.ask("rows", pairs=pairs)["rows"]
    for row in rows:
        broken, fine = row["pictures"]
        assert broken["url"] == ""
        assert broken["full"] == [0, 0]
        assert broken["problem"].startswith("The file cannot be read as an image: ")
        assert str(tmp_path) not in broken["problem"]
        assert decoded(fine["url"]).size == (fine["width"], fine["height"])
    # Put right, it is read again; gone, that is said.
    person(2).save(paths[2])
    [row] = component.ask("rows", pairs=pairs[:1])["rows"]
    assert row["pictures"][0]["problem"] is None
    paths[2].unlink()
    [row] = component.ask("rows", pairs=pairs[:1])["rows"]
    assert row["pictures"][0]["problem"].startswith("The file does not exist: 2.png.")
    dataset.delete_samples([dataset.values("id")[2]])
    [row] = component.ask("rows", pairs=pairs[:1])["rows"]
    assert row["pictures"][0]["problem"] == "The sample was deleted."


def test_the_own_scores_of_a_list(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        ids = dataset.values("id")
        table = pd.DataFrame(
            {
                "query": [ids[0], ids[0], ids[5]],
                "gallery": [ids[1], ids[2], ids[4]],
                "score": [0.25, float("nan"), -12.5],
            }
        )
        run = explain_pairs(dataset, tiny_model(), table, key="list")
        component = PairsComponent(dataset, "list")
        pairs = run.given.pair.tolist()
        rows = component.ask("rows", pairs=pairs)["rows"]
        assert [row["list_score"] for row in rows] == [0.25, None, -12.5]
        neighbors = component.ask("query", pair=pairs[0])["neighbors"]
        scores = {one["pair"]: one["list_score"] for one in neighbors}
        assert scores == {pairs[0]: 0.25, pairs[1]: None}
        # Beside the similarity of the model, which is another number.
        assert [row["similarity"] for row in rows] == run.pairs.similarity[
            pairs
        ].tolist()
    finally:
        dataset.delete()


def test_memory_is_bounded() -> None:
    for module in (queue_module, pictures_module):
        caches = [one for one in vars(module).values() if hasattr(one, "cache_info")]
        assert caches
        assert all(0 < one.cache_info().maxsize <= 512 for one in caches)
