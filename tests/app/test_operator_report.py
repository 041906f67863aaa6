"""The operators that write reports and apply verdicts, in real execution contexts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_sfam import Protocol, Run, decide_pairs, explain_retrieval
from fiftyone_sfam.app.operators import write_report as module
from fiftyone_sfam.app.operators.apply_verdicts import ApplyVerdicts
from fiftyone_sfam.app.operators.write_report import (
    REPORTS,
    WriteReport,
    report_folder,
    reports_folder,
)
from fiftyone_sfam.audit.fixes.apply import applied_fields
from fiftyone_sfam.audit.report.write import FILES
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict
from operator_support import PLUGIN, context, form, offered, problems, requests
from report_support import Page
from worlds import REID, fill, small_crops, tiny_model

WRITE, APPLY = f"{PLUGIN}/write_report", f"{PLUGIN}/apply_verdicts"


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all reports of one test."""
    monkeypatch.setenv(REPORTS, str(tmp_path / "reports"))
    return tmp_path / "reports"


@pytest.fixture
def run(dataset: fo.Dataset, tmp_path: Path) -> Run:
    fill(dataset, tmp_path)
    return explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="identity")
    )


@pytest.fixture
def judged(run: Run) -> Run:
    """Image 0 is p1, p3 is p2, and one of images 4 and 5 has a wrong label."""
    for query, neighbor, text, note in (
        (0, 1, "wrong label", "query: p1"),
        (6, 9, "same person", ""),
        (4, 5, "wrong label", ""),
    ):
        set_verdict(run, pair_of(run, query, neighbor), text, note)
    return run


def pair_of(run: Run, query: int, neighbor: int) -> int:
    pairs = run.pairs
    [found] = ((pairs.query == query) & (pairs.gallery == neighbor)).nonzero()[0]
    return int(found)


FIXED = ["p1", "p0", "p0", *["p1"] * 3, *["p2"] * 6]


# --------------------------------------------------------------------------------------
# Reports
# --------------------------------------------------------------------------------------


def test_a_report_is_written_and_sent(run: Run, reports: Path) -> None:
    ctx = context(run.dataset, {"key": "sfam"})
    result = WriteReport().execute(ctx)
    folder = report_folder(run)
    assert folder.parent == reports
    assert result["folder"] == folder.name
    assert result["files"] == "report.html, pairs.csv, pairs.parquet, fixes.json"
    written = {one.name for one in folder.iterdir()}
    assert written == set(result["files"].split(", ")) < set(FILES)
    [(name, params)] = requests(ctx)
    assert name == "browser_download"
    head, _, body = params["url"].partition(",")
    assert head == "data:text/html;base64"
    assert base64.b64decode(body) == (folder / "report.html").read_bytes()
    assert params["filename"] == f"{folder.name}.html"
    # The App is not told where on the machine that is.
    assert str(reports) not in json.dumps(result)
    assert "It holds no images." in Page(folder / "report.html").soup.get_text()


def test_pictures_only_if_asked_for(run: Run, reports: Path) -> None:
    WriteReport().execute(context(run.dataset, {"key": "sfam", "images": True}))
    page = Page(report_folder(run) / "report.html")
    assert "It holds no images." not in page.soup.get_text()
    assert reports.is_dir()


def test_a_later_report_takes_the_place_of_the_earlier(run: Run, reports: Path) -> None:
    for _ in range(2):
        WriteReport().execute(context(run.dataset, {"key": "sfam"}))
    assert len(list(reports.iterdir())) == 1
    other = explain_retrieval(run.dataset, tiny_model(), key="other", k=1)
    assert report_folder(other) != report_folder(run)


def test_nothing_from_a_form_becomes_a_path(run: Run, reports: Path) -> None:
    """Also a dataset's name is only letters and digits of a folder's name."""
    dataset = run.dataset
    dataset.name = "../../etc \u202e" + "x" * 200 + dataset.name
    folder = report_folder(run)
    assert folder.parent == reports
    assert folder.resolve().parent == reports.resolve()
    assert folder.name.startswith("etc-xxxx")
    assert len(folder.name) < 100
    assert folder.name.isascii()
    params = {"key": "sfam", "out": "/tmp/elsewhere", "path": "/tmp/elsewhere"}
    WriteReport().execute(context(dataset, params))
    assert [one.name for one in reports.iterdir()] == [folder.name]
    for key in ("../sfam", "", None):
        with pytest.raises(ValueError, match="has no explained run"):
            WriteReport().execute(context(dataset, {"key": key}))
    with pytest.raises(ValueError, match="key is 3; give a text"):
        WriteReport().execute(context(dataset, {"key": 3}))


def test_long_names_do_not_share_a_folder(
    run: Run, make_dataset: Callable[..., fo.Dataset]
) -> None:
    twin = Run(make_dataset("x" * 50), run.key, run.config)
    other = Run(make_dataset("x" * 50), run.key, run.config)
    first, second = report_folder(twin).name, report_folder(other).name
    assert first[:40] == second[:40] == "x" * 40
    assert first != second


