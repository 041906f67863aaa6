"""The operator that opens the grid and both panels side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms.parameters import Parameters
from fiftyone_sfam.app.operators.base import Context, Results, SfamOperator

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

WORKSPACE = "sfam-audit"
"""Name of the saved workspace."""

_DESCRIPTION = "The samples and pairs of SFAM, and the audit beside them"


class OpenWorkspace(SfamOperator[Parameters]):
    """Opens the saved workspace of the audit, which it saves if there is none."""

    config = foo.OperatorConfig(
        name="open_workspace",
        label="SFAM: open the audit workspace",
        description=_DESCRIPTION,
    )
    parameters = Parameters

    def resolve_input(self, ctx: Context) -> None:
        """Open without a form."""

    def perform(self, ctx: Context, params: Parameters) -> Results:
        """Save the workspace, unless there is one of its name, and open it."""
        if WORKSPACE not in ctx.dataset.list_workspaces():
            ctx.dataset.save_workspace(
                WORKSPACE, make_workspace(), description=_DESCRIPTION
            )
        ctx.ops.set_spaces(name=WORKSPACE)
        return {"workspace": WORKSPACE}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add nothing: the workspace is shown."""

    def __call__(self, sample_collection: SampleCollection) -> Any:
        """Run the operator from Python."""
        return self.call(sample_collection, {})


def make_workspace() -> fo.Space:
    """Lay out the samples and pairs beside the audit."""
    # FiftyOne shows an empty pane where no child is active.
    grid, pairs, audit = (
        fo.Panel(type=name, pinned=name == "Samples")
        for name in ("Samples", "sfam_pairs", "sfam_audit")
    )
    return fo.Space(
        orientation="horizontal",
        sizes=[0.55, 0.45],
        children=[
            fo.Space(children=[grid, pairs], active_child=pairs.component_id),
            fo.Space(children=[audit], active_child=audit.component_id),
        ],
    )
