"""The panel of pairs: a query beside its neighbors, with the maps of both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fiftyone.operators as foo
import pydash
from fiftyone.operators import types

from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.pairs import controls as pair_controls
from fiftyone_sfam.app.pairs.maps import NEIGHBOR, QUERY, SideName, Spot
from fiftyone_sfam.app.pairs.page import Page, pair_samples, place_clicked, sample_of
from fiftyone_sfam.app.pairs.render import channel_clicked, lay_out
from fiftyone_sfam.app.pairs.show import (
    Shown,
    selected_kind,
    show_page,
    show_without_run,
)
from fiftyone_sfam.app.pairs.state import (
    PanelState,
    QueueSpec,
    of_run,
    sessions,
    with_spot,
    without_spot,
    without_why,
)
from fiftyone_sfam.app.panel_state import choose_run, current_run
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING
from fiftyone_sfam.runs.run import list_runs

PLUGIN = "@fiftyone-sfam/sfam"

Change = Callable[[Page], PanelState | None]
"""Where an event goes from a page; None stays, and shows nothing anew."""


class SfamPairs(foo.Panel):
    """Shows pairs of a run one by one, and what people say about them."""

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
        """Answer an event, after those of the same panel that came before it.

        An event that changes nothing is not answered: the answer could come after
        that to a later one, and would put the panel back to where it was.
        """
        name = ctx.params.get("__method__")
        if name in (None, "on_startup"):
            return super().execute(ctx)
        event = getattr(self, name, None) if str(name).startswith("on_") else None
        if event is None:
            raise SfamError(f"the panel of pairs has no event {name!r}.")
        session = self._session(ctx)
        with sessions().in_turn(session):
            newer = sessions().newer(session, self._state(ctx).step)
            for path, value in newer.items():
                pydash.set_(ctx.panel_state, path, value)
            step = self._state(ctx).step
            new_field = event(ctx) is True
            if self._state(ctx).step > step:
                ctx.ops.show_panel_output(self.render(ctx))
            if new_field:
                # Last: what comes after it may reach a panel that is being made anew.
                ctx.ops.reload_dataset()
        return None

    # -- opening, and following the App ------------------------------------------------

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Choose a run and a pair when the panel is opened."""
        choose_run(ctx)
        self._move(ctx, Page.opened)

    def on_change_dataset(self, ctx: foo.ExecutionContext) -> None:
        """Start again on another dataset."""
        state = PanelState(step=self._state(ctx).step)
        ctx.panel.set_state({"run": None, "shown": None, "pairs": state.to_dict()})
        self.on_load(ctx)

    def on_change_view(self, ctx: foo.ExecutionContext) -> None:
        """Take up a queue that was handed over, or keep to the view."""
        self._move(ctx, Page.viewed)

    def on_change_selected(self, ctx: foo.ExecutionContext) -> None:
        """Follow what is selected in the grid or open in the modal."""
        if self._page(ctx) is not None:
            self._move(ctx, Page.following)
            return
        chosen = [str(one) for one in ctx.selected or []]
        self._choose(ctx, selected=chosen if len(chosen) == 2 else (), spot=None)

    on_change_current_sample = on_change_selected

    def on_explain(self, ctx: foo.ExecutionContext) -> None:
        """Open the form that makes a run."""
        ctx.prompt(f"{PLUGIN}/explain_retrieval", on_success=self.on_load)

    # -- what is shown -----------------------------------------------------------------

    def on_run(self, ctx: foo.ExecutionContext) -> None:
        """Show another run."""
        key = ctx.params.get("value")
        if key == ctx.panel.get_state("run") and ctx.panel.get_state("shown"):
            return
        ctx.panel.set_state("run", key)
        self._move(ctx, lambda page: page.following() or page.settled())

    def on_model(self, ctx: foo.ExecutionContext) -> None:
        """Explain two selected samples with another model."""
        self._choose(ctx, model=ctx.params.get("value"))

    def on_kind(self, ctx: foo.ExecutionContext) -> None:
        """Show another kind of map."""
        kind, state = ctx.params.get("value"), self._state(ctx)
        if kind != self._kind(ctx) or state.channel is not None:
            self._choose(ctx, kind=kind, channel=None, spot=None, before=None)

    def on_signed(self, ctx: foo.ExecutionContext) -> None:
        """Show negative values, or only positive ones."""
        self._choose(ctx, signed=bool(ctx.params.get("value")), colors=None)

    def on_colors(self, ctx: foo.ExecutionContext) -> None:
        """Show other colors."""
        self._choose(ctx, colors=ctx.params.get("value"))

    def on_opacity(self, ctx: foo.ExecutionContext) -> None:
        """Show the maps stronger or weaker."""
        self._choose(ctx, opacity=ctx.params.get("value"))

    def on_region(self, ctx: foo.ExecutionContext) -> None:
        """Divide the receipt by other regions."""
        field = ctx.params.get("value")
        self._choose(ctx, region=None if field == pair_controls.THIRDS else field)

    def on_channels(self, ctx: foo.ExecutionContext) -> None:
        """List the most important channels, or stop doing so."""
        listed = not self._state(ctx).channels
        self._choose(ctx, channels=listed, channel=None)

    def on_channel(self, ctx: foo.ExecutionContext) -> None:
        """Show the activation of the channel that was clicked."""
        channel = channel_clicked(ctx.params)
        if channel is not None:
            self._choose(ctx, channel=channel)

    def on_clear_channel(self, ctx: foo.ExecutionContext) -> None:
        """Show the map again instead of a channel."""
        self._choose(ctx, channel=None)

    def on_query_place(self, ctx: foo.ExecutionContext) -> None:
        """Show on the neighbor what the place that was clicked is matched with."""
        self._click(ctx, QUERY)

    def on_neighbor_place(self, ctx: foo.ExecutionContext) -> None:
        """Show on the query what the place that was clicked is matched with."""
        self._click(ctx, NEIGHBOR)

    def on_clear_point(self, ctx: foo.ExecutionContext) -> None:
        """Show the map again instead of what a place is matched with."""
        self._choose(ctx, **without_spot(self._state(ctx)).to_dict())

    def on_why(self, ctx: foo.ExecutionContext) -> None:
        """Show the missed true match beside the pair, or stop doing so."""
        self._go(
            ctx,
            lambda page: without_why(page.state) if page.state.why else page.with_why(),
        )

    # -- where one is ------------------------------------------------------------------

    def on_next_pair(self, ctx: foo.ExecutionContext) -> None:
        """Show the next pair of the queue."""
        self._move(ctx, lambda page: page.stepped(1))

    def on_previous_pair(self, ctx: foo.ExecutionContext) -> None:
        """Show the previous pair of the queue."""
        self._move(ctx, lambda page: page.stepped(-1))

    def on_next_query(self, ctx: foo.ExecutionContext) -> None:
        """Show the next query of the queue."""
        self._move(ctx, lambda page: page.stepped_query(1))

    def on_previous_query(self, ctx: foo.ExecutionContext) -> None:
        """Show the previous query of the queue."""
        self._move(ctx, lambda page: page.stepped_query(-1))

    def on_place(self, ctx: foo.ExecutionContext) -> None:
        """Show the pair whose number was given."""
        number = ctx.params.get("value")
        if not isinstance(number, (int, float)):
            return

        def change(page: Page) -> PanelState | None:
            state = page.placed(int(number) - 1)
            if state == page.state:
                return None
            # A number beyond the queue is put right in its field.
            right = state.place == int(number) - 1
            return state if right else replace(state, turn=1 - state.turn)

        self._go(ctx, change)

    def on_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the neighbor that was clicked."""
        place = int(ctx.params.get("place", 0))
        self._move(ctx, lambda page: page.neighbor(place))

    def on_next_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the next neighbor."""
        self._move(ctx, lambda page: page.stepped_neighbor(1))

    def on_previous_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the previous neighbor."""
        self._move(ctx, lambda page: page.stepped_neighbor(-1))

    # -- the queue ---------------------------------------------------------------------

    def on_filter(self, ctx: foo.ExecutionContext) -> None:
        """Show the conditions of the queue, or hide them."""
        self._choose(ctx, filtering=not self._state(ctx).filtering)

    def on_condition(self, ctx: foo.ExecutionContext) -> None:
        """Change a condition of the queue, or its order."""
        name = pair_controls.condition_of(str(ctx.params.get("path", "")))
        value = ctx.params.get("value")
        value = None if value == pair_controls.ANY else value

        def change(page: Page) -> PanelState | None:
            before = page.state.spec
            spec = QueueSpec.from_dict({**before.to_dict(), name: value})
            return None if spec == before else page.filtered(spec)

        self._move(ctx, change)

    def on_in_view(self, ctx: foo.ExecutionContext) -> None:
        """Keep the queue to the App's view, or not."""
        in_view = bool(ctx.params.get("value"))
        self._move(ctx, lambda page: page.keeping_to_view(in_view))

    def on_leave(self, ctx: foo.ExecutionContext) -> None:
        """Go back from a queue that was handed over to one's own."""
        self._move(ctx, lambda page: page.filtered(page.state.spec))

    # -- verdicts ----------------------------------------------------------------------

    def on_verdict(self, ctx: foo.ExecutionContext) -> bool:
        """Give a verdict on the pair; tell whether the dataset has a new field."""
        return self._give(ctx, str(ctx.params.get("text")))

    def on_own_verdict(self, ctx: foo.ExecutionContext) -> bool:
        """Give a verdict in own words; tell whether the dataset has a new field."""
        path = pair_controls.own_path(self._state(ctx))
        return self._give(ctx, str(ctx.panel.get_state(path) or ""))

    def on_undo(self, ctx: foo.ExecutionContext) -> None:
        """Take the last verdict back."""
        self._move(ctx, Page.take_back)

    def on_advance(self, ctx: foo.ExecutionContext) -> None:
        """Go on after a verdict, or stay."""
        self._choose(ctx, advance=bool(ctx.params.get("value")))

    # -- the App -----------------------------------------------------------------------

    def on_show_in_grid(self, ctx: foo.ExecutionContext) -> None:
        """Show the two images in the grid."""
        page = self._page(ctx)
        if page is not None:
            # Else the queue would be left with this query.
            self._choose(ctx, in_view=False)
            ctx.ops.set_view(pair_samples(page))

    def on_open_query(self, ctx: foo.ExecutionContext) -> None:
        """Open the query's sample."""
        self._open(ctx, QUERY)

    def on_open_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Open the neighbor's sample."""
        self._open(ctx, NEIGHBOR)

    def on_leave_selected(self, ctx: foo.ExecutionContext) -> None:
        """Go back from two selected samples to the run."""
        self._choose(ctx, selected=(), spot=None)

    # -- layout ------------------------------------------------------------------------

    def render(self, ctx: foo.ExecutionContext) -> types.Property:
        """Lay the panel out."""
        return lay_out(
            self._state(ctx),
            ctx.panel.get_state("shown"),
            ctx.panel.get_state("problem"),
            self._event,
        )

    # -- how it is done ----------------------------------------------------------------

    def _event(self, name: str) -> Callable[[foo.ExecutionContext], Any]:
        found: Callable[[foo.ExecutionContext], Any] = getattr(self, f"on_{name}")
        return found

    def _state(self, ctx: foo.ExecutionContext) -> PanelState:
        return PanelState.from_dict(ctx.panel.get_state("pairs"))

    def _page(self, ctx: foo.ExecutionContext) -> Page | None:
        """Return the chosen run with its state; None without any run."""
        keys = list_runs(ctx.dataset) if ctx.dataset is not None else []
        key = ctx.panel.get_state("run")
        run = current_run(ctx.dataset, key if key in keys else next(iter(keys), None))
        if run is None:
            return None
        return Page(ctx, run, of_run(self._state(ctx), run.config.uid))

    def _choose(self, ctx: foo.ExecutionContext, **chosen: Any) -> None:
        """Change what is chosen, and show it; nothing if it is chosen already."""
        state = self._state(ctx)
        changed = PanelState.from_dict({**state.to_dict(), **chosen})
        if changed == state and ctx.panel.get_state("shown"):
            return
        ctx.panel.set_state("pairs", changed.to_dict())
        self._go(ctx, Page.settled)

    def _move(self, ctx: foo.ExecutionContext, change: Change) -> None:
        """Go elsewhere by something else than the number of the place."""

        def turned(page: Page) -> PanelState | None:
            state = change(page)
            # The number's field has to be filled anew.
            return None if state is None else replace(state, turn=1 - page.state.turn)

        self._go(ctx, turned)

    def _click(self, ctx: foo.ExecutionContext, side: SideName) -> None:
        """Show what a place of an image is matched with."""
        place = place_clicked(ctx.params)
        if place is not None:
            state = with_spot(self._state(ctx), self._kind(ctx), Spot(side, *place))
            self._choose(ctx, **state.to_dict())

    def _give(self, ctx: foo.ExecutionContext, verdict: str) -> bool:
        """Give a verdict; tell whether it is the first, which makes a new field."""
        page = self._page(ctx)
        if page is None:
            return False
        dataset, field = page.run.dataset, page.run.key + VERDICT_FIELD_ENDING
        known = dataset.has_sample_field(field)
        self._move(ctx, lambda page: page.give(verdict))
        return not known and dataset.has_sample_field(field)

    def _open(self, ctx: foo.ExecutionContext, side: SideName) -> None:
        """Open the sample of one of the two images."""
        page = self._page(ctx)
        if page is not None:
            ctx.ops.open_sample(id=sample_of(page, side))

    def _kind(self, ctx: foo.ExecutionContext) -> str:
        """Return the kind of map that is shown."""
        page, state = self._page(ctx), self._state(ctx)
        return selected_kind(state) if page is None or state.selected else page.kind

    def _go(self, ctx: foo.ExecutionContext, change: Change) -> None:
        """Go from the page that the event begins with to another, and show it."""
        page = self._page(ctx)
        if page is None:
            without = self._state(ctx)
            self._answer(ctx, None, without, show_without_run(ctx, without))
            return
        try:
            changed = change(page)
        except SfamError as error:
            ctx.ops.notify(for_user(error), variant="error")
            return
        same_run = self._state(ctx).uid == page.run.config.uid
        if changed is None and same_run and ctx.panel.get_state("shown"):
            return
        page = page.with_state(changed or page.state)
        state = page.settled()
        if state != page.state:
            page = page.with_state(state)
        self._answer(ctx, page.run.key, state, show_page(page))

    def _answer(
        self,
        ctx: foo.ExecutionContext,
        key: str | None,
        state: PanelState,
        shown: Shown,
    ) -> None:
        """Give the panel its new state and its pictures."""
        before = self._state(ctx)
        state = replace(state, step=before.step + 1)
        patch = {
            "run": key,
            "pairs": state.to_dict(),
            "shown": shown.text,
            "problem": shown.problem,
            # The App puts data into the state whenever an input is used, and sends it
            # back with every event from then on, merged into newer data.
            **dict.fromkeys(shown.pictures),
            **(pair_controls.control_values(state, shown.text) if shown.text else {}),
        }
        # Own words that were given when the field had this name before.
        own = {pair_controls.own_path(state): ""} if state.turn != before.turn else {}
        ctx.panel.set_state({**patch, **own})
        if shown.pictures:
            ctx.panel.set_data(shown.pictures)
        sessions().keep(self._session(ctx), state.step, patch)

    def _session(self, ctx: foo.ExecutionContext) -> str:
        """Name the panel as it is on this dataset."""
        return f"{ctx.dataset_name}/{ctx.panel_id}"
