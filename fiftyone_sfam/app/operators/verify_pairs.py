"""The operator that measures how well the pairs of a list are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from fiftyone.operators import types
from pydantic import Field

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import Rates, RunParameters
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator
from fiftyone_sfam.audit.evaluation.scores import FARS
from fiftyone_sfam.audit.verification.display import rate_text
from fiftyone_sfam.audit.verification.verify import has_both_kinds, verify_pairs
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SEARCH, run_config

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 5_000_000
"""Pairs from which a verification is delegated unless the user says otherwise."""


class VerificationParameters(RunParameters):
    """Which scores are measured, and at which thresholds."""

    threshold: float | None = Field(None, allow_inf_nan=False, description="a number")
    fars: Rates = FARS
    scores: Literal["model", "list"] = "model"


class VerifyPairs(RunOperator[VerificationParameters]):
    """Measures the pairs of a list: accuracy by folds, ROC, error rates."""

    config = foo.OperatorConfig(
        name="verify_pairs",
        label="SFAM: verify given pairs",
        description="Accuracy by folds, ROC and error rates of the pairs of a list",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = VerificationParameters
    form_title = "Verify the pairs of a list"
    result_title = "Pairs verified"
    makes_runs = "SFAM: explain given pairs"

    def keys(self, dataset: fo.Dataset) -> list[str]:
        """List the runs of given pairs."""
        configs = {key: run_config(dataset, key) for key in super().keys(dataset)}
        return [k for k, one in configs.items() if one and one.pair_source != SEARCH]

    def is_large(self, ctx: Context, params: VerificationParameters) -> bool:
        """Return whether the list has many rows."""
        run = self.chosen_run(ctx, params)
        return run is not None and run.config.counts.get("rows", 0) >= LARGE

    def run_problem(self, run: Run) -> str | None:
        """Return why nothing can be measured."""
        if run.given is None:
            return "the pairs of this run are nearest neighbors; evaluate it instead."
        if not has_both_kinds(run):
            return (
                "the list has no labeled pairs of both kinds; make the run again with "
                "labels in the list, or with an identity field."
            )
        return None

    def add_run_inputs(
        self,
        ctx: Context,
        params: VerificationParameters,
        inputs: types.Object,
        run: Run,
    ) -> None:
        """Add the threshold, the rates and the scores."""
        inputs.float(
            "threshold",
            label="Threshold",
            description="Also measure this one: pairs with at least this score are "
            "accepted",
        )
        choices.add_rates(inputs, FARS)
        assert run.given is not None
        if not np.isnan(run.given.listed.score).all():
            choices.add_choice(
                inputs,
                "scores",
                [("model", "of the model"), ("list", "of the list")],
                label="Scores",
                default="model",
            )
        count = run.config.counts["rows"]
        choices.add_estimate(
            inputs, f"{counted(count, 'row')} of the list.", count >= LARGE
        )

    def perform_on(
        self, ctx: Context, params: VerificationParameters, run: Run
    ) -> Results:
        """Measure; see :func:`fiftyone_sfam.verify_pairs`."""
        found = verify_pairs(
            run, threshold=params.threshold, fars=params.fars, scores=params.scores
        )
        scores, decided = found.scores, found.decided
        figures = {
            "accuracy": found.accuracy,
            "accuracy_error": found.accuracy_error,
            "auc": scores.auc,
            "equal_error": scores.equal_error,
            "equal_error_threshold": scores.equal_error_threshold,
            "best_accuracy": found.best_accuracy,
            "best_threshold": found.best_threshold,
        }
        if decided is not None:
            figures |= {
                "accuracy_at": decided.accuracy,
                "tar_at": decided.tar,
                "far_at": decided.far,
            }
        return {
            "key": run.key,
            "folds": len(found.folds),
            **figures,
            "fars": [point.far for point in scores.operating],
            **{
                f"tar_{n}": rate_text(point) for n, point in enumerate(scores.operating)
            },
            "genuine": scores.genuine_pairs,
            "impostor": scores.impostor_pairs,
            "unlabeled": found.unlabeled,
            "skipped": found.skipped,
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the measures."""
        outputs.str("key", label="Run")
        if results.get("folds"):
            outputs.int("folds", label="Folds")
            outputs.float("accuracy", label="Accuracy, mean of the folds")
            outputs.float("accuracy_error", label="Its standard error")
        outputs.float("auc", label="AUC")
        outputs.float("equal_error", label="Equal error rate")
        outputs.float("equal_error_threshold", label="Its threshold")
        outputs.float("best_accuracy", label="Best accuracy on the same pairs")
        outputs.float("best_threshold", label="Threshold of the best accuracy")
        if "accuracy_at" in results:
            outputs.float("accuracy_at", label="Accuracy at the threshold")
            outputs.float("tar_at", label="True accept rate at the threshold")
            outputs.float("far_at", label="False accept rate at the threshold")
        for number, far in enumerate(results.get("fars") or ()):
            outputs.str(f"tar_{number}", label=f"True accepts at {100 * far:g} % FAR")
        outputs.int("genuine", label="Pairs of one identity")
        outputs.int("impostor", label="Pairs of two identities")
        outputs.int("unlabeled", label="Rows without label or score")
        outputs.int("skipped", label="Rows skipped")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        threshold: float | None = None,
        fars: Sequence[float] = FARS,
        scores: str = "model",
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "threshold": threshold,
            # The form asks for a text, and FiftyOne checks calls against the form.
            "fars": ", ".join(repr(float(far)) for far in fars),
            "scores": scores,
        }
        return self.call(sample_collection, params, delegate)
