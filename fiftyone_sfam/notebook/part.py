"""What a notebook shows of a result, the same for all results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from fiftyone_sfam.audit.report.findings import PairPicture
from fiftyone_sfam.audit.report.pictures import Picture, Plot
from fiftyone_sfam.audit.report.summary import Card
from fiftyone_sfam.audit.statistics.cells import Table


@dataclass(frozen=True)
class Captioned:
    """A picture with its caption."""

    picture: Picture
    caption: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a notebook shows of a result; what is empty is left out."""

    title: str  # what it is
    cards: tuple[Card, ...] = ()  # the most important figures
    sentences: tuple[str, ...] = ()  # what they say
    warnings: tuple[str, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()  # titles and tables
    pairs: tuple[PairPicture, ...] = ()
    images: tuple[Captioned, ...] = ()
    plots: tuple[Plot, ...] = ()  # named in the page, and drawn by `plots()`
    notes: tuple[str, ...] = ()  # how it was made


@singledispatch
def part_of(result: Any) -> Part:
    """Lay a result out."""
    raise TypeError(f"{type(result).__name__} has no page for notebooks.")
