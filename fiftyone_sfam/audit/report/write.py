"""The report of a run: a page for people, tables for programs, and the fixes.

The page is complete in itself: it holds its own scripts, styles and (if wanted)
pictures, loads nothing, and opens from any disk. Nothing is computed for it that was
not computed before, but for the fixes and the maps of a few decisions: parts that are
missing say what computes them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fiftyone_sfam._version import __version__
from fiftyone_sfam.audit.evaluation.display import Figure
from fiftyone_sfam.audit.fixes.find import dump_fixes
from fiftyone_sfam.audit.report.decisions import DecisionsPart, decisions_part
from fiftyone_sfam.audit.report.findings import (
    FindingsPart,
    VerdictsPart,
    findings_part,
    verdicts_part,
)
from fiftyone_sfam.audit.report.pictures import shown_kinds
from fiftyone_sfam.audit.report.regions import (
    RegionsPart,
    ShortcutsPart,
    regions_part,
    shortcuts_part,
)
from fiftyone_sfam.audit.report.summary import (
    Card,
    EvaluationPart,
    MapsPart,
    Missing,
    Results,
    cards,
    config_table,
    evaluation_part,
    highlights,
    load_results,
    maps_part,
    missing,
    skipped_table,
    verification_part,
    versions_table,
)
from fiftyone_sfam.audit.report.tables import (
    check_parquet,
    finding_frame,
    has_parquet,
    pair_frames,
    write_csv,
    write_parquet,
)
from fiftyone_sfam.audit.statistics.cells import Shown, Table
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.models.wrap import ModelLike

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of a report."""

    dataset: str  # name of the dataset
    run: str  # key of the run
    made: str  # when the run was made
    created: str  # when the report was made
    version: str  # of this package
    images: bool  # whether it holds images
    searched: bool  # whether its pairs are nearest neighbors
    kind: str  # kind of map that pictures show
    metric: str  # metric that images are ranked by
    weights: str  # channel weights of the sfam map
    cards: list[Card]  # the summary
    highlights: list[str]  # the most important results
    evaluation: EvaluationPart | Missing
    decisions: DecisionsPart | None  # accepted and rejected, if a threshold was set
    findings: FindingsPart | Missing
    regions: RegionsPart | Missing
    shortcuts: ShortcutsPart | Missing
    maps: MapsPart | Missing
    verdicts: VerdictsPart
    config: Table  # settings of the run
    versions: Table  # versions of the packages
    skipped: Table  # skipped images, with the reasons


def render(report: Report) -> str:
    """Write a report as HTML."""
    return render_page("report.html.j2", report=report)


def render_page(name: str, **values: Any) -> str:
    """Write a page that holds its own scripts and styles, and loads nothing."""
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
    return template_environment().get_template(name).render(**values, **own)


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


def typeset(cell: Shown) -> str:
    """Return the text of a cell, a number with a true minus sign."""
    if cell.kind == "number":
        return tight(cell.text.replace("-", "−"))
    return cell.text


@cache
def template_environment(*folders: Path) -> Environment:
    """Return what renders the templates of folders, and of the report."""
    environment = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["figure_json"] = figure_json
    environment.filters["tight"] = tight
    environment.filters["typeset"] = typeset
    return environment


def _plotly() -> str:
    """Return Plotly's own script, as its package carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _source(script: str) -> str:
    """Return what a page's policy knows a script by."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


MAX_FINDINGS = 100
"""Most findings that a report shows unless more are wanted."""

PAGE = "report.html"
FILES = (
    PAGE,
    "findings.csv",
    "findings.parquet",
    "pairs.csv",
    "pairs.parquet",
    "fixes.json",
)
"""Names of the files of a report."""


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """The files of a report; None where there is none.

    Attributes
    ----------
    folder : Path
        Where they are.
    page : Path
        The HTML page.
    pairs_csv, pairs_parquet : Path or None
        The run's pairs; the second only if wanted.
    findings_csv, findings_parquet : Path or None
        Its findings; only if suspects were looked for.
    fixes : Path or None
        Corrections of labels; only if the run has identities.
    """

    folder: Path
    page: Path
    pairs_csv: Path
    pairs_parquet: Path | None
    findings_csv: Path | None
    findings_parquet: Path | None
    fixes: Path | None

    def paths(self) -> list[Path]:
        """List the files that there are, the page first."""
        paths = (getattr(self, field.name) for field in fields(self)[1:])
        return [path for path in paths if path is not None]


