"""What a run is made with, in the forms of the App: model, key, embeddings, maps."""

from __future__ import annotations

from typing import Any, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole, whole
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import known_name
from fiftyone_sfam.pipeline.manage import check_key
from fiftyone_sfam.retrieval.embeddings import check_index_key
from fiftyone_sfam.runs.run import list_runs
from fiftyone_sfam.runs.run_config import (
    ALL_PAIRS,
    AUTO,
    FALSE_RANK1,
    PATH,
    PATH_KINDS,
    RANK1,
    SCALES,
    run_config,
)

MAX_BATCH_SIZE = 1024

COMPUTE, INDEX, FIELD = "compute", "index", "field"


class MakingParameters(Parameters):
    """The model and the key of a run, its embeddings, and its maps."""

    patches_field: Text | None = None
    model: Text | None = None
    key: Text = "sfam"
    # The map shown as the heatmap field.
    kind: Literal["sfam", "evidence", "path", "scales", "auto"] = "sfam"
    best_layer: bool = False
    check: bool = True
    path_pairs: Literal["rank1", "false", "all"] = "rank1"
    weights: Literal["signed", "minmax"] = "signed"
    embeddings_from: Literal["compute", "index", "field"] = "compute"
    brain_key: Text | None = None
    embeddings_field: Text | None = None
    keep_index: Text | None = None
    contributions: Literal["none", "int8", "float16"] = "none"
    batch_size: Whole = whole(32, 1, MAX_BATCH_SIZE)
    overwrite: bool = False

    @classmethod
    def of_call(cls, name: str, model: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a call from Python; all others have defaults."""
        fields = cls.model_fields
        for setting in settings.keys() - fields.keys():
            raise TypeError(f"{name} has no setting {setting!r}.")
        given = {"model": model, **settings}
        for source, field in ((INDEX, "brain_key"), (FIELD, "embeddings_field")):
            if given.get(field) is not None:
                given.setdefault("embeddings_from", source)
        return {field: info.default for field, info in fields.items()} | given

    def known_model(self) -> str:
        """Return the name of the model, if it is a known one."""
        if self.model is None:
            raise DataError("choose a model to explain.")
        return known_name(self.model)

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
    def phases(self) -> tuple[str, ...]:
        """Phases of the progress: computing embeddings takes a pass of its own."""
        return ("embedding", "explaining") if self.embeddings_from == COMPUTE else ()

    @property
    def along_path(self) -> bool:
        """Whether maps along paths are stored too, or may be."""
        return self.kind in (*PATH_KINDS, AUTO)

    def options(self) -> dict[str, Any]:
        """Return keyword arguments of ``explain_retrieval`` and ``explain_pairs``."""
        kinds = dict.fromkeys((self.kind, "sfam", "evidence"))
        return {
            "key": self.key,
            "patches_field": self.patches_field,
            "embeddings": self.embeddings(),
            "keep_index": self.keep_index if self.embeddings_from == COMPUTE else None,
            "layer": AUTO if self.best_layer else None,
            "kinds": AUTO if self.kind == AUTO else list(kinds),
            "path_pairs": self.path_pairs,
            "weights": self.weights,
            "contributions": None
            if self.contributions == "none"
            else self.contributions,
            "check": self.check,
            "batch_size": self.batch_size,
            "overwrite": self.overwrite,
        }


def add_model(
    ctx: foo.ExecutionContext, params: MakingParameters, inputs: types.Object
) -> None:
    """Add the model and the key of the run."""
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
        default=type(params).model_fields["key"].default,
    )
    choices.mark(field, problem)
    if exists:
        inputs.bool("overwrite", label=f"Replace the run '{key}'", default=False)


def add_embeddings(
    ctx: foo.ExecutionContext, params: MakingParameters, inputs: types.Object
) -> None:
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


def _index_problem(ctx: foo.ExecutionContext, params: MakingParameters) -> str | None:
    """Return why a similarity index does not fit the form."""
    indexed = ctx.dataset.get_brain_info(params.brain_key).config.patches_field
    if indexed == params.patches_field:
        return None
    return (
        f"this index was made for {indexed or 'whole images'}, not for "
        f"{params.patches_field or 'whole images'}; choose another."
    )


def add_maps(params: MakingParameters, inputs: types.Object) -> None:
    """Add the kind of map that is shown, and how maps are computed."""
    choices.add_choice(
        inputs,
        "kind",
        [
            ("sfam", "SFAM (channels weighted by their importance)"),
            ("evidence", "evidence (adds up to the similarity)"),
            (SCALES, "path of several scales (finer and more faithful, slow)"),
            (PATH, "path of the pixels (the finest, slow)"),
            (AUTO, "the best one, by measurement on a sample of pairs"),
        ],
        label="Map shown as heatmap",
        description="The first two kinds are always stored",
        default="sfam",
    )
    inputs.bool(
        "best_layer",
        label="Choose the layer by measurement",
        description="Among the last one of each resolution, on a sample of pairs",
        default=False,
    )
    inputs.bool(
        "check",
        label="Measure the stored maps on a sample",
        description="Takes at most a twentieth of the run; small runs leave it out",
        default=True,
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
