"""Runs and explanations of single pairs, as a notebook shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.attribution.maps import SIDES
from fiftyone_sfam.attribution.masks import MaskExplanation
from fiftyone_sfam.attribution.pair import PairExplanation
from fiftyone_sfam.attribution.reading import read_any
from fiftyone_sfam.attribution.render import data_url, fitted, overlay, shared_limit
from fiftyone_sfam.attribution.template import TemplateExplanation
from fiftyone_sfam.audit.report.findings import PairPicture, pair_caption
from fiftyone_sfam.audit.report.pictures import (
    OPACITY,
    Picture,
    Pictures,
    shown_kinds,
)
from fiftyone_sfam.audit.report.summary import Card
from fiftyone_sfam.audit.statistics.cells import (
    Table,
    count,
    name,
    number,
    percent,
    prose,
    text,
)
from fiftyone_sfam.data.images import read_part
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.data.text import counted, without_folders
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.notebook.part import Captioned, Part, part_of
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES, WITH_MATCH
from fiftyone_sfam.runs.contributions import StoredPair
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

MOST_PAIRS = 6
"""Most false matches that the page of a run shows."""

PAIR_BOX = (120, 160)
"""Largest width and height of a picture of a run, in pixels."""

BOX = (180, 240)
"""Largest width and height of a picture of a pair that was explained, in pixels."""

_SIGNED = (
    "Red places speak for the similarity, blue ones against it; both images share one "
    "range."
)


# --------------------------------------------------------------------------------------
# Runs
# --------------------------------------------------------------------------------------


@part_of.register
def _(run: Run) -> Part:
    config = run.config
    chosen = false_matches(run, MOST_PAIRS)
    notes = [
        f"Model {config.model}, layer {config.layer}; maps: {', '.join(config.kinds)}."
    ]
    if chosen:
        notes.insert(0, f"The most similar false matches. {_shown_maps(run)}")
    if run.skipped:
        first = without_folders(run.skipped[0].reason, run.skipped[0].filepath)
        skipped = counted(len(run.skipped), "image")
        notes.append(f"{skipped} skipped; the first: {first}")
    check = run.map_check
    if check is not None and check.kinds and check.sentence not in run.warnings:
        notes.append(check.sentence)
    title = f"Run {run.key} of {run.dataset.name}"
    return Part(
        title=prose(title, (run.dataset.name,)),
        cards=_run_cards(run),
        warnings=run.warnings,
        pairs=_draw(run, chosen),
        notes=tuple(notes),
    )


def _run_cards(run: Run) -> tuple[Card, ...]:
    counts = run.counts
    cards = [
        Card("images", count(counts["images"])),
        Card("queries", count(counts["queries"])),
        Card("pairs explained", count(counts["pairs"])),
    ]
    if run.ranked:
        if counts.get(WITH_MATCH):
            cards.append(Card("rank-1", percent(run.summary()["rank1"])))
        cards.append(Card("false matches at rank 1", count(counts["false match"])))
    else:
        cards += [Card(outcome, count(counts[outcome])) for outcome in OUTCOMES[:2]]
    return tuple(cards)


def false_matches(run: Run, most: int) -> list[int]:
    """Choose the most similar false matches, each two images once.

    Of a retrieval, only first neighbors are false matches that someone would see.
    """
    pairs = run.pairs
    wrong = pairs.outcome == FALSE_MATCH
    if run.ranked:
        wrong &= pairs.rank == 1
    rows = np.flatnonzero(wrong)
    rows = rows[np.argsort(-pairs.similarity[rows], kind="stable")]
    chosen: dict[frozenset[int], int] = {}
    for pair in rows.tolist():
        if len(chosen) == most:
            break
        ends = frozenset((int(pairs.query[pair]), int(pairs.gallery[pair])))
        chosen.setdefault(ends, pair)
    return list(chosen.values())


@dataclass(frozen=True)
class ShownPairs(NotebookResult):
    """Pairs of a run that a notebook shows with their maps.

    Returned by :func:`show_pairs`.

    Attributes
    ----------
    run : Run
        The run.
    pairs : tuple of int
        Indices into the columns of ``run.pairs``.
    """

    run: Run
    pairs: tuple[int, ...]


def show_pairs(run: Run, pairs: Iterable[int]) -> ShownPairs:
    """Show pairs of a run in a notebook, with their stored maps.

    Parameters
    ----------
    run : Run
        The run.
    pairs : iterable of int
        Indices into the columns of :attr:`fiftyone_sfam.Run.pairs`, such as the
        ``pairs`` of a finding.

    Returns
    -------
    ShownPairs
        What the notebook shows.

    Raises
    ------
    RunError
        If there is no such pair.
    """
    chosen = tuple(int(pair) for pair in pairs)
    run.check_pairs(chosen)
    return ShownPairs(run, chosen)


@part_of.register
def _(shown: ShownPairs) -> Part:
    run = shown.run
    return Part(
        title=prose(f"{counted(len(shown.pairs), 'pair')} of the run {run.key}"),
        pairs=_draw(run, shown.pairs),
        notes=(_shown_maps(run),) if shown.pairs else (),
    )


def _draw(run: Run, chosen: Sequence[int]) -> tuple[PairPicture, ...]:
    """Draw pairs of a run with their maps."""
    if not chosen:
        return ()
    pictures, pairs = Pictures(run, chosen, box=PAIR_BOX), run.pairs
    return tuple(
        PairPicture(
            pair,
            *pictures.of_pair(pair),
            f"pair {pair}: {pair_caption(run, pair)}, {OUTCOMES[pairs.outcome[pair]]}",
            -1,
        )
        for pair in chosen
    )


def _shown_maps(run: Run) -> str:
    return (
        "Query left, neighbor right, with the positive part of their "
        f"{shown_kinds(run.config)} maps in one range."
    )


# --------------------------------------------------------------------------------------
# Explanations
# --------------------------------------------------------------------------------------


@part_of.register
def _(pair: PairExplanation) -> Part:
    sides = dict(zip(SIDES, (pair.query, pair.gallery), strict=True))
    maps = [side.evidence for side in sides.values()]
    rows = tuple(
        (
            text(title),
            number(float(side.evidence.sum()), 4),
            number(side.remainder, 4),
            number(side.score, 4),
        )
        for title, side in sides.items()
    )
    tables = [("", Table(("image", "sum of evidence", "remainder", "score"), rows))]
    if pair.branches:
        parts = tuple(
            (name(branch), number(value, 4)) for branch, value in pair.branches.items()
        )
        tables.append(("Branches", Table(("branch", "adds to the score"), parts)))
    return Part(
        title="Explained pair",
        cards=_scores(pair.score, pair.distance),
        warnings=pair.warnings,
        tables=tuple(tables),
        images=_with_maps(
            [partial(read_any, image) for image in pair._images],
            maps,
            [side.crop for side in sides.values()],
            SIDES,
        ),
        notes=(
            f"Evidence of the {pair.metric} similarity, model {pair.model}, layer "
            f"{pair.layer}. {_SIGNED}",
        ),
    )


@part_of.register
def _(pair: StoredPair) -> Part:
    assert pair._of is not None  # `Run.explain_stored` says it
    run, ends = pair._of
    images, sides = ItemImages(run, ends), (pair.query, pair.gallery)
    rows = tuple(
        (
            text(title),
            number(float(side.evidence.sum()), 4),
            number(side.remainder, 4),
            number(side.error, 4),
            number(side.score, 4),
        )
        for title, side in zip(SIDES, sides, strict=True)
    )
    head = ("image", "sum of evidence", "remainder", "error of storing", "score")
    return Part(
        title=f"Pair, explained from what the run {run.key} stores",
        cards=(Card("score", number(pair.score, 4)),),
        tables=(("", Table(head, rows)),),
        images=_with_maps(
            [partial(_read_item, images, item) for item in ends],
            [side.evidence for side in sides],
            [side.crop for side in sides],
            SIDES,
        ),
        notes=(
            f"Evidence of the {pair.metric} similarity, model {run.config.model}, "
            f"layer {pair.layer}. {_SIGNED}",
        ),
    )


def _read_item(images: ItemImages, item: int) -> Image.Image:
    """Read an item of a run; raise if it is gone."""
    return read_part(*images.source(item))


@part_of.register
def _(pair: MaskExplanation) -> Part:
    return Part(
        title="Explained pair",
        cards=_scores(pair.score, pair.distance),
        images=_with_maps(
            [partial(read_any, image) for image in pair._images],
            [pair.query, pair.gallery],
            [pair.query_crop, pair.gallery_crop],
            SIDES,
        ),
        notes=(
            f"Correlation of the {pair.metric} similarity with what is visible, over "
            f"{pair.masks:,} random masks; model {pair.model}. The maps do not add up "
            f"to the score. {_SIGNED}",
        ),
    )


@part_of.register
def _(found: TemplateExplanation) -> Part:
    sides = [*found.probe, *found.members]
    titles = [
        f"{kind} {place}"
        for kind, own in (("probe", found.probe), ("member", found.members))
        for place in range(len(own))
    ]
    return Part(
        title="Explained comparison with a template",
        cards=_scores(found.score, found.distance),
        warnings=found.warnings,
        images=_with_maps(
            [partial(read_any, image) for image in found._images],
            [side.evidence for side in sides],
            [side.crop for side in sides],
            [
                f"{title}: {side.score:.4f} of the score"
                for title, side in zip(titles, sides, strict=True)
            ],
        ),
        notes=(
            f"Evidence of the {found.metric} similarity, model {found.model}, layer "
            f"{found.layer}. {_SIGNED}",
        ),
    )


def _scores(score: float, distance: float) -> tuple[Card, ...]:
    return Card("score", number(score, 4)), Card("distance", number(distance, 4))


def _with_maps(
    images: Sequence[Callable[[], Image.Image]],
    maps: Sequence[NDArray[np.float32]],
    crops: Sequence[tuple[float, float, float, float]],
    captions: Sequence[str],
) -> tuple[Captioned, ...]:
    """Draw signed maps over the images that they were computed from, in one range."""
    limit = shared_limit(maps)
    drawn = []
    for read, values, crop, caption in zip(images, maps, crops, captions, strict=True):
        try:
            small = fitted(read(), *BOX)
        except DataError as error:
            picture = Picture("", *BOX, without_folders(str(error)))
        else:
            small = overlay(
                small, values, limit, signed=True, opacity=OPACITY, crop=crop
            )
            picture = Picture(data_url(small), small.width, small.height)
        drawn.append(Captioned(picture, caption))
    return tuple(drawn)
