"""Pairs that are explained when they are looked at, by their model.

This module imports torch, so the others import it inside functions. A model is loaded
by its registered name, once; what it was run on last is kept.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.pictures import ImageFile
from fiftyone_sfam.attribution.maps import Weights
from fiftyone_sfam.attribution.pair import (
    PairExplanation,
    explain_head,
    linearize_images,
)
from fiftyone_sfam.attribution.pair_path import PathExplanation, explain_path
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.errors import ModelError, SfamError
from fiftyone_sfam.models import known_name, list_models, load_named
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.runs.run import Run

WITHOUT = "Stored maps can still be looked at."

LOCK = threading.RLock()
"""Held while a pair is explained: hooks and graphs serve one thread at a time."""

Files = tuple[ImageFile, ImageFile]


def live_pair(
    source: Run | str, images: Files, read_inputs: ReadInputs | None = None
) -> PairExplanation:
    """Explain two images by a model, or by that of a run."""
    named = _Named.of(source)
    return _explained(named, images, _read(named, read_inputs))


def live_path(
    source: Run | str, images: Files, read_inputs: ReadInputs | None = None
) -> tuple[PathExplanation, PathExplanation]:
    """Explain two images by the path of several scales."""
    named = _Named.of(source)
    with LOCK:
        return _path(named, images, _read(named, read_inputs))


# --------------------------------------------------------------------------------------
# What is kept
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """A model by its name, and what has to be so if it is that of a run."""

    name: str
    registry: tuple[int, int]  # time of the last change, and size in bytes
    weights: Weights = "signed"
    layer: str | None = None
    weights_hash: str | None = None
    metric: str | None = None

    @classmethod
    def of(cls, source: Run | str) -> _Named:
        try:
            found = os.stat(registry_path())
            registry = found.st_mtime_ns, found.st_size
        except OSError:
            registry = 0, 0
        if isinstance(source, str):
            return cls(source, registry)
        run = source.config
        return cls(
            *(run.model, registry, run.weights, run.layer, run.weights_hash, run.metric)
        )


class _Inputs(dict[str, NDArray[Any]]):
    """Further inputs of images, compared by their values."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self._values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Inputs) and self._values() == other._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple(
            (name, values.dtype.str, values.shape, values.tobytes())
            for name, values in self.items()
        )


def _read(named: _Named, read_inputs: ReadInputs | None) -> _Inputs:
    """Read the further inputs of images that a model takes."""
    fields = _model(named).inputs
    return _Inputs(read_inputs(fields) if fields and read_inputs is not None else {})


@lru_cache(maxsize=4)
def _explained(named: _Named, images: Files, inputs: _Inputs) -> PairExplanation:
    model = _given(named, inputs)
    head = linearize_images(model, [image.read() for image in images])
    return explain_head(model, *head, named.weights)


@lru_cache(maxsize=16)
def _path(
    named: _Named, images: Files, inputs: _Inputs
) -> tuple[PathExplanation, PathExplanation]:
    opened = [image.read() for image in images]
    return explain_path(_given(named, inputs), *opened, several_scales=True)


def _given(named: _Named, inputs: _Inputs) -> EmbeddingModel:
    model = _model(named)
    return model.with_inputs(inputs) if inputs else model


@lru_cache(maxsize=2)
def _model(named: _Named) -> EmbeddingModel:
    """Load a model, and check that it is the one of the run."""
    if named.weights_hash is None:
        return load_named(known_name(named.name))
    needs = f"This map needs the model '{named.name}'"
    if named.name not in {info.name for info in list_models()}:
        raise ModelError(
            f"{needs}, which is not registered on this machine: register it in "
            f"{registry_path()}. {WITHOUT}"
        )
    try:
        model = load_named(named.name, layer=named.layer)
    except SfamError as error:
        raise ModelError(
            f"{needs}, which cannot be loaded: {error} {WITHOUT}"
        ) from error
    if model.weights_hash() != named.weights_hash or model.metric != named.metric:
        raise ModelError(
            f"{needs} as it was in the run, but its weights or its metric are others "
            "now: register the run's model under this name again, or repeat the run. "
            f"{WITHOUT}"
        )
    return model
