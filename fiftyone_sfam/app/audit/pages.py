"""The pages of the audit panel, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fiftyone_sfam.app.audit import page_maps as audit_page_maps
from fiftyone_sfam.app.audit import page_matches as audit_page_matches
from fiftyone_sfam.app.audit import page_overview as audit_page_overview
from fiftyone_sfam.app.audit import page_regions as audit_page_regions
from fiftyone_sfam.app.audit import page_scores as audit_page_scores
from fiftyone_sfam.app.audit import page_suspects as audit_page_suspects
from fiftyone_sfam.app.audit.blocks import Block
from fiftyone_sfam.app.audit.choices import (
    MAPS,
    MATCHES,
    OVERVIEW,
    REGIONS,
    SCORES,
    SUSPECTS,
    Choices,
    Mark,
    Opened,
    Params,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

TABS = {
    OVERVIEW: "Overview",
    SCORES: "Scores",
    MATCHES: "False matches",
    REGIONS: "Regions",
    SUSPECTS: "Suspects",
    MAPS: "Maps",
}
"""Pages and the labels of their tabs."""

_PAGES: Mapping[str, Callable[[Run, Choices], list[Block]]] = {
    OVERVIEW: audit_page_overview.page,
    SCORES: audit_page_scores.page,
    MATCHES: audit_page_matches.page,
    REGIONS: audit_page_regions.page,
    SUSPECTS: audit_page_suspects.page,
    MAPS: audit_page_maps.page,
}

_MARKS: Mapping[str, Mark] = {
    **audit_page_overview.MARKS,
    **audit_page_scores.MARKS,
    **audit_page_matches.MARKS,
    **audit_page_regions.MARKS,
    **audit_page_suspects.MARKS,
    **audit_page_maps.MARKS,
}


def page_of(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of a page."""
    if chosen.page not in _PAGES:
        raise DataError(f"there is no page '{chosen.page}' of the audit.")
    return _PAGES[chosen.page](run, chosen)


def open_mark(run: Run, mark: str, params: Params, chosen: Choices) -> Opened:
    """Find out what a click leads to."""
    if mark not in _MARKS:
        raise DataError(f"there is nothing behind '{mark}' of the audit.")
    try:
        return _MARKS[mark](run, params, chosen)
    except IndexError as error:
        # A table may be older than the result that its rows are looked up in.
        raise DataError(
            "what was clicked has changed meanwhile; click it once more."
        ) from error
