"""What is selected or shown in the App, as the queries of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from bson import ObjectId
from fiftyone.core.patches import EvaluationPatchesView, PatchesView
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.places import item_of
from fiftyone_sfam.app.pairs.queue import ids_in_view, items_in_view
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

NEAREST, AMONG, SEARCH = "nearest", "among", "search"
PAIRS = {
    NEAREST: "each with its nearest neighbor",
    AMONG: "those of two of these",
    SEARCH: "the searched one with each of these",
}
"""Pairs that can be asked for, and their labels."""


@dataclass(frozen=True)
class These:
    """The samples or patches that a user means.

    Attributes
    ----------
    view : fo.DatasetView
        The selected ones, or else all that the App shows: the view, the sidebar's
        filters, and what is marked in the Embeddings panel.
    query : str, optional
        Id of the sample or patch that the view is sorted by similarity to.
    """

    view: fo.DatasetView
    query: str | None

    def __str__(self) -> str:
        """Say what they are."""
        unit = "patch" if _is_patches(self.view) else "sample"
        text = counted(len(self.view), unit, f"{unit}es" if unit == "patch" else None)
        return f"{text}, by similarity to one of them" if self.query else text

    @property
    def offered(self) -> tuple[str, ...]:
        """The choices of :data:`PAIRS` that make sense, the default first."""
        return (SEARCH, NEAREST, AMONG) if self.query else (NEAREST, AMONG)

    @property
    def patches_field(self) -> str | None:
        """The field of the detections; None for whole samples."""
        if isinstance(self.view, EvaluationPatchesView):
            return str(self.view.pred_field)
        if isinstance(self.view, PatchesView):
            return str(self.view.patches_field)
        return None

    def ids(self) -> list[str]:
        """Return the ids of the samples or detections, in the order of the view."""
        field = self.patches_field
        if field is not None and isinstance(self.view, EvaluationPatchesView):
            _, path = self.view._get_label_field_path(field, "id")
            return [str(one) for one in self.view.values(path, unwind=True)]
        return [str(one) for one in self.view.values("id")]

    def samples(self) -> fo.DatasetView:
        """Return them as a view of the dataset's samples, with no other detections."""
        dataset, field = self.view._root_dataset, self.patches_field
        if field is None:
            return dataset.select(self.ids(), ordered=True)
        return dataset.select_labels(ids=self.ids(), fields=field)

    def pairs_of(self, run: Run, which: str) -> NDArray[np.int64]:
        """Return the pairs of a run that are of these; see :data:`PAIRS`."""
        seen = ids_in_view(self.view)
        items = np.ones(len(run.items), bool)
        if seen is not None:
            items = items_in_view(run, seen)
        queries, gallery = items[run.pairs.query], items[run.pairs.gallery]
        if which == SEARCH:
            query = None if self.query is None else item_of(run, self.query)
            return np.flatnonzero((run.pairs.query == query) & gallery)
        if which == AMONG:
            return np.flatnonzero(queries & gallery)
        # Pairs of a list may have no ranks.
        return np.flatnonzero(queries & ((run.pairs.rank == 1) | (not run.ranked)))


def find_these(ctx: foo.ExecutionContext) -> These:
    """Return what is selected, or else shown, in the App; refuse nothing at all."""
    view, selected = ctx.view, list(ctx.selected or [])
    these = These(view.select(selected) if selected else view, _searched(view))
    if not len(these.view):
        raise DataError("nothing is selected or shown; choose another view.")
    return these


def _searched(view: fo.DatasetView) -> str | None:
    """Return the one sample or patch that a view is sorted by similarity to."""
    for stage in reversed(view._stages):
        if isinstance(stage, fo.SortBySimilarity):
            query = stage.query
            ids = [query] if isinstance(query, str) else query
            single = isinstance(ids, Sequence) and len(ids) == 1
            return ids[0] if single and ObjectId.is_valid(ids[0]) else None
    return None


def _is_patches(view: fo.DatasetView) -> bool:
    return isinstance(view, (PatchesView, EvaluationPatchesView))
