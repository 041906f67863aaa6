"""Identities and cameras whose matches rest on a region more than the rest do.

A network that has learned to know some people by the wall behind them shows it in its
maps: in the pairs of these people the background carries more of the score than in
comparable pairs of others. What is compared with what, and how little support is dealt
with, is told in :mod:`fiftyone_sfam.audit.regions.shortcut_scores`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.audit.regions.ledger import (
    EVIDENCE,
    Ledger,
    build_ledger,
    check_evidence,
    load_ledger,
)
from fiftyone_sfam.audit.regions.ledger_cells import CAMERAS
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.regions.shortcut_scores import GroupScores, score_groups
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

RESULT = "shortcuts"
"""Name of the stored result."""

Kind = Literal["identity", "camera", "camera pair"]
KINDS: tuple[Kind, ...] = ("identity", "camera", "camera pair")
"""What can have a shortcut."""

TOP = 20
_PARTNERS = 3
_ARRAYS = ("pairs", "items", "evidence", "rest_evidence")


@dataclass(frozen=True)
class Shortcut:
    """A group of images whose matches rest on a region more than comparable ones."""

    kind: Kind  # what the images have in common
    value: str  # the identity, the camera, or the two cameras (query-neighbor)
    region: str  # the region
    share: float
    expected: float
    excess: float  # share - expected
    effect: float
    low: float
    high: float
    area: float
    rest_area: float
    images: int  # images of the group
    partners: tuple[tuple[str, int], ...]
    pairs: NDArray[np.int64]  # the pairs of the run that the images take part in
    items: NDArray[np.int64]  # the images, indices into the run's items
    evidence: NDArray[np.float32]  # (h, w)
    rest_evidence: NDArray[np.float32]  # (h, w)

    @property
    def sentence(self) -> str:
        """The finding in words."""
        low, high = (f"{100 * end:+.0f}" for end in (self.low, self.high))
        text = (
            f"{self.kind} {self.value}: {self.region} carries {percent(self.share, 0)} "
            f"of the score of its matches, {percent(self.expected, 0)} in comparable "
            f"matches of others ({100 * self.effect:+.0f} points, 95 % interval {low} "
            f"to {high}, from {self.images} images); it covers "
            f"{percent(self.area, 0)} of its images and {percent(self.rest_area, 0)} "
            "of the others"
        )
        if self.partners:
            named = ", ".join(f"{name} ({count})" for name, count in self.partners)
            text += f"; false matches are mostly with {named}"
        return text + "."


@dataclass(frozen=True)
class Shortcuts:
    """The shortcuts of a run.

    Attributes
    ----------
    field : str or None
        Field that the regions come from; None for stripes.
    regions : tuple of str
        The regions that were looked at.
    groups : dict of str to int
        Groups that were looked at, by kind.
    found : tuple of Shortcut
        Those whose interval lies above zero, strongest first.
    """

    field: str | None
    regions: tuple[str, ...]
    groups: dict[str, int]
    found: tuple[Shortcut, ...]

    def __len__(self) -> int:
        return len(self.found)


def find_shortcuts(
    run: Run,
    ledger: Ledger | None = None,
    *,
    regions: Sequence[str] | None = None,
    kinds: Sequence[Kind] = ("identity", "camera"),
    top: int = TOP,
    save: bool = True,
) -> Shortcuts:
    """Find groups whose matches rest on a region more than the rest do.

    Pairs are compared within their outcome: true matches with true matches, false ones
    with false ones. Both sides count, each for its own image. Pairs without a positive
    similarity are left out: nothing is shared there.

    Parameters
    ----------
    run : Run
        The run.
    ledger : Ledger, optional
        Its ledger; None takes the stored one, or makes one of the first field that
        divides images into regions.
    regions : sequence of str, optional
        Regions to look at; None looks at the background, or at all regions where there
        is none.
    kinds : sequence of {"identity", "camera", "camera pair"}
        Groups to look at.
    top : int
        Most shortcuts to keep.
    save : bool
        Store them as the run's result ``"shortcuts"``.

    Returns
    -------
    Shortcuts
        Ranked.

    Raises
    ------
    RunError
        If the run stores no evidence maps.
    DataError
        If a region or a kind is unknown.
    """
    check_evidence(run)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise DataError(f"kinds is {list(kinds)!r}; choose from {', '.join(KINDS)}.")
    ledger = ledger or load_ledger(run) or _new_ledger(run)
    if regions is None:
        regions = (BACKGROUND,) if BACKGROUND in ledger.regions else ledger.regions
    columns = [ledger.column(region) for region in regions]
    rows = _Rows(run, ledger)
    counts: dict[str, int] = {}
    found: list[tuple[float, Shortcut, NDArray[np.int64]]] = []
    for kind in dict.fromkeys(kinds):
        names, codes = rows.groups(kind)
        counts[kind] = len(names)
        for column in columns:
            scores = rows.score(codes, len(names), column)
            for group in scores.ranking()[:top].tolist():
                members = np.flatnonzero((codes == group) & rows.usable(column))
                one = rows.describe(kind, names[group], scores, group, column, members)
                found.append((one.low, one, members))
    found.sort(key=lambda one: -one[0])
    kept = found[:top]
    maps = _average_maps(run, rows, [members for _, _, members in kept])
    shortcuts = Shortcuts(
        ledger.field,
        tuple(regions),
        counts,
        tuple(
            replace(one, evidence=own, rest_evidence=rest)
            for (_, one, _), (own, rest) in zip(kept, maps, strict=True)
        ),
    )
    if save:
        _save(run, shortcuts)
    return shortcuts


def load_shortcuts(run: Run) -> Shortcuts | None:
    """Read the stored shortcuts of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Shortcuts or None
        None if they were never looked for.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    config = result.config
    found = []
    for number, values in enumerate(config["found"]):
        values.pop("sentence")
        values["partners"] = tuple((name, count) for name, count in values["partners"])
        values |= {name: result.arrays[f"{name}_{number}"] for name in _ARRAYS}
        found.append(Shortcut(**values))
    return Shortcuts(
        config["field"], tuple(config["regions"]), config["groups"], tuple(found)
    )


