"""What the panel of pairs is showing, as the App keeps it between two events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fiftyone_sfam.app.pairs.maps import CHANNEL, CONTRAST, POINT, SIGNED, Spot, Wanted
from fiftyone_sfam.app.pairs.pictures import Look
from fiftyone_sfam.app.pairs.queue import QueueSpec
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL
from fiftyone_sfam.review.verdicts import Verdict

OPACITIES = (0.0, 0.3, 0.6, 0.8, 1.0)
MOST_UNDONE = 20
"""Verdicts that can be taken back one after the other."""


@dataclass(frozen=True)
class Undo:
    """A verdict that can be taken back."""

    uid: str  # unique id of the run
    pair: int  # the pair
    previous: Verdict | None  # what there was before


@dataclass(frozen=True)
class PanelState:
    """What is shown, and what was chosen."""

    uid: str | None = None  # unique id of the run that the rest is about
    pair: int | None = None  # the pair of the run
    place: int = 0  # where the panel is in its queue, from 0: where the pair is, or was
    kind: str | None = None  # kind of map
    signed: bool = False  # show negative values too
    colors: str | None = None  # color map
    opacity: float = 0.6  # of the maps
    region: str | None = None  # field of the receipt's regions
    spot: Spot | None = None  # place that was clicked
    before: str | None = None  # kind of map that was shown before a place was clicked
    channels: bool = False  # whether the most important channels are listed
    channel: int | None = None  # channel whose activation is shown
    why: bool = False  # whether the missed true match is shown
    spec: QueueSpec = field(default_factory=QueueSpec)  # what the queue has
    filtering: bool = False  # whether the queue's conditions are shown
    in_view: bool = True  # whether the queue has only queries of the App's view
    handed: float | None = None
    known: float = 0.0  # when the last queue was made that was handed over and seen
    advance: bool = True  # whether a verdict turns to the next pair
    selected: tuple[str, ...] = ()
    model: str | None = None  # model that explains them where there is no run
    undo: tuple[Undo, ...] = ()  # verdicts that can be taken back, the last one last
    turn: int = 0
    step: int = 0  # number of events so far, which tells newer states from older ones

    @classmethod
    def from_dict(cls, values: Any) -> PanelState:
        """Read what came from the App; what makes no sense there is the default."""
        if not isinstance(values, Mapping):
            return cls()
        chosen: dict[str, Any] = {}
        for one in fields(cls):
            if one.name in values:
                value = _read(one.name, values[one.name])
                if value is not _NONSENSE:
                    chosen[one.name] = value
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def wanted(self, kind: str) -> Wanted:
        """Return which map is to be shown, of the kind where nothing else is chosen."""
        if self.channel is not None:
            return Wanted(CHANNEL, channel=self.channel)
        return Wanted(kind, spot=self.spot if kind == POINT else None)

    def look(self, kind: str) -> Look:
        """Return how maps of a kind are drawn."""
        palette = self.palette(kind)
        colors = self.colors if self.colors in palette else palette[0]
        return Look(self.opacity, self.signed, colors)

    def palette(self, kind: str) -> tuple[str, ...]:
        """Return the color maps that fit a kind of map."""
        return DIVERGING if self.signed or kind in SIGNED else SEQUENTIAL


def with_spot(state: PanelState, kind: str, spot: Spot) -> PanelState:
    """Show what a place is matched with, in place of the kind that is shown."""
    before = state.before if kind == POINT else kind
    return replace(state, kind=POINT, spot=spot, before=before, channel=None)


def without_spot(state: PanelState) -> PanelState:
    """Show again what was shown before a place was clicked."""
    if state.spot is None:
        return state
    kind = state.before if state.kind == POINT else state.kind
    return replace(state, spot=None, kind=kind, before=None)


def without_why(state: PanelState) -> PanelState:
    """Show again what was shown before the missed true match."""
    if not state.why:
        return state
    kind = state.before if state.kind == CONTRAST else state.kind
    return replace(state, why=False, kind=kind, before=None)


def of_run(state: PanelState, uid: str) -> PanelState:
    """Forget what is about another run: where one was in it, and what was clicked."""
    if state.uid == uid:
        return state
    state = replace(without_spot(without_why(state)), uid=uid)
    return replace(state, pair=None, place=0, handed=None, channel=None, selected=())


_NONSENSE = object()


def _read(name: str, value: Any) -> Any:
    """Read one value, or say that it makes no sense."""
    if name in ("spot", "spec", "undo", "selected"):
        return _READERS[name](value)
    default = PanelState.__dataclass_fields__[name].default
    if isinstance(default, bool):
        return value if isinstance(value, bool) else _NONSENSE
    if name in ("pair", "channel") and value is None:
        return None
    if name in ("pair", "channel", "place", "turn", "step"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and value >= 0 else _NONSENSE
    if name in ("opacity", "known", "handed"):
        return _read_number(name, value)
    return value if value is None or isinstance(value, str) else _NONSENSE


def _read_number(name: str, value: Any) -> Any:
    if name == "handed" and value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        return _NONSENSE
    return min(max(float(value), 0.0), 1.0) if name == "opacity" else float(value)


def _read_spot(value: Any) -> Any:
    if value is None:
        return None
    try:
        spot = Spot(value["side"], int(value["row"]), int(value["column"]))
    except (KeyError, TypeError, ValueError):
        return _NONSENSE
    return spot if spot.side in ("query", "neighbor") else _NONSENSE


def _read_spec(value: Any) -> Any:
    return QueueSpec.from_dict(value) if isinstance(value, Mapping) else _NONSENSE


def _read_undo(value: Any) -> Any:
    try:
        return tuple(
            Undo(
                str(one["uid"]),
                int(one["pair"]),
                None if one["previous"] is None else Verdict(**one["previous"]),
            )
            for one in value
        )
    except (KeyError, TypeError, ValueError):
        return _NONSENSE


def _read_selected(value: Any) -> Any:
    ids = isinstance(value, (list, tuple)) and all(isinstance(i, str) for i in value)
    return tuple(value) if ids and len(value) in (0, 2) else _NONSENSE


_READERS = {
    "spot": _read_spot,
    "spec": _read_spec,
    "undo": _read_undo,
    "selected": _read_selected,
}
