"""What a run leaves in a dataset, and the ways to list, read, rename and delete it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.images import Skipped
from fiftyone_sfam.records import (
    BY_COUNT,
    BY_ITEM,
    FALSE_MATCH,
    GALLERY,
    OUTCOMES,
    QUERY,
    TRUE_MATCH,
    UNLABELED,
    Pairs,
    Plan,
    make_plan,
)
from fiftyone_sfam.results import ResultStore
from fiftyone_sfam.storage import Arrays, BlobStore, unpack_maps
from fiftyone_sfam.verdict_fields import (
    check_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.attribution import Weights

METHOD = "fiftyone_sfam/explain_retrieval"
"""Method under which FiftyOne lists the runs of this package."""

TABLE = "table"
COMPLETE, PUBLISHING = "complete", "publishing"

# What a run writes on samples: the run's key and these endings.
SAMPLE_FIELDS = ("", "_score", "_outcome", "_neighbors")
PATCH_FIELDS = ("_score", "_outcome", "_neighbor", "_neighbor_id")


@dataclass(frozen=True)
class RunConfig:
    """How a run was made.

    Attributes
    ----------
    uid : str
        Unique id, under which its maps are stored.
    state : str
        ``complete``, or ``publishing`` while its fields are being written.
    fingerprint : str
        Digest of everything that determines its results.
    model, weights_hash, layer : str
        The network, its weights and the layer that the maps lie at.
    map_shape : tuple of int
        Channels, height and width of the feature map.
    metric : str
        ``cosine`` or ``euclidean``.
    k : int
        Neighbors per query that were asked for.
    kinds : tuple of str
        Kinds of map that are stored; the first is shown as heatmap field.
    weights : str
        Channel weights of the ``sfam`` map.
    map_dtype : str
        Type in which maps are stored.
    protocol : dict
        Rules of the retrieval.
    patches_field : str or None
        Field of the detections that were compared.
    embeddings : str
        Where the embeddings came from.
    shard_images : int
        Images per stored shard.
    order : str
        Order of the images in the shards, see :func:`fiftyone_sfam.records.make_plan`.
        Empty in runs of earlier versions, where it followed from ``patches_field``.
    replaces : tuple of (str, str or None)
        Unique id and ``patches_field`` of the runs whose place this one takes, until
        they are deleted.
    counts : dict
        Images, queries, pairs, skipped images, and the outcomes of rank 1.
    versions : dict
        Versions of the packages that matter.
    """

    uid: str
    state: str
    fingerprint: str
    model: str
    weights_hash: str
    layer: str
    map_shape: tuple[int, int, int]
    metric: str
    k: int
    kinds: tuple[str, ...]
    weights: Weights
    map_dtype: str
    protocol: dict[str, Any]
    patches_field: str | None
    embeddings: str
    shard_images: int
    order: str = ""
    replaces: tuple[tuple[str, str | None], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Restore a config from plain data; unknown keys are ignored."""
        known = {item.name for item in fields(cls)}
        chosen = {key: value for key, value in values.items() if key in known}
        chosen["map_shape"] = tuple(chosen["map_shape"])
        chosen["kinds"] = tuple(chosen["kinds"])
        chosen["replaces"] = tuple((uid, of) for uid, of in chosen.get("replaces", ()))
        return cls(**chosen)


