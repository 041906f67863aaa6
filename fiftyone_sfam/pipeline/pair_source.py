"""Where the pairs of a run come from: a search, or a list that the user gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.image_names import NOT_FOUND, ImageNames, find_images
from fiftyone_sfam.data.items import Items, values_of_ids
from fiftyone_sfam.data.pair_list import PairList
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import file_name
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.passes import candidates_of, find_pairs
from fiftyone_sfam.retrieval.given import GivenPairs, count_given, give_pairs
from fiftyone_sfam.retrieval.indexed import IndexSearch
from fiftyone_sfam.retrieval.matches import check_rules
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.run_config import LIST, RANKING, SEARCH

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.network.metric import Metric
    from fiftyone_sfam.pipeline.options import RunOptions
    from fiftyone_sfam.retrieval.embeddings import Embeddings


@dataclass(frozen=True, kw_only=True)
class Found:
    """The pairs to explain, and the images that take part."""

    pairs: Pairs
    queries: NDArray[np.integer]
    gallery: NDArray[np.integer]
    outcomes: dict[str, int]  # counts by outcome, see Run.summary
    given: GivenPairs | None = None


class PairSource(ABC):
    """Chooses the images of a run and finds its pairs."""

    protocol: Protocol
    k: int  # largest rank that the fields show
    name: str  # SEARCH, LIST or RANKING
    neighbors: str = "exact"  # or "index" if an index proposes them
    digest: str | None = None  # of a given list

    def choose(
        self, samples: SampleCollection, items: Items
    ) -> NDArray[np.integer] | None:
        """Return the items that the run needs; None for all."""
        return None

    def checked(self, items: Items) -> tuple[PairSource, tuple[str, ...]]:
        """Spell the protocol's values as the items do; return warnings about it."""
        return self, ()

    def index(
        self,
        samples: SampleCollection,
        items: Items,
        options: RunOptions,
        metric: Metric,
    ) -> IndexSearch | None:
        """Return the index that proposes neighbors; None if none does."""
        return None

    @abstractmethod
    def draw(
        self,
        items: Items,
        embedded: Callable[[NDArray[np.int64]], Embeddings],
        metric: Metric,
        count: int,
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Draw pairs of different queries before the run, shape (at most count, 2).

        ``embedded`` returns the embeddings of some items; all that are in the pairs are
        asked for.
        """

    @abstractmethod
    def find(
        self,
        items: Items,
        embeddings: Embeddings,
        metric: Metric,
        index: IndexSearch | None,
    ) -> Found:
        """Find the pairs of the chosen items."""


@dataclass(frozen=True)
class Searched(PairSource):
    """The nearest neighbors of every query."""

    protocol: Protocol
    k: int
    neighbors: str = "exact"
    name: str = SEARCH

    def checked(self, items: Items) -> tuple[PairSource, tuple[str, ...]]:
        """Check what the protocol leaves to compare."""
        protocol = items.resolve(self.protocol)
        warnings = check_rules(candidates_of(items, protocol), protocol)
        return replace(self, protocol=protocol), warnings

    def index(
        self,
        samples: SampleCollection,
        items: Items,
        options: RunOptions,
        metric: Metric,
    ) -> IndexSearch | None:
        """Open the similarity index of the embeddings."""
        if self.neighbors != "index":
            return None
        key = options.embeddings
        if not isinstance(key, str):
            raise DataError(
                "neighbors='index' takes the neighbors from a similarity index; "
                "give its brain key as embeddings."
            )
        return IndexSearch(samples, items, key, metric, options.patches_field)

    def draw(
        self,
        items: Items,
        embedded: Callable[[NDArray[np.int64]], Embeddings],
        metric: Metric,
        count: int,
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Draw queries, and search each one's nearest in a small gallery.

        It has two possible true matches of each query, and twice as many others.
        """
        candidates = candidates_of(items, self.protocol)
        generator = np.random.default_rng(seed)
        queries = generator.permutation(candidates.queries)[:count]
        gallery = generator.permutation(candidates.gallery)
        mates = [
            gallery[
                candidates.is_true_match(query, gallery)
                & ~candidates.left_out_pairs(query, gallery, self.protocol)
            ][:2]
            for query in queries
        ]
        chosen = np.unique(np.concatenate([queries, gallery[: 4 * count], *mates]))
        small, embeddings = items.take(chosen.tolist()), embedded(chosen)
        pairs, *_ = find_pairs(small, embeddings, self.protocol, 1, metric, None)
        first = pairs.rank == 1
        ends = (
            chosen[column[first]].tolist() for column in (pairs.query, pairs.gallery)
        )
        nearest = dict(zip(*ends, strict=True))
        found = [(q, nearest[q]) for q in queries.tolist() if q in nearest]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def find(
        self,
        items: Items,
        embeddings: Embeddings,
        metric: Metric,
        index: IndexSearch | None,
    ) -> Found:
        """Search the whole gallery, or what an index proposes."""
        pairs, candidates, outcomes = find_pairs(
            items, embeddings, self.protocol, self.k, metric, index
        )
        return Found(
            pairs=pairs,
            queries=candidates.queries,
            gallery=candidates.gallery,
            outcomes=outcomes,
        )


@dataclass
class Listed(PairSource):
    """The pairs of a list."""

    listed: PairList
    protocol: Protocol
    name_field: str | None = None
    k: int = field(init=False)
    name: str = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        listed = self.listed
        self.name = RANKING if listed.ranked else LIST
        self.k = int(max(1, listed.rank.max(initial=0)))
        digest = hashlib.sha256(repr((listed.query, listed.gallery)).encode())
        for column in (listed.label, listed.fold, listed.rank, listed.score):
            digest.update(column.tobytes())
        self.digest = digest.hexdigest()

    def choose(self, samples: SampleCollection, items: Items) -> NDArray[np.integer]:
        """Find the images that the list names."""
        images = ImageNames(items.ids, items.filepaths, self._names(samples, items))
        example = file_name(items.filepaths[0])
        found, self._reasons = find_images(self.listed, images, example)
        complete = found[(found != NOT_FOUND).all(axis=1)]
        chosen = np.unique(complete)
        place = np.full(len(items), NOT_FOUND, dtype=np.int32)
        place[chosen] = np.arange(len(chosen))
        self._rows = np.where(found == NOT_FOUND, NOT_FOUND, place[found])
        if not self.listed.ranked:
            # The longest list of a query.
            pairs = np.unique(complete, axis=0)
            self.k = int(np.unique(pairs[:, 0], return_counts=True)[1].max())
        return chosen

    def draw(
        self,
        items: Items,
        embedded: Callable[[NDArray[np.int64]], Embeddings],
        metric: Metric,
        count: int,
        seed: int = 0,
    ) -> NDArray[np.int64]:
        """Draw pairs of the list, one of each query."""
        pairs = self._rows[(self._rows != NOT_FOUND).all(axis=1)].astype(np.int64)
        pairs = np.random.default_rng(seed).permutation(pairs)
        _, first = np.unique(pairs[:, 0], return_index=True)
        pairs = pairs[np.sort(first)][:count]
        chosen = np.unique(pairs)
        usable = np.zeros(len(items), dtype=bool)
        usable[chosen] = embedded(chosen).usable
        return np.asarray(pairs[usable[pairs].all(axis=1)])

    def find(
        self,
        items: Items,
        embeddings: Embeddings,
        metric: Metric,
        index: IndexSearch | None,
    ) -> Found:
        """Take the pairs whose images have an embedding."""
        reasons = dict(self._reasons)
        without = {image.index: image for image in embeddings.skipped}
        for row, pair in enumerate(self._rows.tolist()):
            for item in pair:
                if item in without and row not in reasons:
                    image = without[item]
                    reasons[row] = f"'{file_name(image.filepath)}': {image.reason}"
        pairs, given = give_pairs(
            self.listed,
            self._rows.astype(np.int32),
            reasons,
            items.identities,
            embeddings.vectors,
            metric,
        )
        queries, gallery = np.unique(pairs.query), np.unique(pairs.gallery)
        return Found(
            pairs=pairs,
            queries=queries,
            gallery=gallery,
            outcomes=count_given(pairs, self.listed.ranked),
            given=given,
        )

    def _names(
        self, samples: SampleCollection, items: Items
    ) -> Sequence[str | None] | None:
        """Read the field that holds the list's names."""
        field_name = self.name_field
        if field_name is None:
            return None
        if samples.get_field(field_name) is None:
            raise DataError(
                f"'{samples._dataset.name}' has no field '{field_name}' with the names "
                "of the list's images; give another name_field, or leave it out."
            )
        values = values_of_ids(samples, "id", field_name)
        names = (values.get(sample_id) for sample_id in items.sample_ids)
        return [None if value is None else str(value) for value in names]
