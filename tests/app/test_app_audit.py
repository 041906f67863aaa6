"""The audit panel in the real App: a click on a mark opens its images and its pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest

from app_support import Console, keep_screenshot, until
from audit_support import (
    PANEL,
    Handed,
    click_mark,
    close_panels,
    figure,
    open_audit,
    turn_to,
    wait_for_count,
)
from fiftyone_sfam import Protocol, explain_retrieval
from fiftyone_sfam.app.audit.choices import Choices, Selection
from fiftyone_sfam.app.audit.findings import finding_key
from fiftyone_sfam.app.audit.page_matches import tallies
from fiftyone_sfam.app.audit.panel import open_mark
from fiftyone_sfam.audit.evaluation.display import coarse
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.evaluation.overview import overview
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.audit.suspects.search import find_suspects, load_suspects
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run, load_run
from worlds import mislabel, small_crops

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]
PAGES = {
    "Overview": "Rank of the nearest true match",
    "Scores": "Scores of all pairs",
    "False matches": "By camera pair",
    "Regions": "Share of the score by region",
    "Maps": "A map that looks right may be wrong",
    "Suspects": "Expected among all labels:",
    "Compare": "Which of two models is better",
}
"""What each page shows."""


def behind(run: Run, mark: str, **params: Any) -> Selection:
    """What a click on a mark opens."""
    selection = open_mark(run, mark, params, Choices()).selection
    assert selection is not None
    return selection


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with false matches, and with all that audits compute of it."""
    dataset = small_crops(tmp_path_factory.mktemp("audited"))
    mislabel(dataset, 5)
    protocol = Protocol("identity", camera_field="camera")
    run = explain_retrieval(dataset, "demo", k=3, protocol=protocol)
    evaluate_retrieval(run, slices=["camera"], pair_slices=["camera"])
    build_ledger(run, "person")
    find_shortcuts(run)
    find_suspects(run)
    yield run
    dataset.delete()


def test_marks_are_doors(audited: Run, open_dataset: Open, page: Page) -> None:
    console = Console(page)
    run, figures = audited, overview(audited)
    handed = Handed(page)
    open_dataset(run.dataset)
    handed.listen()
    panel = open_audit(page)
    wait_for_count(page, 36)
    keep_screenshot(page, "audit_overview")

    # A card.
    panel.get_by_role("button", name="False matches").click()
    false = np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == FALSE_MATCH))
    assert handed.pairs(run) == false.tolist()
    wait_for_count(page, len(false))

    # The tallest bar of the genuine scores.
    turn_to(panel, "Scores")
    bars = figure(panel, "Scores of all pairs").locator(".trace.bars").nth(0)
    edges, genuine, _ = coarse(figures)
    place = int(genuine.argmax())
    click_mark(page, bars.locator(".point path").nth(place))
    selection = behind(run, "scores", trace_idx=0, idx=place)
    assert 0 < len(selection.samples) != len(false)
    assert handed.take() == {
        "run": run.key,
        "uid": run.config.uid,
        "title": selection.title,
        "pairs": list(selection.pairs),
        "queries": run.pairs.query[list(selection.pairs)].tolist(),
    }
    wait_for_count(page, len(selection.samples))
    keep_screenshot(page, "audit_scores")

    # The threshold, by its slider and by a button.
    before = panel.get_by_text("the false match rate (FMR) is").inner_text()
    slider = panel.locator('input[type="range"]')
    slider.focus()
    slider.press("End")
    panel.get_by_text(f"At {figures.edges[-1]:.3f} the false match rate").wait_for()
    panel.get_by_role("button", name="Equal error").click()
    panel.get_by_text(before.split(" the ")[0]).wait_for()

    page.keyboard.down("Shift")
    click_mark(page, bars.locator(".point path").nth(place))
    page.keyboard.up("Shift")
    panel.get_by_text(f"At {edges[place]:.3f} the false match rate").wait_for()
    wait_for_count(page, len(selection.samples))

    # A cell.
    turn_to(panel, "False matches")
    counts = tallies(run).by_camera
    cells = figure(panel, "By camera pair").locator(".heatmaplayer image")
    cells.scroll_into_view_if_needed()
    row, column = (int(one) for one in np.argwhere(counts == counts.max())[0])
    box = cells.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] * (column + 0.5) / counts.shape[1]
    y = box["y"] + box["height"] * (row + 0.5) / counts.shape[0]
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    pairs = handed.pairs(run)
    assert len(pairs) == counts.max()
    names = tallies(run).cameras
    assert {run.items.cameras[run.pairs.query[pair]] for pair in pairs} == {names[row]}
    assert {run.items.cameras[run.pairs.gallery[pair]] for pair in pairs} == {
        names[column]
    }
    wait_for_count(page, int(counts.max()))
    keep_screenshot(page, "audit_matches")

    # The picture of a finding.
    turn_to(panel, "Suspects")
    finding = load_suspects(run).findings[0]
    picture = panel.locator(
        f'[data-finding="{finding_key(finding)}"] [data-item]'
    ).first
    picture.click()
    assert sorted(handed.pairs(run)) == sorted(finding.pairs)
    keep_screenshot(page, "audit_suspects")

    # The audit is as it was. Back to all images.
    assert panel.get_by_text(finding.sentence).is_visible()
    panel.get_by_role("button", name="Show all images").click()
    wait_for_count(page, 36)
    close_panels(page)
    assert console.errors == []


