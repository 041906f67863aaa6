"""Import folders that are laid out as known data sets into FiftyOne."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone.utils.data.importers import GenericSampleDatasetImporter

from fiftyone_sfam.data.layouts.read import protocol_of, read_layout
from fiftyone_sfam.data.layouts.table import CSV
from fiftyone_sfam.data.layouts.tree import Image, Tree
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted, one_line
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

BOXES = "detections"
"""Field of the boxes of a table."""

_INFO = "sfam_layout"
# Names in sentences.
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class LoadedLayout:
    """A dataset that was read from a folder, and what was left out.

    Attributes
    ----------
    dataset : fiftyone.Dataset
        One sample per image.
    layout : str
        Name of the layout.
    variant : str or None
        Variant of its split.
    protocol : Protocol
        Rules by which the data set is evaluated, see :func:`load_protocol`.
    counts : dict
        Number of images, and of images of each split.
    identities : int
        Number of identities.
    unreadable : tuple of str
        Images in the folder whose names are not of the layout, relative to it.
    missing : tuple of str
        Images in the lists of the data set that are not in the folder.
    outside : tuple of str
        Links that lead out of the folder, which are not followed.
    unlisted : int
        Number of images that no list of the data set names.
    patches_field : str or None
        Field of the boxes that a table has, for ``explain_retrieval``; None if whole
        images are compared.
    boxes : int
        Number of boxes.
    """

    dataset: fo.Dataset
    layout: str
    variant: str | None
    protocol: Protocol
    counts: dict[str, int]
    identities: int
    unreadable: tuple[str, ...]
    missing: tuple[str, ...]
    outside: tuple[str, ...]
    unlisted: int
    patches_field: str | None
    boxes: int

    def summary(self) -> str:
        """Describe the dataset in a few lines.

        Returns
        -------
        str
            Lines of text.
        """
        images, *splits = self.counts.items()
        first = counted(images[1], "image")
        if self.patches_field is not None:
            first += f" with {counted(self.boxes, 'box', 'boxes')}"
        first += f" of {counted(self.identities, 'identity', 'identities')}"
        if splits:
            first += f" ({', '.join(f'{name} {n:,}' for name, n in splits)})"
        listed = (
            (
                self.unreadable,
                "image",
                "that cannot be read"
                if self.layout == CSV
                else f"not named as in {self.layout}",
            ),
            (self.missing, "listed image", "not in the folder"),
            (
                self.outside,
                "link",
                "not followed, because of leading out of the folder",
            ),
        )
        lines = [first, self._compared()]
        for names, what, state in listed:
            if names:
                shown = ", ".join(one_line(name) for name in names[:_SHOWN])
                more = len(names) - _SHOWN
                lines.append(
                    f"{counted(len(names), what)} {state}: {shown}"
                    + (f" and {more:,} more" if more > 0 else "")
                )
        if self.unlisted:
            lines.append(
                f"{counted(self.unlisted, 'image')} in no list of the data set"
            )
        return "\n".join(lines)

    def _compared(self) -> str:
        """Describe the protocol."""
        rules = self.protocol
        if rules.split_field is None:
            compared = "compares every image with every other"
        elif rules.query_value == rules.gallery_value:
            compared = f"compares the images of the split {rules.query_value}"
        else:
            compared = f"compares {rules.query_value} with {rules.gallery_value}"
        return f"the protocol {compared}"


class LayoutImporter(GenericSampleDatasetImporter):
    """Imports a folder that is laid out as a known data set.

    Parameters
    ----------
    layout : str
        Name of the layout, see :func:`load_layout`.
    dataset_dir : str or Path
        Folder of the data set.
    variant, columns
        As in :func:`load_layout`.
    shuffle : bool
        Import the images in random order.
    seed : int, optional
        Seed of that order.
    max_samples : int, optional
        Import no more images than this.

    Raises
    ------
    DataError
        If the folder is not laid out so.

    Examples
    --------
    >>> import fiftyone as fo
    >>> from fiftyone_sfam import LayoutImporter
    >>> importer = LayoutImporter("market1501", "Market-1501-v15.09.15")
    >>> dataset = fo.Dataset.from_importer(importer)  # doctest: +SKIP
    """

    def __init__(
        self,
        layout: str,
        dataset_dir: str | Path,
        *,
        variant: str | None = None,
        columns: Mapping[str, str] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        max_samples: int | None = None,
    ) -> None:
        super().__init__(str(dataset_dir), shuffle, seed, max_samples)
        self.layout = layout
        self.variant = variant
        self.columns = columns
        self.tree: Tree | None = None
        self._left: Iterator[Image] = iter(())

    def setup(self) -> None:
        """Read the folder."""
        if self.tree is None:
            self.tree = read_layout(
                self.layout, self.dataset_dir, self.variant, self.columns
            )
            self.tree.images = self._preprocess_list(self.tree.images)
        self._left = iter(self.tree.images)

    def __len__(self) -> int:
        return len(self._read().images)

    def __next__(self) -> fo.Sample:
        image = next(self._left)
        split = image.labels.get("split")
        sample = fo.Sample(
            filepath=str(image.path), tags=[split] if split else [], **image.labels
        )
        if image.parts is not None:
            sample[BOXES] = fo.Detections(
                detections=[
                    fo.Detection(
                        label=part.labels.get("identity"),
                        bounding_box=list(part.box),
                        **part.labels,
                    )
                    for part in image.parts
                ]
            )
        return sample

    @property
    def has_dataset_info(self) -> bool:
        """Whether the dataset gets a protocol."""
        return True

    def get_dataset_info(self) -> dict[str, Any]:
        """Return the layout and its protocol, by the name under which it is stored."""
        tree = self._read()
        return {
            _INFO: {
                "layout": self.layout,
                "variant": tree.variant,
                "patches_field": _patches_field(tree),
                "protocol": protocol_of(self.layout, tree.images).to_dict(),
            }
        }

    @property
    def has_sample_field_schema(self) -> bool:
        """Whether the fields are known in advance."""
        return True

    def get_sample_field_schema(self) -> dict[str, Any]:
        """Return the fields of the labels."""
        schema: dict[str, Any] = {}
        columns: dict[str, list[Any]] = defaultdict(list)
        for image in self._read().images:
            for field, value in image.labels.items():
                columns[field].append(value)
            for part in image.parts or ():
                for field, value in part.labels.items():
                    columns[f"{BOXES}.detections.{field}"].append(value)
        if _patches_field(self._read()) is not None:
            schema[BOXES] = fo.EmbeddedDocumentField(fo.Detections)
        for path, values in sorted(columns.items()):
            texts = all(value is None or isinstance(value, str) for value in values)
            schema[path] = fo.StringField() if texts else fo.DateTimeField()
        return schema

    def _read(self) -> Tree:
        if self.tree is None:
            self.setup()
        assert self.tree is not None
        return self.tree


def load_layout(
    layout: str,
    folder: str | Path,
    name: str | None = None,
    *,
    variant: str | None = None,
    columns: Mapping[str, str] | None = None,
    persistent: bool = False,
    overwrite: bool = False,
    progress: bool | Callable[[fo.ProgressBar], None] | None = None,
) -> LoadedLayout:
    """Make a dataset of a folder that is laid out as a known data set.

    The samples have the fields that the names, folders and official lists of the data
    set give: ``identity``, ``camera``, ``split`` (also a tag), ``tracklet``,
    ``clothes``, ``place``, ``date``. All of them are text but dates of a table. The
    rules by which the data set is evaluated are stored with it. If a table has boxes,
    they are detections in the field ``detections``, which have all fields but the
    split. Images are opened only to learn the sizes that boxes in pixels need.

    Parameters
    ----------
    layout : str
        ``market1501``, ``dukemtmc-reid``, ``msmt17``, ``cuhk03``, ``veri776``,
        ``vehicleid``, ``sysu-mm01``, ``mars``, ``lfw``, ``celeba``, ``vggface2``,
        ``casia-webface``, ``folders`` (a folder per identity, possibly in folders of
        the splits) or ``csv``.
    folder : str or Path
        Folder of the data set, or the one that it was unpacked to. For ``csv`` the
        table, or its folder.
    name : str, optional
        Name of the dataset; that of the layout by default.
    variant : str, optional
        Which of several official splits: ``detected`` or ``labeled`` for ``cuhk03``;
        the number of identities, by default ``800``, for ``vehicleid``; ``all`` or
        ``indoor`` for ``sysu-mm01``.
    columns : mapping, optional
        For ``csv``: the column of each field, of ``path``, and of a box's ``x``, ``y``,
        ``w`` and ``h``. Columns with the names of fields are read anyway.
    persistent : bool
        Keep the dataset when the session ends.
    overwrite : bool
        Replace a dataset of this name.
    progress : bool or callable, optional
        Whether to show a bar, or a function that FiftyOne calls with it. None follows
        FiftyOne's ``show_progress_bars``.

    Returns
    -------
    LoadedLayout
        The dataset, its protocol, and what was left out.

    Raises
    ------
    DataError
        If the folder is not laid out so, a list of the data set is missing, or a
        dataset of this name exists.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from fiftyone_sfam import load_layout
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("query/0002_c1s1_000451_03", "bounding_box_test/-1_c2s1_1_1"):
    ...         path = Path(folder, f"{name}.jpg")
    ...         path.parent.mkdir()
    ...         Image.new("RGB", (8, 16)).save(path)
    ...     loaded = load_layout("market1501", folder, "two-images")
    >>> loaded.counts
    {'images': 2, 'query': 1, 'gallery': 1}
    >>> loaded.protocol.junk
    ('-1',)
    >>> loaded.dataset.delete()
    """
    name = layout if name is None else name
    if fo.dataset_exists(name) and not overwrite:
        raise DataError(
            f"a dataset '{name}' exists; choose another name, or pass overwrite=True "
            "to replace it."
        )
    importer = LayoutImporter(layout, folder, variant=variant, columns=columns)
    importer.setup()  # a dataset is replaced only by a folder that can be read
    dataset = fo.Dataset(name, persistent=persistent, overwrite=overwrite)
    try:
        dataset.add_importer(importer, progress=progress)
    except BaseException:
        dataset.delete()
        raise
    tree = importer._read()
    splits = Counter(image.labels.get("split") for image in tree.images)
    rows = [labels for image in tree.images for labels in image.all_labels()]
    return LoadedLayout(
        dataset=dataset,
        layout=layout,
        variant=tree.variant,
        protocol=protocol_of(layout, tree.images),
        counts={
            "images": len(tree.images),
            **{split: count for split, count in splits.items() if split is not None},
        },
        identities=len({labels.get("identity") for labels in rows} - {None}),
        unreadable=tuple(tree.unreadable),
        missing=tuple(tree.missing),
        outside=tuple(tree.outside),
        unlisted=tree.unlisted,
        patches_field=_patches_field(tree),
        boxes=sum(len(image.parts or ()) for image in tree.images),
    )


def load_protocol(samples: SampleCollection) -> Protocol | None:
    """Return the rules by which an imported data set is evaluated.

    Parameters
    ----------
    samples : fiftyone dataset or view
        Dataset of :func:`load_layout` or :class:`LayoutImporter`.

    Returns
    -------
    Protocol or None
        The rules; None if the dataset was not imported so.

    Raises
    ------
    DataError
        If the stored rules are not those of a protocol.

    Examples
    --------
    >>> from fiftyone_sfam import load_protocol
    >>> load_protocol(dataset) is None  # made in another way
    True
    """
    stored = _stored(samples)
    if stored is None:
        return None
    rules = stored.get("protocol") if isinstance(stored, dict) else None
    if not isinstance(rules, dict):
        raise DataError(
            f"the entry '{_INFO}' in the info of '{samples._root_dataset.name}' holds "
            "no protocol; import the data set again."
        )
    return Protocol.from_dict(rules)


def load_patches_field(samples: SampleCollection) -> str | None:
    """Return the field of the boxes that were imported; None if there are none."""
    stored = _stored(samples)
    return stored.get("patches_field") if isinstance(stored, dict) else None


def _stored(samples: SampleCollection) -> Any:
    return samples._root_dataset.info.get(_INFO)


def _patches_field(tree: Tree) -> str | None:
    return BOXES if any(image.parts is not None for image in tree.images) else None
