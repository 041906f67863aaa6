"""The demo world: people, pictures of them, and defects planted on purpose.

A world lists its crops without drawing them. :func:`render` draws a crop; the result
does not depend on the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fiftyone_sfam.demo.people import Person, sample_people
from fiftyone_sfam.demo.scenes import STRIKING_SCENE
from fiftyone_sfam.demo.shot import (
    CAMERAS,
    Camera,
    RenderedCrop,
    Shot,
    render_shot,
    retake,
    sample_shot,
)
from fiftyone_sfam.errors import DataError

QUERY, GALLERY = "query", "gallery"

WRONG_LABEL = "wrong_label"
SPLIT_IDENTITY = "split_identity"
MERGED_IDENTITY = "merged_identity"
NEAR_DUPLICATE = "near_duplicate"
SHORTCUT = "shortcut"
DEFECTS = (WRONG_LABEL, SPLIT_IDENTITY, MERGED_IDENTITY, NEAR_DUPLICATE, SHORTCUT)


@dataclass(frozen=True)
class DefectPlan:
    """How many defects of each kind to plant."""

    wrong_labels: int = 6  # images labeled as another identity
    split_identities: int = 2  # persons whose images carry two identities
    merged_identities: int = 2  # identities that hold the images of two persons
    near_duplicates: int = 6  # query images with a near-identical twin in the gallery
    shortcut_identities: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise DataError(f"{name} must be 0 or more, not {value}")

    @classmethod
    def none(cls) -> DefectPlan:
        """Plant nothing."""
        return cls(0, 0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One image of the world, not yet drawn."""

    crop_id: str  # unique in its world
    identity: str  # the identity as labeled, right or wrong
    true_identity: str  # the identity of the person in the picture
    person: Person
    shot: Shot
    split: str  # "query" or "gallery"
    size: tuple[int, int]  # (width, height) in pixels
    defects: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()  # identities (crops, for near-duplicates) involved

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return self.shot.camera.name


@dataclass(frozen=True)
class Planted:
    """One planted defect, for comparing an audit's findings with the truth."""

    kind: str  # one of DEFECTS
    identities: tuple[str, ...]  # wrong label: as labeled, then the true one
    crops: tuple[str, ...]  # ids of the images involved


@dataclass(frozen=True)
class World:
    """A generated world."""

    seed: int
    crops: tuple[Crop, ...]
    planted: tuple[Planted, ...]
    cameras: tuple[Camera, ...]
    people: dict[str, Person] = field(repr=False)


@dataclass(frozen=True)
class _Slot:
    """An identity of the world and the people whose pictures it holds."""

    identity: str
    people: tuple[str, ...]
    role: str


def generate_world(
    seed: int = 51,
    *,
    identities: int = 40,
    images_per_identity: int = 12,
    cameras: int | Sequence[Camera] = 4,
    defects: DefectPlan | None = None,
    size: tuple[int, int] = (64, 128),
) -> World:
    """Generate a world."""
    plan = DefectPlan() if defects is None else defects
    chosen = CAMERAS[:cameras] if isinstance(cameras, int) else tuple(cameras)
    _check(identities, images_per_identity, cameras, chosen, plan)
    rng = np.random.default_rng((seed, 1))
    slots, names = _assign(identities, plan, rng)
    people = dict(zip(names, sample_people(rng, len(names)), strict=True))
    crops: list[Crop] = []
    for number, slot in enumerate(slots):
        for i in range(images_per_identity):
            crops.append(
                _crop(seed, number, slot, i, images_per_identity, people, chosen, size)
            )
    planted = _record_identity_defects(slots, crops)
    ordinary = [slot.identity for slot in slots if slot.role == "ordinary"]
    ordinary = [ordinary[i] for i in rng.permutation(len(ordinary))]
    planted += _plant_wrong_labels(crops, ordinary, plan.wrong_labels, rng)
    # Near-duplicates and wrong labels are planted in different identities.
    planted += _plant_near_duplicates(
        crops, ordinary[::-1], plan.near_duplicates, len(chosen), rng
    )
    return World(seed, tuple(crops), tuple(planted), chosen, people)


def render(crop: Crop) -> RenderedCrop:
    """Draw a crop, with its mask and part regions."""
    return render_shot(crop.person, crop.shot, crop.size)


def _check(
    identities: int,
    images: int,
    asked: int | Sequence[Camera],
    chosen: tuple[Camera, ...],
    plan: DefectPlan,
) -> None:
    if not chosen or (isinstance(asked, int) and asked > len(CAMERAS)):
        raise DataError(f"cameras must be 1 to {len(CAMERAS)}, not {asked}")
    if images < 2:
        raise DataError(f"images_per_identity must be at least 2, not {images}")
    needed = (
        2 * plan.split_identities
        + plan.merged_identities
        + plan.shortcut_identities
        + max(2 * bool(plan.wrong_labels), plan.wrong_labels + plan.near_duplicates)
    )
    if identities < max(1, needed):
        raise DataError(
            f"these defects need at least {needed} identities, not {identities}; plant "
            "fewer or ask for more identities"
        )
    if plan.near_duplicates and images <= len(chosen):
        raise DataError(
            "near-duplicates need more images per identity than cameras "
            f"({len(chosen)}), not {images}"
        )


