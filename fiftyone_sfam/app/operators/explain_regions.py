"""The operator that splits the similarities of a run by regions of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import (
    MAX_RANK,
    MAX_SEED,
    RunParameters,
    Text,
    Texts,
    Whole,
    whole,
)
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator, progress_of
from fiftyone_sfam.audit.regions.display import sentences
from fiftyone_sfam.audit.regions.fields import STRIPES, region_fields
from fiftyone_sfam.audit.regions.ledger import build_ledger, check_evidence
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.models import known_name
from fiftyone_sfam.runs.run import Run

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

_CHANGES = {
    "replace": "replaced by that of another image",
    "mean": "painted in the mean color",
    "blur": "blurred",
}


class RegionParameters(RunParameters):
    """The regions, the pairs, and the test of the ledger on changed images."""

    field: Text | None = None
    stripes: Whole = whole(STRIPES, 1, MAX_STRIPES)
    max_rank: Whole | None = whole(None, 1, MAX_RANK)
    by: Texts = ()
    shortcuts: bool = True
    causal: bool = False
    model: Text | None = None
    change: Literal["replace", "mean", "blur"] = "replace"
    region: Text | None = None
    limit: Whole = whole(LIMIT, 1, MAX_LIMIT)
    seed: Whole = whole(0, 0, MAX_SEED)


class ExplainRegions(RunOperator[RegionParameters]):
    """Computes what each region of the images contributes to the similarity."""

    config = foo.OperatorConfig(
        name="explain_regions",
        label="SFAM: region ledger",
        description="What person, background or parts carry of the similarity",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = RegionParameters
    form_title = "Split the similarity by regions"
    result_title = "Regions explained"

    def is_large(self, ctx: Context, params: RegionParameters) -> bool:
        """Return whether the run has many images, or changed images are embedded."""
        run = self.chosen_run(ctx, params)
        return params.causal or (
            run is not None and run.config.counts["images"] >= LARGE
        )

    def run_problem(self, run: Run) -> str | None:
        """Return why the maps of a run cannot be split."""
        return choices.problem_of(check_evidence, run)

    def add_run_inputs(
        self, ctx: Context, params: RegionParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the regions, the pairs and the test."""
        fields = [*region_fields(run), IN_STRIPES]
        field = params.field or fields[0]
        problem = f"'{field}' does not divide images into regions; choose another."
        choices.add_choice(
            inputs,
            "field",
            [*fields[:-1], (IN_STRIPES, "horizontal stripes")],
            label="Regions",
            description="Masks, detections or keypoints of this dataset",
            default=fields[0],
            problem=None if field in fields else problem,
        )
        if field == IN_STRIPES:
            inputs.int(
                "stripes", label="Stripes", default=STRIPES, min=1, max=MAX_STRIPES
            )
        inputs.int(
            "max_rank",
            label="Ranks up to",
            description="All stored pairs by default",
            min=1,
        )
        choices.add_list(
            inputs,
            "by",
            choices.label_fields(ctx.dataset),
            params.by,
            label="Averages by",
            description="In addition to outcome and camera pair; the value of the "
            "query counts",
            problem="is not a field to group by; choose from the list.",
        )
        inputs.bool(
            "shortcuts",
            label="Find shortcuts",
            description="Identities and cameras that rely on a region more than others",
            default=True,
        )
        inputs.bool(
            "causal",
            label="Test it",
            description="Change a region, embed again, and compare with the ledger",
            default=False,
        )
        if params.causal:
            _add_test(params, inputs, run)

    def perform_on(self, ctx: Context, params: RegionParameters, run: Run) -> Results:
        """Build the ledger, find shortcuts, and test the ledger."""
        progress = progress_of(ctx)
        field = params.field or next(iter(region_fields(run)), IN_STRIPES)
        ledger = build_ledger(
            run,
            None if field == IN_STRIPES else field,
            max_rank=params.max_rank,
            stripes=params.stripes,
            by=params.by,
            seed=params.seed,
            progress=progress,
        )
        results: dict[str, Any] = {
            "key": run.key,
            "regions": list(ledger.regions),
            "pairs": len(ledger),
            "pairs_without_regions": ledger.without_regions,
            "sentences": list(sentences(ledger)),
        }
        if params.shortcuts:
            shortcuts = find_shortcuts(run, ledger).found
            results["shortcuts"] = [shortcut.sentence for shortcut in shortcuts]
        if params.causal:
            from fiftyone_sfam.audit.regions.causal import check_causally

            region = BACKGROUND if BACKGROUND in ledger.regions else ledger.regions[-1]
            check = check_causally(
                run,
                known_name(params.model or run.config.model),
                ledger=ledger,
                region=params.region or region,
                change=params.change,
                limit=params.limit,
                seed=params.seed,
                progress=progress,
            )
            results["causal"] = check.sentence
        return results

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the shares of the regions, the shortcuts and the test."""
        outputs.str("key", label="Run")
        outputs.list("regions", types.String(), label="Regions")
        outputs.int("pairs", label="Pairs")
        outputs.int(
            "pairs_without_regions", label="Pairs with an image without regions"
        )
        outputs.list("sentences", types.String(), label="Shares of the score")
        outputs.list("shortcuts", types.String(), label="Shortcuts, strongest first")
        outputs.str("causal", label="Test on changed images")

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
        change: str = "replace",
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
        return self.call(sample_collection, params, delegate)


def _add_test(params: RegionParameters, inputs: types.Object, run: Run) -> None:
    """Add how the ledger is tested on changed images."""
    choices.add_run_model(inputs, run, params.model)
    inputs.str(
        "region",
        label="Region to change",
        description=f"'{BACKGROUND}' by default, or the last region without one",
    )
    choices.add_choice(
        inputs,
        "change",
        _CHANGES.items(),
        label="The region is",
        default="replace",
    )
    inputs.int("limit", label="Pairs to test", default=LIMIT, min=1, max=MAX_LIMIT)
