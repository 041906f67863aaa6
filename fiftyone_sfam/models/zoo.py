"""FiftyOne's torch image models as embedding models.

Listing the models loads and downloads nothing: their manifests say which ones can be
explained. A name that a user types is only compared with the names in the manifests,
because FiftyOne would take a URL for a source of code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fiftyone_sfam.data.text import type_and_first_line
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch
    from fiftyone.utils.torch import TorchImageModel
    from torch import nn

    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.metric import Metric

# Wrappers that run a plain network on a batch of images and take the embedding from one
# of its layers. A manifest does not say what their subclasses do.
PLAIN_WRAPPERS = frozenset(
    {
        "fiftyone.utils.torch.TorchImageModel",
        "fiftyone.zoo.models.torch.TorchvisionImageModel",
    }
)
SUPPORTED = (
    "supported are the zoo's torch image models that are convolutional networks and "
    "expose embeddings, such as 'resnet18-imagenet-torch'"
)


def list_zoo() -> tuple[ModelInfo, ...]:
    """List the zoo's convolutional torch image models that expose embeddings."""
    return tuple(
        ModelInfo(model.name, "zoo", "cosine", model.description or "")
        for model in sorted(zoo_models(), key=lambda model: model.name)
        if why_not(model) is None
    )


def zoo_models() -> list[Any]:
    """Return the zoo's entries, with their manifests.

    FiftyOne's public functions return names and single entries, and parse all manifests
    for each entry: about twenty seconds for the whole zoo.
    """
    from fiftyone.zoo.models import _list_zoo_models

    return list(_list_zoo_models())


def why_not(model: Any) -> str | None:
    """Return why a zoo entry cannot be explained, or None if it can."""
    deployment = model.default_deployment_config_dict or {}
    config = deployment.get("config", {})
    if deployment.get("type") not in PLAIN_WRAPPERS:
        return "it is not a plain torch image model"
    if not (config.get("embeddings_layer") or config.get("as_feature_extractor")):
        return "it exposes no embeddings"
    if "transformer" in (model.tags or ()):
        return "it is a transformer, which has no convolutional feature map"
    return None


def load_zoo(
    name: str, *, layer: str | None = None, device: str | torch.device | None = None
) -> EmbeddingModel:
    """Load a model of FiftyOne's zoo; FiftyOne downloads its weights if necessary."""
    entry = next((m for m in zoo_models() if name in (m.name, m.base_name)), None)
    if entry is None:
        raise ModelError(f"FiftyOne's model zoo has no model {name!r}.")
    reason = why_not(entry)
    if reason is not None:
        raise ModelError(
            f"the zoo model {name!r} cannot be explained: {reason}; {SUPPORTED}."
        )
    import fiftyone.zoo as foz

    options = {} if device is None else {"device": str(device)}
    try:
        model = foz.load_zoo_model(name, **options)
    # FiftyOne does not document the errors of its downloads and requirement checks.
    except Exception as error:
        raise ModelError(
            f"FiftyOne could not load the zoo model {name!r} "
            f"({type_and_first_line(error)})."
        ) from error
    return from_fiftyone_model(model, layer=layer, name=name)


def from_fiftyone_model(
    model: TorchImageModel,
    *,
    layer: str | None = None,
    metric: Metric = "cosine",
    name: str | None = None,
) -> EmbeddingModel:
    """Make an embedding model of a FiftyOne torch image model.

    The network is shared, not copied: it stays on its device, and the wrapper remains
    usable. The preprocessing is the wrapper's own. If that keeps the sizes of images
    (the zoo's does), inputs of different sizes do not fit into one batch.
    """
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.network.layers import tapped
    from fiftyone_sfam.network.transforms import TransformPreprocessing

    network = _network(model)
    label = name or type(network).__name__
    if layer is None and _is_transformer(network):
        raise ModelError(
            f"the FiftyOne model {label!r} holds a transformer, whose patches are not "
            f"convolutional features; {SUPPORTED}, or name a layer."
        )
    config = model.config
    embedding: str | None = None
    embedding_layer = config.embeddings_layer
    if config.as_feature_extractor and embedding_layer is not None:
        # FiftyOne has replaced the network by one that returns {layer: output}.
        embedding, embedding_layer = embedding_layer, None
    network, embedding_layer = tapped(network, embedding_layer)
    return EmbeddingModel(
        network,
        TransformPreprocessing(model.transforms),
        layer=layer,
        metric=metric,
        embedding=embedding,
        embedding_layer=embedding_layer,
        name=label,
    )


def _network(model: object) -> nn.Module:
    """Return the network of a wrapper that only runs it."""
    from fiftyone.utils.torch import TorchImageModel
    from torch import nn

    if not isinstance(model, TorchImageModel):
        raise ModelError(
            f"the FiftyOne model is {type(model).__name__}, not a TorchImageModel; "
            f"{SUPPORTED}."
        )
    kind = type(model).__name__
    overrides = any(
        getattr(type(model), method) is not getattr(TorchImageModel, method)
        for method in ("_forward_pass", "_predict_all", "embed_all", "get_embeddings")
    )
    if overrides or model.config.raw_inputs or model.has_collate_fn:
        raise ModelError(
            f"the FiftyOne model {kind} computes its embeddings in its own way; "
            f"{SUPPORTED}."
        )
    if not model.has_embeddings:
        raise ModelError(
            f"the FiftyOne model {kind} exposes no embeddings; load it with "
            "embeddings_layer, the name of the layer that returns them."
        )
    if model.using_half_precision:
        raise ModelError(
            f"the FiftyOne model {kind} runs in half precision, in which scores cannot "
            "be decomposed exactly; load it with use_half_precision=False."
        )
    network = model._model
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"the FiftyOne model {kind} holds {type(network).__name__}, not a "
            f"torch.nn.Module; {SUPPORTED}."
        )
    return network


def _is_transformer(network: nn.Module) -> bool:
    """Return whether a network has attention with several heads."""
    from torch import nn

    return any(
        isinstance(module, nn.MultiheadAttention) or hasattr(module, "num_heads")
        for module in network.modules()
    )
