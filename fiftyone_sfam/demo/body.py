"""Draws the limbs and clothes of a person, piece by piece."""

from __future__ import annotations

from fiftyone_sfam.demo.canvas import Canvas, Fill, Point, shade
from fiftyone_sfam.demo.parts import LOWER, SHOES, UPPER
from fiftyone_sfam.demo.people import GARMENTS, Person


def leg(canvas: Canvas, person: Person, joints: list[Point], tint: float) -> None:
    """Draw a leg from hip over knee to ankle; ``tint`` below 1 darkens a far one."""
    w = person.width
    skin = shade(person.skin, tint)
    cloth = shade(GARMENTS[person.lower_color], tint)
    widths = [0.045 * w, 0.037 * w, 0.028 * w]
    if person.lower == "trousers":
        canvas.limb(joints, widths, cloth, LOWER)
        return
    canvas.limb(joints, [0.04 * w, 0.031 * w, 0.021 * w], skin, LOWER)
    if person.lower == "shorts":
        canvas.limb(joints[:2], [0.047 * w, 0.044 * w], cloth, LOWER)


def skirt(canvas: Canvas, person: Person, hip: float, swing: float) -> None:
    """Draw a skirt, or else the trousers' top."""
    color = GARMENTS[person.lower_color]
    if person.lower == "skirt":
        hem = hip * 1.5
        canvas.polygon(
            [
                (-hip * 0.9, 0.45),
                (-hem + swing, 0.715),
                (hem + swing, 0.715),
                (hip * 0.9, 0.45),
            ],
            color,
            LOWER,
        )
        for x in (-0.4, 0.05, 0.5):
            fold = [(x * hip * 0.8, 0.54), (x * hem + swing, 0.71)]
            canvas.line(fold, 0.006, shade(color, 0.84))
    else:
        canvas.polygon(
            [(-hip, 0.46), (-hip, 0.54), (0, 0.575), (hip, 0.54), (hip, 0.46)],
            color,
            LOWER,
        )


def shoe_facing(
    canvas: Canvas, person: Person, ankle: Point, side: int, front: bool
) -> None:
    """Draw a shoe seen from the front or the back."""
    x, y = ankle
    color = GARMENTS[person.shoe_color]
    drop = 0.022 if front else 0.014
    canvas.ellipse((x + side * 0.006, y + drop), (0.033, 0.03), color, SHOES)
    sole = [(x + side * 0.006 - 0.028, y + drop + 0.026)]
    sole.append((x + side * 0.006 + 0.028, y + drop + 0.026))
    canvas.line(sole, 0.008, shade(color, 0.6))


def shoe_side(canvas: Canvas, person: Person, ankle: Point, tint: float) -> None:
    """Draw a shoe seen from the side."""
    x, y = ankle
    color = shade(GARMENTS[person.shoe_color], tint)
    canvas.limb(
        [(x - 0.004, y + 0.012), (x + 0.045, y + 0.026)], [0.028, 0.017], color, SHOES
    )
    canvas.line(
        [(x - 0.026, y + 0.04), (x + 0.06, y + 0.042)], 0.008, shade(color, 0.6)
    )


def arm(
    canvas: Canvas,
    person: Person,
    joints: list[Point],
    cloth: Fill,
    tint: float = 1.0,
) -> None:
    """Draw an arm from shoulder over elbow to wrist, in a sleeve of ``cloth``."""
    w = person.width
    edge = shade(GARMENTS[person.upper_color], 0.72 * tint)
    skin = shade(person.skin, tint)
    wide = 1.12 if person.upper in ("coat", "jacket") else 1.0
    widths = [0.033 * w * wide, 0.028 * w * wide, 0.023 * w * wide]
    shoulder, elbow, wrist = joints
    hand = (wrist[0] * 1.0, wrist[1] + 0.022)
    if person.upper == "shirt":
        canvas.limb([elbow, wrist], [0.021 * w, 0.016 * w], skin, UPPER)
        canvas.ellipse(hand, (0.02, 0.025), skin, UPPER)
        canvas.limb([shoulder, elbow], [widths[0] * 1.12, 0.03 * w], edge, UPPER)
        canvas.limb([shoulder, elbow], [widths[0], 0.026 * w], cloth, UPPER)
        return
    canvas.ellipse(hand, (0.02, 0.025), skin, UPPER)
    canvas.limb(joints, [v + 0.004 for v in widths], edge, UPPER)
    canvas.limb(joints, widths, cloth, UPPER)


def collar(canvas: Canvas, person: Person, bottom: float) -> None:
    """Draw what is open at the neck, seen from the front."""
    color = GARMENTS[person.upper_color]
    if person.upper in ("jacket", "coat"):
        inner = (236, 234, 228) if person.upper_color != "white" else (120, 124, 132)
        canvas.polygon([(-0.028, 0.15), (0.0, 0.29), (0.028, 0.15)], inner, UPPER)
        for side in (-1, 1):
            lapel = [(side * 0.032, 0.152), (0.0, 0.295)]
            canvas.line(lapel, 0.012, shade(color, 0.68))
        canvas.line([(0, 0.295), (0, bottom)], 0.007, shade(color, 0.66))
    else:
        canvas.ellipse((0, 0.152), (0.034, 0.02), shade(color, 0.74), UPPER)
