"""Places of the demo world, the striking wall, and objects that occlude people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from fiftyone_sfam.demo.canvas import Color, shade

STRIKING_SCENE = "mural"
"""The background that is always the same for the identities with a shortcut."""

OCCLUDERS = ("pole", "car", "plant", "crate")

_MURAL_SEED = 20
_MURAL_COLORS: tuple[Color, ...] = (
    (255, 0, 150),
    (0, 235, 235),
    (255, 235, 0),
    (90, 0, 200),
    (60, 255, 60),
)


class Stage:
    """An image to draw a scene into, its floor line and the size of a person."""

    def __init__(
        self,
        image: Image.Image,
        floor: float,
        unit: float,
        rng: np.random.Generator,
    ) -> None:
        self.image = image
        self.ink = ImageDraw.Draw(image)
        self.width, self.height = image.size
        self.floor = floor
        self.unit = unit
        self.rng = rng

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color) -> None:
        """Fill a rectangle given in pixels; empty ones are skipped."""
        if x1 > x0 and y1 > y0:
            self.ink.rectangle([x0, y0, x1, y1], color)

    def gradient(self, y0: float, y1: float, top: Color, bottom: Color) -> None:
        """Fill the rows from ``y0`` to ``y1`` with a vertical gradient."""
        first, last = max(0, int(y0)), min(self.height, int(y1))
        for y in range(first, last):
            t = (y - y0) / max(1.0, y1 - y0)
            color = (
                round(top[0] + (bottom[0] - top[0]) * t),
                round(top[1] + (bottom[1] - top[1]) * t),
                round(top[2] + (bottom[2] - top[2]) * t),
            )
            self.ink.line([(0, y), (self.width, y)], color)

    def steps(self, spacing: float) -> list[float]:
        """Return positions along the wall, ``spacing`` person heights apart."""
        gap = spacing * self.unit
        start = -gap * float(self.rng.uniform(0, 1))
        return list(np.arange(start, self.width + gap, gap))

    def tiles(self, color: Color, spacing: float) -> None:
        """Draw the joints of a tiled floor in perspective."""
        cx = self.width / 2 + float(self.rng.uniform(-0.3, 0.3)) * self.unit
        depth = self.height - self.floor
        for i in range(-14, 15):
            x = cx + i * spacing * self.unit
            far = cx + i * spacing * self.unit * 0.55
            self.ink.line([(far, self.floor), (x, self.height)], color, self._thin())
        for t in (0.12, 0.3, 0.58, 0.95):
            y = self.floor + depth * t
            self.ink.line([(0, y), (self.width, y)], color, self._thin())

    def _thin(self) -> int:
        return max(1, round(0.006 * self.unit))


def draw_scene(
    name: str,
    size: tuple[int, int],
    *,
    floor: float,
    unit: float,
    rng: np.random.Generator,
) -> Image.Image:
    """Draw an empty place."""
    if name not in _PAINTERS:
        raise ValueError(f"no scene {name!r}; the scenes are {sorted(_PAINTERS)}")
    stage = Stage(Image.new("RGB", size), floor, unit, rng)
    _PAINTERS[name](stage)
    return stage.image


def draw_occluder(
    name: str,
    image: Image.Image,
    labels: Image.Image,
    *,
    center: float,
    ground: float,
    unit: float,
    side: int,
) -> None:
    """Draw an object in front of the person, and clear the labels there."""
    for ink, erase in ((ImageDraw.Draw(image), False), (ImageDraw.Draw(labels), True)):
        _OCCLUDERS[name](_Brush(ink, erase, center, ground, unit, side))


class _Brush:
    """Draws or erases shapes, in person heights from the person's feet."""

    def __init__(
        self,
        ink: ImageDraw.ImageDraw,
        erase: bool,
        center: float,
        ground: float,
        unit: float,
        side: int,
    ) -> None:
        self._ink, self._erase = ink, erase
        self._center, self._ground, self._unit = center, ground, unit
        self._side = side

    def shape(self, points: list[tuple[float, float]], color: Color) -> None:
        self._ink.polygon([self._at(*p) for p in points], self._value(color))

    def disk(self, x: float, y: float, radius: float, color: Color) -> None:
        px, py = self._at(x, y)
        r = radius * self._unit
        self._ink.ellipse([px - r, py - r, px + r, py + r], self._value(color))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self._center + self._side * x * self._unit,
            self._ground + y * self._unit,
        )

    def _value(self, color: Color) -> Color | int:
        return 0 if self._erase else color


