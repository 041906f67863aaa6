"""The cloth of upper garments: a color or a pattern."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from fiftyone_sfam.demo.canvas import Color, Fill, Point, shade
from fiftyone_sfam.demo.people import GARMENTS, Person


class _Cloth:
    """A picture of cloth over the torso; lengths are in person heights."""

    def __init__(
        self, size: tuple[int, int], unit: float, origin: Point, base: Color
    ) -> None:
        self.picture = Image.new("RGB", size, base)
        self.ink = ImageDraw.Draw(self.picture)
        self.unit = unit
        self.x, self.y = origin
        self.left, self.right = self.x - 0.22 * unit, self.x + 0.22 * unit
        self.top, self.bottom = self.y + 0.14 * unit, self.y + 0.68 * unit

    def rows(self, step: float, share: float, color: Color) -> None:
        for y in np.arange(self.top, self.bottom, step * self.unit):
            end = y + share * step * self.unit
            self.ink.rectangle([self.left, y, self.right, end], color)

    def columns(self, step: float, share: float, color: Color) -> None:
        for x in np.arange(self.left, self.right, step * self.unit):
            end = x + share * step * self.unit
            self.ink.rectangle([x, self.top, end, self.bottom], color)


def cloth_of(person: Person, size: tuple[int, int], unit: float, origin: Point) -> Fill:
    """Weave the cloth of a person's upper garment."""
    base = GARMENTS[person.upper_color]
    if person.pattern == "plain":
        return base
    cloth = _Cloth(size, unit, origin, base)
    _PATTERNS[person.pattern](cloth, base, GARMENTS[person.accent_color])
    return cloth.picture


def dim(cloth: Fill, factor: float) -> Fill:
    """Darken a cloth by a factor below 1."""
    if isinstance(cloth, Image.Image):
        return cloth.point(lambda v: int(v * factor))
    return shade(cloth, factor)


def _stripes(cloth: _Cloth, base: Color, accent: Color) -> None:
    cloth.rows(0.062, 0.48, accent)


def _bars(cloth: _Cloth, base: Color, accent: Color) -> None:
    cloth.columns(0.05, 0.42, accent)


def _checks(cloth: _Cloth, base: Color, accent: Color) -> None:
    step = 0.075 * cloth.unit
    mixed = tuple((a + b) // 2 for a, b in zip(base, accent, strict=True))
    cloth.rows(0.075, 0.5, (mixed[0], mixed[1], mixed[2]))
    woven = np.zeros((cloth.picture.height, cloth.picture.width), np.uint8)
    for x in np.arange(cloth.left, cloth.right, step):
        woven[:, int(x) : int(x + step / 2)] = 128
    tone = Image.new("RGB", cloth.picture.size, accent)
    cloth.picture.paste(tone, mask=Image.fromarray(woven))


def _dots(cloth: _Cloth, base: Color, accent: Color) -> None:
    step, r = 0.052 * cloth.unit, 0.0165 * cloth.unit
    for row, y in enumerate(np.arange(cloth.top, cloth.bottom, step)):
        for x in np.arange(cloth.left + (row % 2) * step / 2, cloth.right, step):
            cloth.ink.ellipse([x - r, y - r, x + r, y + r], accent)


def _logo(cloth: _Cloth, base: Color, accent: Color) -> None:
    half, top, bottom = (v * cloth.unit for v in (0.055, 0.225, 0.34))
    box = [cloth.x - half, cloth.y + top, cloth.x + half, cloth.y + bottom]
    cloth.ink.rectangle(box, accent)


_PATTERNS: dict[str, Callable[[_Cloth, Color, Color], None]] = {
    "stripes": _stripes,
    "bars": _bars,
    "checks": _checks,
    "dots": _dots,
    "logo": _logo,
}
