"""The component of the panel of pairs, as Python sees it: questions in, JSON out."""

from __future__ import annotations

import base64
import json
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_sfam.app.pairs.panel import SfamPairs
from operator_support import context, requests


class PairsComponent:
    """Opens a dataset, and asks about a run of it."""

    def __init__(self, dataset: fo.Dataset, run: str | None = None) -> None:
        self.dataset = dataset
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.missing: set[str] = set()
        self.opened = self.ask("open", run=run)
        self.run = self.opened.get("run") or {}

    def raw(
        self, question: Any, request: dict[str, Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        """Return the answer to a question, whatever it is."""
        named = {"run": self.run["key"], "uid": self.run["uid"]} if self.runs else {}
        given = {**named, **params, "__method__": "ask", "question": question}
        ctx = context(self.dataset, given, **(request or {}))
        answer = SfamPairs().execute(ctx)
        self.asked = requests(ctx)
        # What the App gets is JSON, which has no NaN.
        plain: dict[str, Any] = json.loads(json.dumps(answer, allow_nan=False))
        return plain

    def ask(
        self, question: str, request: dict[str, Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        """Return the answer to a question, which is no problem."""
        answer = self.raw(question, request, **params)
        assert "problem" not in answer, answer
        return answer

    def problem(
        self, question: Any, request: dict[str, Any] | None = None, **params: Any
    ) -> str:
        """Return why a question has no answer, which has nothing to do with the run."""
        answer = self.raw(question, request, **params)
        assert set(answer) == {"problem", "stale"}, answer
        assert answer["stale"] is False
        assert self.asked == []
        return str(answer["problem"])

    def queue(
        self, request: dict[str, Any] | None = None, **spec: Any
    ) -> tuple[list[int], dict[str, Any]]:
        """Return the pairs of a queue, and the whole answer."""
        answer = self.ask("queue", request, spec=spec)
        return decode(answer["pairs"]).tolist(), answer

    def walk(self) -> list[str]:
        """Ask for what a user sees first; return what has to be said of it.

        Keep the reasons why images are missing.
        """
        queue, answer = self.queue()
        notes = [*self.run["notes"], *filter(None, [answer["note"]])]
        rows = self.ask("rows", pairs=queue[:60])["rows"]
        pictures = [picture for row in rows for picture in row["pictures"]]
        self.missing = {one["problem"] for one in pictures} - {None}
        if queue:
            notes += self.ask("query", pair=queue[0])["notes"]
        return notes

    @property
    def runs(self) -> bool:
        """Whether a run is open."""
        return bool(getattr(self, "run", None))


def decode(encoded: dict[str, Any]) -> np.ndarray:
    """Decode an array as the component does."""
    assert set(encoded) == {"shape", "dtype", "scale", "data"}
    raw = base64.b64decode(encoded["data"])
    values = np.frombuffer(raw, dtype=f"<{encoded['dtype']}").reshape(encoded["shape"])
    return values if encoded["scale"] == 1 else values * encoded["scale"]


def names(choices: list[dict[str, Any]]) -> list[str]:
    """Return the names of choices."""
    return [choice["name"] for choice in choices]
