"""Draws a person of the demo world, with a label for every part of the body."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from fiftyone_sfam.demo.canvas import Canvas, Fill, Point, shade
from fiftyone_sfam.demo.people import (
    BAG,
    GARMENTS,
    HEAD,
    LOWER,
    SHOES,
    UPPER,
    Person,
    backpack,
    cloth_of,
    dim,
    handbag,
    satchel,
)


def face_front(canvas: Canvas, person: Person) -> None:
    """Draw a face seen from the front."""
    for side in (-1, 1):
        canvas.dot((side * 0.02, 0.076), 0.0065, (40, 34, 38))
    canvas.line(
        [(0, 0.084), (0.004, 0.096), (-0.002, 0.097)], 0.005, shade(person.skin, 0.76)
    )
    canvas.line([(-0.014, 0.115), (0.014, 0.115)], 0.006, shade(person.skin, 0.6))


def face_side(canvas: Canvas, person: Person) -> None:
    """Draw neck, head and face seen from the side."""
    neck = [(-0.004, 0.12), (0.0, 0.155)]
    canvas.limb(neck, [0.026, 0.028], shade(person.skin, 0.9), HEAD)
    canvas.ellipse((0.004, 0.078), (0.053, 0.066), person.skin, HEAD)
    canvas.polygon([(0.05, 0.066), (0.068, 0.09), (0.05, 0.096)], person.skin, HEAD)
    canvas.dot((0.036, 0.074), 0.0065, (40, 34, 38))
    canvas.line([(0.032, 0.112), (0.05, 0.11)], 0.006, shade(person.skin, 0.62))


def hair_behind(canvas: Canvas, person: Person) -> None:
    """Draw the hair that hangs behind a face."""
    if person.hairstyle == "long":
        canvas.limb(
            [(0, 0.07), (0, 0.17)], [0.064, 0.07], shade(person.hair, 0.8), HEAD
        )
    if person.hairstyle == "curly":
        canvas.ellipse((0, 0.07), (0.082, 0.082), shade(person.hair, 0.86), HEAD)


def hair_facing(canvas: Canvas, person: Person, front: bool) -> None:
    """Draw hair seen from the front or the back."""
    hair, style = person.hair, person.hairstyle
    if style == "bald":
        return
    if front:
        canvas.ellipse((0, 0.066), (0.058, 0.062), hair, HEAD, cut=0.4)
        if style in ("long", "curly"):
            for side in (-1, 1):
                tip = 0.15 if style == "long" else 0.1
                lock = [(side * 0.05, 0.055), (side * 0.056, tip)]
                canvas.limb(lock, [0.013, 0.012], hair, HEAD)
    else:
        canvas.ellipse((0, 0.07), (0.058, 0.066), hair, HEAD)
        if style == "long":
            canvas.limb([(0, 0.08), (0, 0.205)], [0.06, 0.066], hair, HEAD)
            for x in (-0.025, 0.02):
                canvas.line([(x, 0.09), (x * 1.3, 0.255)], 0.005, shade(hair, 0.75))
        if style == "curly":
            canvas.ellipse((0, 0.07), (0.082, 0.082), hair, HEAD)
    if style == "bun":
        canvas.ellipse((0, 0.0), (0.03, 0.027), shade(hair, 0.88), HEAD)


def hair_side(canvas: Canvas, person: Person) -> None:
    """Draw hair seen from the side."""
    hair, style = person.hair, person.hairstyle
    if style == "bald":
        return
    canvas.ellipse((-0.002, 0.062), (0.06, 0.06), hair, HEAD, cut=0.42)
    canvas.ellipse((-0.026, 0.074), (0.036, 0.058), hair, HEAD)
    if style == "long":
        canvas.limb([(-0.03, 0.07), (-0.04, 0.2)], [0.034, 0.034], hair, HEAD)
    if style == "curly":
        canvas.ellipse((-0.026, 0.062), (0.064, 0.074), hair, HEAD)
    if style == "bun":
        canvas.ellipse((-0.058, 0.03), (0.028, 0.028), shade(hair, 0.88), HEAD)


def hat(canvas: Canvas, person: Person, x: float, front: bool, side: bool) -> None:
    """Draw a hat, if the person wears one."""
    color = GARMENTS[person.hat_color]
    dark = shade(color, 0.74)
    if person.hat == "cap":
        canvas.ellipse((x, 0.055), (0.06, 0.062), color, HEAD, cut=0.5)
        if side:
            canvas.limb(
                [(x + 0.03, 0.052), (x + 0.1, 0.058)], [0.01, 0.008], dark, HEAD
            )
        elif front:
            canvas.ellipse((x, 0.054), (0.058, 0.014), dark, HEAD)
    elif person.hat == "beanie":
        canvas.ellipse((x, 0.05), (0.061, 0.07), color, HEAD, cut=0.5)
        canvas.limb([(x - 0.05, 0.05), (x + 0.05, 0.05)], [0.013, 0.013], dark, HEAD)
        canvas.ellipse((x, -0.022), (0.019, 0.019), dark, HEAD)
    elif person.hat == "sun hat":
        canvas.ellipse((x, 0.042), (0.112, 0.018), color, HEAD)
        canvas.ellipse((x, 0.036), (0.055, 0.056), color, HEAD, cut=0.52)
        canvas.limb([(x - 0.047, 0.032), (x + 0.047, 0.032)], [0.009] * 2, dark, HEAD)


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
    """Draw the collar, seen from the front."""
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


VIEWS = ("front", "back", "left", "right")


@dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    ``view`` is the side that the camera sees, ``phase`` the position in the walking
    cycle, from 0 to 1.
    """

    view: str
    phase: float