def write_report(
    run: Run,
    path: Path | str,
    *,
    images: bool = False,
    max_findings: int = MAX_FINDINGS,
    parquet: bool | None = None,
    overwrite: bool = False,
    model: ModelLike | None = None,
) -> ReportFiles:
    """Write the report of a run into a folder.

    Parameters
    ----------
    run : Run
        The run.
    path : Path or str
        The folder, made where there is none. The files have fixed names, see
        :data:`FILES`; a folder may hold other files.
    images : bool
        Show pictures of the findings' pairs, with their maps, in the page. Without
        them the page holds no image, but identities, file names and averages of maps.
    max_findings : int
        Most findings that the page shows; the tables hold all.
    parquet : bool, optional
        Write the tables as Parquet too; None does so if pyarrow is installed.
    overwrite : bool
        Replace an earlier report in this folder.
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module, optional
        The model of the run, or its name. It explains the decisions that pictures show,
        if the run keeps no contributions that do so.

    Returns
    -------
    ReportFiles
        The written files.

    Raises
    ------
    DataError
        If there is a report already, the folder cannot be written, or Parquet is
        wanted without pyarrow.
    ModelError
        If the model is not the one that the run was made with.
    """
    folder = Path(path)
    if max_findings < 0:
        raise DataError(f"max_findings is {max_findings}; give 0 or more.")
    if parquet is None:
        parquet = has_parquet()
    elif parquet:
        check_parquet()
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise DataError(
            f"'{folder}' holds '{there[0]}' already; name another folder, or overwrite "
            "the report."
        )
    results = load_results(run)
    page = render(make_report(run, results, images, max_findings, model))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Complete before the first file gets its name.
        part = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
        try:
            (part / PAGE).write_text(page, "utf-8")
            _write_tables(part, run, results, parquet)
            written = [name for name in FILES if (part / name).exists()]
            for name in written:
                os.replace(part / name, folder / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        # Files of the earlier report that this one does not have.
        for name in set(there) - set(written):
            (folder / name).unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"'{folder}' cannot be written: {reason}.") from error
    files = {name: folder / name for name in written}
    return ReportFiles(
        folder=folder,
        page=files[PAGE],
        pairs_csv=files["pairs.csv"],
        pairs_parquet=files.get("pairs.parquet"),
        findings_csv=files.get("findings.csv"),
        findings_parquet=files.get("findings.parquet"),
        fixes=files.get("fixes.json"),
    )


def make_report(
    run: Run,
    results: Results,
    images: bool = False,
    max_findings: int = MAX_FINDINGS,
    model: ModelLike | None = None,
) -> Report:
    """Say what a report shows."""
    made = run.dataset.get_run_info(run.key).timestamp
    suspects, ledger, shortcuts = (
        results.suspects,
        results.ledger,
        results.shortcuts,
    )
    return Report(
        dataset=run.dataset.name,
        run=run.key,
        made=f"{made:%Y-%m-%d %H:%M} UTC",
        created=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        images=images,
        searched=run.given is None,
        kind=shown_kinds(run.config),
        metric=run.config.metric,
        weights=run.config.weights,
        cards=cards(run, results),
        highlights=highlights(run, results),
        evaluation=_evaluation(run, results),
        decisions=None
        if results.decisions is None
        else decisions_part(run, results.decisions, images, model),
        findings=missing(
            run, "Nobody has looked for suspects.", "find suspects", "suspects"
        )
        if suspects is None
        else findings_part(run, suspects, results.verdicts, max_findings, images),
        regions=missing(
            run,
            "The scores were not split by regions of the images.",
            "explain regions",
            "regions",
        )
        if ledger is None
        else regions_part(ledger, results.causal),
        shortcuts=missing(
            run, "Nobody has looked for shortcuts.", "explain regions", "regions"
        )
        if shortcuts is None
        else shortcuts_part(shortcuts),
        maps=missing(
            run,
            "Nobody has checked how far the maps are to be trusted.",
            "check faithfulness",
            "faithfulness",
        )
        if results.faithfulness is None
        else maps_part(results.faithfulness),
        verdicts=verdicts_part(run, results.verdicts, results.reviewed, results.fixes),
        config=config_table(run),
        versions=versions_table(run.config.versions.items()),
        skipped=skipped_table(run),
    )


def _evaluation(run: Run, results: Results) -> EvaluationPart | Missing:
    """Lay out how good the retrieval is, or how well a given list is told apart."""
    if run.given is not None:
        return verification_part(results.verification)
    if results.evaluation is not None:
        return evaluation_part(results.evaluation)
    what = "The retrieval was not evaluated over all pairs."
    return missing(run, what, "evaluate retrieval", "evaluate")


def _write_tables(folder: Path, run: Run, results: Results, parquet: bool) -> None:
    """Write findings, pairs and fixes."""
    writers: dict[str, Callable[[Path, Iterable[pd.DataFrame]], None]] = {
        "csv": write_csv
    }
    if parquet:
        writers["parquet"] = write_parquet
    for ending, write in writers.items():
        frames = pair_frames(run, results.verdicts, results.ledger, results.decisions)
        write(folder / f"pairs.{ending}", frames)
        if results.suspects is not None:
            frame = finding_frame(results.suspects.findings)
            write(folder / f"findings.{ending}", [frame])
    if results.fixes is not None:
        (folder / "fixes.json").write_text(dump_fixes(results.fixes), "utf-8")
