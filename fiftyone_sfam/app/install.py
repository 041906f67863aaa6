"""Installation of the plugin in FiftyOne's plugins folder.

FiftyOne finds a plugin only as a folder, or a link to a folder, below its plugins
folder. A checkout is installed as a link. An installed wheel, or a checkout on request,
is installed as a folder of a few files: the manifest, the entry file that imports the
package, the component that the App's page loads, and the skills of agents.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fiftyone_sfam.errors import SfamError

PLUGIN_NAME = "@fiftyone-sfam/sfam"
_MANIFEST = "fiftyone.yml"
_SKILLS = "skills"
_SKILL = f"{_SKILLS}/sfam-*/SKILL.md"
_ENTRY = Path("fiftyone_sfam", "app", "entry.py")
_BUNDLE = Path("fiftyone_sfam", "app", "viewer", "viewer.js")
_APP = Path(__file__).resolve().parent
_CHECKOUT = _APP.parents[1]

Action = Literal["linked", "written", "unchanged"]


@dataclass(frozen=True)
class Installation:
    """Where the plugin is, and how it got there."""

    path: Path  # the folder, or the link to it, below the plugins folder
    action: Action  # "unchanged" for a link that existed already

    def __str__(self) -> str:
        """One sentence for the user."""
        if self.action == "unchanged":
            return f"The plugin {PLUGIN_NAME} is already linked at {self.path}."
        return f"The plugin {PLUGIN_NAME} is now {self.action} at {self.path}."


def install_plugin(plugins_dir: str | Path, *, copy: bool = False) -> Installation:
    """Install the plugin below a plugins folder; a repetition changes nothing."""
    target = Path(plugins_dir).expanduser().absolute().joinpath(*PLUGIN_NAME.split("/"))
    try:
        _check_replaceable(target)
        if copy or not _is_checkout():
            return Installation(target, _write(target))
        return Installation(target, _link(target))
    except OSError as error:
        raise SfamError(
            f"{target} cannot be written ({error.strerror}): give another folder."
        ) from error


def _is_checkout() -> bool:
    return _plugin_name(_CHECKOUT) == PLUGIN_NAME


def _link(target: Path) -> Action:
    if target.is_symlink() and target.resolve() == _CHECKOUT:
        return "unchanged"
    _remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(_CHECKOUT, target_is_directory=True)
    except OSError as error:
        raise SfamError(
            f"{target} cannot become a link to {_CHECKOUT} ({error}): install with "
            "--copy instead."
        ) from error
    return "linked"


def _write(target: Path) -> Action:
    _remove(target)
    source = _CHECKOUT if _is_checkout() else _APP
    shutil.copytree(source / _SKILLS, target / _SKILLS)
    for path in (_ENTRY, _BUNDLE):
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_APP.parents[1] / path, copy)
    # Last, because FiftyOne ignores a folder without a manifest.
    shutil.copyfile(source / _MANIFEST, target / _MANIFEST)
    return "written"


def _check_replaceable(target: Path) -> None:
    # A link is replaced if it leads to this plugin, or nowhere.
    if target.is_symlink():
        if not target.exists() or _plugin_name(target) == PLUGIN_NAME:
            return
        raise SfamError(
            f"{target} links to {target.resolve()}, which is not this plugin: "
            "remove the link, then install again."
        )
    if not target.exists() or all(map(_is_written, _files(target))):
        return
    if _plugin_name(target) == PLUGIN_NAME:
        raise SfamError(
            f"{target} holds a whole copy of this plugin: remove it with "
            f"`fiftyone plugins delete {PLUGIN_NAME}`, then install again."
        )
    raise SfamError(
        f"{target} holds files that do not belong to this plugin: move them away, then "
        "install again."
    )


def _is_written(file: Path) -> bool:
    """Return whether a file of the plugin's folder is one of those that are written."""
    return file in (Path(_MANIFEST), _ENTRY, _BUNDLE) or file.match(_SKILL)


def _files(folder: Path) -> set[Path]:
    if not folder.is_dir():
        return {folder}
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if not path.is_dir() and path.parent.name != "__pycache__"
    }


def _remove(target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)


def _plugin_name(folder: Path) -> Any:
    try:
        manifest = yaml.safe_load((folder / _MANIFEST).read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        # Without a manifest, the folder is not a plugin.
        return None
    return manifest.get("name") if isinstance(manifest, dict) else None
