"""The operator that shows, renames and deletes runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator, shown_fields
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.pairs.layout import as_text
from fiftyone_sfam.errors import RunError, SfamError
from fiftyone_sfam.pipeline.manage import check_key, delete_run, rename_run
from fiftyone_sfam.runs.run import list_runs, load_run
from fiftyone_sfam.runs.run_config import run_config

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

SHOW, RENAME, DELETE = "show", "rename", "delete"


class ManageRuns(foo.Operator):
    """Shows a run's heatmaps and summary, renames it, or deletes it."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="manage_runs",
            label="SFAM: manage runs",
            description="Show, rename or delete explained runs",
            dynamic=True,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Explained runs")
        runs = choices.run_choices(ctx.dataset, interrupted=True)
        keys = [key for key, _ in runs]
        if not keys:
            return choices.without_runs(view)
        key, action = ctx.params.get("key", keys[0]), ctx.params.get("action", SHOW)
        choices.add_choice(
            inputs,
            "key",
            runs,
            label="Run",
            default=keys[0],
            required=True,
            error=None if action == DELETE else _problem(ctx, key),
        )
        choices.add_choice(
            inputs,
            "action",
            [
                (SHOW, "show its heatmaps"),
                (RENAME, "rename it"),
                (DELETE, "delete it, with its fields and maps"),
            ],
            label="What to do",
            default=SHOW,
            required=True,
        )
        if _problem(ctx, key) is None:
            inputs.md(_description(ctx, key), name="about")
        if action == RENAME:
            problem = _rename_problem(ctx, key, ctx.params.get("new_key"), keys)
            choices.mark(inputs.str("new_key", label="New key", required=True), problem)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Do what was chosen."""
        check_types(ctx.params, numbers=False)
        key = str(ctx.params.get("key"))
        action = ctx.params.get("action") or SHOW
        if action == DELETE:
            delete_run(ctx.dataset, key)
            ctx.ops.reload_dataset()
        elif action == RENAME:
            rename_run(ctx.dataset, key, str(ctx.params.get("new_key") or ""))
            ctx.ops.reload_dataset()
        elif action == SHOW:
            ctx.ops.set_active_fields(shown_fields(load_run(ctx.dataset, key)))
        else:
            raise RunError(
                f"unknown action {action!r}; use {SHOW}, {RENAME} or {DELETE}."
            )
        return {"runs": list_runs(ctx.dataset)}

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.list("runs", types.String(), label="Runs of this dataset")
        return types.Property(outputs)

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        action: str = SHOW,
        new_key: str | None = None,
    ) -> Any:
        """Run the operator from Python."""
        params = {"key": key, "action": action, "new_key": new_key}
        return call_operator(self, sample_collection, params)


def _problem(ctx: foo.ExecutionContext, key: Any) -> str | None:
    """Say why a run cannot be shown."""
    try:
        load_run(ctx.dataset, str(key))
    except RunError as error:
        return str(error)
    return None


def _rename_problem(
    ctx: foo.ExecutionContext, key: str, new_key: str | None, keys: list[str]
) -> str | None:
    """Say why a run cannot get a new key."""
    config = run_config(ctx.dataset, key)
    # What an interrupted renaming has done of it is not in its own way.
    if not new_key or (config is not None and config.renamed_to == new_key):
        return None
    if new_key in keys:
        return f"there is a run '{new_key}' already."
    try:
        check_key(ctx.dataset, new_key, None)
    except SfamError as error:
        return str(error)
    return None


def _description(ctx: foo.ExecutionContext, key: str) -> str:
    """Describe a run in Markdown."""
    run = load_run(ctx.dataset, key)
    config, summary = run.config, run.summary()
    rank1 = summary["rank1"]
    return "\n".join(
        [
            f"- model {as_text(config.model)}, layer {as_text(config.layer)}, "
            f"{as_text(config.metric)}",
            f"- {summary['queries']} queries, {summary['pairs']} pairs (k={config.k}), "
            f"{summary['skipped']} images skipped",
            "- rank-1 "
            + ("unknown: no labels" if rank1 is None else f"{100 * rank1:.1f} %"),
            *(f"- {as_text(text, most=None)}" for text in run.warnings),
        ]
    )
