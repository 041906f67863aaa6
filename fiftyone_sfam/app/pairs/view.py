"""What the panel of pairs shows of one query: texts and pictures, without the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.live import live_pairs_of_run, score_problem
from fiftyone_sfam.app.pairs.maps import (
    CHANNEL,
    DIFFERENCE,
    LIVE,
    POINT,
    Live,
    MapSide,
    Share,
    ShownMaps,
    Wanted,
    item_receipt,
    kinds_of,
    live_maps,
    no_maps,
    stored_maps,
)
from fiftyone_sfam.app.pairs.pictures import (
    LARGE_BOX,
    MIDDLE_BOX,
    SMALL_BOX,
    ImageFile,
    ItemImages,
    Look,
    Picture,
    draw,
    no_picture,
)
from fiftyone_sfam.errors import DataError, ModelError, SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES, TRUE_MATCH
from fiftyone_sfam.runs.run import PairMaps, Run

STRIP = 10
"""Neighbors that the strip shows at once, beside the nearest true match."""


@dataclass(frozen=True)
class NeighborView:
    """One neighbor of the query."""

    pair: int  # index of the pair in the run
    place: int  # place among the query's pairs, from 0
    rank: int  # rank, from 1
    similarity: float  # of the pair
    distance: float  # of the pair
    outcome: str  # one of :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`
    identity: str | None  # its labels
    camera: str | None  # its labels
    sample_id: str  # its sample
    best_true: bool  # whether it is the query's nearest true match
    thumbnail: Picture  # its image with its side's map


@dataclass(frozen=True)
class Large:
    """An image of the chosen pair."""

    picture: Picture  # the image with its map
    side: MapSide | None  # the map, for its values beside the pointer
    places: tuple[float, float, float, float] | None
    shape: tuple[int, int]  # height and width of the maps


@dataclass(frozen=True)
class Missed:
    """The query beside its nearest true match, and why the two are apart."""

    rank: int  # rank of the true match
    similarity: float  # of the two
    identity: str | None  # its label
    query: Picture
    true: Picture  # the two images, with their difference maps where the model is there
    note: str | None  # why there are no difference maps


@dataclass(frozen=True)
class Channels:
    """How important each channel is for a pair."""

    importance: NDArray[np.float32] | None  # (C,)
    note: str | None = None  # why it is not known


@dataclass(frozen=True)
class QueryView:
    """One query with its neighbors, one of them chosen."""

    item: int  # the query, an index into the run's items
    sample_id: str  # its sample
    identity: str | None  # its labels
    camera: str | None  # its labels
    query: Large  # the two images of the chosen pair
    neighbor: Large  # the two images of the chosen pair
    neighbors: tuple[NeighborView, ...]  # those of the strip, nearest first
    count: int  # all pairs of the query
    chosen: NeighborView  # the one that is shown large
    maps: ShownMaps  # what is drawn, with its range and unit
    everything: bool
    remainders: tuple[float | None, float | None]
    receipt: tuple[Share, ...]
    margin: float | None
    missed: Missed | None  # where it was asked for, the true match that was missed
    channels: Channels | None
    notes: tuple[str, ...]


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
    query = _Query(run, item, pairs, min(max(chosen, 0), len(pairs) - 1))
    notes: list[str] = []
    maps = query.maps(wanted, look or Look(), notes)
    look = replace(look or Look(), signed=maps.signed)
    place = query.shown.index(query.chosen)
    receipt = query.receipt(region_field, notes)
    neighbors = tuple(
        query.neighbor(where, maps, look) for where in range(len(query.shown))
    )
    return QueryView(
        item,
        str(run.items.sample_ids[item]),
        run.items.identities[item],
        run.items.cameras[item],
        query.large(item, maps.query[place], query.stored[place].query, maps, look),
        query.large(
            query.item_of(place),
            maps.neighbors[place],
            query.stored[place].gallery,
            maps,
            look,
        ),
        neighbors,
        len(pairs),
        neighbors[place],
        maps,
        len(query.ranged) == len(pairs),
        query.remainders(),
        receipt,
        query.margin(),
        query.missed(maps, look) if why else None,
        query.channels() if channels else None,
        tuple(notes),
    )


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

    def maps(self, wanted: Wanted, look: Look, notes: list[str]) -> ShownMaps:
        """Find the maps of the shown pairs, or say why there are none."""
        try:
            if wanted.kind in LIVE:
                return self._live_maps(wanted, look, notes)
            # The range is that of the nearest neighbors, whatever block is shown.
            places = [*self.shown, *(p for p in self.ranged if p not in self.shown)]
            return stored_maps(
                [self._maps[place] for place in places],
                [places.index(place) for place in self.ranged],
                wanted,
                look.signed,
                None if self.true is None else places.index(self.true),
            )
        except (DataError, ModelError) as error:
            notes.append(str(error))
            return no_maps(len(self.shown), wanted, look.signed)

    def _live_maps(self, wanted: Wanted, look: Look, notes: list[str]) -> ShownMaps:
        if wanted.kind == POINT and wanted.spot is None:
            notes.append(
                "Click a place on either image: the other one shows what the place is "
                "matched with."
            )
            return no_maps(len(self.shown), wanted, look.signed)
        live, place = self.live(), self.shown.index(self.chosen)
        if place in live.places:
            stored = float(self._run.pairs.similarity[self._pairs[self.chosen]])
            now = float(live.pairs.scores[live.places[place]])
            problem = score_problem(stored, now)
            if problem:
                notes.append(problem)
        return live_maps(live, len(self.shown), place, wanted, look.signed)

    def live(self) -> Live:
        """Run the model on the query and the shown neighbors that can be read."""
        files, places = [self._images.file(self._item)], {}
        for place in range(len(self.shown)):
            if self.stored[place].gallery is None:
                continue
            try:
                file = self._images.file(self.item_of(place))
            except DataError:
                # Its own caption says so.
                continue
            places[place] = len(files) - 1
            files.append(file)
        if not places:
            raise DataError("none of the neighbors' images can be read.")
        return Live(live_pairs_of_run(self._run, tuple(files)), places)

    def channels(self) -> Channels:
        """Tell how important each channel is for the chosen pair."""
        try:
            live, place = self.live(), self.shown.index(self.chosen)
            if place not in live.places:
                raise DataError("the neighbor's image cannot be read.")
            return Channels(live.pairs.importance(live.places[place]))
        except SfamError as error:
            return Channels(None, str(error))

    def large(
        self,
        item: int,
        side: MapSide | None,
        stored: object,
        maps: ShownMaps,
        look: Look,
    ) -> Large:
        """Draw one of the two large images."""
        picture = self._picture(item, side, stored is None, maps.limit, look, LARGE_BOX)
        crop = getattr(stored, "crop", None)
        height, width = self._run.config.map_shape[1:]
        return Large(picture, side, crop if picture.url else None, (height, width))

    def neighbor(self, place: int, maps: ShownMaps, look: Look) -> NeighborView:
        """Describe one neighbor of the strip."""
        pairs, items = self._run.pairs, self._run.items
        pair, other = int(self._pairs[self.shown[place]]), self.item_of(place)
        missing = self.stored[place].gallery is None
        return NeighborView(
            pair,
            self.shown[place],
            int(pairs.rank[pair]),
            float(pairs.similarity[pair]),
            float(pairs.distance[pair]),
            OUTCOMES[pairs.outcome[pair]],
            items.identities[other],
            items.cameras[other],
            str(items.sample_ids[other]),
            self.shown[place] == self.true,
            self._picture(
                other, maps.neighbors[place], missing, maps.limit, look, SMALL_BOX
            ),
        )

    def remainders(self) -> tuple[float | None, float | None]:
        """Return the remainders of the chosen pair."""
        stored = self._maps[self.chosen]
        one, other = (
            None if side is None else side.remainder
            for side in (stored.query, stored.gallery)
        )
        return one, other

    def receipt(self, field: str | None, notes: list[str]) -> tuple[Share, ...]:
        """Split the chosen pair's similarity; by thirds where regions are missing."""
        side = self._maps[self.chosen].query
        try:
            return item_receipt(self._run, self._item, side, field)
        except DataError as error:
            notes.append(f"{_sentence(str(error))} The receipt is by thirds instead.")
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
        note, apart = None, no_maps(len(self.shown), Wanted(DIFFERENCE), True)
        try:
            live = self.live()
            apart = live_maps(
                live, len(self.shown), place, Wanted(DIFFERENCE), signed=True
            )
        except SfamError as error:
            note = str(error)
        # The colors of one-sided maps have no middle.
        look = replace(look, signed=True, colors=look.colors if maps.signed else None)
        other = self.item_of(place)
        return Missed(
            int(self._run.pairs.rank[pair]),
            float(self._run.pairs.similarity[pair]),
            self._run.items.identities[other],
            self._picture(
                self._item, apart.query[place], False, apart.limit, look, MIDDLE_BOX
            ),
            self._picture(
                other, apart.neighbors[place], False, apart.limit, look, MIDDLE_BOX
            ),
            note,
        )

    def _picture(
        self,
        item: int,
        side: MapSide | None,
        missing: bool,
        limit: float,
        look: Look,
        box: tuple[int, int],
    ) -> Picture:
        """Draw an item with its map; without image or stored maps, say why."""
        try:
            file: ImageFile = self._images.file(item)
        except DataError as error:
            return no_picture(str(error), box)
        problem = self._reason(item) if missing else None
        return draw(file, side, limit, look, box, problem)

    def _reason(self, item: int) -> str:
        for one in self._run.skipped:
            if one.index == item:
                return one.reason
        return "there is no map of this image."


@lru_cache(maxsize=8)
def _stored_maps(run: Run, pairs: tuple[int, ...]) -> tuple[PairMaps, ...]:
    # Steps from neighbor to neighbor, and other colors, read nothing anew.
    return tuple(run.many_maps(pairs))


def _places(count: int, first: int, extra: Sequence[int]) -> list[int]:
    """Return the places of a block of neighbors, and of those shown in any case."""
    return sorted({*range(first, min(first + STRIP, count)), *extra})


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
