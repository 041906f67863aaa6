"""The operator that shows chosen pairs as a view of queries, or as a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
import numpy as np
from fiftyone.operators import types
from pydantic import Field

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import (
    MAX_RANK,
    RunParameters,
    Text,
    Whole,
    whole,
)
from fiftyone_sfam.app.operators.base import (
    MOST_LISTED,
    Context,
    Results,
    RunOperator,
    add_table,
)
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import RunError, SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.selection import (
    FALSE_FIRST,
    PairFilter,
    order_pairs,
    select_pairs,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

VIEW, DATASET = "view", "dataset"
MAX_PAIRS = 10_000
"""Most pairs that become a dataset."""


def _similarity() -> Any:
    return Field(None, ge=-1, le=1, description="a number from -1 to 1")


class PairParameters(RunParameters):
    """Conditions on the pairs, and how to show them."""

    outcome: Text | None = None
    max_rank: Whole = whole(1, 1, MAX_RANK)
    min_similarity: float | None = _similarity()
    max_similarity: float | None = _similarity()
    show: Literal["view", "dataset"] = "view"

    def select(self, run: Run) -> list[int]:
        """Return the pairs of a run that meet the conditions; refuse none or many."""
        conditions = PairFilter(
            outcome=self.outcome,
            max_rank=self.max_rank,
            min_similarity=self.min_similarity,
            max_similarity=self.max_similarity,
        )
        pairs = select_pairs(run.pairs, conditions).tolist()
        if not pairs:
            raise RunError("no pair meets all conditions; relax them.")
        if self.show == DATASET and len(pairs) > MAX_PAIRS:
            raise RunError(
                f"{len(pairs):,} pairs are too many for a dataset; choose at most "
                f"{MAX_PAIRS:,}."
            )
        return pairs


class ShowPairs(RunOperator[PairParameters]):
    """Shows the queries of chosen pairs, or the pairs as a grouped dataset."""

    config = foo.OperatorConfig(
        name="show_pairs",
        label="SFAM: show pairs",
        description="A view of the queries, or a dataset of query-neighbor pairs",
        dynamic=True,
    )
    parameters = PairParameters
    form_title = "Show explained pairs"
    result_title = "Pairs"

    def add_run_inputs(
        self, ctx: Context, params: PairParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add the conditions, and how many pairs meet them."""
        choices.add_choice(
            inputs,
            "outcome",
            OUTCOMES,
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
                (DATASET, "the pairs, as a new dataset"),
            ],
            label="Show",
            default=VIEW,
        )
        count, problem = 0, None
        try:
            count = len(params.select(run))
        except SfamError as error:
            problem = str(error)
        notice = inputs.view("count", types.Notice(label=counted(count, "pair")))
        choices.mark(notice, problem)

    def perform_on(self, ctx: Context, params: PairParameters, run: Run) -> Results:
        """Show the pairs."""
        pairs = params.select(run)
        results = {"pairs": len(pairs), "dataset": None, "first": _listed(run, pairs)}
        if params.show == DATASET:
            dataset = run.to_pairs_dataset(pairs)
            ctx.ops.open_dataset(dataset.name)
            return {**results, "dataset": dataset.name}
        queries = run.items.sample_ids[run.pairs.query[pairs]]
        ctx.ops.set_view(ctx.dataset.select(list(dict.fromkeys(map(str, queries)))))
        return results

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the number of pairs, and the dataset."""
        outputs.int("pairs", label="Pairs")
        outputs.str("dataset", label="Dataset of pairs")
        columns = {
            "query_identity": "Query",
            "neighbor_identity": "Neighbor",
            "rank": "Rank",
            "similarity": "Similarity",
            "outcome": "Outcome",
        }
        add_table(outputs, "first", "First pairs", columns)

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
        return self.call(sample_collection, params)


def _listed(run: Run, pairs: list[int]) -> list[dict[str, Any]]:
    """Describe the first pairs, the most similar false matches before others."""
    first = order_pairs(run.pairs, np.array(pairs), FALSE_FIRST)[:MOST_LISTED]
    items, found = run.items, run.pairs
    return [
        {
            "query": items.sample_ids[found.query[pair]],
            "neighbor": items.sample_ids[found.gallery[pair]],
            "query_identity": items.identities[found.query[pair]],
            "neighbor_identity": items.identities[found.gallery[pair]],
            "rank": found.rank[pair],
            "similarity": found.similarity[pair],
            "outcome": OUTCOMES[found.outcome[pair]],
        }
        for pair in first
    ]
