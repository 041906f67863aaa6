"""Which layers of a network have maps, and which of them is explained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError


def map_of(output: Any) -> Tensor | None:
    """Return the tensor in a module's output, the first of a tuple or list."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)):
        return next((item for item in output if isinstance(item, Tensor)), None)
    return None


def replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with one tensor replaced."""
    if output is old:
        return new
    items = [new if item is old else item for item in output]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*items)
    return type(output)(items)


def embeddings_of(output: Any, batch: int, key: str | int | None, model: str) -> Tensor:
    """Pick the embeddings from what a network returned."""
    if key is not None:
        try:
            if isinstance(output, Tensor):
                # Its entries are images of the batch.
                raise TypeError("a tensor has no entries")
            output = output[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"the output of model '{model}' has no entry {key!r}; it is "
                f"{described(output)}."
            ) from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"model '{model}' returned {described(output)}; say with embedding=... "
            "which entry is the embedding."
        )
    output = output.flatten(1) if output.ndim > 2 else output
    if output.ndim != 2 or len(output) != batch:
        raise ModelError(
            f"model '{model}' returned shape {tuple(output.shape)} for a batch of "
            f"{batch}; (batch, embedding size) is needed."
        )
    return output


def described(output: Any) -> str:
    """Describe a network's output for a message."""
    if isinstance(output, Mapping):
        entries = [f"{key!r}: {described(value)}" for key, value in output.items()]
        return "a mapping of " + ", ".join(entries)
    if isinstance(output, (tuple, list)):
        entries = [f"{index}: {described(item)}" for index, item in enumerate(output)]
        return f"a {type(output).__name__} of " + ", ".join(entries)
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return type(output).__name__


# Each module's last output shape and call count, in the order in which the last calls
# ended.
SeenOutputs = Mapping[str, tuple[tuple[int, ...], int]]


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose output the embedding can be explained at.

    Attributes
    ----------
    name : str
        Name of the module, as ``network.get_submodule`` takes it.
    shape : tuple of int
        Channels, height and width of its output.
    calls : int
        How often one forward pass runs the module; the last run is the one used.
    """

    name: str
    shape: tuple[int, int, int]
    calls: int


def is_map(shape: Sequence[int]) -> bool:
    """Tell whether a shape is that of feature maps with several positions."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def layers_of(seen: SeenOutputs) -> tuple[LayerInfo, ...]:
    """Return the layers that have a feature map, in the order in which they ran."""
    return tuple(
        _layer_info(name, shape, calls)
        for name, (shape, calls) in seen.items()
        if is_map(shape)
    )


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


def last_map(
    seen: SeenOutputs,
    depends_on: Callable[[LayerInfo], bool],
    fault: Callable[[LayerInfo], str],
    model: str,
) -> LayerInfo:
    """Return the last layer with a map of the image that the embedding depends on."""
    faults: list[tuple[LayerInfo, str]] = []
    for info in reversed(layers_of(seen)):
        problem = fault(info)
        if problem:
            faults.append((info, problem))
            continue
        if not depends_on(info):
            continue
        if _becomes_tokens(info, seen):
            raise ModelError(
                f"model '{model}' turns its last feature map, that of layer "
                f"'{info.name}', into tokens, as a vision transformer does; only "
                "convolutional networks can be explained by themselves: name a "
                "layer if its map is to be explained nevertheless."
            )
        return info
    for info, problem in faults:
        if depends_on(info):
            raise ModelError(_refusal(info, problem, None, model))
    raise ModelError(
        f"model '{model}' has no layer with a feature map (batch, channels, "
        "height, width) of more than one position that its embedding depends on; "
        "only convolutional networks can be explained (a vision transformer "
        "cannot)."
    )


def named_map(
    name: str,
    seen: SeenOutputs,
    depends_on: Callable[[LayerInfo], bool],
    fault: Callable[[LayerInfo], str],
    model: str,
) -> LayerInfo:
    """Check the layer that a user has named."""
    maps = (info for info in reversed(layers_of(seen)) if not fault(info))
    last = next(maps, None)
    hint = f"the last layer with a map is '{last.name}'" if last else "it has none"
    if name not in seen:
        raise ModelError(
            f"layer '{name}' of model '{model}' did not run or returned no "
            f"tensor; name one with a feature map ({hint})."
        )
    shape, calls = seen[name]
    if len(shape) != 4:
        raise ModelError(
            f"layer '{name}' of model '{model}' returns shape {shape}, which "
            f"has no positions left; name a layer before the pooling ({hint})."
        )
    if not is_map(shape):
        raise ModelError(
            f"layer '{name}' of model '{model}' returns a map of a single "
            f"position; name a layer before the pooling ({hint})."
        )
    info = _layer_info(name, shape, calls)
    if not depends_on(info):
        raise ModelError(
            f"the embedding of model '{model}' does not depend on layer "
            f"'{name}', or is computed from it without a gradient; name a layer "
            f"that the embedding is computed from ({hint})."
        )
    problem = fault(info)
    if problem:
        raise ModelError(_refusal(info, problem, last, model))
    return info


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _layer_info(name: str, shape: tuple[int, ...], calls: int) -> LayerInfo:
    """Describe a layer whose output has the shape of feature maps."""
    _, channels, height, width = shape
    return LayerInfo(name, (channels, height, width), calls)


def _refusal(info: LayerInfo, problem: str, other: LayerInfo | None, model: str) -> str:
    """Say why a layer cannot be explained, and name one that can."""
    runs = f", which runs {info.calls} times in a pass," if info.calls > 1 else ""
    return (
        f"layer '{info.name}' of model '{model}' with output of shape {info.shape}"
        f"{runs} {problem}; "
        + (
            f"name another layer, say '{other.name}', the last with a map of the image."
            if other
            else "no layer that the embedding depends on has a map of the image: give "
            "the network alone, without mirror images or parts of images in a pass."
        )
    )


def _becomes_tokens(info: LayerInfo, seen: SeenOutputs) -> bool:
    """Tell whether a later module of a run on one image works on the map's positions.

    A patch embedding is such a map: of its channels, the transformer makes as many
    tokens as there are positions, or more.
    """
    channels, height, width = info.shape
    names = list(seen)
    later = (seen[name][0] for name in names[names.index(info.name) + 1 :])
    return any(
        len(shape) == 3
        and shape[-1] == channels
        and math.prod(shape[:-1]) >= height * width
        for shape in later
    )
