"""The operator that evaluates a run over all pairs of its images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.parameters import (
    MAX_CHOSEN,
    MAX_SEED,
    MAX_TEXT,
    one_text,
    some_texts,
    whole_number,
)
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.evaluation.fields import ENDINGS
from fiftyone_sfam.audit.evaluation.overview import compared_pairs
from fiftyone_sfam.audit.evaluation.scores import FARS
from fiftyone_sfam.audit.statistics.bootstrap import RESAMPLES
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 50_000_000
"""Pairs from which an evaluation is delegated unless the user says otherwise."""

CAMERAS = (
    ("protocol", "as the run's protocol says"),
    ("all", "all: cameras do not matter"),
    ("cross", "only pairs of two cameras"),
    ("single", "only pairs of one camera"),
)

MAX_RESAMPLES = 100_000
"""Most draws per interval that can be asked for from the App."""

_SECONDS_BETWEEN_REPORTS = 1.0


class EvaluateRetrieval(foo.Operator):
    """Evaluates a run: rankings, verification, and both by slices."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="evaluate_retrieval",
            label="SFAM: evaluate retrieval",
            description="CMC, mAP, error rates and slices of a run, over all pairs",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate large runs by default."""
        run = _chosen_run(ctx)
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=run is not None
            and compared_pairs(run) >= LARGE,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Evaluate a run's retrieval")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        run = _chosen_run(ctx)
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
            error=None if run is not None else "there is no such run; choose another.",
        )
        if run is None:
            return types.Property(inputs, view=view)
        if run.config.protocol["identity_field"] is None:
            problem = (
                "this run has no identity field, so there is nothing to evaluate "
                "against; make another run with one."
            )
            choices.mark(inputs.view("labels", types.Warning(label=problem)), problem)
            return types.Property(inputs, view=view)
        _slice_inputs(ctx, inputs, run)
        if run.config.protocol["camera_field"] is not None:
            choices.add_choice(
                inputs,
                "cameras",
                CAMERAS,
                label="Pairs of cameras",
                default="protocol",
            )
        choices.mark(
            inputs.str(
                "fars",
                label="False accept rates",
                description="To find thresholds for; separate by commas",
                default=", ".join(f"{far:g}" for far in FARS),
            ),
            _problem(ctx.params.get("fars")),
        )
        _estimate(inputs, run)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Evaluate; see :func:`evaluate_retrieval` of the library."""
        check_types(ctx.params, numbers=False)
        run = load_run(ctx.dataset, str(ctx.params.get("key")))
        reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

        def report(done: int, total: int, phase: str) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported >= _SECONDS_BETWEEN_REPORTS or done == total:
                reported = now
                ctx.set_progress(
                    progress=done / max(total, 1),
                    label=f"{phase}: {done} of {total} queries",
                )

        found = evaluate_retrieval(
            run,
            # Only a delegated operation has a place to show its progress.
            progress=report if ctx.delegated else None,
            **_settings(ctx.params),
        )
        if not ctx.delegated:
            ctx.ops.reload_dataset()
        ranked, scores = found.identification, found.verification
        figures = {
            "rank1": found.overall.rank1.value,
            "mean_average_precision": ranked.mean_average_precision,
            "mean_inverse_negative_penalty": ranked.mean_inverse_negative_penalty,
            "auc": scores.auc,
            "equal_error": scores.equal_error,
        }
        return {
            "key": run.key,
            "queries": len(ranked.query),
            "genuine": scores.genuine_pairs,
            "impostor": scores.impostor_pairs,
            # JSON has no NaN.
            **{name: None if math.isnan(v) else v for name, v in figures.items()},
        }

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.int("queries", label="Queries with a true match")
        outputs.float("rank1", label="Rank-1")
        outputs.float("mean_average_precision", label="mAP")
        outputs.float("mean_inverse_negative_penalty", label="mINP")
        outputs.int("genuine", label="Pairs of one identity")
        outputs.int("impostor", label="Pairs of two identities")
        outputs.float("auc", label="AUC")
        outputs.float("equal_error", label="Equal error rate")
        return types.Property(outputs, view=types.View(label="Retrieval evaluated"))

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
        return call_operator(self, sample_collection, params, delegate)


def _chosen_run(ctx: foo.ExecutionContext) -> Run | None:
    """Load the run of the form; None if there is none."""
    key = ctx.params.get("key") or next(iter(list_runs(ctx.dataset)), None)
    return current_run(ctx.dataset, key)


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the library's function."""
    return {
        "slices": some_texts(params, "slices"),
        "pair_slices": some_texts(params, "pair_slices"),
        "cameras": one_text(params, "cameras") or "protocol",
        "fars": _rates(params.get("fars")),
        "resamples": whole_number(params, "resamples", RESAMPLES, most=MAX_RESAMPLES),
        "seed": whole_number(params, "seed", 0, least=0, most=MAX_SEED),
    }


def _rates(given: Any) -> tuple[float, ...]:
    """Read false accept rates."""
    if not given:
        return FARS
    parts = str(given)[:MAX_TEXT].split(",")
    if len(parts) > MAX_CHOSEN:
        raise DataError(
            f"{len(parts)} false accept rates are too many; give up to {MAX_CHOSEN}."
        )
    try:
        rates = tuple(float(part) for part in parts)
    except ValueError as error:
        raise DataError(
            f"the false accept rates {str(given)[:60]!r} are no numbers; give some as "
            "0.01, separated by commas."
        ) from error
    for rate in rates:
        if not 0 < rate <= 1:
            raise DataError(
                f"the false accept rate {rate} is out of range; give rates above 0 and "
                "up to 1."
            )
    return rates


def _problem(given: Any) -> str | None:
    """Say what is wrong with false accept rates."""
    try:
        _rates(given)
    except DataError as error:
        return str(error)
    return None


def _slice_inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask for the fields to slice by."""
    fields = _slice_fields(ctx.dataset, run)
    for name, label, description in (
        ("slices", "Slices of the queries", "One row of figures for each value"),
        (
            "pair_slices",
            "Slices of pairs",
            "Error rates for each pair of values, as of cameras",
        ),
    ):
        view = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
        for field in fields:
            view.add_choice(field, label=field)
        listed = inputs.list(
            name, types.String(), label=label, description=description, view=view
        )
        unknown = [one for one in ctx.params.get(name) or [] if one not in fields]
        if unknown:
            choices.mark(listed, f"'{unknown[0]}' is no field to slice by.")


def _slice_fields(dataset: fo.Dataset, run: Run) -> list[str]:
    """List the fields that a run's queries can be sliced by, the protocol's first."""
    protocol = run.config.protocol
    names = [protocol[rule] for rule in ("camera_field", "split_field")]
    if run.config.patches_field is not None:
        prefix = choices.patches_prefix(dataset, run.config.patches_field)
        names += choices.label_fields(dataset, prefix)
    names += choices.label_fields(dataset)
    names += dataset.get_field_schema(ftype=fo.FloatField)
    names += ["tags", protocol["identity_field"]]
    # What an evaluation writes says nothing about it.
    own = {run.key + ending for ending in ENDINGS}
    return [name for name in dict.fromkeys(names) if name and name not in own]


def _estimate(inputs: types.Object, run: Run) -> None:
    """Say how much there is to compare."""
    count = compared_pairs(run)
    text = f"{count:,} pairs of a query and a gallery image are compared."
    if count >= LARGE:
        text += " Large: better delegated."
    inputs.view("estimate", types.Notice(label=text))
