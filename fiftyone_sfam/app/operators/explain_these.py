"""The operators that explain what is selected or shown in the App."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.making import MakingParameters, add_model
from fiftyone_sfam.app.forms.parameters import RunParameters, Text, Whole, whole
from fiftyone_sfam.app.operators.base import (
    Context,
    Results,
    RunOperator,
    SfamOperator,
    progress_of,
)
from fiftyone_sfam.app.pairs.places import item_of
from fiftyone_sfam.app.panel_state import current_run, hand_over
from fiftyone_sfam.app.these import PAIRS, These, find_these
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

NEW = "(new)"
"""Stands for a new run of these images, in place of a stored one."""

LARGE = 2000
"""Images from which a new run is delegated unless the user says otherwise."""

MAX_K = 100

MOST_SHOWN = 5000
"""Most pairs that become the queue of the panel."""


class TheseParameters(MakingParameters):
    """A stored run and which of its pairs, or what to make a new one with."""

    run: Text | None = None
    pairs: Literal["nearest", "among", "search"] | None = None
    key: Text = "these"
    identity_field: Text | None = None
    k: Whole = whole(3, 1, MAX_K)


class ExplainThese(SfamOperator[TheseParameters]):
    """Shows the pairs of the selected samples, or of the view, in the panel."""

    config = foo.OperatorConfig(
        name="explain_these",
        label="SFAM: explain these",
        description="Why the selected samples, or those of this view, match",
        dynamic=True,
        allow_delegated_execution=True,
        view_target=False,
    )
    parameters = TheseParameters
    form_title = "Explain these"

    def resolve_placement(self, ctx: Context) -> types.Placement:
        """Put a button above the grid."""
        button = types.Button(label="SFAM: explain these", icon="compare", prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_ACTIONS, button)

    def is_large(self, ctx: Context, params: TheseParameters) -> bool:
        """Return whether a new run would be of many images."""
        return _source(ctx, params) == NEW and len(find_these(ctx).view) >= LARGE

    def add_inputs(
        self, ctx: Context, params: TheseParameters, inputs: types.Object
    ) -> str | None:
        """Add what these are, the run, and its pairs or what to make it with."""
        problem = choices.problem_of(find_these, ctx)
        if problem is not None:
            return problem
        these, source, keys = (
            find_these(ctx),
            _source(ctx, params),
            list_runs(ctx.dataset),
        )
        inputs.view("these", types.Notice(label=f"{these}."))
        choices.add_choice(
            inputs,
            "run",
            [*keys, (NEW, "a new run of these alone")],
            label="Run",
            default=keys[0] if keys else NEW,
            problem=None
            if source in (*keys, NEW)
            else "there is no such run; choose another.",
        )
        if source == NEW:
            add_model(ctx, params, inputs)
            choices.add_choice(
                inputs,
                "identity_field",
                choices.label_fields(ctx.dataset),
                label="Identity field",
                description="Separates true from false matches",
            )
            if these.query is None:
                inputs.int("k", label="Neighbors", default=3, min=1, max=MAX_K)
                few = len(these.view) < 2
                return "these are fewer than two; select more." if few else None
            return None
        offered = these.offered
        choices.add_choice(
            inputs,
            "pairs",
            [(name, PAIRS[name]) for name in offered],
            label="Pairs",
            default=offered[0],
        )
        run = current_run(ctx.dataset, source)
        if run is None:
            return None
        pairs = these.pairs_of(run, params.pairs or offered[0])
        inputs.view("count", types.Notice(label=f"{counted(len(pairs), 'pair')}."))
        return None if len(pairs) else _no_pairs(run)

    def perform(self, ctx: Context, params: TheseParameters) -> Results:
        """Find the pairs, or make them, and show them in the panel."""
        these, source = find_these(ctx), _source(ctx, params)
        if source == NEW:
            run = _make(ctx, params, these)
            pairs = list(range(len(run.pairs)))
        else:
            run = load_run(ctx.dataset, source)
            pairs = these.pairs_of(run, params.pairs or these.offered[0]).tolist()
            if not pairs:
                raise DataError(_no_pairs(run))
        if not ctx.delegated:
            if source == NEW:
                ctx.ops.reload_dataset()
            hand_over(ctx, run, pairs[:MOST_SHOWN], str(these))
        return {"key": run.key, "pairs": len(pairs), "these": str(these)}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add nothing: the panel shows the pairs."""

    def __call__(
        self,
        sample_collection: SampleCollection,
        *,
        run: str | None = None,
        pairs: str | None = None,
        model: str | None = None,
        delegate: bool = False,
        **settings: Any,
    ) -> Any:
        """Run the operator from Python: with a stored ``run``, or a new one."""
        params = TheseParameters.of_call("explain_these", str(model), settings)
        params |= {"model": model, "pairs": pairs}
        params["run"] = NEW if run is None and model is not None else run
        return self.call(sample_collection, params, delegate)


