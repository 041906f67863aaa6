"""From the App's samples to the pairs of a run, and back into the grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, explain_retrieval, load_run
from fiftyone_sfam.app.pairs.places import stored_pair
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent
from worlds import fill, fill_frames, tiny_model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Twelve images, of which the first shots are the queries."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("places"))
    protocol = Protocol(split_field="split")
    explain_retrieval(dataset, tiny_model(), k=2, protocol=protocol)
    yield dataset
    dataset.delete()


@pytest.fixture
def run(dataset: fo.Dataset) -> Run:
    return load_run(dataset, "sfam")


def test_a_sample_is_found(run: Run, dataset: fo.Dataset) -> None:
    component, ids = PairsComponent(dataset), dataset.values("id")
    queries = np.unique(run.pairs.query).tolist()
    assert queries == [0, 3, 6, 9]
    for item in queries:
        found = component.ask("locate", sample=ids[item])["pair"]
        assert (run.pairs.query[found], run.pairs.rank[found]) == (item, 1)
    # What is no query has no pair of its own.
    assert component.ask("locate", sample=ids[1]) == {"pair": None}
    for unknown in ("0" * 24, "", None, "../x", "x" * 10_000):
        assert component.ask("locate", sample=unknown) == {"pair": None}
    assert "give a text" in component.problem("locate", sample=["a"])


def test_what_was_opened_from_the_pair_stays(run: Run, dataset: fo.Dataset) -> None:
    component, ids = PairsComponent(dataset), dataset.values("id")
    shown = int(run.pairs.of_query(3)[1])
    neighbor = int(run.pairs.gallery[shown])
    for item in (3, neighbor):
        found = component.ask("locate", sample=ids[item], shown=shown)
        assert found == {"pair": shown}
    found = component.ask("locate", sample=ids[6], shown=shown)["pair"]
    assert run.pairs.query[found] == 6
    found = component.ask("locate", sample=ids[6], shown=10**9)["pair"]
    assert run.pairs.query[found] == 6
    assert "from 0" in component.problem("locate", sample=ids[6], shown=-1)


def test_the_pair_of_two_samples(run: Run, dataset: fo.Dataset) -> None:
    ids = dataset.values("id")
    pair = int(run.pairs.of_query(3)[1])
    one, two = ids[3], ids[int(run.pairs.gallery[pair])]
    # Whichever of the two was selected first.
    assert stored_pair(run, one, two) == stored_pair(run, two, one) == pair
    others = set(range(12)) - {3} - set(run.pairs.gallery[run.pairs.of_query(3)])
    assert stored_pair(run, one, ids[min(others)]) is None
    assert stored_pair(run, one, "0" * 24) is None


def test_shown_in_the_grid_and_opened(run: Run, dataset: fo.Dataset) -> None:
    component = PairsComponent(dataset)
    pair = int(run.pairs.of_query(6)[1])
    ids = [
        str(run.items.sample_ids[item])
        for item in (run.pairs.query[pair], run.pairs.gallery[pair])
    ]
    assert component.ask("show", pair=pair, what="grid") == {}
    [(name, params)] = component.asked
    assert name == "set_view"
    assert fo.DatasetView._build(dataset, params["view"]).values("id") == ids
    for what, sample_id in zip(("query", "neighbor"), ids, strict=True):
        assert component.ask("show", pair=pair, what=what) == {}
        [(name, params)] = component.asked
        assert (name, params["id"]) == ("open_sample", sample_id)
    for params, problem in (
        ({"pair": pair, "what": "all"}, "give one of grid, query, neighbor."),
        ({"pair": pair}, "give one of grid, query, neighbor."),
        ({"pair": 10**6, "what": "grid"}, "there is no pair 1000000."),
        ({"what": "grid"}, "there is no pair -1."),
        ({"pair": "0", "what": "grid"}, "give a whole number from 0."),
    ):
        assert problem in component.problem("show", **params)


def test_a_deleted_sample_is_not_opened(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=1)
        component = PairsComponent(dataset)
        dataset.delete_samples([str(run.items.sample_ids[0])])
        pair = int(run.pairs.of_query(0)[0])
        for what in ("grid", "query"):
            message = component.problem("show", pair=pair, what=what)
            assert message == "The sample was deleted."
        component.ask("show", pair=pair, what="neighbor")
    finally:
        dataset.delete()


def test_detections(tmp_path: Path) -> None:
    dataset = fill_frames(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=2, patches_field="people")
        assert run.items.label_ids is not None
        component = PairsComponent(dataset)
        labels = run.items.label_ids
        item = 4
        # A patch is its own query; of a frame, it is the first of its people.
        found = component.ask("locate", sample=str(labels[item]))["pair"]
        assert run.pairs.query[found] == item
        frame = str(run.items.sample_ids[item])
        found = component.ask("locate", sample=frame)["pair"]
        assert run.pairs.query[found] == min(run.items.indices_of_sample(frame))
        pair = int(run.pairs.of_query(item)[1])
        component.ask("show", pair=pair, what="grid")
        [(_, params)] = component.asked
        view = fo.DatasetView._build(dataset, params["view"])
        assert set(view.values("id")) == {
            str(labels[item]),
            str(labels[run.pairs.gallery[pair]]),
        }
        component.ask("show", pair=pair, what="query")
        assert component.asked[0][1]["id"] == frame
        [row] = component.ask("rows", pairs=[pair])["rows"]
        assert [one["full"] for one in row["pictures"]] == [[8, 16]] * 2
    finally:
        dataset.delete()
