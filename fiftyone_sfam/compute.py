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
    """Compute in a lower precision what torch holds to be safe in it.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    precision : {"float32", "bfloat16", "float16"}
        The type; float32 changes nothing.
    """
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        yield


def reads_rows(network: nn.Module, image: Tensor) -> bool:
    """Tell whether a network can be given images with their channels last in memory.

    Convolutions are faster so. Values and shapes stay what they are, but ``view`` of a
    feature map fails on it, where ``reshape`` or ``flatten`` would not.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    image : Tensor
        One prepared image, shape (1, 3, H, W). The network is run on it.

    Returns
    -------
    bool
        False also if the network fails for another reason: it will do so again, and
        then be heard.
    """
    try:
        with torch.no_grad():
            network(image.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001
        return False
    return True
