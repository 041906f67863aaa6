"""Runs: list them, load them, and read what they have stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.retrieval.pairs import (
    GALLERY,
    OUTCOMES,
    QUERY,
    TRUE_MATCH,
    WITH_MATCH,
    Pairs,
    recount_outcomes,
)
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.contributions import (
    BASIS,
    StoredPair,
    StoredTemplate,
    read_images,
    stored_pair_of,
    stored_template,
)
from fiftyone_sfam.runs.given import read_given
from fiftyone_sfam.runs.map_check import MapCheck, warnings_of_maps
from fiftyone_sfam.runs.maps import PairMaps, read_sides
from fiftyone_sfam.runs.results import ResultStore
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    LIST,
    METHOD,
    SEARCH,
    RunConfig,
    check_complete,
    run_config,
)
from fiftyone_sfam.runs.run_table import (
    BY_COUNT,
    BY_ITEM,
    PairParts,
    Plan,
    RunItems,
    RunTable,
    make_plan,
    read_embeddings,
    read_items,
    read_pairs,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.attribution.contributions import Contributions
    from fiftyone_sfam.retrieval.given import GivenPairs


class Run(NotebookResult):
    """A finished run of :func:`fiftyone_sfam.explain_retrieval`.

    :func:`load_run` and :func:`fiftyone_sfam.explain_retrieval` return one. Columns and
    maps are read from the database on first use.

    Attributes
    ----------
    dataset : fiftyone.Dataset
        Dataset of the run.
    key : str
        Key of the run.
    config : RunConfig
        Settings and figures of the run.
    """

    def __init__(
        self,
        dataset: fo.Dataset,
        key: str,
        config: RunConfig,
        table: RunTable | None = None,
    ) -> None:
        self.dataset = dataset
        self.key = key
        self.config = config
        if table is not None:
            self._pairs = table.pairs, table.remainders
            self._items = table.items, table.skipped
            self.plan = table.plan
            self.given = table.given

    def __repr__(self) -> str:
        return f"<Run '{self.key}' of '{self.dataset.name}': {self.summary()}>"

    # -- columns -----------------------------------------------------------------------

    @property
    def pairs(self) -> Pairs:
        """The pairs as columns."""
        return self._pairs[0]

    @property
    def items(self) -> RunItems:
        """The images or detections that the columns of the pairs refer to."""
        return self._items[0]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that could not be used, with the reasons."""
        return self._items[1]

    @property
    def remainders(self) -> NDArray[np.float32]:
        """Remainders of the query and the gallery side, shape (P, 2); NaN if none."""
        return self._pairs[1]

    @cached_property
    def given(self) -> GivenPairs | None:
        """The list that the pairs are from; None if they are nearest neighbors."""
        if self.config.pair_source == SEARCH:
            return None
        return read_given(self.store)

    @property
    def ranked(self) -> bool:
        """Whether ranks are those of a retrieval or a ranking, not of a list."""
        return self.config.pair_source != LIST

    @property
    def num_pairs(self) -> int:
        """Number of pairs; does not read them."""
        count = self.config.counts.get("pairs")
        return len(self.pairs) if count is None else count

    @cached_property
    def counts(self) -> dict[str, int]:
        """Numbers of images, pairs, and queries by outcome, see :meth:`summary`."""
        counts = dict(self.config.counts)
        if WITH_MATCH not in counts and self.ranked:
            # A run of an earlier version.
            labeled = [identity is not None for identity in self.items.identities]
            labeled = self.items.is_query & np.array(labeled, dtype=bool)
            counts |= recount_outcomes(self.pairs, labeled)
        return counts

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the protocol and about the maps; empty if there are none."""
        return (*self.config.protocol_warnings, *self.map_warnings)

    @property
    def map_warnings(self) -> tuple[str, ...]:
        """Warnings about the maps of the whole run; empty if there are none."""
        return warnings_of_maps(self.config)

    @property
    def map_check(self) -> MapCheck | None:
        """The check of the run's maps; None in runs of earlier versions."""
        return MapCheck.of(self.config.map_check)

    def summary(self) -> dict[str, Any]:
        """Summarize the run.

        Returns
        -------
        dict
            ``images``, ``queries``, ``pairs`` and ``skipped``: counts; the counts of
            queries by the outcome of their first neighbor, ``without match`` for those
            with an identity but without a true match to find, and ``with match`` for
            all those that have one (of a given list without ranks, counts of pairs by
            outcome); ``rank1``: share of true matches among the first neighbors of the
            latter, in [0, 1], None if there are none; if the pairs were given, ``rows``
            of the list and ``rows skipped``: counts; ``maps``: how faithful the maps
            are; ``chosen``: what was chosen by measurement; ``warnings``: list of str;
            and, if the run keeps contributions, ``contribution_bytes``: bytes per
            image, and ``contribution_agreement``: least and median correlation of the
            evidence from them with the evidence of the run.
        """
        summary: dict[str, Any] = dict(self.counts)
        compared = summary.get(WITH_MATCH)
        true_match = OUTCOMES[TRUE_MATCH]
        summary["rank1"] = summary[true_match] / compared if compared else None
        if self.map_check is not None:
            summary["maps"] = self.map_check.sentence
        if self.config.chosen is not None:
            summary["chosen"] = self.config.chosen["sentence"]
        summary["warnings"] = list(self.warnings)
        if self.config.contributions is not None:
            summary["contribution_bytes"] = self.config.contribution_bytes
            summary["contribution_agreement"] = self.config.contribution_agreement
        return summary

    def embeddings(self) -> NDArray[np.float32]:
        """Read the embeddings that the run compared.

        Returns
        -------
        ndarray of float32
            Shape (N, D), in the order of :attr:`items`; zeros for images without an
            embedding.

        Raises
        ------
        RunError
            If the run has no stored embeddings.
        """
        embeddings = read_embeddings(self.store)
        if embeddings is None:
            raise RunError(
                f"the run '{self.key}' has no stored embeddings; run "
                "explain_retrieval again with overwrite=True."
            )
        return embeddings

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
            Maps of both sides, at the resolution of the layer, or of the network's
            input for those along paths.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        return self.many_maps([pair])[0]

    def many_maps(
        self, pairs: Iterable[int], kinds: Sequence[str] | None = None
    ) -> list[PairMaps]:
        """Read the stored maps of several pairs, each shard once.

        Parameters
        ----------
        pairs : iterable of int
            Indices into the columns of :attr:`pairs`.
        kinds : sequence of str, optional
            Kinds of map to read. By default all that the run stores.

        Returns
        -------
        list of PairMaps
            In the order of ``pairs``.

        Raises
        ------
        RunError
            If there is no such pair.
        """
        chosen = np.array([int(pair) for pair in pairs], dtype=np.int64)
        self.check_pairs(chosen)
        sides = 2 * chosen[:, None] + np.array([QUERY, GALLERY])
        places = self.locate(sides.reshape(-1))
        maps = read_sides(self.store, *places, tuple(kinds or self.config.kinds))
        return [PairMaps(*both) for both in zip(maps[::2], maps[1::2], strict=True)]

    def check_pairs(self, pairs: Iterable[int]) -> None:
        """Raise if the run does not have all of some pairs."""
        count = self.num_pairs
        for pair in pairs:
            if not 0 <= pair < count:
                raise RunError(
                    f"the run '{self.key}' has {counted(count, 'pair')}, numbered "
                    f"from 0; there is no pair {pair}."
                )

    def locate(
        self, sides: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the maps of sides are stored, without reading all pairs.

        Parameters
        ----------
        sides : ndarray of int64
            Sides, shape (S,): side ``2 i`` is the query side of pair ``i``, and side
            ``2 i + 1`` is its gallery side.

        Returns
        -------
        shards, rows : ndarray of int64
            Shard of each side, and its row in the shard, shape (S,).
        """
        return (self._parts if self.config.part_pairs else self.plan).locate(sides)

    def to_pairs_dataset(
        self, selection: Iterable[int] | None = None, name: str | None = None
    ) -> fo.Dataset:
        """Make a grouped dataset with a group per pair.

        Parameters
        ----------
        selection : iterable of int or of bool, optional
            Indices of pairs, or a mask with one value per pair. By default all pairs.
        name : str, optional
            Name of the new dataset.

        Returns
        -------
        fiftyone.Dataset
            Slices ``query`` and ``neighbor``, each with the ``heatmap`` of its side.

        Raises
        ------
        RunError
            If the mask has the wrong length, or a dataset of that name exists.
        """
        from fiftyone_sfam.runs.pairs_dataset import make_pairs_dataset

        return make_pairs_dataset(self, selection, name)

    # -- contributions -----------------------------------------------------------------

    def contributions(self, item_id: str) -> Contributions:
        """Read the position contributions of an image or detection.

        Parameters
        ----------
        item_id : str
            Id of the sample, or of the detection if the run compared detections.

        Returns
        -------
        Contributions
            What each position of the image contributes to its embedding;
            :mod:`fiftyone_sfam.attribution.contributions` makes maps from them, also
            toward a template.

        Raises
        ------
        RunError
            If the run was made without ``contributions``, or has none of this image.
        """
        return read_images(self, [item_id])[0].contributions

    def explain_stored(
        self, query_id: str, gallery_id: str, *, impostor_id: str | None = None
    ) -> StoredPair:
        """Explain two images from stored contributions, without the model.

        Parameters
        ----------
        query_id, gallery_id : str
            Ids of any two images or detections of the run, a pair of it or not.
        impostor_id : str, optional
            Id of a third one: also explain why the query is more similar to the gallery
            image than to this one.

        Returns
        -------
        StoredPair
            Both sides' evidence, and more maps on request.

        Raises
        ------
        RunError
            If the run was made without ``contributions``, or has none of an image.
        """
        return stored_pair_of(self, query_id, gallery_id, impostor_id)

    def explain_template(
        self,
        probe_ids: str | Sequence[str],
        member_ids: Sequence[str],
        *,
        normalize_members: bool = True,
    ) -> StoredTemplate:
        """Explain a comparison with a template from stored contributions.

        Parameters
        ----------
        probe_ids : str or sequence of str
            Id of an image or detection of the run, or ids of a set.
        member_ids : sequence of str
            Ids of the images whose mean embedding is the template.
        normalize_members : bool
            Whether each embedding, of both sides, is divided by its length before the
            mean.

        Returns
        -------
        StoredTemplate
            The similarity, its share by image, and the evidence of all images.

        Raises
        ------
        DataError
            If the mean of a side has no length.
        RunError
            If a side has no images, or the run keeps no contributions of an image.
        """
        return stored_template(self, probe_ids, member_ids, normalize_members)

    @cached_property
    def contribution_basis(self) -> NDArray[np.float32] | None:
        """The directions that contributions are projected to; None if they are not."""
        if self.config.contribution_dims is None:
            return None
        return self.store.get(BASIS)["directions"]

    # -- storage -----------------------------------------------------------------------

    @cached_property
    def store(self) -> BlobStore:
        """The blobs of the run."""
        return BlobStore(str(self.dataset._doc.id), self.config.uid)

    @property
    def results(self) -> ResultStore:
        """The results of audits of the run."""
        return ResultStore(self.dataset, self.key, self.config.uid)

    @cached_property
    def plan(self) -> Plan:
        """The shard and row of each side's maps."""
        config = self.config
        order = config.order or (BY_ITEM if config.patches_field else BY_COUNT)
        also = None
        if config.contributions is not None and self.items.places is not None:
            also = np.flatnonzero(self.items.places[:, 0] >= 0)
        return make_plan(self.pairs, config.shard_images, order, also)

    @cached_property
    def _pairs(self) -> tuple[Pairs, NDArray[np.float32]]:
        size = self.config.part_pairs
        return read_pairs(self.store, self.num_pairs if size else 0, size)

    @cached_property
    def _items(self) -> tuple[RunItems, tuple[Skipped, ...]]:
        return read_items(self.store)

    @cached_property
    def _parts(self) -> PairParts:
        return PairParts(self.store, self.config.part_pairs)


def list_runs(samples: SampleCollection) -> list[str]:
    """List the keys of the finished runs of a dataset.

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
        The run; its columns and maps are read on first use.

    Raises
    ------
    RunError
        If there is no such run, or it was interrupted.
    """
    dataset = samples._root_dataset
    config = run_config(dataset, key)
    if config is None:
        known = ", ".join(f"'{name}'" for name in list_runs(dataset)) or "none"
        raise RunError(
            f"'{dataset.name}' has no explained run '{key}' (its runs: {known}); make "
            "one with explain_retrieval, or call dataset.reload() if another process "
            "has made it."
        )
    check_complete(dataset, key, config)
    return Run(dataset, key, config)
