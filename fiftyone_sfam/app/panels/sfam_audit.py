"""The panel of the whole dataset: a run's figures, each mark a door to its images."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import numpy as np
from fiftyone.operators import types

from fiftyone_sfam.app.panels import audit_view
from fiftyone_sfam.app.panels.audit_view import Figure
from fiftyone_sfam.app.panels.current_run import (
    add_run_choice,
    choose_run,
    current_run,
)
from fiftyone_sfam.audit.overview import Overview, overview
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.runs import Run, list_runs

PLUGIN = "@fiftyone-sfam/sfam"
_HEIGHT = 320


class SfamAudit(foo.Panel):
    """Shows how good a run's retrieval is, and where it fails."""

    @property
    def config(self) -> foo.PanelConfig:
        """What FiftyOne shows of the panel."""
        return foo.PanelConfig(
            name="sfam_audit",
            label="SFAM audit",
            surfaces="grid",
            help_markdown="How good is this retrieval, and where does it fail?",
        )

    # -- events ------------------------------------------------------------------------

    def on_load(self, ctx: foo.ExecutionContext) -> None:
        """Choose a run when the panel is opened."""
        choose_run(ctx)
        self._show(ctx)

    def on_change_dataset(self, ctx: foo.ExecutionContext) -> None:
        """Start again on another dataset."""
        ctx.panel.set_state({"run": None, "threshold": None})
        self.on_load(ctx)

    def on_run(self, ctx: foo.ExecutionContext) -> None:
        """Show another run."""
        ctx.panel.set_state({"run": ctx.params.get("value"), "threshold": None})
        self._show(ctx)

    def on_threshold(self, ctx: foo.ExecutionContext) -> None:
        """Move the threshold."""
        ctx.panel.set_state("threshold", ctx.params.get("value"))
        self._show(ctx)

    def on_explain(self, ctx: foo.ExecutionContext) -> None:
        """Open the form that makes a run."""
        ctx.prompt(f"{PLUGIN}/explain_retrieval")

    def on_all(self, ctx: foo.ExecutionContext) -> None:
        """Show the whole dataset in the grid again."""
        ctx.ops.clear_view()

    def on_score(self, ctx: foo.ExecutionContext) -> None:
        """Show the queries of a bar of scores."""
        run, figures = self._loaded(ctx)
        trace, place = int(ctx.params["trace_idx"]), int(ctx.params["idx"])
        self._open(ctx, audit_view.samples_of_score(run, figures, trace, place))

    def on_rank(self, ctx: foo.ExecutionContext) -> None:
        """Show the queries whose true match has the rank of a point."""
        run, figures = self._loaded(ctx)
        place = int(ctx.params["idx"])
        self._open(ctx, audit_view.samples_of_rank(run, figures, place))

    def on_cameras(self, ctx: foo.ExecutionContext) -> None:
        """Show the false matches of a pair of cameras."""
        run, _ = self._loaded(ctx)
        query, neighbor = str(ctx.params["y"]), str(ctx.params["x"])
        self._open(ctx, audit_view.samples_of_cameras(run, query, neighbor))

    def on_identity(self, ctx: foo.ExecutionContext) -> None:
        """Show the false matches of an identity."""
        run, _ = self._loaded(ctx)
        self._open(ctx, audit_view.samples_of_identity(run, int(ctx.params["idx"])))

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
                "### No explained run yet\n\nExplain the dataset's retrieval first; "
                "then this panel shows how good it is."
            )
            panel.btn("explain", label="Explain retrieval", on_click=self.on_explain)
            return types.Property(panel, view=root)
        row = panel.h_stack("controls", gap=2, align_y="center")
        add_run_choice(ctx, row, keys, self.on_run)
        row.btn("all", label="Show all images", on_click=self.on_all)
        problem = ctx.panel.get_state("problem")
        if problem:
            panel.md(f"**{problem}**", name="problem_text")
            return types.Property(panel, view=root)
        panel.md(ctx.panel.get_state("cards_text") or "", name="cards_text")
        self._render_figures(ctx, panel)
        return types.Property(panel, view=root)

    def _render_figures(self, ctx: foo.ExecutionContext, panel: types.Object) -> None:
        """Add the figures."""
        layouts = ctx.panel.get_state("layouts") or {}
        limits = ctx.panel.get_state("limits") or [0, 1]
        threshold = ctx.panel.get_state("threshold")
        if threshold is not None:
            panel.float(
                "threshold_choice",
                min=limits[0],
                max=limits[1],
                default=threshold,
                label="Threshold",
                view=types.SliderView(),
                on_change=self.on_threshold,
            )
        panel.md(ctx.panel.get_state("rates_text") or "", name="rates_text")
        handlers = {
            "scores": self.on_score,
            "cmc": self.on_rank,
            "roc": None,
            "cameras": self.on_cameras,
            "identities": self.on_identity,
            "evidence": None,
        }
        for name, handler in handlers.items():
            if name in layouts:
                panel.plot(
                    name,
                    layout=layouts[name],
                    height=f"{_HEIGHT}px",
                    width="100%",
                    on_click=handler,
                )

    # -- how it is done ----------------------------------------------------------------

    def _loaded(self, ctx: foo.ExecutionContext) -> tuple[Run, Overview]:
        """Load the chosen run and its figures."""
        run = current_run(ctx.dataset, ctx.panel.get_state("run"))
        if run is None:
            raise SfamError("the run is gone; choose another.")
        return run, overview(run)

    def _open(self, ctx: foo.ExecutionContext, sample_ids: list[str]) -> None:
        """Show samples in the grid."""
        if sample_ids:
            ctx.ops.set_view(ctx.dataset.select(sample_ids, ordered=True))
        else:
            ctx.ops.notify("No stored pair is behind this mark.", variant="info")

    def _show(self, ctx: foo.ExecutionContext) -> None:
        """Compute what the panel shows and hand it over."""
        run = current_run(ctx.dataset, ctx.panel.get_state("run"))
        ctx.panel.set_state("problem", None)
        if run is None:
            return
        try:
            figures = overview(run)
        except SfamError as error:
            ctx.panel.set_state("problem", str(error))
            return
        threshold = ctx.panel.get_state("threshold")
        if threshold is None:
            threshold = figures.equal_error_threshold
        drawn = _figures(run, figures, float(threshold))
        ctx.panel.set_state(
            {
                "run": run.key,
                "controls.run_choice": run.key,
                # JSON has no NaN: without both kinds of pairs there is no threshold.
                "threshold": None if np.isnan(threshold) else float(threshold),
                "limits": [float(figures.edges[0]), float(figures.edges[-1])],
                "layouts": {name: figure.layout for name, figure in drawn.items()},
                "cards_text": _cards_text(run, figures),
                "rates_text": _rates_text(figures, float(threshold)),
            }
        )
        ctx.panel.set_data({name: figure.data for name, figure in drawn.items()})


