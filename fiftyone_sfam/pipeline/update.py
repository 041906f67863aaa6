"""Update a run whose dataset has changed: what is stored of the same images is kept.

Neighbors are searched anew, and everything is published as by a new run. Only the
network is spared the images whose maps are stored already: those that are as they were,
and have the pairs of the run before. An image that has lost a pair is not spared: the
last bits of its maps depend on how many there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import Loaded
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.pipeline.head_cache import LinearizedImage
from fiftyone_sfam.pipeline.manage import file_facts
from fiftyone_sfam.pipeline.prepared import Prepared, split_readable, stack
from fiftyone_sfam.pipeline.shards import Embedded, empty_maps
from fiftyone_sfam.pipeline.streaming import ImageStream, MapTask, similarities
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.tolerance import tolerance_of
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.maps import paths_name
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import RunSettings
from fiftyone_sfam.runs.run_table import contributions_name, shard_name

_NEW = -1
# Settings that may differ, because neighbors are searched anew.
_FREE = ("k", "protocol", "neighbors", "contribution_dims")
_DIGEST_BYTES = 16


def digest_items(items: Items) -> NDArray[np.uint8]:
    """Digest what the maps of each item depend on but the network, shape (N, 16)."""
    digests = np.empty((len(items), _DIGEST_BYTES), dtype=np.uint8)
    for index, path in enumerate(items.filepaths):
        inputs = items.inputs or {}
        facts = [
            file_facts(path),
            None if items.boxes is None else items.boxes[index].tolist(),
            {name: values[index].tolist() for name, values in sorted(inputs.items())},
        ]
        digest = hashlib.sha256(json.dumps(facts).encode())
        digests[index] = np.frombuffer(digest.digest()[:_DIGEST_BYTES], dtype=np.uint8)
    return digests


@dataclass(frozen=True)
class Kept:
    """What a run has stored of the N images of the run that replaces it."""

    run: Run
    vectors: NDArray[np.float32]  # embeddings of the run's own images
    old: NDArray[np.int64]  # image of the run that each image was, or -1, shape (N,)


def kept_of(
    run: Run,
    settings: RunSettings,
    model_digest: str,
    items: Items,
    digests: NDArray[np.uint8],
    given: Embeddings | None,
) -> Kept:
    """Find the images of a run that are as they were."""
    _check_same(run, settings, model_digest)
    before = run.items.digests
    assert before is not None
    vectors = run.embeddings()
    old = np.array([run.items.index(item) for item in items.ids], dtype=np.int64)
    same = old != _NEW
    same &= (before[old] == digests).all(axis=1)
    # What could not be used is tried again.
    same &= ~np.isin(old, [image.index for image in run.skipped])
    if given is not None:
        fits = vectors.shape[1] == given.vectors.shape[1]
        same &= fits and (vectors[old] == given.vectors).all(axis=1)
    return Kept(run, vectors, np.where(same, old, _NEW))


def _check_same(run: Run, settings: RunSettings, model_digest: str) -> None:
    """Raise if a run was made in another way, so that nothing of it can be kept."""
    config = run.config
    if config.model_digest is None or run.items.digests is None:
        raise RunError(
            f"the run '{run.key}' was made by an earlier version, which did not store "
            "what an update needs; give overwrite=True instead of update=True, once."
        )
    other = [
        name
        for name, value in vars(settings).items()
        if name not in _FREE and value != getattr(config, name)
    ]
    if config.model_digest != model_digest and not other:
        other = ["layer, output or preprocessing of the model"]
    if other:
        raise RunError(
            f"the run '{run.key}' was made with other settings ({', '.join(other)}), "
            "so nothing of it can be kept; give overwrite=True instead of update=True."
        )


class UpdatingStream(ImageStream):
    """Runs the model over the images of which the maps are not stored yet."""

    def __init__(
        self,
        items: Items,
        model: EmbeddingModel,
        store: BlobStore,
        kept: Kept,
        **options: int,
    ) -> None:
        super().__init__(items, model, store, **options)
        self.kept = kept
        self._stored = lru_cache(8)(self._read_shard)
        self._sides_of_task: tuple[NDArray[np.int64], NDArray[np.bool_]] | None = None

    def _read_shard(self, number: int) -> Arrays:
        return self.kept.run.store.get(shard_name(number))

    def check_model(self) -> None:
        """Raise if the model gives an image that is kept another embedding now.

        Settings do not say everything: a preprocessing may be any function.
        """
        for index in np.flatnonzero(self.kept.old != _NEW).tolist():
            readable, _ = split_readable(next(self._load_blocks([[index]])))
            if not readable:
                continue
            vectors = self._model_of(readable).embed(stack(readable, self.model))
            before = self.kept.vectors[self.kept.old[[index]]].astype(np.float64)
            now = vectors.cpu().numpy().astype(np.float64)
            gap = 1 - similarities(now, before, self.model.metric)[0]
            tolerance = tolerance_of(self.kept.vectors)
            if not gap <= tolerance.gap:
                raise RunError(
                    f"model '{self.model.name}' gives {self.items.filepaths[index]} "
                    f"another embedding than in the run '{self.kept.run.key}' (1 - "
                    f"similarity {gap:.3g}, accepted {tolerance}), so nothing of the "
                    "run can be kept; give overwrite=True instead of update=True."
                )
            return

    # -- embeddings --------------------------------------------------------------------

    def _to_embed(self, number: int) -> Sequence[int]:
        return [i for i in self.block(number) if self.kept.old[i] == _NEW]

    def _embed_block(self, number: int, images: list[Loaded[Prepared]]) -> Embedded:
        """Embed the new images of a block, and add the embeddings that are kept."""
        new = super()._embed_block(number, images)
        old = self.kept.old[self.block(number)]
        is_new = old == _NEW
        if is_new.all():
            return new
        width = self.kept.vectors.shape[1]
        vectors = np.zeros((len(old), width), dtype=np.float32)
        vectors[~is_new] = self.kept.vectors[old[~is_new]]
        if new.vectors.shape[1]:
            vectors[is_new] = new.vectors
        return Embedded(number, vectors, new.reasons)

    # -- maps --------------------------------------------------------------------------

    def _batch(self, task: MapTask, number: int) -> tuple[list[int], list[int]]:
        """Return the images of a shard whose maps are not all stored."""
        images = task.plan.images_of(number)
        left = images[~self._sides(task)[1][images]].tolist()
        return left, left

    def _explain_block(
        self,
        images: dict[int, LinearizedImage],
        block: list[Loaded[Prepared]],
        number: int,
        task: MapTask,
    ) -> tuple[Arrays, list[Arrays]]:
        """Explain the other images of a shard, and add the maps that are kept."""
        shard, rows = super()._explain_block(images, block, number, task)
        old_sides, is_kept = self._sides(task)
        indices = task.plan.images_of(number)
        kept = np.flatnonzero(is_kept[indices])
        sides, image = task.plan.sides_of(number)
        here = np.flatnonzero(np.isin(image, kept))
        if len(here) == 0:
            return shard, rows
        reasons = shard.pop("reasons")
        gaps = np.zeros(len(indices))
        has_gap = shard["size"].any(axis=1)
        gaps[has_gap] = shard["gaps"]
        shards, places = self.kept.run.locate(old_sides[sides[here]])
        for old in np.unique(shards).tolist():
            at = shards == old
            stored = self._stored(old)
            self._copy(shard, stored, here[at], places[at], gaps)
        shard["gaps"] = gaps[shard["size"].any(axis=1)]
        if rows:
            self._copy_rows(shard, rows, indices, kept)
        return shard | {"reasons": reasons}, rows

    def _copy(
        self,
        shard: Arrays,
        stored: Arrays,
        here: NDArray[np.int64],
        there: NDArray[np.int64],
        gaps: NDArray[np.float64],
    ) -> None:
        """Copy sides ``there`` of a stored shard to the sides ``here`` of another."""
        for kind in self.kept.run.config.layer_kinds:
            for part in ("values", "scale"):
                name = f"{kind}_{part}"
                if name not in shard:
                    count = len(shard["score"])
                    shard[name] = empty_maps(count, stored[name], part)
                shard[name][here] = stored[name][there]
        for name in ("score", "remainder", "agreement"):
            if name in shard:
                shard[name][here] = stored[name][there]
        to, of = shard["image"][here], stored["image"][there]
        for name in ("crop", "size", "contribution_bytes"):
            if name in shard:
                shard[name][to] = stored[name][of]
        # There are gaps of the images that could be read.
        gaps[to] = stored["gaps"][np.cumsum(stored["size"].any(axis=1))[of] - 1]
        if not shard["map_shape"].any():
            shard["map_shape"], shard["layer"] = stored["map_shape"], stored["layer"]
        elif shard["layer"].tobytes() != stored["layer"].tobytes():
            raise RunError(
                f"the maps of the run '{self.kept.run.key}' are those of another layer "
                "than the model's; give overwrite=True instead of update=True."
            )

    def _kept_paths(self, task: MapTask, sides: NDArray[np.int64]) -> dict[int, Arrays]:
        """Read the maps along paths of sides of the run that is updated."""
        old = self._sides(task)[0][sides]
        kept = np.flatnonzero(old != _NEW)
        shards, places = self.kept.run.locate(old[kept])
        wanted: dict[int, tuple[str, int]] = {}
        for side, number, place in zip(sides[kept], shards, places, strict=True):
            row = int(self._stored(int(number))["path_row"][place])
            if row >= 0:
                wanted[int(side)] = paths_name(int(number)), row
        if not wanted:
            return {}
        rows = self.kept.run.store.get_rows(list(wanted.values()))
        return dict(zip(wanted, rows, strict=True))

    def _copy_rows(
        self,
        shard: Arrays,
        rows: list[Arrays],
        indices: NDArray[np.int32],
        kept: NDArray[np.int64],
    ) -> None:
        """Copy the contributions of images."""
        places = self.kept.run.items.places
        assert places is not None
        wanted = [
            (contributions_name(number), row)
            for number, row in places[self.kept.old[indices[kept]]].tolist()
        ]
        stored = self.kept.run.store.get_rows(wanted)
        for place, row in zip(kept.tolist(), stored, strict=True):
            rows[place] = row

    def _sides(self, task: MapTask) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return what :meth:`_old_sides` finds, once for all shards."""
        if self._sides_of_task is None:
            self._sides_of_task = self._old_sides(task)
        return self._sides_of_task

    def _old_sides(self, task: MapTask) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return which sides of the run the sides are, or -1, and the kept images."""
        run, old = self.kept.run, self.kept.old
        count = len(self.items)
        found = np.full(2 * len(task.pairs), _NEW, dtype=np.int64)
        if task.basis is None:  # the directions of a basis are those of all images
            items, others = _ends(task.pairs)
            keys = _keys(old[items], old[others], len(run.items))
            before = _keys(*_ends(run.pairs), len(run.items))
            mapped = np.flatnonzero(~np.isnan(run.remainders.reshape(-1)))
            mapped = mapped[np.argsort(before[mapped])]
            places = np.searchsorted(before[mapped], keys)
            places = np.minimum(places, len(mapped) - 1)
            known = (old[items] != _NEW) & (old[others] != _NEW)
            known &= before[mapped[places]] == keys
            found[known] = mapped[places[known]]
        sides = task.pairs.sides()
        now = np.bincount(sides, minlength=count)
        is_new = np.bincount(sides[found == _NEW], minlength=count) > 0
        before_count = np.bincount(run.pairs.sides(), minlength=len(run.items))
        return found, (now > 0) & ~is_new & (now == before_count[old])


def _ends(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image of each side, and the other image of its pair."""
    ends = pairs.sides().astype(np.int64).reshape(-1, 2)
    return ends.reshape(-1), ends[:, ::-1].reshape(-1)


def _keys(
    items: NDArray[np.int64], others: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Return numbers of sides, by their images and whose side they are."""
    roles = np.arange(len(items)) % 2
    return (items * count + others) * 2 + roles
