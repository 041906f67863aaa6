"""The pixels of a run's images, as far as its suspects need them.

Near-duplicates, crops and hubs need all images, which are read once; the other kinds
need doubtful images, and some that show what is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.duplicates.find import Copies, find_copies
from fiftyone_sfam.audit.regions.images import item_reader
from fiftyone_sfam.audit.suspects.context import Context
from fiftyone_sfam.audit.suspects.crops import (
    LEAST_FIT,
    LEAST_IMAGES,
    CropFigures,
    measure_crops,
)
from fiftyone_sfam.audit.suspects.finding import (
    CROP,
    DUPLICATE,
    HUB,
    MISLABELED,
    UNINFORMATIVE,
)
from fiftyone_sfam.audit.suspects.pictures import Pixels
from fiftyone_sfam.audit.suspects.pixels import (
    detail,
    dullness,
    read_small,
    small_copy,
)
from fiftyone_sfam.audit.suspects.sources import some_items
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

# Doubtful images whose pixels are read, and images that show what is usual.
_MOST_DOUBTFUL = 500
_USUAL_IMAGES = 100
# Distance from the threshold of images whose pixels are read, in spreads.
_NEARLY = -3.0


def measure_pixels(
    run: Run,
    context: Context,
    kinds: Sequence[str],
    report: Callable[[int, int], None],
) -> tuple[Pixels, tuple[str, ...]]:
    """Read the pixels that the kinds need, and find copies; return also the limits."""
    wanted = {MISLABELED, UNINFORMATIVE, CROP} & {*kinds}
    doubtful = _doubtful(context) if wanted else []
    chosen = some_items(run, context.used, _USUAL_IMAGES)
    usual = np.flatnonzero(np.isin(context.used, chosen)).tolist()
    if {DUPLICATE, CROP, HUB} & {*kinds}:
        # Reads every image, and reports all that cannot be read.
        found = _find_copies(run, context, report)
        crops = measure_crops(found.kept, len(context.used))
        doubtful = sorted({*doubtful, *np.flatnonzero(crops.is_doubtful).tolist()})
        pixels = Pixels(_dullness(found.kept, doubtful, usual), found.pairs, crops)
        return pixels, (*_crop_limits(crops, len(found.kept), kinds), *found.limits)
    if not doubtful:
        return Pixels(), ()
    images = sorted({*doubtful, *usual})
    read = item_reader(run, context.used[images].tolist())
    copies, missing = read_small(images, lambda i: read(int(context.used[i]))[0])
    pixels = Pixels(_dullness(copies, doubtful, usual))
    if not missing:
        return pixels, ()
    return pixels, (
        f"{len(missing)} of {len(images)} pictures could not be read; the first: "
        f"{next(iter(missing.values()))}",
    )


def _dullness(
    copies: Mapping[int, NDArray[Any]], images: list[int], usual: list[int]
) -> dict[int, float]:
    """Compare the detail of images with that of usual ones."""
    return dullness(
        {image: detail(copies[image]) for image in images if image in copies},
        np.array([detail(copies[image]) for image in usual if image in copies]),
    )


def _crop_limits(
    crops: CropFigures, images: int, kinds: Sequence[str]
) -> tuple[str, ...]:
    """Say why no crops are found to be off."""
    if CROP not in kinds or crops.aligned:
        return ()
    if images < LEAST_IMAGES:
        return (
            f"Bad crops were not searched: {images} images do not show how crops are "
            f"framed; at least {LEAST_IMAGES} are needed.",
        )
    return (
        "Bad crops were not searched: the images are not framed alike "
        f"({percent(crops.fit, 0)} fit a usual framing; at least "
        f"{percent(LEAST_FIT, 0)} are needed).",
    )


def _find_copies(
    run: Run, context: Context, report: Callable[[int, int], None]
) -> Copies:
    """Find copies among hash neighbors and the nearest embeddings of each image."""
    used = context.used
    sources = ItemImages(run, used.tolist())
    closest = context.measured.nearest.closest
    images = np.repeat(np.arange(len(closest)), closest.shape[1])
    near = np.stack([images, closest.ravel()], axis=1)
    return find_copies(
        len(used),
        lambda image: sources.source(int(used[image])),
        near=near[near[:, 1] != UNKNOWN],
        report=report,
        keep=lambda image: small_copy(image).round().astype(np.uint8),
    )


def _doubtful(context: Context) -> list[int]:
    """List the images that look mislabeled or uninformative, or nearly so."""
    figures = context.measured.figures.images
    doubted = context.measured.mislabeled() >= 0
    strength = np.where(doubted, figures.mislabel, figures.uninformative)
    chosen = np.flatnonzero(doubted | (strength >= _NEARLY))
    return chosen[np.argsort(-strength[chosen])][:_MOST_DOUBTFUL].tolist()
