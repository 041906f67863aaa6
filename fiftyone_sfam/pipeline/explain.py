"""The run: a dataset's nearest-neighbor pairs, explained from both sides.

Images are streamed once. Each forward pass gives the feature map with which every pair
that the image takes part in is explained, because the other side is needed only as an
embedding (METHOD: N passes for N images, whatever k is).
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.maps import WEIGHTS, Weights
from fiftyone_sfam.data.items import Items, collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import (
    DataError,
    NetworkError,
    RunError,
    SfamError,
    SfamWarning,
    WorkerError,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.pipeline.engines import Work, check_engine, make_engine
from fiftyone_sfam.pipeline.manage import (
    check_key,
    delete_run,
    fingerprint_of,
    finish_rename,
    resumable_uid,
)
from fiftyone_sfam.pipeline.passes import (
    collect,
    embed_all,
    explain_all,
    keep_embeddings,
    keep_plan,
)
from fiftyone_sfam.pipeline.publish import publish_fields
from fiftyone_sfam.pipeline.streaming import COMPUTED, ImageStream, MapTask
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.embeddings import (
    Embeddings,
    check_index_key,
    keep_as_index,
    stored_embeddings,
)
from fiftyone_sfam.retrieval.indexed import IndexSearch, find_proposed_neighbors
from fiftyone_sfam.retrieval.pairs import Pairs, count_outcomes, make_pairs
from fiftyone_sfam.retrieval.search import (
    Candidates,
    Neighbors,
    find_neighbors,
    select_candidates,
)
from fiftyone_sfam.review.verdicts import carry_over
from fiftyone_sfam.runs.blobs import MAP_TYPES, BlobStore
from fiftyone_sfam.runs.lock import one_at_a_time, one_maker, working_on
from fiftyone_sfam.runs.plan import BY_BLOCK, BY_COUNT, BY_ITEM, make_plan
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    DELETING,
    PUBLISHING,
    RunConfig,
    record_run,
    run_config,
)
from fiftyone_sfam.runs.run_table import PART_PAIRS, RunItems, is_shard, write_table

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

Kind = Literal["sfam", "evidence"]


KINDS: tuple[Kind, ...] = ("sfam", "evidence")
"""Kinds of map that a run can store; the others are computed for one pair at a time."""

# What the columns of pairs and the database can hold.
_LARGEST = 2**31 - 1

NEIGHBORS = ("exact", "index")
"""Where the neighbors can come from."""


@one_maker
def explain_retrieval(
    samples: SampleCollection,
    model: EmbeddingModel | str,
    *,
    key: str = "sfam",
    k: int = 5,
    protocol: Protocol | None = None,
    patches_field: str | None = None,
    embeddings: str | NDArray[np.floating] | None = None,
    neighbors: Literal["exact", "index"] = "exact",
    keep_index: str | None = None,
    kinds: Sequence[Kind] = KINDS,
    weights: Weights = "signed",
    map_dtype: Literal["int8", "float16", "float32"] = "int8",
    batch_size: int = 32,
    num_workers: int | None = None,
    cache_bytes: int = 2**30,
    overwrite: bool = False,
    progress: bool | Progress | None = None,
    engine: Literal["local", "ray"] = "local",
    engine_options: Mapping[str, Any] | None = None,
) -> Run:
    """Explain every query's nearest neighbors, and store what was found.

    Parameters
    ----------
    samples : fiftyone dataset or view
        Images; all of them are compared unless the protocol says otherwise.
    model : EmbeddingModel or str
        The model, or the name of one, see :func:`fiftyone_sfam.load_model`.
    key : str
        Key of the run, and name of its fields.
    k : int
        Neighbors per query.
    protocol : Protocol, optional
        Rules of the retrieval; by default every image is compared with every other.
    patches_field : str, optional
        Field of detections to compare instead of whole images.
    embeddings : str or ndarray, optional
        Brain key of a similarity index, or name of a field, or an array (N, D) in the
        order of the images. None computes them with the model; images that do not fit
        into the cache then cost a second forward pass.
    neighbors : {"exact", "index"}
        Where the neighbors come from: every query is compared with the whole gallery,
        or with what the similarity index of ``embeddings`` finds near it (any backend
        but the built-in one). Scores are computed from the embeddings either way. An
        approximate index forgets some neighbors; ranks then count what it found, and a
        nearest true match that it did not find is not added to the pairs.
    keep_index : str, optional
        Brain key under which computed embeddings are kept as a similarity index.
    kinds : sequence of {"sfam", "evidence"}
        Maps to store; the first is shown as the heatmap field.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` map.
    map_dtype : {"int8", "float16", "float32"}
        Type in which maps are stored.
    batch_size : int
        Images per forward pass, and per stored shard.
    num_workers : int, optional
        Threads that read images; by default one per core, at most 8.
    cache_bytes : int
        Memory for what computing the embeddings finds at the layer and the maps need;
        0 computes it twice. Without effect where embeddings are given. With
        ``engine="ray"`` it is the memory of each worker.
    overwrite : bool
        Replace an existing run of this key, once the new one is complete. Otherwise an
        existing key is refused.
    progress : bool or callable, optional
        A bar, or a function that is called with the number of images done, their
        total, and the phase: ``"embedding"`` or ``"explaining"``. None shows a bar
        where FiftyOne's ``show_progress_bars`` says so.
    engine : {"local", "ray"}
        Who does the work: this process, or the workers of a Ray cluster, which share
        the database. Runs of both are the same, and either goes on with what the other
        has begun. The cluster is the one that this process is connected to, or else
        that of the environment variable ``RAY_ADDRESS``, or else one on this machine.
    engine_options : mapping, optional
        Options of the engine "ray": see
        :class:`fiftyone_sfam.pipeline.engines.ray_engine.RayOptions`.

    Returns
    -------
    Run
        The stored run.

    Raises
    ------
    DataError
        If the images, fields or embeddings do not fit; also if stored embeddings are
        not the model's.
    ModelError
        If the model cannot be explained.
    RunError
        If the key cannot be used, or another process is making a run of it.

    Warns
    -----
    SfamWarning
        If the maps carry less than a tenth of the similarity, see
        :attr:`fiftyone_sfam.Run.warnings`.
    """
    dataset = samples._root_dataset
    protocol = protocol or Protocol()
    _check_options(kinds, weights, map_dtype, neighbors, batch_size, k)
    check_engine(engine, engine_options)
    existing = _check_existing(dataset, key, patches_field, overwrite)
    _check_index(samples, keep_index, existing)
    model_name = None
    if isinstance(model, str):
        from fiftyone_sfam.models import load_model

        model_name, model = model, load_model(model)
    items = collect_items(samples, protocol, patches_field)

    given = None
    if embeddings is not None:
        given = stored_embeddings(samples, items, embeddings, patches_field)
    proposals = None
    if neighbors == "index":
        proposals = _index_of(samples, items, embeddings, model.metric, patches_field)
    config = RunConfig(
        uid="",
        state=PUBLISHING,
        fingerprint="",
        model=model.name,
        weights_hash=model.weights_hash(),
        layer="",
        map_shape=(0, 0, 0),
        metric=model.metric,
        k=k,
        kinds=tuple(kinds),
        weights=weights,
        map_dtype=map_dtype,
        protocol=protocol.to_dict(),
        patches_field=patches_field,
        embeddings=_source_name(embeddings),
        neighbors=neighbors,
        precision=model.precision,
        order=_order(patches_field, embeddings),
        shard_images=batch_size,
        part_pairs=PART_PAIRS,
        versions=_versions(),
    )
    sample_input = ImageStream(items, model, 1, 0).sample_input()
    fingerprint = fingerprint_of(config, items, given, model, sample_input)
    dataset_id = str(dataset._doc.id)
    # Of two that start at once, under different keys, one goes on with what is left.
    with one_at_a_time(f"resume/{fingerprint}"):
        uid = resumable_uid(dataset, key, fingerprint) or uuid.uuid4().hex
        working_on(dataset_id, key, uid)
    store = BlobStore(dataset_id, uid)
    config = replace(
        config, uid=uid, fingerprint=fingerprint, replaces=_replaced(existing, uid)
    )
    work = Work(
        items,
        model,
        model_name,
        batch_size,
        num_workers,
        cache_bytes,
        store.dataset_id,
        uid,
        fingerprint,
    )
    begun = False
    try:
        with (
            reporting(progress) as report,
            make_engine(engine, work, engine_options) as workers,
        ):
            begun = True
            if given is not None:
                keep_embeddings(work, store, given)
            used = given or embed_all(workers, work, store, report)
            candidates = _usable(
                select_candidates(
                    protocol, items.identities, items.cameras, items.splits
                ),
                used,
            )
            found = _find_neighbors(
                candidates, used, protocol, k, model.metric, proposals
            )
            pairs = _pairs_of(found, candidates)
            plan = make_plan(pairs, batch_size, config.order)
            keep_plan(store, pairs, fingerprint)
            task = MapTask(config, plan, pairs, used.vectors)
            layer, map_shape, share_on_map = explain_all(
                workers, work, store, task, report
            )
    except SfamError as error:
        # Work that cannot be done as asked leaves nothing to go on with later. But a
        # network that fails on some images may be mended, as may the workers or what
        # they are reached by: what was done is still right.
        mendable = not begun or isinstance(error, (NetworkError, WorkerError))
        if not mendable or not _has_results(store, given):
            store.delete()
        raise
    skipped, remainders = collect(store, plan, pairs, items, used.skipped)
    kept = _run_items(items, candidates)
    write_table(store, pairs, plan, kept, skipped, remainders, fingerprint)
    config = replace(
        config,
        layer=layer,
        map_shape=map_shape,
        share_on_map=share_on_map,
        counts={
            "images": len(items),
            "queries": int(np.count_nonzero(pairs.rank == 1)),
            "pairs": len(pairs),
            "skipped": len(skipped),
            **count_outcomes(pairs),
        },
    )
    _check_index(samples, keep_index, existing, delete=True)
    config = replace(config, keeps_index=keep_index)
    record_run(dataset, key, config)
    publish_fields(Run(dataset, key, config))
    # Also where no run is replaced: the neighbors' tags are gone with the old fields.
    carry_over(Run(dataset, key, config), config.replaces)
    for old_uid, _ in config.replaces:
        ResultStore(dataset, key, old_uid).delete_all()
        BlobStore(store.dataset_id, old_uid).delete()
    if keep_index is not None:
        keep_as_index(samples, items, used, model.metric, keep_index, patches_field)
    # Last of all: until then the same call finishes what was interrupted.
    record_run(
        dataset, key, replace(config, state=COMPLETE, replaces=(), keeps_index=None)
    )
    run = load_run(dataset, key)
    for text in run.warnings:
        # Two levels up: the first is the wrapper that one_maker adds.
        warnings.warn(text, SfamWarning, stacklevel=3)
    return run


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _check_options(
    kinds: Sequence[str],
    weights: str,
    map_dtype: str,
    neighbors: str,
    batch_size: int,
    k: int,
) -> None:
    """Refuse options that cannot be used, with what can be."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) != len(kinds):
        raise DataError(
            f"kinds is {list(kinds)!r}; choose from {', '.join(KINDS)}, each once."
        )
    if weights not in WEIGHTS:
        raise DataError(
            f"unknown weights {weights!r}; use one of {', '.join(WEIGHTS)}."
        )
    if map_dtype not in MAP_TYPES:
        raise DataError(
            f"unknown map_dtype {map_dtype!r}; use one of {', '.join(MAP_TYPES)}."
        )
    if neighbors not in NEIGHBORS:
        raise DataError(
            f"unknown neighbors {neighbors!r}; use one of {', '.join(NEIGHBORS)}."
        )
    for name, value in (("batch_size", batch_size), ("k", k)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise DataError(f"{name} is {value!r}; a whole number from 1 is needed.")
        if value > _LARGEST:
            raise DataError(f"{name} is {value}; at most {_LARGEST} can be kept.")


def _check_existing(
    dataset: fo.Dataset, key: str, patches_field: str | None, overwrite: bool
) -> RunConfig | None:
    """Refuse a key that is not free; return the run whose place is taken."""
    # Another process may have made a run since the dataset was loaded.
    dataset._doc.reload("runs")
    finish_rename(dataset, key)
    check_key(dataset, key, patches_field)
    existing = run_config(dataset, key)
    if existing is not None and existing.state == DELETING:
        delete_run(dataset, key)
        return None
    if existing is not None and existing.state == COMPLETE and not overwrite:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' already; give overwrite=True to "
            "replace it, or another key."
        )
    return existing


def _check_index(
    samples: SampleCollection,
    key: str | None,
    existing: RunConfig | None,
    delete: bool = False,
) -> None:
    """Refuse a brain key that is in use, but by what an interrupted run has begun.

    That may be deleted, and is this run's again as soon as the run is recorded.
    """
    if key is None:
        return
    begun = existing is not None and key == existing.keeps_index
    if begun and delete and samples._dataset.has_brain_run(key):
        samples._dataset.delete_brain_run(key)
    if delete or not begun:
        check_index_key(samples, key)


def _replaced(
    existing: RunConfig | None, uid: str
) -> tuple[tuple[str, str | None], ...]:
    """List the runs whose place a run takes, one that was interrupted included."""
    if existing is None:
        return ()
    old = (*existing.replaces, (existing.uid, existing.patches_field))
    return tuple(one for one in old if one[0] != uid)


def _source_name(embeddings: str | NDArray[np.floating] | None) -> str:
    """Name where the embeddings come from, for the record."""
    if embeddings is None:
        return COMPUTED
    return embeddings if isinstance(embeddings, str) else "array"


def _order(patches_field: str | None, embeddings: object) -> str:
    """Choose in which order the images are explained.

    By the number of their sides, unless something is at hand in the items' own order:
    what computing the embeddings has kept, or the other detections of a frame.
    """
    if embeddings is None:
        return BY_BLOCK
    return BY_COUNT if patches_field is None else BY_ITEM


def _has_results(store: BlobStore, given: Embeddings | None) -> bool:
    """Tell whether a run that failed has stored what the network has computed."""
    names = store.names()
    return bool(names) if given is None else any(map(is_shard, names))


def _index_of(
    samples: SampleCollection,
    items: Items,
    embeddings: str | NDArray[np.floating] | None,
    metric: str,
    patches_field: str | None,
) -> IndexSearch:
    """Return the index that neighbors are to be taken from."""
    if not isinstance(embeddings, str):
        raise DataError(
            "neighbors='index' takes the neighbors from a similarity index; give its "
            "brain key as embeddings."
        )
    return IndexSearch(samples, items, embeddings, metric, patches_field)


def _find_neighbors(
    candidates: Candidates,
    embeddings: Embeddings,
    protocol: Protocol,
    k: int,
    metric: str,
    proposals: IndexSearch | None,
) -> Neighbors:
    """Find the neighbors, among all of the gallery or what an index proposes."""
    vectors = embeddings.vectors
    if proposals is None:
        return find_neighbors(vectors, candidates, protocol, k, metric)
    return find_proposed_neighbors(vectors, candidates, protocol, k, proposals, metric)


def _pairs_of(neighbors: Neighbors, candidates: Candidates) -> Pairs:
    """List the pairs that are to be explained."""
    pairs = make_pairs(neighbors, candidates)
    if len(pairs) == 0:
        raise DataError(
            "the protocol leaves no pair to compare: every gallery image is left out "
            "for every query; widen the view or relax the protocol."
        )
    return pairs


def _usable(candidates: Candidates, embeddings: Embeddings) -> Candidates:
    """Leave out the images without an embedding."""
    usable = embeddings.usable
    queries = candidates.queries[usable[candidates.queries]]
    gallery = candidates.gallery[usable[candidates.gallery]]
    for what, left in (("queries", queries), ("gallery images", gallery)):
        if len(left) == 0:
            raise DataError(
                f"none of the {what} has an embedding; the first reason: "
                f"{embeddings.skipped[0].reason}"
            )
    return replace(candidates, queries=queries, gallery=gallery)


def _run_items(items: Items, candidates: Candidates) -> RunItems:
    """Return the columns that a run keeps of its images."""
    roles = np.zeros((2, len(items)), dtype=bool)
    roles[0, candidates.queries] = True
    roles[1, candidates.gallery] = True
    return RunItems(
        np.array(items.sample_ids),
        None if items.label_ids is None else np.array(items.label_ids),
        tuple(items.identities),
        tuple(items.cameras),
        *roles,
    )


def _versions() -> dict[str, str]:
    """Return the versions that a run records."""
    from fiftyone_sfam._version import __version__

    return {
        "fiftyone_sfam": __version__,
        "fiftyone": fo.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
