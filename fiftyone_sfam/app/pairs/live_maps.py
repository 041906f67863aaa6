"""One image and those that it is compared with, explained at once by the model."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.attribution.maps import (
    Attribution,
    Weights,
    attribute,
    attribute_difference,
    attribute_point,
    check_embeddings,
    check_maps,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import Metric, distance, normalizer, similarity

Box = tuple[float, float, float, float]
Maps = tuple[NDArray[np.float32], ...]

# A model's hooks and a head's graph serve one thread at a time.
_LOCK = threading.RLock()


class LivePairs:
    """A query and the images that it is compared with, run through the model once.

    Image 0 is the query, the others are its neighbors. All maps are signed, float32, at
    the layer's own resolution, shape (h, w).
    """

    def __init__(
        self,
        model: EmbeddingModel,
        images: Sequence[Image.Image],
        weights: Weights = "signed",
    ) -> None:
        self._model = model
        self.metric: Metric = model.metric
        self.weights: Weights = weights
        self.crops = tuple(_crop(model, image) for image in images)
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

    def sides(self, kind: str) -> tuple[Maps, Maps]:
        """Explain the similarities."""
        one, other = self._both()
        return _maps(getattr(one, kind)), _maps(getattr(other, kind))

    def remainders(self, neighbor: int) -> tuple[float, float]:
        """Return what the evidence maps of a pair cannot carry, query's side first."""
        one, other = self._both()
        return float(one.remainder[neighbor]), float(other.remainder[neighbor])

    def importance(self, neighbor: int) -> NDArray[np.float32]:
        """Return the importance of each channel for a neighbor, shape (C,).

        In units of the similarity, on the query's side.
        """
        with _LOCK:
            rows = self._zeros(1)
            partner = self._head.embedding[[neighbor + 1]]
            found = attribute(self._head, rows, partner, self.metric)
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

    def point_of_query(self, row: int, column: int) -> Maps:
        """Map what a place of the query is matched with on each neighbor."""
        self._check_place(row, column)
        head = self._head
        with _LOCK:
            # As attribution.attribute_point, for all neighbors in two passes.
            tangents = torch.zeros_like(head.feature_map)
            tangents[0, :, row, column] = head.feature_map[0, :, row, column]
            contribution = head.jvp(tangents)[0]
            scale = normalizer(head.embedding[:1], head.embedding, self.metric)
            pulled = head.vjp(contribution / scale[:, None])
        return _maps((pulled * head.feature_map).sum(1)[1:])

    def point_of_neighbor(
        self, neighbor: int, row: int, column: int
    ) -> NDArray[np.float32]:
        """Map what a place of a neighbor is matched with on the query."""
        self._check_place(row, column)
        with _LOCK:
            found = attribute_point(
                self._head, neighbor + 1, (row, column), self._head, 0, self.metric
            )
        return found.float().numpy(force=True)

    def channel(self, index: int) -> tuple[NDArray[np.float32], Maps]:
        """Return the activation of a channel: the query's map and the neighbors'."""
        if not 0 <= index < self.channels:
            raise DataError(
                f"the layer has {self.channels} channels, numbered from 0; there is "
                f"no channel {index}."
            )
        first, *others = _maps(self._head.feature_map[:, index])
        return first, tuple(others)

    def _both(self) -> tuple[Attribution, Attribution]:
        """Explain the query's sides and the neighbors'."""
        with _LOCK:
            embedding, others, zeros = (
                self._head.embedding,
                self._others(),
                self._zeros(),
            )
            both = (
                attribute(
                    self._head, zeros, embedding[others], self.metric, self.weights
                ),
                attribute(
                    self._head, others, embedding[zeros], self.metric, self.weights
                ),
            )
        for result in both:
            check_maps(self._model, result)
        return both

    def _others(self) -> torch.Tensor:
        return torch.arange(1, len(self._head), device=self._head.leaf.device)

    def _zeros(self, count: int | None = None) -> torch.Tensor:
        size = self.count if count is None else count
        return torch.zeros(size, dtype=torch.int64, device=self._head.leaf.device)

    def _check_place(self, row: int, column: int) -> None:
        height, width = self.map_shape
        if not (0 <= row < height and 0 <= column < width):
            raise DataError(
                f"the place in row {row} and column {column} is outside the map of "
                f"{height} rows and {width} columns; click on the image again."
            )


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
    """Turn maps of shape (n, h, w) into one array each."""
    return tuple(values.detach().float().numpy(force=True))
