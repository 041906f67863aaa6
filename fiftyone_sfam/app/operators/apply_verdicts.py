"""The operator that corrects labels by the verdicts of a run, and undoes that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import RunParameters, Text
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator, no_runs
from fiftyone_sfam.audit.fixes.apply import (
    applied_fields,
    apply_verdicts,
    check_target,
    default_field,
    undo_fixes,
)
from fiftyone_sfam.audit.fixes.find import Fix, Fixes, find_fixes
from fiftyone_sfam.audit.report.tables import item_files
from fiftyone_sfam.data.text import counted, one_line
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.runs.run import Run, list_runs

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.audit.fixes.apply import LeftOut

APPLY, UNDO = "apply", "undo"

LARGE = 100_000
"""Images from which the operation is delegated unless the user says otherwise."""

SHOWN = 20
"""Most fixes that the form lists."""

_WIDEST = 28


class VerdictParameters(RunParameters):
    """What to apply or undo, and in which field."""

    action: Literal["apply", "undo"] = "apply"
    field: Text | None = None
    overwrite: bool = False
    undo_field: Text | None = None


class ApplyVerdicts(RunOperator[VerdictParameters]):
    """Writes a field of identities with the corrections that verdicts agree on."""

    config = foo.OperatorConfig(
        name="apply_verdicts",
        label="SFAM: apply verdicts",
        description="Correct labels by the verdicts of a run, in a new field",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = VerdictParameters
    form_title = "Apply the verdicts of a run"
    result_title = "Verdicts applied"

    def is_large(self, ctx: Context, params: VerdictParameters) -> bool:
        """Return whether the dataset has many samples."""
        return len(ctx.dataset) >= LARGE

    def add_inputs(
        self, ctx: Context, params: VerdictParameters, inputs: types.Object
    ) -> str | None:
        """Add what to do, if there is something to undo, and its fields."""
        keys, applied = list_runs(ctx.dataset), applied_fields(ctx.dataset)
        if not keys and not applied:
            return no_runs(inputs)
        default = APPLY if keys else UNDO
        action = params.action if "action" in params.model_fields_set else default
        if applied:
            actions = [(APPLY, "correct the labels")] if keys else []
            choices.add_choice(
                inputs,
                "action",
                [*actions, (UNDO, "undo an earlier correction")],
                label="What to do",
                default=default,
            )
        if action == APPLY:
            return super().add_inputs(ctx, params, inputs)
        if applied:
            choices.add_choice(
                inputs,
                "undo_field",
                applied,
                label="Field",
                description="A field that a correction has created is deleted; in "
                "other fields, the values before the correction are restored",
                default=applied[0],
            )
            return None
        warning = inputs.view("none", types.Warning(label="Nothing was applied yet"))
        choices.mark(warning, "there is nothing to undo.")
        return None

    def add_run_inputs(
        self, ctx: Context, params: VerdictParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the field, and a preview of the corrections."""
        try:
            fixes = find_fixes(run)
        except SfamError as error:
            warning = inputs.view("labels", types.Warning(label=str(error)))
            choices.mark(warning, str(error))
            return
        _add_field(params, inputs, run)
        text = (
            f"{counted(len(fixes.agreed), 'correction')} agreed on, "
            f"{counted(len(fixes.open), 'label')} wrong without a right one, "
            f"{counted(len(fixes.conflicts), 'verdict')} in conflict with others."
        )
        problem = None if fixes.agreed else "the verdicts agree on no correction yet."
        choices.mark(inputs.view("count", types.Notice(label=text)), problem)
        if fixes.fixes or fixes.conflicts:
            inputs.md(preview(run, fixes), name="preview")

    def perform(self, ctx: Context, params: VerdictParameters) -> Results:
        """Apply or undo; see :mod:`fiftyone_sfam.audit.fixes.apply`."""
        if params.action == UNDO:
            undone = undo_fixes(ctx.dataset, params.undo_field)
            results = {
                "field": undone.field,
                "deleted": undone.deleted,
                "restored": undone.restored,
                "left_out": _listed(undone.left_out),
            }
        else:
            results = super().perform(ctx, params)
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        return results

    def perform_on(self, ctx: Context, params: VerdictParameters, run: Run) -> Results:
        """Apply the corrections that the verdicts agree on now."""
        applied = apply_verdicts(run, field=params.field, overwrite=params.overwrite)
        return {
            "field": applied.field,
            "fixed": applied.fixed,
            "changed": applied.changed,
            "open": applied.open,
            "conflicts": applied.conflicts,
            "left_out": _listed(applied.left_out),
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the field, and how many labels were corrected or restored."""
        outputs.str("field", label="Field")
        for name, label in (
            ("fixed", "Labels corrected"),
            ("changed", "Values changed in an existing field"),
            ("open", "Labels that are wrong, without a right one"),
            ("conflicts", "Contradictions"),
            ("restored", "Values restored"),
        ):
            if name in results:
                outputs.int(name, label=label)
        if results.get("deleted"):
            outputs.bool("deleted", label="The field was deleted")
        outputs.list("left_out", types.String(), label="Left out")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str | None = None,
        *,
        action: str = APPLY,
        field: str | None = None,
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {"key": key, "action": action, "overwrite": overwrite}
        params["undo_field" if action == UNDO else "field"] = field
        return self.call(sample_collection, params, delegate)


def _add_field(params: VerdictParameters, inputs: types.Object, run: Run) -> None:
    """Add the field to write, and whether to change an existing one."""
    default = default_field(run)
    name = params.field or default
    problem, exists = None, False
    try:
        exists = check_target(run, name)
    except SfamError as error:
        problem = str(error)
    if exists and not params.overwrite:
        problem = (
            f"there is a field '{name}' already; allow changing it, or give another "
            "name."
        )
    field = inputs.str(
        "field",
        label="Field to write",
        description="A new field gets all present identities, and the corrections",
        default=default,
    )
    choices.mark(field, problem)
    if exists:
        inputs.bool(
            "overwrite",
            label=f"Change the field '{name}'",
            description="This can be undone",
            default=False,
        )


def preview(run: Run, fixes: Fixes) -> str:
    """List the corrections, as Markdown in which no label acts as markup."""
    shown = (*fixes.agreed, *fixes.open)[:SHOWN]
    items = {fix.id: run.items.index(fix.id) for fix in shown}
    files = item_files(run, [item for item in items.values() if item >= 0])
    lines = [_line(fix, files.get(items[fix.id], fix.id)) for fix in shown]
    more = len(fixes.fixes) - len(shown)
    if more:
        lines.append(f"and {more:,} more")
    for conflict in fixes.conflicts[:SHOWN]:
        lines.append(f"left out: {_plain(conflict.sentence, 200)}")
    return "\n".join(["```corrections", *lines, "```"])


def _line(fix: Fix, file: str) -> str:
    new = "?" if fix.new is None else _plain(fix.new)
    old = "no label" if fix.old is None else _plain(fix.old)
    return f"{_plain(file):<{_WIDEST}}  {old} -> {new}  ({fix.rule})"


def _plain(text: str, length: int = _WIDEST) -> str:
    """Return a text that cannot end the code block around it."""
    return one_line(text.replace("`", "'"), length)


def _listed(left_out: Sequence[LeftOut]) -> list[str]:
    """Describe the first labels that were left out."""
    lines = [f"{label.id}: {label.reason}" for label in left_out[:SHOWN]]
    if len(left_out) > SHOWN:
        lines.append(f"and {len(left_out) - SHOWN:,} more")
    return lines
