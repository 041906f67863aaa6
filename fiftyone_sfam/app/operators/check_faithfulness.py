"""The operator that tells how far the maps of a run are to be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.parameters import MAX_SEED, one_text, whole_number
from fiftyone_sfam.runs.run import Run, list_runs, load_run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

    from fiftyone_sfam.audit.faithfulness.result import Faithfulness

PAIRS = 100
MAX_PAIRS = 10_000
"""Most pairs that are drawn from the App."""

FEW = 25
"""Pairs up to which the operation runs at once unless the user says otherwise."""

_FILLS = {
    "blur": "blurred",
    "mean": "painted in the mean color",
    "inpaint": "filled from around them",
}
_SIDES = {"query": "the query", "gallery": "the neighbor", "both": "both images"}
_SECONDS_BETWEEN_REPORTS = 1.0


class CheckFaithfulness(foo.Operator):
    """Masks images in the order of their maps, and compares with what knows less."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="check_faithfulness",
            label="SFAM: check faithfulness",
            description="How far to trust the maps on this model",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(
        self, ctx: foo.ExecutionContext
    ) -> foo.ExecutionOptions:
        """Delegate all but small checks by default."""
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=(ctx.params.get("pairs") or PAIRS) > FEW,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Check how faithful the maps are")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        key = ctx.params.get("key") or keys[0]
        run = load_run(ctx.dataset, key) if key in keys else None
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
            error="there is no such run; choose another." if run is None else None,
        )
        if run is not None:
            _inputs(ctx, inputs, run)
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Check a sample of pairs."""
        from fiftyone_sfam.audit.faithfulness.check import AUTO, check_faithfulness

        check_types(ctx.params, numbers=False)
        params = ctx.params
        run = load_run(ctx.dataset, str(params.get("key")))
        found = check_faithfulness(
            run,
            one_text(params, "model") or run.config.model,
            whole_number(params, "pairs", PAIRS, most=MAX_PAIRS),
            side=params.get("side") or "query",
            fill=params.get("fill") or "blur",
            layers=AUTO if params.get("layers") else (),
            seed=whole_number(params, "seed", 0, least=0, most=MAX_SEED),
            progress=_reporter(ctx) if ctx.delegated else None,
        )
        return {
            "key": run.key,
            "pairs": len(found),
            "verdict": found.sentence,
            "maps": _lines(found),
        }

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.str("key", label="Run")
        outputs.int("pairs", label="Pairs")
        outputs.str("verdict", label="Verdict")
        outputs.list("maps", types.String(), label="Maps, the most faithful first")
        return types.Property(outputs, view=types.View(label="Faithfulness checked"))

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        model: str | None = None,
        pairs: int = PAIRS,
        side: str = "query",
        fill: str = "blur",
        layers: bool = False,
        seed: int = 0,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "model": model,
            "pairs": pairs,
            "side": side,
            "fill": fill,
            "layers": layers,
            "seed": seed,
        }
        return call_operator(self, sample_collection, params, delegate)


def _inputs(ctx: foo.ExecutionContext, inputs: types.Object, run: Run) -> None:
    """Ask for the model and the sample."""
    models, error = choices.model_choices()
    known = [name for name, _ in models]
    model = ctx.params.get("model") or run.config.model
    if error is None and model not in known:
        error = (
            f"the run's model '{model}' is not registered on this machine; register "
            "it, or choose the model under its other name."
        )
    choices.add_choice(
        inputs,
        "model",
        models,
        label="Model",
        description="The one that the run was made with",
        default=run.config.model if run.config.model in known else None,
        error=error,
    )
    inputs.int("pairs", label="Pairs to draw", default=PAIRS, min=1, max=MAX_PAIRS)
    choices.add_choice(
        inputs, "side", list(_SIDES.items()), label="Masked is", default="query"
    )
    choices.add_choice(
        inputs, "fill", list(_FILLS.items()), label="Pixels are", default="blur"
    )
    inputs.bool(
        "layers",
        label="Try other layers",
        description="The evidence at the last layer of each resolution",
        default=False,
    )


def _lines(found: Faithfulness) -> list[str]:
    """Describe each map in a line."""
    return [
        f"{one.name}: insertion minus deletion {one.margin.value:.4f} "
        f"({one.margin.low:.4f} to {one.margin.high:.4f})"
        for one in found.figures
    ]


def _reporter(ctx: foo.ExecutionContext) -> Callable[[int, int, str], None]:
    """Return a function that shows a delegated operation's progress."""
    reported = time.monotonic() - _SECONDS_BETWEEN_REPORTS

    def report(done: int, total: int, phase: str) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _SECONDS_BETWEEN_REPORTS or done == total:
            reported = now
            ctx.set_progress(
                progress=done / max(total, 1), label=f"{phase} {done} of {total} images"
            )

    return report
