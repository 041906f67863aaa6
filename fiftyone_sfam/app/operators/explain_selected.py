"""The operator that explains two selected samples at once, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.core.patches import PatchesView
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection
    from PIL import Image

KINDS = ("sfam", "evidence", "difference")
_PICTURE = 320  # pixels of the longer side


class ExplainSelected(foo.Operator):
    """Explains why two selected samples are similar."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="explain_selected",
            label="SFAM: explain two selected samples",
            description="Heatmaps of one pair, computed at once",
            dynamic=True,
            view_target=False,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        models, error = choices.model_choices()
        choices.add_choice(
            inputs, "model", models, label="Model", required=True, error=error
        )
        choices.add_choice(
            inputs,
            "kind",
            [
                ("sfam", "SFAM: channels weighted by their importance"),
                ("evidence", "evidence: adds up to the similarity"),
                ("difference", "difference: why they are apart"),
            ],
            label="Map",
            default="sfam",
        )
        view = types.View(label="Explain two selected samples")
        found = types.Property(inputs, view=view)
        count = len(ctx.selected or [])
        if count != 2:
            return choices.mark(found, f"select two samples; {count} selected now.")
        return found

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Explain the two samples."""
        from fiftyone_sfam.attribution.pair import explain_pair
        from fiftyone_sfam.attribution.render import (
            data_url,
            fitted,
            overlay,
            shared_limit,
        )

        check_types(ctx.params, numbers=False)
        selected = list(ctx.selected or [])
        if len(selected) != 2:
            raise DataError(f"select two samples; {len(selected)} selected now.")
        kind = ctx.params.get("kind") or "sfam"
        if kind not in KINDS:
            raise DataError(f"unknown map {kind!r}; use one of {', '.join(KINDS)}.")
        name = ctx.params.get("model")
        if not isinstance(name, str):
            raise DataError("choose a model to explain.")
        # One after the other, since a selection has an order.
        images = [_selected_image(ctx, one) for one in selected]
        explained = explain_pair(name, *images)
        sides = [explained.query, explained.gallery]
        if kind == "difference":
            maps = [side.evidence for side in explained.difference()]
        else:
            maps = [getattr(side, kind) for side in sides]
        limit = shared_limit(maps)
        pictures = [
            data_url(
                overlay(
                    fitted(image, _PICTURE, _PICTURE),
                    values,
                    limit,
                    signed=kind == "difference",
                    crop=side.crop,
                )
            )
            for image, values, side in zip(images, maps, sides, strict=True)
        ]
        return {
            "similarity": explained.score,
            "distance": explained.distance,
            "query_remainder": explained.query.remainder,
            "neighbor_remainder": explained.gallery.remainder,
            "layer": explained.layer,
            "warnings": list(explained.warnings),
            "query_map": maps[0].tolist(),
            "neighbor_map": maps[1].tolist(),
            "query": pictures[0],
            "neighbor": pictures[1],
        }

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        for name, label in (("query", "First"), ("neighbor", "Second")):
            outputs.str(
                name, label=label, view=types.ImageView(alt=f"{label} image, with map")
            )
        outputs.float("similarity", label="Similarity")
        outputs.float("distance", label="Distance")
        outputs.float("query_remainder", label="Not on the first map")
        outputs.float("neighbor_remainder", label="Not on the second map")
        outputs.str("layer", label="Layer")
        choices.show_warnings(outputs, ctx.results)
        return types.Property(outputs, view=types.View(label="Two samples explained"))

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
        return call_operator(self, sample_collection, params, selected=selected)


def _selected_image(ctx: foo.ExecutionContext, sample_id: str) -> Image.Image:
    """Read the image of a selected sample, or of a selected patch of one."""
    from fiftyone_sfam.data.images import pixel_box, read_image

    patches = isinstance(ctx.view, PatchesView)
    try:
        sample = (ctx.view if patches else ctx.dataset)[sample_id]
    except KeyError as error:
        raise DataError(
            f"there is no sample '{sample_id}' any more; select two again."
        ) from error
    image = read_image(sample.filepath)
    if not patches:
        return image
    box = sample[ctx.view.patches_field].bounding_box
    return image.crop(pixel_box(box, *image.size))
