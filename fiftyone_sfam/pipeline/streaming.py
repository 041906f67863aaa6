"""The core of a run: images in, shards of embeddings and maps out.

Each pass reads every image once, and one forward pass of an image serves all sides that
it explains. A shard depends only on its number, not on the process that computes it or
on what was computed before: the engines rely on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.maps import attribute, finite_maps, maps_problem
from fiftyone_sfam.attribution.path import fullest_image
from fiftyone_sfam.attribution.scales import path_layers
from fiftyone_sfam.data.images import Loaded, load_in_background, read_image
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.pipeline.contributing import add_agreement, kept_rows, row_bytes
from fiftyone_sfam.pipeline.head_cache import HeadCache, LinearizedImage
from fiftyone_sfam.pipeline.paths import images_at_once, path_rows, path_sides, top_of
from fiftyone_sfam.pipeline.prepared import (
    Prepared,
    prepare_item,
    split_readable,
    stack,
)
from fiftyone_sfam.pipeline.shards import (
    Embedded,
    Explained,
    empty_maps,
    empty_shard,
    explained,
    store_embedded,
    summarize,
)
from fiftyone_sfam.retrieval.embeddings import check_usable
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.tolerance import Tolerance, tolerance_of
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, json_array, pack_maps
from fiftyone_sfam.runs.maps import paths_name
from fiftyone_sfam.runs.run_config import SCALES, RunSettings
from fiftyone_sfam.runs.run_table import Plan, contributions_name, shard_name

if TYPE_CHECKING:
    from fiftyone_sfam.network.layouts import LayerInfo


COMPUTED = "computed"
"""Source of embeddings that the run computes."""


@dataclass(frozen=True)
class MapTask:
    """Everything but the images and the model that the maps of a run depend on."""

    settings: RunSettings  # kinds, weights and type of the maps
    plan: Plan
    pairs: Pairs
    vectors: NDArray[np.float32]  # embeddings of the items, shape (N, D)
    basis: NDArray[np.float32] | None = None  # of the contributions, shape (K, D)

    @cached_property
    def tolerance(self) -> Tolerance:
        """How far recomputed embeddings may be from these."""
        return tolerance_of(self.vectors)

    @cached_property
    def has_path(self) -> NDArray[np.bool_]:
        """Which sides have maps along paths."""
        return path_sides(self.pairs, self.settings.path_pairs)


class ImageStream:
    """Runs the model over the images of a run, and stores the results."""

    def __init__(
        self,
        items: Items,
        model: EmbeddingModel,
        store: BlobStore,
        *,
        batch_size: int,
        num_workers: int,
        cache_bytes: int,
    ) -> None:
        self.items = items
        self.model = model
        self.store = store
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache = HeadCache(cache_bytes)
        self._layers: tuple[LayerInfo, ...] | None = None  # of paths of several scales
        # Detections of one frame follow each other: the frame is decoded once.
        self._read = read_image if items.boxes is None else lru_cache(8)(read_image)

    # -- embeddings --------------------------------------------------------------------

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute the embeddings of blocks of items, and store them."""
        blocks = self._load_blocks([self._to_embed(number) for number in numbers])
        for number, images in zip(numbers, blocks, strict=True):
            block = self._embed_block(number, images)
            store_embedded(self.store, block)
            yield block

    def block(self, number: int) -> range:
        """Return the items of a block."""
        start = number * self.batch_size
        return range(start, min(start + self.batch_size, len(self.items)))

    def _to_embed(self, number: int) -> Sequence[int]:
        """Return the items of a block whose embeddings are computed."""
        return self.block(number)

    def _embed_block(self, number: int, images: list[Loaded[Prepared]]) -> Embedded:
        """Embed the readable images of a block."""
        readable, reasons = split_readable(images)
        rows: dict[int, NDArray[np.float32]] = {}
        if readable:
            vectors = self._embed_images(readable)
            problems = check_usable(vectors)
            for image, vector, problem in zip(readable, vectors, problems, strict=True):
                if problem is None:
                    rows[image.index] = vector
                else:
                    reasons[image.index] = problem
        width = len(next(iter(rows.values()))) if rows else 0
        block = np.zeros((len(images), width), dtype=np.float32)
        for place, image in enumerate(images):
            if image.index in rows:
                block[place] = rows[image.index]
        return Embedded(number, block, reasons)

    def _embed_images(self, readable: list[Loaded[Prepared]]) -> NDArray[np.float32]:
        """Embed readable images; cache what their maps need if there is space."""
        images, model = stack(readable, self.model), self._model_of(readable)
        if not self.cache.reserve(images, model):
            return model.embed(images).cpu().numpy()
        head = model.linearize(images)
        for index, image in _linearized(head, readable).items():
            self.cache.add(index, image)
        return head.embedding.float().cpu().numpy()

    # -- maps --------------------------------------------------------------------------

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute the maps of all sides of some shards, and store them."""
        batches = [self._batch(task, number) for number in numbers]
        cached = [self.cache.pop(batch) for batch, _ in batches]
        loaded = self._load_blocks(
            [
                [] if images.keys() >= set(wanted) else batch
                for (batch, wanted), images in zip(batches, cached, strict=True)
            ]
        )
        previous: tuple[Explained, Future[None]] | None = None
        # A shard is packed and written while the next one is computed.
        with ThreadPoolExecutor(1, thread_name_prefix="sfam-store") as writer:
            for place, (number, block) in enumerate(zip(numbers, loaded, strict=True)):
                # Removed from the list, so that its memory is free before the writing.
                images, cached[place] = cached[place], {}
                shard, rows = self._explain_block(images, block, number, task)
                del images
                paths = self._path_rows(shard, block, number, task)
                if previous is not None:
                    previous[1].result()
                    yield previous[0]
                summary = summarize(shard, task.pairs, task.settings.heatmap_kind)
                blobs = {contributions_name(number): rows, paths_name(number): paths}
                written = writer.submit(self._store, number, shard, blobs, summary)
                previous = explained(number, summary), written
            if previous is not None:
                previous[1].result()
                yield previous[0]

    def _batch(self, task: MapTask, number: int) -> tuple[list[int], list[int]]:
        """Return the items that are processed for a shard, and those it explains.

        Images that could not be embedded are in no pair, and so only in the former.
        """
        batch = task.plan.batch_of(number, len(self.items))
        return batch.tolist(), task.plan.images_of(number).tolist()

    def _store(
        self,
        number: int,
        shard: Arrays,
        blobs: dict[str, list[Arrays]],
        summary: Arrays,
    ) -> None:
        """Store a shard; its rows first, because it then counts as done."""
        for name, rows in blobs.items():
            if rows:
                self.store.put_rows(name, rows)
        self.store.put(shard_name(number), shard, summary)

    def find_layer(self, batches: Iterable[Sequence[int]]) -> None:
        """Find the layer with the first batch that has a readable image.

        A worker that computes only a part of the shards must find the layer with the
        same images as a process that computes all of them.
        """
        for batch in batches:
            readable, _ = split_readable(next(self._load_blocks([batch])))
            if readable:
                images = stack(readable, self.model)
                self._model_of(readable).find_layer(images)
                return

    def _explain_block(
        self,
        images: dict[int, LinearizedImage],
        block: list[Loaded[Prepared]],
        number: int,
        task: MapTask,
    ) -> tuple[Arrays, list[Arrays]]:
        """Explain all sides of a shard, from cached images or newly loaded ones.

        Returns the shard, and the contributions of its images if the run keeps them.
        """
        readable, reasons = split_readable(block)
        if readable:
            images_of_batch = stack(readable, self.model)
            head = self._model_of(readable).linearize(images_of_batch)
            images = _linearized(head, readable)
        indices = task.plan.images_of(number)
        sides, image = task.plan.sides_of(number)
        explained_items = set(indices.tolist())
        reasons = {
            index: text for index, text in reasons.items() if index in explained_items
        }
        dtype = task.settings.contributions
        shard = empty_shard(len(indices), sides, image, dtype is not None)
        places = [place for place, index in enumerate(indices) if int(index) in images]
        if not places:
            rows: list[Arrays] = [] if dtype is None else [{} for _ in indices]
            return shard | {"reasons": json_array(reasons)}, rows
        present = [images[int(index)] for index in indices[places]]
        gaps = self._gaps(indices[places], present, task.vectors)
        shard["gaps"] = gaps
        row_of = np.full(len(indices), -1, dtype=np.int64)
        for place, item, gap in zip(places, present, gaps, strict=True):
            shard["crop"][place], shard["size"][place] = item.crop, item.size
            if gap <= task.tolerance.gap:
                row_of[place] = item.row
            else:
                reasons[int(indices[place])] = (
                    "its stored embedding is not the one that the model gives now "
                    f"(1 - similarity {gap:.3g}, accepted {task.tolerance}); the file "
                    "or its reading has changed."
                )
        head = present[0].head
        rows = []
        if dtype is not None:
            rows = kept_rows(head, row_of, shard, dtype, task.basis)
            shard["contribution_bytes"] = row_bytes(rows)
        unfit = self._explain_sides(head, row_of, shard, rows, task)
        reasons |= {int(indices[place]): maps_problem(self.model) for place in unfit}
        return shard | {"reasons": json_array(reasons)}, rows

    def _explain_sides(
        self,
        head: LinearizedHead,
        row_of: NDArray[np.int64],
        shard: Arrays,
        rows: list[Arrays],
        task: MapTask,
    ) -> list[int]:
        """Put the maps of the images in the rows of a head into a shard.

        Returns the places of images whose maps are not finite; these have no maps.
        """
        sides, image, settings = shard["sides"], shard["image"], task.settings
        chosen = np.flatnonzero(row_of[image] >= 0)
        if len(chosen) == 0:
            return []
        partners = task.pairs.items_of(sides[chosen] ^ 1)
        device = head.embedding.device
        result = attribute(
            head,
            torch.from_numpy(row_of[image[chosen]]).to(device),
            torch.from_numpy(task.vectors[partners]).to(device),
            self.model.metric,
            settings.weights,
        )
        finite = finite_maps(result).cpu().numpy()
        unfit = np.unique(image[chosen[~finite]])
        kept = ~np.isin(image[chosen], unfit)
        if not kept.any():
            return unfit.tolist()
        chosen = chosen[kept]
        shard["score"][chosen] = result.score.cpu().numpy()[kept]
        shard["remainder"][chosen] = result.remainder.cpu().numpy()[kept]
        shape = head.feature_map.shape[1:]
        shard["map_shape"] = np.array(shape, dtype=np.int32)
        shard["layer"] = np.frombuffer(str(self.model.layer).encode(), dtype=np.uint8)
        if rows:
            vectors, live = task.vectors[partners[kept]], result.evidence.cpu().numpy()
            add_agreement(shard, rows, task.basis, chosen, vectors, live[kept])
        for kind in settings.layer_kinds:
            maps = getattr(result, kind).cpu().numpy()[kept]
            for part, values in pack_maps(maps, settings.map_dtype).items():
                name = f"{kind}_{part}"
                if name not in shard:
                    shard[name] = empty_maps(len(sides), values, part)
                shard[name][chosen] = values
        return unfit.tolist()

    # -- maps along paths --------------------------------------------------------------

    def _path_rows(
        self, shard: Arrays, block: list[Loaded[Prepared]], number: int, task: MapTask
    ) -> list[Arrays]:
        """Explain sides of a shard along paths, and put into it where each is stored.

        Returns the rows to store.
        """
        if not task.settings.path_kinds:
            return []
        sides, kind = shard["sides"], task.settings.heatmap_kind
        shard["path_row"] = np.full(len(sides), -1, dtype=np.int32)
        shard["top"] = np.zeros(len(sides), dtype=np.float32)
        chosen = np.flatnonzero(task.has_path[sides] & ~np.isnan(shard["score"]))
        found = self._kept_paths(task, sides[chosen])
        left = [at for at in chosen.tolist() if int(sides[at]) not in found]
        items = task.plan.images_of(number)[shard["image"][left]]
        found |= self._explain_paths(task, sides[left], items, block)
        rows: list[Arrays] = []
        for at in chosen.tolist():
            row = found.get(int(sides[at]))
            if row is not None:
                shard["path_row"][at] = len(rows)
                shard["top"][at] = top_of(row, kind)
                rows.append(row)
        return rows

    def _kept_paths(self, task: MapTask, sides: NDArray[np.int64]) -> dict[int, Arrays]:
        """Return the rows of those sides that are stored already."""
        return {}

    def _explain_paths(
        self,
        task: MapTask,
        sides: NDArray[np.int64],
        items: NDArray[np.int32],
        block: list[Loaded[Prepared]],
    ) -> dict[int, Arrays]:
        """Explain sides, whose images are ``items``, along paths."""
        settings = task.settings
        found: dict[int, Arrays | None] = {}
        if len(sides) == 0:
            return {}
        images = {image.index: image for image in block}
        missing = sorted(set(items.tolist()) - images.keys())
        if missing:  # Their heads were in the cache.
            images |= {i.index: i for i in next(self._load_blocks([missing]))}
        readable, _ = split_readable([images[item] for item in np.unique(items)])
        layers = self._path_layers(task) if SCALES in settings.path_kinds else ()
        size = images_at_once(settings.path_kinds, self.batch_size)
        for start in range(0, len(readable), size):
            part = readable[start : start + size]
            row_of = {image.index: row for row, image in enumerate(part)}
            here = np.array([item in row_of for item in items.tolist()])
            partners = task.vectors[task.pairs.items_of(sides[here] ^ 1)]
            rows = path_rows(
                self._model_of(part),
                stack(part, self.model),
                torch.tensor([row_of[item] for item in items[here].tolist()]),
                torch.from_numpy(partners),
                settings,
                layers,
            )
            found |= dict(zip(sides[here].tolist(), rows, strict=True))
        return {side: row for side, row in found.items() if row is not None}

    def _path_layers(self, task: MapTask) -> tuple[LayerInfo, ...]:
        """Choose the layers of paths by the first images, the same in any process."""
        if self._layers is None:
            for number in range(task.plan.num_shards):
                block = [task.plan.images_of(number).tolist()]
                readable, _ = split_readable(next(self._load_blocks(block)))
                if readable:
                    images = stack(readable, self.model)
                    row = fullest_image(images)
                    model = self._model_of(readable)._of_image(row)
                    self._layers = path_layers(model, images[row])
                    break
        return self._layers or ()

    # -- checks ------------------------------------------------------------------------

    def _gaps(
        self,
        indices: NDArray[np.int32],
        images: list[LinearizedImage],
        vectors: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Return ``1 - similarity`` of recomputed embeddings to those in use."""
        rows = [image.row for image in images]
        embedding = images[0].head.embedding[rows].float().cpu().numpy()
        stored = vectors[indices].astype(np.float64)
        if embedding.shape[1] != stored.shape[1]:
            raise DataError(
                f"the stored embeddings have {stored.shape[1]} numbers, but those of "
                f"model '{self.model.name}' have {embedding.shape[1]}; compute them "
                "again, or name the model that made them."
            )
        embedding = embedding.astype(np.float64)
        return 1 - similarities(embedding, stored, self.model.metric)

    # -- images ------------------------------------------------------------------------

    def _model_of(self, readable: list[Loaded[Prepared]]) -> EmbeddingModel:
        """Return the model with the further inputs of a batch, if it takes any."""
        if self.items.inputs is None:
            return self.model
        rows = [image.index for image in readable]
        return self.model.with_inputs(
            {name: values[rows] for name, values in self.items.inputs.items()}
        )

    def _load_blocks(
        self, blocks: Sequence[Sequence[int]]
    ) -> Iterator[list[Loaded[Prepared]]]:
        """Load blocks of images in the background, in order."""
        loaded = load_in_background(
            (int(index) for block in blocks for index in block),
            self._prepare,
            self.num_workers,
            ahead=2 * self.batch_size,
        )
        sizes = [len(block) for block in blocks]
        for size in sizes:
            yield next_block(loaded, size)

    def _prepare(self, index: int) -> Prepared:
        """Read and prepare an image."""
        return prepare_item(self.items, self.model, index, self._read)


def next_block(loaded: Iterator[Loaded[Prepared]], size: int) -> list[Loaded[Prepared]]:
    """Wait for the next images; a function of its own for benchmarks to measure."""
    return [next(loaded) for _ in range(size)]


def _linearized(
    head: LinearizedHead, readable: list[Loaded[Prepared]]
) -> dict[int, LinearizedImage]:
    """Return the images of a linearized batch by index."""
    images = {}
    for row, image in enumerate(readable):
        assert image.value is not None
        images[image.index] = LinearizedImage(
            head, row, image.value.crop, image.value.size
        )
    return images


def similarities(
    first: NDArray[np.float64], second: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """Compute the similarity of embeddings row by row."""
    products = (first * second).sum(axis=1)
    squares = np.square(first).sum(axis=1), np.square(second).sum(axis=1)
    if metric == "cosine":
        return products / np.sqrt(squares[0] * squares[1])
    return 2 * products / (squares[0] + squares[1])
