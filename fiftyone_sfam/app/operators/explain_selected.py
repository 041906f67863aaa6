"""The operator that explains two selected samples, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Parameters, Text, Texts
from fiftyone_sfam.app.operators.base import Context, Results, SfamOperator
from fiftyone_sfam.app.pairs.maps import REMAINDER
from fiftyone_sfam.audit.regions.partitions import split, stripes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import known_name, load_named

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.attribution.pair import SideExplanation

_PICTURE = 320  # pixels of the longer side


class SelectedParameters(Parameters):
    """The samples, the model, and what is returned."""

    samples: Texts = ()
    model: Text | None = None
    kind: Literal["sfam", "evidence", "difference"] = "sfam"
    pictures: bool = True


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
        """Add the samples, unless two are selected, the model and the kind of map."""
        if len(ctx.selected or []) != 2:
            inputs.list(
                "samples",
                types.String(),
                label="Samples",
                description="Ids of two samples; by default the selected ones",
            )
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
        return choices.problem_of(_parts, ctx, params)

    def perform(self, ctx: Context, params: SelectedParameters) -> Results:
        """Explain the two samples."""
        from fiftyone_sfam.app.selected import selected_inputs
        from fiftyone_sfam.attribution.pair import explain_pair
        from fiftyone_sfam.attribution.render import (
            data_url,
            fitted,
            overlay,
            shared_limit,
        )
        from fiftyone_sfam.data.images import read_part

        selected = _two_samples(ctx, params)
        if params.model is None:
            raise DataError("choose a model to explain.")
        images = [read_part(*part) for part in _parts(ctx, params)]
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
        results = {
            "similarity": explained.score,
            "distance": explained.distance,
            "query_remainder": explained.query.remainder,
            "neighbor_remainder": explained.gallery.remainder,
            "layer": explained.layer,
            "warnings": explained.warnings,
            "query_shares": _shares(explained.query),
            "neighbor_shares": _shares(explained.gallery),
        }
        if not params.pictures:
            return results
        limit = shared_limit(maps)
        for name, image, values, side in zip(
            ("query", "neighbor"), images, maps, sides, strict=True
        ):
            results[f"{name}_map"] = values.tolist()
            picture = overlay(
                fitted(image, _PICTURE, _PICTURE),
                values,
                limit,
                signed=signed,
                crop=side.crop,
            )
            results[name] = data_url(picture)
        return results

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add both images with their maps, and the numbers of the pair."""
        for name, label in (("query", "First"), ("neighbor", "Second")):
            if name in results:
                outputs.str(
                    name,
                    label=label,
                    view=types.ImageView(alt=f"{label} image, with map"),
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
        pictures: bool = True,
    ) -> Any:
        """Run the operator from Python."""
        params = {"model": model, "kind": kind, "pictures": pictures}
        return self.call(sample_collection, params, selected=selected)


def _shares(side: SideExplanation) -> dict[str, float]:
    """Split the similarity by thirds of an image, and what is not on its map."""
    thirds = stripes(*side.evidence.shape)
    values = split(side.evidence, thirds).tolist()
    return {**dict(zip(thirds.names, values, strict=True)), REMAINDER: side.remainder}


def _parts(
    ctx: Context, params: SelectedParameters
) -> list[tuple[str, list[float] | None]]:
    """Return files and boxes of the two; refuse samples that do not exist."""
    from fiftyone_sfam.app.selected import selected_part

    # Read one by one, since a view would not keep the order of the selection.
    return [selected_part(ctx, sample_id) for sample_id in _two_samples(ctx, params)]


def _two_samples(ctx: Context, params: SelectedParameters) -> list[str]:
    """Return the ids of the given or selected samples; refuse any number but two."""
    selected = list(ctx.selected or [])
    if params.samples:
        selected = list(params.samples)
        if len(selected) != 2:
            raise DataError(f"{len(selected)} samples are given; give two.")
    if len(selected) != 2:
        raise DataError(f"select two samples; {len(selected)} selected now.")
    return selected
