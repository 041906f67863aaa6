"""The record of a run in its dataset, and the fields that belong to the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from fiftyone_sfam.runs import schema

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.maps import Weights
    from fiftyone_sfam.network.metric import Metric

METHOD = "fiftyone_sfam/explain_retrieval"
"""Method under which FiftyOne lists the runs of this package."""

COMPLETE, PUBLISHING, DELETING = "complete", "publishing", "deleting"

# The names of a run's fields are its key and these endings.
SAMPLE_FIELDS = ("", "_score", "_outcome", "_neighbors")
PATCH_FIELDS = ("_score", "_outcome", "_neighbor", "_neighbor_id")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is known of a run before it starts.

    Attributes
    ----------
    model, weights_hash : str
        The network and its weights.
    metric : {"cosine", "euclidean"}
        Metric of the retrieval.
    k : int
        Number of neighbors per query that were asked for.
    kinds : tuple of str
        Kinds of map that are stored; the heatmap field shows the first.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` map.
    map_dtype : {"int8", "float16", "float32"}
        Type in which maps are stored.
    protocol : dict
        Rules of the retrieval.
    patches_field : str or None
        Field of the detections that were compared; None for whole images.
    embeddings : str
        Source of the embeddings.
    shard_images : int
        Images per stored shard.
    order : str
        Order of the images in the shards, see
        :func:`fiftyone_sfam.runs.plan.make_plan`. Empty in runs of earlier versions,
        where it follows from ``patches_field``.
    neighbors : {"exact", "index"}
        ``index`` if a similarity index proposed the neighbors.
    precision : str
        Type in which the network was computed up to the layer.
    part_pairs : int
        Pairs per stored part of the table; 0 in runs of earlier versions, whose table
        is one blob.
    versions : dict of str to str
        Versions of the packages that affect the results.
    """

    model: str
    weights_hash: str
    metric: Metric
    k: int
    kinds: tuple[str, ...]
    weights: Weights
    map_dtype: str
    protocol: dict[str, Any]
    patches_field: str | None
    embeddings: str
    shard_images: int
    order: str = ""
    neighbors: str = "exact"
    precision: str = "float32"
    part_pairs: int = 0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunSettings):
    """The record of a run: its settings, and what making it has shown.

    Attributes
    ----------
    uid : str
        Unique id under which the blobs of the run are stored.
    state : {"complete", "publishing", "deleting"}
        ``publishing`` while the fields are being written, ``deleting`` while they are
        being deleted.
    fingerprint : str
        Digest of everything that determines the results.
    layer : str
        Layer of the maps.
    map_shape : tuple of int
        Channels, height and width of the feature map.
    share_on_map : float or None
        Share of the similarity that the maps carry: the median of
        ``|sum(evidence)| / |score|`` over the sides of the first shard that has maps.
        None in runs of earlier versions.
    counts : dict of str to int
        Images, queries, pairs, skipped images, and the outcomes of rank 1.
    replaces : tuple of (str, str or None)
        Unique id and ``patches_field`` of the runs that this run replaces, until they
        are deleted.
    keeps_index : str or None
        Brain key of the similarity index that the embeddings are being stored as; None
        once that is done.
    renamed_to : str or None
        New key of the run while it is being renamed.
    """

    uid: str
    state: str
    fingerprint: str
    layer: str
    map_shape: tuple[int, int, int]
    share_on_map: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    replaces: tuple[tuple[str, str | None], ...] = ()
    keeps_index: str | None = None
    renamed_to: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Restore a config from plain data; unknown keys are ignored."""
        known = {item.name for item in fields(cls)}
        chosen = {key: value for key, value in values.items() if key in known}
        chosen["map_shape"] = tuple(chosen["map_shape"])
        chosen["kinds"] = tuple(chosen["kinds"])
        chosen["replaces"] = tuple(map(tuple, chosen.get("replaces", ())))
        return cls(**chosen)


def run_config(dataset: fo.Dataset, key: str) -> RunConfig | None:
    """Return the config of a run, finished or not; None if there is no such run."""
    if key not in dataset.list_runs(method=METHOD):
        return None
    return RunConfig.from_dict(dataset.get_run_info(key).config.serialize())


def record_run(dataset: fo.Dataset, key: str, config: RunConfig) -> None:
    """Write the config of a run, as a new record or in place of the one of its key."""
    values = asdict(config)
    values["map_shape"] = list(config.map_shape)
    values["kinds"] = list(config.kinds)
    values["replaces"] = list(map(list, config.replaces))
    record = dataset.init_run(method=METHOD, **values)
    if key in dataset.list_runs():
        # FiftyOne replaces one document: there is always one whole record.
        dataset.update_run_config(key, record)
    else:
        dataset.register_run(key, record)


# --------------------------------------------------------------------------------------
# Fields
# --------------------------------------------------------------------------------------


def field_paths(dataset: fo.Dataset, key: str, patches_field: str | None) -> list[str]:
    """Return the paths of the fields that a run writes."""
    if patches_field is None:
        return [key + ending for ending in SAMPLE_FIELDS]
    document = dataset.get_field(patches_field)
    is_list = getattr(document, "document_type", None) is fo.Detections
    prefix = f"{patches_field}.detections." if is_list else f"{patches_field}."
    return [key, *(prefix + key + ending for ending in PATCH_FIELDS)]


def delete_fields(dataset: fo.Dataset, key: str, patches_field: str | None) -> None:
    """Delete the fields of a run that exist."""
    schema.delete_fields(dataset, field_paths(dataset, key, patches_field))
