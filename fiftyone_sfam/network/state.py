"""Change a network for the duration of a call, and leave it as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError

Precision = Literal["float32", "bfloat16", "float16"]

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Types in which the part of a network before the layer can be computed."""

# Names of the parameters that networks give to their class tokens.
_CLASS_TOKENS = frozenset({"cls_token", "class_token", "class_embedding", "cls_embed"})


def unwrapped(network: nn.Module) -> nn.Module:
    """Remove the wrappers that would run a network on other devices or compiled."""
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
            "hides its layers; give the torch.nn.Module that it was made from, or wrap "
            "it in OpaqueModel and call explain_by_masks, whose maps are not additive."
        )
    return network


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the type of a network's first floating-point parameter."""
    for tensor in network.parameters():
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.float32


def has_class_token(network: nn.Module) -> bool:
    """Return whether a network has a parameter for a class token, by its name."""
    names = {name.rpartition(".")[2] for name, _ in network.named_parameters()}
    return not names.isdisjoint(_CLASS_TOKENS)


def weights_digest(network: nn.Module) -> str:
    """Return a digest of the names, types, shapes and values of a network's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        values = value.detach().cpu().contiguous().flatten()
        if values.numel():
            digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, uncompiled, and restore it."""
    modes = [(module, module.training) for module in network.modules()]
    compiled = [
        (module, module._compiled_call_impl)
        for module in network.modules()
        if getattr(module, "_compiled_call_impl", None) is not None
    ]
    try:
        network.eval()
        for module, _ in compiled:
            # Compiled code does not run the hooks that take the maps.
            module._compiled_call_impl = None
        # The head's graph cannot be recorded in a caller's inference mode.
        with torch.inference_mode(False):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def constant_parameters(network: nn.Module) -> Iterator[None]:
    """Turn off the gradients of a network's parameters, and restore them."""
    trained = [p for p in network.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Register a forward hook, and remove it."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def lower_precision(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute the operations that torch considers safe in a lower precision."""
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        yield


def accepts_channels_last(network: Callable[[Tensor], Any], images: Tensor) -> bool:
    """Return whether a network runs on images with their channels last in memory.

    Convolutions are faster in this layout. Values and shapes stay the same, but
    ``view`` of a feature map fails, where ``reshape`` or ``flatten`` would not.
    """
    try:
        with torch.no_grad():
            network(images.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001
        return False
    return True
