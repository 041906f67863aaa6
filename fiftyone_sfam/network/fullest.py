"""The stage of a network whose map carries the most of the similarity."""

from __future__ import annotations

from contextlib import suppress

from torch import Tensor

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.examine import carriers, examine
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.runner import NetworkRunner

# Shares that differ by less count as the same: then the later stage is taken.
_SAME_SHARE = 0.01


def fullest_layer(runner: NetworkRunner, image: Tensor) -> tuple[str, float]:
    """Return a stage and the share of an image's similarity with itself on its map.

    It is the stage whose share is nearest to 1; the name is empty if there is none. An
    image is (3, H, W).
    """
    best = "", 0.0
    for info in _stages(runner, image):
        # The network after some stage may not have a derivative.
        with suppress(ModelError):
            if runner.depends_on(image[None], info):
                share = runner.heads[info.name].share
                if abs(1 - share) < abs(1 - best[1]) + _SAME_SHARE:
                    best = info.name, share
    return best


def _stages(runner: NetworkRunner, image: Tensor) -> list[LayerInfo]:
    """List the layers that carry everything, without most of those inside a stage."""
    seen = examine(runner, image)
    carrying = carriers(runner, image, seen)
    # The last of each shape, and the last at which positions have not been mixed.
    last = {(info.shape, seen.layers[info.name].is_local): info for info in carrying}
    return [
        info
        for info in carrying
        if any(runner.module(info.name).children()) or info in last.values()
    ]
