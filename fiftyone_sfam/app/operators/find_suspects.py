"""The operator that looks for wrong labels and useless images in a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.parameters import one_text, real_number, some_texts
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.audit.suspects.search import KINDS, MIN_SCORE, find_suspects
from fiftyone_sfam.audit.suspects.sources import AUTO
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 20_000
"""Images from which a search is delegated unless the user says otherwise."""

NONE = "none"
"""Choice of doing without a region field."""

_SECONDS_BETWEEN_REPORTS = 1.0


class FindSuspects(foo.Operator):
    """Finds labels and images of a run that are probably wrong."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="find_suspects",
            label="SFAM: find suspects",
            description="Wrong labels, split and merged identities, duplicates",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large runs by default."""
        run = _chosen_run(ctx)
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=run is not None and len(run.items) >= LARGE,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Find suspects in a run")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        run = _chosen_run(ctx)
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
            error=None if run is not None else "there is no such run; choose another.",
        )
        if run is None:
            return types.Property(inputs, view=view)
        _kind_inputs(ctx, inputs)
        _field_inputs(ctx, inputs, run)
        choices.mark(
            inputs.float(
                "min_score",
                label="Least score",
                description="At 0.5 a kind's threshold is reached",
                default=MIN_SCORE,
                min=0,
                max=0.99,
            ),
            _score_problem(ctx.params.get("min_score")),
        )
        _notices(inputs, run)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Search; see :func:`fiftyone_sfam.audit.suspects.search.find_suspects`."""
        check_types(ctx.params, numbers=False)
        run = load_run(ctx.dataset, str(ctx.params.get("key")))
        reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

        def report(done: int, total: int, phase: str) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported >= _SECONDS_BETWEEN_REPORTS or done == total:
                reported = now
                ctx.set_progress(
                    progress=done / max(total, 1),
                    label=f"{phase}: {done} of {total} images",
                )

        found = find_suspects(
            run,
            # Only a delegated operation has a place to show its progress.
            progress=report if ctx.delegated else None,
            **_settings(ctx.params),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        return {
            "key": run.key,
            "findings": len(found),
            **found.counts(),
            "limits": " ".join(found.limits),
        }

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.int("findings", label="Findings")
        for kind in KINDS:
            if kind in ctx.results:
                outputs.int(kind, label=kind.capitalize())
        outputs.str("limits", label="What could not be judged")
        return types.Property(outputs, view=types.View(label="Suspects found"))

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        kinds: Sequence[str] | None = None,
        min_score: float = MIN_SCORE,
        region_field: str | None = AUTO,
        split_field: str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "kinds": None if kinds is None else list(kinds),
            "min_score": min_score,
            "region_field": NONE if region_field is None else region_field,
            "split_field": split_field,
        }
        return call_operator(self, sample_collection, params, delegate)


def _chosen_run(ctx: foo.ExecutionContext) -> Run | None:
    """Load the run of the form; None if there is none."""
    key = ctx.params.get("key") or next(iter(list_runs(ctx.dataset)), None)
    return current_run(ctx.dataset, key)


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the library's function."""
    field = one_text(params, "region_field") or AUTO
    return {
        "kinds": some_texts(params, "kinds") or None,
        "min_score": real_number(params, "min_score", MIN_SCORE, least=0, most=1),
        "region_field": None if field == NONE else field,
        "split_field": one_text(params, "split_field"),
    }


def _kind_inputs(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Ask for the kinds to look for."""
    view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
    for kind in KINDS:
        view.add_choice(kind, label=kind)
    listed = inputs.list(
        "kinds",
        types.String(),
        label="Kinds",
        description="All kinds by default",
        view=view,
    )
    unknown = [one for one in ctx.params.get("kinds") or [] if one not in KINDS]
    if unknown:
        choices.mark(listed, f"'{unknown[0]}' is no kind of suspect.")


def _field_inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask for the fields that tell the background and the splits."""
    fields = region_fields(run)
    if fields:
        choices.add_choice(
            inputs,
            "region_field",
            [
                (AUTO, "the one that fits best"),
                *((name, name) for name in fields),
                (NONE, "none"),
            ],
            label="Field of person and background",
            description="Tells one person under two names from two before one wall",
            default=AUTO,
        )
    given = run.config.protocol["split_field"]
    names = [("tags", "tags")]
    names += [(name, name) for name in choices.label_fields(ctx.dataset)]
    choices.add_choice(
        inputs,
        "split_field",
        names,
        label="Split field",
        description="Near-duplicates across its values are leaks",
        default=given,
    )


def _score_problem(given: Any) -> str | None:
    """Say what is wrong with the least score."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return "give a number from 0 up to 1."
    return None if 0 <= given < 1 else "give a number from 0 up to 1."


def _notices(inputs: types.Object, run: Run) -> None:
    """Say what can be found, and how large the run is."""
    if run.config.protocol["identity_field"] is None:
        inputs.view(
            "labels",
            types.Warning(
                label="This run has no identity field: only near-duplicates are found."
            ),
        )
    count = len(run.items)
    text = f"{count:,} images are compared with each other."
    if count >= LARGE:
        text += " Large: better delegated."
    inputs.view("estimate", types.Notice(label=text))
