"""Build a release into dist/, check it, and write its notes: ``make release``.

The steps, of which each has to pass:

1. HEAD has a tag that agrees with the manifest, nothing is uncommitted, and the
   changelog has a dated section of the version. A rehearsal leaves this out.
2. sdist, and the wheel out of the sdist.
3. ``twine check --strict``.
4. The tests of the package: wheel and sdist installed and loaded in environments that
   have not this checkout, and the plugin downloaded by ``fiftyone plugins download``.
5. With ``--empty PYTHON ...``, the wheel in a new environment of each of these Pythons,
   with all that it needs from the package index: it names its version, installs the
   plugin, and explains a pair.
6. The section of the changelog, as dist/RELEASE_NOTES.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from package_version import ROOT, version

DIST = ROOT / "dist"
EXPLAIN = """
from PIL import Image
from fiftyone_sfam import explain_pair
red, blue = (Image.new("RGB", (64, 128), color) for color in ("red", "blue"))
pair = explain_pair("demo", red, blue)
print("similarity", round(pair.score, 3), "remainder", round(pair.query.remainder, 3))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rehearsal", action="store_true", help="build what is not tagged, too"
    )
    parser.add_argument(
        "--empty", nargs="+", default=[], metavar="PYTHON", help="Pythons to install in"
    )
    options = parser.parse_args()
    number = version()
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    notes = section(changelog, "Unreleased" if options.rehearsal else number)
    if not options.rehearsal:
        check_release(number)
    archives = build()
    run(sys.executable, "-m", "twine", "check", "--strict", *archives)
    tests = ("tests/test_packaging.py", "tests/app/test_plugin_loading.py")
    run(sys.executable, "-m", "pytest", "-q", *tests)
    for python in options.empty:
        try_empty(python, archives[-1], number)
    (DIST / "RELEASE_NOTES.md").write_text(notes, "utf-8")
    print(f"{number}: {', '.join(path.name for path in sorted(DIST.iterdir()))}")


def section(changelog: str, name: str) -> str:
    """Return the text of a version's section of the changelog."""
    heading = rf"^## \[{re.escape(name)}\]( - \d{{4}}-\d{{2}}-\d{{2}})?$"
    found = re.search(heading, changelog, re.MULTILINE)
    if found is None or (found[1] is None) != (name == "Unreleased"):
        raise SystemExit(
            f"CHANGELOG.md has no section '## [{name}] - YYYY-MM-DD'; add it."
        )
    return changelog[found.end() :].partition("\n## [")[0].strip() + "\n"


def check_release(number: str) -> None:
    """Refuse what is not a tagged commit."""
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", number) or not tagged(number):
        raise SystemExit(
            f"this commit would be {number}, which has no tag v{number}; tag it, or "
            'rehearse with ARGS="--rehearsal".'
        )
    if output("git", "status", "--porcelain"):
        raise SystemExit("some files are not committed; commit or remove them.")


def tagged(number: str) -> bool:
    """Return whether HEAD has the tag of a version."""
    return f"v{number}" in output("git", "tag", "--points-at", "HEAD").split()


def build() -> list[Path]:
    """Build the sdist, and the wheel out of it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", DIST)
    [sdist] = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(sdist, folder)
        [source] = Path(folder).iterdir()
        command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d")
        run(*command, DIST, cwd=source)
    [wheel] = DIST.glob("*.whl")
    return [sdist, wheel]


def try_empty(python: str, wheel: Path, number: str) -> None:
    """Install the wheel in a new environment, and use it as a user would."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        scripts = Path(folder, "Scripts" if os.name == "nt" else "bin")
        run(scripts / "python", "-m", "pip", "install", "--quiet", wheel)
        said = output(scripts / "fiftyone-sfam", "--version", cwd=folder).strip()
        if not number.startswith(said):
            raise SystemExit(f"{python}: the wheel of {number} says {said!r}.")
        run(scripts / "fiftyone-sfam", "install", "--plugins-dir", f"{folder}/plugins")
        run(scripts / "python", "-c", EXPLAIN, cwd=folder)


def run(*command: str | Path, cwd: str | Path = ROOT) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


def output(*command: str | Path, cwd: str | Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
