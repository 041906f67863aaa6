"""What the panel of pairs shows of a query or of two samples, without the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.maps import (
    CHANNEL,
    CLICK_NOTE,
    DIFFERENCE,
    EVIDENCE,
    LIVE,
    POINT,
    Share,
    ShownMaps,
    Wanted,
    item_receipt,
    kinds_of,
    live_maps,
    no_maps,
    stored_maps,
    thirds_receipt,
)
from fiftyone_sfam.app.pairs.pictures import (
    LARGE_BOX,
    MIDDLE_BOX,
    SMALL_BOX,
    Box,
    ImageFile,
    Look,
    Picture,
    draw,
    image_file,
)
from fiftyone_sfam.app.selected import selected_part
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.errors import DataError, ModelError, SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES, TRUE_MATCH
from fiftyone_sfam.runs.images import ItemImages, item_inputs
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live import LivePairs

STRIP = 10
"""Neighbors that the strip shows at once, beside the nearest true match."""

SELECTED_KINDS = ("sfam", EVIDENCE, DIFFERENCE, POINT)
"""Kinds of map that two images have on their own."""

Channels = NDArray[np.float32] | str
"""Importance of each channel for a pair, shape (C,), or why it is not known."""


@dataclass(frozen=True, kw_only=True)
class NeighborView:
    """One neighbor of the query."""

    pair: int  # index of the pair in the run
    place: int  # place among the query's pairs, from 0
    rank: int  # rank, from 1
    similarity: float  # of the pair
    outcome: str  # one of :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`
    identity: str | None  # its labels
    camera: str | None  # its labels
    best_true: bool  # whether it is the query's nearest true match
    thumbnail: Picture  # its image with its side's map


@dataclass(frozen=True)
class Missed:
    """The query beside its nearest true match, and why the two are apart."""

    rank: int  # rank of the true match
    similarity: float  # of the two
    identity: str | None  # its label
    query: Picture
    true: Picture  # the two images, with their difference maps where the model is there
    note: str | None  # why there are no difference maps


@dataclass(frozen=True, kw_only=True)
class PairView:
    """Two images with their maps, of a run or selected."""

    query: Picture  # the images
    neighbor: Picture  # the images
    shape: tuple[int, int]  # height and width of the maps
    similarity: float  # of the two
    distance: float  # of the two
    remainders: tuple[float | None, float | None]  # what evidence maps do not carry
    receipt: tuple[Share, ...]  # the similarity by regions of the first image
    maps: ShownMaps  # what is drawn, with its range and unit
    channels: Channels | None  # where it was asked for
    notes: tuple[str, ...]  # what has to be said


@dataclass(frozen=True, kw_only=True)
class QueryView(PairView):
    """One query with its neighbors, one of them chosen."""

    identity: str | None  # the query's labels
    camera: str | None  # the query's labels
    neighbors: tuple[NeighborView, ...]  # those of the strip, nearest first
    count: int  # all pairs of the query
    chosen: NeighborView  # the one that is shown large
    everything: bool  # whether the range is that of all pairs of the query
    margin: float | None  # how far the nearest true match is ahead of the chosen one
    missed: Missed | None  # where it was asked for, the true match that was missed


def view_query(
    run: Run,
    item: int,
    chosen: int,
    wanted: Wanted,
    look: Look | None = None,
    *,
    region_field: str | None = None,
    why: bool = False,
    channels: bool = False,
) -> QueryView:
    """Draw one query of a run beside its neighbors."""
    if wanted.kind not in (*kinds_of(run), CHANNEL):
        raise DataError(
            f"the run '{run.key}' has no '{wanted.kind}' maps; choose one of "
            f"{', '.join(kinds_of(run))}."
        )
    pairs = run.pairs.of_query(item)
    if len(pairs) == 0:
        raise DataError("this image is no query of the run.")
    look = look or Look()
    notes: list[str] = []
    query = _Query(run, item, pairs, min(max(chosen, 0), len(pairs) - 1))
    maps = query.maps(wanted, look.signed, notes)
    place, pair = query.shown.index(query.chosen), int(pairs[query.chosen])
    stored, drawn = query.stored[place], maps.pairs[place]
    receipt = query.receipt(region_field, notes)
    neighbors = tuple(
        query.neighbor(where, maps, look) for where in range(len(query.shown))
    )
    height, width = run.config.map_shape[1:]
    return QueryView(
        query=query.large(item, drawn.query, stored.query, maps, look),
        neighbor=query.large(
            query.item_of(place), drawn.gallery, stored.gallery, maps, look
        ),
        shape=(height, width),
        similarity=float(run.pairs.similarity[pair]),
        distance=float(run.pairs.distance[pair]),
        remainders=(
            stored.query.remainder if stored.query else None,
            stored.gallery.remainder if stored.gallery else None,
        ),
        receipt=receipt,
        maps=maps,
        channels=query.channels() if channels else None,
        notes=tuple(notes),
        identity=run.items.identities[item],
        camera=run.items.cameras[item],
        neighbors=neighbors,
        count=len(pairs),
        chosen=neighbors[place],
        everything=len(query.ranged) == len(pairs),
        margin=query.margin(),
        missed=query.missed(maps, look) if why else None,
    )


def view_selected(
    model: str | Run,
    files: tuple[ImageFile, ImageFile],
    wanted: Wanted,
    look: Look | None = None,
    *,
    channels: bool = False,
    read_inputs: ReadInputs | None = None,
) -> PairView:
    """Explain two images at once."""
    from fiftyone_sfam.app.pairs.live import live_pairs, live_pairs_of_run

    look = look or Look()
    if isinstance(model, str):
        live = live_pairs(model, files, read_inputs)
    else:
        live = live_pairs_of_run(model, files, read_inputs)
    if wanted.needs_click:
        maps = no_maps(1, wanted, look.signed)
    else:
        maps = live_maps(live, {0: 0}, 1, 0, wanted, look.signed)
    [(first, second)], [drawn] = live.explained(), maps.pairs
    return PairView(
        query=draw(files[0], drawn.query, maps, look, places=first.crop),
        neighbor=draw(files[1], drawn.gallery, maps, look, places=second.crop),
        shape=live.map_shape,
        similarity=float(live.scores[0]),
        distance=float(live.distances[0]),
        remainders=(first.remainder, second.remainder),
        receipt=thirds_receipt(first.maps[EVIDENCE], first.score),
        maps=maps,
        channels=live.importance(0) if channels else None,
        notes=(CLICK_NOTE,) if wanted.needs_click else (),
    )


def selected_file(ctx: foo.ExecutionContext, sample_id: str) -> ImageFile:
    """Find the image of a selected sample, or of a selected patch of one."""
    return image_file(*selected_part(ctx, sample_id))


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


class _Query:
    """A query, the pairs of it that are shown, and their images."""

    def __init__(
        self, run: Run, item: int, pairs: NDArray[np.int64], chosen: int
    ) -> None:
        self._run, self._item, self._pairs = run, item, pairs
        self.chosen = chosen
        true = np.flatnonzero(run.pairs.outcome[pairs] == TRUE_MATCH)
        self.true = int(true[0]) if len(true) else None
        # The true match beyond k is the last of the pairs, in no block of neighbors.
        near = int(np.count_nonzero(run.pairs.rank[pairs] <= run.config.k))
        first = chosen // STRIP * STRIP if chosen < near else 0
        extra = [place for place in (self.true, chosen) if place is not None]
        self.shown = _places(near, first, extra)
        self.ranged = _places(near, 0, [] if self.true is None else [self.true])
        read = tuple(sorted({*self.shown, *self.ranged}))
        found = _stored_maps(run, tuple(int(pairs[place]) for place in read))
        self._maps = dict(zip(read, found, strict=True))
        self.stored = [self._maps[place] for place in self.shown]
        others = [int(other) for other in run.pairs.gallery[pairs[self.shown]]]
        self._images = ItemImages(run, [item, *others])

    def item_of(self, place: int) -> int:
        """Return the neighbor at a place of those that are shown."""
        return int(self._run.pairs.gallery[self._pairs[self.shown[place]]])

    def maps(self, wanted: Wanted, signed: bool, notes: list[str]) -> ShownMaps:
        """Find the maps of the shown pairs, or say why there are none."""
        try:
            if wanted.needs_click:
                raise DataError(CLICK_NOTE)
            if wanted.kind in LIVE:
                return self._live_maps(wanted, signed, notes)
            # The range is that of the nearest neighbors, whatever block is shown.
            places = [*self.shown, *(p for p in self.ranged if p not in self.shown)]
            return stored_maps(
                [self._maps[place] for place in places],
                [places.index(place) for place in self.ranged],
                wanted,
                signed,
                None if self.true is None else places.index(self.true),
            )
        except (DataError, ModelError) as error:
            notes.append(str(error))
            return no_maps(len(self.shown), wanted, signed)

    def _live_maps(self, wanted: Wanted, signed: bool, notes: list[str]) -> ShownMaps:
        from fiftyone_sfam.app.pairs.live import score_problem

        (live, places), place = self.live(), self.shown.index(self.chosen)
        if place in places:
            stored = float(self._run.pairs.similarity[self._pairs[self.chosen]])
            problem = score_problem(stored, float(live.scores[places[place]]))
            if problem:
                notes.append(problem)
        return live_maps(live, places, len(self.shown), place, wanted, signed)

    def live(self) -> tuple[LivePairs, dict[int, int]]:
        """Run the model on the query and the shown neighbors that can be read.

        Return what it was run on, and the number of the neighbor at each place.
        """
        from fiftyone_sfam.app.pairs.live import live_pairs_of_run

        files, items, places = [self._file(self._item)], [self._item], {}
        for place in range(len(self.shown)):
            if self.stored[place].gallery is None:
                continue
            try:
                files.append(self._file(self.item_of(place)))
            except DataError:
                # Its own caption says so.
                continue
            places[place] = len(items) - 1
            items.append(self.item_of(place))
        if not places:
            raise DataError("none of the neighbors' images can be read.")
        read_inputs = partial(item_inputs, self._run, items)
        return live_pairs_of_run(self._run, tuple(files), read_inputs), places

    def channels(self) -> Channels:
        """Return how important each channel is for the chosen pair, or why not."""
        try:
            (live, places), place = self.live(), self.shown.index(self.chosen)
            if place not in places:
                raise DataError("the neighbor's image cannot be read.")
            return live.importance(places[place])
        except SfamError as error:
            return str(error)

    def large(
        self,
        item: int,
        side: SideMaps | None,
        stored: SideMaps | None,
        maps: ShownMaps,
        look: Look,
    ) -> Picture:
        """Draw one of the two large images."""
        problem = self._reason(item) if stored is None else None
        places = None if stored is None else stored.crop
        return self._picture(item, side, maps, look, LARGE_BOX, problem, places)

    def neighbor(self, place: int, maps: ShownMaps, look: Look) -> NeighborView:
        """Describe one neighbor of the strip."""
        pairs, items = self._run.pairs, self._run.items
        pair, item = int(self._pairs[self.shown[place]]), self.item_of(place)
        problem = self._reason(item) if self.stored[place].gallery is None else None
        return NeighborView(
            pair=pair,
            place=self.shown[place],
            rank=int(pairs.rank[pair]),
            similarity=float(pairs.similarity[pair]),
            outcome=OUTCOMES[pairs.outcome[pair]],
            identity=items.identities[item],
            camera=items.cameras[item],
            best_true=self.shown[place] == self.true,
            thumbnail=self._picture(
                item, maps.pairs[place].gallery, maps, look, SMALL_BOX, problem
            ),
        )

    def receipt(self, field: str | None, notes: list[str]) -> tuple[Share, ...]:
        """Split the chosen pair's similarity; by thirds where regions are missing."""
        side = self._maps[self.chosen].query
        try:
            return item_receipt(self._run, self._item, side, field)
        except DataError as error:
            text = str(error)
            notes.append(
                f"{text[:1].upper()}{text[1:]} The receipt is by thirds instead."
            )
            return item_receipt(self._run, self._item, side, None)

    def margin(self) -> float | None:
        """Return how far the nearest true match is ahead of the chosen neighbor."""
        if self.true is None:
            return None
        similarity = self._run.pairs.similarity[self._pairs]
        return float(similarity[self.true] - similarity[self.chosen])

    def missed(self, maps: ShownMaps, look: Look) -> Missed | None:
        """Draw the query beside its nearest true match."""
        if self.true is None:
            return None
        pair, place = int(self._pairs[self.true]), self.shown.index(self.true)
        note, wanted = None, Wanted(DIFFERENCE)
        try:
            live, places = self.live()
            apart = live_maps(live, places, len(self.shown), place, wanted, True)
        except SfamError as error:
            note, apart = str(error), no_maps(len(self.shown), wanted, True)
        # The colors of one-sided maps have no middle.
        look = replace(look, colors=look.colors if maps.signed else None)
        item, drawn = self.item_of(place), apart.pairs[place]
        return Missed(
            int(self._run.pairs.rank[pair]),
            float(self._run.pairs.similarity[pair]),
            self._run.items.identities[item],
            self._picture(self._item, drawn.query, apart, look, MIDDLE_BOX),
            self._picture(item, drawn.gallery, apart, look, MIDDLE_BOX),
            note,
        )

    def _picture(
        self,
        item: int,
        side: SideMaps | None,
        maps: ShownMaps,
        look: Look,
        box: tuple[int, int],
        problem: str | None = None,
        places: Box | None = None,
    ) -> Picture:
        """Draw an item with its map; without its image, say why."""
        try:
            file = self._file(item)
            return draw(file, side, maps, look, box, problem=problem, places=places)
        except DataError as error:
            values = None if side is None else side.maps[maps.kind]
            return Picture("", *box, str(error), values)

    def _file(self, item: int) -> ImageFile:
        return image_file(*self._images.source(item))

    def _reason(self, item: int) -> str:
        reasons = (image.reason for image in self._run.skipped if image.index == item)
        return next(reasons, "there is no map of this image.")


@lru_cache(maxsize=8)
def _stored_maps(run: Run, pairs: tuple[int, ...]) -> tuple[PairMaps, ...]:
    # Steps from neighbor to neighbor, and other colors, read nothing anew.
    return tuple(run.many_maps(pairs))


def _places(count: int, first: int, extra: Sequence[int]) -> list[int]:
    """Return the places of a block of neighbors, and of those shown in any case."""
    return sorted({*range(first, min(first + STRIP, count)), *extra})