def _figures(run: Run, figures: Overview, threshold: float) -> dict[str, Figure]:
    """Draw the figures that the run has the numbers for."""
    drawn: dict[str, Figure] = {}
    if len(figures.roc_fmr):
        drawn["scores"] = audit_view.score_figure(figures, threshold)
        drawn["roc"] = audit_view.roc_figure(figures)
    if len(figures.identification.query):
        drawn["cmc"] = audit_view.cmc_figure(figures)
    if run.config.counts["false match"]:
        if any(camera is not None for camera in run.items.cameras):
            drawn["cameras"] = audit_view.camera_figure(run)
        drawn["identities"] = audit_view.identity_figure(run)
    evidence = audit_view.evidence_figure(figures)
    if evidence is not None:
        drawn["evidence"] = evidence
    return drawn


def _rates_text(figures: Overview, threshold: float) -> str:
    """Say what a threshold does."""
    if np.isnan(threshold):
        return (
            "Without identities there are no pairs of one and of two identities to "
            "tell apart: make a run with an identity field."
        )
    fmr, fnmr = audit_view.rates_at(figures, threshold)
    return (
        f"At {threshold:.3f}: {100 * fmr:.2f} % of the pairs of two identities are "
        f"accepted, {100 * fnmr:.2f} % of the pairs of one identity are not."
    )


def _cards_text(run: Run, figures: Overview) -> str:
    """Return the cards as a table of Markdown."""
    cards: list[tuple[str, str]] = audit_view.cards(run, figures)
    rows: list[Any] = [
        [name for name, _ in cards],
        ["---"] * len(cards),
        [f"**{value}**" for _, value in cards],
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
