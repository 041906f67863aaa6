"""The demo world as FiftyOne datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_sfam.demo.frames import Frame, generate_frames, render_frame
from fiftyone_sfam.demo.people import PARTS
from fiftyone_sfam.demo.shot import Box
from fiftyone_sfam.demo.world import (
    NEAR_DUPLICATE,
    Crop,
    DefectPlan,
    World,
    generate_world,
    render,
)
from fiftyone_sfam.errors import DataError

Progress = Callable[[int, int], None]

_INFO = "sfam_demo"


def load_demo_dataset(
    name: str = "sfam-demo",
    seed: int = 51,
    directory: Path | str | None = None,
    *,
    identities: int = 40,
    images_per_identity: int = 12,
    cameras: int = 4,
    defects: DefectPlan | None = None,
    size: tuple[int, int] = (64, 128),
    overwrite: bool = False,
    persistent: bool = False,
    progress: Progress | None = None,
) -> fo.Dataset:
    """Load the demo world as a dataset of crops, rendering it where it is not yet.

    Every sample has

    - ``identity``, ``camera``, ``split`` (also as tag): what a re-ID dataset carries;
    - ``person``: ``fo.Segmentation``, 1 where the person is visible;
    - ``parts``: ``fo.Detections`` with masks: head, upper, lower, shoes, bag;
    - ``view`` and ``occluder``: attributes to slice by;
    - the ground truth ``true_identity``, ``planted`` (kinds of planted defects) and
      ``planted_with``: the other identities involved; for a near-duplicate the other
      sample's id.

    ``dataset.info["sfam_demo"]["planted"]`` lists the defects as dictionaries of
    ``kind``, ``identities`` and ``samples`` (ids), see
    :class:`fiftyone_sfam.demo.world.Planted`.
    """
    plan = DefectPlan() if defects is None else defects
    options = {
        "kind": "crops",
        "seed": seed,
        "identities": identities,
        "images_per_identity": images_per_identity,
        "cameras": cameras,
        "defects": asdict(plan),
        "size": list(size),
    }
    existing = _existing(name, options, overwrite, persistent)
    if existing is not None:
        return existing
    world = generate_world(
        seed,
        identities=identities,
        images_per_identity=images_per_identity,
        cameras=cameras,
        defects=plan,
        size=size,
    )
    folder = _folder(directory, name)
    samples = [_crop_sample(crop, folder) for crop in _track(world.crops, progress)]
    dataset = _new_dataset(name, persistent, options)
    dataset.add_samples(samples, dynamic=True, progress=False)
    _link_planted(dataset, world)
    dataset.mask_targets = {"person": {1: "person"}}
    dataset.app_config.active_fields = fo.core.odm.dataset.ActiveFields(
        paths=["identity", "camera"]
    )
    dataset.save()
    return dataset


def load_demo_frames_dataset(
    name: str = "sfam-demo-frames",
    seed: int = 51,
    directory: Path | str | None = None,
    *,
    frames: int = 60,
    identities: int = 14,
    size: tuple[int, int] = (640, 360),
    overwrite: bool = False,
    persistent: bool = False,
    progress: Progress | None = None,
) -> fo.Dataset:
    """Load frames of one camera of the demo world, with the people as detections.

    Every sample has ``camera``, ``frame_index`` and ``detections``: ``fo.Detections``
    labeled ``"person"``, with the attribute ``identity`` and a mask of visible pixels.
    """
    options = {
        "kind": "frames",
        "seed": seed,
        "frames": frames,
        "identities": identities,
        "size": list(size),
    }
    existing = _existing(name, options, overwrite, persistent)
    if existing is not None:
        return existing
    folder = _folder(directory, name)
    generated = generate_frames(seed, frames=frames, identities=identities, size=size)
    samples = [_frame_sample(frame, folder) for frame in _track(generated, progress)]
    dataset = _new_dataset(name, persistent, options)
    dataset.add_samples(samples, dynamic=True, progress=False)
    return dataset


def _existing(
    name: str, options: dict[str, Any], overwrite: bool, persistent: bool
) -> fo.Dataset | None:
    if overwrite or not fo.dataset_exists(name):
        return None
    dataset = fo.load_dataset(name)
    stored = (dataset.info.get(_INFO) or {}).get("options")
    if stored is None or json.loads(stored) != options:
        raise DataError(
            f"a dataset {name!r} exists and is not this demo; choose another name, or "
            "pass overwrite=True to replace it."
        )
    if persistent:
        dataset.persistent = True
    return dataset


def _folder(directory: Path | str | None, name: str) -> Path:
    base = Path(fo.config.default_dataset_dir) / name
    folder = base if directory is None else Path(directory).expanduser()
    folder = folder.resolve() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _new_dataset(name: str, persistent: bool, options: dict[str, Any]) -> fo.Dataset:
    dataset = fo.Dataset(name, persistent=persistent, overwrite=True)
    dataset.info[_INFO] = {"options": json.dumps(options)}
    dataset.save()
    return dataset


def _track(items: Sequence[Any], progress: Progress | None) -> Iterable[Any]:
    for done, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            progress(done, len(items))


def _crop_sample(crop: Crop, folder: Path) -> fo.Sample:
    rendered = render(crop)
    path = folder / f"{crop.crop_id}.png"
    rendered.image.save(path)
    labels = rendered.labels
    parts: list[fo.Detection] = []
    for part, box in rendered.parts.items():
        parts.append(_detection(part, box, labels == PARTS.index(part) + 1))
    return fo.Sample(
        filepath=str(path),
        tags=[crop.split],
        identity=crop.identity,
        camera=crop.camera,
        split=crop.split,
        view=crop.shot.pose.view,
        occluder=crop.shot.occluder or "none",
        person=fo.Segmentation(mask=rendered.mask.astype(np.uint8)),
        parts=fo.Detections(detections=parts),
        true_identity=crop.true_identity,
        planted=list(crop.defects),
    )


def _frame_sample(frame: Frame, folder: Path) -> fo.Sample:
    rendered = render_frame(frame)
    path = folder / f"frame_{frame.number:04d}.png"
    rendered.image.save(path)
    people = [
        _detection("person", person.box, person.mask, identity=person.identity)
        for person in rendered.people
    ]
    return fo.Sample(
        filepath=str(path),
        camera=frame.camera.name,
        frame_index=frame.number,
        detections=fo.Detections(detections=people),
    )


def _detection(
    label: str, box: Box, region: np.ndarray, **attributes: str
) -> fo.Detection:
    height, width = region.shape
    left, top = round(box[0] * width), round(box[1] * height)
    right = left + round(box[2] * width)
    bottom = top + round(box[3] * height)
    return fo.Detection(
        label=label,
        bounding_box=list(box),
        mask=region[top:bottom, left:right],
        **attributes,
    )


def _link_planted(dataset: fo.Dataset, world: World) -> None:
    """Store what was planted, in terms of the samples' ids."""
    ids = dataset.values("id")
    id_of = {crop.crop_id: i for crop, i in zip(world.crops, ids, strict=True)}
    partners = [
        [id_of[p] for p in crop.partners]
        if NEAR_DUPLICATE in crop.defects
        else list(crop.partners)
        for crop in world.crops
    ]
    dataset.set_values("planted_with", partners, dynamic=True)
    dataset.info[_INFO]["planted"] = [
        {
            "kind": planted.kind,
            "identities": list(planted.identities),
            "samples": [id_of[crop] for crop in planted.crops],
        }
        for planted in world.planted
    ]
    dataset.save()
