"""The operator that turns chosen pairs into a view, or a dataset of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.call import call_operator
from fiftyone_sfam.app.forms.choices import for_users
from fiftyone_sfam.app.forms.parameter_types import check_types
from fiftyone_sfam.app.forms.parameters import one_text, real_number, whole_number
from fiftyone_sfam.errors import RunError, SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run, list_runs, load_run
from fiftyone_sfam.runs.selection import PairFilter, select_pairs

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

VIEW, DATASET = "view", "dataset"
MAX_RANK = 10_000_000
MAX_PAIRS = 10_000
"""Most pairs that one export makes samples of."""


class ShowPairs(foo.Operator):
    """Shows the queries of chosen pairs, or the pairs as a grouped dataset."""

    @property
    def config(self) -> foo.OperatorConfig:
        """What FiftyOne shows of the operator."""
        return foo.OperatorConfig(
            name="show_pairs",
            label="SFAM: show pairs",
            description="A view of the queries, or a dataset of query-neighbor pairs",
            dynamic=True,
        )

    def resolve_input(self, ctx: foo.ExecutionContext) -> types.Property:
        """Build the form."""
        check_types(ctx.params)
        inputs = types.Object()
        view = types.View(label="Show explained pairs")
        keys = list_runs(ctx.dataset)
        if not keys:
            return choices.without_runs(view)
        choices.add_choice(
            inputs,
            "key",
            choices.run_choices(ctx.dataset),
            label="Run",
            default=keys[0],
            required=True,
        )
        choices.add_choice(
            inputs,
            "outcome",
            [(outcome, outcome) for outcome in OUTCOMES],
            label="Outcome",
            description="All pairs by default",
        )
        inputs.int("max_rank", label="Ranks up to", default=1, min=1)
        inputs.float("min_similarity", label="Similarity from", min=-1, max=1)
        inputs.float("max_similarity", label="Similarity up to", min=-1, max=1)
        choices.add_choice(
            inputs,
            "show",
            [
                (VIEW, "the queries, in this grid"),
                (DATASET, "the pairs, as a dataset of their own"),
            ],
            label="Show",
            default=VIEW,
            required=True,
        )
        key = ctx.params.get("key", keys[0])
        if key in keys:
            count, error = 0, None
            try:
                count = len(_chosen(load_run(ctx.dataset, key), ctx.params))
            except SfamError as found:
                error = str(found)
            if error is None and count == 0:
                error = "no pair is like that; relax the conditions."
            elif ctx.params.get("show") == DATASET and count > MAX_PAIRS:
                error = f"at most {MAX_PAIRS:,} pairs become a dataset; choose fewer."
            choices.mark(
                inputs.view("count", types.Notice(label=f"{count:,} pairs")), error
            )
        return types.Property(inputs, view=view)

    @for_users
    def execute(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Show the pairs."""
        check_types(ctx.params, numbers=False)
        run = load_run(ctx.dataset, str(ctx.params.get("key")))
        pairs = _chosen(run, ctx.params)
        if len(pairs) == 0:
            raise RunError("no pair is like that; relax the conditions.")
        if ctx.params.get("show", VIEW) == DATASET:
            if len(pairs) > MAX_PAIRS:
                raise RunError(
                    f"{len(pairs):,} pairs are too many; at most {MAX_PAIRS:,} become "
                    "a dataset."
                )
            dataset = run.to_pairs_dataset(pairs)
            ctx.ops.open_dataset(dataset.name)
            return {"pairs": len(pairs), "dataset": dataset.name}
        queries = run.items.sample_ids[run.pairs.query[pairs]]
        ctx.ops.set_view(ctx.dataset.select(list(dict.fromkeys(map(str, queries)))))
        return {"pairs": len(pairs), "dataset": None}

    def resolve_output(self, ctx: foo.ExecutionContext) -> types.Property:
        """Describe what ``execute`` returns."""
        outputs = types.Object()
        outputs.int("pairs", label="Pairs")
        outputs.str("dataset", label="Dataset of pairs")
        return types.Property(outputs)

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        show: str = DATASET,
        outcome: str | None = None,
        max_rank: int = 1,
        min_similarity: float | None = None,
        max_similarity: float | None = None,
    ) -> Any:
        """Run the operator from Python."""
        params = {
            "key": key,
            "show": show,
            "outcome": outcome,
            "max_rank": max_rank,
            "min_similarity": min_similarity,
            "max_similarity": max_similarity,
        }
        return call_operator(self, sample_collection, params)


def _similarity(params: dict[str, Any], name: str) -> float | None:
    """Read a bound of the similarity; None for none."""
    if params.get(name) is None:
        return None
    return real_number(params, name, 0, least=-1, most=1)


def _chosen(run: Run, params: dict[str, Any]) -> list[int]:
    """Return the pairs that the form describes."""
    chosen = PairFilter(
        outcome=one_text(params, "outcome"),
        max_rank=whole_number(params, "max_rank", 1, most=MAX_RANK),
        min_similarity=_similarity(params, "min_similarity"),
        max_similarity=_similarity(params, "max_similarity"),
    )
    return [int(pair) for pair in select_pairs(run.pairs, chosen)]
