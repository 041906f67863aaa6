"""Two demo networks, of which one was trained to lose its shortcut: the wall is named.

Both runs are made by the commands of ``docs/compare.md``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import (
    Run,
    load_comparison,
    load_run,
    write_comparison,
)
from fiftyone_sfam.audit.comparison.display import (
    groups_table,
    regions_table,
    sentences,
)
from fiftyone_sfam.audit.comparison.result import Comparison
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.errors import DataError, RunError
from paths import ROOT
from report_support import Page
from train_demo_network import main as train_demo_network

TEXT = (ROOT / "docs" / "compare.md").read_text("utf-8")
EXAMPLE = TEXT.partition("## An example")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """Return the words of the commands of a page."""
    codes = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(codes).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in commands(EXAMPLE):
            if program == "export":
                name, _, value = words[0].partition("=")
                patch.setenv(name, value.replace("$PWD", os.getcwd()))
            elif program == "python":
                assert words.pop(0) == "scripts/train_demo_network.py"
                train_demo_network(words)
            else:
                assert program == "fiftyone-sfam"
                assert main(words) == 0
        dataset = fo.load_dataset("sfam-demo")
        yield load_run(dataset, "sfam"), load_run(dataset, "shuffled")
    dataset.delete()


@pytest.fixture(scope="module")
def compared(runs: tuple[Run, Run]) -> Comparison:
    stored = load_comparison(*runs)
    assert stored is not None
    return stored


def test_the_wall_is_named(compared: Comparison) -> None:
    assert compared.field == "scene"
    regions = {one.region: one for one in compared.regions}
    # Nothing is background: the masks leave no pixel out.
    assert set(regions) == {"person", "wall", "ground", "background", "not on the map"}
    assert regions["background"].first == regions["background"].second == 0
    wall = min(compared.regions, key=lambda one: one.difference.value)
    assert wall.region == "wall"
    assert wall.second < wall.first - 0.05
    assert wall.difference.low < wall.difference.value < wall.difference.high < -0.05
    assert regions["person"].difference.low > 0.05
    # The head of either network has no bias, so all of the score is on the map.
    assert regions["not on the map"].first == pytest.approx(0, abs=5e-3)
    said = " ".join(sentences(compared))
    assert "'shuffled' takes less of its score than 'sfam' from wall: " in said
    assert "'shuffled' takes more of its score than 'sfam' from person: " in said


def test_the_page_shows_what_the_command_prints(compared: Comparison) -> None:
    """Within what another machine's arithmetic changes over 60 steps of training."""
    [shown] = re.findall(r"^```text\n(.*?)^```", EXAMPLE, re.MULTILINE | re.DOTALL)
    parts = shown.strip().split("\n\n")
    tables = regions_table(compared), groups_table(compared, "planted", 2)
    for part, table in zip(parts, tables, strict=True):
        head, *lines = part.splitlines()
        assert re.split("  +", head) == list(table.head)
        for line, row in zip(lines, table.rows, strict=True):
            cells = [cell.text for cell in row]
            assert line.split("  ")[0] == cells[0]
            numbers, now = (
                [float(one) for one in re.findall(r"[-+]?\d+(?:\.\d)?", text)]
                for text in (line, " ".join(cells))
            )
            assert numbers == pytest.approx(now, abs=8)


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
    shortcut, *others = compared.groups["planted"]
    assert (shortcut.value, shortcut.queries) == ("shortcut", 60)
    # The wall was why their first neighbor was wrong.
    assert shortcut.gained >= 12 > 3 >= shortcut.lost
    assert shortcut.change > 0.25
    assert 0.25 < shortcut.low < shortcut.effect < shortcut.high
    assert all(group.change < 0.05 for group in others)
    assert set(compared.groups) == {"identity", "camera", "planted"}


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
    shares = [row["sfam"].value for row in regions]
    assert shares == pytest.approx([one.first for one in compared.regions])
    measures = page.table("measures")
    assert [row["shuffled"].value for row in measures] == pytest.approx(
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
    assert [caption.partition(":")[0] for caption in captions] == ["sfam", "shuffled"]
    with pytest.raises(DataError, match=r"compare\.html' exists already"):
        write_comparison(*runs, file)
    with pytest.raises(DataError, match="is a folder; name a file"):
        write_comparison(*runs, tmp_path)
    with pytest.raises(DataError, match="max_queries is -1"):
        write_comparison(*runs, file, max_queries=-1, overwrite=True)
    write_comparison(*runs, file, overwrite=True)
    assert "<img" not in Page(file).markup
    with pytest.raises(RunError, match=r"'shuffled' and 'sfam' .* have no comparison"):
        write_comparison(runs[1], runs[0], tmp_path / "other.html")


def test_the_page_of_the_docs(
    runs: tuple[Run, Run],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TEXT.replace(EXAMPLE, "").replace(
        "my-dataset old new", "sfam-demo sfam shuffled"
    )
    text = text.replace('"old"', '"sfam"').replace('"new"', '"shuffled"')
    names: dict[str, object] = {"dataset": runs[0].dataset}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert (tmp_path / "compare.html").exists()
    assert "background" in capsys.readouterr().out
    for _, *words in commands(text):
        assert main([*words, "--overwrite"]) == 0
