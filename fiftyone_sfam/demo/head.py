"""Draws a person's head: face, hair and hat."""

from __future__ import annotations

from fiftyone_sfam.demo.canvas import Canvas, shade
from fiftyone_sfam.demo.parts import HEAD
from fiftyone_sfam.demo.people import GARMENTS, Person


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
