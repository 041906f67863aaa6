"""Draws what people of the demo world carry."""

from __future__ import annotations

from fiftyone_sfam.demo.canvas import Canvas, Point, shade
from fiftyone_sfam.demo.parts import BAG
from fiftyone_sfam.demo.people import GARMENTS, Person


def backpack(
    canvas: Canvas, person: Person, center: Point, half: float, tall: float
) -> None:
    """Draw a backpack around ``center``, with its half width and half height."""
    color = GARMENTS[person.bag_color]
    x, y = center
    corner = min(0.035, half * 0.8)
    canvas.polygon(
        [
            (x - half, y - tall + corner),
            (x - half + corner, y - tall),
            (x + half - corner, y - tall),
            (x + half, y - tall + corner),
            (x + half, y + tall - corner),
            (x + half - corner, y + tall),
            (x - half + corner, y + tall),
            (x - half, y + tall - corner),
        ],
        color,
        BAG,
    )
    dark = shade(color, 0.72)
    canvas.polygon(
        [
            (x - half * 0.7, y + tall * 0.15),
            (x + half * 0.7, y + tall * 0.15),
            (x + half * 0.7, y + tall * 0.8),
            (x - half * 0.7, y + tall * 0.8),
        ],
        dark,
        BAG,
    )
    canvas.line(
        [(x - half * 0.75, y - tall * 0.35), (x + half * 0.75, y - tall * 0.35)],
        0.007,
        dark,
    )


def satchel(canvas: Canvas, person: Person, line: list[Point]) -> None:
    """Draw a shoulder bag at the lower end of its strap."""
    color = GARMENTS[person.bag_color]
    canvas.limb(line, [0.009, 0.009], shade(color, 0.75), BAG)
    x, y = line[1]
    canvas.polygon(
        [
            (x - 0.062, y - 0.03),
            (x + 0.062, y - 0.03),
            (x + 0.07, y + 0.075),
            (x - 0.07, y + 0.075),
        ],
        color,
        BAG,
    )
    canvas.polygon(
        [
            (x - 0.062, y - 0.03),
            (x + 0.062, y - 0.03),
            (x + 0.064, y + 0.015),
            (x - 0.064, y + 0.015),
        ],
        shade(color, 0.78),
        BAG,
    )


def handbag(canvas: Canvas, person: Person, hand: Point) -> None:
    """Draw a handbag that hangs from ``hand``."""
    color = GARMENTS[person.bag_color]
    x, y = hand
    canvas.limb(
        [(x - 0.03, y + 0.07), (x, y + 0.01), (x + 0.03, y + 0.07)],
        [0.007] * 3,
        shade(color, 0.7),
        BAG,
    )
    canvas.polygon(
        [
            (x - 0.05, y + 0.06),
            (x + 0.05, y + 0.06),
            (x + 0.064, y + 0.155),
            (x - 0.064, y + 0.155),
        ],
        color,
        BAG,
    )
    canvas.line(
        [(x - 0.055, y + 0.085), (x + 0.055, y + 0.085)], 0.007, (250, 220, 120)
    )
