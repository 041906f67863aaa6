"""Results that show themselves in a notebook."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


class NotebookResult:
    """A result that a notebook shows as a page instead of its ``repr``."""

    def _repr_html_(self) -> str:
        # The room that draws results imports all rooms that have some, this one too.
        page: str = import_module("fiftyone_sfam.notebook.show").html_of(self)
        return page


class PlottedResult(NotebookResult):
    """A result that also has figures."""

    def plots(self) -> dict[str, go.Figure]:
        """Draw the figures of the result with Plotly.

        Returns
        -------
        dict of str to plotly.graph_objects.Figure
            Figures by name, those of the App and the report; a notebook shows each of
            them. Their titles say what they show.
        """
        drawn: dict[str, go.Figure] = import_module(
            "fiftyone_sfam.notebook.show"
        ).plots_of(self)
        return drawn
