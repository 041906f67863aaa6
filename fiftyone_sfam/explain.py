"""The run: a dataset's nearest-neighbor pairs, explained from both sides.

Images are streamed once. Each forward pass gives the feature map with which every pair
that the image takes part in is explained, because the other side is needed only as an
embedding (METHOD: N passes for N images, whatever k is).
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.attribution import WEIGHTS, Attribution, Weights, attribute
from fiftyone_sfam.embedder import EmbeddingModel
from fiftyone_sfam.embeddings import (
    MISMATCH,
    Embeddings,
    check_index_key,
    check_usable,
    keep_as_index,
    stored_embeddings,
)
from fiftyone_sfam.errors import DataError, RunError, SfamError
from fiftyone_sfam.images import (
    Loaded,
    Skipped,
    load_in_background,
    pixel_box,
    read_image,
)
from fiftyone_sfam.items import Items, collect_items
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.publish import publish_fields
from fiftyone_sfam.records import Pairs, Plan, make_pairs, make_plan
from fiftyone_sfam.retrieval import Candidates, find_neighbors, select_candidates
from fiftyone_sfam.runs import (
    COMPLETE,
    METHOD,
    PUBLISHING,
    TABLE,
    Run,
    RunConfig,
    RunItems,
    check_key,
    count_outcomes,
    load_run,
    pack_table,
    record_run,
    run_config,
    shard_name,
)
from fiftyone_sfam.storage import (
    MAP_TYPES,
    Arrays,
    BlobStore,
    pack_maps,
    unfinished_uids,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

Kind = Literal["sfam", "evidence"]

COMPUTED = "computed"

# Recomputed embeddings after which it is decided whether they are the stored ones.
_ENOUGH = 16

KINDS: tuple[Kind, ...] = ("sfam", "evidence")
"""Kinds of map that a run can store; the others are computed for one pair at a time."""


@dataclass(frozen=True)
class _Prepared:
    """One image ready for the network, and what is needed to place its maps."""

    tensor: torch.Tensor
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


def explain_retrieval(
    samples: SampleCollection,
    model: EmbeddingModel | str,
    *,
    key: str = "sfam",
    k: int = 5,
    protocol: Protocol | None = None,
    patches_field: str | None = None,
    embeddings: str | NDArray[np.floating] | None = None,
    keep_index: str | None = None,
    kinds: Sequence[Kind] = KINDS,
    weights: Weights = "signed",
    map_dtype: Literal["int8", "float16", "float32"] = "int8",
    batch_size: int = 32,
    num_workers: int | None = None,
    overwrite: bool = False,
    progress: bool | Progress | None = None,
) -> Run:
    """Explain every query's nearest neighbors, and store what was found.

    Parameters
    ----------
    samples : fiftyone dataset or view
        Images; all of them are compared unless the protocol says otherwise.
    model : EmbeddingModel or str
        The model, or the name of one, see :func:`fiftyone_sfam.load_model`.
    key : str
        Key of the run, and name of its fields.
    k : int
        Neighbors per query.
    protocol : Protocol, optional
        Rules of the retrieval; by default every image is compared with every other.
    patches_field : str, optional
        Field of detections to compare instead of whole images.
    embeddings : str or ndarray, optional
        Brain key of a similarity index, or name of a field, or an array (N, D) in the
        order of the images. None computes them with the model, which costs a second
        forward pass per image.
    keep_index : str, optional
        Brain key under which computed embeddings are kept as a similarity index.
    kinds : sequence of {"sfam", "evidence"}
        Maps to store; the first is shown as the heatmap field.
    weights : {"signed", "minmax"}
        Channel weights of the ``sfam`` map.
    map_dtype : {"int8", "float16", "float32"}
        Type in which maps are stored.
    batch_size : int
        Images per forward pass, and per stored shard.
    num_workers : int, optional
        Threads that read images; by default one per core, at most 8.
    overwrite : bool
        Replace an existing run of this key, once the new one is complete. Otherwise an
        existing key is refused.
    progress : bool or callable, optional
        A bar, or a function that is called with the number of images done, their
        total, and the phase: ``"embedding"`` or ``"explaining"``. None shows a bar
        where FiftyOne's ``show_progress_bars`` says so.

    Returns
    -------
    Run
        The stored run.

    Raises
    ------
    DataError
        If the images, fields or embeddings do not fit; also if stored embeddings are
        not the model's.
    ModelError
        If the model cannot be explained.
    RunError
        If the key cannot be used.
    """
    dataset = samples._root_dataset
    protocol = protocol or Protocol()
    _check_options(kinds, weights, map_dtype, batch_size, k)
    existing = _check_existing(dataset, key, patches_field, overwrite)
    if keep_index is not None:
        check_index_key(samples, keep_index)
    if isinstance(model, str):
        from fiftyone_sfam.models import load_model

        model = load_model(model)
    items = collect_items(samples, protocol, patches_field)
    job = _Job(dataset, items, model, batch_size, _workers(num_workers))

    given = None
    if embeddings is not None:
        given = stored_embeddings(samples, items, embeddings, patches_field)
    config = RunConfig(
        uid="",
        state=PUBLISHING,
        fingerprint="",
        model=model.name,
        weights_hash=model.weights_hash(),
        layer="",
        map_shape=(0, 0, 0),
        metric=model.metric,
        k=k,
        kinds=tuple(kinds),
        weights=weights,
        map_dtype=map_dtype,
        protocol=protocol.to_dict(),
        patches_field=patches_field,
        embeddings=_source_name(embeddings),
        shard_images=batch_size,
        versions=_versions(),
    )
    fingerprint = _fingerprint(config, items, given, model, job.sample_input())
    uid = _resumable(dataset, key, fingerprint) or uuid.uuid4().hex
    store = BlobStore(str(dataset._doc.id), uid)
    config = replace(
        config, uid=uid, fingerprint=fingerprint, replaces=_replaced(existing, uid)
    )
    try:
        with reporting(progress) as job.progress:
            used = given or job.embed(store, fingerprint)
            if given is not None:
                job.store_embeddings(store, fingerprint, given)
            candidates = _usable(
                select_candidates(
                    protocol, items.identities, items.cameras, items.splits
                ),
                used,
            )
            pairs = _find_pairs(candidates, used, protocol, k, model.metric)
            plan = make_plan(pairs, batch_size, by_count=patches_field is None)
            layer, map_shape = job.explain(store, config, plan, pairs, used)
    except SfamError:
        # The work cannot be done as asked, so there is nothing to go on with later.
        store.delete()
        raise
    skipped, remainders = _collect(store, plan, pairs, items, used.skipped)
    store.put(
        TABLE,
        pack_table(pairs, _run_items(items, candidates), skipped, remainders),
        fingerprint=fingerprint,
    )
    config = replace(
        config,
        layer=layer,
        map_shape=map_shape,
        counts={
            "images": len(items),
            "queries": int(np.count_nonzero(pairs.rank == 1)),
            "pairs": len(pairs),
            "skipped": len(skipped),
            **count_outcomes(pairs),
        },
    )
    record_run(dataset, key, config)
    publish_fields(Run(dataset, key, config))
    for old_uid, _ in config.replaces:
        BlobStore(store.dataset_id, old_uid).delete()
    if keep_index is not None:
        keep_as_index(samples, items, used, model.metric, keep_index, patches_field)
    # Last of all: until then the same call finishes what was interrupted.
    record_run(dataset, key, replace(config, state=COMPLETE, replaces=()))
    return load_run(dataset, key)


class _Job:
    """The streaming half of a run: images in, shards out."""

    def __init__(
        self,
        dataset: fo.Dataset,
        items: Items,
        model: EmbeddingModel,
        batch_size: int,
        num_workers: int,
    ) -> None:
        self.dataset = dataset
        self.items = items
        self.model = model
        self.batch_size = batch_size
        self.num_workers = num_workers
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
            found = self.model.embed(_stack(good, self.model)).cpu().numpy()
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
        loaded = self._load_blocks([list(plan.images_of(number)) for number in todo])
        gaps: list[float] = []
        # What is gone on with was found to be right when it was begun.
        judged = len(todo) < plan.num_shards
        for number, block in zip(todo, loaded, strict=True):
            sides, image = plan.sides_of(number)
            arrays, block_gaps = self._explain_block(
                block, sides, image, pairs, embeddings, config
            )
            gaps += block_gaps
            if not judged and (len(gaps) >= _ENOUGH or number == todo[-1]):
                self._check_gaps(np.array(gaps), config.embeddings == COMPUTED)
                judged = True
            store.put(shard_name(number), arrays, fingerprint=config.fingerprint)
            done += len(block)
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
        block: list[Loaded[_Prepared]],
        sides: NDArray[np.int64],
        image: NDArray[np.int64],
        pairs: Pairs,
        embeddings: Embeddings,
        config: RunConfig,
    ) -> tuple[Arrays, list[float]]:
        """Explain all sides of one block of images.

        Returns the shard, and how far each recomputed embedding is from the one that
        retrieval used.
        """
        good, reasons = _split(block)
        place_of = {one.index: place for place, one in enumerate(block)}
        shard = _empty_shard(block, sides, image)
        if not good:
            return shard | {"reasons": _json_array(reasons)}, []
        head = self.model.linearize(_stack(good, self.model))
        gaps = self._gaps([one.index for one in good], head.embedding, embeddings)
        row_of = np.full(len(block), -1, dtype=np.int64)
        for row, (one, gap) in enumerate(zip(good, gaps, strict=True)):
            place = place_of[one.index]
            assert one.value is not None
            shard["crop"][place], shard["size"][place] = one.value.crop, one.value.size
            if gap <= MISMATCH:
                row_of[place] = row
            else:
                reasons[one.index] = (
                    "its stored embedding is not the one that the model gives now "
                    f"(1 - similarity {gap:.3g}); the file or its reading has changed."
                )
        chosen = np.flatnonzero(row_of[image] >= 0)
        others = pairs.sides()[sides[chosen] ^ 1]
        device = head.embedding.device
        result = attribute(
            head,
            torch.from_numpy(row_of[image[chosen]]).to(device),
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
            maps = np.zeros((len(sides), *shape[1:]), dtype=np.float32)
            maps[chosen] = getattr(result, kind).cpu().numpy()
            for part, values in pack_maps(maps, config.map_dtype).items():
                shard[f"{kind}_{part}"] = values
        return shard | {"reasons": _json_array(reasons)}, gaps.tolist()

    def _gaps(
        self, indices: list[int], recomputed: torch.Tensor, embeddings: Embeddings
    ) -> NDArray[np.float64]:
        """Return ``1 - similarity`` of recomputed embeddings with the ones in use."""
        found = recomputed.float().cpu().numpy().astype(np.float64)
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


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _check_options(
    kinds: Sequence[str], weights: str, map_dtype: str, batch_size: int, k: int
) -> None:
    """Refuse options that cannot be used, with what can be."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) != len(kinds):
        raise DataError(
            f"kinds is {list(kinds)!r}; choose from {', '.join(KINDS)}, each once."
        )
    if weights not in WEIGHTS:
        raise DataError(
            f"unknown weights {weights!r}; use one of {', '.join(WEIGHTS)}."
        )
    if map_dtype not in MAP_TYPES:
        raise DataError(
            f"unknown map_dtype {map_dtype!r}; use one of {', '.join(MAP_TYPES)}."
        )
    for name, value in (("batch_size", batch_size), ("k", k)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise DataError(f"{name} is {value!r}; a whole number from 1 is needed.")


def _check_existing(
    dataset: fo.Dataset, key: str, patches_field: str | None, overwrite: bool
) -> RunConfig | None:
    """Refuse a key that is not free; return the run whose place is taken."""
    check_key(dataset, key, patches_field)
    existing = run_config(dataset, key)
    if existing is not None and existing.state == COMPLETE and not overwrite:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' already; give overwrite=True to "
            "replace it, or another key."
        )
    return existing


