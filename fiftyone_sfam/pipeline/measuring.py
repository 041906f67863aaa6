"""A run measures its own maps before it is published."""

from __future__ import annotations

from fiftyone_sfam.attribution.path import STEPS
from fiftyone_sfam.attribution.scales import SAMPLES
from fiftyone_sfam.audit.faithfulness.sample import check_stored_maps
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.pipeline.options import RunOptions
from fiftyone_sfam.pipeline.paths import path_sides
from fiftyone_sfam.runs.map_check import MapCheck
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SCALES


def check_maps(
    run: Run, model: EmbeddingModel, options: RunOptions, before: MapCheck | None
) -> MapCheck:
    """Measure the maps of a run whose maps are stored.

    ``before`` is the check of the run that it updates. It is kept if it has figures:
    model and kinds of map are the same, and a small update would take less time than
    the check.
    """
    if before is not None and before.kinds:
        return before
    if not options.check:
        return MapCheck(reason="check=False was given")
    model = (
        model if model.layer == run.config.layer else model.with_layer(run.config.layer)
    )
    return check_stored_maps(run, model, passes_of(run), batch_size=options.batch_size)


def passes_of(run: Run) -> int:
    """Count a run's passes of images through the network, the same on any machine.

    One per image that is explained; along a path of n steps, n forward passes and as
    many backward passes, which take twice the time, per side of a pair. Computing
    embeddings first is not counted: the cache may make it part of the same pass.
    """
    sides = int(path_sides(run.pairs, run.config.path_pairs).sum())
    steps = sum(SAMPLES if kind == SCALES else STEPS for kind in run.config.path_kinds)
    return len(run.plan.order) + 3 * steps * sides
