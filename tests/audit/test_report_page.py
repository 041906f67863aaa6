"""Reports in a browser without a network: they open, draw, and run only their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import Browser, Page, expect

from app_support import keep_screenshot
from fiftyone_sfam import Protocol, explain_retrieval
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.audit.report.write import write_report
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.review.verdicts import set_verdict
from make_example_report import audited_demo
from report_support import (
    audit,
    false_matches,
    hostile_names,
    rename_identities,
    run_with_errors,
)
from worlds import small_crops

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example report of the docs."""
    run = audited_demo()
    folder = tmp_path_factory.mktemp("example")
    yield write_report(run, folder / "report", images=True, parquet=False).page
    fo.delete_dataset(run.dataset.name)


class Watched:
    """A page without a network, and everything that it should not do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.trouble: list[str] = []
        page.on("console", lambda one: self._note("console", f"{one.type} {one.text}"))
        page.on("pageerror", lambda one: self._note("error", str(one)))
        page.on("dialog", lambda one: self._note("dialog", one.message))
        page.on("request", lambda one: self._request(one.url))
        page.on("popup", lambda one: self._note("popup", one.url))

    def open(self, path: Path) -> Page:
        self.page.goto(path.as_uri())
        return self.page

    def _request(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self._note("request", url)

    def _note(self, what: str, text: str) -> None:
        self.trouble.append(f"{what}: {text[:300]}")


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield Watched(page)
    context.close()


def plots(page: Page) -> dict[str, int]:
    """How many shapes are drawn in each figure."""
    return {
        name: page.locator(f"#plot-{name} .trace path").count()
        for name in ("cmc", "roc", "scores", "regions")
    }


def test_a_report_opens_offline(watched: Watched, tmp_path: Path) -> None:
    run = run_with_errors(tmp_path)
    try:
        audit(run)
        set_verdict(run, false_matches(run)[0], "look-alike")
        files = write_report(run, tmp_path / "report", images=True)
    finally:
        run.dataset.delete()
    page = watched.open(files.page)
    expect(page.locator("#plot-regions .main-svg").first).to_be_visible()
    assert all(number > 0 for number in plots(page).values())
    expect(page.locator("#plot-roc .legendtext").first).to_have_text("ROC")
    # All pictures are whole.
    sizes = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(sizes) > 8
    assert min(sizes) > 0
    findings = page.locator(".finding:visible")
    assert findings.count() == 4
    page.select_option("#kinds", "mislabeled image")
    assert findings.count() == 4
    page.evaluate("document.querySelector('#kinds').innerHTML += '<option>x</option>'")
    page.select_option("#kinds", "x")
    assert findings.count() == 0
    page.select_option("#kinds", "")
    assert findings.count() == 4
    keep_screenshot(page, "report")
    page.click("nav >> text=Findings")
    page.wait_for_timeout(600)
    keep_screenshot(page, "report-findings")
    for width in (1200, 480):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
    keep_screenshot(page, "report-narrow")
    assert watched.trouble == []


def test_hostile_texts_stay_texts(watched: Watched, tmp_path: Path) -> None:
    dataset = small_crops(tmp_path)
    try:
        names = hostile_names()
        rename_identities(dataset, names)
        swapped = dataset.values("identity")
        for one, other in ((0, 9), (18, 30)):
            swapped[one], swapped[other] = swapped[other], swapped[one]
        dataset.set_values("identity", swapped)
        region = "<a href='javascript:alert(6)'>arm</a>"
        parts = [
            [region if label == "upper" else label for label in labels]
            for labels in dataset.values("parts.detections.label")
        ]
        dataset.set_values("parts.detections.label", parts)
        run = explain_retrieval(
            dataset, "demo", k=4, protocol=Protocol("identity", camera_field="camera")
        )
        evaluate_retrieval(run, slices=["identity"], resamples=20)
        assert len(find_suspects(run).findings) > 0
        build_ledger(run, "parts", by=["identity"], resamples=20)
        find_shortcuts(run)
        pair = false_matches(run)[0]
        set_verdict(run, pair, "<img src=x onerror=alert(7)>", "</script>alert(8)")
        files = write_report(run, tmp_path / "report", images=True)
    finally:
        dataset.delete()
    page = watched.open(files.page)
    expect(page.locator("#plot-regions .main-svg").first).to_be_visible()
    for details in page.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    text = page.locator("main").text_content() or ""
    for name in names:
        assert name in text
    shown = page.locator("#verdict-list tbody td").all_text_contents()
    assert "<img src=x onerror=alert(7)>" in shown
    assert "</script>alert(8)" in shown
    # In the figure too it is text, not a link.
    ticks = page.locator("#plot-regions .xtick text").all_text_contents()
    assert any("<a href='javascript:alert(" in one for one in ticks)
    assert page.locator("#plot-regions a").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
    # A name of 10,000 characters does not push the rest aside.
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert page.evaluate("document.documentElement.scrollHeight") < 40_000
    keep_screenshot(page, "report-hostile")
    page.locator("#findings").scroll_into_view_if_needed()
    keep_screenshot(page, "report-hostile-findings")
    assert watched.trouble == []


def test_no_other_script_would_run(
    watched: Watched, example: Path, tmp_path: Path
) -> None:
    """The page's policy holds where escaping has failed."""
    source = example.read_text("utf-8")
    injected = (
        "<script>window.broken = true;</script>"
        '<img src="x" onerror="window.broken = true">'
        '<img src="https://example.org/x.png">'
    )
    path = tmp_path / "broken.html"
    path.write_text(source.replace("<main>", f"<main>{injected}", 1), "utf-8")
    page = watched.open(path)
    expect(page.locator("#plot-cmc .main-svg").first).to_be_visible()
    assert page.evaluate("window.broken") is None
    refused = [one for one in watched.trouble if "Content Security Policy" in one]
    assert len(refused) >= 3
    assert any("https://example.org/x.png" in one for one in refused)


def test_the_example_opens_offline(watched: Watched, example: Path) -> None:
    page = watched.open(example)
    expect(page.locator("#plot-regions .main-svg").first).to_be_visible()
    assert all(number > 0 for number in plots(page).values())
    title = page.locator("h1").text_content()
    assert title == "SFAM audit of sfam-demo"
    kinds = set(page.locator(".finding .kind").all_text_contents())
    assert kinds >= {
        "mislabeled image",
        "split identity",
        "merged identity",
        "near-duplicate",
    }
    sizes = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(sizes) > 50
    assert min(sizes) > 0
    assert example.stat().st_size < 6_000_000
    assert watched.trouble == []
