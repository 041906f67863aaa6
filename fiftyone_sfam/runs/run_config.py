"""The record of a run in its dataset, and the fields that belong to the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import fiftyone as fo
from fiftyone.core.odm import create_field

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.app_config import reload_app_config
from fiftyone_sfam.runs.lock import one_at_a_time

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.maps import Weights
    from fiftyone_sfam.network.metric import Metric

METHOD = "fiftyone_sfam/explain_retrieval"
"""Method under which FiftyOne lists the runs of this package."""

SEARCH, LIST, RANKING = "search", "list", "ranking"
"""Sources of pairs: nearest neighbors, or a list of the user's without or with ranks.

In a list without ranks, the rank of a pair is its place by distance among the query's
pairs of the list.
"""

PATH, SCALES = "path", "scales"
"""Kinds of map along a path of images: of the pixels, and of several scales."""

PATH_KINDS = (PATH, SCALES)
"""Kinds that are stored at the pixels of the network's input, of some pairs only."""

AUTO = "auto"
"""Leaves the layer, or the kinds of map, to measurement before the run."""

RANK1, FALSE_RANK1, ALL_PAIRS = "rank1", "false", "all"
"""Pairs of which they are stored: of rank 1, the false matches of these, or all."""

COMPLETE, PUBLISHING, DELETING = "complete", "publishing", "deleting"

# Figures that are tuples, or None.
_TUPLES = ("contribution_agreement", "fullest_layer", "protocol_warnings")

# The names of a run's fields are its key and these endings.
SAMPLE_FIELDS = ("", "_score", "_outcome", "_neighbors")
PATCH_FIELDS = ("_score", "_outcome", "_neighbor", "_neighbor_id")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is known of a run before it starts."""

    model: str
    weights_hash: str
    metric: Metric  # of the retrieval
    k: int  # neighbors per query that were asked for
    kinds: tuple[str, ...]  # kinds of map that are stored, the first shown first
    weights: Weights  # channel weights of the sfam map
    map_dtype: str  # type in which maps are stored
    protocol: dict[str, Any]  # rules of the retrieval
    patches_field: str | None  # detections that were compared; None for whole images
    embeddings: str  # source of the embeddings
    shard_images: int  # images per stored shard
    order: str = ""  # of the images in the shards; empty in runs of earlier versions
    neighbors: str = "exact"  # "index" if a similarity index proposed the neighbors
    precision: str = "float32"  # of the network up to the layer
    part_pairs: int = 0  # pairs per part of the table; 0: one blob, earlier versions
    contributions: str | None = None  # type in which they are stored; None if not
    contribution_dims: int | None = None  # directions that they are projected to
    pair_source: str = SEARCH  # SEARCH, or LIST or RANKING if the pairs were given
    list_digest: str | None = None  # of the given list
    path_pairs: str | None = None  # pairs that have maps of PATH_KINDS; None if none
    versions: dict[str, str] = field(default_factory=dict)  # of the packages in use

    @property
    def path_kinds(self) -> tuple[str, ...]:
        """Kinds of map that are stored of some pairs, at the pixels."""
        return tuple(kind for kind in self.kinds if kind in PATH_KINDS)

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """Kinds of map that are stored of all pairs, at the layer."""
        return tuple(kind for kind in self.kinds if kind not in PATH_KINDS)

    @property
    def heatmap_kind(self) -> str:
        """The first kind of map that all pairs of rank 1 have: that of the heatmaps."""
        kinds = self.layer_kinds if self.path_pairs == FALSE_RANK1 else self.kinds
        return kinds[0]

    def facts(self) -> dict[str, Any]:
        """Return the settings that a fingerprint includes."""
        # Runs of earlier versions, which had none of these, are still resumed.
        added = {
            name
            for name, before in (
                ("contributions", None),
                ("contribution_dims", None),
                ("pair_source", SEARCH),
                ("list_digest", None),
                ("path_pairs", None),
            )
            if getattr(self, name) == before
        }
        return {name: value for name, value in vars(self).items() if name not in added}


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunSettings):
    """The record of a run: its settings, and what making it has shown."""

    uid: str  # prefix of the names of its blobs
    state: str  # COMPLETE, or PUBLISHING or DELETING while its fields change
    fingerprint: str  # digest of everything that determines the results
    layer: str  # of the maps
    map_shape: tuple[int, int, int]  # channels, height and width of the feature map
    # Share of the similarity that maps carry: the median of |sum(evidence)| / |score|
    # over the sides of the first shard with maps. None in runs of earlier versions.
    share_on_map: float | None = None
    # If that is little: the stage of the network that carries the most of an image's
    # similarity with itself, and how much. The name is empty if no stage does.
    fullest_layer: tuple[str, float] | None = None
    counts: dict[str, int] = field(default_factory=dict)  # as in Run.summary
    protocol_warnings: tuple[str, ...] = ()  # about what the protocol compares
    contribution_bytes: int | None = None  # per image, on average
    # Least and median correlation of the evidence from contributions with the maps.
    contribution_agreement: tuple[float, float] | None = None
    # Unique id and patches_field of the runs that it replaces, until they are deleted.
    replaces: tuple[tuple[str, str | None], ...] = ()
    model_digest: str | None = None  # of its layer, output and preprocessing
    map_check: dict[str, Any] | None = None  # see map_check.py; None: earlier versions
    chosen: dict[str, Any] | None = None  # what was chosen by measurement, if anything
    keeps_index: str | None = None  # brain key, until the index is stored
    renamed_to: str | None = None  # new key, until the renaming is finished

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Restore a config from plain data; unknown keys are ignored."""
        known = {item.name for item in fields(cls)}
        chosen = {key: value for key, value in values.items() if key in known}
        chosen["map_shape"] = tuple(chosen["map_shape"])
        chosen["kinds"] = tuple(chosen["kinds"])
        chosen["replaces"] = tuple(map(tuple, chosen.get("replaces", ())))
        for name in _TUPLES:
            if chosen.get(name) is not None:
                chosen[name] = tuple(chosen[name])
        return cls(**chosen)


