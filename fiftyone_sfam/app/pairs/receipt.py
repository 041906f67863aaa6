"""The receipt of a similarity: its parts as a bar that adds up to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.style import as_label
from fiftyone_sfam.audit.regions.fields import read_regions, region_fields
from fiftyone_sfam.audit.regions.labels import Grid
from fiftyone_sfam.audit.regions.partitions import Regions, split, stripes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, SideMaps

COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
)
"""The Okabe-Ito palette, which the color-blind can tell apart."""

REMAINDER, REMAINDER_COLOR = "not on the map", "#999999"
OTHER = "other regions"

MOST_REGIONS = len(COLORS)
"""Regions that are listed on their own; those that carry least are one together."""


@dataclass(frozen=True)
class Share:
    """A part of a similarity, as the receipt lists it."""

    name: str  # region of the image, or what no region carries
    value: float  # in units of the similarity
    area: float  # share of the map's area, 0 for what no region carries


def thirds_receipt(evidence: NDArray[np.float32], score: float) -> tuple[Share, ...]:
    """Split a similarity by horizontal thirds of the image."""
    return _receipt(evidence, score, stripes(*evidence.shape))


def item_receipt(
    run: Run, item: int, side: SideMaps | None, field: str | None
) -> tuple[Share, ...]:
    """Split the similarity of one side of a stored pair by regions of its image."""
    if side is None or "evidence" not in side.maps:
        return ()
    evidence = side.maps["evidence"]
    if field is None:
        return thirds_receipt(evidence, side.score)
    if field not in region_fields(run):
        raise DataError(
            f"the field '{field}' divides images into regions no more; choose another."
        )
    found = read_regions(run, {item: Grid.of(side)}, field)
    if item not in found.regions:
        raise DataError(
            f"this image has no regions in the field '{field}': {found.missing[item]}"
        )
    return _receipt(evidence, side.score, found.regions[item])


def receipt_bars(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """Draw the parts of a similarity one behind the other."""
    return [
        {
            "type": "bar",
            "orientation": "h",
            "x": [share.value],
            "y": [""],
            "name": as_label(share.name),
            "marker": {"color": color},
            "hovertemplate": _hover(share),
        }
        for share, color in zip(shares, share_colors(shares), strict=True)
    ]


def share_colors(shares: Sequence[Share]) -> tuple[str, ...]:
    """Return the colors of the parts; what no region carries is gray."""
    return (*COLORS[: len(shares) - 1], REMAINDER_COLOR) if shares else ()


def share_text(share: Share) -> str:
    """Say what a part is worth, and how much of the area it has."""
    area = f" ({100 * share.area:.0f} % of the area)" if share.area else ""
    # No minus in front of what is nothing.
    return f"{round(share.value, 3) + 0.0:+.3f}{area}"


def receipt_layout() -> dict[str, Any]:
    """Return the Plotly layout of the bars."""
    return {
        "barmode": "relative",
        "showlegend": False,
        "xaxis": {"zeroline": True, "fixedrange": True, "nticks": 8},
        "yaxis": {"visible": False, "fixedrange": True},
        "margin": {"l": 8, "r": 8, "t": 4, "b": 24},
        "bargap": 0.2,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _receipt(
    evidence: NDArray[np.float32], score: float, regions: Regions
) -> tuple[Share, ...]:
    """Split a score by regions, those that carry least in one."""
    parts = [
        Share(name, float(value), float(area))
        for name, value, area in zip(
            regions.names, split(evidence, regions), regions.area, strict=True
        )
    ]
    if len(parts) > MOST_REGIONS:
        by_weight = sorted(parts, key=lambda part: abs(part.value), reverse=True)
        kept = {part.name for part in by_weight[: MOST_REGIONS - 1]}
        others = [part for part in parts if part.name not in kept]
        parts = [part for part in parts if part.name in kept]
        parts.append(
            Share(
                OTHER,
                sum(part.value for part in others),
                sum(part.area for part in others),
            )
        )
    # What the stored bits do not add up to belongs to the remainder as well.
    total = sum(part.value for part in parts)
    return (*parts, Share(REMAINDER, score - total, 0.0))


def _hover(share: Share) -> str:
    """Return what Plotly shows beside the pointer."""
    area = f"<br>{100 * share.area:.0f} % of the area" if share.area else ""
    return f"{as_label(share.name)}: {share.value:+.4f}{area}<extra></extra>"