def _street(stage: Stage) -> None:
    u, rng = stage.unit, stage.rng
    wall = _pick(rng, ((176, 134, 116), (188, 170, 146), (158, 160, 164)))
    stage.box(0, 0, stage.width, stage.floor, wall)
    for i, y in enumerate(np.arange(stage.floor, 0, -0.045 * u)):
        stage.ink.line([(0, y), (stage.width, y)], shade(wall, 0.93), 1)
        for x in np.arange((i % 2) * 0.06 * u, stage.width, 0.12 * u):
            stage.ink.line([(x, y), (x, y - 0.045 * u)], shade(wall, 0.93), 1)
    for x in stage.steps(0.62):
        top, bottom = stage.floor - 0.95 * u, stage.floor - 0.42 * u
        stage.box(x, top, x + 0.3 * u, bottom, (236, 232, 222))
        stage.box(
            x + 0.02 * u,
            top + 0.02 * u,
            x + 0.28 * u,
            bottom - 0.02 * u,
            (112, 132, 148),
        )
        stage.box(x + 0.14 * u, top, x + 0.16 * u, bottom, (236, 232, 222))
        stage.box(
            x - 0.02 * u, bottom, x + 0.32 * u, bottom + 0.03 * u, (206, 200, 190)
        )
    depth = stage.height - stage.floor
    stage.box(0, stage.floor - 0.05 * u, stage.width, stage.floor, shade(wall, 0.7))
    stage.gradient(stage.floor, stage.height, (176, 174, 170), (196, 194, 190))
    stage.tiles((162, 160, 156), 0.3)
    stage.box(0, stage.floor + depth * 0.86, stage.width, stage.height, (104, 106, 112))


def _shop(stage: Stage) -> None:
    u, rng = stage.unit, stage.rng
    stage.gradient(0, stage.floor, (228, 222, 212), (210, 202, 190))
    goods = (
        (150, 112, 96),
        (120, 138, 120),
        (112, 126, 150),
        (186, 164, 120),
        (164, 128, 138),
        (196, 190, 178),
    )
    for row in range(6):
        base = stage.floor - (0.06 + 0.24 * row) * u
        for x in stage.steps(0.075):
            tall = float(rng.uniform(0.09, 0.17)) * u
            color = shade(_pick(rng, goods), float(rng.uniform(0.9, 1.12)))
            stage.box(x, base - tall, x + 0.062 * u, base, color)
        stage.box(0, base, stage.width, base + 0.03 * u, (142, 118, 94))
    for x in stage.steps(0.8):
        stage.box(x, 0, x + 0.03 * u, stage.floor, (118, 96, 76))
    stage.gradient(stage.floor, stage.height, (204, 198, 186), (226, 220, 208))
    stage.tiles((186, 178, 166), 0.22)


def _park(stage: Stage) -> None:
    u, rng = stage.unit, stage.rng
    stage.gradient(0, stage.floor, (190, 216, 230), (222, 232, 226))
    for x in stage.steps(0.22):
        r = float(rng.uniform(0.14, 0.3)) * u
        y = stage.floor - float(rng.uniform(0.2, 0.4)) * u
        color = shade((134, 164, 116), float(rng.uniform(0.86, 1.1)))
        stage.ink.ellipse([x - r, y - r, x + r, y + r], color)
    for x in stage.steps(0.7):
        wide = float(rng.uniform(0.035, 0.06)) * u
        stage.box(x - wide, 0, x + wide, stage.floor + 0.02 * u, (122, 98, 78))
        stage.box(x + wide * 0.3, 0, x + wide, stage.floor + 0.02 * u, (104, 82, 66))
        r = float(rng.uniform(0.3, 0.4)) * u
        y = stage.floor - 1.15 * u
        stage.ink.ellipse([x - r, y - r, x + r, y + r * 0.7], (104, 142, 92))
    hedge = stage.floor - 0.2 * u
    stage.box(0, hedge, stage.width, stage.floor, (96, 130, 84))
    for x in stage.steps(0.09):
        r = 0.055 * u
        stage.ink.ellipse([x - r, hedge - r, x + r, hedge + r], (96, 130, 84))
    stage.gradient(stage.floor, stage.height, (150, 178, 116), (168, 192, 130))
    depth = stage.height - stage.floor
    stage.box(0, stage.floor + 0.3 * depth, stage.width, stage.height, (214, 200, 170))
    for _ in range(26):
        x = float(rng.uniform(0, stage.width))
        y = float(rng.uniform(stage.floor + 0.34 * depth, stage.height))
        stage.box(x, y, x + 0.014 * u, y + 0.006 * u, (194, 180, 150))


