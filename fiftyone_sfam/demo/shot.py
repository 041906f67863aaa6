"""One picture of one person: its camera and circumstances, and its rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fiftyone_sfam.demo.figure import VIEWS, Pose, draw_person
from fiftyone_sfam.demo.people import PARTS, Person
from fiftyone_sfam.demo.scenes import OCCLUDERS, draw_occluder, draw_scene


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera, its places and its picture quality."""

    name: str
    scenes: tuple[str, ...]  # places that it shows
    gain: float = 1.0  # brightness
    contrast: float = 1.0  # spread around middle gray
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of red, green and blue
    blur: float = 0.0  # radius of a Gaussian, as a share of the picture's height
    noise: float = 2.0  # standard deviation, in gray levels
    detail: float = 1.0  # resolution, as a share of the picture's
    scale: tuple[float, float] = (0.86, 0.94)  # least and largest person, in heights
    shift: float = 0.05  # largest shift of a person, in widths


CAMERAS: tuple[Camera, ...] = (
    Camera(name="c1", scenes=("street", "plaza"), gain=1.04, contrast=1.05, noise=1.5),
    Camera(
        name="c2",
        scenes=("shop", "hall"),
        gain=0.95,
        cast=(1.07, 1.0, 0.89),
        blur=0.0035,
        scale=(0.84, 0.96),
    ),
    Camera(
        name="c3",
        scenes=("park", "street"),
        gain=1.0,
        cast=(0.93, 1.0, 1.08),
        noise=3.5,
        detail=0.75,
        scale=(0.8, 0.9),
    ),
    Camera(
        name="c4",
        scenes=("station", "hall"),
        gain=0.82,
        contrast=0.88,
        cast=(0.97, 1.04, 0.98),
        noise=4.0,
        scale=(0.9, 1.02),
        shift=0.08,
    ),
    Camera(name="c5", scenes=("plaza", "park"), gain=1.14, contrast=0.9, blur=0.002),
    Camera(
        name="c6",
        scenes=("shop", "station"),
        gain=0.88,
        contrast=1.1,
        cast=(1.05, 0.97, 0.97),
        detail=0.6,
        noise=3.0,
        shift=0.07,
    ),
)


def expose(
    camera: Camera, image: Image.Image, rng: np.random.Generator, *, gain: float = 1.0
) -> Image.Image:
    """Apply a camera's resolution, blur, colors and noise to a picture."""
    if camera.detail < 1:
        coarse = (
            max(1, round(image.width * camera.detail)),
            max(1, round(image.height * camera.detail)),
        )
        image = image.resize(coarse, Image.Resampling.BILINEAR).resize(
            image.size, Image.Resampling.BICUBIC
        )
    if camera.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(camera.blur * image.height))
    pixels: np.ndarray = np.asarray(image, np.float32)
    pixels = (pixels - 128) * np.float32(camera.contrast) + 128
    pixels = (
        pixels * np.asarray(camera.cast, np.float32) * np.float32(camera.gain * gain)
    )
    # Sensor noise: grain that all channels share, and a little per channel.
    grain = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    color = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels = pixels + np.float32(camera.noise) * (0.8 * grain + 0.6 * color)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


Box = tuple[float, float, float, float]

SCENE_PARTS = ("person", "wall", "ground")
"""Names of the labels 1, 2, 3 of a scene; an object before the person is no person."""

_MIN_PART_PIXELS = 4
# Least height of the canvas, on which is drawn without antialiasing.
_CANVAS_HEIGHT = 512
_FEET = 0.965
# From the feet of a person to the top of the floor, in person heights.
_FLOOR = 0.11


@dataclass(frozen=True)
class Retake:
    """How a near-identical copy of a finished picture is made.

    ``inset`` has the margins that are cut off at the left, top, right and bottom, as
    shares of the picture, which is then resized back; ``gain`` scales the brightness.
    """

    inset: Box
    gain: float


@dataclass(frozen=True, kw_only=True)
class Shot:
    """The circumstances of a picture: all of it except the person."""

    camera: Camera
    scene: str
    pose: Pose
    scale: float
    offset: float  # shift of the person to the right, in crop widths
    occluder: str | None
    side: int  # side of the occluder, -1 (left) or 1 (right)
    gain: float  # brightness of this picture
    seed: int  # seeds the background and the noise
    retake: Retake | None = None


@dataclass(frozen=True)
class RenderedCrop:
    """A picture with its ground truth."""

    image: Image.Image  # RGB
    labels: np.ndarray  # (height, width) uint8, indices in PARTS plus 1
    floor: float  # where the wall meets the ground, as a share of the height

    @cached_property
    def mask(self) -> np.ndarray:
        """``(height, width)`` bool: the visible person."""
        return self.labels > 0

    @cached_property
    def scene(self) -> np.ndarray:
        """``(height, width)`` uint8, indices in SCENE_PARTS plus 1."""
        height = len(self.labels)
        ground = (np.arange(height) + 0.5) / height > self.floor
        behind = np.where(ground, 3, 2)[:, None]
        return np.where(self.mask, 1, behind).astype(np.uint8)

    @cached_property
    def parts(self) -> dict[str, Box]:
        """Box of each visible part: left, top, width, height, as shares of the crop."""
        return part_boxes(self.labels)


