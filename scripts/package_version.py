"""The version of what is built, from the tags of git and the plugin's manifest.

The manifest has to have a version that FiftyOne can read in any copy of the repository,
so it has the number, and a tag has to agree with it. Built from a commit after the tag,
the version says how many commits later. A clone without tags, and an sdist, which has
no git at all, have the manifest's.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def version(root: Path = ROOT) -> str:
    """Return the version of a checkout."""
    text = (root / "fiftyone.yml").read_text("utf-8")
    [manifest] = re.findall(r'^version: "([^"]+)"$', text, re.MULTILINE)
    described = _described(root)
    if described is None:
        return manifest
    tag, distance, commit = described.rsplit("-", 2)
    released = tag.removeprefix("v")
    if distance == "0" and released != manifest:
        raise ValueError(
            f"the tag is {tag}, but fiftyone.yml has the version {manifest}; set it "
            f'to "{released}" and move the tag.'
        )
    if distance == "0":
        return manifest
    kind = "post" if released == manifest else "dev"
    return f"{manifest}.{kind}{distance}+{commit}"


def _described(root: Path) -> str | None:
    """Return the last tag, the commits since, and the commit; None without a tag."""
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--tags", "--long", "--match", "v[0-9]*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None
