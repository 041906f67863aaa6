"""The operators in the real App, from their forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from app_support import (
    Console,
    choose,
    form_field,
    keep_screenshot,
    open_operator,
    open_sample,
    painted,
    pixels_of,
    select,
    ticked,
    until,
)
from fiftyone_sfam import (
    Protocol,
    explain_pair,
    explain_retrieval,
    list_runs,
    load_run,
    load_verification,
)
from operator_support import PLUGIN
from stored import assert_same, stored_numbers
from viewer_support import Viewer
from worlds import IMAGES, small_crops

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

EXPLAIN = f"{PLUGIN}/explain_retrieval"
Open = Callable[[fo.Dataset], "Page"]


@pytest.fixture(scope="module", autouse=True)
def crops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Crops with the same run made in four ways.

    It comes before the browser, whose event loop would change what FiftyOne's calls
    return.
    """
    dataset = small_crops(tmp_path_factory.mktemp("crops"))
    settings: dict[str, Any] = {
        "identity_field": "identity",
        "camera_field": "camera",
        "k": 3,
    }
    explain_retrieval(
        dataset,
        "demo",
        key="sdk",
        k=3,
        protocol=Protocol(identity_field="identity", camera_field="camera"),
    )
    operator = foo.get_operator(EXPLAIN)
    operator(dataset, "demo", key="called", **settings)
    foo.execute_operator(
        EXPLAIN,
        {"dataset": dataset},
        params={"model": "demo", "key": "executed", **settings},
    )
    operator(dataset, "demo", key="delegated", delegate=True, **settings)
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=EXPLAIN, dataset_name=dataset.name
    )
    assert done.error is None
    yield dataset
    for one in service.list_operations(dataset_name=dataset.name):
        service.delete_operation(one.id)
    dataset.delete()


