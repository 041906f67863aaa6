"""Opening a panel as a tab beside another one of the App."""

from __future__ import annotations

import fiftyone as fo
import fiftyone.operators as foo


def open_beside(ctx: foo.ExecutionContext, name: str, neighbor: str) -> None:
    """Open a panel in the pane of another, or turn to it where it is open.

    FiftyOne itself opens panels in the pane of the grid, which would be hidden behind
    it, or else halved.
    """
    spaces = ctx.spaces
    pane = None if spaces is None else _pane_of(spaces, neighbor)
    if spaces is None or pane is None or _pane_of(spaces, name) is not None:
        ctx.ops.open_panel(name)
        return
    panel = fo.Panel(type=name)
    pane.children.append(panel)
    pane.active_child = panel.component_id
    ctx.ops.set_spaces(spaces)


def _pane_of(space: fo.Space, name: str) -> fo.Space | None:
    """Find the pane that holds a panel."""
    for child in space.children:
        if isinstance(child, fo.Panel) and child.type == name:
            return space
        if isinstance(child, fo.Space):
            found = _pane_of(child, name)
            if found is not None:
                return found
    return None
