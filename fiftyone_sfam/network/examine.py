"""Examine which layers of a network have maps of the image, and what they carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fiftyone_sfam.errors import NetworkError
from fiftyone_sfam.network.heads import as_leaf
from fiftyone_sfam.network.layers import PARTIAL, SeenModules, map_of, replaced
from fiftyone_sfam.network.layouts import (
    MOVES_OTHERWISE,
    LayerInfo,
    Layout,
    SeenLayer,
    arrangements,
    patched,
    seen_layer,
)
from fiftyone_sfam.network.runner import NetworkRunner
from fiftyone_sfam.network.state import constant_parameters, device_of, hooked

# Positions along the longer side of a map whose every position may see the whole image.
_SMALL_MAP = 16
# Relative difference of embeddings that is rounding.
_SAME = 1e-4
# A prime modulus: the number of paths through a graph grows beyond any type.
_PRIME = 2**61 - 1


def examine(
    runner: NetworkRunner,
    image: Tensor,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
    only: str | None = None,
) -> SeenModules:
    """Run a network on patched images, and see which outputs are maps of the image.

    Coarse maps, each position of which may see the whole image, are seen on enlarged
    images. If ``only`` is given, this is left out unless it is about the layer of that
    name, or, for an empty name, about one after the last map.

    Parameters
    ----------
    runner : NetworkRunner
        The network.
    image : Tensor
        Prepared image, shape (3, H, W).
    layout, prefix_tokens : optional
        How layers are arranged, if it is known.
    """
    try:
        seen = _seen(runner, patched(image), layout, prefix_tokens)
    except NetworkError:
        # Say so of a single image, if the network fails on that too.
        with runner.ready(image[None]), torch.no_grad():
            runner.forward(image[None])
        raise
    coarse = [
        name
        for name, layer in seen.layers.items()
        if layer.problem == MOVES_OTHERWISE and _is_coarse(seen.shapes[name])
    ]
    layers = dict(seen.layers)
    if only is not None:
        last = only or next((info.name for info in reversed(seen.maps)), "")
        names = list(layers)
        start = names.index(last) if last in layers else 0
        coarse = [name for name in coarse if names.index(name) >= start]
    if coarse:
        enlarged = patched(image, 4 if max(image.shape) <= 200 else 2)
        again: Mapping[str, SeenLayer] = {}
        # Some networks take images of one size only.
        with suppress(NetworkError):
            again = _seen(runner, enlarged, layout, prefix_tokens).layers
        for name in set(coarse) & set(again):
            if again[name].info.calls == layers[name].info.calls:
                layers[name] = _at_size(again[name], seen.shapes[name])
    for name, layer in layers.items():
        runs_again = layer.info.calls > 1 and not layer.problem
        if runs_again and not _is_all(runner, patched(image), layer.info):
            layers[name] = replace(layer, problem=PARTIAL)
    return SeenModules(seen.shapes, layers)


def _seen(
    runner: NetworkRunner,
    images: Tensor,
    layout: Layout | None,
    prefix_tokens: int | None,
) -> SeenModules:
    """Run a network on patched images."""
    shapes: dict[str, tuple[int, ...]] = {}
    layers: dict[str, SeenLayer] = {}
    grids: list[tuple[int, int]] = []
    size = (images.shape[-2], images.shape[-1])

    def record(name: str) -> Callable[..., None]:
        calls = 0

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal calls
            tensor = map_of(output)
            if tensor is None:
                return
            calls += 1
            for known in (shapes, layers):
                known.pop(name, None)
            shapes[name] = tuple(tensor.shape)
            if not tensor.is_floating_point():
                return
            options = arrangements(tensor.shape, grids, size, layout, prefix_tokens)
            if not options:
                return
            layer = seen_layer(name, calls, tensor, len(images), options)
            layers[name] = layer
            if not layer.problem and layer.info.layout != "tokens":
                grids.append(layer.info.shape[1:])

        return hook

    with (
        runner.ready(images),
        torch.no_grad(),
        ExitStack() as hooks,
    ):
        for name, module in runner.network.named_modules():
            if name:
                hooks.enter_context(hooked(module, record(name)))
        runner.forward(images)
    return SeenModules(shapes, layers)


def _is_coarse(shape: tuple[int, ...]) -> bool:
    """Return whether each position of an output may see the whole image."""
    if len(shape) == 3:
        return False
    return max(shape[2:]) <= _SMALL_MAP or max(shape[1:3]) <= _SMALL_MAP


def _at_size(enlarged: SeenLayer, shape: tuple[int, ...]) -> SeenLayer:
    """Return a layer that was seen on enlarged images, with its usual shape."""
    info = enlarged.info
    if info.layout == "tokens":
        return enlarged
    size = shape[1:] if info.layout == "NCHW" else (shape[3], *shape[1:3])
    return replace(enlarged, info=replace(info, shape=(size[0], size[1], size[2])))


def _is_all(runner: NetworkRunner, images: Tensor, info: LayerInfo) -> bool:
    """Return whether the image reaches the embedding only by a layer's last run.

    ``images`` are patched ones.
    """
    calls = 0

    def hold(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        tensor = map_of(output)
        calls += tensor is not None
        if tensor is None or calls < info.calls:
            return None
        return replaced(output, tensor, tensor[:1].expand_as(tensor).clone())

    with runner.ready(images), torch.no_grad(), hooked(runner.module(info.name), hold):
        embeddings = runner.forward(images).float()
    change = (embeddings[1:] - embeddings[:1]).abs().max()
    return bool(change <= _SAME * embeddings.abs().max())


def carriers(
    runner: NetworkRunner, image: Tensor, layers: Sequence[LayerInfo]
) -> set[str]:
    """Return the layers from whose outputs the whole embedding is computed.

    A layer carries everything if all paths of the graph from the embedding to the image
    lead through its output, so the numbers of paths above and below it multiply to the
    number of all paths. Networks without a gradient down to the image are run with the
    output of a layer held, for stages only.
    """
    if not image.is_floating_point():
        return _carriers_by_value(runner, image, layers)
    edges: dict[str, tuple[Any, int]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = map_of(output)
            if tensor is not None and tensor.grad_fn is not None:
                edges[name] = (tensor.grad_fn, tensor.output_nr)

        return hook

    with (
        runner.ready(image[None]),
        constant_parameters(runner.network),
        torch.enable_grad(),
        ExitStack() as hooks,
    ):
        for info in layers:
            module = runner.module(info.name)
            hooks.enter_context(hooked(module, keep(info.name)))
        leaf = as_leaf(image[None].to(device_of(runner.network)))
        output = runner.forward(leaf.clone())
    if output.grad_fn is None:
        return _carriers_by_value(runner, image, layers)
    return _on_all_paths(output, edges)


def _on_all_paths(output: Tensor, edges: Mapping[str, tuple[Any, int]]) -> set[str]:
    """Return the names of the edges on all paths through the graph of an output."""
    root = output.grad_fn
    order = _topological(root)
    below: dict[Any, int] = {}
    for node in reversed(order):
        paths = [below[child] for child, _ in node.next_functions if child]
        is_leaf = getattr(node, "variable", None) is not None
        below[node] = (sum(paths) + is_leaf) % _PRIME
    above: dict[Any, int] = {root: 1}
    through: dict[tuple[Any, int], int] = {(root, output.output_nr): 1}
    for node in order:
        for edge in node.next_functions:
            if edge[0] is not None:
                above[edge[0]] = (above.get(edge[0], 0) + above[node]) % _PRIME
                through[edge] = (through.get(edge, 0) + above[node]) % _PRIME
    return {
        name
        for name, edge in edges.items()
        if through.get(edge, 0) * below.get(edge[0], 0) % _PRIME == below[root]
    }


def _carriers_by_value(
    runner: NetworkRunner, image: Tensor, layers: Sequence[LayerInfo]
) -> set[str]:
    """Return the stages with which the whole embedding stays the same."""
    images = patched(image)
    return {
        info.name
        for info in layers
        if info in layers[-10:] or any(runner.module(info.name).children())
        if _is_all(runner, images, info)
    }


def _topological(root: Any) -> list[Any]:
    """List the nodes of a graph, each before those that it leads to."""
    order: list[Any] = []
    seen = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        for child, _ in following:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            order.append(node)
            stack.pop()
    return order[::-1]
