"""Make a run: explain the nearest-neighbor pairs of a dataset from both sides.

Each image passes through the network once. Its feature map explains every pair that the
image is part of, because of the other image only the embedding is needed: N forward
passes for N images, whatever k is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam._version import __version__
from fiftyone_sfam.attribution.map_share import is_too_little
from fiftyone_sfam.attribution.maps import Weights
from fiftyone_sfam.data.inputs import input_columns
from fiftyone_sfam.data.items import Items, collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import (
    ProtocolWarning,
    SfamWarning,
)
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.pipeline.choosing import chosen_for
from fiftyone_sfam.pipeline.computing import compute
from fiftyone_sfam.pipeline.contributing import check_contributions
from fiftyone_sfam.pipeline.engines import Work, check_engine
from fiftyone_sfam.pipeline.first_image import fullest_layer, sample_input
from fiftyone_sfam.pipeline.manage import (
    check_existing,
    check_kept_index,
    fingerprint_of,
    make_store,
    model_digest_of,
    replaced_runs,
)
from fiftyone_sfam.pipeline.measuring import check_maps
from fiftyone_sfam.pipeline.options import KINDS, Kind, PathPairs, RunOptions
from fiftyone_sfam.pipeline.pair_source import PairSource, Searched
from fiftyone_sfam.pipeline.publish import publish_fields
from fiftyone_sfam.pipeline.streaming import COMPUTED
from fiftyone_sfam.pipeline.update import digest_items, kept_of
from fiftyone_sfam.progress import Progress
from fiftyone_sfam.retrieval.embeddings import (
    Embeddings,
    keep_as_index,
    stored_embeddings,
)
from fiftyone_sfam.review.verdicts import carry_over
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.lock import making_run
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run import Run, load_run
from fiftyone_sfam.runs.run_config import (
    AUTO,
    COMPLETE,
    PUBLISHING,
    RunConfig,
    RunSettings,
    record_run,
)
from fiftyone_sfam.runs.run_table import (
    BY_BLOCK,
    BY_COUNT,
    BY_ITEM,
    PART_PAIRS,
    RunTable,
    write_table,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.network.embedder import EmbeddingModel


def explain_retrieval(
    samples: SampleCollection,
    model: ModelLike,
    *,
    key: str = "sfam",
    k: int = 5,
    protocol: Protocol | None = None,
    patches_field: str | None = None,
    embeddings: str | NDArray[np.floating] | None = None,
    neighbors: Literal["exact", "index"] = "exact",
    keep_index: str | None = None,
    layer: str | None = None,
    kinds: Sequence[Kind] | Literal["auto"] = KINDS,
    path_pairs: PathPairs = "rank1",
    weights: Weights = "signed",
    map_dtype: Literal["int8", "float16", "float32"] = "int8",
    contributions: Literal["int8", "float16"] | None = None,
    contribution_dims: int | None = None,
    batch_size: int = 32,
    num_workers: int | None = None,
    cache_bytes: int = 2**30,
    overwrite: bool = False,
    update: bool = False,
    check: bool = True,
    progress: bool | Progress | None = None,
    engine: Literal["local", "ray"] = "local",
    engine_options: Mapping[str, Any] | None = None,
) -> Run:
    """Explain the nearest neighbors of every query, and store the maps as a run.

    A run that was interrupted is resumed by the same call.

    Parameters
    ----------
    samples : fiftyone dataset or view
        Images; all of them are compared unless the protocol says otherwise.
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module
        Model, or the name of one, see :func:`fiftyone_sfam.load_model`. A network that
        does not say how its images are prepared has to be given as an EmbeddingModel.
    key : str
        Key of the run, and prefix of its fields.
    k : int
        Number of neighbors per query.
    protocol : Protocol, optional
        Rules of the retrieval; by default every image is compared with every other.
    patches_field : str, optional
        Field of detections to compare instead of whole images.
    embeddings : str or ndarray, optional
        Brain key of a similarity index, name of a field, or array of shape (N, D) in
        the order of the images. None computes the embeddings with the model; images
        that do not fit into the cache then take a second forward pass.
    neighbors : {"exact", "index"}
        ``"exact"`` compares every query with the whole gallery, ``"index"`` with the
        images that the similarity index of ``embeddings`` proposes (any backend but
        FiftyOne's default one). Scores are computed from the embeddings in both cases.
        An approximate index misses some neighbors: ranks count the proposed images,
        and a nearest true match that is not proposed is not added to the pairs.
    keep_index : str, optional
        Brain key under which computed embeddings are stored as a similarity index.
    layer : str, optional
        Layer of the maps, instead of the model's own. ``"auto"`` measures the last
        layer of each resolution on 48 pairs of a sample before the run, and takes
        another than the model's own only if it is certainly better.
    kinds : sequence of {"sfam", "evidence", "path", "scales", "best"}, or "auto"
        Maps to store; what shows one map of a pair shows the first that it has.
        ``"path"`` and ``"scales"`` are those of :func:`fiftyone_sfam.explain_path`, the
        latter of several scales, and ``"best"`` is another name of it. They are at the
        pixels of the network's input and take many passes, see "Which map to use".
        ``"auto"`` measures all of them on the sample, and stores the best one, shown
        first, beside ``"evidence"`` and ``"sfam"``.
    path_pairs : {"rank1", "false", "all"}
        Pairs of which ``"path"`` and ``"scales"`` are stored: those of rank 1, only the
        false matches of these, or all.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` map.
    map_dtype : {"int8", "float16", "float32"}
        Type in which maps are stored.
    contributions : {"int8", "float16"}, optional
        Also store the position contributions of every compared image, in this type.
        They explain any two images later, without the model, see
        :meth:`fiftyone_sfam.Run.explain_stored`; :meth:`fiftyone_sfam.Run.summary`
        says how many bytes an image takes. By default none are stored.
    contribution_dims : int, optional
        Project the contributions to this number of leading directions of the
        embeddings, which takes fewer bytes; where the head of the network neither
        averages first nor is linear, it also takes fewer backward passes. By default
        they are not projected.
    batch_size : int
        Images per forward pass, and per stored shard.
    num_workers : int, optional
        Threads that read images; by default one per core, at most 8.
    cache_bytes : int
        Memory for feature maps that are kept from the first pass for the second, in
        bytes; 0 computes all of them twice. Without effect if embeddings are given.
        With ``engine="ray"`` it is the memory of each worker.
    overwrite : bool
        Replace an existing run of this key once the new run is complete. Otherwise an
        existing key raises.
    update : bool
        Bring an existing run of this key up to date: images were added, deleted or
        changed, or have other labels. Only new images, and images with other pairs than
        before, pass through the network.
        The run is then the one that ``overwrite=True`` makes, verdicts included. Needs
        ``engine="local"`` and the model and settings of the run; ``k``, ``protocol``
        and ``neighbors`` may differ. Makes the run if there is none.
    check : bool
        Measure the stored maps on a sample of up to 100 pairs, within a twentieth of
        the run's passes through the network: see :attr:`fiftyone_sfam.Run.map_check`
        and "How faithful the maps are". Runs that are too small for it say so.
    progress : bool or callable, optional
        Whether to show a bar, or a function that is called with the number of images
        done, their total, and the phase: ``"embedding"`` or ``"explaining"``. None
        follows FiftyOne's ``show_progress_bars``.
    engine : {"local", "ray"}
        ``"local"`` computes in this process, ``"ray"`` with the workers of a Ray
        cluster, which share the database. Both give the same run, and each can resume a
        run of the other. The cluster is the one that this process is connected to, or
        else that of the environment variable ``RAY_ADDRESS``, or else a new one on this
        machine.
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
        If the images, fields or embeddings cannot be used, or stored embeddings are
        not the model's.
    ModelError
        If the model cannot be explained.
    RunError
        If the key cannot be used, or another process is making a run of it.

    Warns
    -----
    ProtocolWarning
        Before the run, if the protocol leaves no true match to find, or all images have
        one identity.
    SfamWarning
        If the maps carry less than a tenth of the similarity, see
        :attr:`fiftyone_sfam.Run.warnings`.
    """
    source = Searched(protocol or Protocol(), k, neighbors)
    options = RunOptions(
        key=key,
        patches_field=patches_field,
        embeddings=embeddings,
        keep_index=keep_index,
        layer=layer,
        kinds=kinds,
        path_pairs=path_pairs,
        weights=weights,
        map_dtype=map_dtype,
        contributions=contributions,
        contribution_dims=contribution_dims,
        batch_size=batch_size,
        num_workers=num_workers,
        cache_bytes=cache_bytes,
        overwrite=overwrite,
        update=update,
        check=check,
        progress=progress,
        engine=engine,
        engine_options=engine_options,
    )
    return make_run(samples, model, source, options)


def make_run(
    samples: SampleCollection, model: ModelLike, source: PairSource, options: RunOptions
) -> Run:
    """Explain the pairs of a source, and store the maps as a run."""
    dataset, key, field = samples._root_dataset, options.key, options.patches_field
    options.validate(source)
    check_contributions(options.contributions, options.contribution_dims)
    check_engine(options.engine, options.engine_options)
    with making_run(dataset, key):
        existing = check_existing(
            dataset, key, field, options.overwrite or options.update
        )
        check_kept_index(samples, options.keep_index, existing)
        model_name = model if isinstance(model, str) else None
        model = as_model(model)
        if options.layer not in (None, AUTO):
            model = model.with_layer(options.layer)
        items, given = _read_items(samples, source, options)
        source, protocol_warnings = source.checked(items)
        for text in protocol_warnings:
            warnings.warn(text, ProtocolWarning, stacklevel=3)
        items = _with_inputs(items, samples, model, field)
        index = source.index(samples, items, options, model.metric)
        settings = RunSettings(
            model=model.name,
            weights_hash=model.weights_hash(),
            metric=model.metric,
            k=source.k,
            kinds=options.stored_kinds,
            path_pairs=options.stored_path_pairs,
            weights=options.weights,
            map_dtype=options.map_dtype,
            protocol=source.protocol.to_dict(),
            patches_field=field,
            embeddings=_origin(options.embeddings),
            shard_images=options.batch_size,
            order=_order(field, options.embeddings),
            neighbors=source.neighbors,
            precision=model.precision,
            part_pairs=PART_PAIRS,
            contributions=options.contributions,
            contribution_dims=options.contribution_dims,
            pair_source=source.name,
            list_digest=source.digest,
            versions={
                "fiftyone_sfam": __version__,
                "fiftyone": fo.__version__,
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
        )
        fingerprint = fingerprint_of(
            settings,
            items,
            given,
            model,
            sample_input(items, model),
            AUTO if options.layer == AUTO else None,
        )
        updated = None
        if options.update and existing is not None and existing.state == COMPLETE:
            updated = load_run(dataset, key)
            if existing.fingerprint == fingerprint:
                return updated
        store = make_store(dataset, key, fingerprint)
        choice = chosen_for(store, updated, items, model, source, given, options)
        if choice is not None:
            settings, model = choice.applied(settings, model)
        digests, model_digest = digest_items(items), model_digest_of(settings, model)
        kept = None
        if updated is not None:
            kept = kept_of(updated, settings, model_digest, items, digests, given)
        work = Work(
            items=items,
            model=model,
            model_name=model_name,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            cache_bytes=options.cache_bytes,
            store=store,
            layer=None if options.layer is None else model.requested_layer,
            kept=kept,
        )
        used, table, maps, outcomes = compute(
            work, settings, source, given, index, options
        )
        table = replace(table, items=replace(table.items, digests=digests))
        write_table(store, table)
        check_kept_index(samples, options.keep_index, existing, delete=True)
        config = RunConfig(
            **(vars(settings) | {"contribution_dims": maps.contribution_dims}),
            uid=store.uid,
            state=PUBLISHING,
            fingerprint=fingerprint,
            layer=maps.layer,
            map_shape=maps.map_shape,
            share_on_map=maps.share_on_map,
            fullest_layer=(
                fullest_layer(work.items, model)
                if is_too_little(maps.share_on_map)
                else None
            ),
            contribution_bytes=maps.contribution_bytes,
            contribution_agreement=maps.contribution_agreement,
            counts=_counts(items, table) | outcomes,
            protocol_warnings=protocol_warnings,
            replaces=replaced_runs(existing, store.uid),
            model_digest=model_digest,
            chosen=None if choice is None else choice.to_dict(),
            keeps_index=options.keep_index,
        )
        before = None if kept is None else kept.run.map_check
        check = check_maps(Run(dataset, key, config, table), model, options, before)
        config = replace(config, map_check=check.to_dict())
        record_run(dataset, key, config)
        run = Run(dataset, key, config, table)
        publish_fields(run, maps.heatmap_range)
        # Even if no run is replaced: the fields that held the tags are new.
        carry_over(run, config.replaces)
        for old_uid, _ in config.replaces:
            ResultStore(dataset, key, old_uid).delete_all()
            BlobStore(store.dataset_id, old_uid).delete()
        if options.keep_index is not None:
            keep_as_index(samples, items, used, model.metric, options.keep_index, field)
        # Last: until then the same call finishes what was interrupted.
        record_run(
            dataset, key, replace(config, state=COMPLETE, replaces=(), keeps_index=None)
        )
        run = load_run(dataset, key)
    for text in run.map_warnings:
        warnings.warn(text, SfamWarning, stacklevel=3)
    return run


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _read_items(
    samples: SampleCollection, source: PairSource, options: RunOptions
) -> tuple[Items, Embeddings | None]:
    """Read the images that the pairs are chosen from, and embeddings that are given."""
    field = options.patches_field
    items, given = collect_items(samples, source.protocol, field), None
    if options.embeddings is not None:
        given = stored_embeddings(samples, items, options.embeddings, field)
    chosen = source.choose(samples, items)
    if chosen is None:
        return items, given
    return items.take(chosen.tolist()), None if given is None else given.take(chosen)


def _with_inputs(
    items: Items, samples: SampleCollection, model: EmbeddingModel, field: str | None
) -> Items:
    """Read what the model takes beside the images, if anything."""
    if not model.inputs:
        return items
    columns = input_columns(
        samples,
        items.sample_ids,
        items.label_ids,
        items.filepaths,
        model.inputs,
        field,
    )
    return replace(items, inputs=columns)


def _origin(embeddings: object) -> str:
    """Name the source of the embeddings."""
    if embeddings is None:
        return COMPUTED
    return embeddings if isinstance(embeddings, str) else "array"


def _counts(items: Items, table: RunTable) -> dict[str, int]:
    """Count what a run holds, as its summary says it."""
    counts = {
        "images": len(items),
        "queries": len(np.unique(table.pairs.query)),
        "pairs": len(table.pairs),
        "skipped": len(table.skipped),
    }
    if table.given is not None:
        counts |= {
            "rows": len(table.given.listed),
            "rows skipped": len(table.given.reasons),
        }
    return counts


def _order(patches_field: str | None, embeddings: object) -> str:
    """Choose the order in which the images are explained.

    By the number of their sides, unless the order of the items saves work: it allows
    reuse of the cache of the first pass, or of a frame with several detections.
    """
    if embeddings is None:
        return BY_BLOCK
    return BY_COUNT if patches_field is None else BY_ITEM