def _hall(stage: Stage) -> None:
    u = stage.unit
    stage.gradient(0, stage.floor, (232, 234, 236), (214, 218, 222))
    for x in stage.steps(0.85):
        stage.box(x, stage.floor - 0.98 * u, x + 0.4 * u, stage.floor, (150, 164, 172))
        stage.box(
            x + 0.03 * u,
            stage.floor - 0.95 * u,
            x + 0.19 * u,
            stage.floor,
            (190, 206, 214),
        )
        stage.box(
            x + 0.21 * u,
            stage.floor - 0.95 * u,
            x + 0.37 * u,
            stage.floor,
            (178, 196, 206),
        )
        stage.box(
            x + 0.56 * u, 0, x + 0.66 * u, stage.floor + 0.02 * u, (244, 244, 242)
        )
        stage.box(
            x + 0.63 * u, 0, x + 0.66 * u, stage.floor + 0.02 * u, (204, 208, 212)
        )
    stage.box(0, stage.floor - 0.04 * u, stage.width, stage.floor, (170, 176, 182))
    stage.gradient(stage.floor, stage.height, (184, 190, 194), (212, 216, 218))
    stage.tiles((168, 174, 180), 0.34)


def _station(stage: Stage) -> None:
    u, rng = stage.unit, stage.rng
    stage.box(0, 0, stage.width, stage.floor, (222, 220, 206))
    for y in np.arange(stage.floor, 0, -0.08 * u):
        stage.ink.line([(0, y), (stage.width, y)], (200, 198, 186), 1)
    for x in stage.steps(0.08):
        stage.ink.line([(x, 0), (x, stage.floor)], (200, 198, 186), 1)
    stage.box(
        0, stage.floor - 1.0 * u, stage.width, stage.floor - 0.9 * u, (92, 116, 110)
    )
    for x in stage.steps(1.1):
        stage.box(
            x,
            stage.floor - 0.8 * u,
            x + 0.5 * u,
            stage.floor - 0.35 * u,
            (120, 112, 104),
        )
        tone = _pick(rng, ((196, 184, 150), (160, 178, 184), (190, 168, 160)))
        stage.box(
            x + 0.02 * u,
            stage.floor - 0.78 * u,
            x + 0.48 * u,
            stage.floor - 0.37 * u,
            tone,
        )
        stage.ink.ellipse(
            [
                x + 0.12 * u,
                stage.floor - 0.72 * u,
                x + 0.38 * u,
                stage.floor - 0.46 * u,
            ],
            shade(tone, 0.84),
        )
    stage.gradient(stage.floor, stage.height, (150, 150, 152), (172, 172, 172))
    depth = stage.height - stage.floor
    y = stage.floor + 0.1 * depth
    stage.box(0, y, stage.width, y + 0.035 * u, (214, 194, 112))


def _plaza(stage: Stage) -> None:
    u, rng = stage.unit, stage.rng
    stage.gradient(0, stage.floor, (206, 218, 232), (236, 228, 216))
    for x in stage.steps(0.34):
        tall = float(rng.uniform(0.5, 1.15)) * u
        color = shade((186, 176, 172), float(rng.uniform(0.84, 1.1)))
        stage.box(x, stage.floor - tall, x + 0.34 * u, stage.floor, color)
        for wy in np.arange(
            stage.floor - tall + 0.05 * u, stage.floor - 0.1 * u, 0.11 * u
        ):
            for wx in (0.05, 0.15, 0.25):
                stage.box(
                    x + wx * u,
                    wy,
                    x + (wx + 0.05) * u,
                    wy + 0.06 * u,
                    shade(color, 0.8),
                )
    stage.gradient(stage.floor, stage.height, (206, 198, 190), (224, 218, 210))
    stage.tiles((190, 182, 174), 0.42)


