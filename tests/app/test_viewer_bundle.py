"""The component that the App's page loads: committed, and built from its sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fiftyone_sfam.app.install import install_plugin
from paths import ROOT
from plugin_support import MANIFEST

VIEWER = ROOT / "fiftyone_sfam" / "app" / "viewer"

MOST_LINES = 2500
"""Lines of TypeScript that are neither blank nor comments only.

What needs more than drawing, pointing and keys is Python's.
"""

MOST_PYTHON = 5500
"""Lines of Python of the two panels, blank ones and comments included.

A rule that the report or a command needs, too, belongs to ``fiftyone_sfam/audit``.
"""

# A string is kept, so that what is in it does not count as the start of a comment.
COMMENTS = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|/\*.*?\*/|//[^\n]*""", re.DOTALL
)


def test_the_manifest_names_the_bundle(tmp_path: Path) -> None:
    bundle = ROOT / MANIFEST["js_bundle"]
    assert bundle == VIEWER / "viewer.js"
    # An installed plugin has it, too, at the place that its manifest names.
    folder = install_plugin(tmp_path, copy=True).path
    assert (folder / MANIFEST["js_bundle"]).read_bytes() == bundle.read_bytes()


def test_the_bundle_is_what_the_sources_build(tmp_path: Path) -> None:
    path = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    node = shutil.which("node", path=path)
    if node is None or not (VIEWER / "node_modules" / "esbuild").is_dir():
        if os.environ.get("CI"):
            pytest.fail("Node or the component's packages are missing.")
        pytest.skip("needs Node and the component's packages: `make setup-test`")
    built = tmp_path / "viewer.js"
    done = subprocess.run(
        [node, VIEWER / "build.mjs", "--outfile", built],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert built.read_bytes() == (VIEWER / "viewer.js").read_bytes(), (
        "the sources have changed: run `make viewer`, and commit viewer.js"
    )


def code_lines(text: str) -> int:
    code = COMMENTS.sub(lambda match: match[1] or "", text)
    return sum(1 for line in code.splitlines() if line.strip())


def test_code_lines_are_those_with_code() -> None:
    text = """/** Two lines
 * of a comment. */
const url = "https://a"; // with a comment

// alone
const glob = `/* no
comment */`;
"""
    assert code_lines(text) == 3


def test_the_component_stays_small() -> None:
    sources = [*VIEWER.glob("src/*.ts"), *VIEWER.glob("src/*.tsx")]
    lines = {one.name: code_lines(one.read_text("utf-8")) for one in sources}
    assert sum(lines.values()) <= MOST_LINES, lines
    assert max(lines.values()) <= 500, lines


def test_the_panels_stay_small() -> None:
    folders = [VIEWER.parent / "pairs", VIEWER.parent / "audit"]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    lines = {str(one): len(one.read_text("utf-8").splitlines()) for one in files}
    assert {Path(one).parent for one in lines} == {*folders}
    assert sum(lines.values()) <= MOST_PYTHON, lines


def test_the_component_brings_no_library_and_no_react() -> None:
    text = (VIEWER / "viewer.js").read_text("utf-8")
    assert "node_modules" not in text
    assert not re.search(r"\beval\(|new Function\(", text)
    assert "innerHTML" not in text
