"""Operators as FiftyOne executes them: contexts, what they ask of the App, forms."""

from __future__ import annotations

import json
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types
from fiftyone.operators.executor import Executor, ValidationContext

PLUGIN = "@fiftyone-sfam/sfam"


def context(
    dataset: fo.Dataset, params: dict[str, Any] | None = None, **request: Any
) -> foo.ExecutionContext:
    """Return the context that the App's server makes for a request."""
    return foo.ExecutionContext(
        request_params={
            "dataset_name": dataset.name,
            "params": dict(params or {}),
            **request,
        },
        executor=Executor(),
    )


def requests(ctx: foo.ExecutionContext) -> list[tuple[str, dict[str, Any]]]:
    """Return what the App was asked to do, in order."""
    asked = ctx.executor.to_json()["requests"]
    return [(request["operator_uri"], request["params"] or {}) for request in asked]


def form(
    operator: foo.Operator, source: fo.Dataset | foo.ExecutionContext, **params: Any
) -> dict[str, Any]:
    """Return the fields of an operator's form by name."""
    inputs = operator.resolve_input(_context_of(source, params))
    # The App is sent JSON.
    json.dumps(inputs.to_json())
    return dict(inputs.type.properties)


def problems(
    operator: foo.Operator, source: fo.Dataset | foo.ExecutionContext, **params: Any
) -> dict[str, str]:
    """Return FiftyOne's errors of a form by field; '' is the form as a whole."""
    ctx = _context_of(source, params)
    validation = ValidationContext(ctx, operator.resolve_input(ctx), operator)
    return {error.path.lstrip("."): error.reason for error in validation.errors}


def _context_of(
    source: fo.Dataset | foo.ExecutionContext, params: dict[str, Any]
) -> foo.ExecutionContext:
    if isinstance(source, foo.ExecutionContext):
        return source
    return context(source, params)


def offered(prop: types.Property) -> list[str]:
    """Return the choices of a drop-down list."""
    return [choice.value for choice in prop.view.choices]