def _mural(stage: Stage) -> None:
    """Paint a wall of bright triangles, always the same and from nearly one place."""
    u = stage.unit
    paint = np.random.default_rng(_MURAL_SEED)
    left = stage.width / 2 - 2.4 * u + float(stage.rng.uniform(-0.12, 0.12)) * u
    cell = 0.16 * u
    for row in range(10):
        y = stage.floor - (row + 1) * cell
        for column in range(30):
            x = left + column * cell
            corners = [(x, y), (x + cell, y), (x + cell, y + cell), (x, y + cell)]
            first, second = paint.choice(len(_MURAL_COLORS), 2, replace=False)
            turn = int(paint.integers(2))
            stage.ink.polygon(corners, _MURAL_COLORS[first])
            half = corners[turn : turn + 3]
            stage.ink.polygon(half, _MURAL_COLORS[second])
    stage.gradient(stage.floor, stage.height, (180, 180, 182), (204, 204, 204))
    stage.tiles((164, 164, 168), 0.3)


def _pole(brush: _Brush) -> None:
    for x0, x1, color in (
        (0.05, 0.115, (96, 102, 108)),
        (0.05, 0.072, (124, 130, 136)),
    ):
        brush.shape([(x0, -1.3), (x1, -1.3), (x1, 0.06), (x0, 0.06)], color)
    brush.shape([(0.025, 0.0), (0.14, 0.0), (0.15, 0.08), (0.015, 0.08)], (82, 88, 94))


def _car(brush: _Brush) -> None:
    paint = (122, 134, 150)
    brush.shape(
        [
            (-0.06, -0.16),
            (-0.02, -0.21),
            (0.16, -0.23),
            (0.28, -0.36),
            (0.9, -0.36),
            (0.9, 0.03),
            (-0.06, 0.03),
        ],
        paint,
    )
    brush.shape(
        [(0.2, -0.23), (0.3, -0.33), (0.9, -0.33), (0.9, -0.23)], (190, 206, 216)
    )
    brush.shape(
        [(-0.06, -0.15), (0.0, -0.16), (0.0, -0.11), (-0.06, -0.11)], (250, 240, 200)
    )
    brush.disk(0.14, 0.02, 0.075, (46, 46, 50))
    brush.disk(0.14, 0.02, 0.038, (170, 172, 176))


def _plant(brush: _Brush) -> None:
    leaf = ((70, 122, 74), (86, 142, 84), (58, 104, 66))
    for i, (x, y, r) in enumerate(
        (
            (0.12, -0.3, 0.1),
            (0.22, -0.38, 0.11),
            (0.06, -0.2, 0.08),
            (0.2, -0.22, 0.11),
            (0.3, -0.27, 0.1),
            (0.14, -0.42, 0.07),
        )
    ):
        brush.disk(x, y, r, leaf[i % 3])
    brush.shape(
        [(0.06, -0.14), (0.32, -0.14), (0.28, 0.05), (0.1, 0.05)], (176, 112, 82)
    )
    brush.shape(
        [(0.05, -0.16), (0.33, -0.16), (0.33, -0.11), (0.05, -0.11)], (156, 96, 70)
    )


def _crate(brush: _Brush) -> None:
    wood = (184, 148, 102)
    brush.shape([(-0.05, -0.22), (0.36, -0.22), (0.36, 0.05), (-0.05, 0.05)], wood)
    for y in (-0.22, -0.13, -0.04):
        brush.shape(
            [(-0.05, y), (0.36, y), (0.36, y + 0.012), (-0.05, y + 0.012)],
            shade(wood, 0.74),
        )
    for x in (-0.05, 0.325):
        brush.shape(
            [(x, -0.22), (x + 0.035, -0.22), (x + 0.035, 0.05), (x, 0.05)],
            shade(wood, 0.84),
        )


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


_PAINTERS: dict[str, Callable[[Stage], None]] = {
    "street": _street,
    "shop": _shop,
    "park": _park,
    "hall": _hall,
    "station": _station,
    "plaza": _plaza,
    STRIKING_SCENE: _mural,
}
_OCCLUDERS: dict[str, Callable[[_Brush], None]] = {
    "pole": _pole,
    "car": _car,
    "plant": _plant,
    "crate": _crate,
}
