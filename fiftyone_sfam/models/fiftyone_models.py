"""FiftyOne's model objects as embedding models.

The network, the embedding and the preprocessing are those of FiftyOne's own
``embed_all``, so the embeddings are those that ``compute_embeddings`` stores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from fiftyone.utils.torch import TorchImageModel
from PIL import Image
from torch import nn
from torchvision.transforms import Compose

from fiftyone_sfam.data.text import first_line
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models.fiftyone_networks import (
    OUTPUT_KEYS,
    ForwardPass,
    ImageFeatures,
    TransformerEmbedding,
)
from fiftyone_sfam.models.zoo import REASONS, SUPPORTED
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.image_processors import ImageProcessorPreprocessing
from fiftyone_sfam.network.layers import tapped
from fiftyone_sfam.network.metric import Metric
from fiftyone_sfam.network.preprocess import Box
from fiftyone_sfam.network.transforms import TransformPreprocessing, crop_box_of

# Methods that decide what a model's embeddings are.
_METHODS = ("_forward_pass", "_predict_all", "embed_all", "get_embeddings")
# Types in which scores cannot be decomposed exactly.
_HALF = (torch.float16, torch.bfloat16)
# Names of the parameters that transformers call a class token.
_CLASS_TOKENS = frozenset({"cls_token", "class_embedding"})


@dataclass(frozen=True)
class _Parts:
    """What an embedding model is made of."""

    network: nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    embedding: str | None = None  # entry of the network's output
    embedding_layer: str | None = None  # module whose output is the embedding


@dataclass(frozen=True)
class _PerceptionTransforms(TransformPreprocessing):
    """The transforms of PE-Core, whose function between them converts to RGB."""

    def crop_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network sees."""
        steps = getattr(self.transform, "transforms", [self.transform])
        moving = [step for step in steps if type(step).__name__ != "Lambda"]
        return crop_box_of(Compose(moving), width, height)


def from_fiftyone_model(
    model: object,
    *,
    layer: str | None = None,
    metric: Metric = "cosine",
    name: str | None = None,
) -> EmbeddingModel:
    """Make an embedding model of a FiftyOne torch image model.

    The network is shared, not copied: it stays on its device, and the FiftyOne model
    remains usable. Its embeddings are those of the FiftyOne model, and so is its
    preprocessing. If that keeps the sizes of images, as that of the zoo's torchvision
    and DINOv2 models does, inputs of different sizes do not fit into one batch.

    Raises
    ------
    ModelError
        If the model cannot be explained.

    Warns
    -----
    SfamWarning
        If FiftyOne takes one place of the image, or one channel, as the embedding.
    """
    known, build = _known_class(model)
    assert isinstance(model, TorchImageModel)
    _check(model, known)
    parts = build(model)
    network, embedding_layer = tapped(parts.network, parts.embedding_layer)
    return EmbeddingModel(
        network,
        parts.preprocess,
        layer=layer,
        metric=metric,
        embedding=parts.embedding,
        embedding_layer=embedding_layer,
        name=name or _name(model),
    )


def _known_class(model: object) -> tuple[type, Callable[[Any], _Parts]]:
    """Return the class of FiftyOne that a model is of, and how its parts are taken."""
    kind = type(model).__name__
    for base in type(model).__mro__:
        if base.__module__.split(".")[0] != "fiftyone":
            continue
        if base.__name__ in REASONS:
            raise ModelError(
                f"the FiftyOne model {kind} cannot be explained: "
                f"{REASONS[base.__name__]}; {SUPPORTED}."
            )
        if base.__name__ in _BUILDERS:
            return base, _BUILDERS[base.__name__]
    raise ModelError(
        f"the FiftyOne model is {kind}, not a TorchImageModel; {SUPPORTED}."
    )


def _check(model: TorchImageModel, known: type) -> None:
    """Raise if a model computes embeddings in its own way, or none at all."""
    kind = type(model).__name__
    own = [
        method
        for method in _METHODS
        if getattr(type(model), method) is not getattr(known, method)
        # A forward pass of the model's own is run as it is.
        and not (method == "_forward_pass" and known is TorchImageModel)
    ]
    if own or model.config.raw_inputs:
        raise ModelError(
            f"the FiftyOne model {kind} computes its embeddings in its own way "
            f"({own[0] if own else 'raw_inputs'}); {SUPPORTED}."
        )
    if not model.has_embeddings:
        raise ModelError(
            f"the FiftyOne model {kind} exposes no embeddings; load it with "
            "embeddings_layer, the name of the layer that returns them."
        )
    if not isinstance(model._model, nn.Module):
        raise ModelError(
            f"the FiftyOne model {kind} holds {type(model._model).__name__}, not a "
            f"torch.nn.Module; {SUPPORTED}."
        )
    dtype = next((p.dtype for p in model._model.parameters()), torch.float32)
    if model.using_half_precision or dtype in _HALF:
        raise ModelError(
            f"the FiftyOne model {kind} runs in half precision, in which scores cannot "
            "be decomposed exactly; load it with use_half_precision=False, or with "
            'entrypoint_args={"dtype": "float32"} if it is one of transformers.'
        )


def _name(model: TorchImageModel) -> str:
    """Return the name that the model was loaded by, or its network's class."""
    named = getattr(model.config, "model_name", None)
    return named or type(model._model).__name__


