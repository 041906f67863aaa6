"""The command of faithfulness: it computes what the library does, and prints it."""

from __future__ import annotations

import fiftyone as fo
import pytest

from cli_support import printed, refused, rows
from fiftyone_sfam import Run, explain_retrieval, load_faithfulness
from fiftyone_sfam.cli.entry import main
from worlds import REID

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(crops: fo.Dataset) -> Run:
    return explain_retrieval(crops, "demo", k=2, protocol=REID)


def test_the_table(run: Run, capsys: Output) -> None:
    text = printed(
        capsys,
        *("faithfulness", run.dataset.name, "--pairs", "8", "--steps", "3"),
        *("--side", "gallery", "--fill", "inpaint", "--layer", "auto"),
    )
    found = load_faithfulness(run)
    assert found is not None
    assert (found.side, found.fills, len(found)) == ("gallery", ("inpaint",), 8)
    assert found.deletion.shape[2] == 4
    assert text.startswith(found.sentences[0])
    shown = rows(text, "map")
    assert [row[0] for row in shown] == [one.name for one in found.figures]
    margin = found.figures[0].margin
    assert shown[0][1] == (
        f"{margin.value:.4f} ({margin.low:.4f} to {margin.high:.4f})"
    )
    assert any(row[0].startswith("evidence at ") for row in shown)


def test_unusable_requests(run: Run, capsys: Output) -> None:
    assert "There is no dataset 'x'" in refused(capsys, "faithfulness", "x")
    name = run.dataset.name
    assert "has no explained run 'y'" in refused(capsys, "faithfulness", name, "y")
    error = refused(capsys, "faithfulness", name, "--pairs", "2", "--layer", "nope")
    assert "has no layer 'nope'" in error
    for argv, message in (
        (["--pairs", "0"], "0 is out of range; give 1 or more"),
        (["--steps", "1"], "1 is out of range; give 2 or more"),
        (["--side", "left"], "invalid choice: 'left'"),
        (["--fill", "black"], "invalid choice: 'black'"),
    ):
        with pytest.raises(SystemExit):
            main(["faithfulness", name, *argv])
        assert message in capsys.readouterr().err
