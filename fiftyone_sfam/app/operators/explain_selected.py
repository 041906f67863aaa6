"""The operator that explains two selected samples, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Parameters, Text
from fiftyone_sfam.app.operators.base import Context, Results, SfamOperator
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import known_name, load_named

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

_PICTURE = 320  # pixels of the longer side


class SelectedParameters(Parameters):
    """The model and the kind of map."""

    model: Text | None = None
    kind: Literal["sfam", "evidence", "difference"] = "sfam"


class ExplainSelected(SfamOperator[SelectedParameters]):
    """Explains why two selected samples are similar."""

    config = foo.OperatorConfig(
        name="explain_selected",
        label="SFAM: explain two selected samples",
        description="Heatmaps of one pair, computed immediately",
        dynamic=True,
        view_target=False,
    )
    parameters = SelectedParameters
    form_title = "Explain two selected samples"
    result_title = "Two samples explained"

    def add_inputs(
        self, ctx: Context, params: SelectedParameters, inputs: types.Object
    ) -> str | None:
        """Add the model and the kind of map."""
        models, problem = choices.model_choices()
        choices.add_choice(
            inputs, "model", models, label="Model", required=True, problem=problem
        )
        choices.add_choice(
            inputs,
            "kind",
            [
                ("sfam", "SFAM: channels weighted by their importance"),
                ("evidence", "evidence: adds up to the similarity"),
                ("difference", "difference: what separates the two images"),
            ],
            label="Map",
            default="sfam",
        )
        return choices.problem_of(_two_selected, ctx)

    def perform(self, ctx: Context, params: SelectedParameters) -> Results:
        """Explain the two samples."""
        from fiftyone_sfam.app.selected import selected_inputs, selected_part
        from fiftyone_sfam.attribution.pair import explain_pair
        from fiftyone_sfam.attribution.render import (
            data_url,
            fitted,
            overlay,
            shared_limit,
        )
        from fiftyone_sfam.data.images import read_part

        selected = _two_selected(ctx)
        if params.model is None:
            raise DataError("choose a model to explain.")
        # Read one by one, since a view would not keep the order of the selection.
        parts = [selected_part(ctx, sample_id) for sample_id in selected]
        images = [read_part(*part) for part in parts]
        model = load_named(known_name(params.model))
        if model.inputs:
            model = model.with_inputs(selected_inputs(ctx, selected, model.inputs))
        explained = explain_pair(model, *images)
        sides = [explained.query, explained.gallery]
        signed = params.kind == "difference"
        if signed:
            maps = [side.evidence for side in explained.difference()]
        else:
            maps = [getattr(side, params.kind) for side in sides]
        limit = shared_limit(maps)
        query, neighbor = (
            data_url(
                overlay(
                    fitted(image, _PICTURE, _PICTURE),
                    values,
                    limit,
                    signed=signed,
                    crop=side.crop,
                )
            )
            for image, values, side in zip(images, maps, sides, strict=True)
        )
        return {
            "similarity": explained.score,
            "distance": explained.distance,
            "query_remainder": explained.query.remainder,
            "neighbor_remainder": explained.gallery.remainder,
            "layer": explained.layer,
            "warnings": list(explained.warnings),
            "query_map": maps[0].tolist(),
            "neighbor_map": maps[1].tolist(),
            "query": query,
            "neighbor": neighbor,
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add both images with their maps, and the numbers of the pair."""
        for name, label in (("query", "First"), ("neighbor", "Second")):
            outputs.str(
                name, label=label, view=types.ImageView(alt=f"{label} image, with map")
            )
        outputs.float("similarity", label="Similarity")
        outputs.float("distance", label="Distance")
        outputs.float("query_remainder", label="Not on the first map")
        outputs.float("neighbor_remainder", label="Not on the second map")
        outputs.str("layer", label="Layer")

    def __call__(
        self,
        sample_collection: SampleCollection,
        model: str,
        selected: list[str],
        *,
        kind: str = "sfam",
    ) -> Any:
        """Run the operator from Python."""
        params = {"model": model, "kind": kind}
        return self.call(sample_collection, params, selected=selected)


def _two_selected(ctx: Context) -> list[str]:
    """Return the ids of the selected samples; refuse any other number than two."""
    selected = list(ctx.selected or [])
    if len(selected) != 2:
        raise DataError(f"select two samples; {len(selected)} selected now.")
    return selected
