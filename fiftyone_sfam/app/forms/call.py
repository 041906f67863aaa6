"""What operators share: their calls from Python, and what the App shows after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.runs.run import Run


def call_operator(
    operator: foo.Operator,
    sample_collection: SampleCollection,
    params: dict[str, Any],
    delegate: bool = False,
    selected: list[str] | None = None,
) -> Any:
    """Execute an operator on a dataset or view."""
    context: dict[str, Any] = {"dataset": sample_collection._root_dataset}
    if isinstance(sample_collection, fo.DatasetView):
        context["view"] = sample_collection
    if selected is not None:
        context["selected"] = selected
    return foo.execute_operator(
        operator.uri, context, params=params, request_delegation=delegate
    )


def shown_fields(run: Run) -> list[str]:
    """Return the fields that show a run in the grid: its heatmap, and what it is of."""
    if run.config.patches_field is not None:
        return [run.key, run.config.patches_field]
    return [run.key, f"{run.key}_score"]
