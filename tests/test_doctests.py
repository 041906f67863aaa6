"""The examples in the docstrings of the package run as they are printed."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import fiftyone_sfam

PACKAGE = Path(fiftyone_sfam.__file__).parent
# Public names without an example: each needs a dataset, a stored run, or its folder.
WITHOUT_EXAMPLE = {
    "Run",
    "accept_proposal",
    "apply_verdicts",
    "build_ledger",
    "check_causally",
    "check_faithfulness",
    "compare_runs",
    "decide_pairs",
    "delete_run",
    "evaluate_retrieval",
    "explain_pairs",
    "explain_retrieval",
    "find_leaks",
    "find_shortcuts",
    "find_suspects",
    "get_verdicts",
    "list_runs",
    "load_comparison",
    "load_decisions",
    "load_evaluation",
    "load_faithfulness",
    "load_ledger",
    "load_run",
    "load_shortcuts",
    "load_suspects",
    "load_verification",
    "prune",
    "reject_proposal",
    "rename_run",
    "restore_verdict",
    "review_suspects",
    "set_verdict",
    "show_pairs",
    "verify_pairs",
    "write_comparison",
    "write_report",
}


def examples() -> list[doctest.DocTest]:
    """Collect the docstrings with examples from all modules that have some."""
    finder = doctest.DocTestFinder()
    collected = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            # No names: an example imports what it uses, but for the dataset.
            collected += finder.find(module, globs={})
    return [docstring for docstring in collected if docstring.examples]


EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: doctest.DocTest, request: pytest.FixtureRequest) -> None:
    if any("dataset" in line.source for line in example.examples):
        example.globs["dataset"] = request.getfixturevalue("world")
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    result = runner.run(example, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_public_names_have_examples() -> None:
    public = set(fiftyone_sfam.__all__) - {"__version__"}
    without = {
        name for name in public if not _has_example(getattr(fiftyone_sfam, name))
    }
    assert without == WITHOUT_EXAMPLE


def _has_example(value: type) -> bool:
    name = f"{value.__module__}.{value.__qualname__}"
    return any(f"{example.name}.".startswith(f"{name}.") for example in EXAMPLES)
