"""The page Compare in the real App, and both models' maps on one pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest

from app_support import Console, choose, keep_screenshot, painted, until
from audit_support import (
    Handed,
    click_mark,
    close_panels,
    figure,
    open_audit,
    turn_to,
    wait_for_count,
)
from fiftyone_sfam import Protocol, Run, explain_retrieval, load_comparison
from fiftyone_sfam.audit.comparison.display import BANDS, bands, sentences
from fiftyone_sfam.audit.comparison.result import same_pair
from viewer_support import Viewer
from worlds import small_crops, tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    """The demo network, and one of random weights."""
    dataset = small_crops(tmp_path_factory.mktemp("compared"))
    options = {"k": 3, "protocol": Protocol("identity", camera_field="camera")}
    yield (
        explain_retrieval(dataset, "demo", key="demo", **options),
        explain_retrieval(dataset, tiny_model(), key="tiny", **options),
    )
    dataset.delete()


def test_two_models_are_compared(
    runs: tuple[Run, Run], open_dataset: Callable[[fo.Dataset], Page], page: Page
) -> None:
    console, handed = Console(page), Handed(page)
    demo, tiny = runs
    demo.results.delete_all()
    open_dataset(demo.dataset)
    handed.listen()
    panel = open_audit(page)
    turn_to(panel, "Compare")
    panel.get_by_role("button", name="Compare", exact=True).click()
    choose(page, "Compared with", "tiny")
    execute = page.get_by_role("button", name="Execute").first
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.get_by_role("button", name="Close", exact=True).click()
    # The panel shows the comparison by itself.
    ranks = figure(panel, "Nearest true match")
    demo.dataset.reload()
    compared = load_comparison(demo, tiny)
    assert compared is not None
    assert compared.field == "person"
    first, *_ = sentences(compared)
    panel.get_by_text(first).wait_for()
    # The first of those that changed most whose first neighbor is stored in both runs.
    pair, number, query = next(
        (pair, number, str(demo.items.ids[item]))
        for item in compared.query[compared.changed, 0].tolist()
        for pair in [int(demo.pairs.of_query(item)[0])]
        for number in [same_pair(demo, pair, tiny)]
        if number is not None
    )
    panel.get_by_text(query).first.wait_for()
    keep_screenshot(page, "audit_compare")

    # A cell of the ranks: queries that the demo network gets right, and the other not.
    places = bands(compared)
    second = int(np.bincount(places[places[:, 0] == 0, 1])[1:].argmax()) + 1
    rows = np.flatnonzero((places == (0, second)).all(axis=1))
    assert len(rows) > 0
    cells = ranks.locator(".heatmaplayer image")
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] * 0.5 / len(BANDS)
    y = box["y"] + box["height"] * (second + 0.5) / len(BANDS)
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    pairs = handed.pairs(demo)
    items = compared.query[rows, 0]
    assert sorted(demo.pairs.query[pairs].tolist()) == sorted(items.tolist())
    assert (demo.pairs.rank[pairs] == 1).all()
    wait_for_count(page, len(rows))

    # A row of the queries: its pair, with the maps of either model.
    click_mark(page, panel.get_by_text(query).first)
    assert handed.pairs(demo) == [pair]
    viewer = Viewer(page)
    viewer.shows(pair)
    choice = viewer.root.get_by_label("Map", exact=True)
    choice.select_option(label="evidence")
    viewer.shows(pair, kind="evidence")
    own = painted(page, viewer.one("query"))
    choice.select_option(label="evidence in 'tiny'")
    viewer.shows(pair, kind="compared:tiny")
    score, rank = tiny.pairs.similarity[number], tiny.pairs.rank[number]
    said = f"In 'tiny', the similarity is {score:.4f}, at rank {rank}."
    viewer.root.get_by_text(said).wait_for()
    other = painted(page, viewer.one("query"))
    assert np.abs(own - other).mean() > 2
    keep_screenshot(page, "audit_compare_pair")
    close_panels(page)
    assert console.errors == []