def _assign(
    identities: int, plan: DefectPlan, rng: np.random.Generator
) -> tuple[list[_Slot], list[str]]:
    """Return every identity with its role and people, and the names of all people."""
    labels = [f"p{i + 1:03d}" for i in range(identities)]
    order = [labels[i] for i in rng.permutation(identities)]
    slots: dict[str, _Slot] = {}
    names: list[str] = []
    for _ in range(plan.split_identities):
        first, second = sorted((order.pop(), order.pop()))
        slots[first] = _Slot(first, (first,), SPLIT_IDENTITY)
        slots[second] = _Slot(second, (first,), SPLIT_IDENTITY)
        names.append(first)
    for i in range(plan.merged_identities):
        label = order.pop()
        hidden = f"p{identities + i + 1:03d}"
        slots[label] = _Slot(label, (label, hidden), MERGED_IDENTITY)
        names += [label, hidden]
    for _ in range(plan.shortcut_identities):
        label = order.pop()
        slots[label] = _Slot(label, (label,), SHORTCUT)
        names.append(label)
    for label in order:
        slots[label] = _Slot(label, (label,), "ordinary")
        names.append(label)
    return [slots[label] for label in labels], sorted(names)


def _crop(
    seed: int,
    number: int,
    slot: _Slot,
    i: int,
    images: int,
    people: dict[str, Person],
    cameras: tuple[Camera, ...],
    size: tuple[int, int],
) -> Crop:
    rng = np.random.default_rng((seed, 2, number, i))
    camera = cameras[i % len(cameras)]
    # The two people of a merged identity alternate before every camera.
    name = slot.people[(i + i // len(cameras)) % len(slot.people)]
    scene = STRIKING_SCENE if slot.role == SHORTCUT else None
    queries = max(1, min(len(cameras), images // 3))
    return Crop(
        crop_id=f"{slot.identity}_{camera.name}_{i:02d}",
        identity=slot.identity,
        true_identity=name,
        person=people[name],
        shot=sample_shot(rng, camera, scene=scene),
        split=QUERY if i < queries else GALLERY,
        size=size,
    )


def _record_identity_defects(slots: list[_Slot], crops: list[Crop]) -> list[Planted]:
    """Mark the crops of split, merged and shortcut identities."""
    planted: list[Planted] = []
    shortcuts = tuple(s.identity for s in slots if s.role == SHORTCUT)
    by_person: dict[str, list[str]] = {}
    for slot in slots:
        if slot.role == SPLIT_IDENTITY:
            by_person.setdefault(slot.people[0], []).append(slot.identity)
    for slot in slots:
        if slot.role == "ordinary":
            continue
        where = [k for k, c in enumerate(crops) if c.identity == slot.identity]
        for k in where:
            if slot.role == SPLIT_IDENTITY:
                partners = by_person[slot.people[0]]
            elif slot.role == MERGED_IDENTITY:
                partners = [n for n in slot.people if n != crops[k].true_identity]
            else:
                partners = list(shortcuts)
            others = tuple(
                p
                for p in partners
                if p != slot.identity or slot.role == MERGED_IDENTITY
            )
            crops[k] = replace(crops[k], defects=(slot.role,), partners=others)
        if slot.role != SPLIT_IDENTITY:
            merged = slot.role == MERGED_IDENTITY
            names = (slot.identity, *(slot.people if merged else ()))
            ids = tuple(crops[k].crop_id for k in where)
            planted.append(Planted(slot.role, names, ids))
    for pair in by_person.values():
        ids = tuple(c.crop_id for c in crops if c.identity in pair)
        planted.append(Planted(SPLIT_IDENTITY, tuple(pair), ids))
    return planted


def _plant_wrong_labels(
    crops: list[Crop], ordinary: list[str], count: int, rng: np.random.Generator
) -> list[Planted]:
    planted: list[Planted] = []
    images = {label: [] for label in ordinary}  # type: dict[str, list[int]]
    for k, crop in enumerate(crops):
        if crop.identity in images:
            images[crop.identity].append(k)
    for n in range(count):
        # In a ring, so that each of these identities loses one image and gains one.
        source = ordinary[n]
        target = ordinary[(n + 1) % max(2, count)]
        k = int(rng.choice(images[source]))
        crops[k] = replace(
            crops[k], identity=target, defects=(WRONG_LABEL,), partners=(source,)
        )
        planted.append(Planted(WRONG_LABEL, (target, source), (crops[k].crop_id,)))
    return planted


def _plant_near_duplicates(
    crops: list[Crop],
    ordinary: list[str],
    count: int,
    cameras: int,
    rng: np.random.Generator,
) -> list[Planted]:
    planted: list[Planted] = []
    for label in ordinary[:count]:
        where = [k for k, c in enumerate(crops) if c.identity == label]
        queries = [k for k in where if crops[k].split == QUERY]
        source = int(rng.choice(queries))
        # The twin takes the place of a gallery image of the same camera.
        twin = source + cameras
        while crops[twin].split == QUERY:
            twin += cameras
        first, second = crops[source], crops[twin]
        crops[twin] = replace(
            second,
            shot=retake(first.shot, rng),
            defects=(NEAR_DUPLICATE,),
            partners=(first.crop_id,),
        )
        crops[source] = replace(
            first, defects=(NEAR_DUPLICATE,), partners=(second.crop_id,)
        )
        planted.append(
            Planted(NEAR_DUPLICATE, (label,), (first.crop_id, second.crop_id))
        )
    return planted
