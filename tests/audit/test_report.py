"""The report: what it shows is what the run holds, and its files can be read back."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pyarrow.parquet
import pytest

from fiftyone_sfam import Protocol, Run, explain_retrieval
from fiftyone_sfam.audit.evaluation.display import SHOWN_BINS
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.faithfulness.result import load_faithfulness
from fiftyone_sfam.audit.fixes.find import find_fixes, read_fixes
from fiftyone_sfam.audit.regions.ledger import Ledger, build_ledger, load_ledger
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts, load_shortcuts
from fiftyone_sfam.audit.report import tables as report_tables
from fiftyone_sfam.audit.report.write import FILES, ReportFiles, write_report
from fiftyone_sfam.audit.statistics.cells import prose
from fiftyone_sfam.audit.suspects.search import Suspects, find_suspects, load_suspects
from fiftyone_sfam.data.text import without_folders
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import get_verdicts, reviewed, set_verdict
from report_support import (
    Cell,
    Page,
    audit,
    cell,
    false_matches,
    hostile_names,
    rename_identities,
    rows_of,
    run_with_errors,
)
from worlds import fill, fill_frames, small_crops, tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with everything: audits, verdicts, agreed and open fixes, a conflict."""
    run = run_with_errors(tmp_path_factory.mktemp("people"))
    audit(run)
    found = load_suspects(run)
    assert found is not None
    wrong = [one for one in found.findings if one.kind == "mislabeled image"]
    assert len(wrong) == 4
    set_verdict(run, wrong[0].pairs[0], "wrong label")
    suspected = {item for one in wrong for item in one.items}
    pairs = run.pairs
    [first, second, *_] = [
        pair
        for pair in range(len(pairs))
        if not suspected & {int(pairs.query[pair]), int(pairs.gallery[pair])}
    ]
    set_verdict(run, first, "wrong label", "which of them?")
    set_verdict(run, second, "fine")
    yield run
    run.dataset.delete()


