"""Change a network for the time of a call, and leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError


def unwrapped(network: nn.Module) -> nn.Module:
    """Take off the wrappers that would run a network elsewhere or compiled."""
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"the network is {type(network).__name__}; a torch.nn.Module is needed."
        )
    while True:
        compiled = getattr(network, "_orig_mod", None)
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(compiled, nn.Module):
            network = compiled
        else:
            break
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            f"the network {network.original_name} is compiled by TorchScript, which "
            "hides its layers; give the torch.nn.Module that it was made of."
        )
    return network


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, uncompiled, and back again."""
    modes = [(module, module.training) for module in network.modules()]
    compiled = [
        (module, module._compiled_call_impl)
        for module in network.modules()
        if getattr(module, "_compiled_call_impl", None) is not None
    ]
    try:
        network.eval()
        for module, _ in compiled:
            # Compiled code knows nothing of the hooks that take the maps.
            module._compiled_call_impl = None
        # A caller's inference mode would forbid to record the head's graph.
        with torch.inference_mode(False):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def constant_parameters(network: nn.Module) -> Iterator[None]:
    """Let no parameter of a network ask for a gradient for the time being."""
    trained = [one for one in network.parameters() if one.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Register a forward hook and remove it again, whatever happens."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


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
