"""The operator that explains the retrieval of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.making import (
    COMPUTE,
    MakingParameters,
    add_embeddings,
    add_maps,
    add_model,
)
from fiftyone_sfam.app.forms.parameters import Whole, whole
from fiftyone_sfam.app.forms.protocol import ProtocolParameters, add_protocol
from fiftyone_sfam.app.operators.base import (
    Context,
    Results,
    SfamOperator,
    progress_of,
    shown_fields,
)
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.runs.run_config import ALL_PAIRS, AUTO, PATH, SCALES

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 2000
"""Images from which a run is delegated unless the user says otherwise."""

MAX_K = 1000

PASSES = {PATH: (6, 4), SCALES: (11, 8)}
"""Passes of maps along paths: forward of an image, and backward of each partner."""


CHOOSING = 5000
"""Passes that measuring the candidates on a sample takes, or less."""


class RunSettings(ProtocolParameters, MakingParameters):
    """The model, the rules of the retrieval, and the maps."""

    k: Whole = whole(5, 1, MAX_K)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``explain_retrieval``, without the model."""
        return {**self.options(), "k": self.k, "protocol": self.protocol()}


class ExplainRetrieval(SfamOperator[RunSettings]):
    """Explains the nearest neighbors of every query, and stores the maps."""

    config = foo.OperatorConfig(
        name="explain_retrieval",
        label="SFAM: explain retrieval",
        description="Heatmaps that show why images are each other's neighbors",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = RunSettings
    form_title = "Explain retrieval with SFAM"
    result_title = "Retrieval explained"

    def is_large(self, ctx: Context, params: RunSettings) -> bool:
        """Return whether there are many images to explain."""
        return _count(ctx, params) >= LARGE

    def add_inputs(
        self, ctx: Context, params: RunSettings, inputs: types.Object
    ) -> str | None:
        """Add the target, the model, the protocol, the embeddings and the maps."""
        inputs.view_target(ctx, require_flat=True, action_description="Explain")
        add_model(ctx, params, inputs)
        inputs.int("k", label="Neighbors per query", default=5, min=1, max=MAX_K)
        add_protocol(ctx.dataset, params, inputs)
        add_embeddings(ctx, params, inputs)
        add_maps(params, inputs)
        _add_estimate(ctx, params, inputs)
        return None

    def perform(self, ctx: Context, params: RunSettings) -> Results:
        """Run; see :func:`fiftyone_sfam.explain_retrieval`."""
        from fiftyone_sfam.pipeline.explain import explain_retrieval

        run = explain_retrieval(
            ctx.target_view(require_flat=True),
            params.known_model(),
            progress=progress_of(ctx, phases=params.phases),
            **params.arguments(),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
            ctx.ops.set_active_fields(shown_fields(run))
        return {"key": run.key, **run.summary()}

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the summary of the run."""
        outputs.str("key", label="Run")
        outputs.int("images", label="Images")
        outputs.int("queries", label="Queries")
        outputs.int("pairs", label="Pairs explained")
        outputs.int("skipped", label="Images skipped")
        outputs.float("rank1", label="Rank-1")
        outputs.int("false match", label="False matches at rank 1")
        for name, label in (("maps", "Maps"), ("chosen", "Chosen")):
            if name in results:
                outputs.str(name, label=label)

    def __call__(
        self,
        sample_collection: SampleCollection,
        model: str,
        *,
        delegate: bool = False,
        **settings: Any,
    ) -> Any:
        """Run the operator from Python."""
        params = RunSettings.of_call("explain_retrieval", model, settings)
        return self.call(sample_collection, params, delegate)


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _add_estimate(ctx: Context, params: RunSettings, inputs: types.Object) -> None:
    """Add what the run will cost."""
    count = _count(ctx, params)
    # The nearest true match of a query is one more pair, unless it is among the k.
    neighbors = params.k + 1 if params.identity_field else params.k
    pairs = count * min(neighbors, max(count - 1, 0))
    passes = count * (2 if params.embeddings_from == COMPUTE else 1)
    unit = "detection" if params.patches_field else "image"
    text = (
        f"{counted(count, unit)}: up to {counted(pairs, 'pair')}, "
        f"{counted(passes, 'forward pass', 'forward passes')}."
    )
    if params.along_path:
        forward, backward = PASSES.get(params.kind, PASSES[SCALES])
        explained = pairs if params.path_pairs == ALL_PAIRS else count
        text += (
            f" The paths: up to {forward * count:,} more forward passes and "
            f"{2 * backward * explained:,} backward passes."
        )
    if params.kind == AUTO or params.best_layer:
        text += f" Choosing by measurement: about {CHOOSING:,} more."
    choices.add_estimate(inputs, text, count >= LARGE)


def _count(ctx: Context, params: RunSettings) -> int:
    """Count the images or detections of the target."""
    view = ctx.target_view(require_flat=True)
    if params.patches_field in choices.detection_fields(ctx.dataset):
        path = choices.patches_prefix(ctx.dataset, params.patches_field)
        return int(view.count(path.rstrip(".")))
    return int(view.count())
