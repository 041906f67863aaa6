"""Outputs of a network's modules, and the choice of the layer that is explained."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.layouts import LayerInfo, SeenLayer

PARTIAL = (
    "carries only a part of the embedding in its last run, the one that is explained"
)
# Least number of positions at which a network with held heads is explained: a stage of
# 14 x 14 of EdgeFace is more faithful than those of 7 x 7 and 3 x 3, docs/choosing.md.
_ENOUGH_POSITIONS = 128
# Least share of an image's similarity with itself that a layer of that kind carries.
_ENOUGH_SHARE = 0.3
# Relative difference of shares that is rounding.
_ROUNDING = 1e-3


# --------------------------------------------------------------------------------------
# Outputs of modules
# --------------------------------------------------------------------------------------


def map_of(output: Any) -> Tensor | None:
    """Return the tensor in a module's output: the first one of several."""
    if isinstance(output, Tensor):
        return output
    items = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, (tuple, list, Mapping)):
        return next((item for item in items if isinstance(item, Tensor)), None)
    return None


def replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with one tensor replaced."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        duplicate: Any = copy.copy(output)
        for key, item in output.items():
            if item is old:
                duplicate[key] = new
        return duplicate
    items = [new if item is old else item for item in output]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*items)
    return type(output)(items)


# --------------------------------------------------------------------------------------
# Choosing a layer
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenModules:
    """What a network's modules returned on patched images, in the order of last calls.

    Attributes
    ----------
    shapes : mapping
        Shape of each module's last output.
    layers : mapping
        The outputs that may be maps, of the last runs.
    joined : mapping
        Layers that see mirror images or parts of the image, with their runs put
        together.
    """

    shapes: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, SeenLayer]
    joined: Mapping[str, LayerInfo]

    def resolved(self, name: str, is_all: Callable[[LayerInfo], bool]) -> SeenLayer:
        """Return a layer with the runs that carry everything, if it runs several times.

        ``is_all`` returns whether the image reaches the embedding only by those runs.
        """
        layer = self.layers[name]
        if layer.info.calls == 1 and name not in self.joined:
            return layer
        if not layer.problem:
            if is_all(layer.info):
                return layer
            layer = replace(layer, problem=PARTIAL)
        if name in self.joined and is_all(self.joined[name]):
            return SeenLayer(self.joined[name], "")
        return layer


@dataclass(frozen=True)
class HeadInfo:
    """The part of a network after a layer.

    Attributes
    ----------
    is_held : bool
        Whether anything in it is held constant.
    is_held_inside : bool
        Whether that is more than a length that the embedding is divided by.
    share : float
        Share of an image's similarity with itself that the layer's map carries.
    has_one_length : bool
        Whether all embeddings have one length all the same, so that maps are empty.
    """

    is_held: bool
    is_held_inside: bool
    share: float
    has_one_length: bool


def module_of(network: nn.Module, name: str, model: str) -> nn.Module:
    """Return a module by its name."""
    modules = dict(network.named_modules())
    if name not in modules or name == "":
        names = [key for key in modules if key]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
        hint = " or ".join(repr(key) for key in close)
        raise ModelError(
            f"model '{model}' has no layer '{name}'; "
            + (f"did you mean {hint}?" if close else "it has no modules inside.")
        )
    return modules[name]


def tapped(network: nn.Module, layer: str | None) -> tuple[nn.Module, str | None]:
    """Return a network and the module of it whose output is the requested tensor.

    ``"<name"`` requests the input of a layer, as in FiftyOne; the network is then a
    copy with an identity module in front of the layer, which shares all parameters.
    """
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
    *ancestors, last = name.split(".")
    root = parent = _shallow_copy(network)
    for part in ancestors:
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


def chosen_layer(
    seen: SeenModules,
    carrying: list[LayerInfo],
    depends_on: Callable[[LayerInfo], bool],
    is_all: Callable[[LayerInfo], bool],
    heads: Mapping[str, HeadInfo],
    network: nn.Module,
    model: str,
) -> LayerInfo:
    """Choose the layer at which the embedding is explained.

    It is the last map that carries the whole embedding, before any pooling to fewer
    positions. Two kinds of networks are explained earlier. The tokens of a transformer
    are mixed by each block, so they are taken where they enter the first one. And if
    the head after the last map holds more than a length, the last one with enough
    positions is taken, unless it carries much less of the embedding.

    ``carrying`` are the layers from whose outputs the embedding is computed; ``heads``
    has an entry for each layer that ``depends_on`` was called for.
    """
    last = next(
        (
            info
            for info in reversed(carrying)
            if (info.calls == 1 or is_all(info)) and depends_on(info)
        ),
        None,
    )
    if last is None:
        return _last_of_several(seen, depends_on, is_all, model)
    carrying = carrying[: carrying.index(last) + 1]
    local = [info for info in reversed(carrying) if seen.layers[info.name].is_local]
    if last.layout == "tokens" and local and local[0].shape[1:] == last.shape[1:]:
        return next((info for info in local if depends_on(info)), last)
    if not heads[last.name].is_held_inside:
        finer = _before_pooling(carrying, network)
        return finer if finer == last or depends_on(finer) else last
    candidates = [info for info in _fine_layers(carrying, network) if depends_on(info)]
    shares = [heads[info.name].share for info in candidates]
    most = max(shares)
    enough = min(_ENOUGH_SHARE, most - _ROUNDING * abs(most))
    return next(
        info for info, share in zip(candidates, shares, strict=True) if share >= enough
    )