@dataclass(frozen=True)
class Figure:
    """A drawn person."""

    picture: Image.Image  # RGBA, transparent outside the person
    labels: Image.Image  # mode L, 0 outside, else the index in PARTS plus 1
    feet: tuple[int, int]  # pixel between the feet, on the ground


def draw_person(person: Person, pose: Pose, height: int) -> Figure:
    """Draw a person."""
    if pose.view not in VIEWS:
        raise ValueError(f"view must be one of {VIEWS}, not {pose.view!r}")
    size = (round(0.8 * height), round(1.12 * height))
    unit = height * person.height
    feet = (size[0] // 2, round(1.08 * height))
    origin = (feet[0], feet[1] - (1 - _sink(pose)) * unit)
    canvas = Canvas(size, unit, origin, mirror=pose.view == "left")
    cloth = cloth_of(person, size, unit, origin)
    if pose.view in ("front", "back"):
        _draw_facing(canvas, person, pose, cloth)
    else:
        _draw_side(canvas, person, pose, cloth)
    picture = canvas.picture.convert("RGBA")
    picture.putalpha(canvas.labels.point(lambda v: 255 if v else 0))
    return Figure(picture, canvas.labels, feet)


def _sink(pose: Pose) -> float:
    """Return how far a stride lowers the body, so that a foot is on the ground."""
    if pose.view in ("front", "back"):
        return 0.0
    stride = math.sin(2 * math.pi * pose.phase)
    return 0.945 - max(_side_leg(sign * stride)[-1][1] for sign in (-1, 1))


def _draw_facing(canvas: Canvas, person: Person, pose: Pose, cloth: Fill) -> None:
    w = person.width
    front = pose.view == "front"
    sway = math.sin(2 * math.pi * pose.phase)
    shoulder, hip = 0.098 * w, 0.086 * w
    if front:
        hair_behind(canvas, person)
        if person.bag == "backpack":
            backpack(canvas, person, (0.0, 0.31), 0.112 * w, 0.13)
    for side in (-1, 1):
        lift = max(0.0, side * sway)
        knee = (side * 0.05 * w, 0.72 - 0.02 * lift)
        ankle = (side * 0.047 * w, 0.945 - 0.05 * lift)
        tint = 1.0 - 0.06 * (side > 0)
        leg(canvas, person, [(side * 0.045 * w, 0.5), knee, ankle], tint)
        shoe_facing(canvas, person, ankle, side, front)
    skirt(canvas, person, hip, sway * 0.008)
    _torso_facing(canvas, person, cloth, front)
    for side in (-1, 1):
        swing = side * sway
        elbow = (side * (shoulder + 0.024), 0.345)
        wrist = (side * (shoulder + 0.026 - 0.012 * swing), 0.485 - 0.02 * swing)
        arm(canvas, person, [(side * shoulder * 0.86, 0.207), elbow, wrist], cloth)
    across = 1 if front else -1
    if person.bag == "shoulder bag":
        strap = [(-across * shoulder * 0.7, 0.165), (across * hip * 0.98, 0.47)]
        satchel(canvas, person, strap)
    if person.bag == "handbag":
        handbag(canvas, person, (across * (shoulder + 0.026), 0.5))
    canvas.limb([(0, 0.12), (0, 0.155)], [0.026, 0.029], shade(person.skin, 0.9), HEAD)
    canvas.ellipse((0, 0.078), (0.052, 0.067), person.skin, HEAD)
    if front:
        face_front(canvas, person)
    hair_facing(canvas, person, front)
    hat(canvas, person, 0.0, front, side=False)


def _torso_facing(canvas: Canvas, person: Person, cloth: Fill, front: bool) -> None:
    w = person.width
    shoulder, waist, hip = 0.098 * w, 0.083 * w * person.waist, 0.086 * w
    bottom, flare = (0.66, 1.22) if person.upper == "coat" else (0.525, 1.0)
    right = [
        (0.03, 0.15),
        (shoulder * 0.72, 0.168),
        (shoulder * 0.98, 0.198),
        (shoulder, 0.24),
        (waist, 0.36),
        (hip * flare, bottom),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    canvas.polygon(left + right, cloth, UPPER)
    canvas.darken(
        [(waist * 0.45, 0.15), (0.2, 0.15), (0.2, 0.7), (hip * 0.5, 0.7)], UPPER, 0.13
    )
    if front:
        collar(canvas, person, bottom)
    if person.bag != "backpack":
        return
    if not front:
        backpack(canvas, person, (0.0, 0.3), 0.088 * w, 0.13)
        return
    for side in (-1, 1):
        strap = [(side * shoulder * 0.62, 0.165), (side * shoulder * 0.66, 0.34)]
        canvas.limb(strap, [0.013, 0.013], GARMENTS[person.bag_color], BAG)


def _draw_side(canvas: Canvas, person: Person, pose: Pose, cloth: Fill) -> None:
    w = person.width
    stride = math.sin(2 * math.pi * pose.phase)
    hip = 0.068 * w
    arm(canvas, person, _side_arm(-stride), dim(cloth, 0.82), tint=0.82)
    for sign, tint in ((1, 0.82), (-1, 1.0)):
        joints = _side_leg(sign * stride)
        leg(canvas, person, joints, tint)
        shoe_side(canvas, person, joints[-1], tint)
    skirt(canvas, person, hip * 1.05, stride * 0.015)
    _torso_side(canvas, person, cloth)
    near = _side_arm(stride)
    arm(canvas, person, near, cloth)
    if person.bag == "handbag":
        handbag(canvas, person, (near[-1][0], near[-1][1] + 0.015))
    face_side(canvas, person)
    hair_side(canvas, person)
    hat(canvas, person, 0.004, True, side=True)


def _torso_side(canvas: Canvas, person: Person, cloth: Fill) -> None:
    depth, hip = 0.066 * person.width, 0.068 * person.width
    if person.bag == "backpack":
        backpack(canvas, person, (-depth - 0.045, 0.3), 0.056, 0.125)
    bottom, flare = (0.66, 1.3) if person.upper == "coat" else (0.525, 1.0)
    torso = [
        (-0.028, 0.15),
        (-depth * 0.9, 0.185),
        (-depth * 1.02, 0.28),
        (-hip * 0.95, 0.4),
        (-hip * flare, bottom),
        (hip * flare, bottom),
        (hip * 0.9, 0.4),
        (depth * 1.05, 0.27),
        (depth * 0.8, 0.185),
        (0.028, 0.15),
    ]
    canvas.polygon(torso, cloth, UPPER)
    back = [(-0.2, 0.15), (-depth * 0.3, 0.15), (-hip * 0.35, 0.7), (-0.2, 0.7)]
    canvas.darken(back, UPPER, 0.13)
    if person.bag == "backpack":
        strap = [(-depth * 0.2, 0.165), (depth * 0.55, 0.25), (-depth * 0.4, 0.37)]
        canvas.limb(strap, [0.012] * 3, GARMENTS[person.bag_color], BAG)
    if person.bag == "shoulder bag":
        satchel(canvas, person, [(0.01, 0.165), (-0.02, 0.48)])


def _side_leg(stride: float) -> list[Point]:
    thigh = math.radians(24) * stride
    # The trailing leg bends at the knee, the leading one is nearly straight.
    shin = thigh - math.radians(26) * max(0.0, -stride) - math.radians(3)
    knee = (0.23 * math.sin(thigh), 0.5 + 0.23 * math.cos(thigh))
    ankle = (knee[0] + 0.215 * math.sin(shin), knee[1] + 0.215 * math.cos(shin))
    return [(0.0, 0.5), knee, ankle]


def _side_arm(stride: float) -> list[Point]:
    upper = math.radians(22) * stride
    fore = upper + math.radians(14)
    elbow = (0.15 * math.sin(upper), 0.2 + 0.15 * math.cos(upper))
    wrist = (elbow[0] + 0.145 * math.sin(fore), elbow[1] + 0.145 * math.cos(fore))
    return [(0.0, 0.2), elbow, wrist]
