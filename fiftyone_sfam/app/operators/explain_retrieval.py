"""The operator that explains a dataset's retrieval."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator, shown_fields
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.settings import (
    COMPUTE,
    FIELD,
    INDEX,
    MAX_BATCH_SIZE,
    MAX_K,
    RunSettings,
)
from fiftyone_sfam.errors import DataError, SfamError
from fiftyone_sfam.pipeline.manage import check_key
from fiftyone_sfam.runs.run import list_runs
from fiftyone_sfam.runs.run_config import run_config

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 2000
"""Images from which a run is delegated unless the user says otherwise."""

_SECONDS_BETWEEN_REPORTS = 1.0


class ExplainRetrieval(foo.Operator):
    """Explains the nearest neighbors of every query, and stores the maps."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="explain_retrieval",
            label="SFAM: explain retrieval",
            description="Heatmaps that say why images are each other's neighbors",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large targets by default."""
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=_count(ctx) >= LARGE,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        # What is wrong with a number is said beside its field.
        check_types({**ctx.params, "k": None, "batch_size": None})
        inputs = types.Object()
        inputs.view_target(ctx, require_flat=True, action_description="Explain")
        _model_inputs(ctx, inputs)
        _field_inputs(ctx, inputs)
        _embedding_inputs(ctx, inputs)
        _map_inputs(ctx, inputs)
        _estimate(ctx, inputs)
        return types.Property(
            inputs, view=types.View(label="Explain retrieval with SFAM")
        )

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Run; see :func:`fiftyone_sfam.explain_retrieval`."""
        from fiftyone_sfam.pipeline.explain import explain_retrieval

        check_types(ctx.params, numbers=False)
        settings = RunSettings.from_params(ctx.params)
        if settings.model is None:
            raise DataError("choose a model to explain.")
        reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

        def report(done: int, total: int, phase: str) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported >= _SECONDS_BETWEEN_REPORTS or done == total:
                reported = now
                # Embedding and explaining are one forward pass per image each.
                parts = 2 if settings.embeddings_from == COMPUTE else 1
                before = 1 if phase == "explaining" and parts == 2 else 0
                ctx.set_progress(
                    progress=(before + done / total) / parts,
                    label=f"{phase} {done} of {total} images",
                )

        run = explain_retrieval(
            ctx.target_view(require_flat=True),
            settings.model,
            # Only a delegated operation has a place to show its progress.
            progress=report if ctx.delegated else None,
            **settings.arguments(),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
            ctx.ops.set_active_fields(shown_fields(run))
        return {"key": run.key, **run.summary()}

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.int("images", label="Images")
        outputs.int("queries", label="Queries")
        outputs.int("pairs", label="Pairs explained")
        outputs.int("skipped", label="Images skipped")
        outputs.float("rank1", label="Rank-1")
        outputs.int("false match", label="False matches at rank 1")
        choices.show_warnings(outputs, ctx.results)
        return types.Property(outputs, view=types.View(label="Retrieval explained"))

    def __call__(
        self,
        sample_collection: SampleCollection,
        model: str,
        *,
        delegate: bool = False,
        **settings: Any,
    ) -> Any:
        """Run the operator from Python."""
        for source, name in ((INDEX, "brain_key"), (FIELD, "embeddings_field")):
            if settings.get(name) is not None:
                settings.setdefault("embeddings_from", source)
        known = vars(RunSettings(model=model, **settings))
        return call_operator(self, sample_collection, known, delegate)


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def _model_inputs(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Ask for the model and the run's key."""
    models, error = choices.model_choices()
    choices.add_choice(
        inputs,
        "model",
        models,
        label="Model",
        description="Registered by this machine's owner, or packaged",
        required=True,
        error=error,
    )
    key = ctx.params.get("key", "sfam")
    problem = None
    if not isinstance(key, str) or not key:
        problem = "give the run a key."
    else:
        try:
            check_key(ctx.dataset, key, ctx.params.get("patches_field"))
        except SfamError as found:
            problem = str(found)
        if key in list_runs(ctx.dataset) and not ctx.params.get("overwrite"):
            problem = f"there is a run '{key}' already; replace it, or change the key."
    choices.mark(
        inputs.str(
            "key",
            label="Run key",
            description="Also the name of the heatmap field",
            default="sfam",
        ),
        problem,
    )
    if isinstance(key, str) and key in list_runs(ctx.dataset):
        inputs.bool("overwrite", label=f"Replace the run '{key}'", default=False)
    _number(ctx, inputs, "k", "Neighbors per query", 5, MAX_K)


def _field_inputs(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Ask for the fields that labels, cameras, splits and detections come from."""
    dataset = ctx.dataset
    detections = choices.detection_fields(dataset)
    if detections:
        choices.add_choice(
            inputs,
            "patches_field",
            [(name, name) for name in detections],
            label="Detections",
            description="Compare detections instead of whole images",
        )
    patches_field = ctx.params.get("patches_field")
    names = choices.label_fields(dataset)
    if patches_field in detections:
        prefix = choices.patches_prefix(dataset, patches_field)
        attributes = choices.label_fields(dataset, prefix)
        names = attributes + [name for name in names if name not in attributes]
    listed = [(name, name) for name in names]
    choices.add_choice(
        inputs,
        "identity_field",
        listed,
        label="Identity field",
        description="Who is shown; needed to tell true from false matches",
    )
    choices.add_choice(
        inputs,
        "camera_field",
        listed,
        label="Camera field",
        description="To leave out images of the same identity and camera",
    )
    choices.add_choice(
        inputs,
        "split_field",
        [("tags", "tags"), *listed],
        label="Query / gallery field",
        description="Without one every image is both",
    )
    if ctx.params.get("split_field"):
        inputs.str("query_value", label="Value of queries", default="query")
        inputs.str("gallery_value", label="Value of the gallery", default="gallery")
    if ctx.params.get("camera_field"):
        inputs.bool(
            "exclude_same_camera",
            label="Leave out the query's identity on the query's camera",
            default=True,
        )
    # What was typed stays visible where the identity field was taken back again.
    shown = ("identity_field", "junk", "distractors")
    if any(ctx.params.get(name) for name in shown):
        problem = _problem(ctx, *shown)
        junk = inputs.str(
            "junk",
            label="Junk identities",
            description="Left out altogether; separate by commas",
        )
        distractors = inputs.str(
            "distractors",
            label="Distractor identities",
            description="In the gallery, matching nobody; separate by commas",
        )
        choices.mark(distractors if ctx.params.get("distractors") else junk, problem)
    inputs.bool(
        "exclude_duplicates",
        label="Leave out exact duplicates of the query",
        default=False,
    )


def _embedding_inputs(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Ask where embeddings come from."""
    dataset, patches_field = ctx.dataset, ctx.params.get("patches_field")
    indexes = dataset.list_brain_runs(type="similarity")
    prefix = (
        choices.patches_prefix(dataset, patches_field)
        if patches_field in choices.detection_fields(dataset)
        else ""
    )
    vectors = choices.vector_fields(dataset, prefix)
    options = [(COMPUTE, "compute them: a second forward pass per image")]
    if indexes:
        options.append((INDEX, "take them from a similarity index"))
    if vectors:
        options.append((FIELD, "take them from a field"))
    choices.add_choice(
        inputs,
        "embeddings_from",
        options,
        label="Embeddings",
        default=COMPUTE,
    )
    source = ctx.params.get("embeddings_from") or COMPUTE
    if source == INDEX:
        key = ctx.params.get("brain_key")
        choices.add_choice(
            inputs,
            "brain_key",
            [(name, name) for name in indexes],
            label="Similarity index",
            required=True,
            error=_index_problem(ctx, key) if key in indexes else None,
        )
    elif source == FIELD:
        choices.add_choice(
            inputs,
            "embeddings_field",
            [(name, name) for name in vectors],
            label="Embeddings field",
            required=True,
        )
    else:
        key = ctx.params.get("keep_index")
        choices.mark(
            inputs.str(
                "keep_index",
                label="Keep the embeddings as similarity index",
                description="A brain key; leave empty not to keep them",
            ),
            _new_index_problem(ctx, key) if key else None,
        )


def _new_index_problem(ctx: foo.ExecutionContext, key: Any) -> str | None:
    """Say why no similarity index can be kept under a brain key."""
    from fiftyone_sfam.retrieval.embeddings import check_index_key

    # What an interrupted run has begun of its index is made anew.
    begun = run_config(ctx.dataset, ctx.params.get("key") or "sfam")
    if begun is not None and begun.keeps_index == key:
        return None
    try:
        check_index_key(ctx.dataset, key)
    except DataError as error:
        return str(error)
    return None


def _index_problem(ctx: foo.ExecutionContext, key: str) -> str | None:
    """Say why a similarity index does not fit the form."""
    made_for = ctx.dataset.get_brain_info(key).config.patches_field
    wanted = ctx.params.get("patches_field")
    if made_for == wanted:
        return None
    return (
        f"this index was made for {made_for or 'whole images'}, not for "
        f"{wanted or 'whole images'}."
    )


def _map_inputs(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Ask for the kind of map."""
    choices.add_choice(
        inputs,
        "kind",
        [
            ("sfam", "SFAM (channels weighted by their importance)"),
            ("evidence", "evidence (adds up to the similarity)"),
        ],
        label="Map shown as heatmap",
        description="Both kinds are stored",
        default="sfam",
    )
    choices.add_choice(
        inputs,
        "weights",
        [
            ("signed", "signed (depends on the partner)"),
            ("minmax", "min-max (as the authors' published code)"),
        ],
        label="Channel weights",
        default="signed",
    )
    _number(ctx, inputs, "batch_size", "Images per forward pass", 32, MAX_BATCH_SIZE)


def _number(
    ctx: foo.ExecutionContext,
    inputs: types.Object,
    name: str,
    label: str,
    default: int,
    largest: int,
) -> None:
    """Ask for a whole number, and say beside the field what is wrong with it."""
    choices.mark(
        inputs.int(name, label=label, default=default, min=1, max=largest),
        _problem(ctx, name) and f"give a whole number from 1 to {largest}.",
    )


def _problem(ctx: foo.ExecutionContext, *names: str) -> str | None:
    """Say what is wrong with some parameters, taken by themselves."""
    given = {name: ctx.params[name] for name in names if name in ctx.params}
    try:
        RunSettings.from_params(given).protocol()
    except DataError as error:
        return str(error)
    return None


def _estimate(ctx: foo.ExecutionContext, inputs: types.Object) -> None:
    """Say what the run will cost."""
    count = _count(ctx)
    k = 5 if _problem(ctx, "k") else int(ctx.params.get("k") or 5)
    # A query's nearest true match is one more pair where it is not among the k.
    each = k + 1 if ctx.params.get("identity_field") else k
    passes = 2 if (ctx.params.get("embeddings_from") or COMPUTE) == COMPUTE else 1
    what = "detections" if ctx.params.get("patches_field") else "images"
    text = (
        f"{count:,} {what}: up to {count * min(each, max(count - 1, 0)):,} pairs, "
        f"{passes * count:,} forward passes."
    )
    if count >= LARGE:
        text += " Large: better delegated."
    inputs.view("estimate", types.Notice(label=text))


def _count(ctx: foo.ExecutionContext) -> int:
    """Count the images or detections of the target."""
    view = ctx.target_view(require_flat=True)
    patches_field = ctx.params.get("patches_field")
    if patches_field in choices.detection_fields(ctx.dataset):
        path = choices.patches_prefix(ctx.dataset, patches_field).rstrip(".")
        return int(view.count(path))
    return int(view.count())
