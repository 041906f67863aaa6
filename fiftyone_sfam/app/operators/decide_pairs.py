"""The operator that sets the threshold of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types
from pydantic import Field

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import RunParameters
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator
from fiftyone_sfam.audit.decisions import (
    DECISIONS,
    decide_pairs,
    decisions_sentence,
    find_threshold,
    stored_threshold,
)
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection


class DecisionParameters(RunParameters):
    """A threshold, or the false accept rate that it is found for."""

    threshold: float | None = Field(None, allow_inf_nan=False, description="a number")
    far: float | None = Field(None, gt=0, lt=1, description="a rate between 0 and 1")


class DecidePairs(RunOperator[DecisionParameters]):
    """Sets the threshold of a run: accepted and rejected pairs."""

    config = foo.OperatorConfig(
        name="decide_pairs",
        label="SFAM: decide pairs",
        description="Set the threshold of a run, from which pairs are accepted",
        dynamic=True,
    )
    parameters = DecisionParameters
    form_title = "Set the threshold of a run"
    result_title = "Pairs decided"

    def add_run_inputs(
        self, ctx: Context, params: DecisionParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the threshold, the rate, and what they come to."""
        cosine = run.config.metric == "cosine"
        threshold = inputs.float(
            "threshold",
            label="Threshold",
            description=f"The {'similarity' if cosine else 'negative distance'} from "
            "which pairs are accepted",
        )
        far = inputs.float(
            "far",
            label="Or a false accept rate",
            description="The least threshold that accepts no larger share of pairs of "
            "two identities",
            min=0,
            max=1,
        )
        stored = stored_threshold(run)
        said = "" if stored is None else f" It replaces the threshold {stored:.4g}."
        if params.threshold is not None and params.far is not None:
            choices.mark(far, "give a threshold or a rate, not both.")
        elif params.far is not None:
            problem = choices.problem_of(find_threshold, run, params.far)
            choices.mark(far, problem)
            if problem is None:
                found = find_threshold(run, params.far)
                said = f"The threshold at this rate is {found:.4g}.{said}"
        elif params.threshold is None:
            choices.mark(threshold, "give a threshold or a false accept rate.")
        if said:
            inputs.view("state", types.Notice(label=said.strip()))

    def perform_on(self, ctx: Context, params: DecisionParameters, run: Run) -> Results:
        """Decide; see :func:`fiftyone_sfam.decide_pairs`."""
        found = decide_pairs(run, threshold=params.threshold, far=params.far)
        return {
            "key": run.key,
            "threshold": found.threshold,
            **found.every,
            "said": decisions_sentence(found),
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the threshold, and the pairs by outcome."""
        outputs.str("key", label="Run")
        outputs.float("threshold", label="Threshold")
        for outcome in DECISIONS:
            outputs.int(outcome, label=f"Pairs: {outcome}")
        outputs.str("said", label="What is decided")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        threshold: float | None = None,
        far: float | None = None,
    ) -> Any:
        """Run the operator from Python."""
        params = {"key": key, "threshold": threshold, "far": far}
        return self.call(sample_collection, params)
