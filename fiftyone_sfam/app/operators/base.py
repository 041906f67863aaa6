"""Base classes of the operators: parameters, the run, progress and errors."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Parameters, RunParameters
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.progress import Progress

_LOG = logging.getLogger("fiftyone_sfam")
_SECONDS_BETWEEN_REPORTS = 1.0

MOST_LISTED = 20
"""Most entries of a list in an operator's results."""

Context: TypeAlias = foo.ExecutionContext
Results: TypeAlias = dict[str, Any]

P = TypeVar("P", bound=Parameters)
R = TypeVar("R", bound=RunParameters)


class SfamOperator(foo.Operator, Generic[P]):
    """Checks the parameters of an operator, and shows its errors to users."""

    parameters: type[P]
    form_title: str
    result_title: str | None = None

    def is_large(self, ctx: Context, params: P) -> bool:
        """Return whether to delegate unless the user says otherwise."""
        return False

    def add_inputs(self, ctx: Context, params: P, inputs: types.Object) -> str | None:
        """Add the fields of the form; return what is wrong with the form as a whole."""
        raise NotImplementedError

    def perform(self, ctx: Context, params: P) -> Results:
        """Do what the operator is for, and return its results."""
        raise NotImplementedError

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the fields that show the results."""
        raise NotImplementedError

    def resolve_execution_options(self, ctx: Context) -> foo.ExecutionOptions:
        """Delegate large operations by default."""
        params, _ = self.parameters.read_form(ctx.params)
        delegable = self.config.allow_delegated_execution
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=delegable,
            default_choice_to_delegated=delegable and self.is_large(ctx, params),
        )

    def resolve_input(self, ctx: Context) -> types.Property:
        """Build the form."""
        params, problems = self.parameters.read_form(ctx.params)
        inputs = types.Object()
        form = types.Property(inputs, view=types.View(label=self.form_title))
        choices.mark(form, self.add_inputs(ctx, params, inputs))
        for name, field in inputs.properties.items():
            choices.mark(field, problems.get(name))
        return form

    def execute(self, ctx: Context) -> Results:
        """Perform the operation; return plain JSON.

        Errors carry no paths of this machine.
        """
        try:
            return plain(self.perform(ctx, self.parameters.read(ctx.params)))
        except SfamError as error:
            _LOG.warning("%s: %s", self.config.name, error)
            _LOG.debug("%s failed here:", self.config.name, exc_info=True)
            # FiftyOne sends the traceback to the App and to agents, and with it every
            # chained error.
            raise type(error)(choices.for_user(error)) from None

    def resolve_output(self, ctx: Context) -> types.Property | None:
        """Describe the results, if the App is to show them in a dialog."""
        outputs = types.Object()
        self.add_outputs(outputs, ctx.results)
        if not outputs.properties:
            return None
        for number, text in enumerate(ctx.results.get("warnings") or ()):
            outputs.view(f"warning_{number}", types.Warning(label=text))
        view = self.result_title and types.View(label=self.result_title)
        return types.Property(outputs, view=view)

    def call(
        self,
        sample_collection: SampleCollection,
        params: dict[str, Any],
        delegate: bool = False,
        selected: list[str] | None = None,
    ) -> Any:
        """Execute the operator on a dataset or view from Python."""
        context: dict[str, Any] = {"dataset": sample_collection._root_dataset}
        if isinstance(sample_collection, fo.DatasetView):
            context["view"] = sample_collection
        if selected is not None:
            context["selected"] = selected
        return foo.execute_operator(
            self.uri, context, params=params, request_delegation=delegate
        )


class RunOperator(SfamOperator[R]):
    """An operator on one of the runs of a dataset."""

    makes_runs = "SFAM: explain retrieval"  # the operator that makes such runs

    def keys(self, dataset: fo.Dataset) -> list[str]:
        """List the runs that the operator may be about."""
        return list_runs(dataset)

    def add_run_inputs(
        self, ctx: Context, params: R, inputs: types.Object, run: Run
    ) -> None:
        """Add the fields of the form below the choice of the run."""
        raise NotImplementedError

    def perform_on(self, ctx: Context, params: R, run: Run) -> Results:
        """Do what the operator is for, and return its results."""
        raise NotImplementedError

    def run_problem(self, run: Run) -> str | None:
        """Return why the operator cannot work on a run."""
        return None

    def chosen_run(self, ctx: Context, params: R) -> Run | None:
        """Return the run that a form is about; None if there is no such run."""
        key = params.key or next(iter(self.keys(ctx.dataset)), None)
        return current_run(ctx.dataset, key)

    def add_inputs(self, ctx: Context, params: R, inputs: types.Object) -> str | None:
        """Add the choice of the run, and the fields below."""
        keys = self.keys(ctx.dataset)
        if not keys:
            return no_runs(inputs, self.makes_runs)
        run = self.chosen_run(ctx, params)
        problem = "there is no such run; choose another."
        choices.add_choice(
            inputs,
            "key",
            keys,
            label="Run",
            default=keys[0],
            required=True,
            problem=problem if run is None else self.run_problem(run),
        )
        if run is not None and not inputs.properties["key"].invalid:
            self.add_run_inputs(ctx, params, inputs, run)
        return None

    def perform(self, ctx: Context, params: R) -> Results:
        """Load the run, and work on it."""
        return self.perform_on(ctx, params, load_run(ctx.dataset, params.key or ""))


def plain(value: Any) -> Any:
    """Return results as plain JSON, which has no NaN and no types of numpy."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def add_table(
    outputs: types.Object, name: str, label: str, columns: Mapping[str, str]
) -> None:
    """Add a list of results as a table of columns with these labels."""
    row, view = types.Object(), types.TableView()
    for column, shown in columns.items():
        row.str(column, label=shown)
        view.add_column(column, label=shown)
    outputs.list(name, row, label=label, view=view)


def no_runs(inputs: types.Object, makes_runs: str = RunOperator.makes_runs) -> str:
    """Say in a form that the dataset has no runs; return that as its problem."""
    inputs.view(
        "none",
        types.Warning(
            label="No runs yet",
            description=f"Make one with the operator '{makes_runs}'.",
        ),
    )
    return "there are no runs."


def shown_fields(run: Run) -> list[str]:
    """Return the fields that show a run in the grid."""
    return [run.key, run.config.patches_field or f"{run.key}_score"]


def progress_of(
    ctx: Context, unit: str = "images", phases: Sequence[str] = ()
) -> Progress | None:
    """Return a function that shows the progress of a delegated operation.

    Phases, if given, are parts of the whole of equal length. None is returned for an
    immediate operation, which has no place to show its progress.
    """
    if not ctx.delegated:
        return None
    reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

    def report(done: int, total: int, phase: str) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported < _SECONDS_BETWEEN_REPORTS and done != total:
            return
        reported = now
        before = phases.index(phase) if phase in phases else 0
        ctx.set_progress(
            progress=(before + done / max(total, 1)) / max(len(phases), 1),
            label=f"{phase}: {done} of {total} {unit}",
        )

    return report
