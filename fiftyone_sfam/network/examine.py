"""Examine which layers of a network have maps of the image, and what they carry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fiftyone_sfam.data.text import percent
from fiftyone_sfam.errors import ModelError, NetworkError, SfamWarning
from fiftyone_sfam.network.heads import as_leaf
from fiftyone_sfam.network.layers import (
    SeenModules,
    chosen_layer,
    map_of,
    named_layer,
    replaced,
)
from fiftyone_sfam.network.layouts import (
    CHANGES_EQUALLY,
    MOVES_OTHERWISE,
    PADDED,
    LayerInfo,
    Layout,
    SeenLayer,
    arrangements,
    follows,
    patched,
    seen_layer,
)
from fiftyone_sfam.network.runner import NetworkRunner
from fiftyone_sfam.network.state import constant_parameters, device_of, hooked
from fiftyone_sfam.network.views import View, fit_together, joined_shape, placed_view

# Faults that a coarse map may have, and an enlarged image not.
_OF_COARSE_MAPS = (MOVES_OTHERWISE, CHANGES_EQUALLY)
# Positions along the longer side of a map whose every position may see the whole image.
_SMALL_MAP = 16
# Longer side, in pixels, of images that may be enlarged four times.
_SMALL_IMAGE = 200
# Largest number of blocks of a batch that are taken for mirror images or parts.
_MOST_VIEWS = 4
# Relative difference of embeddings that is rounding.
_SAME = 1e-4
# A prime modulus: the number of paths through a graph grows beyond any type.
_PRIME = 2**61 - 1


def find_layer(
    runner: NetworkRunner,
    image: Tensor,
    layer: str | None,
    layout: Layout | None,
    prefix_tokens: int | None,
) -> LayerInfo:
    """Check the layer that a user has named, or choose one; an image is (3, H, W)."""
    seen = examine(runner, image, layout, prefix_tokens, only=layer or "")
    depends_on = partial(runner.depends_on, image[None])
    check = partial(is_all, runner, image)

    def choose() -> tuple[LayerInfo, bool]:
        carrying = carriers(runner, image, seen)
        info = chosen_layer(
            seen,
            carrying,
            depends_on,
            check,
            runner.heads,
            runner.network,
            runner.name,
        )
        return info, info in carrying

    if layer is None:
        try:
            info, carries_all = choose()
        except ModelError as error:
            if not runner.is_held_whole:
                raise
            raise ModelError(
                f"the embedding of model '{runner.name}' depends on its maps only by "
                "what is held constant, such as a softmax at its end; name the output "
                "before that with embedding_layer=...."
            ) from error
        if not carries_all:
            share = percent(runner.heads[info.name].share)
            warnings.warn(
                f"no layer of model '{runner.name}' carries its whole embedding; the "
                f"last that it depends on, '{info.name}', is explained, with {share} "
                "of an image's similarity with itself. Name another with layer=....",
                SfamWarning,
                stacklevel=2,
            )
        return info
    runner.module(layer)
    is_arranged = layout is not None
    return named_layer(
        layer,
        seen,
        depends_on,
        check,
        lambda: choose()[0],
        runner.name,
        is_arranged=is_arranged,
    )


def list_layers(runner: NetworkRunner, image: Tensor) -> tuple[LayerInfo, ...]:
    """List the layers that have a map of the image."""
    seen = examine(runner, image)
    check = partial(is_all, runner, image)
    listed = [seen.resolved(name, check) for name in seen.layers]
    return tuple(layer.info for layer in listed if not layer.problem)


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
    layers, views = dict(seen.layers), dict(seen.views)
    coarse = _coarse_names(seen, only)
    for enlarged in (2, 4) if max(image.shape) <= _SMALL_IMAGE else (2,):
        coarse = [name for name in coarse if layers[name].problem in _OF_COARSE_MAPS]
        if not coarse:
            break
        try:
            again = _seen(runner, patched(image, enlarged), layout, prefix_tokens)
        except NetworkError:
            # Some networks take images of one size only.
            break
        for name in coarse:
            larger = again.layers.get(name)
            if larger is not None and larger.info.calls == layers[name].info.calls:
                layers[name] = _at_size(larger, seen.shapes[name])
                views[name] = [
                    _at_size(view, seen.shapes[name]) for view in again.views[name]
                ]
    joined = {name: _joined(runs) for name, runs in views.items() if len(runs) > 1}
    return SeenModules(
        seen.shapes, layers, {name: info for name, info in joined.items() if info}
    )


def _coarse_names(seen: _Recorder, only: str | None) -> list[str]:
    """List the layers to be seen on enlarged images."""
    layers = seen.layers
    coarse = [
        name
        for name, layer in layers.items()
        if layer.problem in _OF_COARSE_MAPS and _is_coarse(seen.shapes[name])
    ]
    if only is None:
        return coarse
    maps = [name for name, layer in layers.items() if not layer.problem]
    last = only or (maps[-1] if maps else "")
    names = list(layers)
    start = names.index(last) if last in layers else 0
    return [
        name
        for name in coarse
        if names.index(name) >= start or _is_finer(layers[name], layers.get(last))
    ]


def _joined(runs: list[SeenLayer]) -> LayerInfo | None:
    """Put the runs of a layer together on the image, if they follow it."""
    arranged = next((run.info for run in runs if not run.problem), runs[0].info)
    arrangement = arranged.shape, arranged.layout, arranged.prefix_tokens
    placed: list[View] = []
    for run in runs[: _MOST_VIEWS + 1]:
        info = run.info
        view = None
        same = (info.shape, info.layout, info.prefix_tokens) == arrangement
        if same and run.change is not None:
            view = placed_view(info.views[0], run.change, follows)
        if view is not None:
            placed.append(view)
    if len(placed) < len(runs) or not fit_together(placed):
        return None
    return replace(
        arranged,
        shape=joined_shape(placed, arranged.shape),
        calls=runs[-1].info.calls,
        views=tuple(placed),
    )


def is_all(runner: NetworkRunner, image: Tensor, info: LayerInfo) -> bool:
    """Return whether the image reaches the embedding only by a layer's runs.

    The runs are held as they are for the first patched image, which has no patch.
    """
    views = info.views or (View(info.calls, 0, 1),)
    calls = 0

    def hold(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        tensor = map_of(output)
        calls += tensor is not None
        held = [view for view in views if view.call == calls]
        if tensor is None or not held:
            return None
        blocks = list(tensor.chunk(held[0].blocks))
        for view in held:
            rows = blocks[view.block]
            blocks[view.block] = rows[:1].expand_as(rows)
        return replaced(output, tensor, torch.cat(blocks))

    images, module = patched(image), runner.module(info.name)
    with runner.ready(images), torch.no_grad(), hooked(module, hold):
        embeddings = runner.forward(images).float()
    change = (embeddings[1:] - embeddings[:1]).abs().max()
    return bool(change <= _SAME * embeddings.abs().max())


class _Recorder:
    """Hooks that see what modules return on patched images."""

    def __init__(
        self, images: Tensor, layout: Layout | None, prefix_tokens: int | None
    ) -> None:
        self._count = len(images)
        self._size = (images.shape[-2], images.shape[-1])
        self._layout, self._prefix_tokens = layout, prefix_tokens
        self._grids: list[tuple[int, int]] = []
        self._calls: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.layers: dict[str, SeenLayer] = {}
        self.views: dict[str, list[SeenLayer]] = {}

    def hook(self, name: str) -> Callable[..., None]:
        """Return the hook of a module."""

        def record(module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = map_of(output)
            if tensor is not None:
                self._calls[name] = self._calls.get(name, 0) + 1
                for known in (self.shapes, self.layers):
                    known.pop(name, None)
                self.shapes[name] = tuple(tensor.shape)
                if tensor.is_floating_point():
                    self._see(name, tensor)
                    if name in self.layers and is_padding(module):
                        padded = replace(self.layers[name], problem=PADDED)
                        self.layers[name] = padded

        return record

    def _see(self, name: str, tensor: Tensor) -> None:
        """See a layer's output, in blocks if there are more maps than images."""
        options = arrangements(
            tensor.shape, self._grids, self._size, self._layout, self._prefix_tokens
        )
        if not options:
            return
        calls, blocks = self._calls[name], len(tensor) // self._count
        if blocks * self._count != len(tensor) or blocks > _MOST_VIEWS:
            blocks = 1
        for block, part in enumerate(tensor.chunk(blocks)):
            layer = seen_layer(name, calls, part, self._count, options)
            view = View(calls, block, blocks)
            run = replace(layer, info=replace(layer.info, views=(view,)))
            self.views.setdefault(name, []).append(run)
            if not layer.problem and layer.info.layout != "tokens":
                self._grids.append(layer.info.shape[1:])
        if blocks > 1:
            problem = f"returns {len(tensor)} maps for {self._count} images"
            layer = replace(layer, problem=problem)
        self.layers[name] = layer


