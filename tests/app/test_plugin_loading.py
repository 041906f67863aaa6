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

import fiftyone_sfam
from paths import ROOT
from plugin_support import MANIFEST, NAME, REPORT, assert_loaded, weights_in


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
