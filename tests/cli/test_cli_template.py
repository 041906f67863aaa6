"""The command that compares images with a template."""

from __future__ import annotations

import re
from pathlib import Path

import fiftyone as fo
import pytest

from cli_support import Output, printed, refused, rows
from fiftyone_sfam import Run, explain_pairs, explain_template
from worlds import small_crops


@pytest.fixture(scope="module")
def run(crops: fo.Dataset) -> Run:
    ids = crops.values("id")
    listed = [(ids[0], ids[number]) for number in range(1, 6)]
    return explain_pairs(crops, "demo", listed, contributions="float16")


@pytest.mark.parametrize("raw", [False, True])
def test_shares_from_a_model_and_from_a_run(
    crops: fo.Dataset, run: Run, raw: bool, capsys: Output
) -> None:
    ids, paths = crops.values(["id", "filepath"])
    names = [Path(path).stem for path in paths[:5]]
    argv = ["template", crops.name, "--probe", ids[0], "--probe", names[1]]
    for name in names[2:]:
        argv += ["--member", name]
    argv += ["--raw-lengths"] if raw else []
    expected = explain_template(
        "demo", paths[:2], paths[2:5], normalize_members=not raw
    )
    stored = run.explain_template(ids[:2], ids[2:5], normalize_members=not raw)
    for more, found in ((["--model", "demo"], expected), ([], stored)):
        text = printed(capsys, *argv, *more)
        first = re.match(r"similarity (\S+), distance (\S+), layer (\S+)\n", text)
        assert first is not None
        assert first.groups() == (
            f"{found.score:.4f}",
            f"{found.distance:.4f}",
            found.layer,
        )
        shown = rows(text, "side")
        assert [row[:2] for row in shown] == [
            ["probe", ids[0]],
            ["probe", names[1]],
            *(["member", name] for name in names[2:]),
        ]
        for row, one in zip(shown, [*found.probe, *found.members], strict=True):
            assert float(row[2]) == pytest.approx(one.score, abs=6e-5)
            share = 100 * one.score / found.score
            assert row[3] == f"{share:.1f} %"
            assert float(row[4]) == pytest.approx(one.remainder, abs=6e-5)
    assert expected.score == pytest.approx(stored.score, abs=1e-3)


def test_mistakes(crops: fo.Dataset, run: Run, capsys: Output) -> None:
    ids = crops.values("id")
    template = ["template", crops.name, "--probe", ids[0]]
    assert "needs --probe and --member, with" in refused(capsys, *template)
    said = refused(capsys, *template, "--member", "nobody")
    assert "'nobody' is not in the view; a name is an id, or the end of a" in said
    said = refused(capsys, *template, "--member", ids[30])
    assert f"the run 'pairs' has no image '{ids[30]}'; give the id of one of" in said
    bare = small_crops(Path(crops.first().filepath).parent / "bare")
    try:
        own = bare.values("id")
        argv = ["template", bare.name, "gone", "--probe", own[0], "--member", own[1]]
        assert "no explained run 'gone'" in refused(capsys, *argv)
    finally:
        bare.delete()
