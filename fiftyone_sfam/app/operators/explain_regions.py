"""The operator that splits a run's similarities by regions of the images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.parameters import (
    MAX_SEED,
    one_text,
    some_texts,
    whole_number,
)
from fiftyone_sfam.audit.regions.fields import STRIPES, region_fields
from fiftyone_sfam.audit.regions.images import CHANGES
from fiftyone_sfam.audit.regions.ledger import Ledger, build_ledger, check_evidence
from fiftyone_sfam.audit.regions.ledger_cells import FALSE, TRUE, find_cell, sentence
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 20_000
"""Images from which the operation is delegated unless the user says otherwise."""

AUTO = "auto"
"""Stands for the first field that divides images into regions, or else stripes."""

IN_STRIPES = "(stripes)"
LIMIT = 200
MAX_STRIPES = 20
MAX_LIMIT = 10_000
MAX_RANK = 10_000_000
"""Bounds of what the form asks for."""


_SECONDS_BETWEEN_REPORTS = 1.0
_DONE = {
    "replace": "replaced by that of another image",
    "mean": "painted in the mean color",
    "blur": "blurred",
}


class ExplainRegions(foo.Operator):
    """Tells what each region of the images carries of the similarity."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="explain_regions",
            label="SFAM: region ledger",
            description="What person, background or parts carry of the similarity",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large runs, and causal checks, by default."""
        run = _chosen_run(ctx)
        large = run is not None and run.config.counts["images"] >= LARGE
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=large or bool(ctx.params.get("causal")),
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Split the similarity by regions")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        run = _chosen_run(ctx)
        problem = "there is no such run; choose another." if run is None else None
        if run is not None:
            problem = _problem(lambda: check_evidence(run))
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
            error=problem,
        )
        if run is not None and problem is None:
            _region_inputs(ctx, inputs, run)
            _causal_inputs(ctx, inputs, run)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Build the ledger, and what else was asked for."""
        check_types(ctx.params, numbers=False)
        params = ctx.params
        run = load_run(ctx.dataset, str(params.get("key")))
        report = _reporter(ctx) if ctx.delegated else None
        seed = whole_number(params, "seed", 0, least=0, most=MAX_SEED)
        ledger = build_ledger(
            run,
            _field(run, one_text(params, "field")),
            max_rank=_rank(params),
            stripes=whole_number(params, "stripes", STRIPES, most=MAX_STRIPES),
            by=some_texts(params, "by"),
            seed=seed,
            progress=report,
        )
        found: dict[str, Any] = {
            "key": run.key,
            "regions": list(ledger.regions),
            "pairs": len(ledger),
            "pairs_without_regions": ledger.without_regions,
            "sentences": _sentences(ledger),
        }
        if params.get("shortcuts", True):
            shortcuts = find_shortcuts(run, ledger)
            found["shortcuts"] = [one.sentence for one in shortcuts.found]
        if params.get("causal"):
            from fiftyone_sfam.audit.regions.causal import check_causally

            check = check_causally(
                run,
                one_text(params, "model") or run.config.model,
                ledger=ledger,
                region=one_text(params, "region") or _default_region(ledger),
                change=params.get("change") or CHANGES[0],
                limit=whole_number(params, "limit", LIMIT, most=MAX_LIMIT),
                seed=seed,
                progress=report,
            )
            found["causal"] = check.sentence
        return found

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.list("regions", types.String(), label="Regions")
        outputs.int("pairs", label="Pairs")
        outputs.int("pairs_without_regions", label="Pairs with a side without regions")
        outputs.list("sentences", types.String(), label="Shares of the score")
        outputs.list("shortcuts", types.String(), label="Shortcuts, strongest first")
        outputs.str("causal", label="Tested by changing images")
        return types.Property(outputs, view=types.View(label="Regions explained"))

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        field: str | None = AUTO,
        stripes: int = STRIPES,
        max_rank: int | None = None,
        by: Sequence[str] = (),
        shortcuts: bool = True,
        causal: bool = False,
        model: str | None = None,
        change: str = CHANGES[0],
        region: str | None = None,
        limit: int = LIMIT,
        seed: int = 0,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "field": {None: IN_STRIPES, AUTO: None}.get(field, field),
            "stripes": stripes,
            "max_rank": max_rank,
            "by": list(by),
            "shortcuts": shortcuts,
            "causal": causal,
            "model": model,
            "change": change,
            "region": region,
            "limit": limit,
            "seed": seed,
        }
        return call_operator(self, sample_collection, params, delegate)


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _region_inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask for the regions and the pairs."""
    fields = region_fields(run)
    chosen = ctx.params.get("field") or next(iter(fields), IN_STRIPES)
    choices.add_choice(
        inputs,
        "field",
        [*((name, name) for name in fields), (IN_STRIPES, "horizontal stripes")],
        label="Regions",
        description="Masks, detections or keypoints of this dataset",
        default=next(iter(fields), IN_STRIPES),
        error=None
        if chosen in (*fields, IN_STRIPES)
        else f"'{chosen}' does not divide images; choose another.",
    )
    if chosen == IN_STRIPES:
        inputs.int("stripes", label="Stripes", default=STRIPES, min=1, max=MAX_STRIPES)
    inputs.int(
        "max_rank",
        label="Ranks up to",
        description="All stored pairs by default",
        min=1,
    )
    groups = choices.label_fields(ctx.dataset)
    view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
    for name in groups:
        view.add_choice(name, label=name)
    listed = inputs.list(
        "by",
        types.String(),
        label="Averages by",
        description="Beside outcome and camera pair; the query's value counts",
        view=view,
    )
    unknown = [name for name in ctx.params.get("by") or [] if name not in groups]
    if unknown:
        choices.mark(listed, f"'{unknown[0]}' is no field to group by.")
    inputs.bool(
        "shortcuts",
        label="Find shortcuts",
        description="Identities and cameras that rest on a region more than others",
        default=True,
    )


def _causal_inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask whether and how the ledger is tested on changed images."""
    inputs.bool(
        "causal",
        label="Test it",
        description="Change a region, embed again, and compare with the ledger",
        default=False,
    )
    if not ctx.params.get("causal"):
        return
    models, error = choices.model_choices()
    known = [name for name, _ in models]
    model = ctx.params.get("model") or run.config.model
    if error is None and model not in known:
        error = (
            f"the run's model '{model}' is not registered on this machine; register "
            "it, or choose the model under its other name."
        )
    choices.add_choice(
        inputs,
        "model",
        models,
        label="Model",
        description="The one that the run was made with",
        default=run.config.model if run.config.model in known else None,
        error=error,
    )
    inputs.str(
        "region",
        label="Region to change",
        description=f"By default '{BACKGROUND}', or else the last",
    )
    choices.add_choice(
        inputs,
        "change",
        list(_DONE.items()),
        label="The region is",
        default=CHANGES[0],
    )
    inputs.int("limit", label="Pairs to test", default=LIMIT, min=1, max=MAX_LIMIT)


