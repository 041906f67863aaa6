"""The operator that evaluates a run over all pairs of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import (
    MAX_SEED,
    Rates,
    RunParameters,
    Texts,
    Whole,
    whole,
)
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator, progress_of
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.evaluation.fields import ENDINGS
from fiftyone_sfam.audit.evaluation.overview import compared_pairs
from fiftyone_sfam.audit.evaluation.scores import FARS
from fiftyone_sfam.audit.statistics.bootstrap import RESAMPLES
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 50_000_000
"""Pairs from which an evaluation is delegated unless the user says otherwise."""

CAMERAS = {
    "protocol": "as the protocol of the run says",
    "all": "all pairs",
    "cross": "only pairs of two cameras",
    "single": "only pairs of one camera",
}

MAX_RESAMPLES = 100_000
"""Most draws per interval that can be asked for from the App."""


class EvaluationParameters(RunParameters):
    """What to measure, over which pairs."""

    slices: Texts = ()
    pair_slices: Texts = ()
    cameras: Literal["protocol", "all", "cross", "single"] = "protocol"
    fars: Rates = FARS
    resamples: Whole = whole(RESAMPLES, 1, MAX_RESAMPLES)
    seed: Whole = whole(0, 0, MAX_SEED)


class EvaluateRetrieval(RunOperator[EvaluationParameters]):
    """Evaluates a run: rankings, verification, and both by slices."""

    config = foo.OperatorConfig(
        name="evaluate_retrieval",
        label="SFAM: evaluate retrieval",
        description="CMC, mAP, error rates and slices of a run, over all pairs",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = EvaluationParameters
    form_title = "Evaluate the retrieval of a run"
    result_title = "Retrieval evaluated"

    def is_large(self, ctx: Context, params: EvaluationParameters) -> bool:
        """Return whether the run compares many pairs."""
        run = self.chosen_run(ctx, params)
        return run is not None and compared_pairs(run) >= LARGE

    def add_run_inputs(
        self, ctx: Context, params: EvaluationParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the slices, the rule for cameras and the false accept rates."""
        protocol = run.config.protocol
        if protocol["identity_field"] is None:
            problem = (
                "this run has no identity field, so there is nothing to evaluate "
                "against; make another run with an identity field."
            )
            choices.mark(inputs.view("labels", types.Warning(label=problem)), problem)
            return
        fields = _slice_fields(ctx.dataset, run)
        for name, label, description in (
            ("slices", "Slices of the queries", "One row of figures for each value"),
            (
                "pair_slices",
                "Slices of pairs",
                "Error rates for each pair of values, such as cameras",
            ),
        ):
            choices.add_list(
                inputs,
                name,
                fields,
                getattr(params, name),
                label=label,
                description=description,
                problem="is not a field to slice by; choose from the list.",
            )
        if protocol["camera_field"] is not None:
            choices.add_choice(
                inputs,
                "cameras",
                CAMERAS.items(),
                label="Pairs of cameras",
                default="protocol",
            )
        choices.add_rates(inputs, FARS)
        count = compared_pairs(run)
        text = f"Compares {counted(count, 'pair')} of a query and a gallery image."
        choices.add_estimate(inputs, text, count >= LARGE)

    def perform_on(
        self, ctx: Context, params: EvaluationParameters, run: Run
    ) -> Results:
        """Evaluate; see :func:`fiftyone_sfam.evaluate_retrieval`."""
        evaluation = evaluate_retrieval(
            run,
            **params.model_dump(exclude={"key"}),
            progress=progress_of(ctx, "queries"),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        ranked, scores = evaluation.identification, evaluation.verification
        return {
            "key": run.key,
            "queries": len(ranked.query),
            "genuine": scores.genuine_pairs,
            "impostor": scores.impostor_pairs,
            "rank1": evaluation.overall.rank1.value,
            "mean_average_precision": ranked.mean_average_precision,
            "mean_inverse_negative_penalty": ranked.mean_inverse_negative_penalty,
            "auc": scores.auc,
            "equal_error": scores.equal_error,
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the measures."""
        outputs.str("key", label="Run")
        outputs.int("queries", label="Queries with a true match")
        outputs.float("rank1", label="Rank-1")
        outputs.float("mean_average_precision", label="mAP")
        outputs.float("mean_inverse_negative_penalty", label="mINP")
        outputs.int("genuine", label="Pairs of one identity")
        outputs.int("impostor", label="Pairs of two identities")
        outputs.float("auc", label="AUC")
        outputs.float("equal_error", label="Equal error rate")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        slices: Sequence[str] = (),
        pair_slices: Sequence[str] = (),
        cameras: str = "protocol",
        fars: Sequence[float] = FARS,
        resamples: int = RESAMPLES,
        seed: int = 0,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "slices": list(slices),
            "pair_slices": list(pair_slices),
            "cameras": cameras,
            # The form asks for a text, and FiftyOne checks calls against the form.
            "fars": ", ".join(repr(float(far)) for far in fars),
            "resamples": resamples,
            "seed": seed,
        }
        return self.call(sample_collection, params, delegate)


def _slice_fields(dataset: fo.Dataset, run: Run) -> list[str]:
    """List the fields to slice a run's queries by, those of the protocol first."""
    protocol = run.config.protocol
    names = [protocol[rule] for rule in ("camera_field", "split_field")]
    if run.config.patches_field is not None:
        prefix = choices.patches_prefix(dataset, run.config.patches_field)
        names += choices.label_fields(dataset, prefix)
    names += choices.label_fields(dataset)
    names += dataset.get_field_schema(ftype=fo.FloatField)
    names += ["tags", protocol["identity_field"]]
    # Slicing an evaluation by the fields that it writes is circular.
    written = {run.key + ending for ending in ENDINGS}
    return [name for name in dict.fromkeys(names) if name and name not in written]
