"""Reports and verdicts from their forms in the real App."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import fiftyone as fo
import pytest

from app_support import Console, form_field, keep_screenshot, open_operator, until
from fiftyone_sfam import Run
from fiftyone_sfam.audit.fixes.find import find_fixes
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.review.verdicts import set_verdict
from report_support import Page as Report
from report_support import run_with_errors

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Open = Callable[[fo.Dataset], "Page"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with verdicts on its four mislabeled images."""
    run = run_with_errors(tmp_path_factory.mktemp("people"))
    found = find_suspects(run).findings
    for one in found:
        set_verdict(run, one.pairs[0], "wrong label")
    yield run
    run.dataset.delete()


def test_a_report_arrives_in_the_browser(
    run: Run, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    open_dataset(run.dataset)
    open_operator(page, "SFAM: write report")
    page.get_by_text("Include images").wait_for()
    keep_screenshot(page, "operator-write-report")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Execute").first.click()
    path = caught.value.path()
    name = caught.value.suggested_filename
    assert name.startswith("sfam-crops-")
    assert name.endswith(".html")
    report = Report(path)
    assert report.cards()["findings"].value == 4
    assert "It holds no images." in report.soup.get_text()
    page.get_by_text("Report written").wait_for()
    keep_screenshot(page, "operator-report-written")
    assert console.errors == []


def test_verdicts_are_applied_from_the_form(
    run: Run, open_dataset: Open, page: Page
) -> None:
    console = Console(page)
    dataset = run.dataset
    open_dataset(dataset)
    open_operator(page, "SFAM: apply verdicts")
    page.get_by_text("4 corrections agreed on").wait_for()
    preview = page.locator("pre, code").first
    for fix in find_fixes(run).agreed:
        assert f"{fix.old} -> {fix.new}  (finding)" in (preview.text_content() or "")
    keep_screenshot(page, "operator-apply-verdicts")
    execute = page.get_by_role("button", name="Execute").first
    form_field(page, "Field to write").fill("identity")
    page.get_by_text("there is a field 'identity' already").wait_for()
    assert not execute.is_enabled()
    form_field(page, "Field to write").fill("corrected")
    until(page, execute.is_enabled, "the field can be written")
    execute.click()
    page.get_by_text("Verdicts applied").wait_for()
    dataset.reload()
    assert dataset.values("corrected") == dataset.values("true_identity")
    assert dataset.values("identity") != dataset.values("corrected")
    assert console.errors == []
