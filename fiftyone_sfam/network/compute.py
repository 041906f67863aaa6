"""How a network is run: in which precision, and in which order of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16", "float16"]

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Types in which the part of a network before the layer can be computed."""


@contextmanager
def lower_precision(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in a lower precision what torch holds to be safe in it."""
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        yield


def reads_rows(network: nn.Module, images: Tensor) -> bool:
    """Tell whether a network can be given images with their channels last in memory.

    Convolutions are faster so. Values and shapes stay what they are, but ``view`` of a
    feature map fails on it, where ``reshape`` or ``flatten`` would not.
    """
    try:
        with torch.no_grad():
            network(images.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001
        return False
    return True
