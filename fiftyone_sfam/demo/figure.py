"""Draws a person of the demo world, with a label for every part of the body."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from fiftyone_sfam.demo.bags import backpack, handbag, satchel
from fiftyone_sfam.demo.body import arm, collar, leg, shoe_facing, shoe_side, skirt
from fiftyone_sfam.demo.canvas import Canvas, Fill, Point, shade
from fiftyone_sfam.demo.head import (
    face_front,
    face_side,
    hair_behind,
    hair_facing,
    hair_side,
    hat,
)
from fiftyone_sfam.demo.parts import BAG, HEAD, UPPER
from fiftyone_sfam.demo.people import GARMENTS, Person
from fiftyone_sfam.demo.textiles import cloth_of, dim

VIEWS = ("front", "back", "left", "right")


@dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    ``view`` is the side that the camera sees, ``phase`` the position in the
    walking cycle (0 to 1).
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
    """How far a stride lowers the body, so that a foot stays on the ground."""
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
