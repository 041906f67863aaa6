"""The demo world as a FiftyOne dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_sfam.demo.people import PARTS
from fiftyone_sfam.demo.shot import SCENE_PARTS
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
    """Load the demo world as a dataset of crops, rendered if it does not exist.

    Every sample has these fields:

    - ``identity``, ``camera`` and ``split`` (also a tag), as in a re-ID dataset;
    - ``person``: ``fo.Segmentation``, 1 where the person is visible;
    - ``scene``: ``fo.Segmentation`` of person, wall and ground;
    - ``parts``: ``fo.Detections`` with masks: head, upper, lower, shoes, bag;
    - ``view`` and ``occluder``: attributes to slice by;
    - the ground truth ``true_identity``, ``planted`` (kinds of planted defects) and
      ``planted_with``: the other identities involved, or the other sample's id for a
      near-duplicate.

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
    if fo.dataset_exists(name) and not overwrite:
        return _existing(name, options, persistent)
    world = generate_world(
        seed,
        identities=identities,
        images_per_identity=images_per_identity,
        cameras=cameras,
        defects=plan,
        size=size,
    )
    base = Path(fo.config.default_dataset_dir) / name
    folder = base if directory is None else Path(directory).expanduser()
    folder = folder.resolve() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for crop in world.crops:
        samples.append(_crop_sample(crop, folder))
        if progress is not None:
            progress(len(samples), len(world.crops))
    dataset = fo.Dataset(name, persistent=persistent, overwrite=True)
    dataset.info[_INFO] = {"options": json.dumps(options)}
    dataset.add_samples(samples, dynamic=True, progress=False)
    _link_planted(dataset, world)
    dataset.mask_targets = {
        "person": {1: "person"},
        "scene": dict(enumerate(SCENE_PARTS, start=1)),
    }
    dataset.app_config.active_fields = fo.core.odm.dataset.ActiveFields(
        paths=["identity", "camera"]
    )
    dataset.save()
    return dataset


def _existing(name: str, options: dict[str, Any], persistent: bool) -> fo.Dataset:
    """Load the dataset of that name if it is this demo."""
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


def _crop_sample(crop: Crop, folder: Path) -> fo.Sample:
    rendered = render(crop)
    path = folder / f"{crop.crop_id}.png"
    rendered.image.save(path)
    height, width = rendered.labels.shape
    parts: list[fo.Detection] = []
    for part, box in rendered.parts.items():
        left, top = round(box[0] * width), round(box[1] * height)
        right = left + round(box[2] * width)
        bottom = top + round(box[3] * height)
        region = rendered.labels == PARTS.index(part) + 1
        mask = region[top:bottom, left:right]
        parts.append(fo.Detection(label=part, bounding_box=list(box), mask=mask))
    return fo.Sample(
        filepath=str(path),
        tags=[crop.split],
        identity=crop.identity,
        camera=crop.camera,
        split=crop.split,
        view=crop.shot.pose.view,
        occluder=crop.shot.occluder or "none",
        person=fo.Segmentation(mask=rendered.mask.astype(np.uint8)),
        scene=fo.Segmentation(mask=rendered.scene),
        parts=fo.Detections(detections=parts),
        true_identity=crop.true_identity,
        planted=list(crop.defects),
    )


def _link_planted(dataset: fo.Dataset, world: World) -> None:
    """Store the planted defects with the ids of their samples."""
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
