"""Identities and cameras whose matches rely on a region more than others do.

If a network recognizes some people by the wall behind them, the background carries more
of the score in their pairs than in comparable pairs of others.
:mod:`fiftyone_sfam.audit.regions.shortcut_scores` defines the comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    pair_groups,
)
from fiftyone_sfam.audit.regions.ledger_cells import CAMERAS
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.regions.shortcut_scores import GroupScores, score_groups
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

RESULT = "shortcuts"
"""Name of the stored result."""

Kind = Literal["identity", "camera", "camera pair"]
KINDS: tuple[Kind, ...] = ("identity", "camera", "camera pair")
"""Kinds of groups that can have a shortcut."""

TOP = 20
_PARTNERS = 3
_ARRAYS = ("pairs", "items", "evidence", "rest_evidence")


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """A group of images whose matches rely on a region more than comparable matches.

    Attributes
    ----------
    kind : {"identity", "camera", "camera pair"}
        What the images have in common.
    value : str
        The identity, the camera, or the two cameras (query-neighbor).
    region : str
        The region.
    share, expected : float
        Share of the score that the region carries in the pairs of the group, and in
        comparable pairs of other images.
    excess : float
        ``share - expected``.
    effect, low, high : float
        ``excess``, shrunk towards zero, and its 95 % interval.
    area, rest_area : float
        Mean fraction of the area of the group's images, and of all other images.
    images : int
        Number of images in the group.
    partners : tuple of (str, int)
        Identities of the most frequent false matches, with counts. Only for identities.
    pairs : ndarray of int64
        Pairs of the run that contain the images, the largest share first.
    items : ndarray of int64
        The images, indices into the run's items.
    evidence, rest_evidence : ndarray of float32
        Mean evidence map of the group, and of other pairs with the same outcomes,
        shape (h, w).
    """

    kind: Kind
    value: str
    region: str
    share: float
    expected: float
    excess: float
    effect: float
    low: float
    high: float
    area: float
    rest_area: float
    images: int
    partners: tuple[tuple[str, int], ...]
    pairs: NDArray[np.int64]
    items: NDArray[np.int64]
    evidence: NDArray[np.float32]
    rest_evidence: NDArray[np.float32]

    @property
    def sentence(self) -> str:
        """The shortcut in words."""
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
            names = ", ".join(f"{name} ({count})" for name, count in self.partners)
            text += f"; false matches are mostly with {names}"
        return text + "."


@dataclass(frozen=True)
class Shortcuts(NotebookResult):
    """The shortcuts of a run.

    Attributes
    ----------
    field : str or None
        Field that the regions come from; None for stripes.
    regions : tuple of str
        Regions that were searched.
    groups : dict of str to int
        Number of groups that were searched, by kind.
    found : tuple of Shortcut
        Shortcuts whose interval lies above zero, strongest first.
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
    """Find groups whose matches rely on a region more than other matches do.

    Pairs are compared within their outcome: true matches with true matches, false
    matches with false matches. Both sides of a pair count, each for its own image.
    Pairs without a positive similarity are ignored, as they have no shares.

    Parameters
    ----------
    run : Run
        The run.
    ledger : Ledger, optional
        Its ledger. By default, the stored one, or a new one from the first field that
        divides images into regions.
    regions : sequence of str, optional
        Regions to search. By default the background, or all regions if there is no
        background.
    kinds : sequence of {"identity", "camera", "camera pair"}
        Groups to search.
    top : int
        Maximum number of shortcuts.
    save : bool
        Store them as the run's result ``"shortcuts"``.

    Returns
    -------
    Shortcuts
        The shortcuts, strongest first.

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
    ledger = ledger or load_ledger(run)
    if ledger is None:
        ledger = build_ledger(run, next(iter(region_fields(run)), None))
    if regions is None:
        regions = (BACKGROUND,) if BACKGROUND in ledger.regions else ledger.regions
    columns = [ledger.column(region) for region in regions]
    sides = _Sides(run, ledger)
    counts: dict[str, int] = {}
    candidates: list[tuple[Shortcut, NDArray[np.int64]]] = []
    for kind in dict.fromkeys(kinds):
        names, codes = sides.groups(kind)
        counts[kind] = len(names)
        for column in columns:
            scores = sides.score(codes, len(names), column)
            for group in scores.ranking()[:top].tolist():
                rows = np.flatnonzero((codes == group) & sides.usable(column))
                shortcut = sides.describe(
                    kind, names[group], scores, group, column, rows
                )
                candidates.append((shortcut, rows))
    candidates.sort(key=lambda candidate: -candidate[0].low)
    del candidates[top:]
    maps = _average_maps(run, sides, [rows for _, rows in candidates])
    found = tuple(
        replace(shortcut, evidence=evidence, rest_evidence=rest)
        for (shortcut, _), (evidence, rest) in zip(candidates, maps, strict=True)
    )
    shortcuts = Shortcuts(ledger.field, tuple(regions), counts, found)
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
        None if none are stored.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    shortcuts = []
    for number, values in enumerate(result.config["found"]):
        arrays = {name: result.arrays[f"{name}_{number}"] for name in _ARRAYS}
        shortcuts.append(restore(Shortcut, {**values, **arrays}))
    return restore(Shortcuts, {**result.config, "found": shortcuts})


class _Sides:
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
        """Return the names of the groups of a kind, and each row's group or -1."""
        if kind == CAMERAS:
            by_pair = pair_groups(self._run, CAMERAS)
            names, codes = _coded([by_pair[pair] for pair in self._ledger.pairs])
            return names, np.repeat(codes, 2)
        items = self._run.items
        names, codes = _coded(items.identities if kind == "identity" else items.cameras)
        return names, codes[self.images]

    def usable(self, column: int) -> NDArray[np.bool_]:
        """Return which rows have the region and a positive score."""
        return np.asarray((self._scores > 0) & ~np.isnan(self._shares[:, column]))

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
        rows: NDArray[np.int64],
    ) -> Shortcut:
        """Describe a group, without its maps."""
        areas = self._ledger.item_area[:, column]
        items = np.unique(self.images[rows])
        ratio = self._shares[rows, column] / self._scores[rows]
        pairs = self.sides[rows[np.argsort(-ratio, kind="stable")]] // 2
        no_map = np.zeros((0, 0), dtype=np.float32)
        return Shortcut(
            kind=kind,
            value=value,
            region=self._ledger.regions[column],
            share=float(scores.share[group]),
            expected=float(scores.expected[group]),
            excess=float(scores.excess[group]),
            effect=float(scores.shrunk[group]),
            low=float(scores.low[group]),
            high=float(scores.high[group]),
            area=float(np.mean(areas[items], dtype=np.float64)),
            rest_area=float(np.nanmean(np.delete(areas, items), dtype=np.float64)),
            images=int(scores.images[group]),
            partners=self._partners(rows) if kind == "identity" else (),
            pairs=np.array(list(dict.fromkeys(pairs.tolist())), dtype=np.int64),
            items=items.astype(np.int64),
            evidence=no_map,
            rest_evidence=no_map,
        )

    def _partners(self, rows: NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
        """Count the identities of false matches, most frequent first."""
        items = self.partners[rows[self.strata[rows] == FALSE_MATCH]]
        counts = Counter(str(self._run.items.identities[item]) for item in items)
        return tuple(counts.most_common(_PARTNERS))


def _coded(values: Sequence[str | None]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the sorted unique values, and each value's index; -1 for None."""
    names = sorted({value for value in values if value is not None})
    code = {name: number for number, name in enumerate(names)}
    codes = [-1 if value is None else code[value] for value in values]
    return names, np.array(codes, dtype=np.int64)


def _average_maps(
    run: Run, sides: _Sides, groups: list[NDArray[np.int64]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Average the evidence of groups, and of other pairs with the same outcomes."""
    if not groups:
        return []
    outcomes, shape = len(OUTCOMES), run.config.map_shape[1:]
    totals, total_counts = np.zeros((outcomes, *shape)), np.zeros(outcomes)
    sums = np.zeros((len(groups), outcomes, *shape))
    counts = np.zeros((len(groups), outcomes))
    row_of_side = np.full(2 * len(run.pairs), -1, dtype=np.int64)
    row_of_side[sides.sides] = np.arange(len(sides.sides))
    in_group = np.zeros((len(groups), len(sides.sides)), dtype=bool)
    for number, members in enumerate(groups):
        in_group[number, members] = True
    for shard_number in range(run.plan.num_shards):
        shard = run.store.get(shard_name(shard_number))
        rows = row_of_side[run.plan.sides_of(shard_number)[0]]
        kept = np.flatnonzero((rows >= 0) & ~np.isnan(shard["score"]))
        if len(kept) == 0:
            # A shard of broken images has no maps at all.
            continue
        maps = unpack_maps(
            shard[f"{EVIDENCE}_values"][kept], shard[f"{EVIDENCE}_scale"][kept]
        )
        strata, members = sides.strata[rows[kept]], in_group[:, rows[kept]]
        for outcome in np.unique(strata).tolist():
            same = strata == outcome
            totals[outcome] += maps[same].sum(axis=0)
            total_counts[outcome] += same.sum()
            chosen = members[:, same]
            sums[:, outcome] += np.tensordot(chosen.astype(np.float32), maps[same], 1)
            counts[:, outcome] += chosen.sum(axis=1)
    averages = []
    for group_sums, group_counts in zip(sums, counts, strict=True):
        rest_counts = np.maximum(total_counts - group_counts, 1)[:, None, None]
        rest = (totals - group_sums) / rest_counts * group_counts[:, None, None]
        size = max(group_counts.sum(), 1)
        averages.append(
            (
                (group_sums.sum(axis=0) / size).astype(np.float32),
                (rest.sum(axis=0) / size).astype(np.float32),
            )
        )
    return averages


def _save(run: Run, shortcuts: Shortcuts) -> None:
    listed: list[dict[str, Any]] = []
    arrays: Arrays = {}
    for number, shortcut in enumerate(shortcuts.found):
        values = {k: v for k, v in vars(shortcut).items() if k not in _ARRAYS}
        listed.append({**values, "sentence": shortcut.sentence})
        arrays |= {f"{name}_{number}": getattr(shortcut, name) for name in _ARRAYS}
    config = {**asdict(replace(shortcuts, found=())), "found": listed}
    run.results.save(RESULT, config, arrays)
