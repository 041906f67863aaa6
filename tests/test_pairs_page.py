"""The page on given pairs: its code and its commands run as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_sfam import list_runs
from fiftyone_sfam.cli.entry import main
from paths import ROOT
from test_docs import blocks
from worlds import person

PAGE = ROOT / "docs" / "pairs.md"
PEOPLE = ("Ann_Lee", "Bo_Orr", "Cy_Poe")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The dataset "faces", and a folder with the page's files."""
    dataset = fo.Dataset("faces")
    for identity, name in enumerate(PEOPLE):
        for shot in (1, 2, 3):
            path = tmp_path / f"{name}_{shot:04d}.png"
            person(identity, shot).save(path)
            dataset.add_sample(fo.Sample(filepath=str(path), person=name))
    lines = ["3\t1"]
    for name, other in pairwise((*PEOPLE, PEOPLE[0])):
        lines += [f"{name}\t1\t3", f"{name}\t1\t{other}\t2"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines), "utf-8")
    rows = ["Ann_Lee_0001,Ann_Lee_0002,1", "Ann_Lee_0001,Cy_Poe_0001,0"]
    table = "\n".join(["file1,file2,genuine", *rows])
    (tmp_path / "pairs.csv").write_text(table, "utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    dataset.delete()


def test_the_page_runs(folder: Path) -> None:
    names: dict[str, Any] = {}
    for code in blocks(PAGE, "python"):
        exec(compile(code, str(PAGE), "exec"), names)
    assert len(names["verification"].folds) == 3
    assert names["found"].shares.sum() == pytest.approx(names["found"].score)
    assert names["sets"].shares.shape == (2, 1)
    assert names["stored"].score == pytest.approx(
        sum(side.score for side in names["stored"].members), abs=1e-6
    )
    assert names["run"].given.listed.score.tolist() == [0.91, 0.87]
    for code in blocks(PAGE, "bash"):
        for line in code.splitlines():
            command, *arguments = shlex.split(line)
            assert command == "fiftyone-sfam"
            assert main(arguments) == 0
    assert list_runs(fo.load_dataset("faces")) == sorted(
        ["again", "kept", "lfw", "reranked", "table", "wrong"]
    )
