"""docs/reliability.md names tests that exist, and gives counts that are right."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fiftyone_sfam.app.registration import OPERATORS
from paths import ROOT

TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n", 1)[0]: part for part in TEXT.split("\n## ")[1:]}
NAMED = set(re.findall(r"(tests/(?:\w+/)?\w+\.py)::(\w+)", TEXT))


def named_in(file: Path) -> set[tuple[str, str]]:
    """Return the path and the name of each test of a file."""
    path = file.relative_to(ROOT).as_posix()
    return {
        (path, node.name)
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def cases_in(file: str, name: str) -> int:
    """Return the number of entries of a dictionary that a test file defines."""
    [cases] = [
        node.value
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name
    ]
    assert isinstance(cases, ast.Dict)
    assert None not in cases.keys
    return len(cases.keys)


def test_every_named_test_exists() -> None:
    existing = set().union(*map(named_in, (ROOT / "tests").rglob("test_*.py")))
    assert len(NAMED) > 100
    assert NAMED - existing == set()


def test_every_named_file_exists() -> None:
    files = set(re.findall(r"tests/[\w/]+\.py", TEXT))
    assert len(files) > 30
    assert {file for file in files if not (ROOT / file).is_file()} == set()


@pytest.mark.parametrize("section", ["Images", "Datasets and labels", "Models"])
def test_every_row_names_a_test(section: str) -> None:
    rows = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")]
    rows = rows[1:]
    assert len(rows) > 8
    assert [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize(
    "file",
    [
        "pipeline/test_bad_images.py",
        "pipeline/test_bad_datasets.py",
        "models/test_bad_models.py",
    ],
)
def test_every_test_of_bad_input_is_on_the_page(file: str) -> None:
    assert named_in(ROOT / "tests" / file) - NAMED == set()


def test_counts() -> None:
    listed = dict(
        re.findall(r"^\| (.+) \| (\d+) \|$", SECTIONS["Counts"], re.MULTILINE)
    )
    examples = {
        file.name: [
            int(number)
            for number in re.findall(
                r"@fuzz\((\d+)\)", file.read_text(encoding="utf-8")
            )
        ]
        for file in (ROOT / "tests").rglob("test_fuzz_*.py")
    }
    images = "tests/pipeline/test_bad_images.py"
    # The first test of the forms runs once for each operator.
    repeated = examples["test_fuzz_forms.py"][0] * (len(OPERATORS) - 1)
    assert {name: int(count) for name, count in listed.items()} == {
        "broken images": cases_in(images, "BROKEN"),
        "unusual images that are read": cases_in(images, "GOOD"),
        "Hypothesis examples by default, in `tests/*/test_fuzz_*.py`": sum(
            map(sum, examples.values())
        )
        + repeated,
    }
