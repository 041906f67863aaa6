"""A network that embeds images, with the layer at which embeddings are explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.network.direct import DIRECT, find_direct
from fiftyone_sfam.network.examine import carriers, find_layer, list_layers
from fiftyone_sfam.network.fullest import fullest_layer
from fiftyone_sfam.network.heads import Jacobian, LinearizedHead
from fiftyone_sfam.network.inputs import TakesInputs, with_given_inputs
from fiftyone_sfam.network.layers import (
    SeenModules,
    module_of,
    tapped,
)
from fiftyone_sfam.network.layouts import LAYOUTS, LayerInfo, Layout, SeenLayer
from fiftyone_sfam.network.metric import METRICS, Metric
from fiftyone_sfam.network.outputs import Branch, EmbeddingKey
from fiftyone_sfam.network.preparing import (
    PreparesImages,
    Preprocess,
    checked_preprocess,
)
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.network.recording import recorded
from fiftyone_sfam.network.runner import NetworkRunner
from fiftyone_sfam.network.state import (
    PRECISIONS,
    Precision,
    device_of,
    dtype_of,
    unwrapped,
    weights_digest,
)


class EmbeddingModel(PreparesImages, TakesInputs):
    """A network that embeds images, with the layer to explain it at.

    Every call restores the network, even if it fails: training mode, hooks, gradients
    and ``requires_grad`` flags.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (B, 3, H, W) to embeddings, each image on its own in evaluation mode. Gray
        and four-channel images work, too. A network that fails on a batch of one, say
        because it squeezes its output, is given a single image twice.
        A ``DataParallel`` wrapper is removed; a compiled module is run as it was
        before compilation.
    preprocess : callable
        Maps a Pillow image to a (3, H, W) tensor, as :class:`Preprocessing` does. Its
        method ``crop_box(width, height)``, if it has one, returns the part of an image
        that the network sees; for torchvision's transforms this part is known, and for
        any other callable it is the whole image.
    layer : str, optional
        Module whose output is the feature map. None takes the last one that carries
        the whole embedding; of a transformer, the one whose tokens enter the first
        block. ``"direct"`` takes what each attention layer writes into the class token,
        which costs one forward pass for any number of partners, but is a part of the
        similarity only.
    metric : {"cosine", "euclidean"}
        How the embeddings are meant to be compared.
    embedding : str, int or sequence of them, optional
        Key or index of the embedding if the network returns a mapping, a sequence or an
        object with fields; of several, the entries are concatenated. By default it is
        the entry ``image_embeds``, ``pooler_output``, ``embedding`` or ``embeddings``,
        else the class token of ``last_hidden_state``, the only entry with several
        numbers per image, or all entries of a list of embeddings of one shape.
    embedding_layer : str, optional
        Module whose flattened output is the embedding, instead of the network's output
        (say the pooling layer of a classifier). ``"<fc"`` is the input of ``fc``; the
        model then runs a copy of the network that shares its weights.
    name : str, optional
        Name for records and messages; the network's class by default.
    device : str or torch.device, optional
        Where to run; by default where the network's parameters are.
    precision : {"float32", "bfloat16", "float16"}
        Type of the computation before the layer, by torch's autocast. The layer's
        output and the head are computed in the network's type, so the maps add up as
        exactly, to a score that differs a little. Whether it is faster depends on the
        hardware, see ``benchmarks/performance.py``.
    layout : {"NCHW", "NHWC", "tokens"}, optional
        How the layer's output is arranged: ``(B, C, h, w)``, ``(B, h, w, C)``, or
        ``(B, prefix_tokens + h w, C)``. By default it is found out by moving patches of
        an image; a layout that is given is not checked in this way.
    prefix_tokens : int, optional
        Number of tokens before those of the image, such as a class token.
    inputs : mapping of str to str, optional
        Further arguments of the network's ``forward``, each with the field of samples
        that holds its value for each image, such as ``{"cam_label": "camera_index"}``
        for TransReID. Whole numbers are given as int64, others as float32.

    Raises
    ------
    ModelError
        If the metric or the precision is unknown or a named module does not exist.

    Examples
    --------
    >>> import torch
    >>> from PIL import Image
    >>> from fiftyone_sfam import EmbeddingModel, Preprocessing
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, kernel_size=3),
    ...     torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(),
    ... )
    >>> model = EmbeddingModel(network, Preprocessing(size=(16, 8)), name="tiny")
    >>> images = model.prepare(Image.new("RGB", (20, 40), "red"))[None]
    >>> model.embed(images).shape
    torch.Size([1, 4])
    >>> model.find_layer(images)
    LayerInfo(name='0', shape=(4, 14, 6), calls=1, layout='NCHW', prefix_tokens=0)
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess | Preprocessing,
        *,
        layer: str | None = None,
        metric: Metric = "cosine",
        embedding: EmbeddingKey | None = None,
        embedding_layer: str | None = None,
        name: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
        layout: Layout | None = None,
        prefix_tokens: int | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ModelError(
                f"unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}."
            )
        if metric not in METRICS:
            raise ModelError(
                f"unknown metric {metric!r}; use one of {', '.join(METRICS)}."
            )
        if layout is not None and layout not in LAYOUTS:
            raise ModelError(
                f"unknown layout {layout!r}; use one of {', '.join(LAYOUTS)}."
            )
        network = unwrapped(network)
        self.preprocess = checked_preprocess(preprocess)
        self.metric: Metric = metric
        self.name = name or type(network).__name__
        if embedding_layer is not None and embedding_layer.startswith("<"):
            module_of(network, embedding_layer[1:], self.name)
            network, embedding_layer = tapped(network, embedding_layer)
        self.network = network
        self._embedding_key = embedding
        self._embedding_layer = embedding_layer
        self._layer = layer
        self._layout, self._prefix_tokens = layout, prefix_tokens
        self.inputs: dict[str, str] = dict(inputs or {})
        self._given: dict[str, Tensor] = {}
        self.precision: Precision = precision
        self._runner = NetworkRunner(
            network, embedding, embedding_layer, self.name, precision, self.inputs
        )
        self._jacobians: dict[tuple[int, ...], Jacobian] = {}
        if device is not None:
            network.to(device)
        for module_name in (None if layer == DIRECT else layer, embedding_layer):
            if module_name is not None:
                self._runner.module(module_name)

    @property
    def device(self) -> torch.device:
        """Device of the network's first parameter or buffer."""
        return device_of(self.network)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's first floating-point parameter."""
        return dtype_of(self.network)

    @property
    def layer(self) -> str | None:
        """Name of the layer; None if it was not given and not found yet."""
        return self._info.name if self._info is not None else self._layer

    @property
    def requested_layer(self) -> str | None:
        """Name of the layer as it was given; None if it is found automatically."""
        return self._layer

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Parts of the embedding that the network returns separately, as PCB does.

        Empty if there is one part only, or before the network has run.
        """
        return self._runner.branches

    def with_layer(self, layer: str | None) -> EmbeddingModel:
        """Return a model of the same network that is explained at another layer."""
        model = EmbeddingModel(
            self.network,
            self.preprocess,
            layer=layer,
            metric=self.metric,
            embedding=self._embedding_key,
            embedding_layer=self._embedding_layer,
            name=self.name,
            precision=self.precision,
            layout=self._layout,
            prefix_tokens=self._prefix_tokens,
            inputs=self.inputs,
        )
        model._given = self._given
        return model

    @property
    def _info(self) -> LayerInfo | None:
        return self._runner.info

    @_info.setter
    def _info(self, info: LayerInfo) -> None:
        self._runner.info = info

    def weights_hash(self) -> str:
        """Compute a digest of the network's parameters and buffers.

        Returns
        -------
        str
            The first 16 hexadecimal digits of a SHA-256 over names, types, shapes and
            values.
        """
        return weights_digest(self.network)

    @with_given_inputs
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
            # The lower precision ends at the layer.
            info = self.find_layer(images)
            return self._runner.split(images, info).output.detach().float()
        with self._runner.ready(images), torch.no_grad():
            return self._runner.forward(images).float()

    @with_given_inputs
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
            at the layer.
        """
        info = self.find_layer(images)
        split = self._runner.split(images, info)
        if self._runner.heads[info.name].has_one_length:
            raise ModelError(
                f"model '{self.name}' scales its embeddings to one length in a way "
                "that cannot be separated from the rest of it, so every map would be "
                "without evidence; name the layer before with embedding_layer=..."
            )
        return LinearizedHead(split.leaf, split.output, self._jacobians, split.prefix)

    @with_given_inputs
    def record(
        self, images: Tensor, layers: Sequence[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Run images and record the graph of the whole network.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W).
        layers : sequence of str
            Modules whose outputs are returned, those of their last runs.

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
        return recorded(self._runner, images, layers)

    @with_given_inputs
    def carries_all(self, images: Tensor, layer: str) -> bool:
        """Return whether the whole embedding is computed from a layer's output.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the first is used.
        layer : str
            Name of a module.

        Returns
        -------
        bool
            False for a layer on one of several branches, as inside a residual block,
            because the embedding also depends on the image through the others.
        """
        if self._has_rows:
            return self._of_image(0).carries_all(images[:1], layer)
        seen = SeenLayer(LayerInfo(layer, (1, 1, 1), 1), "")
        info = self._info
        joined = {layer: info} if info and info.views and info.name == layer else {}
        modules = SeenModules({}, {layer: seen}, joined)
        return bool(carriers(self._runner, images[0], modules))

    @with_given_inputs
    def find_layer(self, images: Tensor) -> LayerInfo:
        """Find or check the layer that the embedding is explained at.

        The first call runs the network; later calls return the same layer.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W). The one with the most contrast is used,
            because a black one may have no derivative anywhere.

        Returns
        -------
        LayerInfo
            The layer.

        Raises
        ------
        ModelError
            If there is no such layer, or the given one cannot be explained.
        """
        if self._info is None:
            contrast = images.float().flatten(1).std(1)
            index = int(contrast.argmax())
            if self._has_rows:
                return self._of_image(index).find_layer(images[index : index + 1])
            if self._layer == DIRECT:
                info = find_direct(self._runner, images[index])
            else:
                info = find_layer(
                    self._runner,
                    images[index],
                    self._layer,
                    self._layout,
                    self._prefix_tokens,
                )
            self._info = info
            return info
        return self._info

    @with_given_inputs
    def layers(self, images: Tensor) -> tuple[LayerInfo, ...]:
        """List the layers that can be given as ``layer``, in the order of their runs.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the first is used.

        Returns
        -------
        tuple of LayerInfo
            Modules whose output is a map of the image with more than one position.
        """
        if self._has_rows:
            return self._of_image(0).layers(images[:1])
        return list_layers(self._runner, images[0])

    def fullest_layer(self, images: Tensor) -> tuple[str, float]:
        """Return the stage of the network whose map carries the most.

        Parameters
        ----------
        images : Tensor
            Prepared images, shape (B, 3, H, W); the first is used.

        Returns
        -------
        name : str
            Name of the stage; empty if no stage carries anything.
        share : float
            Share of the image's similarity with itself that its map carries.
        """
        model = self.with_layer(None)._of_image(0)
        with model._runner.given(model._given):
            return fullest_layer(model._runner, images[0])
