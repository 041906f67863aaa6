"""The samples or patches that are selected in the App."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fiftyone.core.patches import PatchesView

from fiftyone_sfam.data.inputs import input_columns
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    import fiftyone as fo
    import fiftyone.operators as foo
    from numpy.typing import NDArray


def selected_part(
    ctx: foo.ExecutionContext, sample_id: str
) -> tuple[str, list[float] | None]:
    """Return the file of a selected sample or patch, and the box of a patch."""
    sample = _selected(ctx, sample_id)
    if not isinstance(ctx.view, PatchesView):
        return sample.filepath, None
    return sample.filepath, sample[ctx.view.patches_field].bounding_box


def selected_inputs(
    ctx: foo.ExecutionContext, selected: Sequence[str], inputs: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """Read a model's further inputs of selected samples or patches, in their order."""
    samples = [_selected(ctx, sample_id) for sample_id in selected]
    sample_ids, label_ids, field = list(selected), None, None
    if isinstance(ctx.view, PatchesView):
        field = ctx.view.patches_field
        sample_ids = [str(sample.sample_id) for sample in samples]
        label_ids = [str(sample[field].id) for sample in samples]
    return input_columns(
        all_samples(ctx.dataset).select(sorted(set(sample_ids))),
        sample_ids,
        label_ids,
        [sample.filepath for sample in samples],
        inputs,
        field,
    )


def _selected(ctx: foo.ExecutionContext, sample_id: str) -> fo.Sample:
    """Find a selected sample, or the view of a selected patch."""
    patches = isinstance(ctx.view, PatchesView)
    try:
        return (ctx.view if patches else ctx.dataset)[sample_id]
    except KeyError as error:
        raise DataError(
            f"there is no sample '{sample_id}' any more; select two again."
        ) from error
