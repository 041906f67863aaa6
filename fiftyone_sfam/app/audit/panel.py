"""The audit panel: figures of a run, whose marks open their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.audit import (
    findings,
    page_compare,
    page_given,
    page_maps,
    page_matches,
    page_overview,
    page_regions,
    page_scores,
    page_suspects,
)
from fiftyone_sfam.app.audit.blocks import (
    Block,
    Handlers,
    render_blocks,
    small_button,
    styled,
)
from fiftyone_sfam.app.audit.choices import (
    CHOSEN,
    OVERVIEW,
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
)
from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.app.pairs.run_question import answer_question
from fiftyone_sfam.app.panel_state import choose_run, current_run, hand_over
from fiftyone_sfam.data.text import escape_markdown, short
from fiftyone_sfam.errors import DataError, SfamError
from fiftyone_sfam.runs.run import Run, list_runs

_PAGES: Mapping[str, tuple[str, Any]] = {
    OVERVIEW: ("Overview", page_overview),
    "scores": ("Scores", page_scores),
    "matches": ("False matches", page_matches),
    "regions": ("Regions", page_regions),
    "suspects": ("Suspects", page_suspects),
    "maps": ("Maps", page_maps),
    "compare": ("Compare", page_compare),
}
"""Pages, with the labels of their tabs."""

TABS = {value: label for value, (label, _) in _PAGES.items()}
_MARKS: Mapping[str, Mark] = {
    name: mark
    for page in (*(page for _, page in _PAGES.values()), page_given)
    for name, mark in page.MARKS.items()
}


def page_of(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of a page."""
    if chosen.page not in _PAGES:
        raise DataError(f"there is no page '{chosen.page}' of the audit.")
    blocks: list[Block] = _PAGES[chosen.page][1].page(run, chosen)
    return blocks


def open_mark(run: Run, mark: str, params: Params, chosen: Choices) -> Opened:
    """Return the effect of a click."""
    if mark not in _MARKS:
        raise DataError(f"there is nothing behind '{mark}' of the audit.")
    try:
        return _MARKS[mark](run, params, chosen)
    except IndexError as error:
        # A table may be older than the result that its rows are looked up in.
        raise DataError(
            "what was clicked has changed meanwhile; click it once more."
        ) from error


PLUGIN = "@fiftyone-sfam/sfam"

MOST_OPENED = 5000
"""Most samples and pairs that one mark opens."""

MOST_ORDERED = 1000
"""Most samples that the grid shows in the order of the mark."""

_PAGE = "page"
_ROW_STYLE = {
    "display": "flex",
    "flexWrap": "wrap",
    "alignItems": "center",
    "gap": "4px 10px",
}
# Narrow enough for all tabs to fit into half of a small screen; else they wrap, so the
# one line below all of them that shows the selected tab is of no use.
_TAB_STYLE = {
    "minHeight": 40,
    "minWidth": 0,
    "px": 0.7,
    "fontSize": "0.82rem",
    "&.Mui-selected": {"boxShadow": "inset 0 -2px"},
}
_TABS_STYLE = {
    "borderBottom": 1,
    "borderColor": "divider",
    "& .MuiTabs-flexContainer": {"flexWrap": "wrap"},
    "& .MuiTabs-indicator": {"display": "none"},
}
# What is open, and the way back, stay in sight.
_HEAD_STYLE = {
    "position": "sticky",
    "top": 0,
    "zIndex": 3,
    "py": 1,
    "bgcolor": "background.mediaSpace",
}


