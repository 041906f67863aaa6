"""Give the input of a layer a name of its own.

FiftyOne's zoo takes embeddings where they enter the classifier and writes that place as
``<fc``: the input of ``fc``. An
:class:`~fiftyone_sfam.network.embedder.EmbeddingModel` takes
embeddings from a module's output; so a copy of the network gets a module there.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

from torch import nn

from fiftyone_sfam.errors import ModelError


def tapped(network: nn.Module, layer: str | None) -> tuple[nn.Module, str | None]:
    """Return a network in which the output of a module is the tensor that is asked for."""
    if layer is None:
        return network, None
    name = layer.removeprefix("<")
    if name not in dict(network.named_modules()) or not name:
        raise ModelError(
            f"the network {type(network).__name__} has no layer {name!r} to take the "
            "embedding from."
        )
    if name == layer:
        return network, layer
    *way, last = name.split(".")
    root = parent = _shallow_copy(network)
    for part in way:
        child = _shallow_copy(parent.get_submodule(part))
        parent._modules[part] = child
        parent = child
    inner = parent.get_submodule(last)
    parent._modules[last] = nn.Sequential(
        OrderedDict([("input", nn.Identity()), ("layer", inner)])
    )
    return root, f"{name}.input"


def _shallow_copy(module: nn.Module) -> nn.Module:
    """Copy a module but share its parameters, buffers and submodules."""
    duplicate = copy.copy(module)
    duplicate._modules = dict(module._modules)
    return duplicate
