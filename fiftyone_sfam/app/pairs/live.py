"""Maps that are computed when they are looked at: the model, and what it was run on.

This module imports torch, so the others import it inside functions. A model is loaded
by its registered name, once; what it was run on last is kept.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.app.pairs.pictures import ImageFile
from fiftyone_sfam.app.pairs.run_question import check_number
from fiftyone_sfam.attribution.contributions import Contributions
from fiftyone_sfam.attribution.maps import (
    Side,
    Weights,
    attribute,
    attribute_decision,
    attribute_difference,
    check_embeddings,
    check_maps,
)
from fiftyone_sfam.attribution.pair_path import PathExplanation, explain_path
from fiftyone_sfam.attribution.reading import prepare_images
from fiftyone_sfam.audit.decisions import similarity_at
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.errors import ModelError, SfamError
from fiftyone_sfam.models import known_name, list_models, load_named
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import distance, similarity
from fiftyone_sfam.runs.contributions import KeptImage
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

Maps = tuple[NDArray[np.float32], ...]
Kinds = dict[str, Maps]
Rows = tuple[torch.Tensor, torch.Tensor]

WITHOUT = "Stored maps can still be looked at."

# A model's hooks and a head's graph serve one thread at a time.
_LOCK = threading.RLock()


class LivePairs:
    """A query and the images that it is compared with, run through the model once.

    Image 0 is the query, the others are its neighbors. All maps are signed, float32, at
    the layer's own resolution, shape (h, w). A model with further inputs has those of
    the images.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        images: Sequence[Image.Image],
        weights: Weights = "signed",
    ) -> None:
        self._model = model
        self.metric, self.layer = model.metric, str(model.layer)
        self._weights: Weights = weights
        self._sizes = [image.size for image in images]
        with _LOCK:
            tensors, self._crops = prepare_images(model, images)
            self._head = model.linearize(tensors)
            check_embeddings(model, self._head.embedding)
            embedding = self._head.embedding.double()
            both = embedding[:1], embedding[1:]
            self.scores = similarity(*both, self.metric).numpy(force=True)
            self.distances = distance(*both, self.metric).numpy(force=True)
        self.count = len(images) - 1  # of neighbors
        _, self.channels, *shape = self._head.feature_map.shape
        self.map_shape: tuple[int, ...] = tuple(shape)

    def explained(self) -> list[PairMaps]:
        """Explain the similarity of each pair by the maps that runs store."""
        with _LOCK:
            embedding = self._head.embedding
            both = [
                attribute(
                    self._head, rows, embedding[partners], self.metric, self._weights
                )
                for rows, partners in self._sides()
            ]
        for result in both:
            check_maps(self._model, result)
        query, gallery = (
            {"sfam": _maps(result.sfam), "evidence": _maps(result.evidence)}
            for result in both
        )
        left, right = (result.remainder.tolist() for result in both)
        return self._pairs(query, gallery, (left, right))

    def importance(self, neighbor: int) -> NDArray[np.float32]:
        """Return the importance of each channel for a neighbor, shape (C,).

        In units of the similarity, on the query's side.
        """
        with _LOCK:
            partner, (rows, _) = self._head.embedding[[neighbor + 1]], self._sides()[0]
            found = attribute(self._head, rows[:1], partner, self.metric)
        return found.cis[0].numpy(force=True)

    def difference(self) -> list[PairMaps]:
        """Explain why the query and each neighbor are apart."""
        names: tuple[Side, Side] = ("query", "gallery")
        with _LOCK:
            embedding = self._head.embedding
            query, gallery = (
                attribute_difference(
                    self._head, rows, embedding[partners], self.metric, name
                ).evidence
                for name, (rows, partners) in zip(names, self._sides(), strict=True)
            )
        return self._pairs(
            {"difference": _maps(query)}, {"difference": _maps(-gallery)}
        )

    def decision(self, threshold: float) -> list[PairMaps]:
        """Explain why the query and each neighbor are accepted or rejected."""
        with _LOCK:
            embedding = self._head.embedding
            squares = embedding.double().square().sum(1).numpy(force=True)
            at = similarity_at(threshold, self.metric, squares[0] + squares[1:])
            query, gallery = (
                attribute_decision(
                    self._head, rows, embedding[partners], torch.tensor(at), self.metric
                ).evidence
                for rows, partners in self._sides()
            )
        return self._pairs({"decision": _maps(query)}, {"decision": _maps(gallery)})

    def channel(self, index: int) -> list[PairMaps]:
        """Return the activation of a channel on both images of each pair."""
        check_number("layer", "channel", index, self.channels)
        first, *others = _maps(self._head.feature_map[:, index])
        return self._pairs(
            {"channel": (first,) * self.count}, {"channel": tuple(others)}
        )

    def contributions(self) -> list[KeptImage]:
        """Return what each place of each image adds to its embedding."""
        height, width = self.map_shape
        with _LOCK:
            found = _maps(self._head.position_contributions())
            embeddings = _maps(self._head.embedding)
        return [
            KeptImage(
                Contributions(
                    values.reshape(height, width, -1), whole - values.sum(0), whole
                ),
                crop,
                size,
            )
            for values, whole, crop, size in zip(
                found, embeddings, self._crops, self._sizes, strict=True
            )
        ]

    def _sides(self) -> tuple[Rows, Rows]:
        """Return the rows of each side's images, and of those that they are with."""
        others = torch.arange(1, len(self._head), device=self._head.leaf.device)
        zeros = torch.zeros_like(others)
        return (zeros, others), (others, zeros)

    def _pairs(
        self,
        query: Kinds,
        gallery: Kinds,
        remainders: tuple[list[float], list[float]] | None = None,
    ) -> list[PairMaps]:
        """Return maps of each pair in the form of those that runs store."""
        unknown = [math.nan] * self.count
        left, right = remainders or (unknown, unknown)

        def side(kinds: Kinds, number: int, image: int, rest: list[float]) -> SideMaps:
            maps = {kind: values[number] for kind, values in kinds.items()}
            score, where = float(self.scores[number]), self._crops[image]
            return SideMaps(maps, score, rest[number], where, self._sizes[image])

        return [
            PairMaps(side(query, at, 0, left), side(gallery, at, at + 1, right))
            for at in range(self.count)
        ]


def live_pairs(
    source: Run | str,
    images: tuple[ImageFile, ...],
    read_inputs: ReadInputs | None = None,
) -> LivePairs:
    """Run a model, or that of a run, on a query and its neighbors."""
    named = _Named.of(source)
    return _run(named, images, _read(named, read_inputs))


def live_paths(
    source: Run | str,
    images: tuple[ImageFile, ...],
    read_inputs: ReadInputs | None = None,
) -> tuple[PathExplanation, PathExplanation]:
    """Explain two images by the path of several scales."""
    named = _Named.of(source)
    return _paths(named, images, _read(named, read_inputs))


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
def _run(named: _Named, images: tuple[ImageFile, ...], inputs: _Inputs) -> LivePairs:
    opened = [image.read() for image in images]
    return LivePairs(_given(named, inputs), opened, named.weights)


@lru_cache(maxsize=16)
def _paths(
    named: _Named, images: tuple[ImageFile, ...], inputs: _Inputs
) -> tuple[PathExplanation, PathExplanation]:
    model = _given(named, inputs)
    with _LOCK:
        first, second = (image.read() for image in images)
        return explain_path(model, first, second, several_scales=True)


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


def _maps(values: torch.Tensor) -> Maps:
    """Turn a tensor of shape (n, ...) into n arrays."""
    return tuple(values.detach().float().numpy(force=True))
