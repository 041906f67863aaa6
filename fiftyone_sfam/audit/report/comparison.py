"""The report of a comparison: one page, with both models' maps side by side."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fiftyone_sfam._version import __version__
from fiftyone_sfam.audit.comparison.display import (
    counts_table,
    figures_table,
    groups_table,
    isolated_sentences,
    notes,
    places_figure,
    queries_table,
    ranks_figure,
    regions_figure,
    regions_table,
)
from fiftyone_sfam.audit.comparison.result import Comparison, load_comparison
from fiftyone_sfam.audit.report.findings import PairPicture, short_name
from fiftyone_sfam.audit.report.pictures import Pictures, Plot, plot, shown_kinds
from fiftyone_sfam.audit.report.write import render_page
from fiftyone_sfam.audit.statistics.cells import MAX_ROWS, Table
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run

MAX_QUERIES = 50
"""Most queries that a page shows pictures of unless more are wanted."""


@dataclass(frozen=True)
class QueryPicture:
    """A query that changed, with its first neighbor in either run."""

    title: str
    pairs: tuple[PairPicture, ...]


@dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """Contents of a page."""

    dataset: str
    first: str  # keys of the runs
    second: str
    created: str  # when the runs were compared
    version: str  # of this package
    kind: str  # kind of map that pictures show
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    figures: Table
    counts: Table
    ranks: Plot
    regions: Table
    places: tuple[Plot, ...]
    groups: tuple[tuple[str, Table], ...]
    queries: Table
    pictures: tuple[QueryPicture, ...]


def write_comparison(
    first: Run,
    second: Run,
    path: Path | str,
    *,
    images: bool = False,
    max_queries: int = MAX_QUERIES,
    overwrite: bool = False,
) -> Path:
    """Write the stored comparison of two runs as one HTML page.

    Parameters
    ----------
    first, second : Run
        The runs, in the order in which they were compared.
    path : Path or str
        The file.
    images : bool
        Show the queries that changed the most, with their first neighbors in both runs
        and the models' maps. Without them the page holds no image.
    max_queries : int
        Most queries that are shown with images.
    overwrite : bool
        Replace an earlier file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If the runs were not compared, or one of them was made anew since.
    DataError
        If the file exists or cannot be written.
    """
    file = check_file(path, overwrite)
    if max_queries < 0:
        raise DataError(f"max_queries is {max_queries}; give 0 or more.")
    comparison = load_comparison(first, second)
    if comparison is None:
        raise RunError(
            f"the runs '{first.key}' and '{second.key}' of '{first.dataset.name}' have "
            "no comparison, or one was made anew since; call compare_runs."
        )
    shown = comparison.changed[:max_queries].tolist() if images else []
    page = render_page(
        "comparison.html.j2", page=_page(comparison, first, second, shown)
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".comparison-", dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(page)
            os.replace(part, file)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"'{file}' cannot be written: {reason}.") from error
    return file


def check_file(path: Path | str, overwrite: bool) -> Path:
    """Return the path of a file to write; raise if it may not be replaced."""
    file = Path(path)
    if file.is_dir():
        raise DataError(f"'{file}' is a folder; name a file, as '{file}/compare.html'.")
    if file.exists() and not overwrite:
        raise DataError(f"'{file}' exists already; name another file, or overwrite it.")
    return file


def _page(
    comparison: Comparison, first: Run, second: Run, shown: list[int]
) -> ComparisonPage:
    """Say what a page shows."""
    ranks, *places = comparison_plots(comparison)
    return ComparisonPage(
        dataset=first.dataset.name,
        first=comparison.first_key,
        second=comparison.second_key,
        created=comparison.created,
        version=__version__,
        kind=shown_kinds(first.config),
        sentences=isolated_sentences(comparison),
        notes=notes(comparison),
        figures=figures_table(comparison),
        counts=counts_table(comparison),
        ranks=ranks,
        regions=regions_table(comparison),
        places=tuple(places),
        groups=tuple(
            (f"By {field}", groups_table(comparison, field, MAX_ROWS))
            for field in comparison.groups
        ),
        queries=queries_table(
            comparison, first, comparison.changed[:MAX_ROWS].tolist()
        ),
        pictures=tuple(_pictures(comparison, (first, second), shown)),
    )


def comparison_plots(comparison: Comparison) -> tuple[Plot, ...]:
    """Draw the ranks and, if they are known, the regions and places."""
    ranks = plot(
        "ranks",
        "Queries by the rank of their nearest true match in either run.",
        ranks_figure(comparison),
    )
    if comparison.places is None:
        return (ranks,)
    return (
        ranks,
        plot("regions", "Share of the score by region.", regions_figure(comparison)),
        plot(
            "places",
            "Share of the score by place of the image: either model, and the "
            "difference.",
            places_figure(comparison),
        ),
    )


def _pictures(
    comparison: Comparison, runs: tuple[Run, Run], shown: list[int]
) -> list[QueryPicture]:
    """Draw queries with their first neighbors in either run."""
    if not shown:
        return []
    drawn: list[dict[int, PairPicture]] = []
    for side, run in enumerate(runs):
        columns, names = run.pairs, run.items.identities
        pairs = {
            row: int(columns.of_query(int(comparison.query[row, side]))[0])
            for row in shown
        }
        pictures = Pictures(run, pairs.values())
        drawn.append(
            {
                row: PairPicture(
                    pair,
                    *pictures.of_pair(pair),
                    f"{run.key}: {short_name(names[columns.gallery[pair]])}, "
                    f"{columns.similarity[pair]:.3f}, "
                    f"{OUTCOMES[columns.outcome[pair]]}",
                    -1,
                )
                for row, pair in pairs.items()
            }
        )
    return [
        QueryPicture(_title(comparison, runs[0], row), (drawn[0][row], drawn[1][row]))
        for row in shown
    ]


def _title(comparison: Comparison, run: Run, row: int) -> str:
    """Say how a query changed."""
    ranks = " and ".join(f"{rank:,}" for rank in comparison.first_match[row].tolist())
    precisions = " and ".join(
        f"{value:.3f}" for value in comparison.average_precision[row].tolist()
    )
    identity = short_name(run.items.identities[comparison.query[row, 0]])
    return (
        f"{identity}: nearest true match at rank {ranks}, average precision "
        f"{precisions}"
    )
