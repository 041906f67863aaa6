"""A network as the maps need it: one forward pass gives feature map and embedding.

The network is run as it is. Up to the chosen layer it records no gradient; from the
layer's output on it records the graph of the head, and of nothing else. So any module
can be split at any of its layers without being taken apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError, NetworkError
from fiftyone_sfam.network.heads import (
    Jacobian,
    LinearizedHead,
    as_leaf,
    hold_length,
    is_constant_length,
)
from fiftyone_sfam.network.layer_check import (
    MOVES_OTHERWISE,
    PARTIAL,
    fault_of,
    patched,
)
from fiftyone_sfam.network.layers import (
    LayerInfo,
    SeenOutputs,
    embeddings_of,
    is_map,
    last_map,
    layers_of,
    map_of,
    module_of,
    named_map,
    replaced,
)
from fiftyone_sfam.network.metric import METRICS, Metric
from fiftyone_sfam.network.preprocess import Box, Preprocessing
from fiftyone_sfam.network.state import (
    PRECISIONS,
    Precision,
    constant_parameters,
    evaluating,
    hooked,
    lower_precision,
    reads_rows,
    unwrapped,
)
from fiftyone_sfam.network.transforms import with_crop_box

Preprocess = Callable[[Image.Image], Tensor]

# Positions along the longer side of a map whose every position may see all of an image.
_SMALL_MAP = 16
# Relative difference of embeddings that is rounding.
_SAME = 1e-4


class EmbeddingModel:
    """A convolutional network that embeds images, with the layer to explain it at.

    The network is left as it was after every call, also when one fails: training
    mode, hooks, gradients and ``requires_grad`` flags.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (B, 3, H, W) to embeddings, each image on its own in evaluation mode.
        A ``DataParallel`` wrapper is taken off; a compiled module is run as it was
        before compilation.
    preprocess : callable
        Maps a Pillow image to a (3, H, W) tensor; :class:`Preprocessing` describes the
        usual kind. Which part of an image the network sees is told by its method
        ``crop_box(width, height)``, or known for torchvision's transforms; for
        anything else it is taken to be all of it.
    layer : str, optional
        Module whose output is the feature map. None finds the last module with a
        four-dimensional output of more than one position that the embedding depends
        on.
    metric : {"cosine", "euclidean"}
        How the embeddings are meant to be compared.
    embedding : str or int, optional
        Key or index of the embedding where the network returns a mapping or a
        sequence.
    embedding_layer : str, optional
        Module whose flattened output is the embedding, instead of the network's own
        output (say the pooling layer of a classifier).
    name : str, optional
        Name for records and messages; the network's class by default.
    device : str or torch.device, optional
        Where to run; by default where the network's parameters are.
    precision : {"float32", "bfloat16", "float16"}
        Type in which what comes before the layer is computed, by torch's autocast. The
        layer's output and the head are computed in the network's own type, so the
        maps add up as exactly as ever, to a score that differs a little. Worth it
        where the hardware is good at it, see ``benchmarks/performance.py``.

    Raises
    ------
    ModelError
        If the metric or the precision is unknown or a named module does not exist.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess | Preprocessing,
        *,
        layer: str | None = None,
        metric: Metric = "cosine",
        embedding: str | int | None = None,
        embedding_layer: str | None = None,
        name: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise ModelError(
                f"unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}."
            )
        if metric not in METRICS:
            raise ModelError(
                f"unknown metric {metric!r}; use one of {', '.join(METRICS)}."
            )
        if not callable(preprocess):
            raise ModelError(
                f"preprocess is {preprocess!r}; give a function from a Pillow image to "
                "a tensor, or a Preprocessing."
            )
        network = unwrapped(network)
        self.network = network
        self.preprocess = with_crop_box(preprocess)
        self.metric: Metric = metric
        self.name = name or type(network).__name__
        self._embedding_key = embedding
        self._embedding_layer = embedding_layer
        self._layer = layer
        self._info: LayerInfo | None = None
        self._scales_to_one_length = False
        self.precision: Precision = precision
        self._memory_format: torch.memory_format | None = None
        self._jacobians: dict[tuple[int, ...], Jacobian] = {}
        if device is not None:
            network.to(device)
        for module_name in (layer, embedding_layer):
            if module_name is not None:
                module_of(network, module_name, self.name)

    # -- what the model is -------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Device of the network's first parameter or buffer."""
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's first floating-point parameter."""
        for tensor in self.network.parameters():
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.float32

    @property
    def layer(self) -> str | None:
        """Name of the layer, None as long as it was neither named nor found."""
        return self._info.name if self._info is not None else self._layer

    @property
    def requested_layer(self) -> str | None:
        """Name of the layer as it was given, None if it is to be found."""
        return self._layer

    def with_layer(self, layer: str | None) -> EmbeddingModel:
        """Return a model of the same network that is explained at another layer."""
        return EmbeddingModel(
            self.network,
            self.preprocess,
            layer=layer,
            metric=self.metric,
            embedding=self._embedding_key,
            embedding_layer=self._embedding_layer,
            name=self.name,
            precision=self.precision,
        )

    def weights_hash(self) -> str:
        """Compute a digest of the network's parameters and buffers.

        Returns
        -------
        str
            The first 16 hexadecimal digits of a SHA-256 over names, types, shapes and
            values.
        """
        digest = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            if not isinstance(value, Tensor):
                continue
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            values = value.detach().cpu().contiguous().flatten()
            if values.numel():
                digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    # -- images ------------------------------------------------------------------------

    def prepare(self, image: Image.Image) -> Tensor:
        """Turn an image into the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Image of any mode and size.

        Returns
        -------
        Tensor
            Shape (3, H, W).

        Raises
        ------
        ModelError
            If the preprocessing returns something else than such a tensor.
        """
        tensor = self.preprocess(image)
        if not isinstance(tensor, Tensor):
            raise ModelError(
                f"the preprocessing of model '{self.name}' returned "
                f"{type(tensor).__name__}; a (3, height, width) tensor is needed."
            )
        if tensor.ndim != 3:
            raise ModelError(
                f"the preprocessing of model '{self.name}' returned shape "
                f"{tuple(tensor.shape)}; (3, height, width) is needed."
            )
        return tensor

    def crop_box(self, width: int, height: int) -> Box:
        """Tell which part of an image the network sees.

        Parameters
        ----------
        width, height : int
            Size of the image in pixels.

        Returns
        -------
        tuple of float
            Left, top, right, bottom in pixels of the image.
        """
        crop_box = getattr(self.preprocess, "crop_box", None)
        if crop_box is None:
            return (0.0, 0.0, float(width), float(height))
        return tuple(crop_box(width, height))

    # -- forward passes ----------------------------------------------------------------

    def embed(self, images: Tensor) -> Tensor:
        """Compute embeddings.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W).

        Returns
        -------
        Tensor
            Shape (B, D), float32, on the network's device.

        Raises
        ------
        ModelError
            If the network fails on this input or returns no embeddings.
        """
        if self.precision != "float32":
            # The layer is where the lower precision ends.
            return self._run_split(images, self.find_layer(images))[1].detach().float()
        with self._quiet(images), torch.no_grad():
            return self._forward(images).float()

    def linearize(self, images: Tensor) -> LinearizedHead:
        """Compute feature maps and embeddings, ready to be attributed.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W).

        Returns
        -------
        LinearizedHead
            Feature maps (B, C, h, w), embeddings (B, D) and the head's derivative.

        Raises
        ------
        ModelError
            If the network fails on this input, or its embedding cannot be explained
            at the layer; the message says why and what to do.
        """
        info = self.find_layer(images)
        leaf, output = self._run_split(images, info)
        if self._scales_to_one_length and not hold_length(output):
            raise ModelError(
                f"model '{self.name}' scales its embeddings to one length in a way "
                "that cannot be told from the rest of it, which would leave every map "
                "without evidence; name the layer before with embedding_layer=..."
            )
        return LinearizedHead(leaf, output, self._jacobians)

    def record(
        self, images: Tensor, layers: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Run images and record the graph of the whole network.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W).
        layers : sequence of str
            Modules whose outputs are wanted; the last run of each counts.

        Returns
        -------
        images : Tensor
            The leaf that the network was run on, shape (B, 3, H, W).
        outputs : dict of str to Tensor
            Output of each layer, with its graph.
        embeddings : Tensor
            Shape (B, D), with their graph.

        Raises
        ------
        ModelError
            If a layer did not run, or the embedding cannot be differentiated down to
            the images.
        """
        leaf = as_leaf(images.to(self.device))
        outputs: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                tensor = map_of(output)
                if tensor is not None:
                    outputs[name] = tensor

            return hook

        with (
            self._quiet(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            ExitStack() as hooks,
        ):
            for name in layers:
                hooks.enter_context(
                    hooked(module_of(self.network, name, self.name), keep(name))
                )
            # The clone lets a network work in place without touching the leaf.
            embeddings = self._forward(leaf.clone())
        missing = [name for name in layers if name not in outputs]
        if missing:
            raise ModelError(
                f"layer '{missing[0]}' of model '{self.name}' did not run or returned "
                "no tensor; name one with a feature map."
            )
        if not embeddings.requires_grad:
            raise ModelError(
                f"model '{self.name}' computes its embedding without a gradient down "
                "to the image; maps along a path of images need one."
            )
        return leaf, outputs, embeddings

    def carries_all(self, images: Tensor, layer: str) -> bool:
        """Tell whether all of the embedding is computed from a layer's output.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the first is used.
        layer : str
            Name of a module.

        Returns
        -------
        bool
            False for a layer on one of several branches, as inside a residual block:
            cut off there, the embedding still depends on the image.
        """

        def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            tensor = map_of(output)
            return None if tensor is None else replaced(output, tensor, tensor.detach())

        with (
            self._quiet(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            hooked(module_of(self.network, layer, self.name), cut),
        ):
            leaf = as_leaf(images[:1].to(self.device))
            return not self._forward(leaf.clone()).requires_grad

    def find_layer(self, images: Tensor) -> LayerInfo:
        """Find or check the layer that the embedding is explained at.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the one with the most contrast is used,
            since a black one may have no derivative anywhere. Later calls return what
            the first has found.

        Returns
        -------
        LayerInfo
            The layer.

        Raises
        ------
        ModelError
            If there is no such layer, or the one that was named does not fit.
        """
        if self._info is None:
            contrast = images.float().flatten(1).std(1)
            one = images[int(contrast.argmax())][None]
            seen = self._outputs(one)
            checks = partial(self._depends_on, one), self._fault_finder(one[0])
            if self._layer is None:
                self._info = last_map(seen, *checks, self.name)
            else:
                module_of(self.network, self._layer, self.name)
                self._info = named_map(self._layer, seen, *checks, self.name)
        return self._info

    def layers(self, images: Tensor) -> tuple[LayerInfo, ...]:
        """List the layers that could be named, in the order in which they run.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the first is used.

        Returns
        -------
        tuple of LayerInfo
            Modules whose output is a map of the image of more than one position.
        """
        fault = self._fault_finder(images[0])
        listed = layers_of(self._outputs(images[:1]))
        return tuple(info for info in listed if not fault(info))

    # -- how it is done ----------------------------------------------------------------

    @contextmanager
    def _quiet(self, images: Tensor) -> Iterator[None]:
        """Put the network into evaluation mode, and back into the modes it was in.

        The first time, find out in which order it likes the numbers of images.
        """
        with evaluating(self.network):
            if self._memory_format is None:
                self._memory_format = self._faster_format(images)
            yield

    def _faster_format(self, images: Tensor) -> torch.memory_format:
        """Choose the order of numbers in which convolutions are fastest.

        Where the device is not known to like channels last, or the network reshapes
        maps in a way that this order does not allow, it is the usual one.
        """
        device = self.device
        if device.type == "cuda" and self.dtype == self._lowest_dtype == torch.float32:
            return torch.contiguous_format
        if images.ndim != 4:
            return torch.contiguous_format
        two = self._moved(images[:1]).expand(2, -1, -1, -1)
        if reads_rows(self.network, two):
            return torch.channels_last
        return torch.contiguous_format

    @property
    def _lowest_dtype(self) -> torch.dtype:
        """Type in which what comes before the layer is computed."""
        own = self.dtype
        return own if self.precision == "float32" else getattr(torch, self.precision)

    def _moved(self, images: Tensor) -> Tensor:
        """Bring images to where the network is, in its type."""
        images = images.to(self.device)
        return images.to(self.dtype) if images.is_floating_point() else images

    def _forward(self, images: Tensor) -> Tensor:
        """Run the network in the caller's gradient mode; return (B, D)."""
        images = self._moved(images)
        if images.ndim == 4 and self._memory_format is not None:
            images = images.contiguous(memory_format=self._memory_format)
        caught: list[Any] = []
        with ExitStack() as hooks:
            if self._embedding_layer is not None:
                hooks.enter_context(
                    hooked(
                        module_of(self.network, self._embedding_layer, self.name),
                        lambda _module, _inputs, output: caught.append(output),
                    )
                )
            try:
                output = self.network(images)
            except (ModelError, torch.cuda.OutOfMemoryError):
                raise
            except Exception as error:
                raise NetworkError(
                    f"model '{self.name}' failed on an input of shape "
                    f"{tuple(images.shape)} ({first_line(error)}); check that its "
                    "preprocessing gives the size that the network expects."
                ) from error
        if self._embedding_layer is not None:
            if not caught:
                raise ModelError(
                    f"the embedding layer '{self._embedding_layer}' of model "
                    f"'{self.name}' did not run; name another."
                )
            output = caught[-1]
        return embeddings_of(output, len(images), self._embedding_key, self.name)

    def _outputs(self, images: Tensor) -> SeenOutputs:
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

        with self._quiet(images), torch.no_grad(), ExitStack() as hooks:
            for name, module in self.network.named_modules():
                if name:
                    hooks.enter_context(hooked(module, record(name)))
            self._forward(images)
        return seen

    def _depends_on(self, images: Tensor, info: LayerInfo) -> bool:
        """Tell whether the embedding has a non-zero derivative at a layer.

        On the way, note whether its length has none.
        """
        leaf, output = self._run_split(images, info)
        if not output.requires_grad:
            return False
        probe = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        own = F.normalize(output.detach())
        try:
            with torch.inference_mode(False):
                anywhere, lengthwise = (
                    torch.autograd.grad(
                        output,
                        leaf,
                        direction.to(output),
                        retain_graph=True,
                        materialize_grads=True,
                    )[0]
                    for direction in (F.normalize(probe), own)
                )
        except RuntimeError as error:
            raise ModelError(
                f"what model '{self.name}' does after layer '{info.name}' cannot be "
                f"differentiated ({first_line(error)}); name a later layer, or give a "
                "network that can be trained."
            ) from error
        # An embedding that is zero, or too long for its type, has no direction.
        self._scales_to_one_length = bool(own.any()) and is_constant_length(
            anywhere, lengthwise
        )
        return bool(anywhere.any())

    def _fault_finder(self, image: Tensor) -> Callable[[LayerInfo], str]:
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
        """Say what keeps outputs from being maps of an image, by module and run.

        If the network fails on such images, these are the runs before.
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

        with self._quiet(images), torch.no_grad(), ExitStack() as hooks:
            for name, module in self.network.named_modules():
                if name:
                    hooks.enter_context(hooked(module, check(name)))
            with suppress(NetworkError):
                self._forward(images)
        return faults

    def _last_run_is_all(self, images: Tensor, info: LayerInfo) -> bool:
        """Tell whether the image reaches the embedding only by a layer's last run."""
        calls = 0

        def hold(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            tensor = map_of(output)
            calls += tensor is not None
            if tensor is None or calls < info.calls:
                return None
            return replaced(output, tensor, tensor[:1].expand_as(tensor).clone())

        module = module_of(self.network, info.name, self.name)
        with self._quiet(images), torch.no_grad(), hooked(module, hold):
            embeddings = self._forward(images).float()
        change = (embeddings[1:] - embeddings[:1]).abs().max()
        return bool(change <= _SAME * embeddings.abs().max())

    def _run_split(self, images: Tensor, info: LayerInfo) -> tuple[Tensor, Tensor]:
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
                leaves.append(as_leaf(tensor.to(self.dtype)))
            # The network may have turned gradients off itself, say for its backbone.
            torch.set_grad_enabled(True)
            # The clone lets the network go on in place without touching the leaf.
            return replaced(output, tensor, leaves[-1].clone())

        # With constant parameters nothing is recorded before there is a leaf. Leaving
        # enable_grad restores the caller's mode, whatever the hook has set.
        with (
            self._quiet(images),
            constant_parameters(self.network),
            torch.enable_grad(),
            lower_precision(self.device, self.precision),
            hooked(module_of(self.network, info.name, self.name), cut),
        ):
            output = self._forward(images)
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
