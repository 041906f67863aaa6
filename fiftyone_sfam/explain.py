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
from collections.abc import Callable, Iterator, Sequence
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
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.publish import publish_fields
from fiftyone_sfam.records import Pairs, Plan, make_pairs, make_plan
from fiftyone_sfam.retrieval import Candidates, find_neighbors, select_candidates
from fiftyone_sfam.runs import (
    COMPLETE,
    PUBLISHING,
    TABLE,
    Run,
    RunConfig,
    RunItems,
    check_key,
    count_outcomes,
    delete_fields,
    list_runs,
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
Progress = Callable[[int, int, str], None]

COMPUTED = "computed"

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
    progress: Progress | None = None,
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
    progress : callable, optional
        Is called with the number of images done, their total, and the phase:
        ``"embedding"`` or ``"explaining"``.

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
    check_key(dataset, key, patches_field)
    existing = run_config(dataset, key)
    if existing is not None and existing.state == COMPLETE and not overwrite:
        raise RunError(
            f"'{dataset.name}' has a run '{key}' already; give overwrite=True to "
            "replace it, or another key."
        )
    if isinstance(model, str):
        from fiftyone_sfam.models import load_model

        model = load_model(model)
    items = collect_items(samples, protocol, patches_field)
    job = _Job(dataset, items, model, batch_size, _workers(num_workers), progress)

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
    fingerprint = _fingerprint(config, items, given, model)
    uid = _resumable(dataset, fingerprint) or uuid.uuid4().hex
    store = BlobStore(str(dataset._doc.id), uid)
    config = replace(config, uid=uid, fingerprint=fingerprint)
    try:
        used = given or job.embed(store, fingerprint)
        if given is not None:
            job.store_embeddings(store, fingerprint, given)
        candidates = _usable(
            select_candidates(protocol, items.identities, items.cameras, items.splits),
            used.usable,
        )
        neighbors = find_neighbors(used.vectors, candidates, protocol, k, model.metric)
        pairs = make_pairs(neighbors, candidates)
        if len(pairs) == 0:
            raise DataError(
                "the protocol leaves no pair to compare: every gallery image is left "
                "out for every query; widen the view or relax the protocol."
            )
        plan = make_plan(pairs, batch_size, by_count=patches_field is None)
        layer, map_shape = job.explain(store, config, plan, pairs, used)
    except SfamError:
        # The work cannot be done as asked, so there is nothing to go on with later.
        store.delete()
        raise
    if keep_index is not None:
        keep_as_index(samples, items, used, model.metric, keep_index, patches_field)
    skipped, remainders = _collect(store, plan, pairs, items, used.skipped)
    store.put(
        TABLE,
        pack_table(pairs, _run_items(items), skipped, remainders),
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
    record_run(dataset, key, replace(config, state=COMPLETE))
    if existing is not None and existing.uid != uid:
        if existing.patches_field != patches_field:
            delete_fields(dataset, key, existing.patches_field)
        BlobStore(store.dataset_id, existing.uid).delete()
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
        progress: Progress | None,
    ) -> None:
        self.dataset = dataset
        self.items = items
        self.model = model
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.progress = progress
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
            for one, row, reason in zip(good, found, check_usable(found)):
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
        first = len(todo) == plan.num_shards
        for number, block in zip(todo, loaded):
            sides, image = plan.sides_of(number)
            arrays = self._explain_block(
                block, sides, image, pairs, embeddings, config, first
            )
            store.put(shard_name(number), arrays, fingerprint=config.fingerprint)
            first = False
            done += len(block)
            self._report(min(done, total), total, "explaining")
        for number in shards:
            facts = store.get(shard_name(number))
            shape = tuple(int(v) for v in facts["map_shape"])
            if any(shape):
                layer = facts["layer"].tobytes().decode()
                return layer, shape  # type: ignore[return-value]
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
        first: bool,
    ) -> Arrays:
        """Explain all sides of one block of images."""
        good, reasons = _split(block)
        place_of = {one.index: place for place, one in enumerate(block)}
        shard = _empty_shard(block, sides, image)
        if not good:
            return shard | {"reasons": _json_array(reasons)}
        head = self.model.linearize(_stack(good, self.model))
        wrong = self._mismatches(
            [one.index for one in good],
            head.embedding,
            embeddings,
            config.embeddings == COMPUTED,
            first,
        )
        row_of = np.full(len(block), -1, dtype=np.int64)
        for row, one in enumerate(good):
            place = place_of[one.index]
            assert one.value is not None
            shard["crop"][place], shard["size"][place] = one.value.crop, one.value.size
            if one.index in wrong:
                reasons[one.index] = wrong[one.index]
            else:
                row_of[place] = row
        chosen = np.flatnonzero(row_of[image] >= 0)
        others = pairs.sides()[sides[chosen] ^ 1]
        device = head.embedding.device
        result = attribute(
            head,
            torch.from_numpy(row_of[image[chosen]]).to(device),
            torch.from_numpy(embeddings.vectors[others]).to(device),
            self.model.metric,
            config.weights,  # type: ignore[arg-type]
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
        return shard | {"reasons": _json_array(reasons)}

    def _mismatches(
        self,
        indices: list[int],
        recomputed: torch.Tensor,
        embeddings: Embeddings,
        own: bool,
        first: bool,
    ) -> dict[int, str]:
        """Find images whose embedding is not the one that retrieval used.

        Raises
        ------
        DataError
            If that is so for half of the first images: then the embeddings are
            another model's.
        """
        found = recomputed.float().cpu().numpy().astype(np.float64)
        stored = embeddings.vectors[indices].astype(np.float64)
        if found.shape[1] != stored.shape[1]:
            raise DataError(
                f"the stored embeddings have {stored.shape[1]} numbers, but those of "
                f"model '{self.model.name}' have {found.shape[1]}; they are another "
                "model's."
            )
        apart = 1 - _similarities(found, stored, self.model.metric)
        off = ~(apart <= MISMATCH)
        if first and off.mean() >= 0.5:
            what = (
                "the model gives other embeddings on a second pass; it is not "
                "deterministic"
                if own
                else "they were made by another model, other weights or another "
                "preprocessing; compute them again, or name the right model"
            )
            raise DataError(
                f"the stored embeddings do not match model '{self.model.name}': "
                f"{int(off.sum())} of the first {len(off)} recomputed ones differ "
                f"(median 1 - similarity {np.median(apart):.3g}, accepted "
                f"{MISMATCH:g}); {what}."
            )
        return {
            index: "its stored embedding is not the one that the model gives now "
            f"(1 - similarity {gap:.3g}); the file or its reading has changed."
            for index, gap, is_off in zip(indices, apart, off)
            if is_off
        }

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


def _usable(candidates: Candidates, usable: NDArray[np.bool_]) -> Candidates:
    """Leave out the images without an embedding."""
    return replace(
        candidates,
        queries=candidates.queries[usable[candidates.queries]],
        gallery=candidates.gallery[usable[candidates.gallery]],
    )


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


def _run_items(items: Items) -> RunItems:
    """Return the columns that a run keeps of its images."""
    return RunItems(
        np.array(items.sample_ids),
        None if items.label_ids is None else np.array(items.label_ids),
        tuple(items.identities),
        tuple(items.cameras),
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
) -> str:
    """Digest everything that determines a run's results, but the images' pixels."""
    digest = hashlib.sha256()
    facts: dict[str, Any] = {
        "config": {**vars(config), "layer": model.requested_layer},
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
    return digest.hexdigest()


def _file_facts(filepath: str) -> tuple[str, int, int]:
    """Return what tells whether a file has changed."""
    try:
        status = os.stat(filepath)
    except OSError:
        return filepath, -1, -1
    return filepath, status.st_size, status.st_mtime_ns


def _resumable(dataset: fo.Dataset, fingerprint: str) -> str | None:
    """Find an interrupted run of the same work, which may be gone on with."""
    finished = {
        config.uid
        for one in list_runs(dataset)
        if (config := run_config(dataset, one)) is not None
    }
    left = [
        uid
        for uid in unfinished_uids(str(dataset._doc.id), fingerprint)
        if uid not in finished
    ]
    return left[0] if left else None
