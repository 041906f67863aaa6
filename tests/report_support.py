"""What the tests of reports share: an audited run, and a page taken apart."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from bs4 import BeautifulSoup, Tag

from fiftyone_sfam import Run, explain_retrieval
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.faithfulness.check import check_faithfulness
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from worlds import REID, mislabel, small_crops


def run_with_errors(folder: Path) -> Run:
    """A run on 36 crops, of which every ninth has another one's label."""
    dataset = small_crops(folder)
    mislabel(dataset, 9)
    return explain_retrieval(dataset, "demo", k=4, protocol=REID)


def audit(run: Run, field: str = "camera") -> None:
    """Compute everything that a report shows, but for verdicts; slices by a field."""
    evaluate_retrieval(run, slices=[field], pair_slices=[field], resamples=50)
    find_suspects(run)
    build_ledger(run, "person", by=["camera pair"], resamples=50)
    find_shortcuts(run)
    check_faithfulness(run, "demo", 6, steps=2)


def false_matches(run: Run) -> list[int]:
    """The pairs of rank 1 that are false matches."""
    pairs = run.pairs
    found = (pairs.rank == 1) & (pairs.outcome == FALSE_MATCH)
    return [int(pair) for pair in np.flatnonzero(found)]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, and the value behind it."""

    text: str
    value: float | None


class Page:
    """A report, taken apart."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text("utf-8")
        self.soup = BeautifulSoup(self.source, "html.parser")
        # What is in the page beside scripts that run.
        self.markup = re.sub(r"<script>.*?</script>", "", self.source, flags=re.DOTALL)

    def section(self, name: str) -> Tag:
        found = self.soup.find(id=name)
        assert isinstance(found, Tag)
        return found

    def cards(self) -> dict[str, Cell]:
        return {
            card.span.get_text(): cell(card.b)
            for card in self.section("summary").select(".card")
        }

    def table(self, within: str, number: int = 0) -> list[dict[str, Cell]]:
        """The rows of one of the tables of a section, by the names of its columns."""
        return rows_of(self.section(within).select("table")[number])

    def figure(self, name: str) -> dict[str, Any]:
        found = self.section(f"figure-{name}")
        return json.loads(found.get_text())

    def sentences(self, within: str) -> list[str]:
        found = self.section(within).select(".sentence")
        return [one.get_text().replace("\u00a0%", " %") for one in found]


def rows_of(table: Tag) -> list[dict[str, Cell]]:
    """The rows of a table; of two columns of one name the second gets a number."""
    head: list[str] = []
    for title in table.select("th"):
        name = title.get_text()
        head.append(f"{name} 2" if name in head else name)
    return [
        dict(zip(head, map(cell, row.select("td")), strict=True))
        for row in table.select("tbody tr")
    ]


def cell(tag: Tag) -> Cell:
    value = tag.get("data-value")
    return Cell(tag.get_text(), None if value is None else float(str(value)))


def hostile_names() -> list[str]:
    """Identities that are no text for a careless page."""
    return [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(2)>",
        "</script><script>alert(3)</script>",
        "\u202egnp.dab \u05d3\u05d5\u05d3 \u0645\u062d\u0645\u062f",
        "{{ 7 * 7 }} <a href='javascript:alert(4)'>x</a>",
        "x" * 10_000,
    ]


def rename_identities(dataset: fo.Dataset, names: list[str]) -> None:
    """Give the identities of a dataset other names, one each."""
    old = sorted(set(dataset.values("identity")))
    new = dict(zip(old, names, strict=True))
    dataset.set_values("identity", [new[one] for one in dataset.values("identity")])
