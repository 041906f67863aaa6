"""The people of the demo world: their visible attributes, clothes and bags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fiftyone_sfam.demo.canvas import Canvas, Color, Fill, Point, shade
from fiftyone_sfam.errors import DataError

PARTS = ("head", "upper", "lower", "shoes", "bag")
"""Names of the part labels 1, 2, ... in a label image; 0 is background."""

HEAD, UPPER, LOWER, SHOES, BAG = range(1, 6)

SKIN: tuple[Color, ...] = (
    (250, 218, 190),
    (236, 190, 150),
    (208, 155, 112),
    (160, 108, 72),
    (104, 68, 48),
)
HAIR: tuple[Color, ...] = (
    (38, 32, 32),
    (88, 58, 38),
    (142, 92, 48),
    (222, 186, 108),
    (176, 72, 40),
    (178, 178, 182),
)
GARMENTS: dict[str, Color] = {
    "red": (204, 56, 54),
    "orange": (236, 132, 50),
    "yellow": (240, 204, 72),
    "green": (66, 146, 82),
    "teal": (44, 154, 152),
    "sky": (122, 182, 228),
    "blue": (50, 90, 186),
    "navy": (40, 52, 96),
    "purple": (126, 76, 160),
    "pink": (232, 140, 172),
    "white": (240, 240, 236),
    "gray": (146, 150, 156),
    "black": (52, 52, 58),
    "brown": (126, 86, 60),
    "beige": (214, 194, 158),
}
UPPER_COLORS = tuple(GARMENTS)
LOWER_COLORS = (
    "black",
    "navy",
    "blue",
    "gray",
    "beige",
    "brown",
    "white",
    "red",
    "green",
)
SHOE_COLORS = ("black", "white", "brown", "red", "blue", "gray")
BAG_COLORS = ("red", "orange", "yellow", "green", "teal", "blue", "black", "brown")

UPPERS = ("shirt", "sweater", "jacket", "coat")
PATTERNS = ("plain", "stripes", "bars", "checks", "dots", "logo")
LOWERS = ("trousers", "shorts", "skirt")
HAIRSTYLES = ("short", "long", "bun", "curly", "bald")
BAGS = ("none", "backpack", "shoulder bag", "handbag")
HATS = ("none", "cap", "beanie", "sun hat")

MIN_DIFFERENCE = 5.5
"""Smallest :func:`difference` between two identities of one world."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """The attributes of a person that are the same in all images.

    ``width`` and ``height`` scale the standard figure, ``waist`` its waistline.
    """

    width: float
    height: float
    waist: float
    skin: Color
    hair: Color
    hairstyle: str
    upper: str
    upper_color: str
    accent_color: str
    pattern: str
    lower: str
    lower_color: str
    shoe_color: str
    bag: str
    bag_color: str
    hat: str
    hat_color: str


def sample_person(rng: np.random.Generator) -> Person:
    """Draw one person at random."""
    upper_color = _choice(rng, UPPER_COLORS)
    accents = [c for c in UPPER_COLORS if contrast(c, upper_color) > 130]
    hats = [c for c in UPPER_COLORS if c != upper_color]
    return Person(
        width=float(rng.uniform(0.88, 1.22)),
        height=float(rng.uniform(0.9, 1.0)),
        waist=float(rng.uniform(0.8, 1.0)),
        skin=SKIN[int(rng.integers(len(SKIN)))],
        hair=HAIR[int(rng.integers(len(HAIR)))],
        hairstyle=_choice(rng, HAIRSTYLES, (0.34, 0.28, 0.14, 0.14, 0.1)),
        upper=_choice(rng, UPPERS),
        upper_color=upper_color,
        accent_color=_choice(rng, tuple(accents)),
        pattern=_choice(rng, PATTERNS, (0.32, 0.16, 0.13, 0.13, 0.13, 0.13)),
        lower=_choice(rng, LOWERS, (0.6, 0.2, 0.2)),
        lower_color=_choice(rng, tuple(c for c in LOWER_COLORS if c != upper_color)),
        shoe_color=_choice(rng, SHOE_COLORS),
        bag=_choice(rng, BAGS, (0.4, 0.25, 0.2, 0.15)),
        bag_color=_choice(rng, tuple(c for c in BAG_COLORS if c != upper_color)),
        hat=_choice(rng, HATS, (0.64, 0.14, 0.12, 0.1)),
        hat_color=_choice(rng, tuple(hats)),
    )


def sample_people(rng: np.random.Generator, count: int) -> tuple[Person, ...]:
    """Draw people at random who all look different."""
    people: list[Person] = []
    attempts = 0
    while len(people) < count:
        attempts += 1
        if attempts > 400 * count:
            raise DataError(
                f"could not draw {count} distinct people; ask for fewer identities"
            )
        candidate = sample_person(rng)
        if all(difference(candidate, p) >= MIN_DIFFERENCE for p in people):
            people.append(candidate)
    return tuple(people)


def difference(a: Person, b: Person) -> float:
    """Return how different two people look, weighted by the areas of attributes."""
    total = 3.0 * min(1.0, contrast(a.upper_color, b.upper_color) / 160)
    total += 0.5 * (a.upper != b.upper)
    if (a.pattern, a.pattern != "plain" and a.accent_color) != (
        b.pattern,
        b.pattern != "plain" and b.accent_color,
    ):
        total += 1.5
    total += 2.5 * min(1.0, contrast(a.lower_color, b.lower_color) / 160)
    total += 1.0 * (a.lower != b.lower)
    total += 1.0 * ((a.bag, a.bag_color) != (b.bag, b.bag_color))
    total += 1.0 * ((a.hat, a.hat_color) != (b.hat, b.hat_color))
    total += 0.5 * ((a.hair, a.hairstyle) != (b.hair, b.hairstyle))
    total += 0.5 * (a.skin != b.skin)
    return total


def contrast(a: str, b: str) -> float:
    """Return the Euclidean RGB distance (0 to 442) of two named garment colors."""
    return float(np.linalg.norm(np.subtract(GARMENTS[a], GARMENTS[b])))


def _choice(
    rng: np.random.Generator,
    options: tuple[str, ...],
    weights: tuple[float, ...] | None = None,
) -> str:
    return options[int(rng.choice(len(options), p=weights))]


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
    """Draw the cloth of a person's upper garment."""
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
    mask = np.zeros((cloth.picture.height, cloth.picture.width), np.uint8)
    for x in np.arange(cloth.left, cloth.right, step):
        mask[:, int(x) : int(x + step / 2)] = 128
    tone = Image.new("RGB", cloth.picture.size, accent)
    cloth.picture.paste(tone, mask=Image.fromarray(mask))


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
