"""How the App shows the fields of a run: a group of the sidebar, and colors.

What a user has set is left alone. FiftyOne itself drops deleted fields from groups and
renames the others, at their places in the document as it was read: read it again first,
see :func:`reload_app_config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
from fiftyone.core.odm.dataset import SidebarGroupDocument

from fiftyone_sfam.retrieval.pairs import OUTCOMES

HEATMAP_COLOR = "#ff6d04"
OUTCOME_COLORS = dict(zip(OUTCOMES, ("#1a85ff", "#d41159", "#8a8a8a"), strict=True))
"""Colors of outcomes, which the color-blind can tell apart."""


def group_name(key: str) -> str:
    """Return the name of a run's group in the sidebar."""
    return f"SFAM {key}"


def reload_app_config(dataset: fo.Dataset) -> None:
    """Read what other processes have saved; changes that are not saved yet stay."""
    changed = dataset._doc._get_changed_fields()
    if not any(name.startswith("app_config") for name in changed):
        dataset._doc.reload("app_config")


def show_fields(dataset: fo.Dataset, key: str, paths: Sequence[str]) -> None:
    """Give a run's fields a group and colors, unless they have some.

    ``paths`` are those of heatmap, score, outcome and neighbors, of which nested ones
    stay where their parents are.
    """
    reload_app_config(dataset)
    config = dataset.app_config
    groups = config.sidebar_groups or fo.DatasetAppConfig.default_sidebar_groups(
        dataset
    )
    taken: set[str] = set()
    if config.sidebar_groups:
        taken = {path for group in groups for path in group.paths}
    own = [path for path in paths if "." not in path and path not in taken]
    if own:
        config.sidebar_groups = [*_with_group(groups, key, own)]
    scheme = config.color_scheme or fo.ColorScheme()
    colored = {entry["path"] for entry in scheme.fields or []}
    added = [entry for entry in _colors(key, paths) if entry["path"] not in colored]
    if added:
        scheme.fields = [*(scheme.fields or []), *added]
        config.color_scheme = scheme
    dataset.save()


def hide_fields(dataset: fo.Dataset, key: str, paths: Sequence[str]) -> None:
    """Take away the group and the colors of a run whose fields were deleted."""
    reload_app_config(dataset)
    config, name = dataset.app_config, group_name(key)
    groups = [
        group
        for group in config.sidebar_groups or []
        if group.name != name or not set(group.paths) <= set(paths)
    ]
    if len(groups) != len(config.sidebar_groups or []):
        default = fo.DatasetAppConfig.default_sidebar_groups(dataset)
        config.sidebar_groups = None if _plain(groups) == _plain(default) else groups
    scheme = config.color_scheme
    own = _colors(key, paths)
    if scheme is not None and scheme.fields:
        fields = [entry for entry in scheme.fields if dict(entry) not in own]
        if len(fields) != len(scheme.fields):
            scheme.fields = fields
            config.color_scheme = None if _is_empty(scheme) else scheme
    dataset.save()


def move_fields(
    dataset: fo.Dataset, key: str, new_key: str, moves: Mapping[str, str]
) -> None:
    """Rename the group of a run, and what its colors are of."""
    reload_app_config(dataset)
    config = dataset.app_config
    groups = config.sidebar_groups or []
    for group in groups:
        if group.name == group_name(key):
            group.name = group_name(new_key)
    scheme = config.color_scheme
    if scheme is not None and scheme.fields:
        scheme.fields = [
            {**entry, "path": moves.get(entry["path"], entry["path"])}
            for entry in scheme.fields
        ]
    dataset.save()


def _with_group(
    groups: Sequence[SidebarGroupDocument], key: str, paths: Sequence[str]
) -> list[SidebarGroupDocument]:
    """Return the groups with these paths in the group of the run, and in no other.

    A new group comes first, after the tags: the App's sidebar is long.
    """
    name, kept = group_name(key), []
    for group in groups:
        others = [path for path in group.paths if path not in paths]
        kept.append(
            SidebarGroupDocument(name=group.name, paths=others, expanded=group.expanded)
        )
    for group in kept:
        if group.name == name:
            group.paths = [*group.paths, *paths]
            return kept
    place = 1 if kept and kept[0].name == "tags" else len(kept)
    kept.insert(place, SidebarGroupDocument(name=name, paths=list(paths)))
    return kept


def _colors(key: str, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Describe the colors of the fields of a run, as FiftyOne stores them."""
    values = [
        {"value": outcome, "color": color} for outcome, color in OUTCOME_COLORS.items()
    ]
    found: list[dict[str, Any]] = []
    for path in paths:
        if "." in path:
            # The App colors nested fields as their parents.
            continue
        if path == key:
            found.append({"path": path, "fieldColor": HEATMAP_COLOR})
        elif path.endswith("_outcome"):
            found.append({"path": path, "valueColors": values})
        elif path.endswith("_neighbors"):
            found.append(
                {"path": path, "colorByAttribute": "outcome", "valueColors": values}
            )
    return found


def _plain(groups: Sequence[SidebarGroupDocument]) -> list[tuple[str, list[str]]]:
    """Return what groups show; FiftyOne lists an empty group only by default."""
    return [(group.name, list(group.paths)) for group in groups if group.paths]


def _is_empty(scheme: fo.ColorScheme) -> bool:
    """Return whether a color scheme says nothing."""
    said = scheme.to_dict()
    return not any(value for name, value in said.items() if name not in ("_id", "id"))
