"""How a network is run, and split at one of its layers.

The network is run as it is. Up to the chosen layer it records no gradient; from the
layer's output on it records the graph of the head and nothing else. So any module can
be split at any of its layers without being taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError, NetworkError
from fiftyone_sfam.network.heads import as_leaf, is_constant_length
from fiftyone_sfam.network.hints import hint_of
from fiftyone_sfam.network.layers import (
    MOVES_OTHERWISE,
    PARTIAL,
    LayerInfo,
    SeenOutputs,
    embeddings_of,
    fault_of,
    is_map,
    map_of,
    module_of,
    patched,
    replaced,
)
from fiftyone_sfam.network.state import (
    Precision,
    accepts_channels_last,
    constant_parameters,
    device_of,
    dtype_of,
    evaluating,
    hooked,
    lower_precision,
)

# Positions along the longer side of a map whose every position may see the whole image.
_SMALL_MAP = 16
# Relative difference of embeddings that is rounding.
_SAME = 1e-4


class NetworkRunner:
    """Runs a network; its modes, hooks and gradients are restored after every call."""

    def __init__(
        self,
        network: nn.Module,
        embedding: str | int | None,
        embedding_layer: str | None,
        name: str,
        precision: Precision,
    ) -> None:
        self.network = network
        self.name = name
        self.precision = precision
        self.embedding = embedding
        self.embedding_layer = embedding_layer
        self.scales_to_one_length = False
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

    def forward(self, images: Tensor) -> Tensor:
        """Run the network in the caller's gradient mode; return (B, D)."""
        images = self._moved(images)
        if images.ndim == 4 and self._memory_format is not None:
            images = images.contiguous(memory_format=self._memory_format)
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
                output = self.network(images)
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
        return embeddings_of(output, len(images), self.embedding, self.name)

    def split(self, images: Tensor, info: LayerInfo) -> tuple[Tensor, Tensor]:
        """Run the network; return the layer's output as a leaf, and the embedding."""
        leaves: list[Tensor] = []
        calls = 0

        def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            tensor = map_of(output)
            calls += tensor is not None
            if tensor is None or calls < info.calls:
                return None
            if self.precision == "float32":
                leaves.append(as_leaf(tensor))
            else:
                torch.set_autocast_enabled(tensor.device.type, False)
                leaves.append(as_leaf(tensor.to(dtype_of(self.network))))
            # The network may have turned gradients off itself, say for its backbone.
            torch.set_grad_enabled(True)
            # The clone lets the network work in place without touching the leaf.
            return replaced(output, tensor, leaves[-1].clone())

        # With constant parameters nothing is recorded before there is a leaf. Leaving
        # enable_grad restores the caller's mode, whatever the hook has set.
        with (
            self.ready(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            lower_precision(device_of(self.network), self.precision),
            hooked(self.module(info.name), cut),
        ):
            output = self.forward(images)
        if not leaves:
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' did not run on an input "
                f"of shape {tuple(images.shape)}."
            )
        if not is_map(tuple(leaves[-1].shape)):
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' returns shape "
                f"{tuple(leaves[-1].shape)} on an input of shape "
                f"{tuple(images.shape)}; give larger images or name an earlier layer."
            )
        return leaves[-1], output

    def outputs(self, images: Tensor) -> SeenOutputs:
        """Run the network; return each module's last output shape and call count.

        Modules are in the order in which their last call ended.
        """
        seen: dict[str, tuple[tuple[int, ...], int]] = {}

        def record(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                tensor = map_of(output)
                if tensor is not None:
                    calls = seen.pop(name, ((), 0))[1]
                    seen[name] = (tuple(tensor.shape), calls + 1)

            return hook

        self._run_hooked(images, record)
        return seen

    def depends_on(self, images: Tensor, info: LayerInfo) -> bool:
        """Return whether the embedding has a non-zero derivative at a layer.

        Also find out whether the network scales its embeddings to one length.
        """
        leaf, output = self.split(images, info)
        if not output.requires_grad:
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
        self.scales_to_one_length = bool(direction.any()) and is_constant_length(
            anywhere, lengthwise
        )
        return bool(anywhere.any())

    def fault_finder(self, image: Tensor) -> Callable[[LayerInfo], str]:
        """Return a function that says why a layer has no map of an image, or ``""``."""
        enlarged = 4 if max(image.shape) <= 200 else 2
        images = patched(image)
        faults = cache(lambda: self._faults(images))
        faults_enlarged = cache(lambda: self._faults(patched(image, enlarged)))

        @cache
        def fault(info: LayerInfo) -> str:
            key = info.name, info.calls
            problem = faults()[key]
            if problem == MOVES_OTHERWISE and max(info.shape[1:]) <= _SMALL_MAP:
                # Each of few positions may see the whole image.
                problem = faults_enlarged().get(key, problem)
            if not problem and info.calls > 1:
                return "" if self._last_run_is_all(images, info) else PARTIAL
            return problem

        return fault

    def _faults(self, images: Tensor) -> dict[tuple[str, int], str]:
        """Return what keeps outputs from being maps of an image, by module and run.

        If the network fails on such images, only the runs before that are included.
        """
        faults: dict[tuple[str, int], str] = {}

        def check(name: str) -> Callable[..., None]:
            calls = 0

            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                nonlocal calls
                tensor = map_of(output)
                calls += tensor is not None
                if tensor is not None and is_map(tensor.shape):
                    faults[name, calls] = fault_of(tensor, len(images))

            return hook

        with suppress(NetworkError):
            self._run_hooked(images, check)
        return faults

    def _run_hooked(
        self, images: Tensor, make_hook: Callable[[str], Callable[..., None]]
    ) -> None:
        """Run the network without gradients, with a hook at each of its modules."""
        with self.ready(images), torch.no_grad(), ExitStack() as hooks:
            for name, module in self.network.named_modules():
                if name:
                    hooks.enter_context(hooked(module, make_hook(name)))
            self.forward(images)

    def _last_run_is_all(self, images: Tensor, info: LayerInfo) -> bool:
        """Return whether the image reaches the embedding only by a layer's last run."""
        calls = 0

        def hold(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            tensor = map_of(output)
            calls += tensor is not None
            if tensor is None or calls < info.calls:
                return None
            return replaced(output, tensor, tensor[:1].expand_as(tensor).clone())

        with self.ready(images), torch.no_grad(), hooked(self.module(info.name), hold):
            embeddings = self.forward(images).float()
        change = (embeddings[1:] - embeddings[:1]).abs().max()
        return bool(change <= _SAME * embeddings.abs().max())

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
        if accepts_channels_last(self.network, batch):
            return torch.channels_last
        return torch.contiguous_format

    def _moved(self, images: Tensor) -> Tensor:
        """Move images to the network's device and type."""
        images = images.to(device_of(self.network))
        return (
            images.to(dtype_of(self.network)) if images.is_floating_point() else images
        )
