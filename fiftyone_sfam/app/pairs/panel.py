"""The panel of pairs: it shows the component, and answers what the component asks."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.pairs.questions import QUESTIONS
from fiftyone_sfam.app.pairs.run_question import answer_question
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError

_EVENTS = (None, "on_startup", "on_load")


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
        """Return the answer to a question; open the panel on FiftyOne's own events."""
        name = ctx.params.get("__method__")
        if name == "ask":
            return self.ask(ctx)
        if name not in _EVENTS:
            # FiftyOne would call any method of this name.
            raise DataError(
                f"the panel of pairs has no event {shorten(repr(name), 60)}."
            )
        return super().execute(ctx)

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Show the component when the panel is opened."""

    def render(self, ctx: foo.ExecutionContext) -> types.Property:
        """Lay the component out."""
        view = types.View(component="SfamPairs", composite_view=True, ask=self.ask)
        return types.Property(types.Object(), view=view)

    def ask(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Answer a question with plain data, or say why there is no answer."""
        return answer_question(ctx, QUESTIONS)
