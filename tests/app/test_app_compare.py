"""The page Compare in the real App, and both models' maps on one pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import fiftyone as fo
import numpy as np
import pytest

from app_support import Console, choose, keep_screenshot, until
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
        explain_retrieval(dataset, "demo", key="old", **options),
        explain_retrieval(dataset, tiny_model(), key="new", **options),
    )
    dataset.delete()


def test_two_models_are_compared(
    runs: tuple[Run, Run], open_dataset: Callable[[fo.Dataset], Page], page: Page
) -> None:
    console, handed = Console(page), Handed(page)
    old, new = runs
    old.results.delete_all()
    open_dataset(old.dataset)
    handed.listen()
    panel = open_audit(page)
    # Runs are listed by name, so that of random weights comes first.
    panel.get_by_role("combobox").first.click()
    page.get_by_role("option", name="old").click()
    turn_to(panel, "Compare")
    panel.get_by_role("button", name="Compare", exact=True).click()
    choose(page, "Compared with", "new")
    execute = page.get_by_role("button", name="Execute").first
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    # The panel shows the comparison by itself.
    ranks = figure(panel, "Nearest true match")
    old.dataset.reload()
    compared = load_comparison(old, new)
    assert compared is not None
    assert compared.field == "person"
    first, *_ = sentences(compared)
    panel.get_by_text(first).wait_for()
    row, *_ = compared.changed
    query = str(old.items.ids[compared.query[row, 0]])
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
    pairs = handed.pairs(old)
    items = compared.query[rows, 0]
    assert sorted(old.pairs.query[pairs].tolist()) == sorted(items.tolist())
    assert (old.pairs.rank[pairs] == 1).all()
    wait_for_count(page, len(rows))

    # A row of the queries: its pair, with the maps of either model.
    click_mark(page, panel.get_by_text(query).first)
    (pair,) = handed.pairs(old)
    viewer = Viewer(page)
    viewer.shows(pair)
    choice = viewer.root.get_by_label("Map", exact=True)
    choice.select_option(label="evidence")
    viewer.shows(pair, kind="evidence")
    painted = viewer.painted()
    choice.select_option(label="evidence in 'new'")
    number = same_pair(old, pair, new)
    if number is None:
        # The other run has not stored the pair, and its model is not registered.
        viewer.root.get_by_text("which is not registered on this machine").wait_for()
    else:
        viewer.shows(pair, kind="compared:new")
        until(page, lambda: viewer.painted() > painted, "the other map is painted")
        score = f"In 'new', the similarity is {new.pairs.similarity[number]:.4f}"
        viewer.root.get_by_text(score).wait_for()
    keep_screenshot(page, "audit_compare_pair")
    close_panels(page)
    assert console.errors == []
