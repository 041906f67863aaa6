"""The queue of the panel of pairs: what is in it, in which order, and where one is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, explain_retrieval, load_run
from fiftyone_sfam.app.pairs.page import FRESH_SECONDS, Page
from fiftyone_sfam.app.pairs.state import (
    PanelState,
    QueueSpec,
    build_queue,
    cameras_of,
    ids_in_view,
    next_query,
    place_of,
    place_of_query,
    suspect_kinds,
)
from fiftyone_sfam.app.panel_state import put_queue
from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict
from fiftyone_sfam.runs.run import Run
from operator_support import context
from pairs_support import queries_of
from worlds import fill, tiny_model

K = 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Fifteen images of five people, told apart badly."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("queue"), identities=5)
    # The second shot of each has the next one's name, so what is near it is false.
    names = [f"p{(item // 3 + (item % 3 == 1)) % 5}" for item in range(15)]
    dataset.set_values("identity", names)
    protocol = Protocol(identity_field="identity", camera_field="camera")
    explain_retrieval(dataset, tiny_model(3), k=K, protocol=protocol)
    yield dataset
    dataset.delete()


@pytest.fixture
def run(dataset: fo.Dataset) -> Run:
    return load_run(dataset, "sfam")


def by_hand(run: Run, keep) -> list[int]:
    """The pairs that a condition keeps, asked one by one."""
    pairs = run.pairs
    return [
        pair
        for pair in range(len(pairs))
        if keep(
            int(pairs.rank[pair]),
            int(pairs.outcome[pair]),
            float(pairs.similarity[pair]),
            run.items.cameras[pairs.query[pair]],
            run.items.cameras[pairs.gallery[pair]],
        )
    ]


def test_what_is_in_a_queue(run: Run) -> None:
    # The world has what the conditions tell apart.
    assert {int(one) for one in run.pairs.outcome} == {0, 1}
    assert run.pairs.rank.max() > K
    middle = float(np.median(run.pairs.similarity))
    for spec, keep in (
        (QueueSpec(), lambda rank, *_: rank == 1),
        (QueueSpec(ranks="k"), lambda rank, *_: rank <= K),
        (QueueSpec(ranks="all"), lambda *_: True),
        (
            QueueSpec(outcome="false match", ranks="k"),
            lambda r, o, *_: r <= K and o == 1,
        ),
        (QueueSpec(outcome="true match", ranks="all"), lambda r, o, *_: o == 0),
        (QueueSpec(outcome="unlabeled", ranks="all"), lambda *_: False),
        (
            QueueSpec(ranks="all", min_similarity=middle),
            lambda r, o, s, *_: s >= middle,
        ),
        (
            QueueSpec(ranks="all", max_similarity=middle),
            lambda r, o, s, *_: s <= middle,
        ),
        (
            QueueSpec(ranks="all", query_camera="c0", neighbor_camera="c2"),
            lambda r, o, s, one, two: (one, two) == ("c0", "c2"),
        ),
    ):
        expected = by_hand(run, keep)
        assert build_queue(run, spec).tolist() == expected, spec
    everything = build_queue(run, QueueSpec(ranks="all", order="false matches"))
    assert sorted(everything.tolist()) == list(range(len(run.pairs)))
    false = run.pairs.outcome[everything] == 1
    assert false.argmin() == false.sum()
    assert (np.diff(run.pairs.similarity[everything[: false.sum()]]) <= 0).all()
    assert cameras_of(run) == ("c0", "c1", "c2")


def test_what_is_reviewed(run: Run) -> None:
    done = frozenset({0, 3})
    spec = QueueSpec(ranks="all", reviewed="done")
    assert build_queue(run, spec, done).tolist() == [0, 3]
    left = build_queue(run, QueueSpec(ranks="all", reviewed="open"), done)
    assert left.tolist() == [p for p in range(len(run.pairs)) if p not in done]
    # Where it is not asked for, verdicts change nothing, and nothing is made anew.
    assert build_queue(run, QueueSpec(), done) is build_queue(run, QueueSpec())


def test_only_the_view(run: Run, dataset: fo.Dataset) -> None:
    assert ids_in_view(dataset) is None
    assert ids_in_view(dataset.view()) is None
    view = dataset.match(fo.ViewField("camera") == "c1")
    seen = ids_in_view(view)
    assert seen is not None
    assert seen.ids == set(view.values("id"))
    queue = build_queue(run, QueueSpec(), view=seen)
    assert len(queue) == 5
    assert {run.items.cameras[item] for item in run.pairs.query[queue]} == {"c1"}
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


def test_suspects(run: Run, dataset: fo.Dataset) -> None:
    assert suspect_kinds(run) == ()
    store_suspects(run, [("split identity", (4, 1)), ("near-duplicate", (7,))])
    try:
        assert suspect_kinds(run) == ("split identity", "near-duplicate")
        spec = QueueSpec(ranks="all", suspect="split identity")
        assert build_queue(run, spec).tolist() == [1, 4]
        ordered = build_queue(run, QueueSpec(ranks="all", order="suspects"))
        assert ordered[:3].tolist() == [4, 1, 7]
        assert len(ordered) == len(run.pairs)
    finally:
        run.results.delete("suspects")
    assert suspect_kinds(run) == ()


def store_suspects(run: Run, found: list[tuple[str, tuple[int, ...]]]) -> None:
    """Store findings as ``find_suspects`` does."""
    import json

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


def test_conditions_from_the_app() -> None:
    spec = QueueSpec(
        outcome="false match",
        ranks="k",
        min_similarity=0.25,
        query_camera="c0",
        reviewed="open",
        order="margin",
    )
    assert QueueSpec.from_dict(spec.to_dict()) == spec
    nonsense = {
        "outcome": "match",
        "ranks": 7,
        "min_similarity": float("nan"),
        "max_similarity": "0.5",
        "query_camera": ["c0"],
        "reviewed": "yes",
        "order": None,
        "__class__": "x",
    }
    assert QueueSpec.from_dict(nonsense) == QueueSpec()


def test_places(run: Run) -> None:
    queue = np.array([5, 2, 9])
    assert [place_of(queue, pair) for pair in (5, 9, 3)] == [0, 2, None]
    assert place_of(queue[:0], 5) is None
    everything = build_queue(run, QueueSpec(ranks="all"))
    first, second = (int(item) for item in queries_of(run)[:2])
    count = len(run.pairs.of_query(first))
    assert place_of_query(run, everything, second) == count
    assert place_of_query(run, everything, 10_000) is None
    assert next_query(run, everything, 0, 1) == count
    assert next_query(run, everything, count + 1, -1) == count - 1
    assert next_query(run, everything, 1, -1) == 1
    last = len(everything) - 1
    assert next_query(run, everything, last, 1) == last


# --------------------------------------------------------------------------------------
# Where to go
# --------------------------------------------------------------------------------------


def page(run: Run, state: PanelState | None = None, **request: object) -> Page:
    params = {"panel_id": "panel", "panel_state": {}}
    ctx = context(run.dataset, params, **request)
    return Page(ctx, run, state or PanelState())


def test_steps_of_the_queue(run: Run) -> None:
    first = page(run).settled()
    queue = page(run).queue
    assert (first.pair, first.place) == (queue[0], 0)
    second = page(run, first).stepped(1)
    assert (second.pair, second.place) == (queue[1], 1)
    assert page(run, second).stepped(-1).pair == queue[0]
    # No step leads out of the queue.
    assert page(run, first).stepped(-1).pair == queue[0]
    last = page(run, first).placed(10_000)
    assert last.pair == queue[-1]
    assert page(run, last).stepped(1) == last


def test_a_neighbor_beside_the_queue(run: Run) -> None:
    state = page(run, page(run).placed(3)).neighbor(1)
    queue = page(run).queue
    assert run.pairs.rank[state.pair] == 2
    assert state.place == 3
    assert page(run, state).stepped(1).pair == queue[4]
    assert page(run, state).stepped(-1).pair == queue[2]
    assert page(run, state).stepped_neighbor(-1).pair == queue[3]
    assert (
        page(run, state).neighbor(99).pair
        == run.pairs.of_query(int(run.pairs.query[queue[3]]))[-1]
    )


def test_a_verdict_takes_a_pair_out_of_the_queue(run: Run) -> None:
    spec = QueueSpec(reviewed="open")
    state = page(run, PanelState(spec=spec)).placed(2)
    before = page(run, state).queue
    pair = int(before[2])
    set_verdict(run, pair, "fine")
    try:
        now = page(run, state)
        assert len(now.queue) == len(before) - 1
        # The pair stays, and what followed it is the next one.
        assert (now.settled().pair, now.settled().place) == (pair, 2)
        assert now.stepped(1).pair == before[3]
        assert now.stepped(-1).pair == before[1]
    finally:
        restore_verdict(run, pair, None)


def test_clicks_are_forgotten_with_their_query(run: Run) -> None:
    from fiftyone_sfam.app.pairs.maps import Spot
    from fiftyone_sfam.app.pairs.state import with_spot

    state = with_spot(page(run).settled(), "evidence", Spot("query", 3, 1))
    assert (state.kind, state.before) == ("point", "evidence")
    # On another neighbor the place of the query is still asked about.
    assert page(run, state).stepped_neighbor(1).spot == Spot("query", 3, 1)
    onward = page(run, state).stepped(1)
    assert (onward.spot, onward.kind) == (None, "evidence")
    other = with_spot(page(run).settled(), "evidence", Spot("neighbor", 3, 1))
    assert page(run, other).stepped_neighbor(1).spot is None
    why = page(run, PanelState(kind="sfam")).with_why()
    assert (why.kind, why.why) == ("contrast", True)
    onward = page(run, why).stepped(1)
    assert (onward.kind, onward.why) == ("sfam", False)


def test_following(run: Run, dataset: fo.Dataset) -> None:
    ids = dataset.values("id")
    state = page(run).settled()
    found = page(run, state, selected=[ids[7]]).following()
    assert found is not None
    assert run.pairs.query[found.pair] == 7
    assert found.place == 7
    assert page(run, state, selected=[]).following() is None
    assert page(run, state, selected=["0" * 24]).following() is None
    # A pair of the run, whichever of the two was selected first.
    pair = int(run.pairs.of_query(4)[1])
    one, two = ids[4], ids[int(run.pairs.gallery[pair])]
    found = page(run, state, selected=[one, two]).following()
    assert found is not None
    assert found.pair == pair
    # Two that are no pair of the run are explained on their own.
    others = [
        item
        for item in range(15)
        if item != 4
        and item not in run.pairs.gallery[run.pairs.of_query(4)]
        and 4 not in run.pairs.gallery[run.pairs.of_query(item)]
    ]
    found = page(run, state, selected=[one, ids[others[0]]]).following()
    assert found is not None
    assert found.selected == (one, ids[others[0]])
    back = page(run, found, selected=[]).following()
    assert back is not None
    assert back.selected == ()


def test_the_open_sample(run: Run, dataset: fo.Dataset) -> None:
    ids = dataset.values("id")
    state = page(run).settled()
    found = page(run, state, current_sample=ids[9], selected=[ids[2]]).following()
    assert found is not None
    assert run.pairs.query[found.pair] == 9
    # Either image of the pair may be opened from the panel: the pair stays.
    for item in (run.pairs.query[found.pair], run.pairs.gallery[found.pair]):
        opened = ids[int(item)]
        assert page(run, found, current_sample=opened).following() is None
    assert page(run, state, current_sample="0" * 24).following() is None


def test_a_queue_that_was_handed_over(
    run: Run, dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(dataset)
    handed = put_queue(ctx, run, [6, 2, 4], "by hand")
    state = page(run).taking_up(opening=True)
    assert state is not None
    assert (state.pair, state.place, state.handed) == (6, 0, handed.created)
    # The same one is not taken up again, not even when it was left.
    assert page(run, state).taking_up(opening=False) is None
    assert page(run, state).queue.tolist() == [6, 2, 4]
    assert page(run, state).stepped(2).pair == 4
    left = page(run, state).filtered(state.spec)
    assert left.handed is None
    old = page(run, PanelState())
    assert old.taking_up(opening=True) is not None
    monkeypatch.setattr(time, "time", lambda: handed.created + FRESH_SECONDS + 1)
    # A queue from long ago is left alone when the panel is opened, also later.
    found = page(run).opened()
    assert (found.handed, found.known) == (None, handed.created)
    assert page(run, found).taking_up(opening=False) is None


def test_a_view_moves_the_pair_into_it(run: Run, dataset: fo.Dataset) -> None:
    view = dataset.skip(6).limit(2)
    state = page(run, PanelState(known=1e12)).settled()
    inside = page(run, state, view=view._serialize()).viewed()
    assert inside is not None
    assert run.pairs.query[inside.pair] == 6
    assert page(run, inside, view=view._serialize()).queue.size == 2
    apart = page(run, replace(state, in_view=False), view=view._serialize())
    assert apart.viewed() is None
    kept = apart.keeping_to_view(True)
    assert kept is not None
    assert (run.pairs.query[kept.pair], kept.in_view) == (6, True)
    assert apart.keeping_to_view(False) is None
    # A view of nothing leaves the pair where it is.
    none = dataset.limit(1).match(fo.ViewField("camera") == "nowhere")
    empty = page(run, state, view=none._serialize())
    assert empty.queue.size == 0
    assert empty.settled().pair == state.pair


def test_patches_of_the_view(tmp_path: Path) -> None:
    from worlds import fill_frames

    dataset = fill_frames(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=1, patches_field="people")
        patches = dataset.to_patches("people").skip(5).limit(3)
        seen = ids_in_view(patches)
        queue = build_queue(run, QueueSpec(), view=seen)
        assert run.items.label_ids is not None
        labels = run.items.label_ids[run.pairs.query[queue]]
        # Patches are queries by themselves, not with all of their frame.
        assert set(labels) == set(patches.values("id"))
    finally:
        dataset.delete()
