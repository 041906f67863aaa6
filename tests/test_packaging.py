"""Wheel and sdist, each installed into an environment of its own, from which it loads.

What the package depends on is taken from the environment of the tests: the new one has
nothing else, not this checkout either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from paths import ROOT
from plugin_support import NAME, REPORT, assert_loaded, weights_in


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build("sdist", ROOT, folder)
    [found] = folder.glob("*.tar.gz")
    return found


def build(kind: str, source: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_sdist_has_what_it_takes_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "fiftyone.yml", "LICENSE", "README.md"} <= names
    assert "skills/sfam-audit-reid/SKILL.md" in names
    assert "fiftyone_sfam/demo/weights/demonet.pt" in names
    assert "fiftyone_sfam/demo/weights/retrained.pt" in names
    assert "fiftyone_sfam/notebook/templates/result.html.j2" in names
    assert "fiftyone_sfam/audit/report/templates/report.html.j2" in names
    component = [name for name in names if "/viewer/" in name]
    assert component == ["fiftyone_sfam/app/viewer/viewer.js"]
    assert not [one for one in names if one.startswith(("tests", "benchmarks", "docs"))]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_and_the_plugin_loads(
    kind: str, sdist: Path, tmp_path: Path
) -> None:
    archive = sdist
    if kind == "wheel":
        # Out of the sdist, which thus is complete.
        with tarfile.open(sdist) as source:
            source.extractall(tmp_path, filter="data")
        [checkout] = tmp_path.glob("fiftyone_sfam-*")
        build("wheel", checkout, tmp_path)
        [archive] = tmp_path.glob("*.whl")

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = environment / scripts / "python"
    # Python 3.10 has no scheme of this name.
    named = "venv" in sysconfig.get_scheme_names()
    scheme = "venv" if named else sysconfig.get_default_scheme()
    purelib = Path(sysconfig.get_path("purelib", scheme, {"base": str(environment)}))
    # Not read for further .pth files, so the checkout that is installed there is not;
    # but for one, without which FiftyOne does not find distutils under Python 3.12.
    dependencies = Path(sysconfig.get_path("purelib"))
    hook = dependencies / "distutils-precedence.pth"
    lines = [
        str(dependencies),
        *(hook.read_text().splitlines() if hook.exists() else ()),
    ]
    (purelib / "dependencies.pth").write_text("\n".join(lines))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-index", "--no-build-isolation", "--quiet", archive],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    plugins = tmp_path / "plugins"
    settings = {**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins)}
    settings.pop("PYTHONPATH", None)
    command = environment / scripts / "fiftyone-sfam"
    folder = plugins.joinpath(*NAME.split("/"))
    said = []
    for asked in (
        [command, "install", "--plugins-dir", plugins],
        [python, "-c", REPORT],
    ):
        done = subprocess.run(
            asked, env=settings, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == f"The plugin {NAME} is now written at {folder}.\n"
    [line] = [one for one in said[1].splitlines() if one.startswith("REPORT")]
    found = json.loads(line.removeprefix("REPORT"))
    assert_loaded(found)
    assert found["folders"] == [str(folder)]
    package = Path(found["package"]).parent
    assert package.is_relative_to(purelib)
    assert weights_in(package) == weights_in(ROOT / "fiftyone_sfam")
    assert (package / "py.typed").is_file()