class SfamAudit(foo.Panel):
    """Shows how good a run's retrieval is, and where it fails."""

    @property
    def config(self) -> foo.PanelConfig:
        """What FiftyOne shows of the panel."""
        return foo.PanelConfig(
            name="sfam_audit",
            label="SFAM audit",
            surfaces="grid",
            help_markdown="How good is this retrieval, and where does it fail? Every "
            "card, bar, point, cell and row opens the images and pairs behind it.",
        )

    def execute(self, ctx: foo.ExecutionContext) -> Any:
        """Return the answer to a question; anything else is FiftyOne's own."""
        if ctx.params.get("__method__") == "ask":
            return self.ask(ctx)
        return super().execute(ctx)

    # -- events ------------------------------------------------------------------------

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Choose a run when the panel is opened."""
        if ctx.dataset is None:
            return
        # FiftyOne tells of a change of the dataset, too, when a panel comes back from
        # behind another one: then everything stays as it was.
        dataset = str(ctx.dataset._doc.id)
        if ctx.panel.get_state("dataset") not in (None, dataset):
            self._forget(ctx, None)
        ctx.panel.set_state("dataset", dataset)
        choose_run(ctx)
        self._show(ctx)

    def on_change_dataset(self, ctx: foo.ExecutionContext) -> None:
        """Start again on another dataset."""
        self.on_load(ctx)

    def on_run(self, ctx: foo.ExecutionContext) -> None:
        """Show another run."""
        self._forget(ctx, ctx.params.get("value"))
        self._show(ctx)

    def on_tab(self, ctx: foo.ExecutionContext) -> None:
        """Show another page."""
        page = ctx.params.get("value")
        # FiftyOne tells of a tab when it is drawn, and of a choice twice.
        if page != self._chosen(ctx).page:
            ctx.panel.set_state(_PAGE, page)
            self._show(ctx)

    def on_choice(self, ctx: foo.ExecutionContext) -> None:
        """Take over what was chosen in a control of the page."""
        name = str(ctx.params["path"]).rpartition(".")[2]
        if name in CHOSEN:
            ctx.panel.set_state(name, ctx.params.get("value"))
            self._show(ctx)

    def on_mark(self, ctx: foo.ExecutionContext) -> None:
        """Open what is behind a bar, a point, a cell, a row or a card."""
        run = self._run(ctx)
        if run is None:
            self.on_load(ctx)
            return
        mark = ctx.params.get("mark") or str(ctx.params["path"]).rpartition(".")[2]
        try:
            opened = open_mark(run, mark, ctx.params, self._chosen(ctx))
        except SfamError as error:
            ctx.ops.notify(for_user(error), variant="error")
            self._show(ctx)
            return
        if opened.selection is not None:
            self._open(ctx, run, opened.selection)
        if opened.chosen:
            ctx.panel.set_state(opened.chosen)
            self._show(ctx)

    def ask(self, ctx: foo.ExecutionContext) -> dict[str, Any]:
        """Answer the component of findings."""
        return answer_question(ctx, findings.QUESTIONS)

    def on_all(self, ctx: foo.ExecutionContext) -> None:
        """Show the whole dataset in the grid again."""
        ctx.panel.set_state("selection", None)
        ctx.ops.clear_view()

    def on_explain(self, ctx: foo.ExecutionContext) -> None:
        """Open the form that makes a run."""
        ctx.prompt(f"{PLUGIN}/explain_retrieval", on_success=self.on_load)

    def on_operator(self, ctx: foo.ExecutionContext) -> None:
        """Open the form of an operator that computes what a page lacks."""
        params = {"key": ctx.panel.get_state("run")}
        if "threshold" in ctx.params:
            params["threshold"] = ctx.params["threshold"]
        ctx.prompt(
            f"{PLUGIN}/{ctx.params['operator']}",
            params=params,
            on_success=self.on_load,
        )

    # -- what is shown -----------------------------------------------------------------

    def render(self, ctx: foo.ExecutionContext) -> types.Property:
        """Lay the panel out."""
        panel = types.Object()
        root = types.GridView(
            **styled(
                container={"height": "100%"},
                grid={
                    "display": "grid",
                    "gridTemplateColumns": "minmax(0, 1fr)",
                    "px": 2,
                    "gap": 1,
                },
            )
        )
        keys = list_runs(ctx.dataset) if ctx.dataset is not None else []
        if not keys:
            panel.md(
                "### No explained run yet\n\nExplain the dataset's retrieval first; "
                "then this panel shows how good it is."
            )
            panel.btn("explain", label="Explain retrieval", on_click=self.on_explain)
            return types.Property(panel, view=root)
        self._render_head(ctx, panel, keys)
        problem = ctx.panel.get_state("problem")
        if problem:
            panel.md(f"**{escape_markdown(problem)}**", name="problem_text")
            return types.Property(panel, view=root)
        render_blocks(panel, ctx.panel.get_state("blocks") or [], self._handlers)
        return types.Property(panel, view=root)

    def _render_head(
        self, ctx: foo.ExecutionContext, panel: types.Object, keys: list[str]
    ) -> None:
        """Add the choices of run and page, and what is open."""
        row = panel.grid("controls", **styled(item=_HEAD_STYLE, grid=_ROW_STYLE))
        runs = types.DropdownView(
            compact=True, label="Run", **styled(item={"width": "auto"})
        )
        for key in keys:
            runs.add_choice(key, label=f"Run {short(key, 30)}")
        row.enum(
            "run_choice",
            runs.values(),
            default=ctx.panel.get_state("run") or keys[0],
            view=runs,
            on_change=self.on_run,
        )
        selection = ctx.panel.get_state("selection")
        if selection:
            row.md(
                escape_markdown(selection["title"]),
                name="selection_text",
                **styled(item={"width": "auto", "flex": "1 1 140px"}),
            )
            small_button(row, "all", "Show all images", self.on_all)
        tabs = types.TabsView(**styled(tab=_TAB_STYLE, tabs=_TABS_STYLE))
        for value, label in TABS.items():
            tabs.add_choice(value, label=label)
        panel.enum(
            "tab",
            tabs.values(),
            default=self._chosen(ctx).page,
            view=tabs,
            on_change=self.on_tab,
        )

    # -- how it is done ----------------------------------------------------------------

    @property
    def _handlers(self) -> Handlers:
        return {
            "on_mark": self.on_mark,
            "on_choice": self.on_choice,
            "on_operator": self.on_operator,
            "ask": self.ask,
        }

    def _run(self, ctx: foo.ExecutionContext) -> Run | None:
        """Load the chosen run; None if it was deleted meanwhile."""
        return current_run(ctx.dataset, ctx.panel.get_state("run"))

    def _chosen(self, ctx: foo.ExecutionContext) -> Choices:
        """Read what is chosen."""
        return Choices.from_state(ctx.panel.get_state)

    def _forget(self, ctx: foo.ExecutionContext, key: str | None) -> None:
        """Turn to another run, or to none, with nothing chosen but the page."""
        cleared = {name: None for name in CHOSEN if name != _PAGE}
        ctx.panel.set_state({**cleared, "run": key, "selection": None})

    def _open(self, ctx: foo.ExecutionContext, run: Run, selection: Selection) -> None:
        """Show the samples in the grid, and the pairs in the panel of pairs."""
        if not selection.samples:
            ctx.ops.notify("No stored pair is behind this mark.", variant="info")
            return
        pairs, samples, title = selection.pairs, selection.samples, selection.title
        if len(pairs) > MOST_OPENED:
            title += f" (the first {MOST_OPENED:,} of {len(pairs):,})"
            pairs = pairs[:MOST_OPENED]
        samples = samples[:MOST_OPENED]
        ctx.panel.set_state(
            "selection", {"title": title, "pairs": len(pairs), "samples": len(samples)}
        )
        # The database sorts by place in a list, which takes long in a long one.
        ordered = len(samples) <= MOST_ORDERED
        ctx.ops.set_view(ctx.dataset.select(samples, ordered=ordered))
        if pairs:
            # In the pane of the grid, so that the audit stays in sight.
            hand_over(ctx, run, pairs, title)

    def _show(self, ctx: foo.ExecutionContext) -> None:
        """Compute what the panel shows and hand it over."""
        run = self._run(ctx)
        ctx.panel.set_state("problem", None)
        if run is None:
            return
        try:
            page = page_of(run, self._chosen(ctx))
        except SfamError as error:
            ctx.panel.set_state("problem", for_user(error))
            return
        state: dict[str, Any] = {
            "run": run.key,
            "controls.run_choice": run.key,
            "blocks": [block.layout() for block in page],
        }
        state.update(
            {block.path: block.value for block in page if block.value is not None}
        )
        ctx.panel.set_state(state)
        content = {
            block.path: block.content for block in page if block.content is not None
        }
        if content:
            ctx.panel.set_data(content)
