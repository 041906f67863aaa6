"""What a person has chosen in the audit panel, and what a click on it leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fiftyone_sfam.app.audit.doors import Door
from fiftyone_sfam.runs.run import Run

OVERVIEW, SCORES, MATCHES, REGIONS, SUSPECTS, MAPS = (
    "overview",
    "scores",
    "matches",
    "regions",
    "suspects",
    "maps",
)
"""The pages of the panel."""

CHECK_FAITHFULNESS = "check_faithfulness"
EVALUATE = "evaluate_retrieval"
EXPLAIN_REGIONS = "explain_regions"
FIND_SUSPECTS = "find_suspects"
WRITE_REPORT = "write_report"
"""The operators that compute what a page shows."""


@dataclass(frozen=True)
class Choices:
    """What is chosen in the panel; None stands for what comes first."""

    page: str = OVERVIEW  # the page
    threshold: float | None = None  # threshold on the score
    slices: str | None = None
    pair_slices: str | None = None
    region: str | None = None  # region that is looked at
    kind: str | None = None  # kind of suspects
    shortcut: int | None = None  # place of the shortcut whose maps are shown

    @classmethod
    def from_state(cls, read: Callable[[str], Any]) -> Choices:
        """Restore what is chosen out of the panel's state."""
        found = {one.name: read(one.name) for one in fields(cls)}
        return cls(
            **{name: value for name, value in found.items() if value is not None}
        )


CHOSEN = tuple(one.name for one in fields(Choices))
"""Names under which the panel's state keeps what is chosen."""


@dataclass(frozen=True)
class Opened:
    """What a click leads to."""

    door: Door | None = None  # what is opened
    chosen: dict[str, Any] = field(default_factory=dict)


Params = Mapping[str, Any]
"""What the App tells of a click."""

Mark = Callable[[Run, Params, Choices], Opened]
"""Finds out what a click leads to."""


def place_of(params: Params) -> int:
    """Return the place of the bar, the point or the row that was clicked."""
    return int(params["row"] if "row" in params else params["idx"])
