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
    """What a report shows.

    Attributes
    ----------
    dataset, run : str
        Name of the dataset and key of the run.
    made, created : str
        When the run was made, and when the report was.
    version : str
        Of this package.
    images : bool
        Whether it holds images.
    kind : str
        Kind of map that pictures show.
    metric, weights : str
        What images are ranked by, and the channel weights of the ``sfam`` map.
    cards : list of Card
        The summary.
    highlights : list of str
        The most important of what was found.
    evaluation, findings, regions, shortcuts, verdicts
        The parts.
    config, versions, skipped : Table
        How the run was made, and with what; the images that could not be used.
    """

    dataset: str
    run: str
    made: str
    created: str
    version: str
    images: bool
    kind: str
    metric: str
    weights: str
    cards: list[Card]
    highlights: list[str]
    evaluation: EvaluationPart | Missing
    findings: FindingsPart | Missing
    regions: RegionsPart | Missing
    shortcuts: ShortcutsPart | Missing
    verdicts: VerdictsPart
    config: Table
    versions: Table
    skipped: Table


def render(report: Report) -> str:
    """Write a report as HTML.

    Parameters
    ----------
    report : Report
        What it shows.

    Returns
    -------
    str
        The page.
    """
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
    """Return a figure as JSON that may stand in a page.

    Parameters
    ----------
    figure : Figure
        The figure.

    Returns
    -------
    Markup
        JSON without characters that HTML has a meaning for.
    """
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
