"""The operator that compares a run with another one over the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import RunParameters, Text, Texts
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator, progress_of
from fiftyone_sfam.audit.comparison.compare import compare_runs
from fiftyone_sfam.audit.comparison.display import sentences
from fiftyone_sfam.audit.evaluation.overview import LARGE_PAIRS, compared_pairs
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


class CompareParameters(RunParameters):
    """The other run, and what is compared."""

    other: Text | None = None
    slices: Texts = ()
    regions: Text | None = None


class CompareRuns(RunOperator[CompareParameters]):
    """Compares two models over the same images."""

    config = foo.OperatorConfig(
        name="compare_runs",
        label="SFAM: compare runs",
        description="Two models: which queries, groups and regions differ",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = CompareParameters
    form_title = "Compare two runs"
    result_title = "Runs compared"

    def is_large(self, ctx: Context, params: CompareParameters) -> bool:
        """Return whether there are many pairs of images."""
        run = self.chosen_run(ctx, params)
        return run is not None and compared_pairs(run) >= LARGE_PAIRS

    def add_run_inputs(
        self, ctx: Context, params: CompareParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the other run, the slices and the regions."""
        others = [key for key in list_runs(ctx.dataset) if key != run.key]
        if not others:
            text = "There is no other run: explain the same images with another model."
            inputs.view("none", types.Warning(label=text))
        choices.add_choice(
            inputs,
            "other",
            others,
            label="Compared with",
            description="Differences are its figures less those of the first run",
            required=True,
        )
        choices.add_list(
            inputs,
            "slices",
            choices.label_fields(ctx.dataset),
            params.slices,
            label="Slices",
            description="Groups of queries, beside identities and cameras",
            problem="is not a field with labels; choose from the list.",
        )
        choices.add_choice(
            inputs,
            "regions",
            region_fields(run),
            label="Regions",
            description="The field that fits best by default",
        )
        count = compared_pairs(run)
        text = f"{count:,} pairs of images are compared twice per run."
        choices.add_estimate(inputs, text, count >= LARGE_PAIRS)

    def perform_on(self, ctx: Context, params: CompareParameters, run: Run) -> Results:
        """Compare; see :func:`fiftyone_sfam.compare_runs`."""
        if params.other is None:
            raise DataError("other is missing; name the run to compare with.")
        comparison = compare_runs(
            run,
            load_run(ctx.dataset, params.other),
            slices=params.slices,
            regions=params.regions,
            progress=progress_of(ctx),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        return {
            "key": run.key,
            "other": comparison.second_key,
            "gained": len(comparison.gained),
            "lost": len(comparison.lost),
            "said": "\n\n".join(sentences(comparison)),
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the numbers of queries and the sentences."""
        outputs.str("key", label="Run")
        outputs.str("other", label="Compared with")
        outputs.int("gained", label="Queries that only the other gets right")
        outputs.int("lost", label="Queries that only the run gets right")
        outputs.str("said", label="What differs")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        other: str,
        *,
        slices: Sequence[str] = (),
        regions: str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "other": other,
            "slices": list(slices),
            "regions": regions,
        }
        return self.call(sample_collection, params, delegate)
