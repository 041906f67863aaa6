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
from fiftyone_sfam.attribution.contributions import Contributions
from fiftyone_sfam.attribution.maps import (
    Weights,
    attribute,
    attribute_difference,
    check_embeddings,
    check_maps,
)
from fiftyone_sfam.attribution.pair import PathExplanation, explain_path
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError, ModelError, SfamError
from fiftyone_sfam.models import known_name, list_models, load_named
from fiftyone_sfam.models.registry import registry_path
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import distance, similarity
from fiftyone_sfam.runs.contributions import KeptImage
from fiftyone_sfam.runs.maps import SideMaps
from fiftyone_sfam.runs.run import Run

Maps = tuple[NDArray[np.float32], ...]
Box = tuple[float, float, float, float]

SCORE_TOLERANCE = 0.005
"""How far a live similarity may be from the stored one before that is said."""

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
        self._crops = [_crop(model, image) for image in images]
        with _LOCK:
            self._head = _linearized(model, images)
            embedding = self._head.embedding.double()
            self.scores = similarity(embedding[:1], embedding[1:], self.metric).numpy(
                force=True
            )
            self.distances = distance(embedding[:1], embedding[1:], self.metric).numpy(
                force=True
            )

    @property
    def count(self) -> int:
        """Number of neighbors."""
        return len(self._head) - 1

    @property
    def channels(self) -> int:
        """Number of channels of the feature map."""
        return int(self._head.feature_map.shape[1])

    @property
    def map_shape(self) -> tuple[int, int]:
        """Height and width of the maps."""
        height, width = self._head.feature_map.shape[-2:]
        return int(height), int(width)

    def side(
        self,
        image: int,
        neighbor: int,
        maps: dict[str, NDArray[np.float32]],
        remainder: float = math.nan,
    ) -> SideMaps:
        """Return maps of an image of a pair in the form of those that runs store."""
        return SideMaps(
            maps,
            float(self.scores[neighbor]),
            remainder,
            self._crops[image],
            self._sizes[image],
        )

    def explained(self) -> list[tuple[SideMaps, SideMaps]]:
        """Explain the similarity of each pair by the maps that runs store."""
        with _LOCK:
            embedding, others, zeros = (
                self._head.embedding,
                self._others(),
                self._zeros(),
            )
            both = [
                attribute(
                    self._head, rows, embedding[partners], self.metric, self._weights
                )
                for rows, partners in ((zeros, others), (others, zeros))
            ]
        for result in both:
            check_maps(self._model, result)
        results = [
            (_maps(result.sfam), _maps(result.evidence), result.remainder.tolist())
            for result in both
        ]
        pairs = []
        for number in range(self.count):
            query, gallery = (
                self.side(
                    image,
                    number,
                    {"sfam": sfam[number], "evidence": evidence[number]},
                    remainder[number],
                )
                for image, (sfam, evidence, remainder) in zip(
                    (0, number + 1), results, strict=True
                )
            )
            pairs.append((query, gallery))
        return pairs

    def importance(self, neighbor: int) -> NDArray[np.float32]:
        """Return the importance of each channel for a neighbor, shape (C,).

        In units of the similarity, on the query's side.
        """
        with _LOCK:
            partner = self._head.embedding[[neighbor + 1]]
            found = attribute(self._head, self._zeros()[:1], partner, self.metric)
        return found.cis[0].numpy(force=True)

    def difference(self) -> tuple[Maps, Maps]:
        """Explain why the query and each neighbor are apart."""
        with _LOCK:
            embedding, others = self._head.embedding, self._others()
            one = attribute_difference(
                self._head, self._zeros(), embedding[others], self.metric, "query"
            )
            other = attribute_difference(
                self._head,
                others,
                embedding[self._zeros()],
                self.metric,
                "gallery",
            )
        return _maps(one.evidence), _maps(-other.evidence)

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

    def channel(self, index: int) -> tuple[NDArray[np.float32], Maps]:
        """Return the activation of a channel: the query's map and the neighbors'."""
        if not 0 <= index < self.channels:
            raise DataError(
                f"the layer has {counted(self.channels, 'channel')}, numbered from 0; "
                f"there is no channel {index}."
            )
        first, *others = _maps(self._head.feature_map[:, index])
        return first, tuple(others)

    def _others(self) -> torch.Tensor:
        return torch.arange(1, len(self._head), device=self._head.leaf.device)

    def _zeros(self) -> torch.Tensor:
        return torch.zeros_like(self._others())


def live_pairs(
    source: Run | str,
    images: tuple[ImageFile, ...],
    read_inputs: ReadInputs | None = None,
) -> LivePairs:
    """Run a model, or that of a run, on a query and its neighbors."""
    named, weights, inputs = _asked(source, read_inputs)
    return _run(named, weights, images, inputs, _registry())