# --------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------


class _Rows:
    """The sides of a ledger's pairs as rows: row ``2 i`` is pair ``i``'s query side."""

    def __init__(self, run: Run, ledger: Ledger) -> None:
        self._run = run
        self._ledger = ledger
        self.sides = (2 * ledger.pairs[:, None] + np.arange(2)).reshape(-1)
        self.images = np.stack([ledger.query, ledger.gallery], axis=1).reshape(-1)
        self.partners = np.stack([ledger.gallery, ledger.query], axis=1).reshape(-1)
        self.strata = np.repeat(ledger.outcome, 2).astype(np.int64)
        self._scores = np.repeat(ledger.score, 2)
        self._shares = ledger.shares.reshape(-1, len(ledger.regions))

    def groups(self, kind: Kind) -> tuple[list[str], NDArray[np.int64]]:
        """Return the names of the groups of a kind and each row's group, or -1."""
        items = self._run.items
        if kind == CAMERAS:
            cameras = items.cameras
            ends = zip(
                self._ledger.query.tolist(), self._ledger.gallery.tolist(), strict=True
            )
            by_pair = [
                None
                if cameras[query] is None or cameras[gallery] is None
                else f"{cameras[query]}-{cameras[gallery]}"
                for query, gallery in ends
            ]
            names, codes = _coded(by_pair)
            return names, np.repeat(codes, 2)
        values = items.identities if kind == "identity" else items.cameras
        names, codes = _coded(values)
        return names, codes[self.images]

    def usable(self, column: int) -> NDArray[np.bool_]:
        """Tell which rows have a region and a score to compare."""
        usable: NDArray[np.bool_] = (self._scores > 0) & ~np.isnan(
            self._shares[:, column]
        )
        return usable

    def score(self, codes: NDArray[np.int64], count: int, column: int) -> GroupScores:
        """Compare the groups with each other."""
        rows = self.usable(column) & (codes >= 0)
        return score_groups(
            codes[rows],
            self.images[rows],
            self.strata[rows],
            self._shares[rows, column],
            self._scores[rows],
            count,
        )

    def describe(
        self,
        kind: Kind,
        value: str,
        scores: GroupScores,
        group: int,
        column: int,
        members: NDArray[np.int64],
    ) -> Shortcut:
        """Describe a group, without its maps."""
        areas = self._ledger.item_area[:, column]
        items = np.unique(self.images[members])
        others = np.ones(len(areas), dtype=bool)
        others[items] = False
        ratio = self._shares[members, column] / self._scores[members]
        pairs = self.sides[members[np.argsort(-ratio, kind="stable")]] // 2
        nothing = np.zeros((0, 0), dtype=np.float32)
        return Shortcut(
            kind,
            value,
            self._ledger.regions[column],
            float(scores.share[group]),
            float(scores.expected[group]),
            float(scores.excess[group]),
            float(scores.shrunk[group]),
            float(scores.low[group]),
            float(scores.high[group]),
            float(np.mean(areas[items], dtype=np.float64)),
            float(np.nanmean(areas[others], dtype=np.float64)),
            int(scores.images[group]),
            self._partners(members) if kind == "identity" else (),
            np.array(list(dict.fromkeys(pairs.tolist())), dtype=np.int64),
            items.astype(np.int64),
            nothing,
            nothing,
        )

    def _partners(self, members: NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
        """Count the identities that false matches are with, most frequent first."""
        wrong = self.partners[members[self.strata[members] == FALSE_MATCH]]
        named = Counter(str(self._run.items.identities[item]) for item in wrong)
        return tuple(named.most_common(_PARTNERS))


def _coded(values: Sequence[str | None]) -> tuple[list[str], NDArray[np.int64]]:
    """Give each value a number; None gets -1."""
    names = sorted({value for value in values if value is not None})
    place = {name: number for number, name in enumerate(names)}
    codes = [-1 if value is None else place[value] for value in values]
    return names, np.array(codes, dtype=np.int64)


def _new_ledger(run: Run) -> Ledger:
    """Make a ledger of the first field that divides images into regions."""
    return build_ledger(run, next(iter(region_fields(run)), None))


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


def _average_maps(
    run: Run, rows: _Rows, groups: list[NDArray[np.int64]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Average the evidence of groups, and of the rest of the same outcomes."""
    if not groups:
        return []
    outcomes, shape = len(OUTCOMES), run.config.map_shape[1:]
    totals, total_counts = np.zeros((outcomes, *shape)), np.zeros(outcomes)
    sums = np.zeros((len(groups), outcomes, *shape))
    counts = np.zeros((len(groups), outcomes))
    row_of_side = np.full(2 * len(run.pairs), -1, dtype=np.int64)
    row_of_side[rows.sides] = np.arange(len(rows.sides))
    belongs = np.zeros((len(groups), len(rows.sides)), dtype=bool)
    for number, members in enumerate(groups):
        belongs[number, members] = True
    for shard_number in range(run.plan.num_shards):
        shard = run.store.get(shard_name(shard_number))
        found = row_of_side[run.plan.sides_of(shard_number)[0]]
        kept = np.flatnonzero((found >= 0) & ~np.isnan(shard["score"]))
        if len(kept) == 0:
            # A shard of broken images has no maps at all.
            continue
        maps = unpack_maps(
            shard[f"{EVIDENCE}_values"][kept], shard[f"{EVIDENCE}_scale"][kept]
        )
        strata, own = rows.strata[found[kept]], belongs[:, found[kept]]
        for outcome in np.unique(strata).tolist():
            there = strata == outcome
            totals[outcome] += maps[there].sum(axis=0)
            total_counts[outcome] += there.sum()
            chosen = own[:, there]
            sums[:, outcome] += np.tensordot(chosen.astype(np.float32), maps[there], 1)
            counts[:, outcome] += chosen.sum(axis=1)
    averages = []
    for own_sums, own_counts in zip(sums, counts, strict=True):
        left = np.maximum(total_counts - own_counts, 1)[:, None, None]
        rest = (totals - own_sums) / left * own_counts[:, None, None]
        size = max(own_counts.sum(), 1)
        averages.append(
            (
                (own_sums.sum(axis=0) / size).astype(np.float32),
                (rest.sum(axis=0) / size).astype(np.float32),
            )
        )
    return averages


def _save(run: Run, shortcuts: Shortcuts) -> None:
    """Store shortcuts as a result of the run."""
    plain: list[dict[str, Any]] = []
    arrays: Arrays = {}
    for number, one in enumerate(shortcuts.found):
        values = {
            item.name: getattr(one, item.name)
            for item in fields(one)
            if item.name not in _ARRAYS
        }
        plain.append({**values, "sentence": one.sentence})
        arrays |= {f"{name}_{number}": getattr(one, name) for name in _ARRAYS}
    config = {**asdict(replace(shortcuts, found=())), "found": plain}
    run.results.save(RESULT, config, arrays)
