"""The streaming core of a run: images in, shards of embeddings and maps out.

Every image is read once per pass, and one forward pass of it serves all the sides of
pairs that it takes part in. What is computed for a shard depends on its number alone,
not on who computes it, nor on what was computed before: the engines build on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution.maps import attribute, finite_maps, maps_problem
from fiftyone_sfam.data.images import Loaded, load_in_background, pixel_box, read_image
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.pipeline.shards import (
    Embedded,
    empty_shard,
    json_array,
    store_embedded,
    unexplained,
)
from fiftyone_sfam.retrieval.embeddings import MISMATCH, check_usable
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, pack_maps
from fiftyone_sfam.runs.plan import Plan
from fiftyone_sfam.runs.run_config import RunConfig
from fiftyone_sfam.runs.run_table import shard_name

if TYPE_CHECKING:
    from fiftyone_sfam.network.preprocess import Box


@dataclass(frozen=True)
class Seen:
    """Where an image is among linearized ones."""

    head: LinearizedHead  # A batch of images
    row: int  # the image's row in it
    crop: Box
    size: tuple[int, int]  # width and height of the whole image, in pixels


class HeadCache:
    """Linearized images by their index, up to a number of bytes."""

    def __init__(self, model: EmbeddingModel, limit: int) -> None:
        self._model = model
        self._left = limit
        self._each: int | None = None
        self._seen: dict[int, Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def has_room(self, images: torch.Tensor) -> bool:
        """Tell whether a batch fits, and count it as kept if so."""
        if self._left > 0 and self._each is None:
            self._model.find_layer(images)
            self._each = bytes_of_head(self._model, images[:1])
        needed = len(images) * (self._each or 1)
        if needed > self._left:
            self._left = 0
            return False
        self._left -= needed
        return True

    def keep(self, index: int, seen: Seen) -> None:
        """Keep an image for which there was room."""
        self._seen[index] = seen

    def take(self, indices: Iterable[int]) -> dict[int, Seen]:
        """Hand over the images that were kept, and keep them no longer."""
        return {
            index: self._seen.pop(index) for index in indices if index in self._seen
        }


def bytes_of_head(model: EmbeddingModel, images: torch.Tensor) -> int:
    """Measure what a linearized batch keeps alive."""
    # Otherwise what finding it needs would be counted.
    model.find_layer(images)
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.network.parameters(), *model.network.buffers())
    }
    found: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        # Without its own graph, which would then hold on to itself.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        head = model.linearize(images)
    note(head.leaf)
    note(head.output)
    return sum(found.values())


COMPUTED = "computed"
"""Source of embeddings that the run computes itself."""


@dataclass(frozen=True)
class Explained:
    """One shard whose maps are stored."""

    number: int  # number of the shard
    gaps: tuple[float, ...]


@dataclass(frozen=True)
class MapTask:
    """What the maps of a run depend on, beside its images and its model."""

    config: RunConfig  # kinds, weights and types of the maps
    plan: Plan  # which image explains which sides
    pairs: Pairs  # the pairs
    vectors: NDArray[np.float32]  # embeddings of the items, shape (N, D)


@dataclass(frozen=True)
class _Prepared:
    """One image ready for the network, and what is needed to place its maps."""

    tensor: torch.Tensor
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


class ImageStream:
    """Runs the model over the images of a run, and stores what comes out."""

    def __init__(
        self,
        items: Items,
        model: EmbeddingModel,
        batch_size: int,
        num_workers: int,
        cache_bytes: int = 0,
    ) -> None:
        self.items = items
        self.model = model
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache = HeadCache(model, cache_bytes)
        # Detections of one frame follow each other: the frame is decoded once.
        self.read = read_image if items.boxes is None else lru_cache(8)(read_image)

    # -- embeddings --------------------------------------------------------------------

    @property
    def num_blocks(self) -> int:
        """Number of blocks of ``batch_size`` items."""
        return -(-len(self.items) // self.batch_size)

    def embed(
        self, store: BlobStore, fingerprint: str, numbers: Sequence[int]
    ) -> Iterator[Embedded]:
        """Compute the embeddings of blocks of items, and store them."""
        loaded = self._load_blocks([self.block(number) for number in numbers])
        for number, block in zip(numbers, loaded, strict=True):
            vectors, reasons = self._embed_block(block)
            store_embedded(store, fingerprint, Embedded(number, vectors, reasons))
            yield Embedded(number, vectors, reasons)

    def block(self, number: int) -> range:
        """Return the items of a block."""
        start = number * self.batch_size
        return range(start, min(start + self.batch_size, len(self.items)))

    def _embed_block(
        self, block: list[Loaded[_Prepared]]
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Embed the readable images of one block."""
        good, reasons = _split(block)
        rows: dict[int, NDArray[np.float32]] = {}
        if good:
            found = self._embed_images(good)
            wrong = check_usable(found)
            for one, row, reason in zip(good, found, wrong, strict=True):
                if reason is None:
                    rows[one.index] = row
                else:
                    reasons[one.index] = reason
        width = len(next(iter(rows.values()))) if rows else 0
        vectors = np.zeros((len(block), width), dtype=np.float32)
        for place, one in enumerate(block):
            if one.index in rows:
                vectors[place] = rows[one.index]
        return vectors, reasons

    def _embed_images(self, good: list[Loaded[_Prepared]]) -> NDArray[np.float32]:
        """Embed readable images, and keep what their maps will need, if it fits."""
        images = _stack(good, self.model)
        if not self.cache.has_room(images):
            return self.model.embed(images).cpu().numpy()
        head = self.model.linearize(images)
        for row, one in enumerate(good):
            assert one.value is not None
            self.cache.keep(one.index, Seen(head, row, one.value.crop, one.value.size))
        return head.embedding.float().cpu().numpy()

    # -- maps --------------------------------------------------------------------------

    def explain(
        self, store: BlobStore, task: MapTask, numbers: Sequence[int]
    ) -> Iterator[Explained]:
        """Compute the maps of every side of some shards, and store them."""
        batches = [task.plan.batch_of(number, len(self.items)) for number in numbers]
        kept = [self.cache.take(batch.tolist()) for batch in batches]
        loaded = self._load_blocks(
            [
                # An image that the first pass could not use takes no part in pairs.
                [] if seen.keys() >= set(task.plan.images_of(number)) else list(batch)
                for number, batch, seen in zip(numbers, batches, kept, strict=True)
            ]
        )
        before: tuple[Explained, Future[None]] | None = None
        # A shard is packed and written while the next one is computed.
        with ThreadPoolExecutor(1, thread_name_prefix="sfam-store") as writer:
            for place, (number, block) in enumerate(zip(numbers, loaded, strict=True)):
                # Handed over, so that its memory is free when the shard is written.
                seen, kept[place] = kept[place], {}
                arrays, gaps = self._explain_block(seen, block, number, task)
                del seen
                if before is not None:
                    before[1].result()
                    yield before[0]
                written = writer.submit(
                    store.put,
                    shard_name(number),
                    arrays,
                    fingerprint=task.config.fingerprint,
                )
                before = Explained(number, tuple(gaps)), written
            if before is not None:
                before[1].result()
                yield before[0]

    def find_layer(self, batches: Iterable[Sequence[int]]) -> None:
        """Find the layer with the first batch that has a readable image.

        Whoever explains only a part of the shards has to find it with the images that
        whoever explains all of them finds it with.
        """
        for batch in batches:
            good, _ = _split(next(self._load_blocks([batch])))
            if good:
                self.model.find_layer(_stack(good, self.model))
                return

    def _explain_block(
        self,
        seen: dict[int, Seen],
        block: list[Loaded[_Prepared]],
        number: int,
        task: MapTask,
    ) -> tuple[Arrays, list[float]]:
        """Explain all sides of one shard's images, kept ones or newly loaded ones.

        Returns the shard, and how far each recomputed embedding is from the one that
        retrieval used.
        """
        good, reasons = _split(block)
        if good:
            head = self.model.linearize(_stack(good, self.model))
            seen = {}
            for row, one in enumerate(good):
                assert one.value is not None
                seen[one.index] = Seen(head, row, one.value.crop, one.value.size)
        images = task.plan.images_of(number)
        sides, image = task.plan.sides_of(number)
        taking_part = set(images.tolist())
        reasons = {at: why for at, why in reasons.items() if at in taking_part}
        shard = empty_shard(len(images), sides, image)
        places = [place for place, index in enumerate(images) if int(index) in seen]
        if not places:
            return shard | {"reasons": json_array(reasons)}, []
        mine = [seen[int(index)] for index in images[places]]
        off = self._gaps(images[places], mine, task.vectors)
        shard["gaps"] = off
        row_of = np.full(len(images), -1, dtype=np.int64)
        for place, own, gap in zip(places, mine, off, strict=True):
            shard["crop"][place], shard["size"][place] = own.crop, own.size
            if gap <= MISMATCH:
                row_of[place] = own.row
            else:
                reasons[int(images[place])] = (
                    "its stored embedding is not the one that the model gives now "
                    f"(1 - similarity {gap:.3g}); the file or its reading has "
                    "changed."
                )
        unfit = self._explain_sides(mine[0].head, row_of, shard, task)
        reasons |= {int(images[place]): maps_problem(self.model) for place in unfit}
        return shard | {"reasons": json_array(reasons)}, off.tolist()

    def _explain_sides(
        self,
        head: LinearizedHead,
        row_of: NDArray[np.int64],
        shard: Arrays,
        task: MapTask,
    ) -> list[int]:
        """Put the maps of the images that a head explains, in its rows, in a shard.

        Returns the images whose maps are no numbers; they have none.
        """
        sides, image, config = shard["sides"], shard["image"], task.config
        chosen = np.flatnonzero(row_of[image] >= 0)
        others = task.pairs.items_of(sides[chosen] ^ 1)
        device = head.embedding.device
        result = attribute(
            head,
            torch.from_numpy(row_of[image[chosen]]).to(device),
            torch.from_numpy(task.vectors[others]).to(device),
            self.model.metric,
            config.weights,
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
        for kind in config.kinds:
            maps = getattr(result, kind).cpu().numpy()[kept]
            for part, values in pack_maps(maps, config.map_dtype).items():
                name = f"{kind}_{part}"
                if name not in shard:
                    shard[name] = unexplained(len(sides), values, part)
                shard[name][chosen] = values
        return unfit.tolist()

    def _gaps(
        self,
        indices: NDArray[np.int32],
        seen: list[Seen],
        vectors: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Return ``1 - similarity`` of recomputed embeddings with the ones in use."""
        rows = [own.row for own in seen]
        found = seen[0].head.embedding[rows].float().cpu().numpy().astype(np.float64)
        stored = vectors[indices].astype(np.float64)
        if found.shape[1] != stored.shape[1]:
            raise DataError(
                f"the stored embeddings have {stored.shape[1]} numbers, but those of "
                f"model '{self.model.name}' have {found.shape[1]}; they are another "
                "model's."
            )
        return 1 - _similarities(found, stored, self.model.metric)

    # -- images ------------------------------------------------------------------------

    def _load_blocks(
        self, blocks: Sequence[Sequence[int]]
    ) -> Iterator[list[Loaded[_Prepared]]]:
        """Load blocks of images in the background, in order."""
        loaded = load_in_background(
            (int(index) for block in blocks for index in block),
            self._prepare,
            self.num_workers,
            ahead=2 * self.batch_size,
        )
        sizes = iter([len(block) for block in blocks])
        for size in sizes:
            yield next_block(loaded, size)

    def sample_input(self) -> NDArray[Any] | None:
        """Prepare the first readable image; None if there is none."""
        for one in load_in_background(range(len(self.items)), self._prepare, 0):
            if one.value is not None:
                return one.value.tensor.detach().float().cpu().numpy()
        return None

    def _prepare(self, index: int) -> _Prepared:
        """Read and prepare one image."""
        image = self.read(self.items.filepaths[index])
        size = image.size
        if self.items.boxes is not None:
            image = image.crop(pixel_box(self.items.boxes[index], *size))
        width, height = image.size
        left, top, right, bottom = self.model.crop_box(width, height)
        crop = (left / width, top / height, right / width, bottom / height)
        return _Prepared(self.model.prepare(image), crop, size)


def next_block(
    loaded: Iterator[Loaded[_Prepared]], size: int
) -> list[Loaded[_Prepared]]:
    """Wait for the next images; benchmarks tell by it how long that takes."""
    return [next(loaded) for _ in range(size)]


def _split(
    block: list[Loaded[_Prepared]],
) -> tuple[list[Loaded[_Prepared]], dict[int, str]]:
    """Separate what was loaded from what was not."""
    good = [one for one in block if one.value is not None]
    bad = {one.index: str(one.reason) for one in block if one.value is None}
    return good, bad


def _stack(good: list[Loaded[_Prepared]], model: EmbeddingModel) -> torch.Tensor:
    """Stack prepared images into a batch."""
    tensors = [one.value.tensor for one in good if one.value is not None]
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise DataError(
            f"the preprocessing of model '{model.name}' gives images of different "
            f"shapes ({', '.join(str(shape) for shape in shapes[:3])}); it has to "
            "resize all of them to one size."
        )
    return torch.stack(tensors)


def _similarities(
    one: NDArray[np.float64], other: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """Compare embeddings row by row with the metric's similarity."""
    products = (one * other).sum(axis=1)
    squares = np.square(one).sum(axis=1), np.square(other).sum(axis=1)
    if metric == "cosine":
        return products / np.sqrt(squares[0] * squares[1])
    return 2 * products / (squares[0] + squares[1])
