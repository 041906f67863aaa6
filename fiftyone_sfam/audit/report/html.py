"""A report as one HTML file that loads nothing from anywhere.

Every text is escaped by the template, in the page and in the figures' data. Beside
that, the page's policy lets no script run but the two of our own, which it knows by
their digests, and lets nothing be loaded: what slipped through would do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fiftyone_sfam.audit.report.cells import Table
from fiftyone_sfam.audit.report.evaluation import EvaluationPart
from fiftyone_sfam.audit.report.figures import Figure
from fiftyone_sfam.audit.report.findings import FindingsPart
from fiftyone_sfam.audit.report.regions import RegionsPart, ShortcutsPart
from fiftyone_sfam.audit.report.results import Missing
from fiftyone_sfam.audit.report.summary import Card
from fiftyone_sfam.audit.report.verdicts import VerdictsPart

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """What a report shows."""

    dataset: str  # name of the dataset and key of the run
    run: str  # name of the dataset and key of the run
    made: str  # when the run was made, and when the report was
    created: str  # when the run was made, and when the report was
    version: str  # of this package
    images: bool  # whether it holds images
    kind: str  # kind of map that pictures show
    metric: str  # what images are ranked by, and the channel weights of the sfam map
    weights: str  # what images are ranked by, and the channel weights of the sfam map
    cards: list[Card]  # the summary
    highlights: list[str]  # the most important of what was found
    evaluation: EvaluationPart | Missing  # the parts
    findings: FindingsPart | Missing  # the parts
    regions: RegionsPart | Missing  # the parts
    shortcuts: ShortcutsPart | Missing  # the parts
    verdicts: VerdictsPart  # the parts
    config: Table  # how the run was made, and with what
    versions: Table  # how the run was made, and with what
    skipped: Table  # how the run was made, and with what


def render(report: Report) -> str:
    """Write a report as HTML."""
    plotly, script = _plotly(), (TEMPLATES / "report.js").read_text("utf-8")
    css = (TEMPLATES / "report.css").read_text("utf-8")
    sources = " ".join(map(_source, (plotly, script)))
    # Files of this package and of Plotly's, and digests: nothing of a dataset.
    own = {
        "css": Markup(css),  # nosec B704
        "plotly": Markup(plotly),  # nosec B704
        "script": Markup(script),  # nosec B704
        "script_sources": Markup(sources),  # nosec B704
    }
    template = _environment().get_template("report.html.j2")
    return template.render(report=report, **own)


def figure_json(figure: Figure) -> Markup:
    """Return a figure as JSON that may stand in a page."""
    body: dict[str, Any] = {"data": figure.data, "layout": figure.layout}
    text = json.dumps(body, allow_nan=False)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # None of the characters is left that could end the element or begin another.
    return Markup(text)  # nosec B704


def tight(text: str) -> str:
    """Keep numbers and their percent signs on one line."""
    return text.replace(" %", "\u00a0%")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["figure_json"] = figure_json
    environment.filters["tight"] = tight
    return environment


def _plotly() -> str:
    """Return Plotly's own script, as its package carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _source(script: str) -> str:
    """Return what a page's policy knows a script by."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
