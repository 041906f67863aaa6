"""The streaming half of a run: images in, shards of embeddings and maps out.

Every image is read once per pass, and one forward pass of it serves all the sides of
pairs that it takes part in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution import Attribution, LinearizedHead, attribute
from fiftyone_sfam.embedder import EmbeddingModel
from fiftyone_sfam.embeddings import MISMATCH, Embeddings, check_usable
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.head_cache import HeadCache, Seen
from fiftyone_sfam.images import (
    Loaded,
    Skipped,
    load_in_background,
    pixel_box,
    read_image,
)
from fiftyone_sfam.items import Items
from fiftyone_sfam.progress import Progress
from fiftyone_sfam.records import Pairs, Plan
from fiftyone_sfam.runs import RunConfig, shard_name
from fiftyone_sfam.storage import Arrays, BlobStore, pack_maps

COMPUTED = "computed"
"""Source of embeddings that the run computes itself."""


# Recomputed embeddings after which it is decided whether they are the stored ones.
_ENOUGH = 16


@dataclass(frozen=True)
class _Prepared:
    """One image ready for the network, and what is needed to place its maps."""

    tensor: torch.Tensor
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


class ImageStream:
    """Runs the model over the images of a run, and stores what comes out.

    Parameters
    ----------
    items : Items
        The images.
    model : EmbeddingModel
        The model.
    batch_size : int
        Images per forward pass, and per shard.
    num_workers : int
        Threads that read images; 0 reads in the caller's.

    cache_bytes : int
        Bytes that what the first pass finds may take until the second needs it.

    Attributes
    ----------
    progress : callable or None
        Told of the images done, their total, and the phase.
    """

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
        self.progress: Progress | None = None
        # Detections of one frame follow each other: the frame is decoded once.
        self.read = read_image if items.boxes is None else lru_cache(8)(read_image)

    # -- embeddings --------------------------------------------------------------------

    def embed(self, store: BlobStore, fingerprint: str) -> Embeddings:
        """Compute the embeddings of all items, shard by shard, and store them."""
        total = len(self.items)
        names = store.names()
        vectors: list[NDArray[np.float32]] = []
        reasons: dict[int, str] = {}
        blocks = [
            list(range(start, min(start + self.batch_size, total)))
            for start in range(0, total, self.batch_size)
        ]
        todo = [
            block
            for number, block in enumerate(blocks)
            if _embedding_name(number) not in names
        ]
        loaded = self._load_blocks(todo)
        for number, block in enumerate(blocks):
            name = _embedding_name(number)
            if name in names:
                stored = store.get(name)
                vectors.append(stored["vectors"])
                texts = json.loads(stored["reasons"].tobytes().decode())
                reasons.update({int(index): text for index, text in texts.items()})
            else:
                block_vectors, block_reasons = self._embed_block(next(loaded))
                store.put(
                    name,
                    {"vectors": block_vectors, "reasons": _json_array(block_reasons)},
                    fingerprint=fingerprint,
                )
                vectors.append(block_vectors)
                reasons.update(block_reasons)
            self._report(block[-1] + 1, total, "embedding")
        return self._embeddings(vectors, reasons)

    def store_embeddings(
        self, store: BlobStore, fingerprint: str, given: Embeddings
    ) -> None:
        """Keep given embeddings with the run, in the same shards as computed ones."""
        size = self.batch_size
        for number, start in enumerate(range(0, len(self.items), size)):
            store.put(
                _embedding_name(number),
                {
                    "vectors": given.vectors[start : start + size],
                    "reasons": _json_array({}),
                },
                fingerprint=fingerprint,
            )

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

    def _embeddings(
        self, blocks: list[NDArray[np.float32]], reasons: dict[int, str]
    ) -> Embeddings:
        """Put the blocks together; a block without any readable image has no width."""
        width = max(block.shape[1] for block in blocks)
        if width == 0:
            reason = next(iter(reasons.values()))
            raise DataError(
                f"none of the {len(self.items)} images could be embedded; the first "
                f"reason: {reason}"
            )
        vectors = np.concatenate(
            [
                block
                if block.shape[1]
                else np.zeros((len(block), width), dtype=np.float32)
                for block in blocks
            ]
        )
        usable = np.ones(len(vectors), dtype=bool)
        usable[list(reasons)] = False
        return Embeddings(
            vectors,
            usable,
            tuple(
                self._skipped(index, text) for index, text in sorted(reasons.items())
            ),
        )

    # -- maps --------------------------------------------------------------------------

    def explain(
        self,
        store: BlobStore,
        config: RunConfig,
        plan: Plan,
        pairs: Pairs,
        embeddings: Embeddings,
    ) -> tuple[str, tuple[int, int, int]]:
        """Compute and store the maps of every side; return layer and map shape."""
        names = store.names()
        shards = range(plan.num_shards)
        todo = [number for number in shards if shard_name(number) not in names]
        done = (plan.num_shards - len(todo)) * plan.shard_images
        total = len(plan.order)
        kept = {number: self.cache.take(plan.images_of(number)) for number in todo}
        loaded = self._load_blocks(
            [
                [index for index in plan.images_of(number) if index not in kept[number]]
                for number in todo
            ]
        )
        gaps: list[float] = []
        # What is gone on with was found to be right when it was begun.
        judged = len(todo) < plan.num_shards
        for number, block in zip(todo, loaded, strict=True):
            # Handed over, so that its memory is free when the shard is written.
            seen = kept.pop(number)
            arrays, block_gaps = self._explain_block(
                seen, block, plan, number, pairs, embeddings, config
            )
            gaps += block_gaps
            if not judged and (len(gaps) >= _ENOUGH or number == todo[-1]):
                self._check_gaps(np.array(gaps), config.embeddings == COMPUTED)
                judged = True
            store.put(shard_name(number), arrays, fingerprint=config.fingerprint)
            done += len(plan.images_of(number))
            self._report(min(done, total), total, "explaining")
        for number in shards:
            facts = store.get(shard_name(number))
            channels, height, width = (int(v) for v in facts["map_shape"])
            if channels:
                layer = facts["layer"].tobytes().decode()
                return layer, (channels, height, width)
        raise DataError(
            f"none of the {total} images could be read again to be explained; check "
            "that the files are still where the dataset says."
        )

    def _explain_block(
        self,
        seen: dict[int, Seen],
        block: list[Loaded[_Prepared]],
        plan: Plan,
        number: int,
        pairs: Pairs,
        embeddings: Embeddings,
        config: RunConfig,
    ) -> tuple[Arrays, list[float]]:
        """Explain all sides of one shard's images, kept ones and newly loaded ones.

        Returns the shard, and how far each recomputed embedding is from the one that
        retrieval used.
        """
        good, reasons = _split(block)
        if good:
            head = self.model.linearize(_stack(good, self.model))
            for row, one in enumerate(good):
                assert one.value is not None
                seen[one.index] = Seen(head, row, one.value.crop, one.value.size)
        images = plan.images_of(number)
        sides, image = plan.sides_of(number)
        shard = _empty_shard(len(images), sides, image)
        gaps: list[float] = []
        for head in {id(own.head): own.head for own in seen.values()}.values():
            places = [
                place
                for place, index in enumerate(images)
                if index in seen and seen[index].head is head
            ]
            mine = [seen[index] for index in images[places]]
            rows = [own.row for own in mine]
            off = self._gaps(images[places], head, rows, embeddings)
            gaps += off.tolist()
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
            self._explain_sides(head, row_of[image], shard, pairs, embeddings, config)
        return shard | {"reasons": _json_array(reasons)}, gaps

    def _explain_sides(
        self,
        head: LinearizedHead,
        rows: NDArray[np.int64],
        shard: Arrays,
        pairs: Pairs,
        embeddings: Embeddings,
        config: RunConfig,
    ) -> None:
        """Put the maps of the sides that a head explains, in its rows, in a shard."""
        sides = shard["sides"]
        chosen = np.flatnonzero(rows >= 0)
        others = pairs.sides()[sides[chosen] ^ 1]
        device = head.embedding.device
        result = attribute(
            head,
            torch.from_numpy(rows[chosen]).to(device),
            torch.from_numpy(embeddings.vectors[others]).to(device),
            self.model.metric,
            config.weights,
        )
        _check_finite(self.model, result)
        shard["score"][chosen] = result.score.cpu().numpy()
        shard["remainder"][chosen] = result.remainder.cpu().numpy()
        shape = head.feature_map.shape[1:]
        shard["map_shape"] = np.array(shape, dtype=np.int32)
        shard["layer"] = np.frombuffer(str(self.model.layer).encode(), dtype=np.uint8)
        for kind in config.kinds:
            maps = getattr(result, kind).cpu().numpy()
            for part, values in pack_maps(maps, config.map_dtype).items():
                name = f"{kind}_{part}"
                if name not in shard:
                    shard[name] = _unexplained(len(sides), values, part)
                shard[name][chosen] = values

    def _gaps(
        self,
        indices: NDArray[np.int32],
        head: LinearizedHead,
        rows: list[int],
        embeddings: Embeddings,
    ) -> NDArray[np.float64]:
        """Return ``1 - similarity`` of recomputed embeddings with the ones in use."""
        found = head.embedding[rows].float().cpu().numpy().astype(np.float64)
        stored = embeddings.vectors[indices].astype(np.float64)
        if found.shape[1] != stored.shape[1]:
            raise DataError(
                f"the stored embeddings have {stored.shape[1]} numbers, but those of "
                f"model '{self.model.name}' have {found.shape[1]}; they are another "
                "model's."
            )
        return 1 - _similarities(found, stored, self.model.metric)

    def _check_gaps(self, gaps: NDArray[np.float64], own: bool) -> None:
        """Refuse embeddings of which half are not the model's: they are another's."""
        off = ~(gaps <= MISMATCH)
        if len(off) == 0 or off.mean() < 0.5:
            return
        what = (
            "the model gives other embeddings on a second pass; it is not deterministic"
            if own
            else "they were made by another model, other weights or another "
            "preprocessing; compute them again, or name the right model"
        )
        raise DataError(
            f"the stored embeddings do not match model '{self.model.name}': "
            f"{int(off.sum())} of the first {len(off)} recomputed ones differ "
            f"(median 1 - similarity {np.median(gaps):.3g}, accepted "
            f"{MISMATCH:g}); {what}."
        )

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
            yield [next(loaded) for _ in range(size)]

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

    def _skipped(self, index: int, reason: str) -> Skipped:
        """Record an image that could not be used."""
        return Skipped(
            index, self.items.ids[index], self.items.filepaths[index], reason
        )

    def _report(self, done: int, total: int, phase: str) -> None:
        if self.progress is not None:
            self.progress(done, total, phase)


def collect(
    store: BlobStore,
    plan: Plan,
    pairs: Pairs,
    items: Items,
    skipped: tuple[Skipped, ...],
) -> tuple[list[Skipped], NDArray[np.float32]]:
    """Gather what the shards say of remainders and of images left out.

    Parameters
    ----------
    store : BlobStore
        Blobs of the run, all shards stored.
    plan : Plan
        Where the sides are.
    pairs : Pairs
        The pairs.
    items : Items
        The images.
    skipped : tuple of Skipped
        Images that were left out before.

    Returns
    -------
    skipped : list of Skipped
        All that were left out, in the order of the items.
    remainders : ndarray of float32
        Of query and gallery side, shape (P, 2); NaN where there is no map.
    """
    remainders = np.full(2 * len(pairs), np.nan, dtype=np.float32)
    left_out = {one.index: one for one in skipped}
    for number in range(plan.num_shards):
        shard = store.get(shard_name(number))
        remainders[shard["sides"]] = shard["remainder"]
        reasons = json.loads(shard["reasons"].tobytes().decode())
        for index, reason in reasons.items():
            place = int(index)
            left_out[place] = Skipped(
                place, items.ids[place], items.filepaths[place], reason
            )
    return [left_out[place] for place in sorted(left_out)], remainders.reshape(-1, 2)


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


def _unexplained(count: int, like: NDArray[Any], part: str) -> NDArray[Any]:
    """Return what stands for sides without a map: zeros, of any scale."""
    if part == "scale":
        return np.ones(count, dtype=like.dtype)
    return np.zeros((count, *like.shape[1:]), dtype=like.dtype)


def _empty_shard(
    images: int, sides: NDArray[np.int64], image: NDArray[np.int64]
) -> Arrays:
    """Return a shard in which nothing is explained yet."""
    return {
        "sides": sides,
        "image": image.astype(np.int32),
        "score": np.full(len(sides), np.nan, dtype=np.float32),
        "remainder": np.full(len(sides), np.nan, dtype=np.float32),
        "crop": np.zeros((images, 4), dtype=np.float32),
        "size": np.zeros((images, 2), dtype=np.int32),
        "map_shape": np.zeros(3, dtype=np.int32),
        "layer": np.zeros(0, dtype=np.uint8),
    }


def _check_finite(model: EmbeddingModel, result: Attribution) -> None:
    """Refuse maps that are no numbers."""
    if not bool(torch.isfinite(result.evidence).all()):
        raise DataError(
            f"model '{model.name}' gives maps with NaN or infinity at layer "
            f"'{model.layer}'; check its weights, or name another layer."
        )


def _embedding_name(number: int) -> str:
    return f"embeddings-{number:06d}"


def _json_array(values: dict[int, str]) -> NDArray[np.uint8]:
    """Encode texts by index as an array."""
    text = json.dumps({str(index): reason for index, reason in values.items()})
    return np.frombuffer(text.encode(), dtype=np.uint8)