def sample_shot(
    rng: np.random.Generator, camera: Camera, *, scene: str | None = None
) -> Shot:
    """Draw the circumstances of one picture at random."""
    place = camera.scenes[int(rng.integers(len(camera.scenes)))]
    view = VIEWS[int(rng.choice(4, p=(0.32, 0.24, 0.22, 0.22)))]
    occluder = OCCLUDERS[int(rng.integers(len(OCCLUDERS)))]
    return Shot(
        camera=camera,
        scene=place if scene is None else scene,
        pose=Pose(view, float(rng.uniform())),
        scale=float(rng.uniform(*camera.scale)),
        offset=float(rng.uniform(-camera.shift, camera.shift)),
        occluder=occluder if rng.uniform() < 0.12 else None,
        side=int(rng.choice((-1, 1))),
        gain=float(rng.uniform(0.94, 1.06)),
        seed=int(rng.integers(2**31)),
    )


def retake(shot: Shot, rng: np.random.Generator) -> Shot:
    """Crop a picture by up to 0.6 % per side and scale its brightness by up to 4 %."""
    inset = rng.uniform(0.0, 0.006, 4)
    gain = 1 + float(rng.choice((-1, 1))) * float(rng.uniform(0.01, 0.04))
    box = (float(inset[0]), float(inset[1]), float(inset[2]), float(inset[3]))
    return replace(shot, retake=Retake(box, gain))


def render_shot(person: Person, shot: Shot, size: tuple[int, int]) -> RenderedCrop:
    """Render a picture; the same arguments always give the same pixels."""
    rng = np.random.default_rng(shot.seed)
    factor = max(2, round(_CANVAS_HEIGHT / size[1]))
    width, height = size[0] * factor, size[1] * factor
    unit = shot.scale * height
    ground = _FEET * height
    center = (0.5 + shot.offset) * width
    floor = ground - _FLOOR * unit
    picture = draw_scene(shot.scene, (width, height), floor=floor, unit=unit, rng=rng)
    floor /= height
    labels = Image.new("L", (width, height))
    place_person(picture, labels, person, shot.pose, (center, ground), unit)
    if shot.occluder is not None:
        draw_occluder(
            shot.occluder,
            picture,
            labels,
            center=center,
            ground=ground,
            unit=unit,
            side=shot.side,
        )
    image = picture.resize(size, Image.Resampling.BOX)
    image = expose(shot.camera, image, rng, gain=shot.gain)
    if shot.retake is not None:
        image, labels = _cut_again(image, labels, shot.retake)
        _, top, _, bottom = shot.retake.inset
        floor = (floor - top) / (1 - top - bottom)
    labels = labels.resize(size, Image.Resampling.NEAREST)
    return RenderedCrop(image, np.asarray(labels), floor)


def place_person(
    picture: Image.Image,
    labels: Image.Image,
    person: Person,
    pose: Pose,
    feet: tuple[float, float],
    unit: float,
) -> None:
    """Draw a person and its shadow into a picture and its label image."""
    figure = draw_person(person, pose, round(unit))
    x, y = round(feet[0]), round(feet[1])
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse(
        [x - 0.17 * unit, y - 0.035 * unit, x + 0.17 * unit, y + 0.025 * unit], 70
    )
    picture.paste((30, 30, 40), mask=shadow)
    corner = (x - figure.feet[0], y - figure.feet[1])
    mask = figure.picture.getchannel("A")
    picture.paste(figure.picture, corner, mask)
    labels.paste(figure.labels, corner, mask)


def _cut_again(
    image: Image.Image, labels: Image.Image, retake: Retake
) -> tuple[Image.Image, Image.Image]:
    left, top, right, bottom = retake.inset

    def inner(size: tuple[int, int]) -> Box:
        width, height = size
        return (
            left * width,
            top * height,
            (1 - right) * width,
            (1 - bottom) * height,
        )

    cut = image.resize(image.size, Image.Resampling.BICUBIC, box=inner(image.size))
    pixels = np.asarray(cut, np.float32) * np.float32(retake.gain)
    cut = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    marks = labels.resize(labels.size, Image.Resampling.NEAREST, box=inner(labels.size))
    return cut, marks


def part_boxes(labels: np.ndarray) -> dict[str, Box]:
    """Return boxes around the parts of a label image."""
    boxes: dict[str, Box] = {}
    for value, name in enumerate(PARTS, start=1):
        region = labels == value
        if int(region.sum()) >= _MIN_PART_PIXELS:
            boxes[name] = bounding_box(region)
    return boxes


def bounding_box(region: np.ndarray) -> Box:
    """Return left, top, width and height of a region that is not empty, as shares."""
    height, width = region.shape
    rows = np.flatnonzero(region.any(axis=1))
    columns = np.flatnonzero(region.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return (
        left / width,
        top / height,
        (right - left) / width,
        (bottom - top) / height,
    )
