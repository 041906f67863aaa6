"""The receipt of a similarity: its parts as a bar that adds up to it."""

from __future__ import annotations

from collections.abc import Sequence

from fiftyone_sfam.app.panels.audit_view import Figure
from fiftyone_sfam.app.panels.pair_view import Share

COLORS = ("#0072b2", "#56b4e9", "#009e73", "#999999")
"""Of the Okabe-Ito palette, which the color-blind can tell apart; gray is last."""


def receipt_figure(shares: Sequence[Share]) -> Figure:
    """Draw the parts of a similarity one behind the other.

    Parameters
    ----------
    shares : sequence of Share
        The parts; the last is what no region carries.

    Returns
    -------
    Figure
        A bar per part; negative parts point to the left.
    """
    colors = (*COLORS[: len(shares) - 1], COLORS[-1])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [share.value],
            "y": ["similarity"],
            "name": _label(share),
            "marker": {"color": color},
            "hovertemplate": f"{share.name}: %{{x:.4f}}<extra></extra>",
        }
        for share, color in zip(shares, colors, strict=False)
    ]
    total = sum(share.value for share in shares)
    return Figure(
        data,
        {
            "barmode": "relative",
            "title": {
                "text": f"Similarity {total:.4f} by place on the query",
                "font": {"size": 14},
            },
            "xaxis": {"zeroline": True},
            "yaxis": {"showticklabels": False},
            "margin": {"l": 20, "r": 15, "t": 35, "b": 85},
            "legend": {"orientation": "h", "x": 0, "y": -0.5, "font": {"size": 10}},
            "showlegend": True,
        },
    )


def _label(share: Share) -> str:
    """Name a part with its share of the area, where it has one."""
    area = f" ({100 * share.area:.0f} % of the area)" if share.area else ""
    return f"{share.name} {share.value:+.3f}{area}"