def _replaced(
    existing: RunConfig | None, uid: str
) -> tuple[tuple[str, str | None], ...]:
    """List the runs whose place a run takes, one that was interrupted included."""
    if existing is None:
        return ()
    old = (*existing.replaces, (existing.uid, existing.patches_field))
    return tuple(one for one in old if one[0] != uid)


def _source_name(embeddings: str | NDArray[np.floating] | None) -> str:
    """Name where the embeddings come from, for the record."""
    if embeddings is None:
        return COMPUTED
    return embeddings if isinstance(embeddings, str) else "array"


def _workers(num_workers: int | None) -> int:
    """Choose how many threads read images."""
    if num_workers is None:
        return min(8, os.cpu_count() or 1)
    return max(0, num_workers)


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


def _find_pairs(
    candidates: Candidates,
    embeddings: Embeddings,
    protocol: Protocol,
    k: int,
    metric: str,
) -> Pairs:
    """Find the pairs that are to be explained."""
    neighbors = find_neighbors(embeddings.vectors, candidates, protocol, k, metric)
    pairs = make_pairs(neighbors, candidates)
    if len(pairs) == 0:
        raise DataError(
            "the protocol leaves no pair to compare: every gallery image is left out "
            "for every query; widen the view or relax the protocol."
        )
    return pairs


