"""The layout of the panel of pairs as a whole."""

from __future__ import annotations

from fiftyone.operators import types

from fiftyone_sfam.app.pairs import controls as pair_controls
from fiftyone_sfam.app.pairs import layout as pair_layout
from fiftyone_sfam.app.pairs import sections as pair_sections
from fiftyone_sfam.app.pairs.layout import On
from fiftyone_sfam.app.pairs.state import PanelState
from fiftyone_sfam.app.pairs.style import ACCENT, Style, button, item, joined, text
from fiftyone_sfam.app.pairs.texts import Plain

EMPTY_TEXT = (
    "### No explained run yet\n\nExplain the dataset's retrieval first: every query "
    "gets its nearest neighbors, with heatmaps of both sides. Or select two samples in "
    "the grid, and they are explained at once."
)


def lay_out(
    state: PanelState, shown: Plain | None, problem: str | None, on: On
) -> types.Property:
    """Lay the panel out."""
    panel = types.Object()
    if problem:
        panel.md(problem, name="problem_text", componentsProps=_note())
    elif not shown:
        panel.md(EMPTY_TEXT, name="empty_text", componentsProps=text("0.95rem"))
        panel.btn(
            "explain",
            label="Explain retrieval",
            on_click=on("explain"),
            componentsProps=joined(button(), item("fit-content")),
        )
    if shown:
        _add_page(panel, state, shown, on)
    return types.Property(panel, view=types.VStackView(componentsProps=_root()))


def _add_page(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Lay out the controls, the queue, and what has to be said."""
    pair_controls.add_controls(panel, state, shown, on)
    if shown["queue"]:
        pair_controls.add_queue(panel, state, shown, on)
    for index, note in enumerate(shown["notes"]):
        panel.md(note, name=f"note_{index}", componentsProps=_note())
    if shown["sides"]:
        _add_pair(panel, state, shown, on)


def _add_pair(
    panel: types.Object,
    state: PanelState,
    shown: Plain,
    on: On,
) -> None:
    """Lay the pair out, and what is told about it."""
    pair_layout.add_pair(panel, shown, on)
    if shown.get("verdict"):
        pair_controls.add_verdicts(panel, state, shown, on)
    pair_controls.add_actions(panel, shown, on)
    if shown.get("missed"):
        pair_layout.add_missed(panel, shown["missed"])
    if shown.get("strip"):
        pair_layout.add_strip(panel, shown, on)
    if shown.get("receipt"):
        pair_sections.add_receipt(panel, shown, on)
    pair_sections.add_channels(panel, state, shown, on)
    if shown.get("verdict"):
        pair_sections.add_keys(panel)


def _root() -> Style:
    return {
        "container": {"sx": {"width": "100%"}},
        "grid": {
            "sx": {
                "display": "flex",
                "flexDirection": "column",
                "alignItems": "stretch",
                "gap": "10px",
                "padding": "12px",
                "width": "100%",
                "maxWidth": "860px",
            }
        },
    }


def _note() -> Style:
    return text(borderLeft=f"3px solid {ACCENT}", paddingLeft="8px", paddingY="2px")
