"""Versions from tags, notes from the changelog, and the support matrix of the docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import fiftyone_sfam
from package_version import version
from paths import ROOT
from plugin_support import MANIFEST
from release import section

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")


def git(folder: Path, *command: str) -> str:
    settings = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", *settings, *command],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, number: str) -> str:
    (folder / "fiftyone.yml").write_text(f'name: x\nversion: "{number}"\nlabel: y\n')
    git(folder, "add", "fiftyone.yml")
    git(folder, "commit", "--allow-empty", "-m", "a change")
    return git(folder, "rev-parse", "--short", "HEAD")


def test_versions_from_tags(tmp_path: Path) -> None:
    (tmp_path / "fiftyone.yml").write_text('version: "1.1.0"\n')
    assert version(tmp_path) == "1.1.0"  # an sdist: no git
    git(tmp_path, "init", "-q")
    commit(tmp_path, "1.2.0")
    assert version(tmp_path) == "1.2.0"  # a clone without tags
    git(tmp_path, "tag", "not-a-version")
    assert version(tmp_path) == "1.2.0"
    git(tmp_path, "tag", "v1.2.0")
    assert version(tmp_path) == "1.2.0"
    short = commit(tmp_path, "1.2.0")
    assert version(tmp_path) == f"1.2.0.post1+g{short}"
    short = commit(tmp_path, "1.3.0")
    assert version(tmp_path) == f"1.3.0.dev2+g{short}"
    git(tmp_path, "tag", "v1.4.0")
    message = (
        'the tag is v1.4.0, but fiftyone.yml has the version 1.3.0; set it to "1.4'
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        version(tmp_path)


def test_one_version_everywhere() -> None:
    assert fiftyone_sfam.__version__ == MANIFEST["version"]
    assert version().startswith(MANIFEST["version"])
    numbers = re.findall(r"^## \[(\d[^]]*)\] - ", CHANGELOG, re.MULTILINE)
    assert MANIFEST["version"] >= numbers[0]


def test_notes_are_the_section_of_the_changelog() -> None:
    text = "# Log\n\n## [Unreleased]\n\n- b\n\n## [1.2.0] - 2026-01-02\n\n- a\n"
    assert section(text, "1.2.0") == "- a\n"
    assert section(text, "Unreleased") == "- b\n"
    for name in ("1.2", "2.0.0"):
        with pytest.raises(SystemExit, match=re.escape(f"no section '## [{name}] - ")):
            section(text, name)
    with pytest.raises(SystemExit, match="no section"):
        section("## [1.2.0]\n\n- without a date\n", "1.2.0")
    assert section(CHANGELOG, "0.1.0").startswith("### Added\n")


def test_the_support_matrix_is_that_of_the_package() -> None:
    text = (ROOT / "docs" / "support.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", text, re.MULTILINE))
    pythons = [
        line.rpartition(" :: ")[2]
        for line in PROJECT["classifiers"]
        if re.search(r":: 3\.\d+$", line)
    ]
    assert rows["Python"] == f"{pythons[0]} to {pythons[-1]}"
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    bounds = {
        re.match(r"[\w.-]+", line)[0]: line  # type: ignore[index]
        for line in PROJECT["dependencies"]
    }
    for name, shown in (
        ("fiftyone", "FiftyOne"),
        ("torch", "PyTorch"),
        ("torchvision", "torchvision"),
        ("numpy", "NumPy"),
    ):
        least = re.search(r">=([\d.]+)", bounds[name])
        assert least is not None
        assert rows[shown].startswith(least[1]), shown
    assert MANIFEST["fiftyone"]["version"] == bounds["fiftyone"].removeprefix(
        "fiftyone"
    )
    # What CI runs is in the page, and has oldest and newest.
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert (tested[0], tested[-1]) == (pythons[0], pythons[-1])
    assert f"on Python {' and '.join(tested)}" in text
