"""What all questions about a run have in common: which run, and that it is still it."""

from __future__ import annotations

import fiftyone.operators as foo

from fiftyone_sfam.app.forms.parameters import Parameters, Text
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.run import Run


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