def test_where_reports_go_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORTS, raising=False)
    expected = Path(fo.config.default_dataset_dir) / "sfam-reports"
    assert reports_folder() == expected
    monkeypatch.setenv(REPORTS, "~/reports")
    assert reports_folder() == Path.home() / "reports"


def test_an_error_does_not_tell_the_folder(run: Run, reports: Path) -> None:
    reports.parent.mkdir(exist_ok=True)
    reports.write_text("a file")
    with pytest.raises(DataError, match="cannot be written") as caught:
        WriteReport().execute(context(run.dataset, {"key": "sfam"}))
    assert str(reports) not in str(caught.value)
    assert report_folder(run).name in str(caught.value)


def test_a_page_that_is_too_large_is_not_sent(
    run: Run, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DOWNLOAD", 1000)
    ctx = context(run.dataset, {"key": "sfam"})
    assert WriteReport().execute(ctx)["downloaded"] is False
    assert requests(ctx) == []
    assert (report_folder(run) / "report.html").exists()


def test_the_form_of_reports(run: Run) -> None:
    operator, ctx = WriteReport(), context(run.dataset)
    fields = form(operator, ctx)
    assert list(fields) == ["key", "images", "state"]
    assert fields["images"].default is False
    assert "SFAM: evaluate retrieval" in fields["state"].view.label
    assert problems(operator, context(run.dataset, {"key": "sfam"})) == {}
    wrong = problems(operator, context(run.dataset, {"key": "nope"}))
    assert "there is no such run; choose another." in wrong.values()
    options = operator.resolve_execution_options(ctx)
    assert not options.default_choice_to_delegated


def test_the_model_explains_decisions(reports: Path, tmp_path: Path) -> None:
    crops = small_crops(tmp_path / "crops")
    try:
        run = explain_retrieval(crops, "demo", k=2, protocol=REID)
        assert "model" not in form(WriteReport(), crops, key="sfam", images=True)
        decide_pairs(run, threshold=0.5)
        assert "model" not in form(WriteReport(), crops, key="sfam", images=False)
        fields = form(WriteReport(), crops, key="sfam", images=True)
        assert "demo" in offered(fields["model"])
        for model, said in (
            (None, "give it to the report"),
            ("demo", "red places speak for acceptance"),
        ):
            params = {"key": "sfam", "images": True, "model": model}
            WriteReport().execute(context(crops, params))
            page = (report_folder(run) / "report.html").read_text("utf-8")
            assert said in page
        params["model"] = "os:system"
        with pytest.raises(ModelError, match="'os:system'"):
            WriteReport().execute(context(crops, params))
    finally:
        crops.delete()


def test_large_runs_are_delegated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", len(run.pairs))
    options = WriteReport().resolve_execution_options(context(run.dataset))
    assert options.default_choice_to_delegated


@pytest.mark.parametrize("operator", [WriteReport(), ApplyVerdicts()])
def test_forms_of_a_dataset_without_runs(
    dataset: fo.Dataset, operator: foo.Operator
) -> None:
    assert list(form(operator, context(dataset))) == ["none"]
    assert "there are no runs." in problems(operator, context(dataset)).values()


def test_reports_from_python_and_delegated(run: Run, reports: Path) -> None:
    operator = foo.get_operator(WRITE)
    result = operator(run.dataset, "sfam", images=True).result
    page = report_folder(run) / "report.html"
    assert result["folder"] == page.parent.name
    page.unlink()
    queued = operator(run.dataset, "sfam", delegate=True)
    assert queued.delegated
    assert not page.exists()
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=WRITE, dataset_name=run.dataset.name
    )
    assert done.error is None
    assert done.result["downloaded"] is False
    assert page.exists()
    [stored] = service.list_operations(operator=WRITE, dataset_name=run.dataset.name)
    service.delete_operation(stored.id)


# --------------------------------------------------------------------------------------
# Verdicts
# --------------------------------------------------------------------------------------


def test_verdicts_are_applied_and_taken_back(judged: Run) -> None:
    dataset, operator = judged.dataset, ApplyVerdicts()
    ctx = context(dataset, {"key": "sfam", "field": "identity_fixed"})
    assert operator.execute(ctx) == {
        "field": "identity_fixed",
        "fixed": 4,
        "changed": 0,
        "open": 2,
        "conflicts": 0,
        "left_out": [],
    }
    assert dataset.values("identity_fixed") == FIXED
    assert [name for name, _ in requests(ctx)] == ["reload_dataset"]
    undo = {"action": "undo", "undo_field": "identity_fixed"}
    result = operator.execute(context(dataset, undo))
    assert (result["deleted"], result["field"]) == (True, "identity_fixed")
    assert dataset.get_field("identity_fixed") is None


