"""Queues of pairs, handed from panel to panel through FiftyOne's own store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_sfam import explain_retrieval
from fiftyone_sfam.app.panel_state import STORE, get_queue, put_queue
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from operator_support import context
from worlds import fill, tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("queue"))
    yield explain_retrieval(dataset, tiny_model(), k=2)
    dataset.delete()


def test_the_last_queue_counts(run: Run) -> None:
    ctx = context(run.dataset)
    assert get_queue(ctx, run) is None
    first = put_queue(ctx, run, [5, 3, 5, 0], "false matches")
    assert (first.title, first.pairs) == ("false matches", (5, 3, 0))
    # Another context of the same dataset, as of another panel.
    assert get_queue(context(run.dataset), run) == first
    second = put_queue(context(run.dataset), run, range(4, 1, -1), "others")
    assert second.pairs == (4, 3, 2)
    assert second.created > first.created
    assert get_queue(ctx, run) == second
    # The first one's pairs are not kept: what is left is one queue.
    assert ctx.store(STORE)._store_service.count_keys(STORE) == 2


def test_an_empty_queue_is_a_queue(run: Run) -> None:
    ctx = context(run.dataset)
    put_queue(ctx, run, [], "nothing")
    found = get_queue(ctx, run)
    assert found is not None
    assert found.pairs == ()


def test_each_run_has_its_own(
    run: Run, make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    other = explain_retrieval(fill(make_dataset(), tmp_path), tiny_model(), k=1)
    put_queue(context(run.dataset), run, [1], "one")
    assert get_queue(context(other.dataset), other) is None
    second = explain_retrieval(run.dataset, tiny_model(), key="second", k=1)
    assert get_queue(context(run.dataset), second) is None


def test_pairs_that_there_are_not(run: Run) -> None:
    count = len(run.pairs)
    with pytest.raises(DataError, match=f"has {count} pairs, .* no pair {count} to"):
        put_queue(context(run.dataset), run, [0, count], "beyond")
    with pytest.raises(DataError, match="there is no pair -1"):
        put_queue(context(run.dataset), run, [-1], "before")
