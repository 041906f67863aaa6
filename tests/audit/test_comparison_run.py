"""Two demo networks, of which one has lost its shortcut: the wall is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fiftyone_sfam import Run, compare_runs, explain_retrieval, write_comparison
from fiftyone_sfam.audit.comparison.display import sentences
from fiftyone_sfam.audit.comparison.result import Comparison
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError
from paths import ROOT
from report_support import Page
from robust_demo import robust_model, walled_crops

PROTOCOL = Protocol("identity", camera_field="camera")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    dataset = walled_crops(tmp_path_factory.mktemp("crops"))
    options = {"k": 5, "protocol": PROTOCOL, "kinds": ["evidence"]}
    yield (
        explain_retrieval(dataset, "demo", key="old", **options),
        explain_retrieval(dataset, robust_model(), key="new", **options),
    )
    dataset.delete()


@pytest.fixture(scope="module")
def compared(runs: tuple[Run, Run]) -> Comparison:
    return compare_runs(*runs, slices=["striking", "view"])


def test_the_wall_is_named(compared: Comparison) -> None:
    assert compared.field == "scene"
    wall, *others = compared.regions
    assert wall.region == "wall"
    assert wall.first - 0.12 < wall.second < wall.first - 0.05
    assert -0.15 < wall.difference.low < wall.difference.high < -0.02
    # Nothing is background: the masks leave no pixel out.
    names = {"person", "ground", "background", "not on the map"}
    assert {one.region for one in others} == names
    assert [one.second for one in others if one.region == "background"] == [0]
    by_name = {one.region: one for one in compared.regions}
    assert by_name["person"].difference.low > 0.02
    # The head of either network has no bias, so all of the score is on the map.
    assert by_name["not on the map"].first == pytest.approx(0, abs=5e-3)
    said = " ".join(sentences(compared))
    assert "that differ the most: wall " in said


def test_regions_are_ratios_of_sums(
    runs: tuple[Run, Run], compared: Comparison
) -> None:
    for side, run in enumerate(runs):
        ledger = build_ledger(run, "scene", save=False)
        chosen = compared.pairs[side]
        assert (ledger.pairs == np.arange(len(run.pairs))).all()
        total = ledger.score[chosen].sum()
        for region in compared.regions[:3]:
            carried = ledger.shares[chosen, 0, ledger.column(region.region)].sum()
            found = (region.first, region.second)[side]
            assert found == pytest.approx(carried / total, rel=1e-5)
        ends = [
            [str(run.items.ids[item]) for item in column[chosen]]
            for column in (run.pairs.query, run.pairs.gallery)
        ]
        if side == 0:
            first = ends
        assert ends == first


def test_who_gains_are_those_before_the_wall(compared: Comparison) -> None:
    rank1 = compared.figures[0]
    assert rank1.second > rank1.first
    assert len(compared.gained) > len(compared.lost)
    striking, usual = sorted(
        compared.groups["striking"], key=lambda group: group.value, reverse=True
    )
    assert (striking.value, usual.value) == ("True", "False")
    assert striking.queries == 24
    # The wall was why their first neighbor was wrong, and why their own other images
    # were near: rank-1 rises, and the average precision falls.
    assert (striking.gained, usual.gained) == (len(compared.gained), 0)
    assert striking.change < usual.change - 0.05
    assert striking.high < 0 < usual.low
    assert set(compared.groups) == {"identity", "camera", "striking", "view"}


def test_the_report(
    runs: tuple[Run, Run], compared: Comparison, tmp_path: Path
) -> None:
    file = tmp_path / "made" / "compare.html"
    assert write_comparison(*runs, file, images=True, max_queries=3) == file
    page = Page(file)
    regions = page.table("regions")
    assert [row["share of the score"].text for row in regions] == [
        one.region for one in compared.regions
    ]
    shares = [row["old"].value for row in regions]
    assert shares == pytest.approx([one.first for one in compared.regions])
    measures = page.table("measures")
    assert [row["new"].value for row in measures] == pytest.approx(
        [one.second for one in compared.figures]
    )
    figure = page.figure("places")
    assert len(figure["data"]) == 3
    assert compared.places is not None
    assert np.array(figure["data"][2]["z"]) == pytest.approx(
        compared.places.difference, abs=1e-6
    )
    assert page.figure("ranks")["data"][0]["customdata"][0][0] > 50
    # Three queries, each with a query's and a neighbor's picture in both runs.
    articles = page.section("queries").select("article")
    assert len(articles) == 3
    assert [len(one.select("img")) for one in articles] == [4, 4, 4]
    captions = [one.get_text() for one in articles[0].select("figcaption")]
    assert [caption.partition(":")[0] for caption in captions] == ["old", "new"]
    with pytest.raises(DataError, match=r"compare\.html' exists already"):
        write_comparison(*runs, file)
    with pytest.raises(DataError, match="is a folder; name a file"):
        write_comparison(*runs, tmp_path)
    with pytest.raises(DataError, match="max_queries is -1"):
        write_comparison(*runs, file, max_queries=-1, overwrite=True)
    write_comparison(*runs, file, overwrite=True)
    assert "<img" not in Page(file).markup
    with pytest.raises(RunError, match=r"'new' and 'old' .* have no comparison"):
        write_comparison(runs[1], runs[0], tmp_path / "other.html")


def test_the_page_of_the_docs(
    runs: tuple[Run, Run],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "compare.md").read_text("utf-8")
    names: dict[str, object] = {"dataset": runs[0].dataset}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert (tmp_path / "compare.html").exists()
    assert "background" in capsys.readouterr().out
    for command in re.findall(r"^fiftyone-sfam (.+)$", text, re.MULTILINE):
        words = command.replace("my-dataset", runs[0].dataset.name).split()
        assert main([*words, "--overwrite"]) == 0