def _chosen_run(ctx: foo.ExecutionContext) -> Run | None:
    """Load the run of the form; None if there is none."""
    keys = list_runs(ctx.dataset)
    key = ctx.params.get("key") or next(iter(keys), None)
    return load_run(ctx.dataset, key) if key in keys else None


def _problem(check: Callable[[], None]) -> str | None:
    """Return what a check says is wrong."""
    try:
        check()
    except SfamError as error:
        return str(error)
    return None


# --------------------------------------------------------------------------------------
# Execution
# --------------------------------------------------------------------------------------


def _field(run: Run, given: Any) -> str | None:
    """Return the field to divide images by; None for stripes."""
    if given == IN_STRIPES:
        return None
    return str(given) if given else next(iter(region_fields(run)), None)


def _rank(params: dict[str, Any]) -> int | None:
    """Read the largest rank; None for all."""
    return whole_number(params, "max_rank", 0, most=MAX_RANK) or None


def _sentences(ledger: Ledger) -> list[str]:
    """Say what each region carries in false and in true matches."""
    found = []
    for region in ledger.regions:
        cells = [find_cell(ledger.cells, region, outcome=one) for one in (FALSE, TRUE)]
        known = [cell for cell in cells if cell is not None]
        if known:
            found.append(sentence(*known[:2]))
    return found


def _default_region(ledger: Ledger) -> str:
    """Return the region that is changed unless one is named."""
    return BACKGROUND if BACKGROUND in ledger.regions else ledger.regions[-1]


def _reporter(ctx: foo.ExecutionContext) -> Callable[[int, int, str], None]:
    """Return a function that shows a delegated operation's progress."""
    reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

    def report(done: int, total: int, phase: str) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _SECONDS_BETWEEN_REPORTS or done == total:
            reported = now
            ctx.set_progress(
                progress=done / max(total, 1), label=f"{phase} {done} of {total} images"
            )

    return report
