"""The panel of pairs: a query beside its neighbors, with the maps of both sides."""

from __future__ import annotations

import html
import math
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.panels.current_run import (
    add_run_choice,
    choose_run,
    current_run,
)
from fiftyone_sfam.app.panels.pair_view import (
    CONTRAST,
    QueryView,
    kinds_of,
    queries_of,
    view_query,
)
from fiftyone_sfam.app.panels.receipt import receipt_figure
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.render import DIVERGING, SEQUENTIAL
from fiftyone_sfam.runs import Run, list_runs

PLUGIN = "@fiftyone-sfam/sfam"
MARKS = {"true match": "✓", "false match": "✗", "unlabeled": "?"}
OPACITIES = (0.0, 0.3, 0.6, 0.8, 1.0)
_OPACITY = 0.6


class SfamPairs(foo.Panel):
    """Shows one query of a run, and steps through its neighbors and the queries."""

    @property
    def config(self) -> foo.PanelConfig:
        """What FiftyOne shows of the panel."""
        return foo.PanelConfig(
            name="sfam_pairs",
            label="SFAM pairs",
            surfaces="grid modal",
            help_markdown="Why is this image a neighbor of that one?",
        )

    # -- events ------------------------------------------------------------------------

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Choose a run and a query when the panel is opened."""
        choose_run(ctx)
        self._choose_query(ctx)
        self._show(ctx)

    def on_change_dataset(self, ctx: foo.ExecutionContext) -> None:
        """Start again on another dataset."""
        ctx.panel.set_state({"run": None, "query": 0, "chosen": 0})
        self.on_load(ctx)

    def on_change_current_sample(self, ctx: foo.ExecutionContext) -> None:
        """Follow the sample that is open in the modal."""
        self._follow(ctx)

    def on_change_selected(self, ctx: foo.ExecutionContext) -> None:
        """Follow the sample that is selected in the grid."""
        self._follow(ctx)

    def on_run(self, ctx: foo.ExecutionContext) -> None:
        """Show another run."""
        ctx.panel.set_state("run", ctx.params.get("value"))
        self._choose_query(ctx)
        self._show(ctx)

    def on_kind(self, ctx: foo.ExecutionContext) -> None:
        """Show another kind of map."""
        ctx.panel.set_state("kind", ctx.params.get("value"))
        self._show(ctx)

    def on_signed(self, ctx: foo.ExecutionContext) -> None:
        """Show negative values, or only positive ones."""
        ctx.panel.set_state({"signed": bool(ctx.params.get("value")), "colors": None})
        self._show(ctx)

    def on_colors(self, ctx: foo.ExecutionContext) -> None:
        """Show other colors."""
        ctx.panel.set_state("colors", ctx.params.get("value"))
        self._show(ctx)

    def on_opacity(self, ctx: foo.ExecutionContext) -> None:
        """Show the maps stronger or weaker."""
        ctx.panel.set_state("opacity", ctx.params.get("value"))
        self._show(ctx)

    def on_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the neighbor that was clicked."""
        self._move(ctx, "chosen", int(ctx.params.get("place", 0)))

    def on_next_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the next neighbor."""
        self._move(ctx, "chosen", self._state(ctx, "chosen") + 1)

    def on_previous_neighbor(self, ctx: foo.ExecutionContext) -> None:
        """Show the previous neighbor."""
        self._move(ctx, "chosen", self._state(ctx, "chosen") - 1)

    def on_next_query(self, ctx: foo.ExecutionContext) -> None:
        """Show the next query."""
        ctx.panel.set_state("chosen", 0)
        self._move(ctx, "query", self._state(ctx, "query") + 1)

    def on_previous_query(self, ctx: foo.ExecutionContext) -> None:
        """Show the previous query."""
        ctx.panel.set_state("chosen", 0)
        self._move(ctx, "query", self._state(ctx, "query") - 1)

    def on_explain(self, ctx: foo.ExecutionContext) -> None:
        """Open the form that makes a run."""
        ctx.prompt(f"{PLUGIN}/explain_retrieval", on_success=self.on_load)

    # -- what is shown -----------------------------------------------------------------

    def render(self, ctx: foo.ExecutionContext) -> types.Property:
        """Lay the panel out."""
        panel = types.Object()
        root = types.GridView(
            orientation="vertical", gap=1, align_x="center", width="90%"
        )
        keys = list_runs(ctx.dataset) if ctx.dataset is not None else []
        if not keys:
            panel.md(
                "### No explained run yet\n\nExplain the dataset's retrieval first: "
                "every query gets its nearest neighbors, with heatmaps of both sides."
            )
            panel.btn("explain", label="Explain retrieval", on_click=self.on_explain)
            return types.Property(panel, view=root)
        self._render_controls(ctx, panel, keys)
        problem = ctx.panel.get_state("problem")
        if problem:
            panel.md(f"**{html.escape(problem)}**", name="problem_text")
            return types.Property(panel, view=root)
        self._render_pair(ctx, panel)
        return types.Property(panel, view=root)

    def _render_controls(
        self, ctx: foo.ExecutionContext, panel: types.Object, keys: list[str]
    ) -> None:
        """Add the choices of run and map, and the steps from query to query."""
        row = panel.h_stack("controls", gap=2, align_y="center")
        add_run_choice(ctx, row, keys, self.on_run)
        kinds = types.DropdownView()
        for kind in ctx.panel.get_state("kinds") or ["sfam"]:
            kinds.add_choice(kind, label=kind)
        row.enum(
            "kind_choice",
            kinds.values(),
            label="Map",
            default=ctx.panel.get_state("kind") or "sfam",
            view=kinds,
            on_change=self.on_kind,
        )
        row.btn(
            "previous_query", label="Previous query", on_click=self.on_previous_query
        )
        row.btn("next_query", label="Next query", on_click=self.on_next_query)
        look = panel.h_stack("look", gap=2, align_y="center")
        colors = types.DropdownView()
        for name in ctx.panel.get_state("palette") or SEQUENTIAL:
            colors.add_choice(name, label=name.removesuffix("_r"))
        look.enum(
            "colors_choice",
            colors.values(),
            label="Colors",
            default=ctx.panel.get_state("colors") or colors.values()[0],
            view=colors,
            on_change=self.on_colors,
        )
        look.bool(
            "signed_choice",
            label="Negative too",
            default=bool(ctx.panel.get_state("signed")),
            view=types.CheckboxView(),
            on_change=self.on_signed,
        )
        opacities = types.DropdownView()
        for value in OPACITIES:
            opacities.add_choice(value, label=f"{100 * value:.0f} %")
        look.enum(
            "opacity_choice",
            opacities.values(),
            label="Opacity",
            default=_opacity(ctx),
            view=opacities,
            on_change=self.on_opacity,
        )

    def _render_pair(self, ctx: foo.ExecutionContext, panel: types.Object) -> None:
        """Add the two images of the pair and the strip of neighbors."""
        shown = ctx.panel.get_state("shown") or {}
        panel.md(shown.get("title", ""), name="title_text")
        both = panel.h_stack("both", gap=2, align_y="top")
        for name in ("query", "neighbor"):
            side = both.v_stack(f"{name}_side", gap=1)
            size = shown.get(f"{name}_size") or [0, 0]
            side.img(
                f"{name}_image",
                width=f"{size[0]}px",
                height=f"{size[1]}px",
                alt_text=f"The {name} with its map",
            )
            side.md(shown.get(f"{name}_caption", ""), name=f"{name}_caption")
        panel.md(shown.get("range", ""), name="range_text")
        if shown.get("receipt"):
            panel.plot(
                "receipt",
                layout=shown["receipt"],
                height="190px",
                width="100%",
                config={"displayModeBar": False},
            )
        steps = panel.h_stack("steps", gap=2, align_y="center")
        steps.btn(
            "previous_neighbor",
            label="Previous neighbor",
            on_click=self.on_previous_neighbor,
        )
        steps.btn(
            "next_neighbor", label="Next neighbor", on_click=self.on_next_neighbor
        )
        strip = panel.h_stack("strip", gap=1, align_y="top", wrap=True)
        for place, caption in enumerate(shown.get("captions", [])):
            one = strip.v_stack(f"place_{place}", gap=0)
            size = shown["sizes"][place]
            one.img(
                f"image_{place}",
                width=f"{size[0]}px",
                height=f"{size[1]}px",
                alt_text=f"Neighbor {place + 1} with its map",
                on_click=self.on_neighbor,
                params={"place": place},
            )
            one.md(caption, name=f"caption_{place}")

    # -- how it is done ----------------------------------------------------------------

    def _state(self, ctx: foo.ExecutionContext, name: str) -> int:
        return int(ctx.panel.get_state(name) or 0)

    def _move(self, ctx: foo.ExecutionContext, name: str, value: int) -> None:
        """Change what is shown, and show it."""
        ctx.panel.set_state(name, value)
        self._show(ctx)

    def _follow(self, ctx: foo.ExecutionContext) -> None:
        """Make the selected or open sample the query, if it is one."""
        if self._choose_query(ctx):
            ctx.panel.set_state("chosen", 0)
            self._show(ctx)

    def _choose_query(self, ctx: foo.ExecutionContext) -> bool:
        """Find the sample that the App points to among the queries."""
        run = self._run(ctx)
        sample_id = ctx.current_sample or next(iter(ctx.selected or []), None)
        if run is None or sample_id is None:
            return False
        queries, items = queries_of(run), run.items
        # In a view of patches it is a detection that is selected.
        found = (items.ids[queries] == sample_id) | (
            items.sample_ids[queries] == sample_id
        )
        if not found.any():
            return False
        ctx.panel.set_state("query", int(found.argmax()))
        return True

    def _run(self, ctx: foo.ExecutionContext) -> Run | None:
        """Load the chosen run, or another one if it was deleted meanwhile."""
        key = ctx.panel.get_state("run")
        return current_run(ctx.dataset, key) or current_run(
            ctx.dataset, next(iter(list_runs(ctx.dataset)), None)
        )

    def _show(self, ctx: foo.ExecutionContext) -> None:
        """Draw the chosen pair and hand it to the panel."""
        run = self._run(ctx)
        ctx.panel.set_state("problem", None)
        if run is None:
            return
        kind = ctx.panel.get_state("kind")
        if kind not in kinds_of(run):
            kind = run.config.kinds[0]
        signed = bool(ctx.panel.get_state("signed"))
        palette = DIVERGING if signed or kind == CONTRAST else SEQUENTIAL
        colors = ctx.panel.get_state("colors")
        if colors not in palette:
            colors = palette[0]
        ctx.panel.set_state(
            {
                "run": run.key,
                "kind": kind,
                "kinds": list(kinds_of(run)),
                "palette": list(palette),
                "colors": colors,
                "controls.run_choice": run.key,
                "controls.kind_choice": kind,
                "look.colors_choice": colors,
            }
        )
        queries = queries_of(run)
        place = min(max(self._state(ctx, "query"), 0), len(queries) - 1)
        try:
            view = view_query(
                run,
                int(queries[place]),
                self._state(ctx, "chosen"),
                kind,
                _opacity(ctx),
                signed=signed,
                colors=colors,
            )
        except SfamError as error:
            ctx.panel.set_state("problem", str(error))
            return
        ctx.panel.set_state(
            {
                "query": place,
                "chosen": view.chosen,
                "shown": _texts(view, place, len(queries), kind),
            }
        )
        pictures: dict[str, Any] = {
            "both.query_side.query_image": view.query.url,
            "both.neighbor_side.neighbor_image": view.neighbor.url,
        }
        for index, one in enumerate(view.neighbors):
            pictures[f"strip.place_{index}.image_{index}"] = one.thumbnail.url
        pictures["receipt"] = receipt_figure(view.receipt).data
        ctx.panel.set_data(pictures)


def _opacity(ctx: foo.ExecutionContext) -> float:
    """Return the opacity that was chosen, within its bounds."""
    value = ctx.panel.get_state("opacity")
    return min(max(float(value), 0.0), 1.0) if value is not None else _OPACITY


def _range_text(view: QueryView, kind: str) -> str:
    """Say what the colors mean."""
    unit = {
        "evidence": "of similarity in one cell of the map",
        CONTRAST: "of margin in one cell: red speaks for the true match, blue for the "
        "neighbor",
    }.get(kind, "(importance times activation)")
    text = f"Full color is {view.limit:.3g} {unit}, for all pairs of this query."
    if kind == CONTRAST and view.margin is not None:
        text += f" The true match leads by {view.margin:+.4f}."
    return text


def _texts(view: QueryView, place: int, count: int, kind: str) -> dict[str, Any]:
    """Return the texts and sizes of a view, small enough for the panel's state."""
    chosen = view.neighbors[view.chosen]
    return {
        "title": f"Query {place + 1} of {count}",
        "query_caption": _lines(
            f"**Query** {_named(view.identity)}",
            view.query.problem,
            _not_on_map(view.query_remainder),
        ),
        "neighbor_caption": _lines(
            f"**Rank {chosen.rank}** {_named(chosen.identity)} "
            f"{MARKS[chosen.outcome]} {chosen.outcome}",
            f"similarity {chosen.similarity:.4f}, distance {chosen.distance:.4f}",
            chosen.thumbnail.problem,
            _not_on_map(view.neighbor_remainder),
        ),
        "range": _range_text(view, kind),
        "receipt": receipt_figure(view.receipt).layout if view.receipt else None,
        "query_size": [view.query.width, view.query.height],
        "neighbor_size": [view.neighbor.width, view.neighbor.height],
        "captions": [
            _lines(
                f"{'▶ ' if index == view.chosen else ''}{one.rank} "
                f"{MARKS[one.outcome]}",
                f"{one.similarity:.3f} {_named(one.identity)}",
            )
            for index, one in enumerate(view.neighbors)
        ],
        "sizes": [
            [one.thumbnail.width, one.thumbnail.height] for one in view.neighbors
        ],
    }


def _named(identity: str | None) -> str:
    """Return an identity as text of Markdown, nothing in it taken as markup."""
    if identity is None:
        return "(no identity)"
    short = identity if len(identity) <= 40 else identity[:39] + "…"
    escaped = html.escape(short)
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~" else c for c in escaped)


def _not_on_map(remainder: float) -> str | None:
    """Say how much of the similarity the evidence map does not carry."""
    if math.isnan(remainder) or abs(remainder) < 5e-5:
        return None
    return f"{remainder:+.4f} of it is not on the evidence map"


def _lines(*parts: str | None) -> str:
    """Join lines of Markdown."""
    return "  \n".join(part for part in parts if part)