def _usable(candidates: Candidates, embeddings: Embeddings) -> Candidates:
    """Leave out the images without an embedding."""
    usable = embeddings.usable
    queries = candidates.queries[usable[candidates.queries]]
    gallery = candidates.gallery[usable[candidates.gallery]]
    for what, left in (("queries", queries), ("gallery images", gallery)):
        if len(left) == 0:
            raise DataError(
                f"none of the {what} has an embedding; the first reason: "
                f"{embeddings.skipped[0].reason}"
            )
    return replace(candidates, queries=queries, gallery=gallery)


def _similarities(
    one: NDArray[np.float64], other: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """Compare embeddings row by row with the metric's similarity."""
    products = (one * other).sum(axis=1)
    squares = np.square(one).sum(axis=1), np.square(other).sum(axis=1)
    if metric == "cosine":
        return products / np.sqrt(squares[0] * squares[1])
    return 2 * products / (squares[0] + squares[1])


def _empty_shard(
    block: list[Loaded[_Prepared]],
    sides: NDArray[np.int64],
    image: NDArray[np.int64],
) -> Arrays:
    """Return a shard in which nothing is explained yet."""
    return {
        "sides": sides,
        "image": image.astype(np.int32),
        "score": np.full(len(sides), np.nan, dtype=np.float32),
        "remainder": np.full(len(sides), np.nan, dtype=np.float32),
        "crop": np.zeros((len(block), 4), dtype=np.float32),
        "size": np.zeros((len(block), 2), dtype=np.int32),
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


def _collect(
    store: BlobStore,
    plan: Plan,
    pairs: Pairs,
    items: Items,
    skipped: tuple[Skipped, ...],
) -> tuple[list[Skipped], NDArray[np.float32]]:
    """Gather what the shards say of remainders and of images left out."""
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


def _run_items(items: Items, candidates: Candidates) -> RunItems:
    """Return the columns that a run keeps of its images."""
    roles = np.zeros((2, len(items)), dtype=bool)
    roles[0, candidates.queries] = True
    roles[1, candidates.gallery] = True
    return RunItems(
        np.array(items.sample_ids),
        None if items.label_ids is None else np.array(items.label_ids),
        tuple(items.identities),
        tuple(items.cameras),
        *roles,
    )


def _embedding_name(number: int) -> str:
    return f"embeddings-{number:06d}"


def _json_array(values: dict[int, str]) -> NDArray[np.uint8]:
    """Encode texts by index as an array."""
    text = json.dumps({str(index): reason for index, reason in values.items()})
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _versions() -> dict[str, str]:
    """Return the versions that a run records."""
    from fiftyone_sfam import __version__

    return {
        "fiftyone_sfam": __version__,
        "fiftyone": fo.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def _fingerprint(
    config: RunConfig,
    items: Items,
    given: Embeddings | None,
    model: EmbeddingModel,
    sample_input: NDArray[Any] | None,
) -> str:
    """Digest everything that determines a run's results, but the images' pixels.

    A preprocessing that is not described by a dataclass is known by what it makes of
    the first image.
    """
    digest = hashlib.sha256()
    facts: dict[str, Any] = {
        "config": {**vars(config), "layer": model.requested_layer},
        "output": [model._embedding_key, model._embedding_layer],
        "preprocess": repr(model.preprocess)
        if hasattr(model.preprocess, "__dataclass_fields__")
        else getattr(model.preprocess, "__qualname__", type(model.preprocess).__name__),
        "ids": items.ids,
        "identities": items.identities,
        "cameras": items.cameras,
        "splits": None
        if items.splits is None
        else [sorted(split) for split in items.splits],
        "boxes": None if items.boxes is None else items.boxes.tolist(),
        "files": [_file_facts(path) for path in items.filepaths],
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    if given is not None:
        digest.update(given.vectors.tobytes())
    if sample_input is not None:
        digest.update(sample_input.tobytes())
    return digest.hexdigest()


def _file_facts(filepath: str) -> tuple[str, int, int]:
    """Return what tells whether a file has changed."""
    try:
        status = os.stat(filepath)
    except OSError:
        return filepath, -1, -1
    return filepath, status.st_size, status.st_mtime_ns


def _resumable(dataset: fo.Dataset, key: str, fingerprint: str) -> str | None:
    """Find an interrupted run of the same work, which may be gone on with."""
    taken = set()
    for one in dataset.list_runs(method=METHOD):
        config = run_config(dataset, one)
        if config is not None and (one != key or config.state == COMPLETE):
            taken.add(config.uid)
    left = [
        uid
        for uid in unfinished_uids(str(dataset._doc.id), fingerprint)
        if uid not in taken
    ]
    return left[0] if left else None
