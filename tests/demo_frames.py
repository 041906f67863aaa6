"""Frames of one camera of the demo world, with several people in each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fiftyone as fo
import numpy as np
from PIL import Image

from fiftyone_sfam.demo.figure import VIEWS, Pose
from fiftyone_sfam.demo.people import Person
from fiftyone_sfam.demo.scenes import draw_scene
from fiftyone_sfam.demo.shot import (
    CAMERAS,
    Box,
    Camera,
    bounding_box,
    expose,
    place_person,
)
from fiftyone_sfam.demo.world import DefectPlan, generate_world

# The wall stands this far down the frame, and lines of depth meet at the horizon.
_FLOOR, _HORIZON = 0.62, 0.3
# A person must show at least this share of itself to be annotated.
_MIN_VISIBLE = 0.35
_SUPERSAMPLING = 2
_MARGIN = 1.08


@dataclass(frozen=True)
class Actor:
    """A person in a frame; ``x`` and ``y`` place the feet, as shares of the frame."""

    identity: str
    person: Person
    pose: Pose
    x: float
    y: float


@dataclass(frozen=True)
class Frame:
    """One frame, not yet drawn; ``actors`` stand from far to near."""

    number: int
    camera: Camera
    scene: str
    scene_seed: int
    noise_seed: int
    actors: tuple[Actor, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class VisiblePerson:
    """A person as annotated in a rendered frame."""

    identity: str
    box: Box  # left, top, width, height as shares of the frame
    mask: np.ndarray  # (height, width) bool of the whole frame: visible pixels


@dataclass(frozen=True)
class RenderedFrame:
    """An RGB picture and the people that can be seen in it."""

    image: Image.Image
    people: tuple[VisiblePerson, ...]


def generate_frames(
    seed: int = 51,
    *,
    frames: int = 60,
    identities: int = 14,
    camera: Camera = CAMERAS[0],
    size: tuple[int, int] = (640, 360),
) -> tuple[Frame, ...]:
    """Generate the frames of one camera."""
    world = generate_world(
        seed, identities=identities, images_per_identity=2, defects=DefectPlan.none()
    )
    names = sorted(world.people)
    result = []
    for number in range(frames):
        rng = np.random.default_rng((seed, 3, number))
        count = int(rng.choice((1, 2, 3, 4), p=(0.2, 0.35, 0.3, 0.15)))
        chosen = rng.choice(len(names), count, replace=False)
        lanes = (np.arange(count) + rng.uniform(0.25, 0.75, count)) / count
        actors = [
            Actor(
                identity=names[person],
                person=world.people[names[person]],
                pose=Pose(VIEWS[int(rng.integers(4))], float(rng.uniform())),
                x=0.06 + 0.88 * float(lane),
                y=float(rng.uniform(0.74, 0.96)),
            )
            for person, lane in zip(chosen, lanes, strict=True)
        ]
        result.append(
            Frame(
                number=number,
                camera=camera,
                scene=camera.scenes[0],
                scene_seed=seed,
                noise_seed=int(rng.integers(2**31)),
                actors=tuple(sorted(actors, key=lambda actor: actor.y)),
                size=size,
            )
        )
    return tuple(result)


def load_demo_frames(
    name: str, seed: int, folder: Path, *, frames: int, identities: int
) -> fo.Dataset:
    """Frames as a dataset, with the people as ``detections`` that have identities."""
    dataset = fo.Dataset(name)
    samples = []
    for frame in generate_frames(seed, frames=frames, identities=identities):
        rendered = render_frame(frame)
        path = folder / f"frame_{frame.number:04d}.png"
        rendered.image.save(path)
        samples.append(
            fo.Sample(
                filepath=str(path),
                camera=frame.camera.name,
                frame_index=frame.number,
                detections=fo.Detections(
                    detections=[_detection(person) for person in rendered.people]
                ),
            )
        )
    dataset.add_samples(samples, dynamic=True, progress=False)
    return dataset


def _detection(person: VisiblePerson) -> fo.Detection:
    height, width = person.mask.shape
    left, top = round(person.box[0] * width), round(person.box[1] * height)
    right = left + round(person.box[2] * width)
    bottom = top + round(person.box[3] * height)
    return fo.Detection(
        label="person",
        bounding_box=list(person.box),
        mask=person.mask[top:bottom, left:right],
        identity=person.identity,
    )


def render_frame(frame: Frame) -> RenderedFrame:
    """Draw a frame; the same frame always gives the same pixels."""
    width, height = (side * _SUPERSAMPLING for side in frame.size)
    depth = 0.5 / (_FLOOR - _HORIZON)
    picture = draw_scene(
        frame.scene,
        (width, height),
        floor=_FLOOR * height,
        unit=0.5 * height,
        rng=np.random.default_rng(frame.scene_seed),
    )
    # Of each pixel the number of the actor that is seen, from 1; 0 is background.
    labels = np.zeros((height, width), np.uint8)
    drawn = []
    for number, actor in enumerate(frame.actors, start=1):
        parts = Image.new("L", (width, height))
        place_person(
            picture,
            parts,
            actor.person,
            actor.pose,
            (actor.x * width, actor.y * height),
            (actor.y - _HORIZON) * depth * height * 0.62,
        )
        region = np.asarray(parts) > 0
        labels[region] = number
        drawn.append(int(region.sum()))
    resized = Image.fromarray(labels).resize(frame.size, Image.Resampling.NEAREST)
    marks = np.asarray(resized)
    image = picture.resize(frame.size, Image.Resampling.BOX)
    image = expose(frame.camera, image, np.random.default_rng(frame.noise_seed))
    people = []
    for number, actor in enumerate(frame.actors, start=1):
        mask = marks == number
        if mask.sum() * _SUPERSAMPLING**2 >= _MIN_VISIBLE * drawn[number - 1]:
            box = _detector_box(bounding_box(mask), frame.size)
            people.append(VisiblePerson(actor.identity, box, mask))
    return RenderedFrame(image, tuple(people))


def _detector_box(tight: Box, size: tuple[int, int]) -> Box:
    """Widen a tight box to a crop's aspect, within the frame."""
    left, top, width, height = tight
    tall = height * _MARGIN
    wide = max(width * _MARGIN, 0.5 * tall * size[1] / size[0])
    x0, x1 = left + width / 2 - wide / 2, left + width / 2 + wide / 2
    y0, y1 = top + height / 2 - tall / 2, top + height / 2 + tall / 2
    # Whole pixels, so that a mask cut out by the box fits it exactly.
    x0, x1 = (round(min(1.0, max(0.0, x)) * size[0]) / size[0] for x in (x0, x1))
    y0, y1 = (round(min(1.0, max(0.0, y)) * size[1]) / size[1] for y in (y0, y1))
    return (x0, y0, x1 - x0, y1 - y0)
