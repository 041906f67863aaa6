"""What a run leaves in a dataset, and the ways to list, read, rename and delete it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.map_share import map_warnings
from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.retrieval.pairs import GALLERY, QUERY, Pairs
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, unpack_maps
from fiftyone_sfam.runs.plan import BY_COUNT, BY_ITEM, Plan, make_plan
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    DELETING,
    METHOD,
    RunConfig,
    run_config,
)
from fiftyone_sfam.runs.run_table import (
    PairPart,
    RunItems,
    read_items,
    read_pairs,
    read_part,
    shard_name,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

# Parts of the table that a run keeps in memory.
_KEPT_PARTS = 16


@dataclass(frozen=True)
class SideMaps:
    """The stored maps of one side of a pair.

    Attributes
    ----------
    maps : dict of str to ndarray
        Signed map per kind, float32, shape (h, w).
    score : float
        Similarity as this side's forward pass gave it.
    remainder : float
        ``score`` minus the sum of the evidence; NaN if that was not computed.
    crop : tuple of float
        Relative left, top, right and bottom of what the network saw of the image (or
        of the detection's crop).
    size : tuple of int
        Width and height of the whole image, in pixels.
    """

    maps: dict[str, NDArray[np.float32]]
    score: float
    remainder: float
    crop: tuple[float, float, float, float]
    size: tuple[int, int]


@dataclass(frozen=True)
class PairMaps:
    """Both sides of a pair; None where the image could not be read."""

    query: SideMaps | None
    gallery: SideMaps | None


class Run:
    """A finished run of :func:`fiftyone_sfam.explain_retrieval`, read lazily.

    Get one from :func:`load_run`.

    Attributes
    ----------
    dataset : fiftyone.Dataset
        Dataset that it belongs to.
    key : str
        Its key.
    config : RunConfig
        How it was made.
    """

    def __init__(self, dataset: fo.Dataset, key: str, config: RunConfig) -> None:
        self.dataset = dataset
        self.key = key
        self.config = config
        self._parts: dict[int, PairPart] = {}

    def __repr__(self) -> str:
        return f"<Run '{self.key}' of '{self.dataset.name}': {self.summary()}>"

    # -- columns -----------------------------------------------------------------------

    @property
    def pairs(self) -> Pairs:
        """The pairs as columns."""
        return self._pairs[0]

    @property
    def items(self) -> RunItems:
        """The images that the pairs' columns refer to."""
        return self._items[0]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that could not be used, with the reasons."""
        return self._items[1]

    @property
    def remainders(self) -> NDArray[np.float32]:
        """Remainders of the query and the gallery side, shape (P, 2); NaN if none."""
        return self._pairs[1]

    @property
    def query_outcomes(self) -> NDArray[np.int8]:
        """Outcome of each query's first neighbor, in the order of the queries."""
        return self.pairs.outcome[self.pairs.rank == 1]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the maps of the whole run; empty if nothing is known."""
        config = self.config
        what = "similarity score (median of the first batch)"
        return map_warnings(config.share_on_map, config.layer, what)

    def summary(self) -> dict[str, Any]:
        """Summarize the run.

        Returns
        -------
        dict
            ``images``, ``queries``, ``pairs``, ``skipped``, the counts of rank-1
            outcomes, and ``rank1``: the share of true matches among the labeled
            queries' first neighbors (None without labels); and ``warnings``: a
            list of texts, empty if nothing is wrong with the maps.
        """
        counts = dict(self.config.counts)
        labeled = counts.get("true match", 0) + counts.get("false match", 0)
        counts_and_rate: dict[str, Any] = counts
        counts_and_rate["rank1"] = counts["true match"] / labeled if labeled else None
        counts_and_rate["warnings"] = list(self.warnings)
        return counts_and_rate

    def embeddings(self) -> NDArray[np.float32]:
        """Return the embeddings that the run compared.

        Returns
        -------
        ndarray of float32
            Shape (N, D), in the order of :attr:`items`; zeros for images without.
        """
        blocks: list[NDArray[np.float32]] = []
        while f"embeddings-{len(blocks):06d}" in self._names:
            name = f"embeddings-{len(blocks):06d}"
            blocks.append(self.store.get(name)["vectors"])
        if not blocks:
            raise RunError(
                f"the run '{self.key}' has no stored embeddings; run "
                "explain_retrieval again with overwrite=True."
            )
        # A block without any readable image has no width of its own.
        width = max(block.shape[1] for block in blocks)
        return np.concatenate(
            [
                block
                if block.shape[1]
                else np.zeros((len(block), width), dtype=np.float32)
                for block in blocks
            ]
        )

    # -- maps --------------------------------------------------------------------------

    def maps(self, pair: int) -> PairMaps:
        """Read the stored maps of a pair.

        Parameters
        ----------
        pair : int
            Index into the columns of :attr:`pairs`.

        Returns
        -------
        PairMaps
            Both sides, at the layer's own resolution.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        return self.many_maps([pair])[0]

    def many_maps(self, pairs: Iterable[int]) -> list[PairMaps]:
        """Read the stored maps of several pairs, each shard once.

        Parameters
        ----------
        pairs : iterable of int
            Indices into the columns of :attr:`pairs`.

        Returns
        -------
        list of PairMaps
            In the same order.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        chosen = np.array([int(pair) for pair in pairs], dtype=np.int64)
        count = self.num_pairs
        for pair in chosen[(chosen < 0) | (chosen >= count)]:
            raise RunError(
                f"the run '{self.key}' has {count} pairs, numbered from 0; there is no "
                f"pair {pair}."
            )
        sides = 2 * chosen[:, None] + np.array([QUERY, GALLERY])
        numbers, rows = self.locate(sides.reshape(-1))
        used = np.unique(numbers).tolist()
        blobs = self.store.get_many([shard_name(number) for number in used])
        found: dict[int, SideMaps | None] = {}
        for number, shard in zip(used, blobs, strict=True):
            for place in np.flatnonzero(numbers == number).tolist():
                found[place] = _read_side(shard, int(rows[place]), self.config.kinds)
        return [PairMaps(found[2 * at], found[2 * at + 1]) for at in range(len(chosen))]

    def locate(
        self, sides: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tell where the maps of some sides are, without reading all pairs.

        Parameters
        ----------
        sides : ndarray of int64
            Sides, as :meth:`Pairs.sides` numbers them, shape (S,).

        Returns
        -------
        shards, rows : ndarray of int64
            Shard of each, and its row in it, shape (S,).
        """
        size = self.config.part_pairs
        if not size:
            return self.plan.locate_many(sides)
        shards, rows = (np.empty(len(sides), dtype=np.int64) for _ in range(2))
        parts = sides // (2 * size)
        for number in np.unique(parts):
            part, here = self._part(int(number)), np.flatnonzero(parts == number)
            inside = sides[here] - 2 * size * int(number)
            shards[here] = part.shards.reshape(-1)[inside]
            rows[here] = part.rows.reshape(-1)[inside]
        return shards, rows

    def to_pairs_dataset(
        self, selection: Iterable[int] | None = None, name: str | None = None
    ) -> fo.Dataset:
        """Make a grouped dataset of pairs, see :func:`make_pairs_dataset`."""
        from fiftyone_sfam.runs.pairs_dataset import make_pairs_dataset

        return make_pairs_dataset(self, selection, name)

    # -- storage -----------------------------------------------------------------------

    @cached_property
    def store(self) -> BlobStore:
        """The run's blobs."""
        return BlobStore(str(self.dataset._doc.id), self.config.uid)

    @property
    def results(self) -> ResultStore:
        """What audits found out about the run."""
        return ResultStore(self.dataset, self.key, self.config.uid)

    @cached_property
    def plan(self) -> Plan:
        """Where the maps of each side are stored."""
        config = self.config
        order = config.order or (BY_ITEM if config.patches_field else BY_COUNT)
        return make_plan(self.pairs, config.shard_images, order)

    @cached_property
    def _names(self) -> set[str]:
        return self.store.names()

    @property
    def num_pairs(self) -> int:
        """Number of pairs, without reading them."""
        count = self.config.counts.get("pairs")
        return len(self.pairs) if count is None else count

    @cached_property
    def _pairs(self) -> tuple[Pairs, NDArray[np.float32]]:
        size = self.config.part_pairs
        return read_pairs(self.store, self.num_pairs if size else 0, size)

    @cached_property
    def _items(self) -> tuple[RunItems, tuple[Skipped, ...]]:
        return read_items(self.store)

    def _part(self, number: int) -> PairPart:
        """Read a part of the pairs; the last ones are kept."""
        if number not in self._parts:
            while len(self._parts) >= _KEPT_PARTS:
                self._parts.pop(next(iter(self._parts)))
            self._parts[number] = read_part(self.store, number)
        return self._parts[number]


# --------------------------------------------------------------------------------------
# Management
# --------------------------------------------------------------------------------------


def list_runs(samples: SampleCollection) -> list[str]:
    """List the keys of a dataset's finished runs.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.

    Returns
    -------
    list of str
        Keys, sorted.
    """
    dataset = samples._root_dataset
    return [
        key
        for key in dataset.list_runs(method=METHOD)
        if dataset.get_run_info(key).config.state == COMPLETE
    ]


def load_run(samples: SampleCollection, key: str) -> Run:
    """Load a run.

    Parameters
    ----------
    samples : fiftyone dataset or view
        The dataset.
    key : str
        Key of the run.

    Returns
    -------
    Run
        The run; its columns and maps are read when they are asked for.

    Raises
    ------
    RunError
        If there is no such run, or it was interrupted.
    """
    dataset = samples._root_dataset
    config = run_config(dataset, key)
    if config is None:
        known = ", ".join(f"'{one}'" for one in list_runs(dataset)) or "none"
        raise RunError(
            f"'{dataset.name}' has no explained run '{key}' (its runs: {known}); make "
            "one with explain_retrieval, or call dataset.reload() if another process "
            "has made it."
        )
    if config.state == DELETING:
        raise RunError(
            f"the run '{key}' of '{dataset.name}' was interrupted while it was "
            "deleted; delete it again."
        )
    if config.state != COMPLETE:
        raise RunError(
            f"the run '{key}' of '{dataset.name}' was interrupted while its fields "
            "were written; repeat explain_retrieval with the same settings to finish "
            "it, or delete it."
        )
    return Run(dataset, key, config)


def _read_side(shard: Arrays, row: int, kinds: tuple[str, ...]) -> SideMaps | None:
    """Read one side out of a shard; None if its image could not be read."""
    if np.isnan(shard["score"][row]):
        return None
    chosen = slice(row, row + 1)
    maps = {
        kind: unpack_maps(
            shard[f"{kind}_values"][chosen], shard[f"{kind}_scale"][chosen]
        )[0]
        for kind in kinds
    }
    image = shard["image"][row]
    left, top, right, bottom = (float(v) for v in shard["crop"][image])
    width, height = (int(v) for v in shard["size"][image])
    return SideMaps(
        maps,
        float(shard["score"][row]),
        float(shard["remainder"][row]),
        (left, top, right, bottom),
        (width, height),
    )
