"""A picture and its part labels, drawn together in units of a person's height."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
Fill = Color | Image.Image


def shade(color: Color, factor: float) -> Color:
    """Darken (``factor < 1``) or lighten (``factor > 1``) an RGB color."""
    if factor <= 1:
        red, green, blue = (int(value * factor) for value in color)
    else:
        red, green, blue = (int(v + (255 - v) * (factor - 1)) for v in color)
    return red, green, blue


def limb_outline(a: Point, b: Point, start: float, end: float) -> list[Point]:
    """Return the corners of a tapered bar, with half-widths at its two ends."""
    angle = math.atan2(b[1] - a[1], b[0] - a[0]) + math.pi / 2
    nx, ny = math.cos(angle), math.sin(angle)
    return [
        (a[0] + nx * start, a[1] + ny * start),
        (b[0] + nx * end, b[1] + ny * end),
        (b[0] - nx * end, b[1] - ny * end),
        (a[0] - nx * start, a[1] - ny * start),
    ]


class Canvas:
    """Draws shapes into a picture and, with the same outline, into a label image."""

    def __init__(
        self,
        size: tuple[int, int],
        unit: float,
        origin: Point,
        *,
        mirror: bool = False,
    ) -> None:
        self.picture = Image.new("RGB", size)
        self.labels = Image.new("L", size)
        self.unit = unit
        self._origin = origin
        self._sign = -1.0 if mirror else 1.0
        self._ink = ImageDraw.Draw(self.picture)
        self._marks = ImageDraw.Draw(self.labels)

    def polygon(self, points: Sequence[Point], fill: Fill, part: int) -> None:
        """Fill a polygon with a color or with a picture of the canvas's size."""
        self._paint(fill, part, lambda ink, value: ink.polygon(self._px(points), value))

    def ellipse(
        self, center: Point, radii: Point, fill: Fill, part: int, *, cut: float = 1.0
    ) -> None:
        """Fill an ellipse; ``cut`` below 1 keeps only that top share of its height."""
        if cut >= 1:
            box = self._box(center, radii)
            self._paint(fill, part, lambda ink, value: ink.ellipse(box, value))
            return
        limit = math.asin(max(-1.0, min(1.0, 2 * cut - 1)))
        angles = np.linspace(-math.pi - limit, limit, 40)
        self.polygon(
            [
                (
                    center[0] + radii[0] * math.cos(a),
                    center[1] + radii[1] * math.sin(a),
                )
                for a in angles
            ],
            fill,
            part,
        )

    def limb(
        self, joints: Sequence[Point], widths: Sequence[float], fill: Fill, part: int
    ) -> None:
        """Fill a chain of tapered bars with round joints (half-widths per joint)."""

        def draw(ink: ImageDraw.ImageDraw, value: Color | int) -> None:
            for i, joint in enumerate(joints):
                ink.ellipse(self._box(joint, (widths[i], widths[i])), value)
                if i:
                    outline = limb_outline(
                        joints[i - 1], joint, widths[i - 1], widths[i]
                    )
                    ink.polygon(self._px(outline), value)

        self._paint(fill, part, draw)

    def line(self, points: Sequence[Point], width: float, color: Color) -> None:
        """Draw a line into the picture only, not into the labels."""
        pixels = max(1, round(width * self.unit))
        self._ink.line(self._px(points), color, pixels, joint="curve")

    def dot(self, center: Point, radius: float, color: Color) -> None:
        """Draw a disk into the picture only, not into the labels."""
        self._ink.ellipse(self._box(center, (radius, radius)), color)

    def darken(self, points: Sequence[Point], part: int, opacity: float) -> None:
        """Shade the inside of a polygon where it lies on ``part``."""
        mask = Image.new("L", self.picture.size)
        ImageDraw.Draw(mask).polygon(self._px(points), 1)
        inside = (np.asarray(mask) == 1) & (np.asarray(self.labels) == part)
        mask = Image.fromarray((inside * round(255 * opacity)).astype(np.uint8))
        self.picture.paste((24, 20, 44), mask=mask)

    def _paint(
        self,
        fill: Fill,
        part: int,
        draw: Callable[[ImageDraw.ImageDraw, Color | int], None],
    ) -> None:
        if isinstance(fill, Image.Image):
            mask = Image.new("L", self.picture.size)
            draw(ImageDraw.Draw(mask), 255)
            self.picture.paste(fill, mask=mask)
        else:
            draw(self._ink, fill)
        draw(self._marks, part)

    def _px(self, points: Sequence[Point]) -> list[Point]:
        ox, oy = self._origin
        return [
            (ox + self._sign * x * self.unit, oy + y * self.unit) for x, y in points
        ]

    def _box(self, center: Point, radii: Point) -> list[float]:
        ((x, y),) = self._px([center])
        rx, ry = radii[0] * self.unit, radii[1] * self.unit
        return [x - rx, y - ry, x + rx, y + ry]