@dataclass(frozen=True)
class RunItems:
    """The images that a run compared.

    Attributes
    ----------
    sample_ids : ndarray of str
        Sample of each item, shape (N,).
    label_ids : ndarray of str or None
        Detection of each item; None where whole images were compared.
    identities, cameras : tuple of str or None
        Labels of each item as they were when it was run.
    is_query, is_gallery : ndarray of bool
        Which items the run took as queries and as gallery, shape (N,).
    """

    sample_ids: NDArray[np.str_]
    label_ids: NDArray[np.str_] | None
    identities: tuple[str | None, ...]
    cameras: tuple[str | None, ...]
    is_query: NDArray[np.bool_]
    is_gallery: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def ids(self) -> NDArray[np.str_]:
        """What identifies each item: its detection's id, or its sample's."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    def index(self, item_id: str) -> int:
        """Return the index of an item by its id, or -1."""
        return self._positions.get(item_id, -1)

    def indices_of_sample(self, sample_id: str) -> NDArray[np.int64]:
        """Return the items of a sample."""
        return np.flatnonzero(self.sample_ids == sample_id)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {str(one): place for place, one in enumerate(self.ids)}


@dataclass(frozen=True)
class SideMaps:
    """The stored maps of one side of a pair.

    Attributes
    ----------
    maps : dict of str to ndarray
        Signed map per kind, float32, shape (h, w).
    score : float
        Similarity as this side's forward pass gave it.
    remainder : float
        ``score`` minus the sum of the evidence.
    crop : tuple of float
        Relative left, top, right and bottom of what the network saw of the image (or
        of the detection's crop).
    size : tuple of int
        Width and height of the whole image, in pixels.
    """

    maps: dict[str, NDArray[np.float32]]
    score: float
    remainder: float
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class PairMaps:
    """Both sides of a pair; None where the image could not be read."""

    query: SideMaps | None
    gallery: SideMaps | None


class Run:
    """A finished run of :func:`fiftyone_sfam.explain_retrieval`, read lazily.

    Get one from :func:`load_run`.

    Attributes
    ----------
    dataset : fiftyone.Dataset
        Dataset that it belongs to.
    key : str
        Its key.
    config : RunConfig
        How it was made.
    """

    def __init__(self, dataset: fo.Dataset, key: str, config: RunConfig) -> None:
        self.dataset = dataset
        self.key = key
        self.config = config

    def __repr__(self) -> str:
        return f"<Run '{self.key}' of '{self.dataset.name}': {self.summary()}>"

    # -- columns -----------------------------------------------------------------------

    @property
    def pairs(self) -> Pairs:
        """The pairs as columns."""
        return self._table[0]

    @property
    def items(self) -> RunItems:
        """The images that the pairs' columns refer to."""
        return self._table[1]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that could not be used, with the reasons."""
        return self._table[2]

    @property
    def remainders(self) -> NDArray[np.float32]:
        """Remainders of the query and the gallery side, shape (P, 2); NaN if none."""
        return self._table[3]

    @property
    def query_outcomes(self) -> NDArray[np.int8]:
        """Outcome of each query's first neighbor, in the order of the queries."""
        return self.pairs.outcome[self.pairs.rank == 1]

    def summary(self) -> dict[str, Any]:
        """Summarize the run.

        Returns
        -------
        dict
            ``images``, ``queries``, ``pairs``, ``skipped``, the counts of rank-1
            outcomes, and ``rank1``: the share of true matches among the labeled
            queries' first neighbors (None without labels).
        """
        counts = dict(self.config.counts)
        labeled = counts.get("true match", 0) + counts.get("false match", 0)
        counts_and_rate: dict[str, Any] = counts
        counts_and_rate["rank1"] = counts["true match"] / labeled if labeled else None
        return counts_and_rate

    def embeddings(self) -> NDArray[np.float32]:
        """Return the embeddings that the run compared.

        Returns
        -------
        ndarray of float32
            Shape (N, D), in the order of :attr:`items`; zeros for images without.
        """
        blocks: list[NDArray[np.float32]] = []
        while f"embeddings-{len(blocks):06d}" in self._names:
            name = f"embeddings-{len(blocks):06d}"
            blocks.append(self.store.get(name)["vectors"])
        if not blocks:
            raise RunError(
                f"the run '{self.key}' has no stored embeddings; run "
                "explain_retrieval again with overwrite=True."
            )
        # A block without any readable image has no width of its own.
        width = max(block.shape[1] for block in blocks)
        return np.concatenate(
            [
                block
                if block.shape[1]
                else np.zeros((len(block), width), dtype=np.float32)
                for block in blocks
            ]
        )

    # -- maps --------------------------------------------------------------------------

    def maps(self, pair: int) -> PairMaps:
        """Read the stored maps of a pair.

        Parameters
        ----------
        pair : int
            Index into the columns of :attr:`pairs`.

        Returns
        -------
        PairMaps
            Both sides, at the layer's own resolution.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        return self.many_maps([pair])[0]

    def many_maps(self, pairs: Iterable[int]) -> list[PairMaps]:
        """Read the stored maps of several pairs, each shard once.

        Parameters
        ----------
        pairs : iterable of int
            Indices into the columns of :attr:`pairs`.

        Returns
        -------
        list of PairMaps
            In the same order.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        shards: dict[int, Arrays] = {}

        def side(pair: int, which: int) -> SideMaps | None:
            number, row = self.plan.locate(2 * pair + which)
            if number not in shards:
                shards[number] = self.store.get(shard_name(number))
            return _read_side(shards[number], row, self.config.kinds)

        chosen = [int(pair) for pair in pairs]
        for pair in chosen:
            if not 0 <= pair < len(self.pairs):
                raise RunError(
                    f"the run '{self.key}' has {len(self.pairs)} pairs, numbered from "
                    f"0; there is no pair {pair}."
                )
        return [PairMaps(side(pair, QUERY), side(pair, GALLERY)) for pair in chosen]

    def to_pairs_dataset(
        self, selection: Iterable[int] | None = None, name: str | None = None
    ) -> fo.Dataset:
        """Make a grouped dataset of pairs, see :func:`make_pairs_dataset`."""
        from fiftyone_sfam.pairs_dataset import make_pairs_dataset

        return make_pairs_dataset(self, selection, name)

    # -- storage -----------------------------------------------------------------------

    @cached_property
    def store(self) -> BlobStore:
        """The run's blobs."""
        return BlobStore(str(self.dataset._doc.id), self.config.uid)

    @property
    def results(self) -> ResultStore:
        """What audits found out about the run."""
        return ResultStore(self.dataset, self.key, self.config.uid)

    @cached_property
    def plan(self) -> Plan:
        """Where the maps of each side are stored."""
        config = self.config
        order = config.order or (BY_ITEM if config.patches_field else BY_COUNT)
        return make_plan(self.pairs, config.shard_images, order)

    @cached_property
    def _names(self) -> set[str]:
        return self.store.names()

    @cached_property
    def _table(
        self,
    ) -> tuple[Pairs, RunItems, tuple[Skipped, ...], NDArray[np.float32]]:
        return unpack_table(self.store.get(TABLE))


# --------------------------------------------------------------------------------------
# Management
# --------------------------------------------------------------------------------------


def list_runs(samples: SampleCollection) -> list[str]:
    """List the keys of a dataset's finished runs.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.

    Returns
    -------
    list of str
        Keys, sorted.
    """
    dataset = samples._root_dataset
    return [
        key
        for key in dataset.list_runs(method=METHOD)
        if dataset.get_run_info(key).config.state == COMPLETE
    ]


def load_run(samples: SampleCollection, key: str) -> Run:
    """Load a run.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key : str
        Key of the run.

    Returns
    -------
    Run
        The run; its columns and maps are read when they are asked for.

    Raises
    ------
    RunError
        If there is no such run, or it was interrupted.
    """
    dataset = samples._root_dataset
    config = run_config(dataset, key)
    if config is None:
        known = ", ".join(f"'{one}'" for one in list_runs(dataset)) or "none"
        raise RunError(
            f"'{dataset.name}' has no explained run '{key}' (its runs: {known}); make "
            "one with explain_retrieval, or call dataset.reload() if another process "
            "has made it."
        )
    if config.state != COMPLETE:
        raise RunError(
            f"the run '{key}' of '{dataset.name}' was interrupted while its fields "
            "were written; repeat explain_retrieval with the same settings to finish "
            "it, or delete it."
        )
    return Run(dataset, key, config)


def delete_run(samples: SampleCollection, key: str) -> None:
    """Delete a run: its fields, its maps and its record.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key : str
        Key of the run, finished or not.

    Raises
    ------
    RunError
        If there is no such run.
    """
    dataset = samples._root_dataset
    config = run_config(dataset, key)
    if config is None:
        raise RunError(f"'{dataset.name}' has no explained run '{key}' to delete.")
    for uid, patches_field in (*config.replaces, (config.uid, config.patches_field)):
        ResultStore(dataset, key, uid).delete_all()
        forget_verdicts(dataset, key, uid, patches_field)
        delete_fields(dataset, key, patches_field)
        BlobStore(str(dataset._doc.id), uid).delete()
    dataset.delete_run(key)


def rename_run(samples: SampleCollection, key: str, new_key: str) -> None:
    """Rename a run and its fields.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key, new_key : str
        Present and new key.

    Raises
    ------
    RunError
        If there is no such run, or the new key or one of its fields is in use.
    """
    run = load_run(samples, key)
    dataset, patches_field = run.dataset, run.config.patches_field
    check_key(dataset, new_key, patches_field)
    if run_config(dataset, new_key) is not None:
        raise RunError(
            f"'{dataset.name}' has a run '{new_key}' already; choose another key."
        )
    run.results.rename(new_key)
    rename_verdicts(dataset, key, new_key, patches_field)
    old = field_paths(dataset, key, patches_field)
    new = field_paths(dataset, new_key, patches_field)
    mapping = {
        one: other
        for one, other in zip(old, new, strict=True)
        if dataset.get_field(one) is not None
    }
    if mapping:
        dataset.rename_sample_fields(mapping)
    dataset.rename_run(key, new_key)


def run_config(dataset: fo.Dataset, key: str) -> RunConfig | None:
    """Return the config of one of our runs, finished or not; None if there is none."""
    if key not in dataset.list_runs(method=METHOD):
        return None
    return RunConfig.from_dict(dataset.get_run_info(key).config.serialize())


def record_run(dataset: fo.Dataset, key: str, config: RunConfig) -> None:
    """Write a run's config, new or in place of the one under its key."""
    if key in dataset.list_runs():
        # One document is replaced at once: never no run, never half a run.
        dataset.update_run_config(key, _fiftyone_config(dataset, config))
    else:
        dataset.register_run(key, _fiftyone_config(dataset, config))


def _fiftyone_config(dataset: fo.Dataset, config: RunConfig) -> Any:
    """Return a config as FiftyOne keeps it."""
    values = asdict(config)
    values["map_shape"] = list(config.map_shape)
    values["kinds"] = list(config.kinds)
    values["replaces"] = [list(one) for one in config.replaces]
    return dataset.init_run(method=METHOD, **values)


# --------------------------------------------------------------------------------------
# Fields
# --------------------------------------------------------------------------------------


def field_paths(dataset: fo.Dataset, key: str, patches_field: str | None) -> list[str]:
    """Return the paths of the fields that a run writes."""
    if patches_field is None:
        return [key + ending for ending in SAMPLE_FIELDS]
    document = dataset.get_field(patches_field)
    listed = getattr(document, "document_type", None) is fo.Detections
    prefix = f"{patches_field}.detections." if listed else f"{patches_field}."
    return [key, *(prefix + key + ending for ending in PATCH_FIELDS)]


def delete_fields(dataset: fo.Dataset, key: str, patches_field: str | None) -> None:
    """Delete the fields of a run, where they exist."""
    paths = [
        path
        for path in field_paths(dataset, key, patches_field)
        if dataset.get_field(path) is not None
    ]
    if paths:
        dataset.delete_sample_fields(paths)


def check_key(dataset: fo.Dataset, key: str, patches_field: str | None) -> None:
    """Refuse a key that is no name, or whose fields are somebody else's.

    Raises
    ------
    RunError
        If the key cannot be used.
    """
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
        raise RunError(
            f"the run key {key!r} cannot be used; give a name of letters, digits and "
            "underscores that starts with a letter."
        )
    if key in dataset.list_runs() and run_config(dataset, key) is None:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' of another kind; choose another key."
        )
    check_verdict_fields(dataset, key, patches_field)
    config = run_config(dataset, key)
    own: set[str] = set()
    if config is not None:
        for _, of in (*config.replaces, (config.uid, config.patches_field)):
            own.update(field_paths(dataset, key, of))
    for path in field_paths(dataset, key, patches_field):
        if path not in own and dataset.get_field(path) is not None:
            raise RunError(
                f"'{dataset.name}' has a field '{path}' that is not of a run; choose "
                "another key."
            )