def live_paths(
    source: Run | str,
    images: tuple[ImageFile, ...],
    read_inputs: ReadInputs | None = None,
) -> tuple[PathExplanation, PathExplanation]:
    """Explain two images by the path of several scales."""
    named, _, inputs = _asked(source, read_inputs)
    return _paths(named, images, inputs, _registry())


def score_problem(stored: float, live: float) -> str | None:
    """Say that a live similarity is not the stored one, if that is so."""
    if abs(stored - live) <= SCORE_TOLERANCE:
        return None
    return (
        f"The similarity is {live:.4f} now and was {stored:.4f} in the run: an image, "
        "a field that the model reads or the preprocessing has changed since. Repeat "
        "the run to compare like with like."
    )


def _registry() -> tuple[int, int]:
    """Return what tells one state of the registry file from another."""
    try:
        found = os.stat(registry_path())
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True)
class _Named:
    """A model by its name, and what has to be so if it is that of a run."""

    name: str
    layer: str | None = None
    weights_hash: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class _Input:
    """The values of a further input, in a form that can be compared."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: bytes

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> _Input:
        return cls(name, values.dtype.str, values.shape, values.tobytes())

    def array(self) -> NDArray[Any]:
        found = np.frombuffer(self.values, self.dtype).reshape(self.shape)
        return found.copy()  # torch warns of arrays that cannot be written to


def _asked(
    source: Run | str, read_inputs: ReadInputs | None
) -> tuple[_Named, Weights, tuple[_Input, ...]]:
    """Return the model that is asked for, and its further inputs of the images."""
    weights: Weights = "signed"
    if isinstance(source, str):
        named = _Named(source)
    else:
        config, weights = source.config, source.config.weights
        named = _Named(config.model, config.layer, config.weights_hash, config.metric)
    fields = _model(named, _registry()).inputs
    found = read_inputs(fields) if fields and read_inputs is not None else {}
    inputs = tuple(_Input.of(name, values) for name, values in found.items())
    return named, weights, inputs


@lru_cache(maxsize=4)
def _run(
    named: _Named,
    weights: Weights,
    images: tuple[ImageFile, ...],
    inputs: tuple[_Input, ...],
    registry: tuple[int, int],
) -> LivePairs:
    model = _given(named, inputs, registry)
    return LivePairs(model, [image.read() for image in images], weights)


@lru_cache(maxsize=16)
def _paths(
    named: _Named,
    images: tuple[ImageFile, ...],
    inputs: tuple[_Input, ...],
    registry: tuple[int, int],
) -> tuple[PathExplanation, PathExplanation]:
    model = _given(named, inputs, registry)
    with _LOCK:
        first, second = (image.read() for image in images)
        return explain_path(model, first, second, several_scales=True)


def _given(
    named: _Named, inputs: tuple[_Input, ...], registry: tuple[int, int]
) -> EmbeddingModel:
    """Load a model, and give it the further inputs of images."""
    model = _model(named, registry)
    if not inputs:
        return model
    return model.with_inputs({one.name: one.array() for one in inputs})


@lru_cache(maxsize=2)
def _model(named: _Named, _registry: tuple[int, int]) -> EmbeddingModel:
    """Load a model, and check that it is the one of the run."""
    name, weights_hash = named.name, named.weights_hash
    if weights_hash is None:
        return load_named(known_name(name))
    if name not in {info.name for info in list_models()}:
        raise ModelError(
            f"This map needs the model '{name}', which is not registered on this "
            f"machine: register it in {registry_path()}. {WITHOUT}"
        )
    try:
        model = load_named(name, layer=named.layer)
    except SfamError as error:
        raise ModelError(
            f"This map needs the model '{name}', which cannot be loaded: {error} "
            f"{WITHOUT}"
        ) from error
    if model.weights_hash() != weights_hash or model.metric != named.metric:
        raise ModelError(
            f"This map needs the model '{name}' as it was in the run, but its weights "
            f"or its metric are others now: register the run's model under this name "
            f"again, or repeat the run. {WITHOUT}"
        )
    return model


def _crop(model: EmbeddingModel, image: Image.Image) -> Box:
    """Tell which part of an image the network sees, relative to its size."""
    left, top, right, bottom = model.crop_box(*image.size)
    return (
        left / image.width,
        top / image.height,
        right / image.width,
        bottom / image.height,
    )


def _linearized(model: EmbeddingModel, images: Sequence[Image.Image]) -> LinearizedHead:
    """Run the model on images."""
    tensors = [model.prepare(image) for image in images]
    if len({tensor.shape for tensor in tensors}) > 1:
        raise DataError(
            f"the preprocessing of model '{model.name}' gives images of different "
            "shapes; it has to resize all of them to one size."
        )
    head = model.linearize(torch.stack(tensors))
    check_embeddings(model, head.embedding)
    return head


def _maps(values: torch.Tensor) -> Maps:
    """Turn a tensor of shape (n, ...) into n arrays."""
    return tuple(values.detach().float().numpy(force=True))
