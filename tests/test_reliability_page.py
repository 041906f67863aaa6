"""The page about bad data names tests that exist, and counts that are right."""

from __future__ import annotations

import ast
import re

import pytest

from paths import ROOT
from test_bad_images import BROKEN, GOOD
from test_fuzz_forms import OPERATORS

PAGE = ROOT / "docs" / "reliability.md"
SECTIONS = {
    part.split("\n", 1)[0]: part
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
}
NAMED = re.compile(r"(tests/\w+\.py)::(\w+)")
FUZZED = ("datasets", "networks", "forms", "registry")


def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 80
    assert [
        f"{file}::{name}" for file, name in named if name not in names_in(file)
    ] == []


@pytest.mark.parametrize("section", ["Images", "Datasets and labels", "Models"])
def test_every_row_names_a_test(section: str) -> None:
    rows = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) > 8
    assert [row for row in rows if not NAMED.search(row)] == []


def test_every_test_of_bad_input_is_on_the_page() -> None:
    named = {name for _, name in NAMED.findall(PAGE.read_text(encoding="utf-8"))}
    for kind in ("images", "datasets", "models"):
        assert names_in(f"tests/test_bad_{kind}.py") - named == set()


def test_counts() -> None:
    found = dict(re.findall(r"^\| (.+) \| (\d+) \|$", SECTIONS["Counts"], re.MULTILINE))
    examples = [
        (kind, int(number))
        for kind in FUZZED
        for number in re.findall(
            r"@fuzz\((\d+)\)",
            (ROOT / f"tests/test_fuzz_{kind}.py").read_text(encoding="utf-8"),
        )
    ]
    # The first of the forms' is taken once for each operator.
    total = sum(number for _, number in examples)
    first = next(number for kind, number in examples if kind == "forms")
    counted = {
        "broken images": len(BROKEN),
        "unusual images that are read": len(GOOD),
        "examples of hypothesis by default, in `tests/test_fuzz_*.py`": total
        + first * (len(OPERATORS) - 1),
    }
    assert {name: int(count) for name, count in found.items()} == counted