class ExplainThis(RunOperator[RunParameters]):
    """Shows the pairs of the open sample in the panel of pairs."""

    config = foo.OperatorConfig(
        name="explain_this",
        label="SFAM: explain this sample",
        description="The neighbors of the open sample, in the panel SFAM pairs",
        dynamic=True,
    )
    parameters = RunParameters
    form_title = "Explain this sample"

    def resolve_placement(self, ctx: Context) -> types.Placement:
        """Put a button into the sample view."""
        button = types.Button(
            label="SFAM: explain this sample", icon="compare", prompt=True
        )
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def add_run_inputs(
        self, ctx: Context, params: RunParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add how many pairs there are."""
        problem = choices.problem_of(_pairs_of_open, ctx, run)
        count = 0 if problem else len(_pairs_of_open(ctx, run))
        notice = types.Notice(label=f"{counted(count, 'pair')}.")
        choices.mark(inputs.view("count", notice), problem)

    def perform_on(self, ctx: Context, params: RunParameters, run: Run) -> Results:
        """Show the pairs in the panel beside the sample."""
        pairs = _pairs_of_open(ctx, run)
        hand_over(ctx, run, pairs, "the open sample")
        return {"key": run.key, "pairs": len(pairs)}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add nothing: the panel shows the pairs."""


def _source(ctx: Context, params: TheseParameters) -> str:
    """Return the key of the stored run, or that a new one is to be made."""
    return params.run or next(iter(list_runs(ctx.dataset)), NEW)


def _no_pairs(run: Run) -> str:
    return f"the run '{run.key}' has no such pair of these; choose a new run."


def _make(ctx: Context, params: TheseParameters, these: These) -> Run:
    """Explain these images as a new run."""
    options = {
        **params.options(),
        "patches_field": these.patches_field,
        "progress": progress_of(ctx, phases=params.phases),
    }
    model, ids = params.known_model(), these.ids()
    if these.query is not None:
        from fiftyone_sfam.pipeline.explain_pairs import explain_pairs

        listed = [(these.query, other) for other in ids if other != these.query]
        return explain_pairs(
            ctx.dataset, model, listed, identity_field=params.identity_field, **options
        )
    from fiftyone_sfam.pipeline.explain import explain_retrieval

    return explain_retrieval(
        these.samples(),
        model,
        k=min(params.k, max(len(ids) - 1, 1)),
        protocol=Protocol(identity_field=params.identity_field),
        **options,
    )


def _pairs_of_open(ctx: Context, run: Run) -> list[int]:
    """Return the pairs of the sample that is open in the App."""
    sample_id = ctx.current_sample
    if not sample_id:
        raise DataError("no sample is open; open one in the grid.")
    item = item_of(run, str(sample_id))
    pairs = [] if item is None else run.pairs.of_query(item).tolist()
    if not pairs:
        raise DataError(
            f"the open sample is not a query of the run '{run.key}'; choose another "
            "run, or explain the data set again."
        )
    return pairs
