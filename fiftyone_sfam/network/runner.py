"""How a network is run, and split at one of its layers.

The network is run as it is. Up to the chosen layer it records no gradient; from the
layer's output on it records the graph of the head and nothing else. So any module can
be split at any of its layers without being taken apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError, NetworkError
from fiftyone_sfam.network.heads import as_leaf, is_constant_length
from fiftyone_sfam.network.held import HeldHead
from fiftyone_sfam.network.hints import hint_of
from fiftyone_sfam.network.layers import (
    HeadInfo,
    map_of,
    module_of,
    replaced,
)
from fiftyone_sfam.network.layouts import LayerInfo, is_map
from fiftyone_sfam.network.outputs import (
    Branch,
    EmbeddingKey,
    OutputError,
    embeddings_of,
)
from fiftyone_sfam.network.state import (
    Precision,
    accepts_channels_last,
    constant_parameters,
    device_of,
    dtype_of,
    evaluating,
    has_class_token,
    hooked,
    lower_precision,
)
from fiftyone_sfam.network.views import join, pieces


@dataclass(frozen=True)
class SplitNetwork:
    """A network that was run on images, split at a layer.

    Attributes
    ----------
    leaf : Tensor
        Maps at the layer, shape (B, C, h, w), from which the graph starts.
    prefix : Tensor or None
        Tokens without a place on the image, shape (B, P, C), also a leaf.
    output : Tensor
        Embeddings, shape (B, D), with their graph.
    head : HeldHead
        What was held constant in the part after the layer.
    """

    leaf: Tensor
    prefix: Tensor | None
    output: Tensor
    head: HeldHead


class NetworkRunner:
    """Runs a network; its modes, hooks and gradients are restored after every call."""

    def __init__(
        self,
        network: nn.Module,
        embedding: EmbeddingKey | None,
        embedding_layer: str | None,
        name: str,
        precision: Precision,
        inputs: Mapping[str, str],
    ) -> None:
        self.network = network
        self.name = name
        self.precision = precision
        self.embedding = embedding
        self.embedding_layer = embedding_layer
        self.heads: dict[str, HeadInfo] = {}
        # Whether the embedding was held, as a whole, after some layer.
        self.is_held_whole = False
        self.inputs = inputs
        self.info: LayerInfo | None = None  # the layer that is explained, once found
        self.branches: tuple[Branch, ...] = ()
        # Whether a single image is given twice: the network fails on a batch of one.
        self.doubles = False
        # How the network is split, if not at the output of a module.
        self.splits_otherwise: Callable[[Tensor], SplitNetwork] | None = None
        self._given: Mapping[str, Tensor] = {}
        self._memory_format: torch.memory_format | None = None

    def module(self, name: str) -> nn.Module:
        """Return a module of the network by its name."""
        return module_of(self.network, name, self.name)

    @contextmanager
    def ready(self, images: Tensor) -> Iterator[None]:
        """Put the network into evaluation mode, and restore its modes.

        The first call chooses the layout of images in memory.
        """
        with evaluating(self.network):
            if self._memory_format is None:
                self._memory_format = self._faster_format(images)
            yield

    @contextmanager
    def given(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Set the further inputs of a batch, or of one image for any batch."""
        before, self._given = self._given, values
        try:
            yield
        finally:
            self._given = before

    def _keywords(self, count: int) -> dict[str, Tensor]:
        """Return the further inputs of the network for a number of images."""
        if self._given.keys() != self.inputs.keys():
            sources = ", ".join(f"'{n}' from '{f}'" for n, f in self.inputs.items())
            raise ModelError(
                f"model '{self.name}' needs further inputs of each image, from fields "
                f"of samples ({sources}); give samples instead of paths or pictures, "
                "or the values by with_inputs(...)."
            )
        keywords = {}
        for name, value in self._given.items():
            rows = value.expand(count, *value.shape[1:]) if len(value) == 1 else value
            keywords[name] = self._moved(rows.clone())
        return keywords

    def forward(self, images: Tensor) -> Tensor:
        """Run the network in the caller's gradient mode; return (B, D).

        A network that fails on a batch of one, say because it squeezes its output, is
        given the image twice from then on; hooks see this.
        """
        if len(images) > 1:
            return self._forward(images)
        if not self.doubles:
            try:
                return self._forward(images)
            except (NetworkError, OutputError) as error:
                problem = error
            try:
                output = self._forward(torch.cat([images, images]))
            except ModelError:
                raise problem from problem.__cause__
            self.doubles = True
            return output[:1]
        return self._forward(torch.cat([images, images]))[:1]

    def _forward(self, images: Tensor) -> Tensor:
        """Run the network on a batch as it is."""
        given, images = images, self._moved(images)
        if images.ndim == 4 and self._memory_format is not None:
            images = images.contiguous(memory_format=self._memory_format)
        if images is given:
            # A network may normalize its input in place.
            images = images.clone()
        keywords = self._keywords(len(images))
        caught: list[Any] = []
        with ExitStack() as hooks:
            if self.embedding_layer is not None:
                hooks.enter_context(
                    hooked(
                        self.module(self.embedding_layer),
                        lambda _module, _inputs, output: caught.append(output),
                    )
                )
            try:
                output = self.network(images, **keywords)
            except (ModelError, torch.cuda.OutOfMemoryError):
                raise
            except Exception as error:
                problem, way_out = hint_of(error, images.shape)
                raise NetworkError(
                    f"model '{self.name}' failed on an input of shape "
                    f"{tuple(images.shape)} ({problem}); {way_out}."
                ) from error
        if self.embedding_layer is not None:
            if not caught:
                raise ModelError(
                    f"the embedding layer '{self.embedding_layer}' of model "
                    f"'{self.name}' did not run; name another."
                )
            output = caught[-1]
        embeddings, self.branches = embeddings_of(
            output,
            len(images),
            self.embedding,
            self.name,
            has_class_token=not isinstance(output, Tensor)
            and has_class_token(self.network),
        )
        return embeddings

    def split(self, images: Tensor, info: LayerInfo) -> SplitNetwork:
        """Run the network; start a graph at the layer's output."""
        if self.splits_otherwise is not None:
            return self.splits_otherwise(images)
        run = self._split_at_views if info.views else self._split
        doubles = self.doubles
        split = run(images, info)
        if doubles != self.doubles:
            # The graph also holds what ran before the failure.
            split = run(images, info)
        return split

    def _split(self, images: Tensor, info: LayerInfo) -> SplitNetwork:
        """Run the network once, and split it."""
        leaves: list[tuple[Tensor, Tensor | None]] = []
        calls = 0
        head = HeldHead()

        def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            tensor = map_of(output)
            calls += tensor is not None
            if tensor is None or calls < info.calls:
                return None
            values = tensor
            if self.precision != "float32":
                torch.set_autocast_enabled(tensor.device.type, False)
                values = tensor.to(dtype_of(self.network))
            self._check_arrangement(values, info, images)
            repeats = self.repeats(images, values)
            maps, prefix = info.maps(values[: len(values) // repeats])
            leaves.append((as_leaf(maps), None if prefix is None else as_leaf(prefix)))
            # The network may have turned gradients off itself, say for its backbone.
            torch.set_grad_enabled(True)
            if info.name not in self.heads or self.heads[info.name].is_held:
                stack.enter_context(head)
            # A new tensor lets the network work in place without touching the leaves.
            new = info.output(*leaves[-1])
            new = torch.cat([new] * repeats) if repeats > 1 else new
            return replaced(output, tensor, new)

        # With constant parameters nothing is recorded before there is a leaf. Leaving
        # enable_grad restores the caller's mode, whatever the hook has set.
        with (
            self.ready(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            lower_precision(device_of(self.network), self.precision),
            hooked(self.module(info.name), cut),
            ExitStack() as stack,
        ):
            output = self.forward(images)
        if not leaves:
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' did not run on an input "
                f"of shape {tuple(images.shape)}."
            )
        return SplitNetwork(*leaves[-1], output, head)

    def _split_at_views(self, images: Tensor, info: LayerInfo) -> SplitNetwork:
        """Run the network twice: to join the maps of all views, and from there on."""
        kept: list[tuple[Tensor, Tensor | None]] = []
        leaves: list[tuple[Tensor, Tensor | None]] = []
        head = HeldHead()

        def visit(keeping: bool) -> Callable[..., Any]:
            calls = 0

            def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
                nonlocal calls
                tensor = map_of(output)
                calls += tensor is not None
                places = [i for i, v in enumerate(info.views) if v.call == calls]
                if tensor is None or not places:
                    return None
                if keeping:
                    rows = [info.views[place].rows(tensor) for place in places]
                    kept.extend(info.maps(block.detach()) for block in rows)
                    return None
                torch.set_grad_enabled(True)
                if not leaves:
                    leaves.append(joined)
                    stack.enter_context(head)
                prefixes = (
                    [None] * len(info.views)
                    if joined[1] is None
                    else joined[1].chunk(len(info.views), 1)
                )
                maps = pieces(info.views, joined[0])
                blocks = [info.output(maps[i], prefixes[i]) for i in places]
                return replaced(output, tensor, torch.cat(blocks))

            return hook

        module = self.module(info.name)
        with self.ready(images), torch.no_grad(), hooked(module, visit(True)):
            self.forward(images)
        prefix = [prefix for _, prefix in kept if prefix is not None]
        joined = (
            as_leaf(join(info.views, [maps for maps, _ in kept])),
            as_leaf(torch.cat(prefix, 1)) if prefix else None,
        )
        with (
            self.ready(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            hooked(module, visit(False)),
            ExitStack() as stack,
        ):
            output = self.forward(images)
        return SplitNetwork(*joined, output, head)

    def repeats(self, images: Tensor, output: Tensor) -> int:
        """Return how often a module's output holds each image."""
        is_doubled = self.doubles and len(images) == 1 and len(output) == 2
        return 2 if is_doubled else 1

    def _check_arrangement(
        self, output: Tensor, info: LayerInfo, images: Tensor
    ) -> None:
        """Raise if a layer's output has not the arrangement that it had before."""
        shape = tuple(output.shape)
        if info.layout == "NCHW":
            fits = is_map(shape)
        elif info.layout == "NHWC":
            fits = len(shape) == 4 and shape[1] * shape[2] > 1
        else:
            fits = len(shape) == 3 and shape[1] == info.prefix_tokens + info.positions
        if not fits:
            way = (
                "give larger images or name an earlier layer"
                if info.layout == "NCHW"
                else f"give images of the size that it was found with, as {info.layout}"
            )
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' returns shape {shape} on "
                f"an input of shape {tuple(images.shape)}; {way}."
            )

    def depends_on(self, images: Tensor, info: LayerInfo) -> bool:
        """Return whether the embedding has a non-zero derivative at a layer.

        Also fill in ``heads`` for the layer.
        """
        split = self.split(images, info)
        leaf, output = split.leaf, split.output
        if not output.requires_grad:
            self.is_held_whole |= split.head.count > 0
            return False
        probe = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        direction = F.normalize(output.detach())
        try:
            with torch.inference_mode(False):
                anywhere, lengthwise = (
                    torch.autograd.grad(
                        output,
                        leaf,
                        cotangent.to(output),
                        retain_graph=True,
                        materialize_grads=True,
                    )[0]
                    for cotangent in (F.normalize(probe), direction)
                )
        except RuntimeError as error:
            raise ModelError(
                f"the part of model '{self.name}' after layer '{info.name}' cannot be "
                f"differentiated ({first_line(error)}); name a later layer, or give a "
                "network that can be trained."
            ) from error
        # An embedding that is zero, or too long for its type, has no direction.
        length = float(output.detach().double().norm())
        has_direction = bool(direction.any()) and 0 < length < math.inf
        total = float((lengthwise.double() * leaf.detach().double()).sum())
        self.heads[info.name] = HeadInfo(
            is_held=split.head.count > 0,
            is_held_inside=split.head.count_inside > 0,
            share=total / length if has_direction else 0,
            has_one_length=has_direction and is_constant_length(anywhere, lengthwise),
        )
        parts = pieces(info.views, anywhere) if info.views else [anywhere]
        return all(bool(part.any()) for part in parts)

    def _faster_format(self, images: Tensor) -> torch.memory_format:
        """Return the layout in which convolutions are fastest.

        It is the default one where channels last are not known to be faster, or the
        network reshapes maps in a way that they do not allow.
        """
        dtype = dtype_of(self.network)
        lowest = (
            dtype if self.precision == "float32" else getattr(torch, self.precision)
        )
        on_cuda = device_of(self.network).type == "cuda"
        if images.ndim != 4 or (on_cuda and dtype == lowest == torch.float32):
            return torch.contiguous_format
        batch = self._moved(images[:1]).expand(2, -1, -1, -1)
        with self.given({name: value[:1] for name, value in self._given.items()}):
            network = partial(self.network, **self._keywords(2))
        if accepts_channels_last(network, batch):
            return torch.channels_last
        return torch.contiguous_format

    def _moved(self, images: Tensor) -> Tensor:
        """Move images to the network's device and type."""
        images = images.to(device_of(self.network))
        return (
            images.to(dtype_of(self.network)) if images.is_floating_point() else images
        )
