"""What a run knows of its own maps: their check on a sample of its pairs.

The figures are measured by :mod:`fiftyone_sfam.audit.faithfulness.sample`, or by the
full check of :func:`fiftyone_sfam.check_faithfulness`, and stored with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fiftyone_sfam.attribution.map_share import map_warnings
from fiftyone_sfam.runs.run_config import (
    COMPLETE,
    RunConfig,
    describe_field,
    record_run,
    run_config,
)

if TYPE_CHECKING:
    from fiftyone_sfam.runs.run import Run

Interval = tuple[float, float, float]
"""A figure and its 95 % interval."""

BETTER, WORSE, UNCERTAIN = "better", "no better", "uncertain"

ALIKE = 0.05
"""Share of the centre prior's margin that does not make a map better than it."""

FEWEST_QUERIES = 16
"""Queries below which a sample says nothing."""

PASSES_SHARE = 0.05
"""Share of a run's passes through the network that its check may take."""


@dataclass(frozen=True, kw_only=True)
class KindCheck:
    """How faithful the maps of one kind are.

    Attributes
    ----------
    kind : str
        The kind of map, as the run stores it.
    chance : tuple of float, or None
        Effect of the order of its pixels, relative to a random order. None if hiding
        whole images hardly changes the similarity.
    gain : tuple of float
        Margin of insertion over deletion, minus that of the centre prior.
    center : float
        Margin of the centre prior.
    """

    kind: str
    chance: Interval | None
    gain: Interval
    center: float

    @property
    def beside_center(self) -> Literal["better", "no better", "uncertain"]:
        """Compare with a blob in the middle of the image."""
        _, low, high = self.gain
        if low > 0:
            return "better"
        if high <= ALIKE * max(self.center, 0):
            return "no better"
        return "uncertain"


@dataclass(frozen=True, kw_only=True)
class MapCheck:
    """The check of the kinds of map that a run stores.

    Attributes
    ----------
    kinds : tuple of KindCheck
        In the order of the run; empty if the maps were not measured.
    pairs, queries : int
        Pairs that were masked, and their queries.
    best : str or None
        Stored kind whose maps are significantly better than those of the first kind.
    reason : str
        Why the maps were not measured, as a clause.
    """

    kinds: tuple[KindCheck, ...] = ()
    pairs: int = 0
    queries: int = 0
    best: str | None = None
    reason: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> MapCheck | None:
        """Restore a check from plain data; None if a run has none."""
        if stored is None:
            return None
        kinds = tuple(
            KindCheck(
                kind=of["kind"],
                chance=None if of["chance"] is None else _interval(of["chance"]),
                gain=_interval(of["gain"]),
                center=of["center"],
            )
            for of in stored["kinds"]
        )
        return cls(**{**stored, "kinds": kinds})

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        values = asdict(self)
        for kind in values["kinds"]:
            kind["gain"] = list(kind["gain"])
            kind["chance"] = kind["chance"] and list(kind["chance"])
        return {**values, "kinds": list(values["kinds"])}

    @property
    def first(self) -> KindCheck | None:
        """The kind that is shown first; None if nothing was measured."""
        return self.kinds[0] if self.kinds else None

    @property
    def is_caution(self) -> bool:
        """Whether the maps that are shown first are not to be trusted."""
        return self.first is not None and self.first.beside_center == WORSE

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        first = self.first
        if first is None:
            return (
                f"These maps were not measured: {self.reason}; "
                "check_faithfulness, or fiftyone-sfam faithfulness, measures them."
            )
        if first.chance is None:
            return (
                f"Maps of kind {first.kind} cannot be judged: hiding whole images "
                f"hardly lowers the similarity of these {self.pairs:,} pairs."
            )
        parts = [_chance_text(first.kind, first.chance), _center_text(first)]
        if first.beside_center == WORSE:
            parts.append("read them with care")
        if self.best is not None:
            parts.append(f"'{self.best}' is better here")
        elif first.beside_center == WORSE:
            parts.append("kinds='auto' measures whether another kind is better")
        return f"{'; '.join(parts)} ({self.pairs:,} pairs)."

    def note_of(self, kind: str) -> str:
        """Return what has to be said wherever maps of a kind are shown, or nothing."""
        for of in self.kinds:
            if of.kind == kind and of.beside_center == WORSE:
                return _center_text(of)
        return ""


def warnings_of_maps(config: RunConfig) -> tuple[str, ...]:
    """Return warnings about the maps of a whole run; empty if there are none."""
    scores = "similarity score (median of the first batch)"
    share, layer = config.share_on_map, config.layer
    check = MapCheck.of(config.map_check)
    cautions = (check.sentence,) if check is not None and check.is_caution else ()
    return (*map_warnings(share, layer, scores, config.fullest_layer), *cautions)


def heatmap_description(config: RunConfig) -> str:
    """Describe the field of a run's heatmaps."""
    kind, check = config.heatmap_kind, MapCheck.of(config.map_check)
    note = "" if check is None else check.note_of(kind)
    text = f"{kind} map towards the nearest neighbor; one range for the run"
    if config.patches_field is not None:
        text = f"{kind} maps of the detections in their boxes"
    return f"{text}; {note}" if note else text


def renew_check(run: Run, check: MapCheck) -> None:
    """Replace the check that is stored with a finished run."""
    config = run_config(run.dataset, run.key)
    if config is None or config.uid != run.config.uid or config.state != COMPLETE:
        return  # The run was replaced or deleted in the meantime.
    config = replace(config, map_check=check.to_dict())
    record_run(run.dataset, run.key, config)
    describe_field(run.dataset, run.key, heatmap_description(config))
    run.config = config


def _chance_text(kind: str, chance: Interval) -> str:
    value, low, high = chance
    interval = f"(95 % interval {low:.2f} to {high:.2f})"
    if low > 1:
        return (
            f"Maps of kind {kind} find what matters {value:.2f} x better than chance "
            f"{interval}"
        )
    if high < 1:
        return f"Maps of kind {kind} are worse than chance: {value:.2f} x {interval}"
    return (
        f"Maps of kind {kind} are not certainly better than chance: {value:.2f} x "
        f"{interval}"
    )


def _center_text(of: KindCheck) -> str:
    blob = "a blob in the middle of the image"
    if of.beside_center == BETTER:
        return f"better than {blob}"
    if of.beside_center == WORSE:
        return f"no better than {blob} on this model"
    return f"whether they are better than {blob} is not certain"


def _interval(values: Any) -> Interval:
    value, low, high = map(float, values)
    return value, low, high