@pytest.fixture(scope="module")
def files(run: Run, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(run, tmp_path_factory.mktemp("report"), images=True)


@pytest.fixture(scope="module")
def page(files: ReportFiles) -> Page:
    return Page(files.page)


@pytest.fixture(scope="module")
def evaluation(run: Run) -> Evaluation:
    found = load_evaluation(run)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def suspects(run: Run) -> Suspects:
    found = load_suspects(run)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def ledger(run: Run) -> Ledger:
    found = load_ledger(run)
    assert found is not None
    return found


# --------------------------------------------------------------------------------------
# What it shows
# --------------------------------------------------------------------------------------


def test_the_summary_is_the_runs(
    run: Run, page: Page, evaluation: Evaluation, suspects: Suspects
) -> None:
    cards = page.cards()
    counts = run.config.counts
    assert cards["images"] == Cell("36", 36)
    assert cards["pairs explained"].value == len(run.pairs)
    assert cards["false matches at rank 1"].value == counts["false match"] > 0
    assert cards["rank-1"].value == evaluation.overall.rank1.value
    assert cards["rank-1"].text == f"{100 * evaluation.overall.rank1.value:.1f}\u00a0%"
    ranked = evaluation.identification
    assert cards["mAP"].value == ranked.mean_average_precision
    assert cards["mINP"].value == ranked.mean_inverse_negative_penalty
    assert cards["equal error rate"].value == evaluation.verification.equal_error
    assert cards["findings"].value == len(suspects.findings)
    assert cards["pairs reviewed"].value == 3
    title = page.soup.find("h1")
    assert title is not None
    assert title.get_text() == f"SFAM audit of {run.dataset.name}"


def test_the_measures_are_the_evaluations(page: Page, evaluation: Evaluation) -> None:
    shown = {
        row["measure"].text: row["value (95 % interval)"]
        for row in page.table("measures")
    }
    scores, overall = evaluation.verification, evaluation.overall
    assert shown["rank-1"].value == overall.rank1.value
    low, high = 100 * overall.rank1.low, 100 * overall.rank1.high
    assert shown["rank-1"].text.endswith(f"({low:.1f} to {high:.1f})")
    assert shown["rank-5"].value == evaluation.identification.cmc(5)[4]
    assert shown["mAP"].value == overall.mean_average_precision.value
    assert shown["AUC"].value == scores.auc
    assert shown["equal error rate"].value == scores.equal_error
    assert shown["its threshold"].value == scores.equal_error_threshold
    assert shown["genuine pairs"].value == scores.genuine_pairs > 0
    assert shown["impostor pairs"].value == scores.impostor_pairs > 0


def test_unsupported_rates_are_called_so(page: Page, evaluation: Evaluation) -> None:
    points = evaluation.verification.operating
    shown = page.table("operating")
    assert len(shown) == len(points) == 4
    for row, point in zip(shown, points, strict=True):
        assert row["FAR"].value == point.far
        assert row["expected false accepts"].value == point.expected
        if point.supported:
            assert row["TAR"].value == point.tar
            assert row["threshold"].value == point.threshold
            assert row["supported"].text == "yes"
        else:
            assert row["TAR"] == row["threshold"] == Cell("unknown", None)
            assert row["supported"].text == "no: too few impostor pairs"
    assert {point.supported for point in points} == {True, False}


def test_slices(page: Page, evaluation: Evaluation) -> None:
    titles = [one.get_text() for one in page.section("retrieval").select("summary")]
    assert titles == ["By camera", "By camera of query and neighbor"]
    tables = page.section("retrieval").select("details table")
    rows = evaluation.slices["camera"]
    for shown, row in zip(rows_of(tables[0]), rows, strict=True):
        assert shown["value"].text == row.value
        assert shown["queries"].value == row.queries
        assert shown["rank-1"].value == row.rank1.value
        assert shown["mAP"].value == row.mean_average_precision.value
    pair_rows = evaluation.pair_slices["camera"]
    for shown, pair in zip(rows_of(tables[1]), pair_rows, strict=True):
        assert shown["query's camera"].text == pair.query_value
        assert shown["neighbor's camera"].text == pair.gallery_value
        assert shown["impostor"].value == pair.impostor


def test_the_curves_are_the_evaluations(page: Page, evaluation: Evaluation) -> None:
    ranked, scores = evaluation.identification, evaluation.verification
    [cmc] = page.figure("cmc")["data"]
    assert cmc["x"] == list(range(1, 21))
    assert cmc["y"] == ranked.cmc(20).tolist()
    curve, points = page.figure("roc")["data"]
    assert curve["x"] == scores.roc_fmr.tolist()
    assert curve["y"] == (1 - scores.roc_fnmr).tolist()
    assert points["x"] == [one.far for one in scores.operating if one.supported]
    figure = page.figure("scores")
    for trace, counts in zip(
        figure["data"], (scores.genuine, scores.impostor), strict=True
    ):
        assert len(trace["x"]) == SHOWN_BINS
        assert sum(trace["customdata"]) == counts.sum()
        assert sum(trace["y"]) == pytest.approx(1)
    [line] = figure["layout"]["shapes"]
    assert line["x0"] == scores.equal_error_threshold


def test_findings_are_the_suspects(run: Run, page: Page, suspects: Suspects) -> None:
    shown = page.section("findings").select(".finding")
    assert len(shown) == len(suspects.findings) > 0
    for number, (tag, one) in enumerate(zip(shown, suspects.findings, strict=True), 1):
        assert tag["data-kind"] == one.kind
        assert tag.select_one(".place").get_text() == str(number)
        assert float(tag.select_one(".score")["data-value"]) == one.score
        sentence = tag.select_one(".sentence").get_text().replace("\u00a0%", " %")
        assert sentence == one.sentence
        assert one.proposal
        assert tag.select_one(".proposal").get_text() == f"Proposal: {one.proposal}"
        evidence = {
            item.dt.get_text(): cell(item.dd) for item in tag.select(".evidence div")
        }
        for name, value in one.evidence.items():
            if isinstance(value, float):
                assert evidence[name.replace("_", " ")].value == value
        images, *pairs = tag.select("table")
        ids = [row["id"].text for row in rows_of(images)]
        assert ids == [str(run.items.ids[item]) for item in one.items]
        rows = rows_of(pairs[0])
        assert [row["pair"].value for row in rows] == list(one.pairs)[:12]
        first = one.pairs[0]
        assert rows[0]["similarity"].value == run.pairs.similarity[first]
        assert rows[0]["outcome"].text == OUTCOMES[run.pairs.outcome[first]]
        query, neighbor = run.pairs.query[first], run.pairs.gallery[first]
        assert rows[0]["identity"].text == run.items.identities[query]
        assert rows[0]["identity 2"].text == run.items.identities[neighbor]
    counts = {row["kind"].text: row["findings"].value for row in page.table("findings")}
    assert counts == suspects.counts()


def test_settled_findings_are_marked(page: Page, suspects: Suspects) -> None:
    shown = page.section("findings").select(".finding")
    marks = [[mark.get_text() for mark in tag.select(".answer")] for tag in shown]
    wrong = suspects.findings.index(suspects.of_kind("mislabeled image")[0])
    assert marks == [["accepted"] if n == wrong else [] for n in range(len(shown))]
    text = page.section("findings").get_text()
    assert "Expected to be left among all labels: " in text


def test_regions_are_the_ledgers(page: Page, ledger: Ledger) -> None:
    by_outcome, by_cameras = (
        rows_of(one) for one in page.section("regions").select("details table")
    )
    cells = [one for one in ledger.cells if len(one.groups) == 1]
    for row, one in zip(by_outcome, cells, strict=True):
        assert row["outcome"].text == one.groups[0][1]
        assert row["region"].text == one.region
        assert row["pairs"].value == one.pairs
        assert row["share of the score"].value == pytest.approx(one.share, abs=0)
        if one.region != "not on the map":
            assert row["share of the area"].value == one.area
    assert len(by_cameras) == len(ledger.cells) - len(cells)
    # In each group the shares add up to the score, the remainder among them.
    for outcome in ("true match", "false match"):
        shares = [
            row["share of the score"].value or 0
            for row in by_outcome
            if row["outcome"].text == outcome
        ]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    drawn = {trace["name"]: trace["y"] for trace in page.figure("regions")["data"]}
    true = [one.share for one in cells if one.groups[0][1] == "true match"]
    assert drawn["true match"] == true


def test_shortcuts(run: Run, page: Page) -> None:
    found = load_shortcuts(run)
    assert isinstance(found, Shortcuts)
    assert page.sentences("shortcuts") == [one.sentence for one in found.found]
    effects = [
        float(str(one["data-value"]))
        for one in page.section("shortcuts").select(".shortcut")
    ]
    assert effects == [one.effect for one in found.found]
    assert len(effects) > 0


def test_the_maps_are_the_checks(run: Run, page: Page) -> None:
    found = load_faithfulness(run)
    assert found is not None
    assert page.sentences("maps") == [found.sentence]
    rows = page.table("maps")
    assert [row["map"].text for row in rows] == [one.name for one in found.figures]
    for row, figures in zip(rows, found.figures, strict=True):
        assert row["insertion - deletion"].value == figures.margin.value
        assert row["decisions"].value == figures.decisions.value
        for name, margin in figures.by_fill.items():
            assert row[name].value == margin.value


def test_verdicts_and_fixes(run: Run, page: Page) -> None:
    done = reviewed(run)
    assert done.pairs == 3
    assert (
        f"3 of {len(run.pairs)} pairs have a verdict, of {done.queries} of 36 queries."
        in page.section("verdicts").get_text()
    )
    counts = {
        row["verdict"].text: row["pairs"].value for row in page.table("verdict-counts")
    }
    assert counts == {"fine": 1, "wrong label": 2}
    verdicts = get_verdicts(run)
    listed = page.table("verdict-list")
    assert [row["pair"].value for row in listed] == list(verdicts)
    assert [row["verdict"].text for row in listed] == [
        one.text for one in verdicts.values()
    ]
    assert "which of them?" in [row["note"].text for row in listed]
    fixes = find_fixes(run)
    agreed, unknown = (
        rows_of(one) for one in page.section("verdicts").select("table")[2:4]
    )
    assert [row["should be"].text for row in agreed] == [f.new for f in fixes.agreed]
    assert [row["label"].text for row in agreed] == [f.old for f in fixes.agreed]
    assert [row["should be"].text for row in unknown] == ["?"] * len(fixes.open)
    assert (len(agreed), len(unknown)) == (1, 2)


def test_settings(run: Run, page: Page) -> None:
    shown = {row["setting"].text: row["value"].text for row in page.table("config")}
    assert shown["model"] == "demo"
    assert shown["weights (hash)"] == run.config.weights_hash
    assert shown["layer"] == run.config.layer
    assert shown["metric"] == "cosine"
    assert shown["neighbors per query (k)"] == "4"
    assert shown["protocol: identity field"] == "identity"
    assert shown["protocol: exclude same camera"] == "yes"
    versions = {
        row["package"].text: row["version"].text for row in page.table("versions")
    }
    assert versions == run.config.versions
    method = page.section("method").get_text()
    assert "The cosine of the angle" in method
    assert "arXiv:2506.01636" in method


# --------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------


def test_pictures_are_a_choice(
    run: Run, page: Page, suspects: Suspects, tmp_path: Path
) -> None:
    pictures = page.section("findings").select(".pair")
    assert len(pictures) >= len(suspects.findings)
    for one in pictures:
        assert len(one.select("img")) == 2
        # The finding is about one of the two.
        assert len(one.select("img.marked")) == 1
    urls = [str(one["src"]) for one in page.soup.select("img")]
    assert all(url.startswith("data:image/") for url in urls)
    bare = Page(write_report(run, tmp_path).page)
    # Average maps of shortcuts are no pictures of people.
    left = {str(one["src"]) for one in bare.soup.select("img")}
    assert left == {str(one["src"]) for one in page.section("shortcuts").select("img")}
    assert "data:image/webp" not in bare.markup
    assert "It holds no images." in bare.soup.get_text()
    assert "It holds no images." not in page.soup.get_text()


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    run = run_with_errors(tmp_path)
    try:
        found = find_suspects(run)
        one, other = found.findings[0], found.findings[1]
        pair = one.pairs[0]
        query = run.items.sample_ids[run.pairs.query[pair]]
        Path(run.dataset[str(query)].filepath).unlink()
        neighbor = run.items.sample_ids[run.pairs.gallery[other.pairs[0]]]
        run.dataset.delete_samples([str(neighbor)])
        page = Page(write_report(run, tmp_path / "report", images=True).page)
        problems = {one.get_text() for one in page.soup.select(".no-picture")}
        assert "the sample was deleted." in problems
        [missing] = problems - {"the sample was deleted."}
        assert re.fullmatch(r"the file does not exist: p\d+_c\d_\d+\.png\.", missing)
        assert str(tmp_path) not in page.source
    finally:
        run.dataset.delete()


@pytest.mark.parametrize("listed", [True, False])
def test_detections_are_shown_as_crops(
    dataset: fo.Dataset, tmp_path: Path, listed: bool
) -> None:
    fill_frames(dataset, tmp_path, frames=6, listed=listed)
    run = explain_retrieval(
        dataset,
        tiny_model(),
        k=3,
        patches_field="people",
        protocol=Protocol(identity_field="label"),
    )
    find_suspects(run, min_score=0.0)
    build_ledger(run, None)
    files = write_report(run, tmp_path / "report", images=True)
    page = Page(files.page)
    pictures = page.section("findings").select(".finding img")
    assert len(pictures) > 0
    # Crops of 8 x 16 pixels, enlarged to the same box.
    assert {(one["width"], one["height"]) for one in pictures} == {("72", "144")}
    rows = read_csv(files.pairs_csv)
    assert {row["query_id"] for row in rows} <= set(map(str, run.items.label_ids))
    assert {row["query_sample"] for row in rows} <= set(dataset.values("id"))
    assert {row["query_file"] for row in rows} <= {f"frame-{n}.png" for n in range(6)}


# --------------------------------------------------------------------------------------
# What is not there
# --------------------------------------------------------------------------------------


def test_a_run_without_audits_says_what_computes_them(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path)
    protocol = Protocol(identity_field="identity")
    run = explain_retrieval(dataset, tiny_model(), key="mine", protocol=protocol)
    files = write_report(run, tmp_path / "report")
    assert (files.findings_csv, files.findings_parquet) == (None, None)
    page = Page(files.page)
    for section, operator, command in (
        ("retrieval", "SFAM: evaluate retrieval", "evaluate"),
        ("findings", "SFAM: find suspects", "suspects"),
        ("regions", "SFAM: explain regions", "regions"),
        ("shortcuts", "SFAM: explain regions", "regions"),
        ("maps", "SFAM: check faithfulness", "faithfulness"),
    ):
        text = page.section(section).get_text()
        assert f"operator “{operator}” in the App" in text
        assert f"fiftyone-sfam {command} {dataset.name} mine" in text
        assert not page.section(section).select("table")
    assert page.cards()["rank-1"].value == run.summary()["rank1"]
    assert "0 of" in page.section("verdicts").get_text()
    assert read_fixes(files.fixes).fixes == ()
    assert page.soup.select(".plot") == []


def test_a_run_without_labels(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path)
    run = explain_retrieval(dataset, tiny_model(), k=2)
    files = write_report(run, tmp_path / "report")
    assert files.fixes is None
    assert Page(files.page).cards()["rank-1"] == Cell("unknown", None)
    rows = read_csv(files.pairs_csv)
    assert {row["query_identity"] for row in rows} == {""}
    assert {row["outcome"] for row in rows} == {"unlabeled"}


def test_images_that_were_skipped_are_listed_without_folders(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path)
    broken = Path(dataset.first().filepath)
    broken.write_bytes(b"no image")
    run = explain_retrieval(dataset, tiny_model(), k=2)
    assert len(run.skipped) == 1
    page = Page(write_report(run, tmp_path / "report").page)
    [row] = page.table("skipped")
    assert row["file"].text == broken.name
    assert row["id"].text == dataset.first().id
    assert "cannot be read as an image" in row["reason"].text
    assert str(tmp_path) not in page.source


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("there is no /data/people/1.png.", "there is no 1.png."),
        ("cannot identify '/tmp/a/x.png'", "cannot identify 'x.png'"),
        (r"C:\people\chips\7.jpg is broken", "7.jpg is broken"),
        ("1/2 of 3/4", "1/2 of 3/4"),
        ("/weights/osnet.pt", "osnet.pt"),
        ("cosine", "cosine"),
    ],
)
def test_folders_are_cut_off(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_a_known_path_may_be_called_anything() -> None:
    path = "/my people/all of them/1.png"
    assert without_folders(f"no such file: {path}.", path) == "no such file: 1.png."


# --------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_pairs_are_read_back(run: Run, files: ReportFiles, ledger: Ledger) -> None:
    table = pyarrow.parquet.read_table(files.pairs_parquet).to_pydict()
    pairs, items = run.pairs, run.items
    assert table["pair"] == list(range(len(pairs)))
    assert table["similarity"] == pairs.similarity.tolist()
    assert table["distance"] == pairs.distance.tolist()
    assert table["rank"] == pairs.rank.tolist()
    assert table["outcome"] == [OUTCOMES[code] for code in pairs.outcome]
    assert table["query_id"] == [str(items.ids[item]) for item in pairs.query]
    assert table["neighbor_identity"] == [items.identities[i] for i in pairs.gallery]
    assert table["query_camera"] == [items.cameras[i] for i in pairs.query]
    assert table["query_remainder"] == run.remainders[:, 0].astype(float).tolist()
    verdicts = get_verdicts(run)
    assert {p: v for p, v in enumerate(table["verdict"]) if v is not None} == {
        pair: one.text for pair, one in verdicts.items()
    }
    for region in ledger.regions:
        column = ledger.column(region)
        for which, side in enumerate(("query", "neighbor")):
            expected = ledger.shares[:, which, column].astype(float).tolist()
            assert table[f"{side}/{region}"] == expected
    # Regions and remainder add up to the similarity.
    carried = sum(np.array(table[f"query/{region}"]) for region in ledger.regions)
    rest = pairs.similarity - carried
    assert np.abs(rest - np.array(table["query_remainder"])).max() < 0.02


@pytest.mark.parametrize("name", ["pairs", "findings"])
def test_csv_and_parquet_hold_the_same(files: ReportFiles, name: str) -> None:
    table = pyarrow.parquet.read_table(files.folder / f"{name}.parquet").to_pydict()
    rows = read_csv(files.folder / f"{name}.csv")
    assert list(rows[0]) == list(table)
    for column, values in table.items():
        shown = [row[column] for row in rows]
        for text, value in zip(shown, values, strict=True):
            if value is None:
                assert text == ""
            elif isinstance(value, str):
                assert text == value
            elif isinstance(value, list):
                assert json.loads(text) == value
            else:
                assert type(value)(text) == value


def test_tables_are_written_in_blocks(
    run: Run,
    files: ReportFiles,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report_tables, "_ROWS", 7)
    assert len(run.pairs) % 7 != 0
    verdicts = get_verdicts(run)
    for write, name in (
        (report_tables.write_csv, "pairs.csv"),
        (report_tables.write_parquet, "pairs.parquet"),
    ):
        write(tmp_path / name, report_tables.pair_frames(run, verdicts, ledger))
    whole = pyarrow.parquet.read_table(files.pairs_parquet)
    assert pyarrow.parquet.read_table(tmp_path / "pairs.parquet").equals(whole)
    assert (tmp_path / "pairs.csv").read_bytes() == files.pairs_csv.read_bytes()


def test_a_ledger_of_some_pairs_leaves_the_others_empty(
    run: Run, tmp_path: Path
) -> None:
    first = build_ledger(run, "person", max_rank=1, resamples=20, save=False)
    blocks = report_tables.pair_frames(run, {}, first)
    report_tables.write_csv(tmp_path / "pairs.csv", blocks)
    rows = read_csv(tmp_path / "pairs.csv")
    assert {row["rank"] == "1" for row in rows} == {True, False}
    for row in rows:
        assert (row["query/person"] == "") == (row["rank"] != "1")


def test_findings_are_read_back(files: ReportFiles, suspects: Suspects) -> None:
    table = pyarrow.parquet.read_table(files.findings_parquet).to_pydict()
    found = suspects.findings
    assert table["finding"] == list(range(1, len(found) + 1))
    assert table["kind"] == [one.kind for one in found]
    assert table["score"] == [one.score for one in found]
    assert table["sentence"] == [one.sentence for one in found]
    assert table["proposal"] == [one.proposal for one in found]
    assert table["pairs"] == [list(one.pairs) for one in found]
    assert table["identities"] == [list(one.identities) for one in found]
    assert [json.loads(text) for text in table["evidence"]] == [
        one.evidence for one in found
    ]


def test_all_findings_are_in_the_tables(
    run: Run, suspects: Suspects, tmp_path: Path
) -> None:
    files = write_report(run, tmp_path, max_findings=1)
    page = Page(files.page)
    assert len(page.section("findings").select(".finding")) == 1
    left = len(suspects.findings) - 1
    assert f"{left} more are in the tables" in page.section("findings").get_text()
    assert files.findings_csv is not None
    assert len(read_csv(files.findings_csv)) == left + 1
    none = Page(write_report(run, tmp_path, max_findings=0, overwrite=True).page)
    assert none.section("findings").select(".finding") == []
    with pytest.raises(DataError, match="max_findings is -1"):
        write_report(run, tmp_path, max_findings=-1, overwrite=True)


def test_the_fixes_of_a_report_are_the_runs(run: Run, files: ReportFiles) -> None:
    stored, found = read_fixes(files.fixes), find_fixes(run)
    assert (stored.fixes, stored.conflicts) == (found.fixes, found.conflicts)


# --------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------


@pytest.fixture
def small(dataset: fo.Dataset, tmp_path: Path) -> Run:
    fill(dataset, tmp_path)
    return explain_retrieval(
        dataset, tiny_model(), k=2, protocol=Protocol(identity_field="identity")
    )


def test_a_report_is_not_replaced_silently(small: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    files = write_report(small, folder)
    names = {"report.html", "pairs.csv", "pairs.parquet", "fixes.json"}
    assert {one.name for one in folder.iterdir()} == names
    mine = folder / "notes.txt"
    mine.write_text("mine")
    before = files.page.stat().st_mtime_ns
    with pytest.raises(DataError, match=r"holds 'report\.html' already"):
        write_report(small, folder)
    assert files.page.stat().st_mtime_ns == before
    # What the later report does not have does not stay from the earlier one.
    again = write_report(small, folder, parquet=False, overwrite=True)
    assert again.pairs_parquet is None
    names = names - {"pairs.parquet"} | {"notes.txt"}
    assert {one.name for one in folder.iterdir()} == names
    assert mine.read_text() == "mine"
    assert names - {"notes.txt"} < set(FILES)


def test_folders_that_cannot_be_written(small: Run, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        write_report(small, taken)
    with pytest.raises(DataError, match="cannot be written"):
        write_report(small, taken / "below")
    assert taken.read_text() == "mine"


def test_other_accounts_may_read_a_report(small: Run, tmp_path: Path) -> None:
    files = write_report(small, tmp_path / "report")
    mask = os.umask(0)
    os.umask(mask)
    for one in files.folder.iterdir():
        assert one.stat().st_mode & 0o777 == 0o666 & ~mask


def test_without_pyarrow_the_extra_is_named(
    small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'fiftyone-sfam\[report\]'"):
        write_report(small, tmp_path / "report", parquet=True)
    assert not (tmp_path / "report").exists()
    files = write_report(small, tmp_path / "report")
    assert files.pairs_parquet is None
    assert not list(files.folder.glob("*.parquet"))
    assert len(read_csv(files.pairs_csv)) == len(small.pairs)


# --------------------------------------------------------------------------------------
# Hostile texts
# --------------------------------------------------------------------------------------


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path)
    try:
        names = hostile_names()
        rename_identities(dataset, names)
        swapped = dataset.values("identity")
        swapped[0], swapped[9] = swapped[9], swapped[0]
        dataset.set_values("identity", swapped)
        dataset.set_values("camera", ["<i>c</i>"] * len(dataset))
        run = explain_retrieval(
            dataset, "demo", k=4, protocol=Protocol("identity", camera_field="view")
        )
        audit(run, "identity")
        set_verdict(run, false_matches(run)[0], "<b onclick=alert(5)>", "</td><script>")
        files = write_report(run, tmp_path / "report", images=True)
        page = Page(files.page)
        scripts = page.soup.select("script")
        data = [one for one in scripts if one.get("type") == "application/json"]
        # Plotly's and ours, and the figures' data.
        assert len(scripts) - len(data) == 2
        assert len(data) == 4
        assert not page.soup.select("[onclick], [onerror], td script, td img, td b")
        text = page.soup.get_text()
        for name in names:
            assert name in text
        assert [row["verdict"].text for row in page.table("verdict-list")] == [
            "<b onclick=alert(5)>"
        ]
        table = pyarrow.parquet.read_table(files.pairs_parquet).to_pydict()
        assert set(table["query_identity"]) == set(names)
        rows = read_csv(files.pairs_csv)
        assert [row["query_identity"] for row in rows] == table["query_identity"]
    finally:
        dataset.delete()


def test_names_do_not_turn_a_sentence() -> None:
    override = "\u202eevil"
    assert prose(f"{override} is near") == "\ufffdevil is near"
    hebrew = "\u05d3\u05d5\u05d3"
    sentence = f"{hebrew} is near {hebrew} 2"
    isolated = f"\u2068{hebrew}\u2069"
    assert prose(sentence, [hebrew, "a"]) == f"{isolated} is near {isolated} 2"
    assert prose("p1 is near p12", ["p1", "p12", None]) == "p1 is near p12"


def test_only_known_scripts_may_run(page: Page) -> None:
    policy = page.soup.find("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy is not None
    rules = dict(one.split(maxsplit=1) for one in str(policy["content"]).split("; "))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"('sha256-[\w+/]+=+' ?){2}", rules["script-src"])
    assert rules["img-src"] == "data: blob:"


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for attribute in ("src", "href", "action", "srcset"):
        for tag in page.soup.select(f"[{attribute}]"):
            assert str(tag[attribute]).startswith(("#", "data:image/"))
    assert "@import" not in page.source[: page.source.index("</style>")]
    assert "url(" not in page.source[: page.source.index("</style>")]


def test_no_paths_of_the_machine(run: Run, page: Page, files: ReportFiles) -> None:
    folders = {str(Path(path).parent) for path in run.dataset.values("filepath")} | {
        str(Path.home()),
        fo.config.database_dir,
    }
    tables = [one.read_text("utf-8") for one in files.folder.glob("*.csv")]
    texts = [page.markup, *tables]
    texts.append((files.folder / "fixes.json").read_text("utf-8"))
    for text in texts:
        for folder in folders:
            assert len(folder) < 4 or folder not in text


def test_pictures_are_small(page: Page) -> None:
    pictures = page.section("findings").select("img")
    assert pictures
    assert max(len(str(one["src"])) for one in pictures) < 12_000
    assert len(page.source) < 6_000_000
