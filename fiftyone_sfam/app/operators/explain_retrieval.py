"""The operator that explains the retrieval of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Text, Whole, whole
from fiftyone_sfam.app.forms.protocol import ProtocolParameters, add_protocol
from fiftyone_sfam.app.operators.base import (
    Context,
    Results,
    SfamOperator,
    progress_of,
    shown_fields,
)
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import known_name
from fiftyone_sfam.pipeline.manage import check_key
from fiftyone_sfam.retrieval.embeddings import check_index_key
from fiftyone_sfam.runs.run import list_runs
from fiftyone_sfam.runs.run_config import (
    ALL_PAIRS,
    FALSE_RANK1,
    PATH,
    PATH_KINDS,
    RANK1,
    SCALES,
    run_config,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 2000
"""Images from which a run is delegated unless the user says otherwise."""

MAX_K = 1000
MAX_BATCH_SIZE = 1024

PASSES = {PATH: (6, 4), SCALES: (12, 10)}
"""Passes of maps along paths: forward of an image, and backward of each partner."""

COMPUTE, INDEX, FIELD = "compute", "index", "field"


class RunSettings(ProtocolParameters):
    """The model, the rules of the retrieval, and the maps."""

    model: Text | None = None
    key: Text = "sfam"
    k: Whole = whole(5, 1, MAX_K)
    # The map shown as the heatmap field.
    kind: Literal["sfam", "evidence", "path", "scales"] = "sfam"
    path_pairs: Literal["rank1", "false", "all"] = "rank1"
    weights: Literal["signed", "minmax"] = "signed"
    embeddings_from: Literal["compute", "index", "field"] = "compute"
    brain_key: Text | None = None
    embeddings_field: Text | None = None
    keep_index: Text | None = None
    contributions: Literal["none", "int8", "float16"] = "none"
    batch_size: Whole = whole(32, 1, MAX_BATCH_SIZE)
    overwrite: bool = False

    def embeddings(self) -> str | None:
        """Return the brain key or field that embeddings come from."""
        if self.embeddings_from == COMPUTE:
            return None
        if self.embeddings_from == INDEX:
            source, name = "similarity index", self.brain_key
        else:
            source, name = "field", self.embeddings_field
        if name is None:
            raise DataError(f"choose the {source} that holds the embeddings.")
        return name

    @property
    def along_path(self) -> bool:
        """Whether maps along paths are stored too."""
        return self.kind in PATH_KINDS

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``explain_retrieval``, without the model."""
        kinds = ["sfam", "evidence", *((self.kind,) if self.along_path else ())]
        return {
            "key": self.key,
            "k": self.k,
            "protocol": self.protocol(),
            "patches_field": self.patches_field,
            "embeddings": self.embeddings(),
            "keep_index": self.keep_index if self.embeddings_from == COMPUTE else None,
            "kinds": sorted(kinds, key=lambda kind: kind != self.kind),
            "path_pairs": self.path_pairs,
            "weights": self.weights,
            "contributions": None
            if self.contributions == "none"
            else self.contributions,
            "batch_size": self.batch_size,
            "overwrite": self.overwrite,
        }


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
        _add_model(ctx, params, inputs)
        add_protocol(ctx.dataset, params, inputs)
        _add_embeddings(ctx, params, inputs)
        _add_maps(params, inputs)
        _add_estimate(ctx, params, inputs)
        return None

    def perform(self, ctx: Context, params: RunSettings) -> Results:
        """Run; see :func:`fiftyone_sfam.explain_retrieval`."""
        from fiftyone_sfam.pipeline.explain import explain_retrieval

        if params.model is None:
            raise DataError("choose a model to explain.")
        # Computing the embeddings takes one pass over the images, explaining another.
        computing = params.embeddings_from == COMPUTE
        run = explain_retrieval(
            ctx.target_view(require_flat=True),
            known_name(params.model),
            progress=progress_of(
                ctx, phases=("embedding", "explaining") if computing else ()
            ),
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

    def __call__(
        self,
        sample_collection: SampleCollection,
        model: str,
        *,
        delegate: bool = False,
        **settings: Any,
    ) -> Any:
        """Run the operator from Python."""
        fields = RunSettings.model_fields
        unknown = [name for name in settings if name not in fields]
        if unknown:
            raise TypeError(f"explain_retrieval has no setting {unknown[0]!r}.")
        for source, name in ((INDEX, "brain_key"), (FIELD, "embeddings_field")):
            if settings.get(name) is not None:
                settings.setdefault("embeddings_from", source)
        params = {name: field.default for name, field in fields.items()}
        return self.call(
            sample_collection, {**params, "model": model, **settings}, delegate
        )


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _add_model(ctx: Context, params: RunSettings, inputs: types.Object) -> None:
    """Add the model, the key of the run and the number of neighbors."""
    models, problem = choices.model_choices()
    choices.add_choice(
        inputs,
        "model",
        models,
        label="Model",
        description="Registered by the owner of this machine, or packaged",
        required=True,
        problem=problem,
    )
    key = params.key
    exists = key in list_runs(ctx.dataset)
    problem = choices.problem_of(check_key, ctx.dataset, key, params.patches_field)
    if exists and not params.overwrite:
        problem = f"there is a run '{key}' already; replace it, or change the key."
    if "key" in ctx.params and not ctx.params["key"]:
        problem = "give the run a key."
    field = inputs.str(
        "key",
        label="Run key",
        description="Also the name of the heatmap field",
        default="sfam",
    )
    choices.mark(field, problem)
    if exists:
        inputs.bool("overwrite", label=f"Replace the run '{key}'", default=False)
    inputs.int("k", label="Neighbors per query", default=5, min=1, max=MAX_K)


def _add_embeddings(ctx: Context, params: RunSettings, inputs: types.Object) -> None:
    """Add where embeddings come from."""
    dataset = ctx.dataset
    indexes = dataset.list_brain_runs(type="similarity")
    prefix = ""
    if params.patches_field in choices.detection_fields(dataset):
        prefix = choices.patches_prefix(dataset, params.patches_field)
    vectors = choices.vector_fields(dataset, prefix)
    sources = [(COMPUTE, "compute them: a second forward pass per image")]
    if indexes:
        sources.append((INDEX, "take them from a similarity index"))
    if vectors:
        sources.append((FIELD, "take them from a field"))
    choices.add_choice(
        inputs, "embeddings_from", sources, label="Embeddings", default=COMPUTE
    )
    if params.embeddings_from == INDEX:
        problem = _index_problem(ctx, params) if params.brain_key in indexes else None
        choices.add_choice(
            inputs,
            "brain_key",
            indexes,
            label="Similarity index",
            required=True,
            problem=problem,
        )
    elif params.embeddings_from == FIELD:
        choices.add_choice(
            inputs,
            "embeddings_field",
            vectors,
            label="Embeddings field",
            required=True,
        )
    else:
        field = inputs.str(
            "keep_index",
            label="Keep the embeddings as similarity index",
            description="A brain key; leave it empty to keep no index",
        )
        begun = run_config(dataset, params.key)
        # The index that an interrupted run has begun is replaced.
        if params.keep_index and params.keep_index != (begun and begun.keeps_index):
            problem = choices.problem_of(check_index_key, dataset, params.keep_index)
            choices.mark(field, problem)


def _index_problem(ctx: Context, params: RunSettings) -> str | None:
    """Return why a similarity index does not fit the form."""
    indexed = ctx.dataset.get_brain_info(params.brain_key).config.patches_field
    if indexed == params.patches_field:
        return None
    return (
        f"this index was made for {indexed or 'whole images'}, not for "
        f"{params.patches_field or 'whole images'}; choose another."
    )


def _add_maps(params: RunSettings, inputs: types.Object) -> None:
    """Add the kind of map that is shown, and how maps are computed."""
    choices.add_choice(
        inputs,
        "kind",
        [
            ("sfam", "SFAM (channels weighted by their importance)"),
            ("evidence", "evidence (adds up to the similarity)"),
            (SCALES, "path of several scales (finer and more faithful, slow)"),
            (PATH, "path of the pixels (the finest, slow)"),
        ],
        label="Map shown as heatmap",
        description="The first two kinds are always stored",
        default="sfam",
    )
    if params.along_path:
        choices.add_choice(
            inputs,
            "path_pairs",
            [
                (RANK1, "those of rank 1"),
                (FALSE_RANK1, "the false matches of rank 1"),
                (ALL_PAIRS, "all"),
            ],
            label="Pairs that get this map",
            default=RANK1,
        )
    choices.add_choice(
        inputs,
        "weights",
        [
            ("signed", "signed (depends on the partner)"),
            ("minmax", "min-max (as in the authors' published code)"),
        ],
        label="Channel weights",
        default="signed",
    )
    choices.add_choice(
        inputs,
        "contributions",
        [
            ("none", "not stored"),
            ("int8", "8 bits"),
            ("float16", "16 bits"),
        ],
        label="Contributions of positions",
        description="They explain any two images later, without the model",
        default="none",
    )
    inputs.int(
        "batch_size",
        label="Images per forward pass",
        default=32,
        min=1,
        max=MAX_BATCH_SIZE,
    )


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
        forward, backward = PASSES[params.kind]
        explained = pairs if params.path_pairs == ALL_PAIRS else count
        text += (
            f" The paths: up to {forward * count:,} more forward passes and "
            f"{2 * backward * explained:,} backward passes."
        )
    choices.add_estimate(inputs, text, count >= LARGE)


def _count(ctx: Context, params: RunSettings) -> int:
    """Count the images or detections of the target."""
    view = ctx.target_view(require_flat=True)
    if params.patches_field in choices.detection_fields(ctx.dataset):
        path = choices.patches_prefix(ctx.dataset, params.patches_field)
        return int(view.count(path.rstrip(".")))
    return int(view.count())