def test_points_of_the_scatter(audited: Run, open_dataset: Open, page: Page) -> None:
    run, handed = audited, Handed(page)
    open_dataset(run.dataset)
    handed.listen()
    panel = open_audit(page)
    turn_to(panel, "Regions")
    scatter = figure(panel, "Score and share of background")
    dots = scatter.locator(".scatterlayer .trace").nth(1).locator(".point")
    dots.first.wait_for()
    # One that no other lies over.
    places = dots.evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(r => [r.x, r.y])"
    )
    alone = int(np.argmin(_crowd(places)))
    click_mark(page, dots.nth(alone))
    (pair,) = handed.pairs(run)
    assert run.pairs.outcome[pair] == FALSE_MATCH
    wait_for_count(page, 2)
    keep_screenshot(page, "audit_regions")
    # A box around all of them.
    box = scatter.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    page.mouse.up()
    shown = int(scatter.locator(".scatterlayer .point").count())
    assert len(handed.pairs(run)) == shown > 50
    close_panels(page)


def _crowd(places: list[list[float]]) -> np.ndarray:
    """How near the nearest other point is: least for the loneliest."""
    points = np.array(places)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return 1 / apart.min(axis=1)


def test_both_themes_in_a_narrow_pane(
    audited: Run, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    # Half of what the sidebar leaves is 480 pixels.
    page.set_viewport_size({"width": 1250, "height": 900})
    page.add_init_script("localStorage.setItem('mui-mode', 'light')")
    open_dataset(audited.dataset)
    panel = open_audit(page)
    box = panel.bounding_box()
    assert box is not None
    assert 460 < box["width"] < 500
    for name, shown in PAGES.items():
        turn_to(panel, name)
        panel.get_by_text(shown).first.wait_for()
        page.wait_for_timeout(600)
        keep_screenshot(page, f"audit_light_{name.split()[0].lower()}")
        wider = panel.evaluate(
            "panel => [...panel.querySelectorAll('*')].filter(one =>"
            " one.scrollWidth > one.clientWidth + 2 && one.clientWidth > 300 &&"
            " getComputedStyle(one).overflowX === 'auto').map(one => one.className)"
        )
        assert wider == []
    # All tabs are in one row, without arrows.
    tops = panel.get_by_role("tab").evaluate_all(
        "tabs => tabs.map(tab => tab.getBoundingClientRect().top)"
    )
    assert len(tops) == len(PAGES) == tops.count(tops[0])
    assert panel.locator(".MuiTabs-scrollButtons").count() == 0
    turn_to(panel, "Scores")
    assert_legible(panel, light=True)
    page.locator('[title="Dark mode"]').click()
    page.wait_for_timeout(600)
    assert_legible(panel, light=False)
    keep_screenshot(page, "audit_dark_scores")
    assert console.errors == []


def assert_legible(panel: Locator, light: bool) -> None:
    """Assert that the text of a figure stands out from its ground, in its theme."""
    tick = figure(panel, "ROC").locator(".ytick text").first
    tick.wait_for(state="attached")
    colors: list[str] = []

    def read() -> bool:
        # Plotly draws the ticks anew when the theme changes: one may be off the page.
        colors[:] = tick.evaluate(
            "tick => { const svg = tick.closest('.main-svg'); return svg === null ? []"
            " : [getComputedStyle(tick).fill, getComputedStyle(svg).backgroundColor] }"
        )
        return len(colors) == 2

    until(panel.page, read, "the figure is drawn")
    color, ground = colors
    assert (_light(ground) > 0.5) == light
    dark_one, light_one = sorted((_light(color), _light(ground)))
    # WCAG 2.1 asks 4.5 of text.
    assert (light_one + 0.05) / (dark_one + 0.05) > 4.5


def _light(color: str) -> float:
    """The relative luminance of a color, as WCAG 2.1 defines it."""
    channels = [float(one) for one in re.findall(r"[\d.]+", color)[:3]]
    linear = [
        value / 255 / 12.92
        if value / 255 <= 0.04045
        else ((value / 255 + 0.055) / 1.055) ** 2.4
        for value in channels
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_what_is_missing_is_computed(
    make_dataset: Callable[..., fo.Dataset],
    audited: Run,
    open_dataset: Open,
    page: Page,
) -> None:
    console = Console(page)
    dataset = make_dataset("audit")
    crops = [fo.Sample(one.filepath, identity=one.identity) for one in audited.dataset]
    dataset.add_samples(crops, progress=False)
    explain_retrieval(dataset, "demo", k=2, protocol=Protocol("identity"))
    open_dataset(dataset)
    panel = open_audit(page)
    turn_to(panel, "Suspects")
    panel.get_by_role("button", name="Find suspects").click()
    execute = page.get_by_role("button", name="Execute").first
    until(page, execute.is_enabled, "the form is right")
    execute.click()
    # The panel shows them by itself.
    panel.get_by_test_id("sfam-findings").locator("article").first.wait_for()
    dataset.reload()
    [first, *_] = load_suspects(load_run(dataset, "sfam")).findings
    panel.get_by_text(first.sentence).wait_for()
    keep_screenshot(page, "audit_computed")
    assert console.errors == []


def texts(run: Run) -> set[str]:
    return {one.text for one in get_verdicts(run).values()}


def test_a_proposal_becomes_a_verdict(
    tmp_path: Path, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = small_crops(tmp_path)
    mislabel(dataset, 5)
    protocol = Protocol("identity", camera_field="camera")
    run = explain_retrieval(dataset, "demo", k=3, protocol=protocol)
    first, *others = find_suspects(run).findings
    try:
        open_dataset(dataset)
        panel = open_audit(page)
        turn_to(panel, "Suspects")
        panel.get_by_text("Expected among all labels:").wait_for()
        rows = panel.get_by_test_id("sfam-findings").locator("article")
        assert rows.count() == min(8, len(others) + 1)
        shown = panel.locator(f'[data-finding="{finding_key(first)}"]')
        # The doubted image, its own people and the others, before any click.
        titles = shown.locator("figcaption").all_inner_texts()
        assert titles == ["Doubted image", *(f"Labeled {n}" for n in first.identities)]
        doubted = shown.locator(f'[data-item="{first.items[0]}"] img')
        assert doubted.evaluate("image => image.naturalHeight") == 112

        shown.get_by_role("button", name="Accept").click()
        panel.get_by_text("Expected to be left among all labels:").wait_for()
        assert shown.get_by_text("✓ accepted").is_visible()
        # It stays where it is.
        assert rows.first.get_attribute("data-finding") == finding_key(first)
        assert {one.text for one in get_verdicts(run).values()} == {"same person"}
        keep_screenshot(page, "audit_accepted")
        # By keys: rejected, and undone.
        shown.get_by_role("button", name="Show pairs").focus()
        page.keyboard.press("r")
        until(page, lambda: texts(run) == {"fine"}, "it is rejected")
        shown.get_by_text("✗ rejected").wait_for()
        shown.get_by_role("button", name="Undo").wait_for()
        page.keyboard.press("u")
        until(page, lambda: texts(run) == {"same person"}, "it is accepted again")
        shown.get_by_text("✓ accepted").wait_for()
        # What is given while another verdict is being stored comes after it.
        page.keyboard.press("u")
        page.keyboard.press("r")
        page.keyboard.press("a")
        until(page, lambda: texts(run) == {"same person"}, "it is accepted at last")
        shown.get_by_text("Saving").wait_for(state="detached")
        assert shown.get_by_text("✓ accepted").is_visible()
        page.keyboard.press("ArrowDown")
        focused = "document.activeElement.closest('article').dataset.finding"
        assert page.evaluate(focused) == rows.nth(1).get_attribute("data-finding")

        # What is refused is taken back, with a sentence.
        run.results.delete("suspects")
        shown.get_by_role("button", name="Reject").click()
        shown.get_by_role("alert").wait_for()
        assert "This finding is gone" in shown.get_by_role("alert").inner_text()
        assert shown.get_by_text("✓ accepted").is_visible()
        assert texts(run) == {"same person"}
        assert console.errors == []
    finally:
        dataset.delete()


def test_two_pages_and_a_panel_that_is_made_anew(
    audited: Run, open_dataset: Open, page: Page, app_server: str
) -> None:
    console, handed = Console(page), Handed(page)
    findings = load_suspects(audited).findings
    other = page.context.new_page()
    other.goto(f"{app_server}/datasets/{audited.dataset.name}")
    other.locator('[data-cy="looker"]').first.wait_for()
    other.evaluate(
        "window.handed = 0;"
        "window.addEventListener('sfam-pairs', () => { window.handed += 1 })"
    )
    open_dataset(audited.dataset)
    handed.listen()
    panel = open_audit(page)
    turn_to(panel, "Suspects")
    shown = panel.get_by_test_id("sfam-findings")
    shown.locator("article").first.wait_for()
    kind = findings[-1].kind
    own = [one for one in findings if one.kind == kind]
    shown.get_by_label("Kind").select_option(kind)
    shown.get_by_text(f"1 to {min(8, len(own))} of {len(own)}").wait_for()
    shown.locator("[data-item]").first.click()
    expected = behind(audited, "finding", finding=finding_key(own[0]))
    assert sorted(handed.pairs(audited)) == sorted(expected.pairs)
    # The list keeps its place over other pages of the panel.
    turn_to(panel, "Scores")
    panel.get_by_text("Scores of all pairs").wait_for()
    turn_to(panel, "Suspects")
    shown.get_by_text(f"1 to {min(8, len(own))} of {len(own)}").wait_for()
    assert shown.get_by_label("Kind").input_value() == kind
    # The other page gets no pairs, though FiftyOne opens the same panels in it.
    assert other.evaluate("window.handed") == 0
    close_panels(page)
    assert console.errors == []


def test_without_a_run(
    make_dataset: Callable[..., fo.Dataset],
    audited: Run,
    open_dataset: Open,
    page: Page,
) -> None:
    dataset = make_dataset("audit")
    dataset.add_samples([fo.Sample(audited.dataset.first().filepath)], progress=False)
    open_dataset(dataset)
    page.locator('[data-cy="new-panel-btn"]').first.click()
    page.get_by_text("SFAM audit").first.click()
    panel = page.locator(PANEL)
    panel.get_by_text("No explained run yet").wait_for()
    keep_screenshot(page, "audit_no_run")
    panel.get_by_role("button", name="Explain retrieval").click()
    page.get_by_text("Explain retrieval with SFAM").wait_for()
