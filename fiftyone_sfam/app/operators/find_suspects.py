"""The operator that looks for wrong labels and useless images in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types
from pydantic import Field

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import RunParameters, Text, Texts
from fiftyone_sfam.app.operators.base import (
    MOST_LISTED,
    Context,
    Results,
    RunOperator,
    add_table,
    progress_of,
)
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.audit.suspects.search import KINDS, MIN_SCORE, find_suspects
from fiftyone_sfam.audit.suspects.sources import AUTO
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 20_000
"""Images from which a search is delegated unless the user says otherwise."""

NONE = "none"
"""Choice of searching without a region field."""


class SuspectParameters(RunParameters):
    """What to look for, and the fields that help to find it."""

    kinds: Texts = ()
    min_score: float = Field(
        MIN_SCORE, ge=0, lt=1, description="a number that is at least 0 and below 1"
    )
    region_field: Text = AUTO
    split_field: Text | None = None


class FindSuspects(RunOperator[SuspectParameters]):
    """Finds labels and images of a run that are probably wrong."""

    config = foo.OperatorConfig(
        name="find_suspects",
        label="SFAM: find suspects",
        description="Wrong labels, split and merged identities, duplicates",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = SuspectParameters
    form_title = "Find suspects in a run"
    result_title = "Suspects found"

    def is_large(self, ctx: Context, params: SuspectParameters) -> bool:
        """Return whether the run has many images."""
        run = self.chosen_run(ctx, params)
        return run is not None and len(run.items) >= LARGE

    def add_run_inputs(
        self, ctx: Context, params: SuspectParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the kinds, the fields and the least score."""
        choices.add_list(
            inputs,
            "kinds",
            KINDS,
            params.kinds,
            label="Kinds",
            description="All kinds by default",
            problem="is not a kind of suspect; choose from the list.",
        )
        fields = region_fields(run)
        if fields:
            choices.add_choice(
                inputs,
                "region_field",
                [(AUTO, "the field that fits best"), *fields, (NONE, "none")],
                label="Field of person and background",
                description="Separates one person under two names from two people in "
                "front of the same background",
                default=AUTO,
            )
        protocol = run.config.protocol
        choices.add_choice(
            inputs,
            "split_field",
            ["tags", *choices.label_fields(ctx.dataset)],
            label="Split field",
            description="Near-duplicates across its values are leaks",
            default=protocol["split_field"],
        )
        inputs.float(
            "min_score",
            label="Least score",
            description="A score of 0.5 is the threshold of a kind",
            default=MIN_SCORE,
            min=0,
            max=0.99,
        )
        if protocol["identity_field"] is None:
            text = "This run has no identity field: only near-duplicates are found."
            inputs.view("labels", types.Warning(label=text))
        count = len(run.items)
        text = f"{count:,} images are compared with each other."
        choices.add_estimate(inputs, text, count >= LARGE)

    def perform_on(self, ctx: Context, params: SuspectParameters, run: Run) -> Results:
        """Search; see :func:`fiftyone_sfam.audit.suspects.search.find_suspects`."""
        suspects = find_suspects(
            run,
            kinds=params.kinds or None,
            min_score=params.min_score,
            region_field=None if params.region_field == NONE else params.region_field,
            split_field=params.split_field,
            progress=progress_of(ctx),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        return {
            "key": run.key,
            "findings": len(suspects),
            **suspects.counts(),
            "limits": " ".join(suspects.limits),
            "first": [
                {
                    "kind": finding.kind,
                    "score": finding.score,
                    "sentence": finding.sentence,
                    "proposal": finding.proposal,
                    "samples": finding.sample_ids,
                }
                for finding in suspects.findings[:MOST_LISTED]
            ],
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the number of findings of each kind."""
        outputs.str("key", label="Run")
        outputs.int("findings", label="Findings")
        for kind in KINDS:
            if kind in results:
                outputs.int(kind, label=kind.capitalize())
        outputs.str("limits", label="What could not be checked")
        columns = {"sentence": "Finding", "proposal": "Proposal"}
        add_table(outputs, "first", "First findings", columns)

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
        return self.call(sample_collection, params, delegate)