# --------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------


def shard_name(number: int) -> str:
    """Name the blob of a shard."""
    return f"maps-{number:06d}"


def pack_table(
    pairs: Pairs,
    items: RunItems,
    skipped: Iterable[Skipped],
    remainders: NDArray[np.float32],
) -> Arrays:
    """Turn a run's columns into arrays to store."""
    texts = {
        "identities": items.identities,
        "cameras": items.cameras,
        "skipped": [asdict(one) for one in skipped],
    }
    arrays: Arrays = {
        **{f"pairs_{one.name}": getattr(pairs, one.name) for one in fields(pairs)},
        "sample_ids": items.sample_ids.astype("S"),
        "is_query": items.is_query,
        "is_gallery": items.is_gallery,
        "remainders": remainders,
        "texts": np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
    }
    if items.label_ids is not None:
        arrays["label_ids"] = items.label_ids.astype("S")
    return arrays


def unpack_table(
    arrays: Arrays,
) -> tuple[Pairs, RunItems, tuple[Skipped, ...], NDArray[np.float32]]:
    """Restore a run's columns from :func:`pack_table`."""
    texts = json.loads(arrays["texts"].tobytes().decode())
    pairs = Pairs(**{one.name: arrays[f"pairs_{one.name}"] for one in fields(Pairs)})
    label_ids = arrays.get("label_ids")
    items = RunItems(
        arrays["sample_ids"].astype("U"),
        None if label_ids is None else label_ids.astype("U"),
        tuple(texts["identities"]),
        tuple(texts["cameras"]),
        arrays["is_query"],
        arrays["is_gallery"],
    )
    skipped = tuple(Skipped(**one) for one in texts["skipped"])
    return pairs, items, skipped, arrays["remainders"]


def _read_side(shard: Arrays, row: int, kinds: tuple[str, ...]) -> SideMaps | None:
    """Read one side out of a shard; None if its image could not be read."""
    if np.isnan(shard["score"][row]):
        return None
    chosen = slice(row, row + 1)
    maps = {
        kind: unpack_maps(
            shard[f"{kind}_values"][chosen], shard[f"{kind}_scale"][chosen]
        )[0]
        for kind in kinds
    }
    image = shard["image"][row]
    left, top, right, bottom = (float(v) for v in shard["crop"][image])
    width, height = (int(v) for v in shard["size"][image])
    return SideMaps(
        maps,
        float(shard["score"][row]),
        float(shard["remainder"][row]),
        (left, top, right, bottom),
        (width, height),
    )


def count_outcomes(pairs: Pairs) -> dict[str, int]:
    """Count the outcomes of the queries' first neighbors."""
    first = pairs.outcome[pairs.rank == 1]
    return {
        OUTCOMES[code]: int(np.count_nonzero(first == code))
        for code in (TRUE_MATCH, FALSE_MATCH, UNLABELED)
    }
