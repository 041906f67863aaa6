"""How a run was made: its record in a dataset, and the fields that are its own."""

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
        ``complete``, or ``publishing`` while its fields are being written, or
        ``deleting`` while they are being deleted.
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
        Order of the images in the shards, see
        :func:`fiftyone_sfam.runs.plan.make_plan`.
        Empty in runs of earlier versions, where it followed from ``patches_field``.
    neighbors : str
        ``exact``, or ``index`` where a similarity index proposed them.
    precision : str
        Type in which the network was computed up to the layer.
    part_pairs : int
        Pairs per stored part of the table; 0 in runs of earlier versions, whose table
        is one blob.
    keeps_index : str or None
        Brain key of the similarity index that its embeddings are being kept as; None
        once that is done.
    renamed_to : str or None
        Key that it is getting; the fields that do not have its name yet get it when the
        renaming is repeated.
    replaces : tuple of (str, str or None)
        Unique id and ``patches_field`` of the runs whose place this one takes, until
        they are deleted.
    share_on_map : float or None
        Share of the similarity that the maps carry: the median of
        ``|sum(evidence)| / |score|`` over the sides of the first shard that has maps.
        None in runs of earlier versions.
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
    keeps_index: str | None = None
    renamed_to: str | None = None
    replaces: tuple[tuple[str, str | None], ...] = ()
    share_on_map: float | None = None
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
    schema.delete_fields(dataset, field_paths(dataset, key, patches_field))
