"""The pages of the repository: their form, their links, and the code that they show."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

import fiftyone_sfam
from fiftyone_sfam.cli.entry import _parser
from fiftyone_sfam.models.registry import _KEYS, read_registry
from paths import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Made by `make docs`, and not in the repository.
GENERATED = {"example-report.html"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    found = FENCED.findall(page.read_text("utf-8"))
    return [code for name, code in found if name == language]


@each_page
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    # Rows of tables cannot be broken.
    assert [line for line in lines if len(line) > 100 and line[0] != "|"] == []


def test_the_readme_is_one_page() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 100


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text("utf-8"))
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if name in GENERATED:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_paths_of_files_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    # What benchmarks write there is not in the repository.
    paths = re.findall(r"`((?!benchmarks/out/)\w+/[\w/]+\.\w+|\w+/[\w/]+/)`", text)
    assert [
        path
        for path in paths
        if not (ROOT / path).exists() and not (ROOT / "fiftyone_sfam" / path).exists()
    ] == []


def test_the_architecture_names_the_rooms_and_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    [table] = re.findall(r"\| room \|.*\n\|-.*\n((?:\|.*\n)+)", text)
    rooms = set()
    for row in table.splitlines():
        room, _, modules = (cell.strip() for cell in row.strip("|").split("|"))
        folder = ROOT / "fiftyone_sfam"
        if room.endswith("/`"):
            folder /= room.strip("`/")
            rooms.add(folder)
        for module in re.findall(r"`([\w/]+)`", re.sub(r"\(.*?\)", "", modules)):
            name = module if module.endswith("/") else f"{module}.py"
            assert (folder / name).exists(), module
    assert rooms == {
        path.parent for path in (ROOT / "fiftyone_sfam").glob("*/__init__.py")
    }


@each_page
def test_python_blocks_use_names_that_exist(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module:
                # Recipes import libraries for which tests/models/test_recipes.py has
                # stand-ins.
                if page.name == "models.md" and "fiftyone_sfam" not in node.module:
                    continue
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name


@each_page
def test_commands_parse(page: Path) -> None:
    commands = [
        shlex.split(line, comments=True)[1:]
        for code in blocks(page, "bash")
        for line in code.replace("\\\n", " ").splitlines()
        if line.startswith("fiftyone-sfam ")
    ]
    for arguments in commands:
        # Exits, and so fails, if the command or an option is unknown.
        assert callable(_parser().parse_args(arguments).run)


def test_the_registry_file_is_valid(tmp_path: Path) -> None:
    # The recipes that follow have a test of their own.
    code = blocks(ROOT / "docs" / "models.md", "json")[0]
    file = tmp_path / "models.json"
    file.write_text(code, "utf-8")
    assert list(read_registry(file)) == list(json.loads(code)["models"]) == ["my-reid"]


def test_every_key_of_the_registry_is_described() -> None:
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert {key for key in _KEYS if f"| `{key}` |" not in text} == set()


def test_every_option_of_the_command_line_is_described() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    [commands] = [
        action.choices
        for action in _parser()._actions
        if isinstance(action.choices, dict)
    ]
    options = {
        option
        for command in commands.values()
        for action in command._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert len(options) > 50
    assert {option for option in options - {"--help"} if option not in text} == set()
    assert {command for command in commands if command not in text} == set()


def test_the_api_page_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    public = {
        f"fiftyone_sfam.{name}"
        for name in fiftyone_sfam.__all__
        if name != "__version__"
    }
    assert public - set(listed) == set()
    for path in listed:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
