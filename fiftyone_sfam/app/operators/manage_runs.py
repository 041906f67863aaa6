"""The operator that shows, renames and deletes runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.markdown import as_text
from fiftyone_sfam.app.forms.parameters import RunParameters, Text
from fiftyone_sfam.app.operators.base import (
    Context,
    Results,
    SfamOperator,
    no_runs,
    shown_fields,
)
from fiftyone_sfam.data.text import counted, percent
from fiftyone_sfam.pipeline.manage import check_key, delete_run, rename_run
from fiftyone_sfam.retrieval.pairs import WITHOUT_MATCH
from fiftyone_sfam.runs.run import Run, list_runs, load_run
from fiftyone_sfam.runs.run_config import METHOD, RunConfig, run_config

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

SHOW, RENAME, DELETE = "show", "rename", "delete"


class ManageParameters(RunParameters):
    """What to do with a run."""

    action: Literal["show", "rename", "delete"] = "show"
    new_key: Text | None = None


# Not an operator on a finished run: an interrupted run can be deleted.
class ManageRuns(SfamOperator[ManageParameters]):
    """Shows a run's heatmaps and summary, renames it, or deletes it."""

    config = foo.OperatorConfig(
        name="manage_runs",
        label="SFAM: manage runs",
        description="Show, rename or delete explained runs",
        dynamic=True,
    )
    parameters = ManageParameters
    form_title = "Explained runs"

    def add_inputs(
        self, ctx: Context, params: ManageParameters, inputs: types.Object
    ) -> str | None:
        """Add the run, its summary, and what to do with it."""
        finished = list_runs(ctx.dataset)
        interrupted = [
            key for key in ctx.dataset.list_runs(method=METHOD) if key not in finished
        ]
        keys = [*finished, *interrupted]
        if not keys:
            return no_runs(inputs)
        key = params.key or keys[0]
        problem = choices.problem_of(load_run, ctx.dataset, key)
        choices.add_choice(
            inputs,
            "key",
            [
                *finished,
                *((name, f"{name} (interrupted)") for name in interrupted),
            ],
            label="Run",
            default=keys[0],
            required=True,
            problem=None if params.action == DELETE else problem,
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
        )
        if problem is None:
            inputs.md(_description(load_run(ctx.dataset, key)), name="about")
        if params.action == RENAME:
            field = inputs.str("new_key", label="New key", required=True)
            choices.mark(field, _rename_problem(ctx.dataset, key, params.new_key, keys))
        return None

    def perform(self, ctx: Context, params: ManageParameters) -> Results:
        """Show, rename or delete the run."""
        dataset, key = ctx.dataset, params.key or ""
        if params.action == SHOW:
            ctx.ops.set_active_fields(shown_fields(load_run(dataset, key)))
        else:
            if params.action == DELETE:
                delete_run(dataset, key)
            else:
                rename_run(dataset, key, params.new_key or "")
            ctx.ops.reload_dataset()
        return {"runs": list_runs(dataset)}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the keys of the runs."""
        outputs.list("runs", types.String(), label="Runs of this dataset")

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
        return self.call(sample_collection, params)


def _rename_problem(
    dataset: fo.Dataset, key: str, new_key: str | None, keys: list[str]
) -> str | None:
    """Return why a run cannot get a new key."""
    config = run_config(dataset, key)
    # The fields of an interrupted renaming do not block its repetition.
    if not new_key or (config is not None and config.renamed_to == new_key):
        return None
    if new_key in keys:
        return f"there is a run '{new_key}' already; give another key."
    return choices.problem_of(check_key, dataset, new_key, None)


def _contributions(config: RunConfig) -> list[str]:
    """Describe the contributions that a run keeps, if any."""
    if config.contributions is None:
        return []
    size = (config.contribution_bytes or 0) / 1000
    return [f"contributions as {config.contributions}, {size:.1f} kB per image"]


def _description(run: Run) -> str:
    """Describe a run in Markdown."""
    config, summary = run.config, run.summary()
    rank1 = summary["rank1"]
    shown = "rank-1 unknown: no matches to find"
    if rank1 is not None:
        shown = f"rank-1 {percent(rank1)}"
        if summary[WITHOUT_MATCH]:
            without = counted(summary[WITHOUT_MATCH], "query", "queries")
            shown += f", without {without} that have no match to find"
    of_pairs = f"k={config.k}"
    if not run.ranked:
        one, two = summary["true match"], summary["false match"]
        shown = f"{counted(one, 'pair')} of one identity, {two:,} of two"
        of_pairs = "given as a list"
    lines = [
        f"model {as_text(config.model)}, layer {as_text(config.layer)}, "
        f"{as_text(config.metric)}",
        f"{counted(summary['queries'], 'query', 'queries')}, "
        f"{counted(summary['pairs'], 'pair')} ({of_pairs}), "
        f"{counted(summary['skipped'], 'image')} skipped",
        shown,
        *_contributions(config),
        *(as_text(text, most=None) for text in run.warnings),
    ]
    return "\n".join(f"- {line}" for line in lines)