def _before_pooling(carrying: list[LayerInfo], network: nn.Module) -> LayerInfo:
    """Return the last map, or the finer one that it is pooled from."""
    last = carrying[-1]
    for earlier in reversed(carrying[:-1]):
        weights = sum(p.numel() for p in network.get_submodule(last.name).parameters())
        if (
            weights > 1
            or earlier.shape[0] != last.shape[0]
            or earlier.positions <= last.positions
        ):
            break
        last = earlier
    return last


def _fine_layers(carrying: list[LayerInfo], network: nn.Module) -> list[LayerInfo]:
    """List the last layer with enough positions and, by stage, those after it."""
    fine = [info for info in carrying if info.positions >= _ENOUGH_POSITIONS]
    start = carrying.index(fine[-1]) if fine else 0
    stages: dict[tuple[int, ...], LayerInfo] = {}
    # Of the layers of one shape the last stage, and no normalization of the next one.
    for info in carrying:
        is_stage = any(network.get_submodule(info.name).children())
        if is_stage or info.shape not in stages:
            stages[info.shape] = info
    first = stages.pop(carrying[start].shape)
    return [first, *(info for info in carrying[start:] if info in stages.values())]


def _last_of_several(
    seen: SeenModules,
    depends_on: Callable[[LayerInfo], bool],
    is_all: Callable[[LayerInfo], bool],
    model: str,
) -> LayerInfo:
    """Return the last layer that the embedding depends on: none carries everything."""
    refused = None
    for name in reversed(list(seen.layers)):
        layer = seen.resolved(name, is_all)
        if depends_on(layer.info):
            if not layer.problem:
                return layer.info
            refused = refused or layer
    if refused is not None:
        raise ModelError(_refusal(refused, seen, None, model))
    raise ModelError(
        f"model '{model}' has no layer with a map of the image, of more than one "
        "position, that its embedding depends on; give the network with the part that "
        "computes its maps, or say with layer=... and layout=... where they are."
    )


def named_layer(
    name: str,
    seen: SeenModules,
    depends_on: Callable[[LayerInfo], bool],
    is_all: Callable[[LayerInfo], bool],
    choose: Callable[[], LayerInfo],
    model: str,
    *,
    is_arranged: bool,
) -> LayerInfo:
    """Check the layer that a user has named, and may have said how it is arranged.

    ``choose`` returns the layer that is explained by default, or raises.
    """
    layer = seen.resolved(name, is_all) if name in seen.layers else None
    if layer is not None and depends_on(layer.info):
        if not layer.problem or is_arranged:
            return layer.info
        raise ModelError(_refusal(layer, seen, _name_of(choose), model))
    default = _name_of(choose)
    hint = f"by default it is '{default}'" if default else "it has none"
    which = f"layer '{name}' of model '{model}'"
    shape = seen.shapes.get(name)
    if shape is None:
        problem = "did not run or returned no tensor; name one with a feature map"
    elif layer is not None:
        which = f"the embedding of model '{model}'"
        problem = (
            f"does not depend on layer '{name}', or is computed from it without a "
            "gradient, or only by what is held constant, as attention weights are; "
            "name a layer that the embedding is computed from"
        )
    else:
        problem = _not_a_map(shape, is_arranged)
    raise ModelError(f"{which} {problem} ({hint}).")


def _name_of(choose: Callable[[], LayerInfo]) -> str | None:
    """Return the name of the layer that is explained by default, if there is one."""
    try:
        return choose().name
    except ModelError:
        return None


def _not_a_map(shape: tuple[int, ...], is_arranged: bool) -> str:
    """Say that an output has not the shape of a map."""
    returned = f"returns shape {shape}, which"
    if is_arranged:
        return f"{returned} does not have the given layout"
    if len(shape) == 4:
        return "returns a map of a single position; name a layer before the pooling"
    if len(shape) == 3:
        return (
            f"{returned} cannot be read as tokens on a grid shaped like the image; say "
            "with layout='tokens' and prefix_tokens=... how it is arranged"
        )
    return f"{returned} has no positions left; name a layer before the pooling"


def _refusal(
    layer: SeenLayer, seen: SeenModules, alternative: str | None, model: str
) -> str:
    """Say why a layer cannot be explained, and name one that can."""
    info = layer.info
    runs = f", which runs {info.calls} times in a pass," if info.calls > 1 else ""
    return (
        f"layer '{info.name}' of model '{model}' with output of shape "
        f"{seen.shapes[info.name][1:]}{runs} {layer.problem}; "
        + (
            f"name another layer, say '{alternative}', or say with layout=... how this "
            "one is arranged."
            if alternative
            else "no layer that the embedding depends on has a map of the image: give "
            "the network alone, without mirror images or parts of images in a pass."
        )
    )
