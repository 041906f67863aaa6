"""Calling an operator from Python as the App does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


def call_operator(
    operator: foo.Operator,
    sample_collection: SampleCollection,
    params: dict[str, Any],
    delegate: bool = False,
    selected: list[str] | None = None,
) -> Any:
    """Execute an operator on a dataset or view.

    Parameters
    ----------
    operator : fiftyone.operators.Operator
        The operator.
    sample_collection : fiftyone dataset or view
        Its target.
    params : dict
        All of its parameters: the SDK fills in no defaults.
    delegate : bool
        Schedule the operation instead of waiting for it.
    selected : list of str, optional
        Ids of selected samples.

    Returns
    -------
    fiftyone.operators.ExecutionResult
        The result; an ``asyncio.Task`` of it in a notebook.
    """
    context: dict[str, Any] = {"dataset": sample_collection._dataset}
    if isinstance(sample_collection, fo.DatasetView):
        context["view"] = sample_collection
    if selected is not None:
        context["selected"] = selected
    return foo.execute_operator(
        operator.uri, context, params=params, request_delegation=delegate
    )
