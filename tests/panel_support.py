"""The audit panel as the App keeps it, without a browser: events in, state out."""

from __future__ import annotations

import json
from typing import Any

import fiftyone as fo
import pydash

from fiftyone_sfam.app.audit.panel import SfamAudit
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, requests


class AuditPanel:
    """The panel as the App keeps it: its state, its data and its layout."""

    def __init__(self, dataset: fo.Dataset, page: str | None = None) -> None:
        self.dataset = dataset
        self.state: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.layout: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.do("on_load")
        if page is not None:
            self.do("on_tab", path="tab", value=page)

    def do(
        self, method: str, request: dict[str, Any] | None = None, **params: Any
    ) -> None:
        """Execute an event with what the App would send along."""
        event = {
            **params,
            "panel_id": "audit",
            "panel_state": json.loads(json.dumps(self.state)),
            "__method__": method,
        }
        self.ctx = context(self.dataset, event, **(request or {}))
        SfamAudit().execute(self.ctx)
        self.asked = []
        for name, given in requests(self.ctx):
            # What the App gets is JSON, which has no NaN.
            json.dumps(given, allow_nan=False)
            if name == "patch_panel_state":
                for path, value in given["state"].items():
                    pydash.set_(self.state, path, value)
            elif name == "patch_panel_data":
                for path, value in given["data"].items():
                    pydash.set_(self.data, path, value)
            elif name == "show_panel_output":
                self.layout = json.loads(json.dumps(given["output"]))
            else:
                self.asked.append((name, given))

    def click(self, block: str, **params: Any) -> None:
        """Click a mark of a block."""
        self.do("on_mark", path=f"body.{block}_block.{block}", **params)

    def content(self, block: str) -> Any:
        """The traces of a figure or the rows of a table."""
        return pydash.get(self.data, f"body.{block}_block.{block}")

    @property
    def blocks(self) -> list[str]:
        return [block["name"] for block in self.state["blocks"]]

    def block(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.state["blocks"] if one["name"] == name]
        return found

    @property
    def view(self) -> list[str]:
        """The samples that the grid was set to by the last event."""
        (stages,) = [given["view"] for name, given in self.asked if name == "set_view"]
        assert stages[0]["_cls"] == "fiftyone.core.stages.Select"
        return list(dict(stages[0]["kwargs"])["sample_ids"])

    @property
    def handed(self) -> dict[str, Any] | None:
        """What the last event handed over in the page, which opens the pairs."""
        view_pairs = f"{PLUGIN}/view_pairs"
        found = [given for name, given in self.asked if name == view_pairs]
        assert len(found) <= 1
        opened = [given["name"] for name, given in self.asked if name == "open_panel"]
        assert opened == ["sfam_pairs"] * len(found)
        return found[0] if found else None

    @property
    def pairs(self) -> list[int]:
        """The pairs that the last event handed over."""
        assert self.handed is not None
        return list(self.handed["pairs"])

    def ask(self, question: str, **params: Any) -> dict[str, Any]:
        """Ask what the component of findings asks; return the answer."""
        event = {**params, "question": question, "__method__": "ask"}
        self.ctx = context(self.dataset, {**event, "panel_id": "audit"})
        answer = json.loads(json.dumps(SfamAudit().execute(self.ctx), allow_nan=False))
        self.asked = list(requests(self.ctx))
        return dict(answer)

    def assert_open(self, run: Run, pairs: Any, title: str) -> None:
        """Assert that pairs were handed over, and that the grid has their queries."""
        wanted = [int(pair) for pair in pairs]
        assert wanted
        handed = self.handed
        assert handed is not None
        shown = handed["title"]
        assert shown.replace("\u2068", "").replace("\u2069", "") == title
        assert handed == {
            "run": run.key,
            "uid": run.config.uid,
            "title": shown,
            "pairs": wanted,
            "queries": run.pairs.query[wanted].tolist(),
        }
        queries = run.items.sample_ids[run.pairs.query[wanted]]
        assert self.view == list(dict.fromkeys(queries.tolist()))
        assert self.state["selection"]["pairs"] == len(wanted)
        assert self.state["selection"]["title"] == shown

    def text(self) -> str:
        return json.dumps(self.layout, ensure_ascii=False)
