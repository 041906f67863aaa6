"""The panel of pairs: it shows the component, and answers what the component asks."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.pairs.questions import QUESTIONS, StaleRunError
from fiftyone_sfam.errors import DataError, SfamError


class SfamPairs(foo.Panel):
    """Shows the component of pairs. What is shown is the component's own state."""

    @property
    def config(self) -> foo.PanelConfig:
        """What FiftyOne shows of the panel."""
        return foo.PanelConfig(
            name="sfam_pairs",
            label="SFAM pairs",
            surfaces="grid modal",
            help_markdown="Why is this image a neighbor of that one?",
        )

    def execute(self, ctx: foo.ExecutionContext) -> Any:
        """Return the answer to a question; anything else is FiftyOne's own."""
        if ctx.params.get("__method__") == "ask":
            return self.ask(ctx)
        return super().execute(ctx)

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Show the component when the panel is opened."""

    def render(self, ctx: foo.ExecutionContext) -> types.Property:
        """Lay the component out."""
        view = types.View(component="SfamPairs", composite_view=True, ask=self.ask)
        return types.Property(types.Object(), view=view)

    def ask(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Answer a question with plain data, or say why there is no answer."""
        name = ctx.params.get("question")
        try:
            if not isinstance(name, str) or name not in QUESTIONS:
                raise DataError(
                    f"there is no question {name!r}; ask one of {', '.join(QUESTIONS)}."
                )
            return QUESTIONS[name](ctx)
        except SfamError as error:
            stale = isinstance(error, StaleRunError)
            return {"problem": for_user(error), "stale": stale}
