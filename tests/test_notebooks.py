"""The notebooks of examples/: they run, and show what they are committed with.

All run in one kernel, one after the other: importing FiftyOne takes seconds. `make
notebooks` runs each in a kernel of its own.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from notebooks import EXAMPLES, PLOTLY, code_cells, execute, kernel
from paths import ROOT

PATHS = sorted(EXAMPLES.glob("*.ipynb"))
PICTURE = re.compile(r"data:image/\w+;base64,([\w+/=]+)")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
    """A kernel with a database of its own."""
    with kernel(tmp_path_factory.mktemp("notebooks")) as client:
        yield client


def run(client: NotebookClient, *sources: str) -> list[list[NotebookNode]]:
    """Execute cells; return the outputs of each."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    execute(client, notebook)
    return [cell.outputs for cell in notebook.cells]


def text_of(output: NotebookNode) -> str:
    """What an output shows, its pictures by their sizes."""
    if output.output_type == "stream":
        return f"{output.name}: {output.text}"
    data = output.data
    if PLOTLY in data:
        return json.dumps(data[PLOTLY]["data"], sort_keys=True)
    shown = data.get("text/html", data.get("text/plain"))
    return PICTURE.sub(lambda match: f"{size_of(match[1])} pixels", shown)


def size_of(code: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(code))) as image:
        return image.size


def check_same(fresh: str, stored: str) -> None:
    """Compare texts, and the numbers in them up to what machines differ by."""
    fresh, stored = fresh.replace("−", "-"), stored.replace("−", "-")
    assert NUMBER.split(fresh) == NUMBER.split(stored)
    numbers = [float(one) for one in NUMBER.findall(fresh)]
    expected = [float(one) for one in NUMBER.findall(stored)]
    assert numbers == pytest.approx(expected, rel=0.02, abs=0.02)


# --------------------------------------------------------------------------------------
# What they show
# --------------------------------------------------------------------------------------


@each_notebook
def test_outputs_are_those_that_are_committed(
    path: Path, client: NotebookClient
) -> None:
    stored, fresh = read(path), read(path)
    for cell in code_cells(fresh):
        cell.outputs = []
    run(client, "%reset -f")
    execute(client, fresh)
    shown = 0
    for cell, committed in zip(code_cells(fresh), code_cells(stored), strict=True):
        texts, expected = ([text_of(o) for o in c.outputs] for c in (cell, committed))
        assert len(texts) == len(expected), cell.source
        for text, wanted in zip(texts, expected, strict=True):
            check_same(text, wanted)
        shown += len(texts)
    assert shown >= 5


def test_a_result_of_another_size_is_noticed() -> None:
    stored = read(EXAMPLES / "audit_reid.ipynb")
    [text] = [
        text_of(output)
        for cell in code_cells(stored)
        for output in cell.outputs
        if cell.source.endswith("\nsuspects")
    ]
    check_same(text, text)
    for old, new in (("4 mislabeled", "5 mislabeled"), ("0009", "0010"), ("is", "was")):
        assert old in text
        with pytest.raises(AssertionError):
            check_same(text.replace(old, new, 1), text)


def test_progress_is_one_output_of_one_line(client: NotebookClient) -> None:
    [_, [output]] = run(
        client,
        "from fiftyone_sfam.progress import reporting",
        "with reporting(True) as report:\n"
        "    for phase in ('embedding', 'explaining'):\n"
        "        for done in range(1, 1001):\n"
        "            report(done, 1000, phase)",
    )
    assert output.data["text/html"] == (
        '<progress value="1000" max="1000"></progress> explaining: 1,000 of 1,000'
    )


# --------------------------------------------------------------------------------------
# Their form
# --------------------------------------------------------------------------------------


@each_notebook
def test_it_is_short_and_installs_what_is_missing(path: Path) -> None:
    notebook = read(path)
    assert len(notebook.cells) < 60
    assert path.stat().st_size < 1_500_000
    first = code_cells(notebook)[0]
    assert 'if importlib.util.find_spec("fiftyone_sfam") is None:' in first.source
    assert first.source == code_cells(read(PATHS[0]))[0].source
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > 100] == []


@each_notebook
def test_it_holds_nothing_of_the_machine_that_wrote_it(path: Path) -> None:
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in code_cells(notebook):
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
            text = text_of(output)
            assert "\r" not in text
            assert not re.search(r"(?<!<)/(tmp|home|root|work|usr|var)\b", text)
            assert "eprecat" not in text
            assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:", text)
            if PLOTLY in output.get("data", {}):
                # For viewers that do not draw figures.
                assert size_of(output.data["image/png"]) == (760, 360)


@each_notebook
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", cell.source):
                assert (path.parent / link).exists(), link


def test_all_are_listed_in_the_docs() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    listed = re.findall(r"\(\.\./examples/(\w+\.ipynb)\)", page)
    assert sorted(listed) == [path.name for path in PATHS]
