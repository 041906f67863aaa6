"""What all questions about a run have in common: which run, and which of its pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.runs.run import Run

PairNumbers = Annotated[tuple[Annotated[Whole, Field(ge=0)], ...], Field(strict=False)]
"""Indices into the columns of a run's pairs; bound it with :func:`at_most`."""


class StaleRunError(RunError):
    """The run of a question is gone, or another run has its key now."""


class RunQuestion(Parameters):
    """A question about a run."""

    run: Text = ""  # key of the run
    uid: Text = ""  # unique id of the run, which another run of the same key has not

    def load(self, ctx: foo.ExecutionContext) -> Run:
        """Load the run; raise a StaleRunError if it is not the one that is shown."""
        run = current_run(ctx.dataset, self.run)
        if run is None or run.config.uid != self.uid:
            raise StaleRunError(
                f"the run '{shorten(self.run, 100)}' was deleted or made again since "
                "it was opened."
            )
        return run


def at_most(most: int) -> Any:
    """Bound a field of type :data:`PairNumbers`."""
    wanted = f"a list of at most {most:,} pairs, each a whole number from 0"
    return Field((), max_length=most, description=wanted)


def check_pairs(run: Run, pairs: Iterable[int]) -> list[int]:
    """Return pairs of a run, each once; raise a DataError if the run has not all."""
    chosen = list(dict.fromkeys(pairs))
    for pair in chosen:
        if not 0 <= pair < len(run.pairs):
            raise DataError(
                f"the run '{run.key}' has {counted(len(run.pairs), 'pair')}, numbered "
                f"from 0; there is no pair {shorten(str(pair), 30)}."
            )
    return chosen
