"""The operator that corrects labels as a run's verdicts say, and takes it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.audit.fixes.apply import (
    applied_fields,
    apply_verdicts,
    check_target,
    default_field,
    undo_fixes,
)
from fiftyone_sfam.audit.fixes.find import Fix, Fixes, find_fixes
from fiftyone_sfam.audit.report.tables import item_files
from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError, SfamError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.audit.fixes.apply import Applied, LeftOut

APPLY, UNDO = "apply", "undo"

LARGE = 100_000
"""Images from which the writing is delegated unless the user says otherwise."""

SHOWN = 20
"""Most fixes that the form lists."""

_WIDEST = 28


class ApplyVerdicts(foo.Operator):
    """Writes a field of identities with the corrections that verdicts agree on."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="apply_verdicts",
            label="SFAM: apply verdicts",
            description="Correct labels as a run's verdicts say, in a new field",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large datasets by default."""
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=len(ctx.dataset) >= LARGE,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Apply a run's verdicts")
        keys, applied = list_runs(ctx.dataset), applied_fields(ctx.dataset)
        if not keys and not applied:
            return choices.without_runs(view)
        action = ctx.params.get("action") or (APPLY if keys else UNDO)
        if applied:
            listed = [(APPLY, "correct the labels")] if keys else []
            choices.add_choice(
                inputs,
                "action",
                [*listed, (UNDO, "take an earlier correction back")],
                label="What to do",
                default=listed[0][0] if listed else UNDO,
                required=True,
            )
        if action == UNDO:
            _undo_inputs(inputs, applied)
        else:
            _apply_inputs(ctx, inputs, keys)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Do what was chosen; see :mod:`fiftyone_sfam.audit.fixes.apply`."""
        check_types(ctx.params, numbers=False)
        action = ctx.params.get("action") or APPLY
        if action == UNDO:
            result = _undo(ctx)
        elif action == APPLY:
            result = _apply(ctx)
        else:
            raise DataError(f"unknown action {action!r}; use {APPLY} or {UNDO}.")
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        return result

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("field", label="Field")
        for name, label in (
            ("fixed", "Labels corrected"),
            ("changed", "Values changed in a field that was there"),
            ("open", "Labels called wrong, without a right one"),
            ("conflicts", "Contradictions"),
            ("restored", "Values restored"),
        ):
            if name in ctx.results:
                outputs.int(name, label=label)
        if ctx.results.get("deleted"):
            outputs.bool("deleted", label="The field was deleted")
        outputs.list("left_out", types.String(), label="Left out")
        return types.Property(outputs, view=types.View(label="Verdicts applied"))

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
        return call_operator(self, sample_collection, params, delegate)


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _undo_inputs(inputs: types.Object, applied: list[str]) -> None:
    """Ask which field to take back."""
    if not applied:
        choices.mark(
            inputs.view("none", types.Warning(label="Nothing was applied yet")),
            "there is nothing to take back.",
        )
        return
    choices.add_choice(
        inputs,
        "undo_field",
        [(path, path) for path in applied],
        label="Field",
        description="A field that a correction has made is deleted; in others the "
        "values that it replaced come back",
        default=applied[0],
    )


def _apply_inputs(
    ctx: foo.ExecutionContext, inputs: types.Object, keys: list[str]
) -> None:
    """Ask for the run and the field, and show what would be done."""
    key = ctx.params.get("key") or keys[0]
    choices.add_choice(
        inputs,
        "key",
        choices.run_choices(ctx.dataset),
        label="Run",
        default=keys[0],
        required=True,
        error=None if key in keys else "there is no such run; choose another.",
    )
    if key not in keys:
        return
    run = load_run(ctx.dataset, key)
    try:
        fixes = find_fixes(run)
    except SfamError as error:
        choices.mark(inputs.view("labels", types.Warning(label=str(error))), str(error))
        return
    _field_inputs(ctx, inputs, run)
    text = (
        f"{len(fixes.agreed):,} corrections are agreed on, {len(fixes.open):,} labels "
        f"are called wrong without a right one, {len(fixes.conflicts):,} verdicts "
        "contradict others."
    )
    problem = None if fixes.agreed else "the verdicts agree on no correction yet."
    choices.mark(inputs.view("count", types.Notice(label=text)), problem)
    if fixes.fixes or fixes.conflicts:
        inputs.md(preview(run, fixes), name="preview")


def _field_inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask for the field, and whether it may be changed if it exists."""
    default = default_field(run)
    name = ctx.params.get("field") or default
    problem, exists = None, False
    try:
        exists = check_target(run, name)
    except SfamError as error:
        problem = str(error)
    if exists and not ctx.params.get("overwrite"):
        problem = f"there is a field '{name}' already; allow to change it, or rename."
    choices.mark(
        inputs.str(
            "field",
            label="Field to write",
            description="A new one gets all present identities, and the corrections",
            default=default,
        ),
        problem,
    )
    if exists:
        inputs.bool(
            "overwrite",
            label=f"Change the field '{name}'",
            description="What it holds now can be brought back",
            default=False,
        )


def preview(run: Run, fixes: Fixes) -> str:
    """List what would be done, as Markdown in which nothing is markup."""
    shown = (*fixes.agreed, *fixes.open)[:SHOWN]
    items = {fix.id: run.items.index(fix.id) for fix in shown}
    files = item_files(run, [item for item in items.values() if item >= 0])
    lines = [_line(fix, files.get(items[fix.id], fix.id)) for fix in shown]
    more = len(fixes.fixes) - len(shown)
    if more:
        lines.append(f"and {more:,} more")
    conflicts = fixes.conflicts[:SHOWN]
    lines += [f"left out: {_plain(one.sentence, 200)}" for one in conflicts]
    return "\n".join(["```corrections", *lines, "```"])


def _line(fix: Fix, file: str) -> str:
    new = "?" if fix.new is None else _plain(fix.new)
    old = "no label" if fix.old is None else _plain(fix.old)
    return f"{_plain(file):<{_WIDEST}}  {old} -> {new}  ({fix.rule})"


def _plain(text: str, length: int = _WIDEST) -> str:
    """Return a line that cannot end the block that it stands in."""
    return one_line(text.replace("`", "'"), length)


# --------------------------------------------------------------------------------------
# What it does
# --------------------------------------------------------------------------------------


def _apply(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Apply the fixes that the verdicts agree on now."""
    run = load_run(ctx.dataset, str(ctx.params.get("key")))
    field = ctx.params.get("field") or None
    if field is not None and not isinstance(field, str):
        raise DataError("field has to be a text.")
    applied: Applied = apply_verdicts(
        run, field=field, overwrite=ctx.params.get("overwrite") is True
    )
    return {
        "field": applied.field,
        "fixed": applied.fixed,
        "changed": applied.changed,
        "open": applied.open,
        "conflicts": applied.conflicts,
        "left_out": _shown(applied.left_out),
    }


def _undo(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Take the last application to a field back."""
    undone = undo_fixes(ctx.dataset, ctx.params.get("undo_field") or None)
    return {
        "field": undone.field,
        "deleted": undone.deleted,
        "restored": undone.restored,
        "left_out": _shown(undone.left_out),
    }


def _shown(rows: Sequence[LeftOut]) -> list[str]:
    """Return the first of what was left out, as texts."""
    listed = [f"{one.id}: {one.reason}" for one in rows[:SHOWN]]
    if len(rows) > SHOWN:
        listed.append(f"and {len(rows) - SHOWN:,} more")
    return listed
