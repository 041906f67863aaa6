"""Which layers of a network have maps of the image, and which one is explained.

A tensor of four dimensions need not be a map of the image: it may be the attention
matrix of a transformer, a map with its channels last, or a map of a mirror image or of
a part of the image. So each quarter of an image is replaced by noise in turn, and the
positions of the layer's output that change must follow it.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError

# Least agreement of a map. The last layers of the measured networks have 0.42 to 1.0,
# mirror images and other layouts at most 0.2. Coarse maps, where each position sees the
# whole image, may have any value below; on enlarged images they have 0.6 or more.
_LEAST = 0.35
# Share of the largest change that each quarter must cause.
_SEEN = 0.01
# Relative changes that are rounding.
_ROUNDING = 1e-5
# Least difference of two distributions, which differ by 2 at most.
_LEAST_CONTRAST = 1e-3

MOVES_OTHERWISE = (
    "does not show the image as it is: when a patch of the input moves, the positions "
    "that change do not move with it"
)
PARTIAL = (
    "carries only a part of the embedding in its last run, the one that is explained"
)
CONSTANT = "does not change with the image"


# --------------------------------------------------------------------------------------
# Outputs of modules
# --------------------------------------------------------------------------------------


def map_of(output: Any) -> Tensor | None:
    """Return the tensor in a module's output: the first one of a tuple or list."""
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
    """Return the embeddings (B, D) in a network's output."""
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


# --------------------------------------------------------------------------------------
# Choosing a layer
# --------------------------------------------------------------------------------------

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
    """Return whether a shape is that of feature maps with several positions."""
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
                "convolutional networks can be explained by default: name a layer if "
                "its map is to be explained nevertheless."
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


def _layer_info(name: str, shape: tuple[int, ...], calls: int) -> LayerInfo:
    """Describe a layer whose output has the shape of feature maps."""
    _, channels, height, width = shape
    return LayerInfo(name, (channels, height, width), calls)


def _refusal(
    info: LayerInfo, problem: str, alternative: LayerInfo | None, model: str
) -> str:
    """Say why a layer cannot be explained, and name one that can."""
    runs = f", which runs {info.calls} times in a pass," if info.calls > 1 else ""
    return (
        f"layer '{info.name}' of model '{model}' with output of shape {info.shape}"
        f"{runs} {problem}; "
        + (
            f"name another layer, say '{alternative.name}', the last with a map of the "
            "image."
            if alternative
            else "no layer that the embedding depends on has a map of the image: give "
            "the network alone, without mirror images or parts of images in a pass."
        )
    )


def _becomes_tokens(info: LayerInfo, seen: SeenOutputs) -> bool:
    """Return whether a later module works on the positions of a map as tokens.

    A patch embedding is such a map: the transformer makes at least as many tokens of it
    as it has positions.
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


# --------------------------------------------------------------------------------------
# Whether a layer's output is a map of the image
# --------------------------------------------------------------------------------------


def patched(image: Tensor, enlarged: int = 1) -> Tensor:
    """Return an image's mean color, and copies with noise in one quarter; nine images.

    Each quarter is filled with fine noise, then with coarse noise. The image itself
    would be a worse background, because what it shows differs between the quarters.
    """
    values = image.float()
    low, high = values.aminmax()
    spread = high - low if high > low else torch.ones_like(low)
    height, width = (enlarged * side for side in values.shape[1:])
    generator = torch.Generator().manual_seed(0)

    def noise(cell: int) -> Tensor:
        size = (1, len(values), -(-height // cell), -(-width // cell))
        bits = torch.randint(0, 2, size, generator=generator).float()
        cells = F.interpolate(bits, scale_factor=cell)[0, :, :height, :width]
        return low + spread * cells.to(values)

    weak = torch.rand((len(values), height, width), generator=generator) - 0.5
    base = values.mean((1, 2), keepdim=True) + 0.1 * spread * weak.to(values)
    images = [base]
    for fill in (noise(1), noise(max(1, max(height, width) // 8))):
        for rows in (slice((height + 1) // 2), slice(height // 2, None)):
            for columns in (slice((width + 1) // 2), slice(width // 2, None)):
                images.append(base.clone())
                images[-1][:, rows, columns] = fill[:, rows, columns]
    return torch.stack(images).to(image.dtype)


def fault_of(output: Tensor, count: int) -> str:
    """Return why a layer's output on patched images is not a map, or ``""``."""
    if len(output) != count:
        return f"returns {len(output)} maps for {count} images"
    output = output.float()
    change = (output[1:] - output[:1]).abs().sum(1).nan_to_num(0, 0, 0)
    change = change.unflatten(0, (2, 4)).sum(0).cpu()
    totals = change.sum((1, 2))
    largest = float(totals.max())
    if largest <= _ROUNDING * float(output[0].abs().sum().nan_to_num(0, 0, 0)):
        return CONSTANT
    if float(totals.min()) < _SEEN * largest or _agreement(change) < _LEAST:
        return MOVES_OTHERWISE
    return ""


def _agreement(change: Tensor) -> float:
    """Compare where the four quarters change a map, (4, h, w), with where they are.

    The result is 1 if the change moves down and right exactly as the quarter does.
    """
    change = change / change.sum((1, 2), keepdim=True)
    quarters = change.unflatten(0, (2, 2))
    down = (quarters[1] - quarters[0]).mean(0)
    right = (quarters[:, 1] - quarters[:, 0]).mean(0)
    contrast = max(float(down.abs().sum()), float(right.abs().sum()))
    if contrast < _LEAST_CONTRAST:
        return 0.0
    along, across = [], []
    for dim, parallel, orthogonal in ((1, down, right), (0, right, down)):
        size = change.shape[2 - dim]
        if size == 1:
            # A map without this axis may not depend on places along it.
            across.append(float(parallel.abs().sum()))
            continue
        sides = torch.sign(2 * torch.arange(size) + 1 - size)
        along.append(float((parallel.sum(dim) * sides).sum()))
        across.append(abs(float((orthogonal.sum(dim) * sides).sum())))
    return (min(along) - max(across)) / contrast
