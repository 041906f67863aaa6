"""Compute the maps along paths that a run stores: finer and slower than the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.attribution.path import STEPS
from fiftyone_sfam.attribution.render import top_value
from fiftyone_sfam.attribution.scales import SAMPLES, attribute_kind
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, Pairs
from fiftyone_sfam.runs.blobs import Arrays, pack_maps
from fiftyone_sfam.runs.maps import path_map
from fiftyone_sfam.runs.run_config import (
    ALL_PAIRS,
    FALSE_RANK1,
    PATH_KINDS,
    SCALES,
    RunSettings,
)


def path_sides(pairs: Pairs, which: str | None) -> NDArray[np.bool_]:
    """Return which sides of pairs have maps along paths, shape (2 P,)."""
    chosen = np.full(len(pairs), which is not None)
    if which != ALL_PAIRS:
        chosen &= pairs.rank == 1
    if which == FALSE_RANK1:
        chosen &= pairs.outcome == FALSE_MATCH
    return np.repeat(chosen, 2)


def images_at_once(kinds: Sequence[str], batch_size: int) -> int:
    """Return how many images, each with its steps, fit into a forward pass."""
    steps = max(SAMPLES + 2 if kind == SCALES else STEPS for kind in kinds)
    return max(1, batch_size // steps)


def path_rows(
    model: EmbeddingModel,
    images: Tensor,
    rows: Tensor,
    partners: Tensor,
    settings: RunSettings,
    layers: Sequence[LayerInfo],
) -> list[Arrays | None]:
    """Explain pairs along paths; return what is stored of each.

    It is None of a pair whose maps are not finite. Arguments are as for
    :func:`fiftyone_sfam.attribution.scales.attribute_kind`.
    """
    packed: list[Arrays] = [{} for _ in rows]
    finite = np.ones(len(rows), dtype=bool)
    for kind in settings.path_kinds:
        several = kind == SCALES
        maps = attribute_kind(
            model, images, rows, partners, several_scales=several, layers=layers
        ).path
        values = maps.detach().cpu().numpy()
        finite &= np.isfinite(values).all(axis=(1, 2))
        values = np.nan_to_num(values)
        for part, array in pack_maps(values, settings.map_dtype).items():
            for at, row in enumerate(packed):
                row[f"{kind}_{part}"] = array[at : at + 1]
    return [row if ok else None for row, ok in zip(packed, finite, strict=True)]


def top_of(row: Arrays, kind: str) -> float:
    """Return the value that a heatmap shows at full strength; 0 of other kinds."""
    return top_value(path_map(row, kind)) if kind in PATH_KINDS else 0.0
