"""FiftyOne finds and loads the plugin, in a fresh process, however it was installed."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

import fiftyone_sfam
from conftest import ROOT

MANIFEST = yaml.safe_load((ROOT / "fiftyone.yml").read_text("utf-8"))
NAME = MANIFEST["name"]

# Builds the registry twice, as the App does, without the checkout on the path when
# asked: the way it is where nothing was installed with pip.
REPORT = """
import importlib.util, json, os, sys
hide = os.environ.get("HIDE")
sys.path[:] = [p for p in sys.path if os.path.realpath(p or ".") != hide]
before = importlib.util.find_spec("fiftyone_sfam")
from fiftyone.operators.registry import OperatorRegistry
import fiftyone.plugins as fop
OperatorRegistry()
registry = OperatorRegistry()
ours = [op for op in registry.list_operators() if op.plugin_name == NAME]
panels = {op.name for op in registry.list_operators(type="panel")}
package = sys.modules.get("fiftyone_sfam")
print("REPORT" + json.dumps({
    "errors": registry.list_errors(),
    "operators": sorted(op.name for op in ours if op.name not in panels),
    "panels": sorted(op.name for op in ours if op.name in panels),
    "modules": sorted({type(op).__module__ for op in ours}),
    "torch": "torch" in sys.modules,
    "importable_before": before is not None,
    "package": package and package.__file__,
    "folders": [p.directory for p in fop.list_plugins() if p.name == NAME],
    "requirements": fop.load_plugin_requirements(NAME),
}))
""".replace("NAME", repr(NAME))


def report(plugins_dir: Path, cwd: Path, **env: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins_dir), **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = [x for x in done.stdout.splitlines() if x.startswith("REPORT")]
    return json.loads(line.removeprefix("REPORT"))


def assert_loaded(found: dict) -> None:
    assert found["errors"] == []
    assert found["operators"] == sorted(MANIFEST["operators"])
    assert found["panels"] == sorted(MANIFEST["panels"])
    # Classes of the package itself, not of a second copy under FiftyOne's module name.
    assert all(name.startswith("fiftyone_sfam.") for name in found["modules"])
    assert found["torch"] is False


def test_linked_checkout_loads(plugins_dir: Path, tmp_path: Path) -> None:
    found = report(plugins_dir, tmp_path)
    assert_loaded(found)
    assert found["package"] == fiftyone_sfam.__file__
    assert found["importable_before"]


def test_downloaded_plugin_loads_without_the_package(
    archive_url: str, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    done = subprocess.run(
        [
            Path(sys.executable).with_name("fiftyone"),
            "plugins",
            "download",
            archive_url,
        ],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = plugins.joinpath(*NAME.split("/"))

    found = report(plugins, tmp_path, HIDE=str(ROOT))
    assert not found["importable_before"]
    assert_loaded(found)
    assert found["package"] == str(folder / "fiftyone_sfam" / "__init__.py")
    assert set(found["requirements"]) == dependencies()
    assert weights_in(folder / "fiftyone_sfam") == weights_in(ROOT / "fiftyone_sfam")


def test_folder_without_its_package_says_so(tmp_path: Path) -> None:
    from fiftyone_sfam.app.install import install_plugin

    plugins = tmp_path / "plugins"
    folder = install_plugin(plugins, copy=True).path
    found = report(plugins, tmp_path, HIDE=str(ROOT))
    assert found["operators"] == []
    [error] = found["errors"]
    assert f"The plugin in {folder} needs the package fiftyone-sfam" in error


def test_manifest_and_requirements_repeat_the_package() -> None:
    assert MANIFEST["version"] == fiftyone_sfam.__version__
    assert (ROOT / MANIFEST["py_entry"]).is_file()
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} == dependencies()


def dependencies() -> set[str]:
    """The package's own requirements, without extras and without FiftyOne."""
    return {
        line
        for line in requires("fiftyone-sfam") or []
        if "extra ==" not in line and not re.match(r"fiftyone\b", line)
    }


def weights_in(package: Path) -> dict[str, int]:
    files = {p.name: p.stat().st_size for p in package.glob("demo/weights/*")}
    assert files, f"no weights in {package}"
    return files


@pytest.fixture(scope="module")
def archive_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serves the repository as a zip, in a folder of its own as code hosts do."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone, to know which files the repository has")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(folder / "sfam.zip", "w") as archive:
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                archive.write(ROOT / name, Path("fiftyone-sfam-main", name))

    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/sfam.zip"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass
