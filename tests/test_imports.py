"""Importing stays light, and modules depend on each other one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fiftyone_sfam

PACKAGE = Path(fiftyone_sfam.__file__).parent


@pytest.mark.parametrize(
    "statement",
    [
        "import fiftyone_sfam",
        "import fiftyone_sfam.cli.entry",
        "import fiftyone_sfam.app.entry",
        "import fiftyone_sfam.app.install",
    ],
)
def test_import_brings_neither_torch_nor_fiftyone(statement: str) -> None:
    code = f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout))
    assert modules & {"torch", "torchvision", "fiftyone", "numpy"} == set()


def test_registration_does_not_import_torch() -> None:
    code = "import sys, fiftyone_sfam.app.registration; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("name", sorted(set(fiftyone_sfam.__all__) - {"__version__"}))
def test_public_name_resolves(name: str) -> None:
    assert getattr(fiftyone_sfam, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fiftyone_sfam' has no attribute 'sfan'"):
        _ = fiftyone_sfam.sfan


def test_modules_import_each_other_one_way() -> None:
    graph = {module: _imports(path) for module, path in _modules().items()}
    # Raises CycleError, with the cycle, when there is one.
    TopologicalSorter(graph).prepare()


def _modules() -> dict[str, Path]:
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(p for p in parts if p != "__init__")] = path
    return modules


def _imports(path: Path) -> set[str]:
    """Modules of the package that this file imports, inside functions as well."""
    known = _modules()
    found = set()
    for node in _runtime_nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & set(known) or {node.module}
    return (found & set(known)) - {"fiftyone_sfam"}


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += [node, *_runtime_nodes(node)]
    return nodes
