"""Turn results into the HTML and the figures that a notebook shows.

The HTML holds its pictures and styles, and neither scripts nor links, so that it shows
in any notebook, trusted or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# Each module registers what it can lay out.
from fiftyone_sfam.audit.report.write import template_environment
from fiftyone_sfam.notebook import audits, pairs  # noqa: F401
from fiftyone_sfam.notebook.part import part_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from fiftyone_sfam.data.notebook import NotebookResult, PlottedResult

_TEMPLATES = Path(__file__).parent / "templates"
_HEIGHT = 360
_MARGIN = {"l": 64, "r": 16, "t": 64, "b": 52}


def html_of(result: NotebookResult) -> str:
    """Return a result as HTML."""
    template = template_environment(_TEMPLATES).get_template("result.html.j2")
    return template.render(part=part_of(result))


def plots_of(result: PlottedResult) -> dict[str, go.Figure]:
    """Draw the figures of a result."""
    import plotly.graph_objects as go

    drawn = {}
    for one in part_of(result).plots:
        figure = go.Figure(one.figure.data, one.figure.layout)
        figure.update_layout(
            title={"text": one.caption, "font": {"size": 13}},
            height=_HEIGHT,
            margin=_MARGIN,
            # Notebooks may be dark; the texts of the figures are.
            paper_bgcolor="white",
            plot_bgcolor="white",
        )
        drawn[one.name] = figure
    return drawn