# --------------------------------------------------------------------------------------
# Classes of FiftyOne
# --------------------------------------------------------------------------------------


def _plain(model: TorchImageModel) -> _Parts:
    """Return the parts of a model whose network runs on a batch of images."""
    if model.has_collate_fn:
        raise ModelError(
            f"the FiftyOne model {type(model).__name__} computes its embeddings in its "
            f"own way (collate_fn); {SUPPORTED}."
        )
    config = model.config
    is_perception = "PEVisionEncoder" in {base.__name__ for base in type(model).__mro__}
    transforms = _PerceptionTransforms if is_perception else TransformPreprocessing
    preprocess = transforms(model.transforms)
    layer = config.embeddings_layer
    if type(model)._forward_pass is not TorchImageModel._forward_pass:
        network = ForwardPass(model._model, model)
        if layer is None or config.as_feature_extractor:
            return _Parts(network, preprocess, embedding=layer)
        return _Parts(network, preprocess, embedding_layer=_inside("network", layer))
    if config.as_feature_extractor:
        # FiftyOne has replaced the network by one that returns {layer: output}.
        return _Parts(model._model, preprocess, embedding=layer)
    return _Parts(model._model, preprocess, embedding_layer=layer)


def _clip(model: Any) -> _Parts:
    """Return the parts of FiftyOne's CLIP: the image encoder alone."""
    return _image_encoder(model, TransformPreprocessing(model.transforms))


def _open_clip(model: Any) -> _Parts:
    """Return the parts of an open_clip model, whose transforms are open_clip's."""
    return _image_encoder(model, TransformPreprocessing(model._clip_preprocess))


def _image_encoder(model: Any, preprocess: Callable[..., Any]) -> _Parts:
    """Return the parts of a model of images and texts."""
    layer = model.config.embeddings_layer
    if layer == "visual":
        return _Parts(model._model.visual, preprocess)
    within = layer.removeprefix("<")
    if not within.startswith("visual."):
        raise ModelError(
            f"the FiftyOne model {type(model).__name__} takes its embedding from the "
            f"layer {layer!r}, which is not inside its image encoder; load it with "
            "embeddings_layer='visual'."
        )
    tap = layer[: len(layer) - len(within)] + within.removeprefix("visual.")
    return _Parts(model._model.visual, preprocess, embedding_layer=tap)


def _transformer(model: Any) -> _Parts:
    """Return the parts of a transformers model."""
    preprocess = ImageProcessorPreprocessing(
        model.transforms.processor, dict(model.transforms.kwargs)
    )
    config = model.config
    key = model.embeddings_output_key or _output_key(model, preprocess)
    network = TransformerEmbedding(
        model._model,
        key=key,
        position=model._hidden_state_position,
        aggregation=config.embeddings_aggregation,
        token=config.embeddings_token_position,
        channels_last=config.channels_last,
    )
    if key != "pooler_output" and config.embeddings_aggregation == "token":
        _warn_of_place(model)
    return _Parts(network, preprocess)


def _output_key(model: Any, preprocess: ImageProcessorPreprocessing) -> str:
    """Return the entry of the network's output that FiftyOne would choose."""
    image = preprocess(Image.new("RGB", (64, 64)))[None].to(model.device)
    try:
        with torch.no_grad():
            keys = model._model(pixel_values=image).keys()
    # The network may raise any error.
    except Exception as error:
        raise ModelError(
            f"the network {type(model._model).__name__} of the FiftyOne model "
            f"{type(model).__name__} failed on an image ({first_line(error)}); "
            f"{SUPPORTED}."
        ) from error
    return next((key for key in OUTPUT_KEYS if key in keys), "hidden_states")


def _warn_of_place(model: Any) -> None:
    """Warn if the first entry along the second axis is no class token."""
    names = (name.rpartition(".")[2] for name, _ in model._model.named_parameters())
    if not _CLASS_TOKENS.isdisjoint(names):
        return
    index = model.config.embeddings_token_position
    what = (
        f"the token at one place of the image (token {index})"
        if model.config.channels_last
        else f"one channel of the feature map (channel {index})"
    )
    # Of these networks FiftyOne's default is not an embedding of the whole image.
    warnings.warn(
        f"FiftyOne takes {what} as the embedding of {type(model._model).__name__}, "
        "which has no class token: load the model with embeddings_aggregation='mean' "
        "to embed the whole image.",
        SfamWarning,
        stacklevel=5,
    )


def _zero_shot(model: Any) -> _Parts:
    """Return the parts of a transformers model of images and texts."""
    return _Parts(
        ImageFeatures(model._model),
        ImageProcessorPreprocessing(
            model.transforms.processor, dict(model.transforms.kwargs)
        ),
    )


def _inside(parent: str, layer: str) -> str:
    """Return the name of a layer, or of its input, as a module's child has it."""
    name = layer.removeprefix("<")
    return f"{'<' if name != layer else ''}{parent}.{name}"


_BUILDERS: dict[str, Callable[[Any], _Parts]] = {
    "TorchImageModel": _plain,
    "TorchCLIPModel": _clip,
    "TorchOpenClipModel": _open_clip,
    "FiftyOneTransformer": _transformer,
    "FiftyOneZeroShotTransformer": _zero_shot,
}