def run_config(dataset: fo.Dataset, key: str) -> RunConfig | None:
    """Return the config of a run, finished or not; None if there is no such run."""
    if key not in dataset.list_runs(method=METHOD):
        return None
    return RunConfig.from_dict(dataset.get_run_info(key).config.serialize())


def check_complete(dataset: fo.Dataset, key: str, config: RunConfig) -> None:
    """Raise a RunError if the writing or the deletion of a run was interrupted."""
    if config.state == DELETING:
        raise RunError(
            f"the run '{key}' of '{dataset.name}' was interrupted while it was "
            "deleted; delete it again."
        )
    if config.state != COMPLETE:
        raise RunError(
            f"the run '{key}' of '{dataset.name}' was interrupted while its fields "
            "were written; repeat explain_retrieval with the same settings to finish "
            "it, or delete it."
        )


def record_run(dataset: fo.Dataset, key: str, config: RunConfig) -> None:
    """Write the config of a run, as a new record or in place of the one of its key."""
    values = asdict(config)
    values["map_shape"] = list(config.map_shape)
    values["kinds"] = list(config.kinds)
    values["replaces"] = list(map(list, config.replaces))
    for name in _TUPLES:
        if values[name] is not None:
            values[name] = list(values[name])
    record = dataset.init_run(method=METHOD, **values)
    if key in dataset.list_runs():
        # FiftyOne replaces one document: there is always one whole record.
        dataset.update_run_config(key, record)
    else:
        dataset.register_run(key, record)


# --------------------------------------------------------------------------------------
# Fields
# --------------------------------------------------------------------------------------

# FiftyOne writes fields by their position in the dataset's document: two processes that
# do so at once leave a gap there, and the dataset cannot be opened. Hence the lock.

FieldOptions = Mapping[str, Any]
"""Keyword arguments of ``dataset.add_sample_field``."""


def field_paths(dataset: fo.Dataset, key: str, patches_field: str | None) -> list[str]:
    """Return the paths of the fields that a run writes."""
    if patches_field is None:
        return [key + ending for ending in SAMPLE_FIELDS]
    prefix = f"{labels_path(dataset, patches_field)}.{key}"
    return [key, *(prefix + ending for ending in PATCH_FIELDS)]


def labels_path(dataset: fo.Dataset, patches_field: str) -> str:
    """Return the path of the detections in a field."""
    return patches_field + (".detections" if is_list(dataset, patches_field) else "")


def is_list(dataset: fo.Dataset, patches_field: str) -> bool:
    """Return whether a field holds a list of detections, not a single one."""
    field = dataset.get_field(patches_field)
    return getattr(field, "document_type", None) is fo.Detections


def add_fields(dataset: fo.Dataset, fields: Mapping[str, FieldOptions]) -> bool:
    """Add the fields that a dataset lacks; return whether there were any.

    FiftyOne's ``add_sample_field`` saves and loads the whole schema for each field;
    here this is done once for the fields of samples and once for nested fields.
    """
    missing = [path for path in fields if dataset.get_field(path) is None]
    if not missing:
        return False
    with fields_lock(dataset):
        for nested in (False, True):
            schema = {
                path: create_field(path.rpartition(".")[2], **fields[path])
                for path in missing
                if ("." in path) == nested
            }
            if schema:
                dataset._merge_sample_field_schema(schema)
    return True


def describe_field(dataset: fo.Dataset, path: str, description: str) -> None:
    """Change the description of a field that exists."""
    with fields_lock(dataset):
        field = dataset.get_field(path)
        if field is not None:
            field.description = description
            field.save()


def delete_fields(dataset: fo.Dataset, paths: Iterable[str]) -> None:
    """Delete the fields that exist."""
    present = [path for path in paths if dataset.get_field(path) is not None]
    if present:
        with fields_lock(dataset):
            reload_app_config(dataset)
            dataset.delete_sample_fields(present)


def rename_fields(dataset: fo.Dataset, moves: Mapping[str, str]) -> None:
    """Rename the fields that exist.

    FiftyOne renames values before the schema. Repeated after an interruption, this
    renames the remaining fields.
    """
    present = {
        old: new for old, new in moves.items() if dataset.get_field(old) is not None
    }
    if present:
        with fields_lock(dataset):
            reload_app_config(dataset)
            for old, new in present.items():
                _undo_rename(dataset, old, new)
            dataset.rename_sample_fields(present)


def _undo_rename(dataset: fo.Dataset, old: str, new: str) -> None:
    """Undo the interrupted renaming of a field of a single label.

    FiftyOne would repeat it with the old values, which are missing now, and overwrite
    the new ones. It repeats renamings of other fields correctly.
    """
    parent = old.rpartition(".")[0]
    if parent and not isinstance(dataset.get_field(parent), fo.ListField):
        value = {"$ifNull": [f"${old}", f"${new}"]}
        renamed = {new: {"$exists": True}}
        dataset._sample_collection.update_many(renamed, [{"$set": {old: value}}])


def fields_lock(dataset: fo.Dataset) -> Any:
    """Wait until no other process changes the fields of a dataset, or their display."""
    return one_at_a_time(f"{dataset._doc.id}/fields/")