def test_the_form_stores_what_every_other_way_does(
    crops: fo.Dataset, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(crops)
    looker = page.locator('[data-cy="looker"]').first
    before = painted(page, looker)

    open_operator(page, "SFAM: explain retrieval")
    execute = page.get_by_role("button", name="Execute").first
    # What is no registered name cannot be chosen.
    model = form_field(page, "Model")
    model.fill("os:system")
    model.press("Enter")
    model.press("Tab")
    page.get_by_text("Required property").wait_for()
    assert page.get_by_role("option").count() == 0
    assert not execute.is_enabled()
    choose(page, "Model", "demo")
    choose(page, "Identity field", "identity")
    choose(page, "Camera field", "camera")

    key = form_field(page, "Run key")
    for wrong, message in (
        ("sdk", "there is a run 'sdk' already; replace it, or change the key."),
        ("no key", "the run key 'no key' cannot be used;"),
    ):
        key.fill(wrong)
        page.get_by_text(message).wait_for()
        assert not execute.is_enabled()
    key.fill("app")
    form_field(page, "Neighbors per query").fill("0")
    page.get_by_text("give a whole number from 1 to 1000.").wait_for()
    assert not execute.is_enabled()
    form_field(page, "Neighbors per query").fill("3")
    page.get_by_text(
        f"{IMAGES} images: up to {4 * IMAGES} pairs, {2 * IMAGES} forward passes."
    ).wait_for()
    keep_screenshot(page, "explain_form")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.get_by_text("Pairs explained").wait_for(timeout=90_000)
    keep_screenshot(page, "explain_result")
    page.get_by_role("button", name="Close").click()

    crops.reload()
    expected = stored_numbers(crops, "sdk")
    for way in ("called", "executed", "delegated", "app"):
        assert_same(expected, stored_numbers(crops, way))

    # The heatmap is on, and its fields are in the sidebar.
    for field in ("app", "app_neighbors", "app_score", "app_outcome"):
        page.locator(f'[data-cy="checkbox-{field}"]').wait_for()
    box = page.locator('[data-cy="checkbox-app"]')
    until(page, lambda: ticked(page, "app"), "the heatmap is active")
    assert ticked(page, "app_score")
    assert not ticked(page, "app_neighbors")
    page.mouse.move(700, 895)
    height, width, _ = before.shape
    middle = slice(height // 5, height // 2), slice(width // 4, 3 * width // 4)
    until(
        page,
        lambda: np.abs(pixels_of(looker) - before)[middle].max() > 40,
        "the heatmap is drawn",
    )
    keep_screenshot(page, "explain_grid")
    drawn = pixels_of(looker)
    box.click()
    page.mouse.move(700, 895)
    until(
        page,
        lambda: np.abs(pixels_of(looker) - before)[middle].max() < 5,
        "the heatmap can be hidden",
    )
    assert np.abs(drawn - before)[middle].max() > 40
    assert console.errors == []


def test_a_list_of_pairs_in_the_app(
    crops: fo.Dataset, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(crops)
    open_operator(page, "SFAM: explain given pairs")
    execute = page.get_by_role("button", name="Execute").first
    choose(page, "Model", "demo")
    choose(page, "Identity field", "identity")
    page.get_by_text("there are no pairs; paste some, or choose a file.").wait_for()
    text = page.locator('xpath=//p[text()="Pairs"]/following::textarea[1]')
    text.fill("/etc/hosts")
    # What looks like a path is a name like any other, shown without its folders.
    page.get_by_text("the line 'hosts' of the text has 1 column;").wait_for()
    assert not execute.is_enabled()
    text.fill("")
    names = [Path(path).name for path in crops.values("filepath")]
    rows = [("query", "gallery"), *((names[0], names[n]) for n in (1, 2, 12, 30))]
    table = "\n".join(map(",".join, rows)).encode()
    file = {"name": "mine.csv", "mimeType": "text/csv", "buffer": table}
    page.locator('input[type="file"]').first.set_input_files([file])
    page.get_by_text("4 pairs of 5 images: up to 10 forward passes.").wait_for()
    keep_screenshot(page, "explain_pairs_form")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.get_by_text("Rows of the list").wait_for(timeout=90_000)
    keep_screenshot(page, "explain_pairs_result")
    page.get_by_role("button", name="Close").click()
    crops.reload()
    run = load_run(crops, "pairs")
    ids = crops.values("id")
    assert set(run.items.ids) == {ids[n] for n in (0, 1, 2, 12, 30)}

    open_operator(page, "SFAM: verify given pairs")
    form_field(page, "Threshold").fill("0.5")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.get_by_text("True accepts at 10 % FAR").wait_for(timeout=60_000)
    keep_screenshot(page, "verify_pairs_result")
    crops.reload()
    found = load_verification(load_run(crops, "pairs"))
    assert found is not None
    assert found.decided is not None
    assert found.decided.threshold == 0.5
    assert (found.scores.genuine_pairs, found.scores.impostor_pairs) == (2, 2)
    shown = page.get_by_role("dialog").inner_text().replace("\n", "")
    assert f"Its threshold:{found.scores.equal_error_threshold!s:.8}" in shown
    page.get_by_role("button", name="Close").click()
    assert console.errors == []


def test_two_selected_samples_in_the_app(
    crops: fo.Dataset, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(crops)
    lookers = page.locator('[data-cy="looker"]')
    execute = page.get_by_role("button", name="Execute").first

    select(page, lookers.nth(8))
    open_operator(page, "SFAM: explain two selected samples")
    choose(page, "Model", "demo")
    page.get_by_text("select two samples; 1 selected now.").wait_for()
    keep_screenshot(page, "explain_selected_refused")
    assert not execute.is_enabled()
    page.get_by_role("button", name="Cancel").click()

    select(page, lookers.nth(2))
    open_operator(page, "SFAM: explain two selected samples")
    choose(page, "Model", "demo")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    pictures = page.locator('img[src^="data:image/webp"]')
    pictures.nth(1).wait_for(timeout=60_000)
    # Decoded by the browser, in the aspect ratio of the samples.
    sizes = pictures.evaluate_all(
        "all => all.map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [[160, 320], [160, 320]]
    ids = crops.values("id")
    expected = explain_pair("demo", crops[ids[8]], crops[ids[2]])
    shown = page.get_by_role("dialog").inner_text().replace("\n", "")
    assert f"Similarity:{expected.score:.4}"[:16] in shown
    keep_screenshot(page, "explain_selected")
    page.get_by_role("button", name="Close").click()
    # The server keeps a selection, and the next page to open this dataset has it too.
    for place in (8, 2):
        select(page, lookers.nth(place))
    assert console.errors == []


def test_explain_these_and_the_workspace(
    crops: fo.Dataset, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    run = load_run(crops, "sdk")
    open_dataset(crops)
    # The fields of each run are a group of their own.
    page.locator('input[value="SFAM sdk" i]').wait_for()
    lookers = page.locator('[data-cy="looker"]')
    execute = page.get_by_role("button", name="Execute").first
    # Two would be explained with each other, as the panel does with any two.
    chosen = (4, 9, 14)
    for place in chosen:
        select(page, lookers.nth(place))
    page.locator(f'[data-item-id="{PLUGIN}/explain_these"]').click()
    choose(page, "Run", "sdk")
    page.get_by_text("3 pairs.", exact=True).wait_for()
    keep_screenshot(page, "explain_these_form")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    ids = crops.values("id")
    items = [run.items.index(ids[place]) for place in chosen]
    pairs = sorted(int(run.pairs.of_query(item)[0]) for item in items)
    viewer = Viewer(page)
    viewer.shows(pairs[0])
    keep_screenshot(page, "explain_these_panel")
    viewer.press("ArrowDown")
    viewer.shows(pairs[1])

    open_operator(page, "SFAM: open the audit workspace")
    page.locator('[data-cy="panel-tab-sfam_audit"]').wait_for()
    viewer.root.wait_for()
    keep_screenshot(page, "audit_workspace")
    crops.reload()
    assert crops.list_workspaces() == ["sfam-audit"]

    page.locator('[data-cy="panel-tab-samples"]').first.click()
    open_sample(page, lookers.nth(1))
    page.locator('[data-cy="modal"]').get_by_text("compare", exact=True).click()
    choose(page, "Run", "sdk")
    keep_screenshot(page, "explain_this_form")
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    first = int(run.pairs.of_query(run.items.index(ids[1]))[0])
    modal = page.locator('[data-cy="modal"]').get_by_test_id("sfam-viewer")
    modal.locator(f'[data-testid="sfam-shown"][data-pair="{first}"]').wait_for(
        state="attached"
    )
    modal.get_by_text("the open sample").wait_for()
    keep_screenshot(page, "explain_this_panel")
    # The server keeps the open sample as it keeps a selection.
    page.mouse.click(5, 450)
    page.locator('[data-cy="modal"]').wait_for(state="hidden")
    assert console.errors == []


def test_managing_runs_in_the_app(
    crops: fo.Dataset, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(crops)
    open_operator(page, "SFAM: manage runs")
    choose(page, "Run", "called")
    choose(page, "What to do", "rename it")
    form_field(page, "New key").fill("renamed")
    summary = load_run(crops, "called").summary()
    page.get_by_text(f"{summary['pairs']} pairs (k=3), 0 images skipped").wait_for()
    keep_screenshot(page, "manage_form")
    execute = page.get_by_role("button", name="Execute").first
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    page.locator('[data-cy="checkbox-renamed"]').wait_for()
    assert page.locator('[data-cy="checkbox-called"]').count() == 0
    crops.reload()
    assert "renamed" in list_runs(crops)
    assert "called" not in list_runs(crops)
    assert console.errors == []
