"""A network as the maps need it: one forward pass gives feature map and embedding.

The network is run as it is. Up to the chosen layer it records no gradient; from the
layer's output on it records the graph of the head, and of nothing else. So any module
can be split at any of its layers without being taken apart.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.attribution import METRICS, Metric
from fiftyone_sfam.compute import PRECISIONS, Precision, lower_precision, reads_rows
from fiftyone_sfam.errors import ModelError, NetworkError
from fiftyone_sfam.heads import Jacobian, LinearizedHead, as_leaf
from fiftyone_sfam.normalization import hold_length, is_constant_length
from fiftyone_sfam.preprocess import Box, Preprocessing
from fiftyone_sfam.transforms import with_crop_box

Preprocess = Callable[[Image.Image], Tensor]
_Outputs = dict[str, tuple[tuple[int, ...], int]]


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
        network = _unwrapped(network)
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
                self._module(module_name)

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
                tensor = _map_of(output)
                if tensor is not None:
                    outputs[name] = tensor

            return hook

        with (
            self._quiet(images),
            self._constant_parameters(),
            torch.enable_grad(),
            ExitStack() as hooks,
        ):
            for name in layers:
                hooks.enter_context(_hooked(self._module(name), keep(name)))
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
            tensor = _map_of(output)
            return (
                None if tensor is None else _replaced(output, tensor, tensor.detach())
            )

        with (
            self._quiet(images),
            self._constant_parameters(),
            torch.enable_grad(),
            _hooked(self._module(layer), cut),
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
            if self._layer is None:
                self._info = self._last_map(one, seen)
            else:
                self._info = self._named_map(one, self._layer, seen)
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
            Modules whose output has four dimensions and more than one position.
        """
        seen = self._outputs(images[:1])
        return tuple(
            _layer_info(name, shape, calls)
            for name, (shape, calls) in seen.items()
            if _is_map(shape)
        )

    # -- how it is done ----------------------------------------------------------------

    def _module(self, name: str) -> nn.Module:
        """Return a module by its name."""
        modules = dict(self.network.named_modules())
        if name not in modules or name == "":
            close = _closest(name, [key for key in modules if key])
            hint = " or ".join(repr(key) for key in close)
            raise ModelError(
                f"model '{self.name}' has no layer '{name}'; "
                + (f"did you mean {hint}?" if close else "it has no modules inside.")
            )
        return modules[name]

    @contextmanager
    def _quiet(self, images: Tensor) -> Iterator[None]:
        """Put the network into evaluation mode, and back into the modes it was in.

        The first time, find out in which order it likes the numbers of images.
        """
        modes = [(module, module.training) for module in self.network.modules()]
        compiled = [
            (module, module._compiled_call_impl)
            for module in self.network.modules()
            if getattr(module, "_compiled_call_impl", None) is not None
        ]
        try:
            self.network.eval()
            for module, _ in compiled:
                # Compiled code knows nothing of the hooks that take the maps.
                module._compiled_call_impl = None
            # A caller's inference mode would forbid to record the head's graph.
            with torch.inference_mode(False):
                if self._memory_format is None:
                    self._memory_format = self._faster_format(images)
                yield
        finally:
            for module, training in modes:
                module.training = training
            for module, call in compiled:
                module._compiled_call_impl = call

    @contextmanager
    def _constant_parameters(self) -> Iterator[None]:
        """Let no parameter ask for a gradient for the time being."""
        trained = [one for one in self.network.parameters() if one.requires_grad]
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _faster_format(self, images: Tensor) -> torch.memory_format:
        """Choose the order of numbers in which convolutions are fastest.

        Where the device is not known to like channels last, or the network reshapes
        maps in a way that this order does not allow, it is the usual one.
        """
        device = self.device
        if device.type == "cuda" and self.dtype == self._lowest_dtype == torch.float32:
            return torch.contiguous_format
        if images.ndim == 4 and reads_rows(self.network, self._moved(images[:1])):
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
                    _hooked(
                        self._module(self._embedding_layer),
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
                    f"{tuple(images.shape)} ({_first_line(error)}); check that its "
                    "preprocessing gives the size that the network expects."
                ) from error
        if self._embedding_layer is not None:
            if not caught:
                raise ModelError(
                    f"the embedding layer '{self._embedding_layer}' of model "
                    f"'{self.name}' did not run; name another."
                )
            output = caught[-1]
        return self._embedding_of(output, len(images))

    def _embedding_of(self, output: Any, batch: int) -> Tensor:
        """Pick the embeddings from what the network returned."""
        if self._embedding_key is not None:
            try:
                if isinstance(output, Tensor):
                    # Its entries are images of the batch.
                    raise TypeError("a tensor has no entries")
                output = output[self._embedding_key]
            except (KeyError, IndexError, TypeError) as error:
                raise ModelError(
                    f"the output of model '{self.name}' has no entry "
                    f"{self._embedding_key!r}; it is {_describe(output)}."
                ) from error
        if not isinstance(output, Tensor):
            raise ModelError(
                f"model '{self.name}' returned {_describe(output)}; say with "
                "embedding=... which entry is the embedding."
            )
        output = output.flatten(1) if output.ndim > 2 else output
        if output.ndim != 2 or len(output) != batch:
            raise ModelError(
                f"model '{self.name}' returned shape {tuple(output.shape)} for a batch "
                f"of {batch}; (batch, embedding size) is needed."
            )
        return output

    def _outputs(self, images: Tensor) -> _Outputs:
        """Run the network; return each module's last output shape and call count.

        Modules are in the order in which their last call ended.
        """
        seen: _Outputs = {}

        def record(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                tensor = _map_of(output)
                if tensor is not None:
                    calls = seen.pop(name, ((), 0))[1]
                    seen[name] = (tuple(tensor.shape), calls + 1)

            return hook

        with self._quiet(images), torch.no_grad(), ExitStack() as hooks:
            for name, module in self.network.named_modules():
                if name:
                    hooks.enter_context(_hooked(module, record(name)))
            self._forward(images)
        return seen

    def _last_map(self, images: Tensor, seen: _Outputs) -> LayerInfo:
        """Return the last layer with a map that the embedding depends on."""
        for name, (shape, calls) in reversed(seen.items()):
            if not _is_map(shape):
                continue
            info = _layer_info(name, shape, calls)
            if not self._depends_on(images, info):
                continue
            if _becomes_tokens(info, seen):
                raise ModelError(
                    f"model '{self.name}' turns its last feature map, that of layer "
                    f"'{name}', into tokens, as a vision transformer does; only "
                    "convolutional networks can be explained by themselves: name a "
                    "layer if its map is to be explained nevertheless."
                )
            return info
        raise ModelError(
            f"model '{self.name}' has no layer with a feature map (batch, channels, "
            "height, width) of more than one position that its embedding depends on; "
            "only convolutional networks can be explained (a vision transformer "
            "cannot)."
        )

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
                f"differentiated ({_first_line(error)}); name a later layer, or give a "
                "network that can be trained."
            ) from error
        # An embedding that is zero, or too long for its type, has no direction.
        self._scales_to_one_length = bool(own.any()) and is_constant_length(
            anywhere, lengthwise
        )
        return bool(anywhere.any())

    def _named_map(self, images: Tensor, name: str, seen: _Outputs) -> LayerInfo:
        """Check the layer that the user has named."""
        self._module(name)
        maps = [key for key, (shape, _) in seen.items() if _is_map(shape)]
        hint = f"the last layer with a map is '{maps[-1]}'" if maps else "it has none"
        if name not in seen:
            raise ModelError(
                f"layer '{name}' of model '{self.name}' did not run or returned no "
                f"tensor; name one with a feature map ({hint})."
            )
        shape, calls = seen[name]
        if len(shape) != 4:
            raise ModelError(
                f"layer '{name}' of model '{self.name}' returns shape {shape}, which "
                f"has no positions left; name a layer before the pooling ({hint})."
            )
        if not _is_map(shape):
            raise ModelError(
                f"layer '{name}' of model '{self.name}' returns a map of a single "
                f"position; name a layer before the pooling ({hint})."
            )
        info = _layer_info(name, shape, calls)
        if not self._depends_on(images, info):
            raise ModelError(
                f"the embedding of model '{self.name}' does not depend on layer "
                f"'{name}', or is computed from it without a gradient; name a layer "
                f"that the embedding is computed from ({hint})."
            )
        return info

    def _run_split(self, images: Tensor, info: LayerInfo) -> tuple[Tensor, Tensor]:
        """Run the network; return the layer's output as a leaf, and the embedding."""
        leaves: list[Tensor] = []
        calls = 0

        def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            tensor = _map_of(output)
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
            return _replaced(output, tensor, leaves[-1].clone())

        # With constant parameters nothing is recorded before there is a leaf. Leaving
        # enable_grad restores the caller's mode, whatever the hook has set.
        with (
            self._quiet(images),
            self._constant_parameters(),
            torch.enable_grad(),
            lower_precision(self.device, self.precision),
            _hooked(self._module(info.name), cut),
        ):
            output = self._forward(images)
        if not leaves:
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' did not run on an input "
                f"of shape {tuple(images.shape)}."
            )
        if not _is_map(tuple(leaves[-1].shape)):
            raise ModelError(
                f"layer '{info.name}' of model '{self.name}' returns shape "
                f"{tuple(leaves[-1].shape)} on an input of shape "
                f"{tuple(images.shape)}; give larger images or name an earlier layer."
            )
        return leaves[-1], output


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Register a forward hook and remove it again, whatever happens."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _unwrapped(network: nn.Module) -> nn.Module:
    """Take off the wrappers that would run the network elsewhere or compiled."""
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"the network is {type(network).__name__}; a torch.nn.Module is needed."
        )
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):
            network = network._orig_mod  # type: ignore[assignment]
        else:
            break
    if isinstance(network, torch.jit.ScriptModule):
        raise ModelError(
            f"the network {network.original_name} is compiled by TorchScript, which "
            "hides its layers; give the torch.nn.Module that it was made of."
        )
    return network


