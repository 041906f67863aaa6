"""The two passes of a run with an engine, and what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import NetworkError, SfamError, WorkerError
from fiftyone_sfam.pipeline.contributing import keep_basis
from fiftyone_sfam.pipeline.engines import Work, make_engine
from fiftyone_sfam.pipeline.pair_source import Found, PairSource
from fiftyone_sfam.pipeline.passes import (
    RunMaps,
    embed_all,
    explain_all,
    keep_embeddings,
    keep_plan,
)
from fiftyone_sfam.pipeline.streaming import MapTask
from fiftyone_sfam.progress import reporting
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.retrieval.indexed import IndexSearch
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.run_config import RunSettings
from fiftyone_sfam.runs.run_table import RunItems, RunTable, is_shard, make_plan

if TYPE_CHECKING:
    from fiftyone_sfam.pipeline.options import RunOptions


def compute(
    work: Work,
    settings: RunSettings,
    source: PairSource,
    given: Embeddings | None,
    index: IndexSearch | None,
    options: RunOptions,
) -> tuple[Embeddings, RunTable, RunMaps, dict[str, int]]:
    """Make both passes; if that fails, delete what cannot be used later."""
    started = False
    try:
        with (
            reporting(options.progress) as report,
            make_engine(options.engine, work, options.engine_options) as workers,
        ):
            started = True
            if given is not None:
                keep_embeddings(work, given)
            used = given or embed_all(workers, work, report)
            found = source.find(work.items, used, settings.metric, index)
            pairs, also = found.pairs, None
            if settings.contributions is not None:
                also = np.union1d(found.queries, found.gallery)
            plan = make_plan(pairs, settings.shard_images, settings.order, also)
            keep_plan(work.store, pairs)
            basis = keep_basis(work.store, used, settings.contribution_dims)
            task = MapTask(settings, plan, pairs, used.vectors, basis)
            maps = explain_all(workers, work, task, used.skipped, report)
    except SfamError as error:
        # Settings that cannot work leave nothing to resume. But a network that fails on
        # some images can be fixed, and so can workers: the stored results stay right.
        can_resume = not started or isinstance(error, (NetworkError, WorkerError))
        if not can_resume or not _has_results(work.store, given):
            work.store.delete()
        raise
    items = _run_items(work.items, found)
    if settings.contributions is not None:
        items = replace(items, places=plan.places(len(items)))
    table = RunTable(pairs, plan, maps.remainders, items, maps.skipped, found.given)
    return used, table, maps, found.outcomes


def _has_results(store: BlobStore, given: Embeddings | None) -> bool:
    """Return whether a failed run has stored results of the network."""
    names = store.names()
    return bool(names) if given is None else any(map(is_shard, names))


def _run_items(items: Items, found: Found) -> RunItems:
    """Return the columns of the images that a run stores."""
    roles = np.zeros((2, len(items)), dtype=bool)
    roles[0, found.queries] = True
    roles[1, found.gallery] = True
    return RunItems(
        np.array(items.sample_ids),
        None if items.label_ids is None else np.array(items.label_ids),
        tuple(items.identities),
        tuple(items.cameras),
        is_query=roles[0],
        is_gallery=roles[1],
        terms=items.terms,
    )
