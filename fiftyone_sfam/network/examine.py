"""Examine which layers of a network have maps of the image, and what they carry."""

from __future__ import annotations

from collections.abc import Callable
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
from fiftyone_sfam.network.state import constant_parameters, hooked

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
) -> SeenModules:
    """Run a network on patched images, and see which outputs are maps of the image.

    Parameters
    ----------
    runner : NetworkRunner
        The network.
    image : Tensor
        Prepared image, shape (3, H, W).
    layout, prefix_tokens : optional
        How layers are arranged, if it is known.
    """
    seen = _seen(runner, patched(image), layout, prefix_tokens)
    coarse = [
        name
        for name, layer in seen.layers.items()
        if layer.problem == MOVES_OTHERWISE and max(layer.info.shape[1:]) <= _SMALL_MAP
    ]
    layers = dict(seen.layers)
    if coarse:
        # Each of few positions may see the whole image.
        enlarged = patched(image, 4 if max(image.shape) <= 200 else 2)
        again = _seen(runner, enlarged, layout, prefix_tokens).layers
        for name in coarse:
            if name in again and again[name].info.calls == layers[name].info.calls:
                arrangement = again[name].info
                shape = layers[name].info.shape
                if arrangement.layout == layers[name].info.layout:
                    layers[name] = SeenLayer(
                        replace(arrangement, shape=shape), again[name].problem
                    )
    for name, layer in layers.items():
        runs_again = layer.info.calls > 1 and not layer.problem
        if runs_again and not _last_run_is_all(runner, patched(image), layer.info):
            layers[name] = replace(layer, problem=PARTIAL)
    return SeenModules(seen.shapes, layers)


def _seen(
    runner: NetworkRunner,
    images: Tensor,
    layout: Layout | None,
    prefix_tokens: int | None,
) -> SeenModules:
    """Run a network on patched images; if it fails, include what ran before that."""
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
        suppress(NetworkError),
    ):
        for name, module in runner.network.named_modules():
            if name:
                hooks.enter_context(hooked(module, record(name)))
        runner.forward(images)
    return SeenModules(shapes, layers)


def _last_run_is_all(runner: NetworkRunner, images: Tensor, info: LayerInfo) -> bool:
    """Return whether the image reaches the embedding only by a layer's last run."""
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


def carries_all(runner: NetworkRunner, images: Tensor, layer: str) -> bool:
    """Return whether the whole embedding is computed from a layer's output."""

    def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        tensor = map_of(output)
        return None if tensor is None else replaced(output, tensor, tensor.detach())

    with (
        runner.ready(images),
        constant_parameters(runner.network),
        torch.enable_grad(),
        hooked(runner.module(layer), cut),
    ):
        leaf = as_leaf(images[:1].to(next(iter(runner.network.parameters())).device))
        return not runner.forward(leaf.clone()).requires_grad


def carriers(runner: NetworkRunner, images: Tensor, names: list[str]) -> set[str]:
    """Return the layers from whose outputs the whole embedding is computed.

    A layer carries everything if all paths of the graph from the embedding to the image
    lead through its output, so the numbers of paths above and below it multiply to the
    number of all paths.
    """
    edges: dict[str, tuple[Any, int]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = map_of(output)
            if tensor is not None and tensor.grad_fn is not None:
                edges[name] = (tensor.grad_fn, tensor.output_nr)

        return hook

    with (
        runner.ready(images),
        constant_parameters(runner.network),
        torch.enable_grad(),
        ExitStack() as hooks,
    ):
        for name in names:
            hooks.enter_context(hooked(runner.module(name), keep(name)))
        leaf = as_leaf(images[:1])
        output = runner.forward(leaf.clone())
    if output.grad_fn is None:
        # The network computes without gradients down to the image.
        return {name for name in names if carries_all(runner, images, name)}
    order = _topological(output.grad_fn)
    below: dict[Any, int] = {}
    for node in reversed(order):
        paths = sum(
            below[following] for following, _ in node.next_functions if following
        )
        is_leaf = getattr(node, "variable", None) is not None
        below[node] = (paths + is_leaf) % _PRIME
    above: dict[Any, int] = {output.grad_fn: 1}
    through: dict[tuple[Any, int], int] = {(output.grad_fn, output.output_nr): 1}
    for node in order:
        for following, number in node.next_functions:
            if following is None:
                continue
            above[following] = (above.get(following, 0) + above[node]) % _PRIME
            key = following, number
            through[key] = (through.get(key, 0) + above[node]) % _PRIME
    whole = below[output.grad_fn]
    return {
        name
        for name, edge in edges.items()
        if edge in through and through[edge] * below[edge[0]] % _PRIME == whole
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