def _is_map(shape: Sequence[int]) -> bool:
    """Tell whether a shape is that of feature maps with several positions."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def _layer_info(name: str, shape: tuple[int, ...], calls: int) -> LayerInfo:
    """Describe a layer whose output has the shape of feature maps."""
    _, channels, height, width = shape
    return LayerInfo(name, (channels, height, width), calls)


def _becomes_tokens(info: LayerInfo, seen: _Outputs) -> bool:
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


def _map_of(output: Any) -> Tensor | None:
    """Return the tensor in a module's output, the first of a tuple or list."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)):
        return next((item for item in output if isinstance(item, Tensor)), None)
    return None


def _replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with one tensor replaced."""
    if output is old:
        return new
    items = [new if item is old else item for item in output]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*items)
    return type(output)(items)


def _describe(output: Any) -> str:
    """Describe a network's output for a message."""
    if isinstance(output, Mapping):
        entries = [f"{key!r}: {_describe(value)}" for key, value in output.items()]
        return "a mapping of " + ", ".join(entries)
    if isinstance(output, (tuple, list)):
        entries = [f"{index}: {_describe(item)}" for index, item in enumerate(output)]
        return f"a {type(output).__name__} of " + ", ".join(entries)
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return type(output).__name__


def _first_line(error: BaseException) -> str:
    """Return an error's first line without its final full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _closest(name: str, names: Sequence[str]) -> list[str]:
    """Return the names most like a wrong one."""
    return difflib.get_close_matches(name, names, n=3, cutoff=0.0)
