"""Maps that are computed when they are looked at: the model, and what it was run on.

Only what is called here imports torch. A model is loaded by its name, once; what it was
run on last is kept, so that clicks and steps from neighbor to neighbor are quick.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from fiftyone_sfam.app.pairs.pictures import ImageFile
from fiftyone_sfam.errors import ModelError, SfamError
from fiftyone_sfam.models import list_models, load_model
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live_maps import LivePairs
    from fiftyone_sfam.attribution.maps import Weights
    from fiftyone_sfam.network.embedder import EmbeddingModel

SCORE_TOLERANCE = 0.005
"""How far a live similarity may be from the stored one before that is said."""

WITHOUT = "Stored maps can still be looked at."


def live_pairs_of_run(run: Run, images: tuple[ImageFile, ...]) -> LivePairs:
    """Run a run's model on a query and its neighbors."""
    config = run.config
    return _live(
        config.model,
        config.layer,
        config.weights_hash,
        config.metric,
        config.weights,
        images,
        _registry(),
    )


def live_pairs(model: str, images: tuple[ImageFile, ...]) -> LivePairs:
    """Run a model on two images or more, without any run."""
    return _live(model, None, None, None, "signed", images, _registry())


def score_problem(stored: float, live: float) -> str | None:
    """Say that a live similarity is not the stored one, if that is so."""
    if abs(stored - live) <= SCORE_TOLERANCE:
        return None
    return (
        f"The similarity is {live:.4f} now and was {stored:.4f} in the run: an image "
        "or the preprocessing has changed since. Repeat the run to compare like with "
        "like."
    )


def _registry() -> tuple[int, int]:
    """Return what tells one state of the registry file from another."""
    try:
        found = os.stat(registry_path())
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def _live(
    model: str,
    layer: str | None,
    weights_hash: str | None,
    metric: str | None,
    weights: Weights,
    images: tuple[ImageFile, ...],
    registry: tuple[int, int],
) -> LivePairs:
    from fiftyone_sfam.app.pairs.live_maps import LivePairs

    loaded = _model(model, layer, weights_hash, metric, registry)
    return LivePairs(loaded, [image.read() for image in images], weights)


@lru_cache(maxsize=2)
def _model(
    name: str,
    layer: str | None,
    weights_hash: str | None,
    metric: str | None,
    _registry: tuple[int, int],
) -> EmbeddingModel:
    """Load a model, and check that it is the one of the run."""
    if weights_hash is None:
        return load_model(name)
    if name not in {info.name for info in list_models()}:
        raise ModelError(
            f"This map needs the model '{name}', which is not registered on this "
            f"machine: register it in {registry_path()}. {WITHOUT}"
        )
    try:
        model = load_model(name, layer=layer)
    except SfamError as error:
        raise ModelError(
            f"This map needs the model '{name}', which cannot be loaded: {error} "
            f"{WITHOUT}"
        ) from error
    if model.weights_hash() != weights_hash or model.metric != metric:
        raise ModelError(
            f"This map needs the model '{name}' as it was in the run, but its weights "
            f"or its metric are others now: register the run's model under this name "
            f"again, or repeat the run. {WITHOUT}"
        )
    return model