def test_the_form_shows_what_would_be_done(judged: Run) -> None:
    fields = form(ApplyVerdicts(), context(judged.dataset))
    assert list(fields) == ["key", "field", "count", "preview"]
    assert fields["field"].default == "identity_fixed"
    assert fields["count"].view.label.startswith(
        "4 corrections agreed on, 2 labels wrong"
    )
    text = fields["preview"].default or fields["preview"].view.to_json()["label"]
    assert "0-0.png" in text
    assert "p0 -> p1  (note)" in text
    assert "p3 -> p2  (merge)" in text
    assert "p1 -> ?  (undecided)" in text
    assert problems(ApplyVerdicts(), context(judged.dataset, {"key": "sfam"})) == {}


def test_nothing_in_the_preview_is_markup(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path)
    names = {"p0": "```\n# x ![](http://example.org/x.png)", "p1": "<b>\u202e"}
    labels = [names.get(name, name) for name in dataset.values("identity")]
    dataset.set_values("identity", labels)
    run = explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="identity")
    )
    set_verdict(run, pair_of(run, 3, 0), "same person")
    preview = form(ApplyVerdicts(), context(dataset))["preview"]
    text = preview.default or preview.view.to_json()["label"]
    lines = text.split("\n")
    assert (lines[0], lines[-1]) == ("```corrections", "```")
    assert text.count("```") == 2
    assert "\u202e" not in text
    assert len(lines) == 5


def test_an_existing_field_is_changed_only_if_allowed(judged: Run) -> None:
    dataset, operator = judged.dataset, ApplyVerdicts()
    params: dict[str, Any] = {"key": "sfam", "field": "identity"}
    fields = form(operator, context(dataset, params))
    assert "overwrite" in fields
    wrong = problems(operator, context(dataset, params))
    assert "there is a field 'identity' already" in wrong["field"]
    with pytest.raises(DataError, match="has a field 'identity' already"):
        operator.execute(context(dataset, params))
    # Only true is true.
    with pytest.raises(DataError, match="overwrite is 'no'; give true or false"):
        operator.execute(context(dataset, {**params, "overwrite": "no"}))
    params["overwrite"] = True
    assert problems(operator, context(dataset, params)) == {}
    assert operator.execute(context(dataset, params))["changed"] == 4
    assert dataset.values("identity") == FIXED
    fields = form(operator, context(dataset, {"action": "undo"}))
    assert list(fields) == ["action", "undo_field"]
    undo = context(dataset, {"action": "undo", "undo_field": "identity"})
    assert operator.execute(undo)["restored"] == 4
    assert dataset.values("identity")[0] == "p0"


@pytest.mark.parametrize(
    ("field", "message"),
    [("filepath", "cannot be used"), ("sfam", "not of the same type")],
)
def test_fields_that_cannot_be_written(judged: Run, field: str, message: str) -> None:
    params = {"key": "sfam", "field": field, "overwrite": True}
    ctx = context(judged.dataset, params)
    assert message in problems(ApplyVerdicts(), ctx)["field"]
    with pytest.raises(DataError, match=message):
        ApplyVerdicts().execute(ctx)


def test_a_form_without_fixes_cannot_be_submitted(run: Run) -> None:
    wrong = problems(ApplyVerdicts(), context(run.dataset))
    assert "the verdicts agree on no correction yet." in wrong.values()


def test_a_run_without_labels_says_so(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2)
    explain_retrieval(dataset, tiny_model(), k=1)
    wrong = problems(ApplyVerdicts(), context(dataset))
    assert any("has no identity field" in text for text in wrong.values())


def test_unknown_actions_are_refused(judged: Run) -> None:
    with pytest.raises(DataError, match="action is 'drop'; give one of apply, undo"):
        ApplyVerdicts().execute(context(judged.dataset, {"action": "drop"}))
    with pytest.raises(DataError, match="no fixes were applied"):
        ApplyVerdicts().execute(context(judged.dataset, {"action": "undo"}))


def test_what_is_left_out_is_told(judged: Run) -> None:
    dataset = judged.dataset
    first = dataset.first()
    first["identity"] = "p3"
    first.save()
    result = ApplyVerdicts().execute(context(dataset, {"key": "sfam"}))
    assert result["fixed"] == 3
    assert result["left_out"] == [f"{first.id}: its label is now 'p3', not 'p0'."]


def test_verdicts_from_python_and_delegated(judged: Run) -> None:
    dataset, registered = judged.dataset, foo.get_operator(APPLY)
    assert registered(dataset, "sfam").result["fixed"] == 4
    assert registered(dataset, action="undo").result["deleted"]
    restore_verdict(judged, pair_of(judged, 6, 9), None)
    queued = registered(dataset, "sfam", field="mine", delegate=True)
    assert queued.delegated
    assert applied_fields(dataset) == []
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=APPLY, dataset_name=dataset.name
    )
    assert done.error is None
    assert done.result["fixed"] == 1
    dataset.reload()
    assert dataset.values("mine")[0] == "p1"
    [stored] = service.list_operations(operator=APPLY, dataset_name=dataset.name)
    service.delete_operation(stored.id)
