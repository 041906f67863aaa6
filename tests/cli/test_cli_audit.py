"""The commands that audit a run: they compute what the library does, and print it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from cli_support import Output, printed, refused, rows
from fiftyone_sfam import Run, load_run
from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.fixes.find import find_fixes, read_fixes
from fiftyone_sfam.audit.regions.ledger import load_ledger
from fiftyone_sfam.audit.regions.shortcuts import load_shortcuts
from fiftyone_sfam.audit.suspects.review import reject_proposal, right_first
from fiftyone_sfam.audit.suspects.search import find_suspects, load_suspects
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.cli.support import plain_table
from fiftyone_sfam.review.verdicts import (
    get_verdicts,
    restore_verdict,
    set_verdict,
)
from report_support import Page, run_with_errors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = run_with_errors(tmp_path_factory.mktemp("people"))
    yield run
    run.dataset.delete()


def interval(value: float, low: float, high: float) -> str:
    """How a share is printed."""
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def test_evaluate(run: Run, capsys: Output) -> None:
    text = printed(
        capsys,
        *("evaluate", run.dataset.name, "--slice", "camera", "--pair-slice", "camera"),
        *("--far", "0.1", "--far", "0.001", "--resamples", "40", "--seed", "3"),
    )
    found = load_evaluation(run)
    assert found is not None
    assert (found.resamples, found.seed) == (40, 3)
    measures = dict(rows(text, "measure"))
    rank1 = found.overall.rank1
    assert measures["rank-1"] == interval(rank1.value, rank1.low, rank1.high)
    assert measures["AUC"] == f"{found.verification.auc:.4f}"
    operating = rows(text, "FAR")
    assert [one[0] for one in operating] == ["10 %", "0.1 %"]
    assert operating[0][1] == f"{100 * found.verification.operating[0].tar:.2f} %"
    assert operating[1][1:3] == ["unknown", "unknown"]
    assert operating[1][4] == "no: too few impostor pairs"
    slices = rows(text, "value")
    assert [one[0] for one in slices] == [one.value for one in found.slices["camera"]]
    pairs = rows(text, "query's camera")
    assert len(pairs) == len(found.pair_slices["camera"]) == 16
    assert run.dataset.get_field("sfam_ap") is not None


def test_suspects(run: Run, capsys: Output) -> None:
    text = printed(capsys, "suspects", run.dataset.name, "sfam", "--top", "2")
    found = load_suspects(run)
    assert found is not None
    counts = {kind: int(number) for kind, number in rows(text, "kind")}
    assert counts == found.counts()
    first, second = found.findings[:2]
    assert (
        f"  1  {first.score:.3f}  {first.kind}\n"
        f"     {first.sentence}\n     {first.proposal}\n" in text
    )
    assert second.sentence in text
    assert found.findings[2].sentence not in text
    assert f"and {len(found.findings) - 2} more" in text
    assert re.search(r"\nExpected among all labels: [\d.]+ mislabeled images?, ", text)
    text = printed(
        capsys, "suspects", run.dataset.name, "--kind", "near-duplicate", "--top", "0"
    )
    assert dict(rows(text, "kind")) == {"near-duplicate": "0"}
    assert "Expected" not in text
    error = refused(capsys, "suspects", run.dataset.name, "--kind", "ghost")
    assert "ghost" in error


def test_suspects_as_precise_as_wanted(run: Run, capsys: Output) -> None:
    command = ("suspects", run.dataset.name, "--min-score", "0.01", "--top", "1000")
    text = printed(capsys, *command, "--precision", "0.9")
    found = load_suspects(run)
    assert found is not None
    right = right_first(found.findings, 0.9)
    assert 0 < len(right) < len(found)
    places = re.findall(r"^ +(\d+)  [01]\.\d{3}  ", text, re.MULTILINE)
    assert places == [str(place) for place in range(1, len(right) + 1)]
    assert " more" not in text
    error = refused(capsys, *command, "--precision", "9")
    assert "the precision is 9.0; use a number above 0 and at most 1" in error


def test_suspects_that_are_settled(run: Run, capsys: Output) -> None:
    command = ("suspects", run.dataset.name, "--kind", "mislabeled image")
    before = printed(capsys, *command)
    found = load_suspects(run)
    assert found is not None
    first = found.findings[0]
    reject_proposal(run, first)
    try:
        text = printed(capsys, *command)
    finally:
        for pair in get_verdicts(run):
            restore_verdict(run, pair, None)
    # It is listed last, with its own score; the others are less probable now.
    assert text.index(first.sentence) > max(
        text.index(one.sentence) for one in found.findings[1:]
    )
    assert f"  {first.score:.3f}  {first.kind}, rejected\n" in text
    assert ", rejected" not in before
    assert "Expected among all labels: " in before
    assert "Expected to be left among all labels: " in text


def test_regions(run: Run, capsys: Output) -> None:
    text = printed(capsys, "regions", run.dataset.name, "--top", "1")
    ledger, shortcuts = load_ledger(run), load_shortcuts(run)
    assert ledger is not None
    assert shortcuts is not None
    assert ledger.field == "person"
    assert f"{len(ledger)} pairs, regions from the field 'person'" in text
    cells = [one for one in ledger.cells if len(one.groups) == 1]
    shown = rows(text, "outcome")
    assert [row[1] for row in shown] == [one.region for one in cells]
    person = next(one for one in cells if one.region == "person")
    assert shown[0][4] == interval(person.share, person.low, person.high)
    assert "-0.0" not in text
    (head,) = (line for line in text.splitlines() if line.startswith("outcome"))
    assert re.split(r"  +", head) == [
        *("outcome", "region", "pairs", "queries"),
        *("share of the score", "share of the area"),
    ]
    # By camera pair only if that is asked for.
    assert "c1-c2" not in text
    by_cameras = ("regions", run.dataset.name, "--by", "camera pair")
    assert "c1-c2" in printed(capsys, *by_cameras)
    assert shortcuts.found[0].sentence in text


def test_stripes_and_the_causal_check(run: Run, capsys: Output) -> None:
    text = printed(
        capsys,
        *("regions", run.dataset.name, "--stripes", "2", "--max-rank", "1"),
        *("--check", "demo", "--check-region", "stripe 1 of 2"),
    )
    ledger = load_ledger(run)
    assert ledger is not None
    assert (ledger.field, len(ledger.regions)) == (None, 2)
    assert "regions from stripes" in text
    assert "the similarity falls by" in text
    error = refused(capsys, "regions", run.dataset.name, "--field", "identity")
    assert "identity" in error
    with pytest.raises(SystemExit):
        main(["regions", run.dataset.name, "--field", "person", "--stripes", "3"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_report(run: Run, capsys: Output, tmp_path: Path) -> None:
    out = tmp_path / "report"
    report = ("report", run.dataset.name, "sfam", "--out", str(out))
    paths = printed(capsys, *report, "--no-parquet").splitlines()
    assert paths[0] == str(out / "report.html")
    assert {Path(path).name for path in paths} == {one.name for one in out.iterdir()}
    assert not list(out.glob("*.parquet"))
    assert "It holds no images." in Page(out / "report.html").soup.get_text()
    assert "holds 'report.html' already" in refused(capsys, *report)
    assert len(find_suspects(run, min_score=0.01).findings) > 1
    printed(capsys, *report, "--overwrite", "--images", "--max-findings", "1")
    page = Page(out / "report.html")
    assert "It holds no images." not in page.soup.get_text()
    assert len(page.section("findings").select(".finding")) == 1
    assert len(list(out.glob("*.parquet"))) >= 1


def test_verdicts(run: Run, capsys: Output) -> None:
    name = run.dataset.name
    for pair in get_verdicts(run):
        printed(capsys, "verdicts", name, "--remove", str(pair))
    total = len(run.pairs)
    assert printed(capsys, "verdicts", name) == f"0 of {total} pairs have a verdict.\n"
    given = ("verdicts", name, "--set", "3")
    text = printed(capsys, *given, "look-alike", "--note", "same coat")
    assert text == "pair 3: 'look-alike'\n"
    text = printed(capsys, *given, "fine")
    assert text == "pair 3: 'fine', was 'look-alike'\n"
    assert "\x1b" not in refused(capsys, *given, "\x1b[31mred")
    printed(capsys, "verdicts", name, "--set", "5", "red", "--note", "n")
    verdicts = get_verdicts(load_run(run.dataset, "sfam"))
    assert {pair: one.text for pair, one in verdicts.items()}[3] == "fine"
    text = printed(capsys, "verdicts", name)
    assert f"2 of {total} pairs have a verdict." in text
    listed = rows(text, "pair")
    assert [one[0] for one in listed] == ["3", "5"]
    query = run.items.identities[run.pairs.query[3]]
    assert listed[0][1] == query
    assert printed(capsys, "verdicts", name, "--remove", "5") == "pair 5: no verdict\n"
    assert set(get_verdicts(run)) == {3}
    printed(capsys, "verdicts", name, "--remove", "3")
    assert "'x' is not a whole number" in refused(
        capsys, "verdicts", name, "--set", "x", "fine"
    )
    assert "no pair" in refused(capsys, "verdicts", name, "--set", "99999", "fine")


def test_fixes(run: Run, capsys: Output, tmp_path: Path) -> None:
    dataset, name = run.dataset, run.dataset.name
    first, other = (int(one) for one in (run.pairs.query[0], run.pairs.gallery[0]))
    names = run.items.identities
    assert names[first] != names[other]
    set_verdict(run, 0, "wrong label", f"query: {names[other]}")
    text = printed(capsys, "fixes", name)
    assert "1 agreed, 0 open, 0 conflicts" in text
    [fix] = find_fixes(run).agreed
    expected = [fix.id, names[first], names[other], "note", "1"]
    assert rows(text, "id") == [expected]

    path = tmp_path / "fixes.json"
    assert str(path) in printed(capsys, "fixes", name, "--out", str(path))
    assert read_fixes(path).agreed == (fix,)
    assert "exists" in refused(capsys, "fixes", name, "--out", str(path))
    printed(capsys, "fixes", name, "--out", str(path), "--overwrite")

    body = json.loads(path.read_text("utf-8"))
    body["fixes"][0]["new"] = "somebody"
    path.write_text(json.dumps(body), "utf-8")
    assert "somebody" in printed(capsys, "fixes", name, "--from", str(path))
    apply = ("fixes", name, "--apply", "--from", str(path), "--field", "mine")
    text = printed(capsys, *apply)
    assert text == "fixed 1 label in the field 'mine'\n"
    assert dataset[fix.id]["mine"] == "somebody"
    assert dataset[fix.id]["identity"] == names[first]
    assert "has a field 'mine' already" in refused(capsys, *apply)
    text = printed(capsys, *apply, "--overwrite")
    assert text == "fixed 1 label in the field 'mine', changing 0 of its values\n"
    undo = ("fixes", name, "--undo", "--field", "mine")
    assert printed(capsys, *undo) == "restored 0 values of the field 'mine'\n"
    assert printed(capsys, *undo) == "deleted the field 'mine'\n"
    assert "no fixes were applied" in refused(capsys, *undo)
    dataset.reload()
    assert dataset.get_field("mine") is None
    error = refused(capsys, "fixes", name, "--from", str(tmp_path / "none.json"))
    assert "cannot be read" in error


@pytest.mark.parametrize(
    "argv",
    [
        ("evaluate", "no-such"),
        ("suspects", "no-such"),
        ("regions", "no-such"),
        ("report", "no-such", "--out", "x"),
        ("verdicts", "no-such"),
        ("fixes", "no-such"),
        ("fixes", "no-such", "--undo"),
    ],
)
def test_unknown_datasets(argv: tuple[str, ...], capsys: Output) -> None:
    assert "There is no dataset 'no-such'" in refused(capsys, *argv)


@pytest.mark.parametrize("command", ["evaluate", "suspects", "regions", "verdicts"])
def test_unknown_runs(dataset: fo.Dataset, command: str, capsys: Output) -> None:
    error = refused(capsys, command, dataset.name, "mine")
    assert "has no explained run 'mine'" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["report", "d"], "required: --out"),
        (["evaluate", "d", "--cameras", "none"], "invalid choice: 'none'"),
        (["evaluate", "d", "--resamples", "0"], "0 is out of range; give 1 or more"),
        (["evaluate", "d", "--far", "many"], "invalid float value: 'many'"),
        (["regions", "d", "--stripes", "0"], "0 is out of range; give 1 to 1000"),
        (["verdicts", "d", "--set", "1"], "--set: expected 2 arguments"),
        (["fixes", "d", "--apply", "--undo"], "not allowed with argument"),
    ],
)
def test_wrong_arguments(argv: list[str], message: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_tables_for_terminals() -> None:
    assert plain_table(("a", "bb"), [("xyz", 1), ("", 22)], right=("bb",)) == (
        "a    bb\nxyz   1\n     22"
    )