def is_padding(module: nn.Module) -> bool:
    """Return whether a module is one of torch's that pad."""
    return type(module).__module__ == nn.ZeroPad2d.__module__


def _seen(
    runner: NetworkRunner,
    images: Tensor,
    layout: Layout | None,
    prefix_tokens: int | None,
) -> _Recorder:
    """Run a network on patched images; return its shapes, layers, and their runs."""
    recorder = _Recorder(images, layout, prefix_tokens)
    with runner.ready(images), torch.no_grad(), ExitStack() as hooks:
        for name, module in runner.network.named_modules():
            if name:
                hooks.enter_context(hooked(module, recorder.hook(name)))
        runner.forward(images)
    return recorder


def _is_finer(layer: SeenLayer, last: SeenLayer | None) -> bool:
    """Return whether the last map may be pooled from that of an earlier layer."""
    if last is None:
        return False
    info, pooled = layer.info, last.info
    return info.shape[0] == pooled.shape[0] and info.positions > pooled.positions


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


def carriers(
    runner: NetworkRunner, image: Tensor, seen: SeenModules
) -> list[LayerInfo]:
    """List the layers from whose outputs the whole embedding is computed.

    A layer carries everything if all paths of the graph from the embedding to the image
    lead through its output, so the numbers of paths above and below it multiply to the
    number of all paths. Without a gradient down to the image, networks are run with the
    output of a layer held, for stages only.
    """
    edges: dict[str, list[tuple[Any, int]]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = map_of(output)
            if tensor is not None and tensor.grad_fn is not None:
                edges.setdefault(name, []).append((tensor.grad_fn, tensor.output_nr))

        return hook

    names = [name for name, layer in seen.layers.items() if not layer.problem]
    names = [name for name in seen.layers if name in {*names, *seen.joined}]
    root = None
    if image.is_floating_point():
        with (
            runner.ready(image[None]),
            constant_parameters(runner.network),
            torch.enable_grad(),
            ExitStack() as hooks,
        ):
            for name in names:
                hooks.enter_context(hooked(runner.module(name), keep(name)))
            leaf = as_leaf(image[None].to(device_of(runner.network)))
            output = runner.forward(leaf.clone())
            root = output.grad_fn
    if root is None:
        check = partial(is_all, runner, image)
        stages = [
            seen.resolved(name, check)
            for name in names
            if name in names[-10:] or any(runner.module(name).children())
        ]
        return [x.info for x in stages if not x.problem and check(x.info)]
    paths = _Paths(root, output.output_nr)
    carrying = []
    for name in names:
        layer, cuts = seen.layers[name], edges.get(name, [])
        if not layer.problem and paths.are_cut_by(cuts[-1:]):
            carrying.append(layer.info)
        elif name in seen.joined and paths.are_cut_by(cuts):
            carrying.append(seen.joined[name])
    return carrying


class _Paths:
    """The number of paths through a graph, from its root down to its leaf."""

    def __init__(self, root: Any, number: int) -> None:
        order = _topological(root)
        self._below: dict[Any, int] = {}
        for node in reversed(order):
            paths = [self._below[child] for child, _ in node.next_functions if child]
            is_leaf = getattr(node, "variable", None) is not None
            self._below[node] = (sum(paths) + is_leaf) % _PRIME
        above: dict[Any, int] = {root: 1}
        self._through: dict[tuple[Any, int], int] = {(root, number): 1}
        for node in order:
            for edge in node.next_functions:
                if edge[0] is not None:
                    above[edge[0]] = (above.get(edge[0], 0) + above[node]) % _PRIME
                    paths_to = self._through.get(edge, 0) + above[node]
                    self._through[edge] = paths_to % _PRIME
        self._whole = self._below[root]

    def are_cut_by(self, edges: Sequence[tuple[Any, int]]) -> bool:
        """Return whether all paths lead through some edges, none of them twice."""
        paths = [self._through.get(e, 0) * self._below.get(e[0], 0) for e in edges]
        return sum(paths) % _PRIME == self._whole


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
