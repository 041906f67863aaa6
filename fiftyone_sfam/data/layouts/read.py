"""Read a folder that is laid out as a known data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fiftyone_sfam.data.layouts.csv_table import read_table
from fiftyone_sfam.data.layouts.lists import Listed
from fiftyone_sfam.data.layouts.table import CSV, LAYOUTS, Layout
from fiftyone_sfam.data.layouts.tree import Image, Tree
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError

# Splits that are compared with themselves, where there are no queries.
_ALONE = ("test",)


def read_layout(
    name: str,
    folder: str | Path,
    variant: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Tree:
    """Read the images of a folder and their labels."""
    layout = get_layout(name)
    if columns and name != CSV:
        raise DataError(f"columns are those of a table; '{name}' has none.")
    root = Path(folder).expanduser()
    if not root.exists():
        raise DataError(f"the folder '{root}' does not exist.")
    if name == CSV:
        tree = read_table(root, columns or {})
    else:
        if not root.is_dir():
            raise DataError(f"'{root}' is not a folder; give that of the data set.")
        tree = Tree(_unpacked(root.resolve(), layout), _variant(name, variant))
        _read_parts(tree, layout)
        if tree.images and layout.listed is not None:
            _apply_lists(tree, layout.listed(tree))
    if not tree.images:
        raise DataError(_nothing(tree, name))
    return tree


def get_layout(name: str) -> Layout:
    """Return a layout by its name."""
    if name not in LAYOUTS:
        raise DataError(f"unknown layout {name!r}; use one of {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def protocol_of(name: str, images: list[Image]) -> Protocol:
    """Return the rules by which a data set is evaluated, for the images that it has."""
    layout = get_layout(name)
    rows = [labels for image in images for labels in image.all_labels()]
    identities = {labels.get("identity") for labels in rows} - {None}
    splits = {labels.get("split") for labels in rows}
    fields = {
        field for labels in rows for field, value in labels.items() if value is not None
    }
    rules: dict[str, object] = {
        "exclude": [rule for rule in layout.exclude if fields.issuperset(rule)]
    }
    if identities:
        rules |= {
            "identity_field": "identity",
            "gallery_shots": layout.gallery_shots,
            "gallery_per": layout.gallery_per,
            "junk": [value for value in layout.junk if value in identities],
            "distractors": [v for v in layout.distractors if v in identities],
        }
    if "camera" in fields:
        rules["camera_field"] = "camera"
    if {"query", "gallery"} <= splits:
        rules["split_field"] = "split"
    elif len(splits) > 1:
        for split in _ALONE:
            if split in splits:
                rules |= {
                    "split_field": "split",
                    "query_value": split,
                    "gallery_value": split,
                }
    return Protocol.from_dict(rules)


def _variant(name: str, variant: str | None) -> str | None:
    """Return the chosen variant of a layout."""
    known = get_layout(name).variants
    if variant is None:
        return known[0] if known else None
    if variant not in known:
        instead = f"use one of {', '.join(known)}" if known else "it has no variants"
        raise DataError(
            f"unknown variant {variant!r} of the layout '{name}'; {instead}."
        )
    return variant


def _unpacked(root: Path, layout: Layout) -> Path:
    """Return the folder of the data set, which may be in the one that is given."""
    if "" in layout.parts or not layout.parts or _has_part(root, layout):
        return root
    inner = [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.is_symlink() and _has_part(path, layout)
    ]
    return inner[0] if len(inner) == 1 else root


def _has_part(root: Path, layout: Layout) -> bool:
    return any(
        (root / folder.format(variant=variant)).is_dir()
        for folders in layout.parts.values()
        for folder in folders
        for variant in layout.variants or ("",)
    )


def _read_parts(tree: Tree, layout: Layout) -> None:
    """Read the images of the parts that are there."""
    for part, folders in (layout.parts or {"": ("",)}).items():
        for folder in folders:
            folder = folder.format(variant=tree.variant)
            if tree.is_folder(folder):
                tree.folders[part] = folder
                split = part if part in layout.splits else None
                tree.add_part(split, folder, layout.patterns)
                break
    if not tree.folders and layout.flat:
        tree.add_part(None, "", layout.patterns)


def _apply_lists(tree: Tree, listed: Listed | None) -> None:
    """Keep the listed images, with the labels of the lists."""
    if listed is None:
        return
    names = {image.name for image in tree.images}
    tree.missing = [name for name in listed if name not in names]
    kept = [image for image in tree.images if image.name in listed]
    tree.unlisted = len(tree.images) - len(kept)
    for image in kept:
        image.labels.update(listed[image.name])
    tree.images = kept


def _nothing(tree: Tree, name: str) -> str:
    """Say that a folder has no images of a layout, and what it has."""
    expected = f"'{name}' has images such as {get_layout(name).example}"
    if tree.unreadable:
        count = len(tree.unreadable)
        return (
            f"none of the {count:,} images in '{tree.root}' is named as in {name}, the "
            f"first is {tree.unreadable[0]}; {expected}; give its folder, or another "
            "layout."
        )
    if tree.unlisted:
        return (
            f"none of the {tree.unlisted:,} images in '{tree.root}' is in the lists "
            f"of the data set, which name {next(iter(tree.missing), 'nothing')}; give "
            "the folder as it was unpacked."
        )
    links = ""
    if tree.outside:
        links = f"links out of it, such as {tree.outside[0]}, are not followed; "
    return (
        f"'{tree.root}' holds no images of this layout; {links}{expected}; give its "
        "folder, or another layout."
    )
