"""The operator that checks how far the maps of a run can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import (
    MAX_SEED,
    RunParameters,
    Text,
    Whole,
    whole,
)
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator, progress_of
from fiftyone_sfam.models import known_name
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

PAIRS = 100
MAX_PAIRS = 10_000
"""Most pairs that are drawn from the App."""

FEW = 25
"""Pairs up to which the check runs immediately unless the user says otherwise."""

_FILLS = {
    "all": "hidden in all of these ways, one after the other",
    "blur": "blurred",
    "mean": "painted in the mean color",
    "inpaint": "filled in from their surroundings",
    "patches": "covered by another image",
}
_SIDES = {"query": "the query", "gallery": "the neighbor", "both": "both images"}


class FaithfulnessParameters(RunParameters):
    """The pairs to draw, and how to mask them."""

    model: Text | None = None
    pairs: Whole = whole(PAIRS, 1, MAX_PAIRS)
    side: Literal["query", "gallery", "both"] = "query"
    fill: Literal["all", "blur", "mean", "inpaint", "patches"] = "all"
    layers: bool = False
    seed: Whole = whole(0, 0, MAX_SEED)


class CheckFaithfulness(RunOperator[FaithfulnessParameters]):
    """Masks images in the order of their maps, and compares with simpler maps."""

    config = foo.OperatorConfig(
        name="check_faithfulness",
        label="SFAM: check faithfulness",
        description="How far to trust the maps on this model",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = FaithfulnessParameters
    form_title = "Check how faithful the maps are"
    result_title = "Faithfulness checked"

    def is_large(self, ctx: Context, params: FaithfulnessParameters) -> bool:
        """Return whether more than a few pairs are drawn."""
        return params.pairs > FEW

    def add_run_inputs(
        self,
        ctx: Context,
        params: FaithfulnessParameters,
        inputs: types.Object,
        run: Run,
    ) -> None:
        """Add the model and the sample of pairs."""
        choices.add_run_model(inputs, run, params.model)
        inputs.int("pairs", label="Pairs to draw", default=PAIRS, min=1, max=MAX_PAIRS)
        choices.add_choice(
            inputs, "side", _SIDES.items(), label="Image to mask", default="query"
        )
        choices.add_choice(
            inputs, "fill", _FILLS.items(), label="Masked pixels are", default="all"
        )
        inputs.bool(
            "layers",
            label="Try other layers",
            description="The evidence at the last layer of each resolution",
            default=False,
        )

    def perform_on(
        self, ctx: Context, params: FaithfulnessParameters, run: Run
    ) -> Results:
        """Check a sample of pairs."""
        from fiftyone_sfam.audit.faithfulness.check import AUTO, check_faithfulness
        from fiftyone_sfam.audit.faithfulness.display import map_lines

        result = check_faithfulness(
            run,
            known_name(params.model or run.config.model),
            params.pairs,
            side=params.side,
            fill=params.fill,
            layers=AUTO if params.layers else (),
            seed=params.seed,
            progress=progress_of(ctx),
        )
        return {
            "key": run.key,
            "pairs": len(result),
            "verdict": result.sentence,
            "maps": map_lines(result),
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the verdict and a line for each map."""
        outputs.str("key", label="Run")
        outputs.int("pairs", label="Pairs")
        outputs.str("verdict", label="Verdict")
        outputs.list("maps", types.String(), label="Maps, most faithful first")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        model: str | None = None,
        pairs: int = PAIRS,
        side: str = "query",
        fill: str = "all",
        layers: bool = False,
        seed: int = 0,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "model": model,
            "pairs": pairs,
            "side": side,
            "fill": fill,
            "layers": layers,
            "seed": seed,
        }
        return self.call(sample_collection, params, delegate)
